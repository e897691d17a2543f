"""What a calibration looks like: its page, the table of all verdicts behind it, and its picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.calibration.calibrate import METHODS, OWN, PROTOCOLS, WEAK, Calibration, Ruling, rate
from harness.closure.verdict import Verdict
from harness.records.workspace import write_atomically

EXPLANATION = """\
A world has one group of every kind, its units drawn by the world's seed; every group is put to the closure test.
**right**: the verdict is one that the kind deserves. **false pass**: a decoy is called a circuit (pass or weak_pass).
`default` is the harness's protocol and verdict. `paper` is `preset=paper` (five uniform controls, z with ddof 0, no
split) under the closure paper's own criteria: loss up, accuracy and target logit down, some metric more than 1.8
standard deviations of its controls beyond their mean, and no control that raises loss as much. Intervals: 95 %, Wilson.
With noise every unit has a small effect of its own: then `null`, `not_specific` and `wrong_direction` are all fair
verdicts on a decoy, and only a pass is false. redundant_half, bystander, position, early and late then do what as many
other units of their layers do: their nominal rate of false passes is at most 5 %.
"""
OVERLAP = """\
How many of the proposed groups pass, by what they are: a planted circuit (Jaccard overlap of half or more), a group
with some of a circuit's units, or one with none. A group with part of a circuit may do damage and rightly pass.
"""
FOUND = ("circuit", "part of one", "none")


def write(out: Path, made: Calibration, command: str) -> str:
    """Write ``calibration.md``, ``.csv`` and ``.png``; returns the page."""
    text = page(made, command)
    write_atomically(out / "calibration.md", text)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(vars(made.rulings[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(ruling) for ruling in made.rulings)
    write_atomically(out / "calibration.csv", table.getvalue())
    draw(made, out / "calibration.png")
    return text


def page(made: Calibration, command: str) -> str:
    """All tables, with the command that made them."""
    parts = [f"# Calibration: the harness measured by planted truth\n\n    {command}\n", EXPLANATION]
    for noise in made.noises:
        rows = [_kind(made, kind, noise) for kind in made.expected]
        parts.append(f"## Kind of group -> verdict, noise {noise:g}\n")
        parts.append(_table(("kind", "deserves", *PROTOCOLS), rows))
        parts.append(_table((f"noise {noise:g}", *PROTOCOLS), _summary(made, noise)))
    parts.append("## Power: share of planted circuits that pass\n")
    parts += [_power(made, f"{name}: effect (logits)", made.by_effect(name), "effect") for name in PROTOCOLS]
    parts.append(_power(made, f"{OWN}, effect {WEAK:g}: controls", made.by_controls(), "controls"))
    parts.append(f"## Proposal methods, end to end\n\n{OVERLAP}")
    rows = [
        (method, name, *(_rate(made.of(part=method, protocol=name, kind=found)) for found in FOUND))
        for method in METHODS
        for name in PROTOCOLS
    ]
    parts.append(_table(("method", "protocol", *FOUND), rows))
    return "\n".join([*parts, "![verdicts by kind, and power](calibration.png)\n"])


def draw(made: Calibration, path: Path) -> None:
    """Above: kind -> verdict under each protocol, with noise. Below: power by size of effect, by number of controls."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    above, (left, right) = figure.subplots(2, 2, height_ratios=(1.3, 1))
    for at, name in zip(above, PROTOCOLS, strict=True):
        _confusion(at, made, name)
    for style, name in zip(("-", ":"), PROTOCOLS, strict=True):
        _curves(left, made, made.by_effect(name), "effect", style, f", {name}")
    _curves(right, made, made.by_controls(), "controls", "-", "")
    left.set(title="power by size of effect", xlabel="effect of the whole circuit (logits)")
    right.set(title=f"power by number of controls, {OWN} protocol, effect {WEAK:g}", xlabel="controls")
    for at, place in ((left, "upper left"), (right, "lower right")):
        at.set(ylim=(-0.03, 1.03), ylabel="share that pass")
        at.legend(fontsize=7, loc=place)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _confusion(at: Any, made: Calibration, protocol: str) -> None:
    verdicts = [verdict.value for verdict in Verdict]
    noise = made.noises[-1]
    for y, kind in enumerate(made.expected):
        found = [ruling.verdict for ruling in made.of(part="kinds", protocol=protocol, noise=noise, kind=kind)]
        for x, verdict in enumerate(verdicts):
            share = found.count(verdict) / len(found)
            colour = "tab:green" if verdict in made.expected[kind] else "tab:orange"
            at.add_patch(_square(x, y, colour, share))
            if share:
                at.text(x, y, f"{share:.2f}", ha="center", va="center", fontsize=8)
    at.set(xlim=(-0.5, len(verdicts) - 0.5), ylim=(len(made.expected) - 0.5, -0.5))
    at.set_xticks(range(len(verdicts)), verdicts, rotation=30, ha="right")
    at.set_yticks(range(len(made.expected)), list(made.expected))
    at.set_title(f"{protocol}: share of verdicts by kind, noise {noise:g} (green: deserved without)", fontsize=10)


