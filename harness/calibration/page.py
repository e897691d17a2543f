"""The results of a calibration: a page, the verdicts and shares behind it, and a figure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.board.markdown import table
from harness.calibration.calibrate import METHODS, OWN, PROTOCOLS, WEAK, Calibration, Ruling, rate
from harness.calibration.tables import draw_level, draw_power, sections
from harness.closure.verdict import Verdict
from harness.records.workspace import atomically, write_atomically

EXPLANATION = """\
The page has two parts: verdicts on planted groups, of which the kind is known, and error rates of the tests.

Each planted world has at least one group of every kind; the world's seed draws its units. Every group gets a closure
test. **correct**: the verdict is a correct one for the kind. A group passes with `pass` or `weak_pass`, circuits and
decoys alike; a decoy that passes is a **false pass**. Intervals: 95 %, Wilson.

- `default`: the harness's protocol and verdict, with the exact test.
- `disjoint`: the same with the former test (`test=disjoint`), against groups that share no unit with the candidate.
- `paper`: `preset=paper` (five uniform controls, z with ddof 0, no split) with the closure paper's criteria: loss
  rises, accuracy and target logit fall, at least one metric lies more than 1.8 standard deviations of its controls
  beyond their mean, and no control raises loss as much.

With noise, every unit has a small effect of its own. Then `null`, `inconclusive`, `not_specific` and `wrong_direction`
are all fair verdicts on a decoy, and only a pass is false.
"""
OVERLAP = """\
Shares of the proposed groups that pass, by what they are: a planted circuit (Jaccard overlap of at least 0.5), a group
with some units of a circuit, or a group with none. A group with part of a circuit may do damage and rightly pass.
"""
FOUND = ("circuit", "part of one", "none")
COMPARED = (OWN, "paper")
"""Protocols that are compared by effect size and on proposed groups."""
ByValue = Mapping[int | float, Sequence[Ruling]]


def write(out: Path, calibration: Calibration, command: str) -> str:
    """Write ``calibration.md``, ``.csv`` (verdicts), ``.json`` (shares) and ``.png``. Returns the page."""
    text = page(calibration, command)
    write_atomically(out / "calibration.md", text)
    rulings = io.StringIO()
    writer = csv.DictWriter(rulings, list(asdict(calibration.rulings[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(ruling) for ruling in calibration.rulings)
    write_atomically(out / "calibration.csv", rulings.getvalue())
    shares = {"command": command, "shares": [asdict(share) for share in calibration.shares]}
    write_atomically(out / "calibration.json", json.dumps(shares, indent=1) + "\n")
    with atomically(out / "calibration.png") as beside:
        draw(calibration, beside)
    return text


def page(calibration: Calibration, command: str) -> str:
    """All tables, with the command that makes them."""
    parts = [f"# Calibration: the harness measured by planted truth\n\n    {command}\n", EXPLANATION]
    for noise in calibration.noises:
        rows = [_kind(calibration, kind, noise) for kind in calibration.expected]
        parts.append(f"## Verdicts by kind of group, noise {noise:g}\n")
        parts.append(table([("kind", "correct verdict", *PROTOCOLS), *rows]))
        parts.append(table([(f"noise {noise:g}", *PROTOCOLS), *_summary(calibration, noise)]))
    parts.append("## Power: share of planted circuits that pass\n")
    circuits = calibration.circuits
    parts += [_power(circuits, f"{name}: effect (logits)", _by_effect(calibration, name)) for name in COMPARED]
    parts.append(_power(circuits, f"{OWN}, effect {WEAK:g}: groups", _by_controls(calibration)))
    parts.append(f"## Proposal methods, end to end\n\n{OVERLAP}")
    rows = [
        (method, name, *(_rate(calibration.of(part=method, protocol=name, kind=content)) for content in FOUND))
        for method in METHODS
        for name in COMPARED
    ]
    parts.append(table([("method", "protocol", *FOUND), *rows]))
    parts += sections(calibration.shares)
    return "\n".join([*parts, "![levels and power of both tests, and verdicts by kind](calibration.png)\n"])


def draw(calibration: Calibration, path: Path) -> None:
    """Level and power of both tests; verdicts by kind, with noise; power by effect size and number of groups."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 14), layout="constrained")
    FigureCanvasAgg(figure)
    (level, power), above, (left, right) = figure.subplots(3, 2, height_ratios=(1.2, 1.3, 1))
    draw_level(level, calibration.shares)
    draw_power(power, calibration.shares)
    for at, name in zip(above, COMPARED, strict=True):
        _confusion(at, calibration, name)
    for style, name in zip(("-", ":"), COMPARED, strict=True):
        _curves(left, calibration.circuits, _by_effect(calibration, name), style, f", {name}")
    _curves(right, calibration.circuits, _by_controls(calibration), "-", "")
    left.set(title="planted circuits: power by effect size", xlabel="effect of the whole circuit (logits)")
    right.set(title=f"planted circuits: power by number of groups, effect {WEAK:g}", xlabel="groups compared with")
    for at in (left, right):
        at.set(ylim=(-0.03, 1.03), ylabel="share that passes")
        at.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _confusion(at: Any, calibration: Calibration, protocol: str) -> None:
    verdicts = [verdict.value for verdict in Verdict]
    noise = calibration.noises[-1]
    for y, kind in enumerate(calibration.expected):
        given = [ruling.verdict for ruling in calibration.of(part="kinds", protocol=protocol, noise=noise, kind=kind)]
        for x, verdict in enumerate(verdicts):
            share = given.count(verdict) / len(given)
            colour = "tab:green" if verdict in calibration.expected[kind] else "tab:orange"
            at.add_patch(_square(x, y, colour, share))
            if share:
                at.text(x, y, f"{share:.2f}", ha="center", va="center", fontsize=8)
    at.set(xlim=(-0.5, len(verdicts) - 0.5), ylim=(len(calibration.expected) - 0.5, -0.5))
    at.set_xticks(range(len(verdicts)), verdicts, rotation=30, ha="right")
    at.set_yticks(range(len(calibration.expected)), list(calibration.expected))
    at.set_title(f"{protocol}, noise {noise:g}: verdicts by kind (green: correct without noise)", fontsize=10)


