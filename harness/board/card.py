"""A verdict card: the answer first, in words, then the numbers that carry it, then what to type next."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from harness.closure.report import ClosureReport
from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict, decision_order
from harness.data.units import Unit
from harness.records.record import PartitionRecord, Record, Status

ARROW = {1: "^", -1: "v"}


def card(record: Record, folder: Path | None = None) -> str:
    """Everything a person wants to know of a cell first, in some fifteen lines."""
    cell = record.cell
    where = f"{cell.subject} · {cell.batch} · target {cell.target} · {cell.intervention} ablation"
    if record.status is not Status.OK:
        tried = f"\n\n{_proposal(record)}" if record.partitions else ""
        return f"{record.status.value.upper()}  {record.reason}\n  {where}\n  {cell.method}{tried}"
    blocks = [_closure(record, closure, where) for closure in record.closure] or [_proposal(record)]
    if folder is not None:
        blocks.append(_next(record, folder))
    return "\n\n".join(blocks)


def _closure(record: Record, closure: ClosureReport, where: str) -> str:
    layers = len({Unit.parse(unit).layer for unit in closure.units})
    size = len(closure.units)
    lines = [
        f"{' '.join(closure.units)}   {_count(size, 'unit')}, {_count(layers, 'layer')}      {where}",
        f"{closure.verdict.value.upper().replace('_', ' ')}  {closure.reason}{_standing(closure)}",
        f"  {'':<15}{'baseline':>9}{'ablated':>10}{'effect':>10}   {'95 % interval':<20}{'controls (5 % .. 95 %)':<24}"
        f"{'z':>6}{'p':>7}{'corrected':>10}",
    ]
    lines += [_effect(name, effect) for name, effect in closure.effects.items()]
    bounds = ", ".join(f"{name.replace('_', ' ')} {_share(closure, name)}" for name in closure.site_ablation)
    lines.append(f"  all units of these layers: {bounds}")
    lines += _inside(closure)
    short = ", ".join(f"{layer} lacks {n}" for layer, n in closure.shortfall.items())
    controls = _count(closure.n_controls, "distinct control") + (f" (not fully matched: {short})" if short else "")
    controls = f"given up after {controls}" if closure.stopped_early else controls
    lines.append(f"  {_halves(record, closure)}; {controls}")
    lines.append(f"  method: {record.cell.method}{_chosen(record)}")
    return "\n".join(lines + _warnings(record))


def _inside(closure: ClosureReport) -> list[str]:
    """What the primary metric says of the inside of the group, of where it is active, and of what it is good for."""
    if not closure.anatomy:
        return []
    name = decision_order(closure.anatomy)[0]
    found, what, lines = closure.anatomy[name], name.replace("_", " "), []
    if found.leave_one_out and closure.verdict is not Verdict.NULL:
        parts = "  ".join(
            f"{unit} {round(100 * of)} %" for unit, of in zip(closure.units, found.leave_one_out, strict=True)
        )
        lines.append(f"  of the effect on {what}, lost without: {parts}")
    facts = []
    if found.interaction is not None:
        facts.append(f"interaction {found.interaction:+.2f} (-1 chain, 0 independent, > 0 backup)")
    if found.sufficiency is not None:
        facts.append(f"alone it keeps {round(100 * found.sufficiency)} %")
    if closure.dispensable:
        facts.append(f"idle {' '.join(closure.dispensable)}")
    if found.on_input and not found.on_input.n:
        facts.append("never active on these examples")
    elif found.on_input and found.on_input.delta is not None:
        on = found.on_input
        off = f"{on.off_input:+.2f}" if on.off_input is not None else "-"
        facts.append(f"active on {on.n} examples: {on.delta:+.2f} (p {_number(on.p, '.3f')}), elsewhere {off}")
    if found.contrast:
        facts.append(f"on the other batch {found.contrast[0]:+.2f}")
    if closure.selection_p is not None:
        facts.append(f"against the best of permuted data p {closure.selection_p:.3f}")
    return [*lines, f"  {what}: {'; '.join(facts)}"] if facts else lines


def _standing(closure: ClosureReport) -> str:
    """How many controls the candidate's damage exceeds, on the metric asked first."""
    name = decision_order(closure.effects)[0]
    effect = closure.effects[name]
    milder = sum(effect.damage * control < effect.damage * effect.delta for control in effect.controls)
    return f" ({name.replace('_', ' ')}: worse than {milder} of {len(effect.controls)} controls)"


