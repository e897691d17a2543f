"""A verdict card: the verdict and its reason first, then the numbers behind it, then the next commands."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from harness.board.decomposition import fidelity_notes
from harness.board.known import known_lines
from harness.board.strata import outside_line, strata_table
from harness.cells.settings import tests_on_all
from harness.closure.paper import paper_verdict
from harness.closure.report import Anatomy, ClosureReport
from harness.closure.shared import shared_unit
from harness.closure.statistics import Effect, exceedances, inflated
from harness.closure.verdict import decision_order, spaced
from harness.data.units import named
from harness.records.record import (
    COMPLETENESS,
    FIGURES,
    FIT,
    GROWN,
    KNOWN,
    QUALITY,
    SELECTIVITY,
    PartitionRecord,
    Record,
    Status,
    group_key,
)
from harness.registry.command import command, in_workspace

TABLES = frozenset({COMPLETENESS, FIGURES, FIT, GROWN, KNOWN, QUALITY, SELECTIVITY})
"""Entries of diagnostics that are not warnings: the card, boards and other commands show them in their own way."""
ARROW = {1: "↑", -1: "↓"}
"""The direction in which a metric moves under damage."""


def card(record: Record, folder: Path | None = None) -> str:
    """The result of a cell in about fifteen lines. ``folder``: that of the record, if the card shows it."""
    cell = record.cell
    where = f"{cell.subject} · {cell.batch} · target {cell.target} · {cell.intervention} ablation"
    if record.status is not Status.OK:
        proposal = f"\n\n{_proposal(record)}" if record.partitions else ""
        return f"{record.status.value.upper()}  {record.reason}\n  {where}\n  {cell.method}{proposal}"
    blocks = [_closure(record, closure, where) for closure in record.closure] or [_proposal(record)]
    if table := strata_table(record):
        blocks.append(table)
    if folder is not None:
        blocks.append(_next(record, folder))
    return "\n\n".join(blocks)


def _closure(record: Record, closure: ClosureReport, where: str) -> str:
    space = record.unit_space
    sites = len(space.sites_of(space.find(closure.units)))
    size, stratum = len(closure.units), f" · {closure.stratum}" if closure.stratum else ""
    width = max(13, *(len(name) + 1 for name in closure.effects))
    lines = [
        f"{named(closure.units)}   {_count(size, 'unit')}, {_count(sites, 'site')}      {where}{stratum}",
        f"{spaced(closure.verdict.value).upper()}  {closure.reason}",
        *([f"  {closure.task}"] if closure.task and closure.task_done else []),
        f"  {'':<{width + 2}}{'baseline':>9}{'ablated':>10}   {'effect [95 %]':<26}"
        f"{'groups like it (5 % .. 95 %)':<30}{'p':>7}{'corrected p':>13}",
        *(_effect(name, effect, width) for name, effect in closure.effects.items()),
        *_necessity(closure),
        *_compared(record, closure),
        *_inside(record, closure),
        *outside_line(closure, _first(closure)),
        *_refined(record, closure),
        *_fit(record),
        f"  {_examples(record, closure)}",
        f"  method: {record.cell.method}{_chosen(record)}",
        *known_lines(record),
        *_warnings(record),
    ]
    return "\n".join(lines)


def _first(closure: ClosureReport) -> str:
    """The metric that decides first, among those that can show damage."""
    order = decision_order(closure.effects)
    return next((name for name in order if not closure.effects[name].saturated), order[0])


def _necessity(closure: ClosureReport) -> list[str]:
    """What each unit adds, and the group's place among those of its profile."""
    name = _first(closure)
    inside, effect = closure.anatomy.get(name), closure.effects[name]
    lines = []
    if inside is not None and inside.necessity is not None:
        pairs = zip(closure.units, inside.necessity, strict=True)
        each = "  ".join(f"{unit} {adds:.2f}" for unit, adds in pairs if adds is not None)
        spare = f"   (can be spared: {named(closure.dispensable)})" if closure.dispensable else ""
        lines.append(f"  necessity of each unit ({spaced(name)}): {each}{spare}")
    profile = ", ".join(f"{n} in {cell}" for cell, n in closure.profile.items())
    if closure.test == "disjoint" or effect.statistic is None:
        return lines
    if effect.p is None:
        return [*lines, f"  no other group has {profile}"]
    place, groups = round(effect.p * (1 + len(effect.controls))), 1 + len(effect.controls)
    early = f", stopped early: {closure.comparable} others have this profile" if closure.stopped_early else ""
    return [*lines, f"  T {effect.statistic:.2f}: place {place} among {groups} groups with {profile}{early}"]


