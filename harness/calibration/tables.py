"""The tables and the figure of the shares that a calibration measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from harness.board.markdown import table
from harness.calibration.share import Share

LEVEL = (0.03, 0.07)
"""Where the share of random groups with p <= .05 should lie."""
COLOURS = {"exact": "tab:blue", "disjoint": "tab:orange"}
INTRODUCTIONS = {
    "level": (
        "Level: share of random groups with p <= .05, exact / disjoint",
        """\
Synthetic worlds: damage adds up, and the effects of units are drawn as the first column says. A share of .05 should
come out. Profile: units of a group in each layer. The other columns are heads per layer. -: the test defines no p.
""",
    ),
    "trained": (
        "Level on groups of a trained model",
        """\
By the first metric, on 32 examples. The exact test is of every group of the profile, unless there are more than 2,000.
The share lies below .05 where .05 of a small pool is no whole number, and where several groups have the same statistic:
T of two units is the necessity of the weaker one, and all pairs with the same weaker unit are equal.
""",
    ),
    "power": (
        "Power: share of circuits with p <= .05, exact / disjoint",
        """\
All units have effects of standard deviation 1. A chain, and a pair whose units back each other up, do a damage of 3
more. The last row is no circuit, and should be low. The other columns are heads per layer.
""",
    ),
    "candidates": (
        "Several candidates of a cell, exact test",
        """\
Three are tested in a fixed sequence, eight by Benjamini-Hochberg. Any pass among random groups is an error. Where there
are chains as well, the error is the share of passes that are random groups.
""",
    ),
    "coverage": ("Coverage of 95 % intervals", "Share of intervals that hold the true mean.\n"),
}


def sections(shares: Sequence[Share]) -> list[str]:
    """Heading, explanation and table of every question that was asked."""
    found = []
    for question, (title, explanation) in INTRODUCTIONS.items():
        asked = [share for share in shares if share.question == question]
        if asked:
            found += [f"## {title}\n\n{explanation}", _TABLES[question](asked)]
    return found


def _by_heads(shares: Sequence[Share]) -> str:
    """A row per case and profile, a column per number of heads; both tests in a cell."""
    heads = _values(share.heads for share in shares)
    found = {(s.case, s.profile, s.heads, s.method): _short(s) for s in shares}
    rows = [
        (*row, *(" / ".join(found.get((*row, n, test), "-") for test in COLOURS) for n in heads))
        for row in _values((share.case, share.profile) for share in shares)
    ]
    return table([("world", "profile", *map(str, heads)), *rows])


def _by_method(row: Callable[[Share], str], head: str) -> Callable[[Sequence[Share]], str]:
    """A row per case or profile, a column per method, with intervals."""

    def make(shares: Sequence[Share]) -> str:
        methods = _values(share.method for share in shares)
        rows = []
        for name in _values(map(row, shares)):
            here = {share.method: share for share in shares if row(share) == name}
            rows.append((name, *(_long(here[method]) if method in here else "-" for method in methods)))
        return table([(head, *methods), *rows])

    return make


_TABLES: dict[str, Callable[[Sequence[Share]], str]] = {
    "level": _by_heads,
    "trained": _by_method(lambda share: f"{share.case}, {share.profile}", "model and profile"),
    "power": _by_heads,
    "candidates": _by_method(lambda share: share.case, "world"),
    "coverage": _by_method(lambda share: share.case, "interval of"),
}


def draw_level(at: Any, shares: Sequence[Share]) -> None:
    """The level by world: one point for each number of heads and profile."""
    shares = [share for share in shares if share.question in ("level", "trained")]
    worlds = _values(share.case for share in shares)
    at.axvspan(*LEVEL, color="0.9")
    for test, colour in COLOURS.items():
        here = [share for share in shares if share.method == test]
        offset = -0.15 if test == "exact" else 0.15
        places = [worlds.index(share.case) + offset for share in here]
        at.plot([share.share for share in here], places, "o", ms=4, alpha=0.6, color=colour, label=test)
    at.set_yticks(range(len(worlds)), worlds)
    at.invert_yaxis()
    at.set(
        title="random groups with p <= .05 (grey: .03 to .07)", xlabel="share, one point per profile and layer width"
    )
    at.legend(fontsize=8, loc="lower right")


def draw_power(at: Any, shares: Sequence[Share]) -> None:
    """Power by number of heads per layer; dotted: the former test."""
    shares = [share for share in shares if share.question == "power"]
    for i, case in enumerate(_values(share.case for share in shares)):
        for test, style in (("exact", "-"), ("disjoint", ":")):
            here = [share for share in shares if (share.case, share.method) == (case, test)]
            label = case if test == "exact" else None
            at.plot(
                [s.heads for s in here], [s.share for s in here], style, marker="o", ms=3, color=f"C{i}", label=label
            )
    at.set_xscale("log")
    heads = _values(share.heads for share in shares)
    at.set_xticks(heads, map(str, heads))
    at.minorticks_off()
    at.set(title="power (line: exact test, dots: disjoint)", xlabel="heads per layer", ylabel="share with p <= .05")
    at.set_ylim(-0.03, 1.03)
    at.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _values(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _short(share: Share) -> str:
    return f"{share.share:.3f}" if share.question == "level" else f"{share.share:.2f}"


def _long(share: Share) -> str:
    return f"{share.share:.3f} [{share.low:.3f}, {share.high:.3f}] of {share.n}"
