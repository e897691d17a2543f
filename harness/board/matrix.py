"""The cross-model matrix: the group of every model, ablated on every model, from the records of these cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.board.task import subject_digest
from harness.closure.comparison import p_among
from harness.closure.verdict import decision_order
from harness.data.recurrence import overlap_distribution, p_at_least, recurrence_p, times_distribution
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.records.record import FINISHED, Record
from harness.util.errors import HarnessError

Labels = tuple[str, ...]
TEXT = "loss"
"""The metric that is shown on the contrast batch, where it is measured."""


@dataclass(frozen=True)
class Model:
    """A model and its own group.

    ``proposed``: the cell that proposed the group. ``depth``: mean depth of the group's units, as a share of
    the deepest one. ``accuracy``: by batch, accuracy without
    ablation, on the tested batch first, then on others of its kind that the workspace has records of.
    """

    name: str
    group: Labels
    proposed: str
    depth: float
    accuracy: Mapping[str, float]

    @property
    def early(self) -> bool:
        """Whether the group is in the first half of the model, by mean depth."""
        return self.depth < 0.5


@dataclass(frozen=True)
class Change:
    """One metric: without ablation, with it, the sign of a change for the worse, and the changes by the groups of the
    same profile that the group was compared with (empty: there are none). ``harmed``: it certainly got worse."""

    baseline: float
    ablated: float
    damage: int
    harmed: bool
    compared: tuple[float, ...]

    @property
    def harm(self) -> float:
        """The change, positive for the worse."""
        return self.damage * (self.ablated - self.baseline)


@dataclass(frozen=True)
class Entry:
    """One group, ablated on one model.

    ``model``: its place among the models. ``owner``: the place of the model whose own group it is; None: all units of a
    site. ``shared``: units in common with the model's own group. ``changes``: by metric that decides. ``p``: of the
    exact test on the first metric. ``p_damage``: of plain damage, among the groups of the same profile.
    ``p_overlap``: the same, only among the ``n_overlap`` of them that share as many units with the model's own group.
    None: there are none. ``text``: change of the loss on the contrast batch.
    """

    model: int
    owner: int | None
    name: str
    units: Labels
    shared: int
    cell: str
    verdict: str
    changes: Mapping[str, Change]
    p: float | None
    p_damage: float | None
    p_overlap: float | None
    n_overlap: int
    text: float | None

    @property
    def own(self) -> bool:
        """Whether it is the model's own group."""
        return self.owner == self.model

    @property
    def first(self) -> Change:
        """The change of the metric that decides first."""
        return next(iter(self.changes.values()))


@dataclass(frozen=True)
class OverlapRow:
    """Groups that share as many units with a model's own group, over all models whose own group certainly does damage.

    ``others``: damage by other models' groups as a share of that by the model's own, one number each. ``random``: the
    same, for the groups of their profiles that they were compared with; ``random_n``: how many of these there are.
    """

    shared: int
    others: tuple[float, ...]
    random: float | None
    random_n: int


@dataclass(frozen=True)
class Pair:
    """Two models: units that their groups share, how many random groups share, and the probability of at least as many.

    Random groups have as many units in each site (``in_sites``), or anywhere in the model (``anywhere``): (mean, p).
    """

    models: tuple[int, int]
    shared: int
    in_sites: tuple[float, float]
    anywhere: tuple[float, float]


@dataclass(frozen=True)
class Recurrence:
    """How units recur over models. ``pairs``: of groups. ``times``: by unit that a group has, in how many groups it is,
    and the probability that a given unit of its site is in at least as many. ``p_in_sites``, ``p_anywhere``: of the
    units shared over all pairs."""

    pairs: tuple[Pair, ...]
    times: Mapping[str, tuple[int, float]]
    p_in_sites: float
    p_anywhere: float


