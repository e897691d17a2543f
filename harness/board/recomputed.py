"""Figures of a record that follow from others in it: they are computed again, and every difference is a sentence.

What the record does not hold (the changes per example) cannot be computed again: :data:`harness.board.columns.TOLD`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.cells.settings import Settings
from harness.closure.comparison import as_extreme
from harness.closure.correction import corrected
from harness.closure.intervals import Flips
from harness.closure.necessity import DISPENSABLE
from harness.closure.outside import Outside
from harness.closure.report import Anatomy, ClosureReport
from harness.closure.statistics import Effect, inflated, p_value, z_score
from harness.closure.verdict import decide, decision_order, enough
from harness.data.grouping import Agreement, Labels, Partition, purity
from harness.proposal.strata_null import StrataNull
from harness.records.record import Record, Status, group_key
from harness.util.errors import HarnessError
from harness.util.validation import validated

STORED = 2e-8
"""Relative error of the compared groups' numbers: records hold eight digits of them."""


def contradictions(record: Record) -> Iterator[str]:
    """Every figure that differs from what the others make.

    Verdicts and corrected p-values of records of an older schema followed other rules; they are not computed again.
    """
    try:
        settings = validated(Settings, record.config)
    except HarnessError as error:
        yield f"no cell has its settings: {error.what}"
        return
    yield from _negative(record)
    if record.units:
        labels = Labels(record.classes or (None,) * len(record.units), record.unit_space)
        yield from _partitions(record, labels)
        yield from _candidates(record, labels)
    for i, closure in enumerate(record.closure):
        yield from (f"candidate {i + 1}: {problem}" for problem in _of_closure(closure, record, settings))
    yield from _strata(record, settings)
    if not record.original:
        yield from _verdicts(record, settings)


def _negative(record: Record) -> Iterator[str]:
    for what, amounts in {"seconds": record.seconds, "cost": record.cost}.items():
        for name, amount in amounts.items():
            if amount < 0:
                yield f"{what}: {name} is {amount}"


def _partitions(record: Record, labels: Labels) -> Iterator[str]:
    """The number of groups, and the agreement with the labels."""
    for partition in record.partitions:
        found = Partition(partition.k, np.array(partition.labels))
        if partition.groups != len(found.groups()):
            yield f"partition {partition.name}: it has {len(found.groups())} groups, not {partition.groups}"
        agreement = Agreement.of(found, labels)
        for name in ("ari", "nmi", "purity"):
            value, expected = getattr(partition.agreement, name, None), getattr(agreement, name, None)
            if not _close(value, expected):
                yield f"partition {partition.name}: {name} is {value}, but its labels and classes make {expected}"
        for value in (partition.stability.seeds, partition.stability.resamples) if partition.stability else ():
            if value is not None and not -1 <= value <= 1:
                yield f"partition {partition.name}: a stability of {value} is no adjusted Rand index"


def _candidates(record: Record, labels: Labels) -> Iterator[str]:
    """Candidates are groups of the chosen partitions, and those that were tested."""
    if (record.status is Status.OK) is not bool(record.candidates) or (record.status is Status.OK and record.reason):
        yield f"its status is {record.status.value} ('{record.reason:.99}') with {len(record.candidates)} candidates"
    chosen = [partition for partition in record.partitions if partition.chosen]
    groups = {each.stratum: Partition(each.k, np.array(each.labels)).groups() for each in chosen}
    strata = {partition.stratum for partition in record.partitions}
    if len(groups) < len(chosen) or groups.keys() != strata:
        yield f"{len(chosen)} partitions are chosen, of {len(strata)}"
    for i, candidate in enumerate(record.candidates, 1):
        members = labels.units.find(candidate.units)
        added = [each["unit"] for each in record.grown.get(group_key(candidate.units, candidate.stratum), ())]
        proposed = {*members, *labels.units.find(candidate.pruned)} - {*labels.units.find(added)}
        if not any(proposed <= set(group) for group in groups.get(candidate.stratum, ())):
            yield f"candidate {i}: its units are not of one group of the chosen partition"
        if (candidate.size, candidate.sites) != (len(members), labels.units.sites_of(members)):
            yield f"candidate {i}: its size or sites are not those of its units"
        if not _close(candidate.purity, expected := purity(members, labels)):
            yield f"candidate {i}: purity is {candidate.purity}, but its classes make {expected}"
    tested = [(closure.units, closure.stratum) for closure in record.closure]
    if tested != [(candidate.units, candidate.stratum) for candidate in record.candidates]:
        yield "the tested groups are not its candidates"


