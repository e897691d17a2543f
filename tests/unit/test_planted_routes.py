"""The planted world with routes: every group against its closed form, and what marginal and routed proposals find."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import f_oneway
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from harness import HarnessError
from harness.cells.inputs import cache_of
from harness.cells.progress import Progress
from harness.closure.verdict import Verdict
from harness.data.batch import Batch
from harness.data.recording import Recording
from harness.notebook.choices import cell_of
from harness.pipeline import run_cell
from harness.registry.config import registry
from harness.util.cache import Memo

EFFECT, BIAS = 2.0, 1.0  # the defaults
ROUTES = range(4)
SMALL = {"layers": 6, "width": 8}
BY_ROUTE = ("stratifier=groups", "stratifier.by=stratum", "scope=stratum")


@cache
def planted(**parameters: Any) -> Any:
    """A world, by default without noise."""
    return registry().get("subject", "planted_routes").build({"noise": 0.0, **parameters})()


def examples(subject: Any, n: int = 64, seed: int = 0) -> Batch:
    batch: Batch = registry().get("batch", "planted").build({"n": n, "seed": seed})(subject.reads)
    return batch


def called(batch: Batch) -> np.ndarray:
    """Whether each circuit has its route and its feature, by the rule in the docstring [routes, examples]."""
    return np.array([(batch.groups["stratum"] == r) & (batch.tokens[:, 2 + r] % 2 == 1) for r in ROUTES])


def damage(subject: Any, batch: Batch, *groups: tuple[int, ...], by: str = "zero") -> np.ndarray:
    """The decrease of the target logit [groups, examples]."""
    metric, intervention = (
        registry().get(*key).build({}) for key in (("metric", "target_logit"), ("intervention", by))
    )
    values = subject.evaluate(batch, [(), *groups], intervention, [metric], lambda _: None)[0]
    found: np.ndarray = values[0] - values[1:]
    return found


def read(subject: Any, batch: Batch, signal: str) -> np.ndarray:
    reader = registry().get("signal", signal).build({})
    recording: Recording = subject.record(batch, {"signal": reader}, lambda _: None)
    return recording.readings["signal"]


def circuits(subject: Any) -> list[tuple[int, ...]]:
    return [subject.groups[f"route {r}"][0] for r in ROUTES]


def run(folder: Path, *words: str, test: bool = True) -> Any:
    fixed = ("subject=planted_routes", "batch=planted", "labels=none", "tracking=none", f"workspace={folder}")
    cell = cell_of((*fixed, *words), {})
    return run_cell(cell, Memo(disk=cache_of(cell)), Progress(quiet=True), test).record


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("by", ["zero", "mean"])
def test_removing_any_part_of_a_circuit_costs_its_whole_effect_on_its_route_and_nothing_elsewhere(
    seed: int, by: str
) -> None:
    subject = planted(seed=seed)
    batch = examples(subject, 200, seed)
    for group, on in zip(circuits(subject), called(batch), strict=True):
        parts = [part for size in (1, 4) for part in combinations(group, size)]
        found = damage(subject, batch, *parts, by=by)
        np.testing.assert_allclose(found, np.tile(EFFECT * on, (5, 1)), atol=1e-6)
        assert not found[:, ~on].any()


def test_the_baseline_answer_is_raised_by_the_circuit_of_the_route_alone() -> None:
    subject = planted()
    batch = examples(subject)
    metric, zero = registry().get("metric", "target_logit").build({}), registry().get("intervention", "zero").build({})
    values = subject.evaluate(batch, [()], zero, [metric], lambda _: None)[0, 0]
    np.testing.assert_allclose(values, BIAS + EFFECT * called(batch).sum(axis=0), rtol=1e-6)


def test_a_circuit_goes_together_on_its_route_and_routes_switch_every_other_unit() -> None:
    subject = planted()
    batch = examples(subject, 400)
    on, route = read(subject, batch, "max_attention") > 0.5, batch.groups["stratum"]
    for r, (group, expected) in enumerate(zip(circuits(subject), called(batch), strict=True)):
        here = route == r
        np.testing.assert_array_equal(on[np.ix_(here, group)], np.tile(expected[here], (4, 1)).T)
        others = np.setdiff1d(
            np.arange(len(subject.units)), [*group, *sum((subject.groups[d][0] for d in ("early", "late")), ())]
        )
        assert all(len(set(column)) == 1 for column in on[np.ix_(here, others)].T)  # all on, or all off
    filler = [unit for unit, role in enumerate(subject.truth.classes) if role is None]
    switched = np.array([on[route == r][0, filler] for r in ROUTES])
    assert (switched.sum(axis=0) == 2).all()


def test_over_all_examples_units_of_other_circuits_are_as_alike_as_those_of_one() -> None:
    """The route makes pairs alike that do nothing together. On one route only units of its circuit are alike."""
    for seed in range(3):
        subject = planted(seed=seed)
        batch = examples(subject, 800, seed)
        activity, route = read(subject, batch, "max_attention"), batch.groups["stratum"]
        truth = np.array([role or "" for role in subject.truth.classes])
        marginal = np.abs(np.corrcoef(activity.T))
        inside = np.median([marginal[i, j] for group in circuits(subject) for i, j in combinations(group, 2)])
        filler = np.flatnonzero(truth == "")
        outside = marginal[np.ix_(filler, filler)][np.triu_indices(len(filler), 1)]
        assert np.mean(outside > inside) > 0.25
        for r, group in enumerate(circuits(subject)):
            here = np.abs(np.corrcoef(activity[route == r].T))
            assert min(here[i, j] for i, j in combinations(group, 2)) > 0.8
            assert here[np.ix_(filler, filler)][np.triu_indices(len(filler), 1)].max() < 0.4


@pytest.mark.parametrize("seed", [0, 1])
def test_routers_prefer_two_experts_per_route(seed: int) -> None:
    """Without noise: exp(2) / (2 exp(2) + 6) for two experts of each router, 1 / (2 exp(2) + 6) for the other six."""
    subject = planted(seed=seed, router_noise=0.0)
    batch = examples(subject)
    found, route = read(subject, batch, "router_probability").reshape(64, 3, 8), batch.groups["stratum"]
    high, low = np.exp(2) / (2 * np.exp(2) + 6), 1 / (2 * np.exp(2) + 6)
    np.testing.assert_allclose(np.sort(found, axis=2), np.tile([low] * 6 + [high] * 2, (64, 3, 1)), rtol=1e-5)
    for layer in range(3):
        preferred = [frozenset(np.flatnonzero(found[route == r, layer].mean(axis=0) > 0.2).tolist()) for r in ROUTES]
        assert [len(experts) for experts in preferred] == [2] * 4
        assert frozenset().union(*preferred) == frozenset(range(8))


def test_routers_tell_the_route_despite_noise_and_are_probabilities() -> None:
    subject = planted()
    batch = examples(subject, 300)
    found = read(subject, batch, "router_probability")
    np.testing.assert_allclose(found.reshape(300, 3, 8).sum(axis=2), 1.0, rtol=1e-5)
    told = KMeans(4, n_init=10, random_state=0).fit_predict(found)
    assert adjusted_rand_score(batch.groups["stratum"], told) > 0.95
    later = examples(subject, 300).take(np.arange(300)[::-1])
    np.testing.assert_array_equal(read(subject, later, "router_probability"), found[::-1])


def test_without_routes_circuits_work_everywhere_and_nothing_knows_the_route() -> None:
    subject = planted(routed=False)
    batch = examples(subject, 600)
    on = batch.tokens[:, 2:6].T % 2 == 1
    np.testing.assert_allclose(damage(subject, batch, *circuits(subject)), EFFECT * on, atol=1e-6)
    activity, route = read(subject, batch, "max_attention"), batch.groups["stratum"]
    members = {unit for kind in ("early", "late", *(f"route {r}" for r in ROUTES)) for unit in subject.groups[kind][0]}
    independent = [unit for unit in range(len(subject.units)) if unit not in members]
    p = [f_oneway(*(activity[route == r, unit] for r in ROUTES)).pvalue for unit in independent]
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.12  # 0.05 of about a hundred units


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_routed_circuit_passes_closure_in_its_stratum_and_only_there(tmp_path: Path, seed: int) -> None:
    subject = planted(seed=seed, noise=0.05)
    for r in ROUTES[:2]:
        named = ",".join(subject.units.names(circuits(subject)[r]))
        words = (f"subject.seed={seed}", f"batch.seed={seed}", "batch.n=400", "controls.n=99", f"group=[{named}]")
        verdicts = {report.stratum: report.verdict for report in run(tmp_path, *words, *BY_ROUTE).closure}
        assert verdicts.pop(str(r)) is Verdict.PASS
        assert len(verdicts) == 3
        assert {Verdict.PASS, Verdict.WEAK_PASS}.isdisjoint(verdicts.values())


def test_marginal_proposals_miss_the_circuits_that_proposals_on_one_route_find(tmp_path: Path) -> None:
    """Over three worlds: how many of twelve circuits are a candidate, but for at most one unit."""
    method = ("affinity=mutual_information", "partitioner=agglomerative", "reruns=1")
    found = {"marginal": 0, "routed": 0}
    for seed in range(3):
        subject = planted(seed=seed, **SMALL)
        world = [f"subject.{key}={value}" for key, value in {**SMALL, "seed": seed}.items()]
        for name, words in (("marginal", ()), ("routed", BY_ROUTE)):
            record = run(tmp_path, *world, f"batch.seed={seed}", "batch.n=800", *method, *words, test=False)
            proposed = [set(candidate.units) for candidate in record.candidates]
            for group in circuits(subject):
                named = set(subject.units.names(group))
                found[name] += max(len(named & units) / len(named | units) for units in proposed) >= 0.75
    assert found["routed"] >= 9, found
    assert found["marginal"] == 0, found


def test_answers_that_divide_unevenly_into_routes_are_refused() -> None:
    with pytest.raises(HarnessError, match=r"subject\.answers=10"):
        planted(answers=10)