def _compared(record: Record, closure: ClosureReport) -> list[str]:
    """How the plain damage compares with that of groups without a common unit, and what damaging groups share."""
    name = _first(closure)
    effect = closure.effects[name]
    lines = []
    if closure.test == "disjoint":
        lines.append(f"  {_controls(closure, name)}")
        verdict, why = paper_verdict(closure.effects)
        lines.append(f"  by the closure paper's rule: {spaced(verdict.value)} ({why})")
    elif effect.share is not None:
        as_much = round(effect.share * effect.disjoint)
        groups = _count(effect.disjoint, "group")
        z = _number(effect.z, "+.1f")
        beyond = f"; beyond their mean: {_bracketed(effect.beyond)}" if effect.beyond else ""
        lines.append(f"  plain damage: {as_much} of {groups} that share no unit with it do as much (z {z}){beyond}")
    if shared := shared_unit(closure.groups, [effect.damage * change for change in effect.controls]):
        unit, with_unit, most, everywhere = shared
        where = f"{with_unit} of the {most} most damaging groups (of all {len(closure.groups)}: {everywhere})"
        lines.append(f"  {record.units[unit]} is in {where}")
    if closure.site_ablation:
        bounds = ", ".join(f"{spaced(name)} {_share(closure, name)}" for name in closure.site_ablation)
        lines.append(f"  all units of these sites: {bounds}")
    return lines


def _controls(closure: ClosureReport, name: str) -> str:
    """How many controls (inflated, as for p) did at least as much damage, in the former test."""
    effect = closure.effects[name]
    distinct = _count(closure.n_controls, "distinct control")
    if closure.inflation is None:
        return f"no p-value: {distinct}, and the candidate leaves too few units to estimate how much controls vary"
    exceeding = exceedances(effect.delta, inflated(effect.controls, closure.inflation), effect.damage)
    start = "stopped early: " if closure.stopped_early else ""
    return f"{start}{exceeding} of {distinct} did at least as much damage to {spaced(name)}{_reservations(closure)}"


def _reservations(closure: ClosureReport) -> str:
    notes = []
    if closure.shortfall:
        notes.append(f"not fully matched: {', '.join(f'{site} lacks {n}' for site, n in closure.shortfall.items())}")
    if closure.inflation != 1:
        notes.append(f"their spread inflated by {closure.inflation:.2f}")
    return f" ({'; '.join(notes)})" if notes else ""


def _inside(record: Record, closure: ClosureReport) -> list[str]:
    """Anatomy of the group on the metric that decides first, and the test against permuted data."""
    lines = []
    if closure.selection_p is not None:
        lines.append(f"  against the best groups of the same pipeline on permuted data: p {closure.selection_p:.3f}")
    name = _first(closure)
    facts = _facts(closure.anatomy[name], record.completeness(closure, name)) if name in closure.anatomy else []
    return [*lines, f"  not deciding, {spaced(name)}: {'; '.join(facts)}"] if facts else lines