@dataclass(frozen=True)
class Matrix:
    """Models, entries by model and group, and what they share. ``task``: what was tested, in words."""

    task: str
    contrast: str
    models: tuple[Model, ...]
    entries: tuple[Entry, ...]
    overlaps: tuple[OverlapRow, ...]
    recurrence: Recurrence

    @classmethod
    def of(cls, proposed: Sequence[Record], tested: Sequence[Sequence[Record]], others: Sequence[Record]) -> Matrix:
        """The matrix of models. ``proposed``: the cell of each model that proposed its group. ``tested``: by model, the
        cells in which the groups of :func:`groups_of` were ablated. ``others``: records for accuracy on other batches.
        """
        units = proposed[0].unit_space
        own = [own_group(record) for record in proposed]
        names = groups_of(proposed)
        entries = [
            _entry(model, group, owner, _name(owner, group, proposed), record, own[model])
            for model, records in enumerate(tested)
            for (group, owner), record in zip(names.items(), records, strict=True)
        ]
        deepest = max(1, int(units.depth_of.max()))
        models = tuple(
            Model(
                name=records[0].cell.subject,
                group=group,
                proposed=record.cell.id,
                depth=float(np.mean(units.depth_of[list(units.find(group))])) / deepest,
                accuracy=_accuracy(records[0], others),
            )
            for group, record, records in zip(own, proposed, tested, strict=True)
        )
        about, contrast = tested[0][0], tested[0][0].config.get("contrast") or {}
        return cls(
            task=f"{about.cell.batch} ({about.cell.target}) · {about.cell.intervention}",
            contrast=str(contrast.get("name", "")),
            models=models,
            entries=tuple(entries),
            overlaps=_overlaps(entries, own, tested, len(names)),
            recurrence=recurrence_of([units.find(group) for group in own], units),
        )

    def entry(self, model: int, name: str) -> Entry:
        """The entry of a model and a group."""
        return next(entry for entry in self.entries if (entry.model, entry.name) == (model, name))

    @property
    def names(self) -> tuple[str, ...]:
        """The groups, in the order of columns."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries))


def own_group(record: Record) -> Labels:
    """The first candidate of a cell. Errors: a cell without one."""
    if record.status not in FINISHED or not record.candidates:
        why = record.reason or "no group qualified"
        raise HarnessError(
            f"{record.cell.subject} has no group of its own: {why.rstrip('.')}.",
            "Choose a method that proposes a group on every model: partitioner=top_k 'partitioner.sizes=[6]'",
        )
    return record.candidates[0].units


def groups_of(proposed: Sequence[Record]) -> dict[Labels, int | None]:
    """The columns of the matrix: each model's own group, with its place (the first, where several are equal), and all
    units of each site that holds one of their units (None).

    Errors: models with other units, or equal ones.
    """
    first = proposed[0]
    for record in proposed[1:]:
        if (record.units, record.sites) != (first.units, first.sites):
            raise HarnessError(
                f"matrix: {first.cell.subject} has {len(first.units)} units ({_span(first)}); {record.cell.subject} "
                f"has {len(record.units)} ({_span(record)}).",
                "A group of one model can be ablated on another only if both have the same units.",
            )
    digests = [subject_digest(record) for record in proposed]
    for (a, one), (b, other) in combinations(zip(digests, proposed, strict=True), 2):
        if a == b:
            raise HarnessError(
                f"matrix: {one.cell.subject} and {other.cell.subject} are the same model: their weights are equal.",
                "Name each model once.",
            )
    columns: dict[Labels, int | None] = {}
    for model, record in enumerate(proposed):
        columns.setdefault(own_group(record), model)
    units = first.unit_space
    held = {units.units[unit].site for group in columns for unit in units.find(group)}
    for site in units.sites:
        if site in held:
            columns.setdefault(tuple(unit.label for unit in units.units if unit.site == site), None)
    return columns


def recurrence_of(groups: Sequence[Group], units: UnitSpace) -> Recurrence:
    """What groups share, against random groups with as many units per site, and anywhere in the model."""
    site_of, whole = units.site_of, np.zeros(len(units), dtype=np.int64)
    pairs = []
    for a, b in combinations(range(len(groups)), 2):
        shared, nulls = len(set(groups[a]) & set(groups[b])), []
        for cell_of in (site_of, whole):
            sizes = np.bincount(cell_of)
            first, second = (np.bincount(cell_of[list(groups[g])], minlength=len(sizes)) for g in (a, b))
            chance = overlap_distribution(first, second, sizes)
            nulls.append((float(chance @ np.arange(len(chance))), p_at_least(chance, shared)))
        pairs.append(Pair((a, b), shared, *nulls))
    times = {}
    in_site = np.bincount(site_of)
    for unit in sorted({unit for group in groups for unit in group}):
        alike = np.flatnonzero(site_of == site_of[unit])
        shares = [np.isin(alike, group).sum() / in_site[site_of[unit]] for group in groups]
        count = sum(unit in group for group in groups)
        times[units.labels[unit]] = (count, p_at_least(times_distribution(shares), count))
    return Recurrence(tuple(pairs), times, recurrence_p(groups, site_of), recurrence_p(groups, whole))


def _name(owner: int | None, group: Labels, proposed: Sequence[Record]) -> str:
    """The head of a column: whose group it is, or that it is a whole site."""
    if owner is not None:
        return f"group of {proposed[owner].cell.subject}"
    units = proposed[0].unit_space
    return f"all of {units.units[units.find(group[:1])[0]].site}"


def _entry(model: int, group: Labels, owner: int | None, name: str, record: Record, own: Labels) -> Entry:
    if record.status not in FINISHED or not record.closure:
        raise HarnessError(f"cell {record.cell.id} was not tested: {record.reason or record.status.value}")
    (closure,) = record.closure
    order = [name for name in decision_order(closure.effects) if closure.effects[name].decides]
    first = closure.effects[order[0]]
    harms = first.damage * np.array(first.controls)
    mine = set(record.unit_space.find(own))
    shared = len(set(group) & set(own))
    alike = harms[[len(mine & set(other)) == shared for other in closure.groups[: len(harms)]]] if len(harms) else harms
    own_harm = first.damage * first.delta
    text = closure.anatomy.get(TEXT)
    return Entry(
        model=model,
        owner=model if group == own else owner,
        name=name,
        units=group,
        shared=shared,
        cell=record.cell.id,
        verdict=closure.verdict.value,
        changes={
            name: Change(effect.baseline, effect.ablated, effect.damage, effect.harmed, effect.controls)
            for name, effect in ((name, closure.effects[name]) for name in order)
        },
        p=first.p,
        p_damage=p_among(own_harm, harms) if len(harms) else None,
        p_overlap=p_among(own_harm, alike) if len(alike) else None,
        n_overlap=len(alike),
        text=text.contrast[0] if text and text.contrast else None,
    )


def _overlaps(
    entries: Sequence[Entry], own: Sequence[Labels], tested: Sequence[Sequence[Record]], columns: int
) -> tuple[OverlapRow, ...]:
    """Damage as a share of that by the model's own group, by the number of units shared with it."""
    others: dict[int, list[float]] = {}
    random: dict[int, list[float]] = {}
    for model, records in enumerate(tested):
        of_model = entries[model * columns :][:columns]
        whole, certain = next((entry.first.harm, entry.first.harmed) for entry in of_model if entry.own)
        if not certain:
            continue  # shares of a damage that may be none mean nothing
        mine = set(records[0].unit_space.find(own[model]))
        compared: dict[Group, float] = {}
        for entry, record in zip(of_model, records, strict=True):
            if entry.owner is None:
                continue
            if not entry.own:
                others.setdefault(entry.shared, []).append(entry.first.harm / whole)
            changes = entry.first.compared
            compared |= dict(zip(record.closure[0].groups, (entry.first.damage * c for c in changes), strict=False))
        compared.pop(record.unit_space.find(own[model]), None)  # for other models' groups it is one like theirs
        for group, harm in compared.items():
            random.setdefault(len(mine & set(group)), []).append(harm / whole)
    return tuple(
        OverlapRow(
            shared=shared,
            others=tuple(others.get(shared, ())),
            random=float(np.mean(random[shared])) if shared in random else None,
            random_n=len(random.get(shared, ())),
        )
        for shared in sorted({*others, *random}, reverse=True)
    )


def _accuracy(record: Record, others: Sequence[Record]) -> dict[str, float]:
    """Accuracy without ablation of the record's model: on its batch, and on others of the same method."""
    model, kind = subject_digest(record), record.config["batch"]["name"]
    found: dict[str, float] = {}
    for other in (record, *others):
        if other.status in FINISHED and other.config["batch"]["name"] == kind and subject_digest(other) == model:
            for closure in other.closure:
                if closure.scope == "all" and "accuracy" in closure.effects:
                    found.setdefault(other.cell.batch, closure.effects["accuracy"].baseline)
    return found


def _span(record: Record) -> str:
    return f"{record.units[0]} to {record.units[-1]}"
