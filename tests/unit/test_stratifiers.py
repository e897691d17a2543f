"""Stratifiers: routes, random strata and k-means, on readings whose strata are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from scipy import stats
from sklearn.metrics import adjusted_rand_score
from transformers import AutoModelForCausalLM

from harness import HarnessError, Recording, Rows, Strata, method
from harness.cells.inputs import cache_of
from harness.cells.progress import Progress
from harness.notebook.choices import cell_of
from harness.pipeline import run_cell
from harness.testing import examples
from harness.util.cache import Memo

SIZES = (6, 8, 3)
"""Experts of three routers."""


def routed(n: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities by router [n, experts], and the route of every example: each route prefers its own experts."""
    rng = np.random.default_rng(seed)
    route = np.arange(n) % 4
    wanted = np.random.default_rng(99)
    layers = [np.log(wanted.dirichlet(np.full(size, 0.2), 4) + 0.01)[route] for size in SIZES]
    logits = [layer + 0.1 * rng.normal(size=layer.shape) for layer in layers]
    return [np.exp(layer) / np.exp(layer).sum(axis=1, keepdims=True) for layer in logits], route


def recording(stratifier: Any, n: int = 200, seed: int = 0) -> Recording:
    """What a subject with these routers records for the stratifier."""
    batch, everything = examples.batch(n), np.arange(n)
    layers, _ = routed(n, seed)
    rows = [
        Rows("router", f"L{layer}.router", values[:, :, None].astype(np.float32), batch, batch, everything)
        for layer, values in enumerate(layers)
    ]
    return Recording(batch, examples.UNITS, {"stratifier": np.concatenate([stratifier.read(r) for r in rows], axis=1)})


def routes(**parameters: Any) -> Any:
    return method("stratifier", "routes", **parameters)


@pytest.mark.parametrize("code", ["probability", "top1"])
def test_examples_of_one_route_are_one_stratum(code: str) -> None:
    stratifier = routes(code=code)
    strata = stratifier(recording(stratifier))
    assert strata.names == ("route 0", "route 1", "route 2", "route 3")
    assert adjusted_rand_score(routed(200)[1], strata.of(recording(stratifier))) == 1
    others = recording(stratifier, n=40, seed=5)  # other examples, on which nothing was fitted
    assert adjusted_rand_score(routed(40)[1], strata.of(others)) == 1


def test_an_example_is_in_the_stratum_of_the_nearest_centre() -> None:
    """The centres are the means of the examples that they hold; k-means has converged."""
    stratifier = routes(k=3, smallest=2)
    fitted, others = recording(stratifier), recording(stratifier, n=50, seed=3)
    strata = stratifier(fitted)
    of_fitted, readings = strata.of(fitted), fitted.readings["stratifier"].astype(float)
    centres = np.array([readings[of_fitted == stratum].mean(axis=0) for stratum in range(3)])
    distance = np.linalg.norm(others.readings["stratifier"][:, None] - centres, axis=2)
    assert (strata.of(others) == distance.argmin(axis=1)).all()


def test_probabilities_are_side_by_side_and_top_experts_are_one_hot() -> None:
    layers, _ = routed(200)
    np.testing.assert_allclose(
        recording(routes()).readings["stratifier"], np.concatenate(layers, axis=1).astype(np.float32)
    )
    top = recording(routes(code="top1")).readings["stratifier"]
    assert set(np.unique(top)) == {0, 1}
    starts = np.cumsum([0, *SIZES])
    for start, stop, values in zip(starts, starts[1:], layers, strict=False):
        assert (top[:, start:stop].sum(axis=1) == 1).all()
        assert (top[:, start:stop].argmax(axis=1) == values.argmax(axis=1)).all()


def test_a_small_stratum_is_left_out() -> None:
    stratifier = routes(smallest=20)
    some = recording(stratifier)
    kept = np.flatnonzero((routed(200)[1] != 2) | (np.arange(200) < 60))  # route 2 keeps 15 of 50 examples
    part = Recording(some.batch.take(kept), some.units, {"stratifier": some.readings["stratifier"][kept]})
    strata = stratifier(part)
    assert len(strata.names) == 3
    assert (routed(200)[1][kept][strata.of(part) == -1] == 2).all()
    assert (strata.of(part) == -1).sum() == 15