def _of_closure(closure: ClosureReport, record: Record, settings: Settings) -> Iterator[str]:
    exact = closure.test == "exact"
    members = set(record.unit_space.find(closure.units))
    if exact:
        distinct = {frozenset(group) for group in closure.groups} - {frozenset(members)}
        if len(distinct) < len(closure.groups) or any(len(group) != len(members) for group in distinct):
            yield "its compared groups are not distinct groups of its size"
        if sum(closure.profile.values()) != len(members):
            yield f"its profile {dict(closure.profile)} is not one of {len(members)} units"
        if closure.n_controls != len(closure.groups):
            yield f"{closure.n_controls} groups are compared, but {len(closure.groups)} are there"
        if (closure.n_controls < (closure.comparable or 0)) is not closure.stopped_early:
            yield (
                f"{closure.n_controls} of {closure.comparable} groups are compared; stopped early: "
                f"{closure.stopped_early}"
            )
    disjoint = [i for i, group in enumerate(closure.groups) if members.isdisjoint(group)]
    for name, effect in closure.effects.items():
        problems = [*_sizes(effect, closure), *_p(effect, closure), *_certainty(effect, closure)]
        if closure.groups:
            problems += _plain_damage(effect, [effect.controls[i] for i in disjoint], settings.ddof)
        if exact and (inside := closure.anatomy.get(name)):
            problems += _necessity(effect, inside, settings.statistic == "share")
        if outside := closure.outside.get(name):
            problems += _gap(outside, effect, closure, disjoint, settings.ddof)
        yield from (f"{name}: {problem}" for problem in problems)
    first = closure.anatomy.get(decision_order(closure.effects)[0])
    if exact and first and closure.dispensable != tuple(closure.units[i] for i in first.dispensable):
        yield "the units that can be spared are not those of its anatomy"


def _sizes(effect: Effect, closure: ClosureReport) -> Iterator[str]:
    largest = max(1.0, abs(effect.baseline), abs(effect.ablated))
    if abs(effect.baseline + effect.delta - effect.ablated) > 1e-6 * largest:
        yield f"baseline {effect.baseline} and change {effect.delta} do not make {effect.ablated}"
    if len(effect.controls) != closure.n_controls:
        yield f"{len(effect.controls)} compared groups have a change, {closure.n_controls} are counted"
    if closure.test == "exact" and len(effect.statistics) != closure.n_controls:
        yield f"{len(effect.statistics)} compared groups have a statistic, {closure.n_controls} are counted"


def _p(effect: Effect, closure: ClosureReport) -> Iterator[str]:
    """p, computed again from what the record holds of the compared groups."""
    n = len(effect.controls)
    if closure.test == "exact":
        own, *others = (-math.inf if value is None else value for value in (effect.statistic, *effect.statistics))
        possible: list[float | None] = [(1 + count) / (1 + n) for count in _counts(own, others)] if others else [None]
    else:
        factor = closure.inflation
        possible = [None if factor is None else p_value(effect.delta, inflated(effect.controls, factor), effect.damage)]
    if not any(_close(effect.p, p, 1e-9) for p in possible):
        yield f"p is {effect.p}, but its {n} compared groups make {possible[0]}"


