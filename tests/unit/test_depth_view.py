"""Mass against effect: the figures of `harness depth`, on made-up models whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy

from harness.board.depth import DepthRouting, Routing, difference
from harness.board.depth_page import as_data, sentences, write
from harness.cells.route_effects import RouteEffects
from harness.util.errors import HarnessError

SUBLAYERS = ("attn", "mlp")
ORIGINS = ("embedding", "b1", "current")
BANDS = ("early", "middle", "late")
N = 100


def made(
    arm: str, seed: int, mass: dict[str, float], effect: dict[str, float], content: float = 0.05, noise: float = 0.01
) -> RouteEffects:
    """Three layers of one band each, three sources per router. Mass and effect by unit; others have .2 and 0."""
    rng = np.random.default_rng(seed)
    rows = [(f"L{layer}.{s}", s, BANDS[layer], o) for layer in range(3) for s in SUBLAYERS for o in ORIGINS]
    units = [f"{reader}<-{origin}" for reader, _, _, origin in rows]
    origins = tuple("older" if origin == "b1" else origin for *_, origin in rows)
    weights = np.array([mass.get(unit, 0.2) for unit in units])
    alone = np.array([effect.get(unit, 0.0) for unit in units]) + noise * rng.standard_normal((N, len(units)))
    classes = [(s, o) for (_, s, _, _), o in zip(rows, origins, strict=True)]
    parts = [(b, *c) for (_, _, b, _), c in zip(rows, classes, strict=True)]
    together = {
        each: alone[:, [each in pair for pair in zip(classes, parts, strict=True)]].sum(1)
        for each in dict.fromkeys([*classes, *parts])
    }
    return RouteEffects(
        arm, seed, "task", "loss", tuple(units), tuple(row[0] for row in rows), tuple(row[3] for row in rows),
        tuple(row[2] for row in rows), tuple(row[1] for row in rows), origins,
        weights + content * rng.standard_normal((N, len(units))), np.full(len(units), 0.2), 1.0 + 0.1 * seed,
        np.array([effect.get(unit, 0.0) for unit in units]) + noise / N**0.5 * rng.standard_normal(len(units)),
        alone, together,
    )  # fmt: skip


APART = ({"L0.mlp<-embedding": 0.7}, {"L1.mlp<-current": 0.5, "L0.mlp<-embedding": 0.04})


def test_the_largest_mass_is_apart_from_the_largest_effect_where_they_are_different_units() -> None:
    largest = Routing(made("trained", 0, *APART)).largest["mlp"]
    assert (largest.mass, largest.effect, largest.apart) == ("L0.mlp<-embedding", "L1.mlp<-current", True)
    assert largest.difference.value == pytest.approx(0.46, abs=0.01)
    assert largest.difference.low == pytest.approx(0.46, abs=0.01)


def test_they_are_not_apart_where_nothing_has_an_effect() -> None:
    apart = [Routing(made("a", seed, {"L0.mlp<-embedding": 0.7}, {})).largest["mlp"].apart for seed in range(30)]
    assert sum(apart) <= 4  # 2.5 % each, one side of a 95 % interval: more than 4 of 30 has probability .001


def test_the_rank_agreement_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    model = made("a", 0, {}, {})
    values = rng.random((2, len(model.units)))
    model = replace(model, weights=np.tile(values[0], (N, 1)), alone=np.tile(values[1], (N, 1)))
    here = np.array([each == "attn" for each in model.sublayers])
    expected = scipy.stats.spearmanr(values[0, here], values[1, here]).statistic
    found = Routing(model).ranks["attn"]
    assert found.value == pytest.approx(expected)
    assert found.interval == pytest.approx((expected, expected))  # no example differs


def test_the_interval_of_the_rank_agreement_covers_that_of_the_means_it_estimates() -> None:
    rng = np.random.default_rng(1)
    mass, effect = rng.random(18), rng.random(18)
    truth = scipy.stats.spearmanr(mass, effect).statistic
    covered = 0
    for seed in range(20):
        model = made("a", seed, {}, {}, content=0, noise=0)
        drawn = np.random.default_rng(100 + seed)
        noisy = [values + 0.5 * drawn.standard_normal((N, 18)) for values in (mass, effect)]
        low, high = Routing(replace(model, weights=noisy[0], alone=noisy[1])).rank_agreement().interval or (0, 0)
        covered += low <= truth <= high
    assert covered >= 15  # .95 of 20; fewer than 15 has probability 3e-4


def test_a_family_with_mass_and_no_role_needs_a_bound_and_not_a_large_interval() -> None:
    effect = {"L1.attn<-embedding": 0.5}
    idle = {" ".join(family.of) for family in Routing(made("a", 0, {}, effect)).idle()}
    assert {"attn older", "attn current"} <= idle
    assert "attn embedding" not in idle
    harmful = {f"L{layer}.attn<-current": -0.2 for layer in range(3)}
    assert "attn current" not in {" ".join(f.of) for f in Routing(made("a", 0, {}, {**effect, **harmful})).idle()}
    assert not [f for f in Routing(made("a", 0, {}, effect, noise=2.0)).idle() if f.of[0] == "attn"]
    unused = {f"L{layer}.attn<-b1": 0.05 for layer in range(3)}
    assert "attn older" not in {" ".join(f.of) for f in Routing(made("a", 0, unused, effect)).idle()}


def test_a_motif_has_more_mass_than_fixed_routing_and_is_needed() -> None:
    mass = {"L0.mlp<-embedding": 0.6, "L2.attn<-b1": 0.5, "L1.mlp<-b1": 0.5}
    effect = {"L0.mlp<-embedding": 0.3, "L2.attn<-b1": 0.2, "L1.mlp<-current": 0.4}
    model = Routing(made("a", 0, mass, effect))
    assert {family.of for family in model.motifs()} == {("early", "mlp", "embedding"), ("late", "attn", "older")}
    assert model.strata == pytest.approx(0.4, abs=0.02)
    assert Routing(made("a", 0, {}, effect, content=0)).strata == pytest.approx(0, abs=1e-9)


def test_content_is_the_root_of_the_mean_variance() -> None:
    assert Routing(made("a", 0, {}, {}, content=0.1)).content == pytest.approx(0.1, rel=0.05)
    assert Routing(made("a", 0, {}, {}, content=0)).content == pytest.approx(0, abs=1e-9)


def test_p_of_a_difference_counts_signs() -> None:
    """All six alike: 2 of 64 signs are as extreme. t interval as in scipy."""
    changes = np.array([0.1, 0.3, 0.2, 0.25, 0.15, 0.2])
    found = difference("loss", "a", changes)
    assert found.p == pytest.approx(2 / 64)
    expected = scipy.stats.ttest_1samp(changes, 0).confidence_interval()
    assert found.estimate.interval == pytest.approx((expected.low, expected.high))
    assert difference("loss", "a", np.array([1.0, -1.0])).p == 1
    assert difference("loss", "a", np.array([1.0])).p is None


@pytest.fixture
def found() -> DepthRouting:
    fixed = [made("wrapped", seed, {}, {"L1.mlp<-current": 0.4}, content=0) for seed in range(4)]
    return DepthRouting.of([*fixed, *(made("trained", seed, *APART) for seed in range(4))])


def test_the_answers_come_first_and_say_on_how_many_models_they_rest(found: DepthRouting) -> None:
    strata, motifs, attention, mlp, idle = sentences(found)
    assert strata.startswith("SUPPORTED: strata only with trained routing. trained 0.50 [")
    assert strata.endswith("0 by construction: wrapped (analytic weights to 0e+00).")
    assert motifs.startswith(
        "NOT SUPPORTED, trained: the published motifs. early mlp embedding in 4, early attn current in 0"
    )
    assert attention.startswith("NOT SUPPORTED, trained, attn")
    assert mlp.startswith("SUPPORTED, trained, mlp: the largest mass is not the largest effect.")
    assert mlp.endswith("Apart in 4 of 4 models, the same unit in 0.")
    assert "trained: a family with mass and no role" in idle


def test_files_have_tables_data_and_a_picture(found: DepthRouting, tmp_path: Path) -> None:
    text = write(found, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"depth.md", "depth.json", "depth.png"}
    assert text.index("SUPPORTED") < text.index("## Arms") < text.index("## Differences from trained")
    data = as_data(found)
    row = next(row for row in data["differences"] if row["statistic"] == "loss")
    assert (row["arm"], row["pairs"], row["difference"]) == ("wrapped", "4", "+0.000 [+0.000, +0.000]")
    assert len(data["models"]) == 8
    assert len(data["models"][0]["units"]) == 18


def test_cells_of_several_tasks_are_not_compared() -> None:
    with pytest.raises(HarnessError, match="the cells have 2 tasks"):
        DepthRouting.of([made("a", 0, {}, {}), replace(made("b", 0, {}, {}), task="other")])