@pytest.mark.parametrize(
    ("stratifier", "n", "message"),
    [
        (routes(k=9), 8, "stratifier routes: 8 examples are proposed on, which is fewer than k=9"),
        (routes(k=70, code="top1"), 200, "have 7 different readings, which is fewer than k=70"),
        (routes(smallest=150), 200, "stratifier routes: none of 4 strata has 150 of the 200 examples proposed on; the"),
        (method("stratifier", "random", k=9), 8, "stratifier random: 8 examples are proposed on, which is fewer than"),
        (method("stratifier", "random", smallest=150), 200, "stratifier random: none of 4 strata has 150 of the 200"),
    ],
)
def test_strata_that_cannot_be_formed_are_refused(stratifier: Any, n: int, message: str) -> None:
    reads = stratifier if stratifier.name == "routes" else routes()
    with pytest.raises(HarnessError, match=message):
        stratifier(recording(reads, n))


# ----------------------------------------------------------------------------------------------------------------------
# Random strata
# ----------------------------------------------------------------------------------------------------------------------


def drawn(n: int, **parameters: Any) -> tuple[Strata, Recording]:
    whole = Recording(examples.batch(n), examples.UNITS, {})
    return method("stratifier", "random", smallest=2, **parameters)(whole), whole


def test_random_strata_are_uniform_and_independent_of_each_other() -> None:
    n = 600
    (first, whole), (second, _) = drawn(n, seed=0), drawn(n, seed=1)
    one, other = first.of(whole), second.of(whole)
    assert stats.chisquare(np.bincount(one, minlength=4)).pvalue > 0.001
    table = np.zeros((4, 4))
    np.add.at(table, (one, other), 1)
    assert stats.chi2_contingency(table).pvalue > 0.001
    assert (first.of(whole) == drawn(n, seed=0)[0].of(whole)).all()


def test_an_example_keeps_its_random_stratum_in_any_company() -> None:
    strata, whole = drawn(60)
    of_whole = strata.of(whole)
    for chosen in (np.arange(0, 60, 7), np.array([5]), np.arange(60)[::-1]):
        part = Recording(whole.batch.take(chosen), whole.units, {})
        assert (strata.of(part) == of_whole[chosen]).all()


# ----------------------------------------------------------------------------------------------------------------------
# Cells
# ----------------------------------------------------------------------------------------------------------------------


def run(folder: Path, *words: str) -> Any:
    cell = cell_of((f"workspace={folder}", "reruns=1", "controls.n=9", "tracking=none", *words), {})
    return run_cell(cell, Memo(disk=cache_of(cell)), Progress(quiet=True))


def test_a_cell_proposes_on_every_route_of_a_mixture_of_experts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hf.OlmoeConfig(
        vocab_size=64, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_experts=6, num_experts_per_tok=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=None,
        initializer_range=0.3,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "moe")
    words = ("subject=hf", f"subject.path={tmp_path / 'moe'}", "batch=random_repeat", "batch.n=128")
    words += ("labels=none", "stratifier=routes", "stratifier.k=2", "stratifier.smallest=10", "scope=stratum")
    result = run(tmp_path, *words)
    assert [proposal.stratum for proposal in result.proposals] == ["route 0", "route 1"]
    assert sum(len(proposal.batch) for proposal in result.proposals) == 64
    with pytest.raises(HarnessError, match="signal reads 'router', which gives one number per expert"):
        run(tmp_path, *words, "signal=router_probability")


def test_a_stratum_with_fewer_examples_than_the_affinity_needs_is_refused(tmp_path: Path) -> None:
    words = ("subject=planted", "batch=planted", "batch.n=16", "stratifier=groups", "stratifier.by=stratum")
    with pytest.raises(HarnessError, match=r"affinity .* needs 3 observations; stratum '\d' has 2 to propose on"):
        run(tmp_path, *words, "stratifier.smallest=2", "affinity=pearson")