def _facts(anatomy: Anatomy, completeness: float | None) -> list[str]:
    facts = []
    if anatomy.interaction is not None:
        facts.append(f"interaction {anatomy.interaction:+.2f} (-1 serial chain, 0 independent, > 0 backup)")
    if anatomy.sufficiency is not None:
        facts.append(f"sufficiency {round(100 * anatomy.sufficiency)} %")
    if completeness is not None:
        facts.append(f"completeness {round(100 * completeness)} %")
    on = anatomy.on_input
    if on and not on.n:
        facts.append("never active on these examples")
    elif on and on.delta is not None:
        off = f"{on.off_input:+.2f}" if on.off_input is not None else "-"
        facts.append(f"active on {on.n} examples: {on.delta:+.2f}, off-input {off}")
    if anatomy.contrast:
        facts.append(f"contrast batch {anatomy.contrast[0]:+.2f}")
    return facts


def _effect(name: str, effect: Effect, width: int) -> str:
    if effect.controls:
        low, high = np.percentile(effect.controls, [5, 95])
        controls = f"{low:+.2f} .. {high:+.2f}"
    else:
        controls = "none"
    note = "   (saturated: cannot get worse)" if effect.saturated else "" if effect.decides else "   (does not decide)"
    return (
        f"  {spaced(name):<{width}}{ARROW[effect.damage]}{effect.baseline:>10.2f}{effect.ablated:>10.2f}   "
        f"{f'{effect.delta:+.2f} {_interval(effect)}':<26}{controls:<30}"
        f"{_number(effect.p, '.3f'):>7}{_number(effect.p_adjusted, '.3f'):>13}{note}"
    )


