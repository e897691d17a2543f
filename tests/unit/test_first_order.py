"""First-order damage follows the metric, the intervention and its positions: exact where the model is linear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from harness.data.batch import Counterfactual, Width
from harness.data.contracts import Intervention
from harness.data.first_order import FirstOrder
from harness.data.tokens import Tokens
from harness.data.vectors import Vectors
from harness.engine.hooked import HookedSubject
from harness.engine.sites import Features
from harness.engine.subject import HeadSubject
from harness.registry.config import registry
from harness.testing import examples
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

pytestmark = pytest.mark.unchecked


def build(stage: str, method: str, **parameters: Any) -> Any:
    return registry().get(stage, method).build(parameters)


def attributed(subject: Any, batch: Any, intervention: Any, metric: Any) -> np.ndarray:
    """First-order damage [examples, units]."""
    reader = FirstOrder(build("signal", "attribution"), intervention, metric)
    return np.asarray(subject.record(batch, {"signal": reader}).readings["signal"])


def ablated(subject: Any, batch: Any, intervention: Any, metric: Any) -> np.ndarray:
    """The damage by ablating each unit alone [examples, units]."""
    groups = [(), *((unit,) for unit in range(len(subject.units)))]
    values = subject.evaluate(batch, groups, intervention, [metric], reference=batch)[0]
    return np.asarray(metric.damage * (values[1:] - values[0]).T)


@pytest.fixture(scope="module")
def linear() -> HookedSubject:
    """Two linear layers: every output is linear in what the six hidden units hand on."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Linear(6, 4)).double()
    site = Features("hidden", 0, [f"hidden:{i}" for i in range(6)], module[0])
    return HookedSubject(module, [site], Width(5, 4), "linear")


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    rng = rng_for(0, "vectors")
    inputs, others = (rng.standard_normal((30, 5)).astype(np.float32) for _ in range(2))
    target = rng.integers(4, size=30)
    return Vectors("linear", inputs, target, "class", counterfactual=Counterfactual(others, (target + 1) % 4))


INTERVENTIONS = [
    ("zero", {}),
    ("mean", {"over": "batch"}),
    ("mean", {"over": "reference"}),
    ("patching", {}),
    ("resample", {}),
    ("noise", {}),
    ("scale", {"factor": 0.3}),
]


@pytest.mark.parametrize("metric", ["target_logit", "logit_difference"])
@pytest.mark.parametrize(("name", "parameters"), INTERVENTIONS)
def test_attribution_is_the_damage_by_ablation_where_the_metric_is_linear_in_the_units(
    linear: HookedSubject, vectors: Vectors, name: str, parameters: dict[str, Any], metric: str
) -> None:
    intervention, measure = build("intervention", name, **parameters), build("metric", metric)
    exact = ablated(linear, vectors, intervention, measure)
    assert np.abs(exact).max() > 0.1
    np.testing.assert_allclose(attributed(linear, vectors, intervention, measure), exact, atol=2e-6)


@dataclass(frozen=True)
class Towards(Intervention):
    """An ablated unit moves by this share of the way to its output in the run of the counterfactual."""

    share: float
    positions: Literal["all", "query"] = "all"
    name: ClassVar[str] = "towards"

    def donors(self, batch: Any) -> Any:
        return batch.counterfactual_batch

    def __call__(self, output: torch.Tensor, donor: torch.Tensor) -> torch.Tensor:
        return output + self.share * (donor - output)


@pytest.fixture(scope="module")
def heads(architectures: Mapping[str, Any]) -> HeadSubject:
    return HeadSubject(architectures["llama_gqa"].build().double(), "heads", tokens_per_pass=100)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return examples.batch(n=8, vocab_size=40)


@pytest.mark.parametrize("positions", ["all", "query"])
@pytest.mark.parametrize("metric", ["logit_difference", "log_odds", "loss"])
def test_attribution_of_heads_is_the_slope_of_damage_towards_the_counterfactual(
    heads: HeadSubject, tokens: Tokens, positions: Literal["all", "query"], metric: str
) -> None:
    """A central difference, at the positions of the intervention. Metrics are in float32."""
    measure, step = build("metric", metric), 5e-3
    up, down = (ablated(heads, tokens, Towards(share, positions), measure) for share in (step, -step))
    slope = (up - down) / (2 * step)
    found = attributed(heads, tokens, build("intervention", "patching", positions=positions), measure)
    assert np.abs(slope).max() > 1e-3
    np.testing.assert_allclose(found, slope, atol=0.01 * np.abs(slope).max())


def test_a_reader_without_a_metric_is_given_the_drop_of_the_target_logit_by_zeroing(
    heads: HeadSubject, tokens: Tokens
) -> None:
    alone = heads.record(tokens, {"signal": build("signal", "attribution")}).readings["signal"]
    expected = attributed(heads, tokens, build("intervention", "zero"), build("metric", "target_logit"))
    np.testing.assert_array_equal(alone, expected)


def test_readers_of_two_metrics_share_a_pass(heads: HeadSubject, tokens: Tokens) -> None:
    signal, zero = build("signal", "attribution"), build("intervention", "zero")
    readers = {name: FirstOrder(signal, zero, build("metric", name)) for name in ("loss", "target_logit")}
    together = heads.record(tokens, readers).readings
    for name in readers:
        np.testing.assert_allclose(
            together[name], attributed(heads, tokens, zero, build("metric", name)), rtol=1e-5, atol=1e-8
        )