def _effect(name: str, effect: Effect) -> str:
    interval = f"{effect.interval[0]:+.2f} .. {effect.interval[1]:+.2f}" if effect.interval else "one example"
    if effect.controls:
        low, high = np.percentile(effect.controls, [5, 95])
        controls = f"{low:+.2f} .. {high:+.2f}"
    else:
        controls = "none"
    note = "   (saturated: cannot get worse)" if effect.saturated else ""
    return (
        f"  {name.replace('_', ' '):<13}{ARROW[effect.damage]}{effect.baseline:>10.2f}{effect.ablated:>10.2f}"
        f"{effect.delta:>+10.2f}   {interval:<20}{controls:<24}{_number(effect.z, '+.1f'):>6}"
        f"{_number(effect.p, '.3f'):>7}{_number(effect.p_adjusted, '.3f'):>10}{note}"
    )


def _share(closure: ClosureReport, name: str) -> str:
    bound, delta = closure.site_ablation[name], closure.effects[name].delta
    comparable = bound and math.copysign(1, bound) == math.copysign(1, delta)
    return f"{bound:+.2f}" + (f" (this group: {100 * delta / bound:.0f} %)" if comparable else "")


def _halves(record: Record, closure: ClosureReport) -> str:
    if record.config.get("group"):
        return f"named by hand, tested on all {closure.n_examples} examples"
    if record.config.get("split") == "none":
        return f"proposed and tested on the same {closure.n_examples} examples: the p-values flatter"
    proposed = record.provenance["batch"]["n"] - closure.n_examples
    return f"proposed on {proposed} examples, tested on {closure.n_examples} others"


def _chosen(record: Record) -> str:
    partition = record.partition
    if partition is None:
        return ""
    by = " (chosen by the labels)" if record.chosen_by_labels else ""
    ari = f"; agreement with the labels: ARI {partition.agreement.ari:.2f}" if partition.agreement else ""
    return f"\n  {partition.name}{by}{ari}{_stability(partition)}"


def _stability(partition: PartitionRecord) -> str:
    found = partition.stability
    parts = {"other orders and seeds": found.seeds, "resampled examples": found.resamples} if found else {}
    shown = ", ".join(f"{value:.2f} on {what}" for what, value in parts.items() if value is not None)
    return f"; found again (ARI): {shown}" if shown else ""


def _proposal(record: Record) -> str:
    where = record.cell.subject + (f" · {record.cell.batch}" if record.provenance["batch"] else "")
    lines = [f"PROPOSED  by {record.cell.method}   {where}"]
    head = ("groups", "ARI", "NMI", "purity", "seeds", "resamples", "quality")
    lines.append(f"  {'':<18}" + "".join(f"{word:>10}" for word in head))
    for i, partition in enumerate(record.partitions):
        agreement, stability = partition.agreement, partition.stability
        numbers = [
            *([agreement.ari, agreement.nmi, agreement.purity] if agreement else [None] * 3),
            *([stability.seeds, stability.resamples] if stability else [None] * 2),
            partition.quality,
        ]
        shown = "".join(f"{_number(number, '.3f'):>10}" for number in numbers)
        lines.append(f"{'>' if i == record.chosen else ' ':>2}{partition.name:<18}{partition.groups:>10}{shown}")
    lines.append("  ARI, NMI, purity: against the labels; seeds, resamples: ARI with partitions found again")
    for candidate in record.candidates:
        told = {"purity": candidate.purity, "isolation": candidate.isolation, "stability": candidate.stability}
        shown = ", ".join(f"{what} {_number(value, '.2f')}" for what, value in told.items())
        lines.append(f"  candidate: {' '.join(candidate.units)}   {shown}")
    return "\n".join(lines + _warnings(record))


def _warnings(record: Record) -> list[str]:
    """What the stages warn of, in one line each; a plugin may note units, or anything else."""
    lines = []
    for stage, notes in record.diagnostics.items():
        for note, found in notes.items():
            if found and isinstance(found, (list, tuple, dict)):
                named = list(map(str, found))
                shown = " ".join(named[:6]) + (" ..." if len(named) > 6 else "")
                lines.append(f"  note: {stage}: {note.replace('_', ' ')}: {_count(len(named), 'unit')} ({shown})")
            elif found:
                shown = f"{found:.3g}" if isinstance(found, float) else str(found)
                lines.append(f"  note: {stage}: {note.replace('_', ' ')}: {shown}")
    return lines


def _next(record: Record, folder: Path) -> str:
    drawn = folder / "affinity.png"
    picture = f" · picture: {drawn}" if drawn.is_file() else ""
    more = f"harness leaderboard · harness show partitioner {record.config['partitioner']['name']}"
    return f"  record: {folder / 'record.json'}{picture}\n  next: harness report {record.cell.id} · {more}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