def _square(x: int, y: int, colour: str, share: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=0.75 * share, edgecolor="0.8")


def _curves(at: Any, circuits: Sequence[str], rulings: ByValue, style: str, suffix: str) -> None:
    at.set_xscale("log")
    at.set_xticks(list(rulings), [f"{value:g}" for value in rulings])
    at.minorticks_off()
    for i, kind in enumerate(circuits):
        of_kind = [_kinds(each, (kind,)) for each in rulings.values()]
        shares = [sum(ruling.passed for ruling in each) / len(each) for each in of_kind]
        at.plot(list(rulings), shares, style, marker="o", markersize=4, color=f"C{i}", label=kind + suffix)


def _kind(calibration: Calibration, kind: str, noise: float) -> tuple[str, ...]:
    verdicts = []
    for name in PROTOCOLS:
        given = [ruling.verdict for ruling in calibration.of(part="kinds", protocol=name, noise=noise, kind=kind)]
        counts = {verdict.value: given.count(verdict.value) for verdict in Verdict}
        verdicts.append(", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n))
    return kind, " or ".join(calibration.expected[kind]), *verdicts


def _summary(calibration: Calibration, noise: float) -> list[tuple[str, ...]]:
    by_protocol = [calibration.of(part="kinds", protocol=name, noise=noise) for name in PROTOCOLS]

    def rates(label: str, kinds: Sequence[str]) -> tuple[str, ...]:
        return label, *(_rate(_kinds(rulings, kinds)) for rulings in by_protocol)

    correct = [f"{sum(bool(ruling.expected) for ruling in rulings)}/{len(rulings)}" for rulings in by_protocol]
    return [
        *([("**correct verdicts**", *correct)] if noise == 0 else []),  # with noise, several verdicts are fair
        *(rates(f"circuits that pass: {kind}", (kind,)) for kind in calibration.circuits),
        *(rates(f"false passes: {kind}", (kind,)) for kind in calibration.decoys),
        rates("**false passes: all decoys**", calibration.decoys),
    ]


def _by_effect(calibration: Calibration, protocol: str) -> ByValue:
    """Rulings on circuits by effect size, ascending."""
    rulings = calibration.by_effect(protocol)
    return {value: [r for r in rulings if r.effect == value] for value in sorted({r.effect for r in rulings})}


def _by_controls(calibration: Calibration) -> ByValue:
    """Rulings on weak circuits by number of controls, ascending."""
    rulings = calibration.by_controls()
    return {value: [r for r in rulings if r.controls == value] for value in sorted({r.controls for r in rulings})}


def _power(circuits: Sequence[str], head: str, rulings: ByValue) -> str:
    rows = [(f"{value:g}", *(_rate(_kinds(each, (kind,))) for kind in circuits)) for value, each in rulings.items()]
    return table([(head, *circuits), *rows])


def _kinds(rulings: Sequence[Ruling], kinds: Sequence[str]) -> list[Ruling]:
    return [ruling for ruling in rulings if ruling.kind in kinds]


def _rate(rulings: Sequence[Ruling]) -> str:
    if not rulings:
        return "-"
    passed, n, low, high = rate(rulings)
    return f"{passed}/{n} [{low:.2f}, {high:.2f}]"
