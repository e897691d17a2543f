"""Interventions against a hook on each projection, one example and condition at a time, and against theory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch import Batch, Counterfactual
from harness.data.contracts import Intervention, Metric
from harness.data.tokens import Tokens
from harness.engine.replacement import noise_of
from harness.engine.sharing import NOTHING, Shared
from harness.engine.subject import HeadSubject
from harness.registry.config import registry
from harness.registry.registry import Registry
from harness.util.errors import HarnessError

HOOKED = ("gpt2", "llama_gqa", "olmoe", "gemma2_softcap", "gpt_bigcode")
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("zero", {}),
    ("mean", {}),
    ("mean", {"over": "batch", "per": "position"}),
    ("mean", {"per": "position"}),
    ("resample", {"seed": 3}),
    ("patching", {}),
)
HEADS = [[(0, 2), (2, 0), (2, 3)], [(layer, head) for layer in (1, 3) for head in range(4)]]


@cache
def offered() -> Registry:
    return registry()


def build(name: str, **parameters: Any) -> Any:
    return offered().get("intervention", name).build(parameters)


def batch_of(seed: int, query: Sequence[int], name: str = "made", vocabulary: int = 48) -> Batch:
    """Random tokens up to each query and beyond it. A counterfactual shares only the query's token with its example."""
    rng = np.random.default_rng(seed)
    at = np.array(query)
    n, length = len(at), max(query) + 2
    tokens, other = rng.integers(3, vocabulary, (2, n, length))
    other[np.arange(n), at] = tokens[np.arange(n), at]
    target, answer = rng.integers(3, vocabulary, (2, n))
    anchors = {"first-token": np.zeros((n, 1), dtype=np.int64)}
    return Tokens(name, tokens, at, target, anchors, "successor", counterfactual=Counterfactual(other, answer))


@pytest.fixture
def batch() -> Batch:
    return batch_of(1, [15, 9, 4, 15])


@pytest.fixture
def reference() -> Batch:
    """Other examples, one of them longer than all that are tested."""
    return batch_of(2, [18, 6, 15])


# -- by hooks, one example and one condition at a time -----------------------------------------------------------------

Written = Mapping[int, torch.Tensor]


def with_hooks(architecture: Any, hook: Callable[[int, torch.Tensor], torch.Tensor], tokens: np.ndarray) -> np.ndarray:
    """The logits of the last position if ``hook`` replaces the input of each layer's output projection."""
    model = architecture.eager

    def on(layer: int) -> Any:
        def enter(_: Any, args: Any) -> Any:
            return (hook(layer, args[0].unflatten(-1, (4, -1))).flatten(-2).reshape(args[0].shape), *args[1:])

        return model.get_submodule(architecture.projection.format(layer)).register_forward_pre_hook(enter)

    handles = [on(layer) for layer in range(4)]
    try:
        with torch.no_grad():
            logits: np.ndarray = model(torch.from_numpy(tokens[None]), use_cache=False).logits[0, -1].numpy()
            return logits
    finally:
        for handle in handles:
            handle.remove()


def written(architecture: Any, tokens: np.ndarray) -> Written:
    """The outputs of the heads of each layer at each position [positions, heads, head_dim]."""
    found = {}

    def keep(layer: int, heads: torch.Tensor) -> torch.Tensor:
        found[layer] = heads.reshape(len(tokens), 4, -1).clone()
        return heads

    with_hooks(architecture, keep, tokens)
    return found


def texts(batch: Batch) -> list[np.ndarray]:
    return [tokens[: query + 1] for tokens, query in zip(batch.tokens, batch.query, strict=True)]


def instead(
    architecture: Any, name: str, parameters: Mapping[str, Any], batch: Batch, reference: Batch
) -> list[Written]:
    """Replaced outputs of ablated heads per example and layer [positions or 1, heads, head_dim], by definition."""
    if name == "zero":
        return [{layer: torch.zeros(1, 4, 1) for layer in range(4)}] * len(batch)
    if name == "patching":
        return [written(architecture, text) for text in texts(batch.counterfactual_batch)]
    if name == "resample":
        return [written(architecture, text) for text in texts(build(name, **parameters).donors(batch))]
    seen = [written(architecture, text) for text in texts(batch if parameters.get("over") == "batch" else reference)]
    if parameters.get("per") != "position":
        whole = {layer: torch.cat([outputs[layer] for outputs in seen]).mean(dim=0, keepdim=True) for layer in range(4)}
        return [whole] * len(batch)
    return [
        {
            layer: torch.stack(
                [
                    torch.stack([outputs[layer][t] for outputs in seen if t < len(outputs[layer])]).mean(dim=0)
                    for t in range(len(text))
                ]
            )
            for layer in range(4)
        }
        for text in texts(batch)
    ]