def _plain_damage(effect: Effect, disjoint: Sequence[float], ddof: int) -> Iterator[str]:
    """z, and the share of the groups without a common unit that do at least as much damage."""
    if effect.disjoint != len(disjoint):
        yield f"{effect.disjoint} compared groups are said to share no unit with it, but {len(disjoint)} do not"
    z = z_score(effect.delta, disjoint, ddof)
    spread, largest = float(np.std(disjoint or [0.0])), max(map(abs, [*disjoint, effect.delta]))
    if spread > 1e-5 * largest and not _close(effect.z, z, 1e-3):
        yield f"z is {effect.z}, but its {len(disjoint)} groups without a common unit make {z}"
    damages = [effect.damage * change for change in disjoint]
    shares = [n / len(disjoint) for n in _counts(effect.damage * effect.delta, damages)] if disjoint else [None]
    if not any(_close(effect.share, share) for share in shares):
        yield f"share is {effect.share}, but its {len(disjoint)} groups without a common unit make {shares[0]}"


def _counts(own: float, others: Sequence[float]) -> range:
    """How many of the others are at least as extreme; several numbers where stored digits do not decide it."""
    largest = max((abs(value) for value in (own, *others) if math.isfinite(value)), default=0.0)
    low, high = (as_extreme(own + sign * STORED * largest, np.array(others)) for sign in (1, -1))
    return range(low, high + 1)


def _certainty(effect: Effect, closure: ClosureReport) -> Iterator[str]:
    """What is certain about the change must not contradict its interval, its counts or its size."""
    damage, n = effect.damage * effect.delta, closure.n_examples
    rounding = 1e-6 * max(1.0, abs(damage))
    if (effect.harmed and damage <= 0) or (effect.helped and damage >= 0):
        yield f"a change of {effect.delta} is called certain in the other direction"
    if effect.bound is not None and effect.bound < damage - rounding:
        yield f"its damage is {damage}, above the bound {effect.bound}"
    if effect.interval is not None:
        low, high = sorted(effect.damage * end for end in effect.interval)
        if not low - rounding <= damage <= high + rounding:
            yield f"its interval {list(effect.interval)} does not hold {effect.delta}"
        if effect.harmed != (low > 0) and effect.changed is None:
            yield f"its interval {list(effect.interval)} does not agree with harmed={effect.harmed}"
        if closure.test == "exact" and not _close(effect.bound, high):
            yield f"its interval {list(effect.interval)} does not agree with the bound {effect.bound}"
        if effect.helped and high >= 0:
            yield f"its interval {list(effect.interval)} does not agree with helped={effect.helped}"
    if effect.changed is not None:
        worse, better = effect.changed
        if min(worse, better) < 0 or worse + better > n or abs(damage * n - (worse - better)) > 1e-3:
            yield f"{worse} worse and {better} better of {n} examples do not make a change of {effect.delta}"
        elif effect.harmed and Flips(worse, better, n).p_worse > 0.025 and closure.test == "exact":
            yield f"{worse} worse and {better} better of {n} examples show no certain damage"


def _necessity(effect: Effect, inside: Anatomy, share: bool) -> Iterator[str]:
    """The candidate's own statistic, and which of its units can be spared, from what each unit adds."""
    own, examined = effect.damage * effect.delta, [value for value in inside.necessity or () if value is not None]
    if not examined:
        return
    mean = float(np.mean(sorted(examined)[:-1] if len(examined) > 1 else examined))
    expected = mean if not share else mean / own if own > 0 else None
    if not _close(effect.statistic, expected, 1e-5):
        yield f"its statistic is {effect.statistic}, but what its units add makes {expected}"
    if own > 0 and len(inside.necessity or ()) > 1:
        spared = [i for i, adds in enumerate(inside.necessity or ()) if adds is not None and adds <= DISPENSABLE * own]
        if list(inside.dispensable) != spared:
            yield f"its dispensable units are {list(inside.dispensable)}, but what they add makes {spared}"
    elif inside.dispensable:
        yield "units are called dispensable in a group that does no damage"