@pytest.mark.parametrize("metric", ["accuracy", "target_rank"])
def test_a_metric_without_a_gradient_is_refused(linear: HookedSubject, vectors: Vectors, metric: str) -> None:
    with pytest.raises(HarnessError, match=f"metric={metric} has no gradient") as refused:
        attributed(linear, vectors, build("intervention", "zero"), build("metric", metric))
    assert "metric=[logit_difference,accuracy]" in refused.value.fix


def test_counterfactuals_that_the_batch_does_not_have_are_refused(linear: HookedSubject, vectors: Vectors) -> None:
    alone = replace(vectors, counterfactual=None)
    with pytest.raises(HarnessError, match="has no counterfactuals"):
        attributed(linear, alone, build("intervention", "patching"), build("metric", "target_logit"))


def test_the_identity_of_a_reading_depends_on_the_metric_and_the_intervention() -> None:
    signal = build("signal", "attribution")
    readers = [
        FirstOrder(signal, build("intervention", intervention), build("metric", metric))
        for intervention in ("zero", "mean")
        for metric in ("loss", "log_odds")
    ]
    assert len({reader.fingerprint() for reader in readers}) == 4
    assert FirstOrder(signal).fingerprint() == FirstOrder(signal).fingerprint()


def test_a_cell_attributes_by_its_first_metric_and_its_intervention() -> None:
    from harness.cells.cell import Cell
    from harness.cells.inputs import Inputs
    from harness.cells.progress import Progress
    from harness.registry.config import resolve
    from harness.util.cache import Memo

    methods = registry()
    words = ["signal=attribution", "intervention=mean", "intervention.positions=query", "batch.n=8", "cache=false"]
    cell = Cell.of(resolve([*words, "metric=[log_odds,loss]"], methods), methods)
    inputs = Inputs.gather(cell, Memo(), Progress(), test=False)
    recording = inputs.recording()
    assert recording is not None
    intervention, metric = build("intervention", "mean", positions="query"), build("metric", "log_odds")
    expected = attributed(inputs.subject, inputs.proposal_half, intervention, metric)
    np.testing.assert_allclose(recording.readings["signal"], expected, rtol=1e-6)


# -- integrated gradients ----------------------------------------------------------------------------------------------


def integrated(subject: Any, batch: Any, intervention: Any, metric: Any, steps: int) -> np.ndarray:
    reader = FirstOrder(build("signal", "integrated_gradients", steps=steps), intervention, metric)
    return np.asarray(subject.record(batch, {"signal": reader}).readings["signal"])


def test_integrated_gradients_add_up_to_the_damage_by_the_counterfactual(vectors: Vectors) -> None:
    """Completeness (Sundararajan et al. 2017): units that are linear in the input share m(x) - m(x') among them."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4)
    module = torch.nn.Sequential(*layers).double()
    with torch.no_grad():
        layers[0].weight *= 3  # saturated
    site = Features("hidden", 0, [f"hidden:{i}" for i in range(6)], module[0])
    subject = HookedSubject(module, [site], Width(5, 4), "tanh")
    patching, metric = build("intervention", "patching"), build("metric", "logit_difference")
    here, there = (subject.evaluate(vectors, [group], patching, [metric])[0, 0] for group in ((), tuple(range(6))))
    total = (metric.damage * (there - here)).astype(float)
    error = {
        steps: np.abs(integrated(subject, vectors, patching, metric, steps).sum(axis=1) - total).max()
        for steps in (1, 50)
    }
    assert error[50] < 2e-2 * np.abs(total).max()
    assert np.abs(attributed(subject, vectors, patching, metric).sum(axis=1) - total).max() > 20 * error[50]


@dataclass(frozen=True)
class Push(Intervention):
    """What an ablated unit hands on is more by one, whatever the run: its slope is the gradient alone."""

    name: ClassVar[str] = "push"

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output + 1


def test_integrated_gradients_of_heads_are_the_mean_of_attributions_on_the_path(
    heads: HeadSubject, tokens: Tokens
) -> None:
    """At shares .25 and .75 of the way, with embeddings that are moved from outside, example by example."""
    metric, embeddings = build("metric", "logit_difference"), heads.model.get_input_embeddings()
    found = integrated(heads, tokens, Push(), metric, 2)
    expected = np.zeros_like(found)
    for row in range(len(tokens)):
        part = tokens.take(np.array([row]))
        assert part.counterfactual is not None
        cut = slice(0, int(part.query[0]) + 1)
        here, there = (torch.from_numpy(ids[:, cut]) for ids in (part.tokens, part.counterfactual.content))
        for share in (0.25, 0.75):
            change = share * (embeddings.weight[there] - embeddings.weight[here]).detach()
            handle = embeddings.register_forward_hook(lambda _m, _i, output, change=change: output + change)
            try:
                expected[row] += attributed(heads, part, Push(), metric)[0] / 2
            finally:
                handle.remove()
    assert np.abs(found).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max(), rtol=1e-4)
    assert np.abs(found - attributed(heads, tokens, Push(), metric)).max() > 1e-2 * np.abs(found).max()


def test_integrated_gradients_need_counterfactuals(heads: HeadSubject, tokens: Tokens) -> None:
    with pytest.raises(HarnessError, match="has no counterfactuals"):
        integrated(
            heads, replace(tokens, counterfactual=None), build("intervention", "zero"), build("metric", "loss"), 2
        )