def by_hooks(architecture: Any, instead_of: Sequence[Written], batch: Batch, positions: str) -> np.ndarray:
    """Logits [vocabulary, conditions, examples] with the outputs of each group of HEADS replaced."""
    expected = np.empty((48, len(HEADS), len(batch)))
    for example, (text, new) in enumerate(zip(texts(batch), instead_of, strict=True)):
        for condition, group in enumerate(HEADS):

            def put(layer: int, heads: torch.Tensor, group: Any = group, new: Written = new) -> torch.Tensor:
                changed = heads.clone()
                where = slice(None) if positions == "all" else slice(-1, None)
                for head in (head for at, head in group if at == layer):
                    changed[..., where, head, :] = new[layer][where, head]
                return changed

            expected[:, condition, example] = with_hooks(architecture, put, text)
    return expected


@pytest.mark.parametrize("positions", ["all", "query"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("hooked", HOOKED)
def test_an_intervention_equals_a_hook(
    hooked: str, kind: tuple[str, dict[str, Any]], positions: str, architectures: Any, batch: Batch, reference: Batch,
    every_logit: Any,
) -> None:  # fmt: skip
    architecture, (name, parameters) = architectures[hooked], kind
    new = instead(architecture, name, parameters, batch, reference)
    expected = by_hooks(architecture, new, batch, positions)
    subject = HeadSubject(architecture.build(), "test", tokens_per_pass=150)
    conditions = [tuple(4 * layer + head for layer, head in group) for group in HEADS]
    intervention = build(name, positions=positions, **parameters)
    ours = subject.evaluate(batch, [*conditions, ()], intervention, every_logit, reference=reference)
    np.testing.assert_allclose(ours[:, :-1], expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    moved = np.abs(ours[:, :-1] - ours[:, [-1]]).max(axis=(0, 2))
    assert (moved > 1e-3).all(), "an intervention without effect shows nothing"


@dataclass(frozen=True)
class Disturbed(Intervention):
    """A random output with the mean and the standard deviation of the unit's output."""

    name: ClassVar[str] = "disturbed"
    seed: int = 5
    positions: Literal["all", "query"] = "all"
    over: Literal["batch", "reference"] = "reference"
    per: Literal["all", "position"] = "all"

    def __call__(self, mean: torch.Tensor, std: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return mean + std * noise


def disturbed(architecture: Any, kind: Disturbed, batch: Batch, reference: Batch) -> list[Written]:
    """Replaced outputs by definition; the noise is drawn per example, for its own positions only."""
    seen = [written(architecture, text) for text in texts(batch if kind.over == "batch" else reference)]

    def moments_at(layer: int, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        if kind.per == "all":
            values = torch.cat([outputs[layer] for outputs in seen])
        else:
            values = torch.stack([outputs[layer][place] for outputs in seen if place < len(outputs[layer])])
        return values.mean(dim=0), values.double().std(dim=0, correction=0).float()

    replaced = []
    for example, text in enumerate(texts(batch)):
        new = {}
        for layer in range(4):
            width = seen[0][layer].shape[-1]
            labels = [f"L{layer}H{head}" for head in range(4)]
            noise = noise_of(kind.seed, labels, np.array([example]), len(text), width)[0]
            means, spreads = zip(*(moments_at(layer, place) for place in range(len(text))), strict=True)
            new[layer] = torch.stack(means) + torch.stack(spreads) * noise
        replaced.append(new)
    return replaced


@pytest.mark.parametrize("positions", ["all", "query"])
@pytest.mark.parametrize(("over", "per"), [("reference", "all"), ("batch", "position"), ("reference", "position")])
@pytest.mark.parametrize("hooked", ["gpt2", "llama_gqa"])
def test_noise_and_standard_deviations_equal_a_hook(
    hooked: str, over: Any, per: Any, positions: Any, architectures: Any, batch: Batch, reference: Batch,
    every_logit: Any,
) -> None:  # fmt: skip
    architecture, kind = architectures[hooked], Disturbed(positions=positions, over=over, per=per)
    expected = by_hooks(architecture, disturbed(architecture, kind, batch, reference), batch, positions)
    subject = HeadSubject(architecture.build(), "test", tokens_per_pass=150)
    conditions = [tuple(4 * layer + head for layer, head in group) for group in HEADS]
    ours = subject.evaluate(batch, [*conditions, ()], kind, every_logit, reference=reference)
    np.testing.assert_allclose(ours[:, :-1], expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    other = subject.evaluate(batch, conditions, replace(kind, seed=6), every_logit, reference=reference)
    assert (np.abs(other - expected).max(axis=(0, 2)) > 1e-3).all(), "another seed gives other noise"


# -- what theory says --------------------------------------------------------------------------------------------------


def test_ablating_no_unit_changes_nothing_and_needs_no_donor(architectures: Any, every_logit: Any) -> None:
    """Donors are not needed either: a batch of one example without a counterfactual has none."""
    subject = HeadSubject(architectures["gpt2"].build(), "test")
    alone = replace(batch_of(1, [9]), counterfactual=None)
    baseline = subject.evaluate(alone, [()], build("zero"), every_logit)
    for name, parameters in KINDS:
        assert (subject.evaluate(alone, [(), ()], build(name, **parameters), every_logit) == baseline).all()


@pytest.mark.parametrize("positions", ["all", "query"])
def test_a_donor_that_is_the_example_itself_changes_nothing(
    architecture: Any, positions: str, batch: Batch, every_logit: Any
) -> None:
    itself = replace(batch, counterfactual=Counterfactual(batch.tokens, batch.target))
    subject = HeadSubject(architecture.build(), "test", tokens_per_pass=150)
    conditions = [(), (0,), (1, 6), tuple(range(len(subject.units)))]
    found = subject.evaluate(itself, conditions, build("patching", positions=positions), every_logit)
    np.testing.assert_allclose(found, found[:, [0]].repeat(4, axis=1), atol=2e-5 * np.abs(found).max())


@pytest.mark.parametrize("positions", ["all", "query"])
@pytest.mark.parametrize("share", [Shared(), NOTHING], ids=["shared", "apart"])
def test_patching_all_heads_from_the_counterfactual_gives_its_answer(
    architectures: Any, share: Shared, positions: str, batch: Batch, every_logit: Any
) -> None:
    """Only heads move information between positions."""
    for name in ("gpt2", "llama_gqa", "mistral_sliding", "gpt_bigcode"):
        subject = HeadSubject(architectures[name].build(), "test", share=share)
        everything = tuple(range(len(subject.units)))
        ours = subject.evaluate(batch, [everything, ()], build("patching", positions=positions), every_logit)
        counterfactuals = subject.evaluate(batch.counterfactual_batch, [()], build("zero"), every_logit)
        np.testing.assert_allclose(ours[:, 0], counterfactuals[:, 0], atol=1e-5 * np.abs(counterfactuals).max())
        assert np.abs(ours[:, 0] - ours[:, 1]).max() > 0.1


@pytest.mark.parametrize("positions", ["all", "query"])
def test_means_per_position_over_one_example_many_times_change_nothing(
    architecture: Any, positions: str, every_logit: Any
) -> None:
    same = batch_of(4, [11]).take(np.zeros(5, dtype=np.int64))
    subject = HeadSubject(architecture.build(), "test", tokens_per_pass=50)
    conditions = [(), (1, 6), tuple(range(len(subject.units)))]
    parameters = {"per": "position", "positions": positions}
    found = subject.evaluate(same, conditions, build("mean", **parameters), every_logit)
    np.testing.assert_allclose(found, found[:, [0]].repeat(3, axis=1), atol=2e-5 * np.abs(found).max())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_in_the_last_layer_only_the_query_can_matter(
    kind: tuple[str, dict[str, Any]], architectures: Any, batch: Batch, reference: Batch, every_logit: Any
) -> None:
    subject, (name, parameters) = HeadSubject(architectures["llama_gqa"].build(), "test"), kind
    everywhere, at_query = (
        subject.evaluate(
            batch, [(13,), (1,)], build(name, positions=where, **parameters), every_logit, reference=reference
        )
        for where in ("all", "query")
    )
    np.testing.assert_allclose(everywhere[:, 0], at_query[:, 0], atol=1e-5)
    assert np.abs(everywhere[:, 1] - at_query[:, 1]).max() > 1e-3


def test_means_are_over_the_batch_without_a_reference(
    architectures: Any, batch: Batch, reference: Batch, every_logit: Any
) -> None:
    subject = HeadSubject(architectures["gpt2"].build(), "test")

    def ablated(over: str, given: Batch | None) -> np.ndarray:
        found: np.ndarray = subject.evaluate(batch, [(1, 6)], build("mean", over=over), every_logit, reference=given)
        return found

    assert (ablated("batch", reference) == ablated("reference", None)).all()
    assert (ablated("batch", reference) == ablated("reference", batch)).all()
    assert np.abs(ablated("batch", reference) - ablated("reference", reference)).max() > 1e-3


def neither_the_size_of_passes_nor_what_is_shared_changes(
    model: Any, intervention: Any, batch: Batch, reference: Batch, metrics: Any
) -> None:
    found, last = [], len(HeadSubject(model, "test").units) - 1
    conditions = [(last - 1,), (), (0, last // 3), (last, last // 2), tuple(range(last + 1))]
    for tokens_per_pass, share in (
        (None, NOTHING),
        (150, Shared()),
        (1, Shared(past=False)),
        (None, Shared(tail=False, past=False)),
        (None, Shared(inside=False)),
    ):
        subject = HeadSubject(model, "test", tokens_per_pass=tokens_per_pass, share=share)
        found.append(subject.evaluate(batch, conditions, intervention, metrics, reference=reference))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5 * np.abs(found[0]).max(), rtol=0)


@pytest.mark.parametrize("positions", ["all", "query"])
def test_neither_the_size_of_passes_nor_what_is_shared_changes_a_result(
    positions: str, architecture: Any, architectures: Any, batch: Batch, reference: Batch, every_logit: Any
) -> None:
    """Each architecture with one intervention, each intervention with some architecture."""
    place = list(architectures.values()).index(architecture)
    name, parameters = KINDS[place % len(KINDS)]
    neither_the_size_of_passes_nor_what_is_shared_changes(
        architecture.build(), build(name, positions=positions, **parameters), batch, reference, every_logit[:12]
    )


@pytest.mark.slow  # every intervention on every architecture: minutes
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("positions", ["all", "query"])
def test_no_intervention_depends_on_the_size_of_passes_or_on_what_is_shared(
    positions: str,
    kind: tuple[str, dict[str, Any]],
    architecture: Any,
    batch: Batch,
    reference: Batch,
    every_logit: Any,
) -> None:
    neither_the_size_of_passes_nor_what_is_shared_changes(
        architecture.build(), build(kind[0], positions=positions, **kind[1]), batch, reference, every_logit[:12]
    )


def test_the_subject_reports_what_conditions_share(architectures: Any) -> None:
    """Everything, unless blocks gate their output by their input or carry a state across positions."""
    shares = {
        name: HeadSubject(architecture.build(), name).about["shares"] for name, architecture in architectures.items()
    }
    everything = ["trunk", "inside", "tail", "past"]
    assert shares.pop("gpt_bigcode") == ["past"]
    assert shares.pop("qwen3_5_hybrid") == ["trunk", "inside", "tail"]
    assert shares == dict.fromkeys(shares, everything)


def test_nothing_after_a_query_reaches_a_replacement(
    architectures: Any, batch: Batch, reference: Batch, every_logit: Any
) -> None:
    subject = HeadSubject(architectures["gpt2"].build(), "test")

    def padded(whole: Batch) -> Batch:
        after = np.arange(whole.tokens.shape[1]) > whole.query[:, None]
        assert whole.counterfactual is not None
        counterfactual = Counterfactual(np.where(after, -1, whole.counterfactual.content), whole.counterfactual.target)
        return replace(whole, tokens=np.where(after, -1, whole.tokens), counterfactual=counterfactual)

    for name, parameters in KINDS:
        one, other = (
            subject.evaluate(b, [(1, 6)], build(name, **parameters), every_logit, reference=r)
            for b, r in ((batch, reference), (padded(batch), padded(reference)))
        )
        assert (one == other).all()


# -- donors ------------------------------------------------------------------------------------------------------------


def owned(queries: Sequence[int]) -> Batch:
    """Every token of an example is the example's number; -1 after its query."""
    at = np.array(queries)
    numbers = np.repeat(np.arange(len(at))[:, None], at.max() + 1, axis=1)
    tokens = np.where(np.arange(at.max() + 1) <= at[:, None], numbers, -1)
    return Tokens("owned", tokens, at, np.zeros_like(at), {"first-token": np.zeros((len(at), 1), dtype=int)}, "repeat")


@given(n=st.integers(2, 40), seed=st.integers(0, 2**32 - 1))
def test_every_example_is_a_donor_exactly_once_and_never_for_itself(n: int, seed: int) -> None:
    donors = build("resample", seed=seed).donors(owned([7] * n))
    assert (donors.tokens == donors.tokens[:, :1]).all()  # the other's text, whole
    assert sorted(donors.tokens[:, 0]) == list(range(n))
    assert (donors.tokens[:, 0] != np.arange(n)).all()
    assert (donors.query == 7).all()


@given(queries=st.lists(st.integers(0, 12), min_size=2, max_size=12), seed=st.integers(0, 99))
def test_donors_of_another_length_contain_text_and_never_padding(queries: list[int], seed: int) -> None:
    batch = owned(queries)
    donors = build("resample", seed=seed).donors(batch)
    assert (donors.query == batch.query).all()
    assert sorted(donors.tokens[:, 0]) == list(range(len(queries)))
    for example, text in enumerate(texts(donors)):
        assert (text >= 0).all()
        assert (text != example).all()
        used = min(len(text), batch.query[text[0]] + 1)  # the first donor's text comes whole, as far as it fits
        assert (text[:used] == text[0]).all()


def test_the_seed_determines_the_donors() -> None:
    draws = [build("resample", seed=seed).donors(owned([3] * 20)).tokens[:, 0].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_patching_uses_the_counterfactuals_as_donors(batch: Batch) -> None:
    donors = build("patching").donors(batch)
    assert batch.counterfactual is not None
    assert (donors.tokens == batch.counterfactual.content).all()
    assert (donors.query == batch.query).all()


# -- what metrics see --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen(Metric):
    """The baseline logit of a token, or the target of the counterfactual."""

    token: int | None
    name: ClassVar[str] = "seen"
    damage: ClassVar[int] = 1

    def __call__(self, prediction: Any) -> torch.Tensor:
        if self.token is not None:
            baseline: torch.Tensor = prediction.baseline[:, self.token]
            return baseline
        if prediction.counterfactual is None:
            return torch.full((len(prediction.logits),), -1)
        answer: torch.Tensor = prediction.counterfactual
        return answer


@pytest.mark.parametrize("tokens_per_pass", [1, 150, 100_000])
def test_a_prediction_has_the_baseline_logits_and_the_counterfactual_target(
    tokens_per_pass: int, architectures: Any, batch: Batch, every_logit: Any
) -> None:
    subject = HeadSubject(architectures["gpt2"].build(), "test", tokens_per_pass=tokens_per_pass)
    conditions = [(1, 6), (), (15,)]
    seen = subject.evaluate(batch, conditions, build("zero"), [Seen(token) for token in range(48)])
    baseline = subject.evaluate(batch, [()], build("zero"), every_logit)
    np.testing.assert_allclose(seen, baseline.repeat(3, axis=1), atol=1e-5)
    answers = subject.evaluate(batch, conditions, build("zero"), [Seen(None)])[0]
    assert batch.counterfactual is not None
    assert (answers == batch.counterfactual.target).all()
    assert (subject.evaluate(replace(batch, counterfactual=None), conditions, build("zero"), [Seen(None)]) == -1).all()


# -- what is refused ---------------------------------------------------------------------------------------------------


class Donating(Intervention):
    """An intervention whose donors are given."""

    name: ClassVar[str] = "donating"

    def __init__(self, given: Batch) -> None:
        self.given = given

    def donors(self, _: Batch) -> Batch:
        return self.given

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


class Orphan(Intervention):
    name: ClassVar[str] = "orphan"

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


def test_an_impossible_replacement_is_refused(architectures: Any, batch: Batch, every_logit: Any) -> None:
    subject = HeadSubject(architectures["gpt2"].build(), "test")
    short = batch_of(3, [5, 8])

    def refused(intervention: Any, tested: Batch = batch, reference: Batch | None = None) -> HarnessError:
        with pytest.raises(HarnessError) as caught:
            subject.evaluate(tested, [(0,)], intervention, every_logit[:1], reference=reference)
        return caught.value

    assert "one example, and no other" in refused(build("resample"), batch.take(np.array([0]))).what
    assert "no counterfactual" in refused(build("patching"), replace(batch, counterfactual=None)).what
    error = refused(build("mean", per="position"), reference=short)
    assert "have 16 positions, but means are taken over examples that have only 9" in error.what
    assert "intervention.per=all" in error.fix
    assert "intervention orphan requests a donor but does not define donors" in refused(Orphan()).what
    assert "its 2 donors do not have the query positions of the 4 examples" in refused(Donating(short)).what
    assert "donors(batch) has to return" in refused(Donating(batch.take(np.array([1, 0, 2, 3])))).fix
    foreign = batch_of(1, [15, 9, 4, 15], name="foreign", vocabulary=500)
    assert "batch foreign: token" in refused(Donating(foreign)).what
    assert "batch foreign: token" in refused(build("mean"), reference=foreign).what


@pytest.mark.parametrize(
    ("name", "wrong"),
    [*((name, "positions") for name in ("zero", "resample", "patching")), ("mean", "per"), ("mean", "over")],
)
def test_invalid_parameters_of_interventions_are_refused(name: str, wrong: str) -> None:
    with pytest.raises(HarnessError, match=rf"intervention\.{wrong}='last'"):
        build(name, **{wrong: "last"})