def _gap(outside: Outside, effect: Effect, closure: ClosureReport, disjoint: Sequence[int], ddof: int) -> Iterator[str]:
    """The gap follows from both changes; its p and z from the gaps of the compared groups."""
    gap, n = effect.damage * (effect.delta - outside.delta), len(outside.gaps)
    if not _close(outside.gap, gap):
        yield f"its gap is {outside.gap}, but its changes inside and outside make {gap}"
    counted = n > 0 and not closure.stopped_early
    possible: list[float | None] = [None]
    if counted:
        possible = [(1 + count) / (1 + n) for count in _counts(outside.gap, outside.gaps)]
    if not any(_close(outside.p, p, 1e-9) for p in possible):
        yield f"p of its gap is {outside.p}, but its {n} compared groups make {possible[0]}"
    others = [outside.gaps[i] for i in disjoint]
    spread, largest = float(np.std(others or [0.0])), max(map(abs, [*others, outside.gap]))
    if spread > 1e-5 * largest and not _close(outside.z, z := z_score(outside.gap, others, ddof), 1e-3):
        yield f"z of its gap is {outside.z}, but its {len(others)} groups without a common unit make {z}"
    if outside.interval is not None and not outside.interval[0] - 1e-6 <= outside.delta <= outside.interval[1] + 1e-6:
        yield f"its interval outside {list(outside.interval)} does not hold {outside.delta}"


def _strata(record: Record, settings: Settings) -> Iterator[str]:
    """The strata hold the examples that candidates were proposed on and judged on; the null makes its z and p."""
    strata = {stratum.name: stratum for stratum in record.strata}
    divided = {partition.stratum for partition in record.partitions} | {closure.stratum for closure in record.closure}
    if record.strata and not divided - {""} <= strata.keys():
        yield f"candidates are of strata {sorted(divided - {''} - strata.keys())}, which it does not describe"
    n = record.provenance.get("batch", {}).get("n")
    both = [sum(stratum.n_proposed for stratum in record.strata), sum(stratum.n_tested for stratum in record.strata)]
    if n is not None and max(both) > n:
        yield f"its strata hold {max(both)} of {n} examples"
    for i, closure in enumerate(record.closure, 1):
        stratum = strata.get(closure.stratum)
        if stratum is None:
            continue
        if closure.n_proposed not in (None, stratum.n_proposed):
            yield f"candidate {i}: it is proposed on {closure.n_proposed} examples of a stratum of {stratum.n_proposed}"
        if closure.scope == "stratum" and closure.n_tested != stratum.n_tested:
            yield f"candidate {i}: it is judged on {closure.n_tested} examples of a stratum of {stratum.n_tested}"
    if (null := record.strata_null) is not None:
        yield from _strata_null(null, record, settings)


def _strata_null(null: StrataNull, record: Record, settings: Settings) -> Iterator[str]:
    found = [partition.agreement.ari for partition in record.partitions if partition.agreement]
    if found and not _close(null.agreement, max(found)):
        yield f"the agreement within strata is {null.agreement}, but its partitions make {max(found)}"
    expected = StrataNull.of(null.agreement, null.null, null.runs, settings.ddof)
    if not _close(null.p, expected.p) or not _close(null.z, expected.z):
        yield f"p and z of the random strata are {null.p} and {null.z}, but they make {expected.p} and {expected.z}"


def _verdicts(record: Record, settings: Settings) -> Iterator[str]:
    """Corrected p-values, verdicts and reasons, as :func:`harness.closure.report.judge` makes them."""
    alpha = settings.alpha
    testable = [i for i, c in enumerate(record.closure) if c.comparable is None or enough(c.comparable, alpha)]
    effects = corrected([closure.effects for closure in record.closure], testable)
    for i, (closure, expected) in enumerate(zip(record.closure, effects, strict=True), 1):
        for name, effect in expected.items():
            told = closure.effects[name].p_adjusted
            if not _close(told, effect.p_adjusted):
                yield f"candidate {i}: {name}: corrected p is {told}, but the p-values make {effect.p_adjusted}"
        verdict, reason = decide(replace(closure, effects=expected).evidence(alpha))
        if verdict is not closure.verdict:
            yield f"candidate {i}: its verdict is {closure.verdict.value}, but its numbers make {verdict.value}"
        elif reason != closure.reason:
            yield f"candidate {i}: its reason is '{closure.reason:.200}', but its numbers make '{reason}'"


def _close(told: float | None, expected: float | None, tolerance: float = 1e-6) -> bool:
    if told is None or expected is None:
        return told is expected
    return math.isclose(told, expected, rel_tol=tolerance, abs_tol=tolerance)