def _square(x: int, y: int, colour: str, share: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=0.75 * share, edgecolor="0.8")


def _curves(at: Any, made: Calibration, rulings: Sequence[Ruling], by: str, style: str, which: str) -> None:
    values = sorted({getattr(ruling, by) for ruling in rulings})
    at.set_xscale("log")
    at.set_xticks(values, [f"{value:g}" for value in values])
    at.minorticks_off()
    for i, kind in enumerate(made.circuits):
        own = [[r for r in rulings if r.kind == kind and getattr(r, by) == value] for value in values]
        shares = [sum(r.passed for r in some) / len(some) for some in own]
        at.plot(values, shares, style, marker="o", markersize=4, color=f"C{i}", label=kind + which)


def _kind(made: Calibration, kind: str, noise: float) -> tuple[str, ...]:
    verdicts = []
    for name in PROTOCOLS:
        found = [ruling.verdict for ruling in made.of(part="kinds", protocol=name, noise=noise, kind=kind)]
        counts = {verdict.value: found.count(verdict.value) for verdict in Verdict}
        verdicts.append(", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n))
    return kind, " or ".join(made.expected[kind]), *verdicts


def _summary(made: Calibration, noise: float) -> list[tuple[str, ...]]:
    by_protocol = [made.of(part="kinds", protocol=name, noise=noise) for name in PROTOCOLS]
    right = [f"{sum(bool(ruling.expected) for ruling in own)}/{len(own)}" for own in by_protocol]
    rows = [("**verdicts that are deserved**", *right)] if noise == 0 else []  # with noise several are fair
    rows += [(f"circuits that pass: {k}", *(_rate(_kinds(own, (k,))) for own in by_protocol)) for k in made.circuits]
    rows += [(f"false passes: {k}", *(_rate(_kinds(own, (k,))) for own in by_protocol)) for k in made.decoys]
    return [*rows, ("**false passes: all decoys**", *(_rate(_kinds(own, made.decoys)) for own in by_protocol))]


def _power(made: Calibration, head: str, rulings: Sequence[Ruling], by: str) -> str:
    rows = []
    for value in sorted({getattr(ruling, by) for ruling in rulings}):
        own = [ruling for ruling in rulings if getattr(ruling, by) == value]
        rows.append((f"{value:g}", *(_rate(_kinds(own, (kind,))) for kind in made.circuits)))
    return _table((head, *made.circuits), rows)


def _kinds(rulings: Sequence[Ruling], kinds: Sequence[str]) -> list[Ruling]:
    return [ruling for ruling in rulings if ruling.kind in kinds]


def _rate(rulings: Sequence[Ruling]) -> str:
    if not rulings:
        return "-"
    passed, n, low, high = rate(rulings)
    return f"{passed}/{n} [{low:.2f}, {high:.2f}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"