def _bracketed(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"


def _interval(effect: Effect) -> str:
    if effect.interval:
        return _bracketed(effect.interval)
    if effect.changed:
        return f"({effect.changed[0]} worse, {effect.changed[1]} better)"
    return "(one example)"


def _share(closure: ClosureReport, name: str) -> str:
    bound, delta = closure.site_ablation[name], closure.effects[name].delta
    comparable = bound and math.copysign(1, bound) == math.copysign(1, delta)
    return f"{bound:+.2f}" + (f" (this group: {100 * delta / bound:.0f} %)" if comparable else "")


def _refined(record: Record, closure: ClosureReport) -> list[str]:
    """The units that were added and dropped before the test."""
    lines, where = [], "before the test, by ablation on the proposal half"
    if added := record.grown.get(group_key(closure.units, closure.stratum)):
        each = [f"{unit['unit']} (gain {unit['gain']:.2f} {_bracketed(tuple(unit['interval']))})" for unit in added]
        lines.append(f"  added {where}: {', '.join(each)}")
    place = (closure.units, closure.stratum)
    if dropped := next((c.pruned for c in record.candidates if (c.units, c.stratum) == place), ()):
        lines.append(f"  dropped {where}: {named(dropped)}")
    return lines


def _fit(record: Record) -> list[str]:
    """How well the constants of the intervention were fitted."""
    fit = record.diagnostics.get(FIT)
    if fit is None:
        return []
    return [
        f"  constants fitted in {fit['steps']} steps on {_count(fit['examples'], 'example')}: with one unit ablated, "
        f"loss {fit['loss_by_mean']:.3g} by its mean, {fit['loss']:.3g} by its constant"
    ]


def _examples(record: Record, closure: ClosureReport) -> str:
    tested = closure.n_examples if closure.n_tested is None else closure.n_tested
    where_active = f"; judged on the {closure.n_examples} where it is active" if closure.scope == "active" else ""
    if record.config.get("group"):
        which = f"all {tested} examples" if tests_on_all(record.config) else f"the test half: {tested} examples"
        return f"group named by hand, tested on {which}{where_active}"
    if record.config.get("split") == "none":
        return f"proposed and tested on the same {tested} examples{where_active}: p-values are too small"
    of_batch = record.provenance.get("batch", {}).get("n", tested)
    proposed = of_batch - tested if closure.n_proposed is None else closure.n_proposed
    return f"proposed on {proposed} examples, tested on {tested} others{where_active}"


def _chosen(record: Record) -> str:
    partition = record.partition
    if partition is None:
        return ""
    by = " (chosen by the labels)" if record.chosen_by_labels else ""
    agreement = partition.agreement
    over = f" over {_count(agreement.units, 'unit')}" if agreement and agreement.units else ""
    ari = f"; ARI with the labels {agreement.ari:.2f}{over}" if agreement else ""
    return f"\n  partition: {partition.name}{by}{ari}{_stability(partition)}"


def _stability(partition: PartitionRecord) -> str:
    stability = partition.stability
    values = (
        [(stability.seeds, "with other orders and seeds"), (stability.resamples, "on resampled examples")]
        if stability
        else []
    )
    shown = ", ".join(f"{value:.2f} {reruns}" for value, reruns in values if value is not None)
    return f"\n  stability (ARI): {shown}" if shown else ""


def _proposal(record: Record) -> str:
    where = record.cell.subject + (f" · {record.cell.batch}" if record.provenance.get("batch") else "")
    lines = [f"PROPOSED  by {record.cell.method}   {where}"]
    head = ("groups", "ARI", "NMI", "purity", "seeds", "resamples", "quality")
    lines.append(f"  {'':<18}" + "".join(f"{word:>10}" for word in head))
    for partition in record.partitions:
        agreement, stability = partition.agreement, partition.stability
        numbers = [
            *([agreement.ari, agreement.nmi, agreement.purity] if agreement else [None] * 3),
            *([stability.seeds, stability.resamples] if stability else [None] * 2),
            partition.quality,
        ]
        shown = "".join(f"{_number(number, '.3f'):>10}" for number in numbers)
        lines.append(f"{'>' if partition.chosen else ' ':>2}{partition.name:<18}{partition.groups:>10}{shown}")
    over = next((p.agreement.units for p in record.partitions if p.agreement and p.agreement.units), None)
    labelled = f" of {_count(over, 'unit')}" if over else ""
    lines.append(f"  >: the chosen partition. ARI, NMI, purity: agreement with the labels{labelled}.")
    lines.append("  seeds, resamples: stability, as ARI with reruns (other orders and seeds; resampled examples).")
    for candidate in record.candidates:
        scores = {"purity": candidate.purity, "isolation": candidate.isolation, "stability": candidate.stability}
        shown = ", ".join(f"{name} {_number(value, '.2f')}" for name, value in scores.items())
        lines.append(f"  candidate: {named(candidate.units)}   {shown}")
    return "\n".join([*lines, *known_lines(record), *_warnings(record)])


def _warnings(record: Record) -> list[str]:
    """Diagnostics of the stages, one line each; a plugin may note units or other values."""
    subject = record.provenance.get("subject") or {}
    unused = subject.get("unused_weights")
    lines = [f"  note: subject: the model does not use {unused} of its files"] if unused else []
    lines += fidelity_notes(subject.get("decomposition"))
    for stage, notes in record.diagnostics.items():
        if stage in TABLES:
            continue
        for note, value in notes.items():
            if value and isinstance(value, (list, tuple, dict)):
                names = list(map(str, value))
                shown = " ".join(names[:6]) + (" ..." if len(names) > 6 else "")
                lines.append(f"  note: {stage}: {spaced(note)}: {_count(len(names), 'unit')} ({shown})")
            elif value:
                shown = f"{value:.3g}" if isinstance(value, float) else str(value)
                lines.append(f"  note: {stage}: {spaced(note)}: {shown}")
    return lines


def _next(record: Record, folder: Path) -> str:
    image = folder / "affinity.png"
    picture = f" · picture: {image}" if image.is_file() else ""
    here = in_workspace(folder.parents[1])
    following = (
        command("report", record.cell.id, *here),
        command("leaderboard", *here),
        command("show", "partitioner", str(record.config["partitioner"]["name"])),
    )
    return f"  record: {folder / 'record.json'}{picture}\n  next: {' · '.join(following)}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
