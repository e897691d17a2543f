"""The contract suite passes correct subjects of every family, and refuses wrong ones by the check meant for them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from harness.data.batch import Batch, Vocabulary, Width
from harness.data.contracts import Intervention, Subject
from harness.data.first_order import FirstOrder
from harness.data.recording import Reader, Recording
from harness.data.tokens import Tokens
from harness.engine.hooked import HookedSubject
from harness.engine.sites import Columns, Features, Residual, Site, Whole
from harness.engine.subject import HeadSubject
from harness.registry.registry import Method
from harness.testing.checks import Check, NotChecked, Violation
from harness.testing.contracts import CONTRACTS, check_method

pytestmark = pytest.mark.unchecked

# ----------------------------------------------------------------------------------------------------------------------
# Correct subjects
# ----------------------------------------------------------------------------------------------------------------------

READS = Vocabulary(60, 32)


def llama() -> LlamaForCausalLM:
    """Three layers of 12 neurons, with random weights of a usual size."""
    config = LlamaConfig(
        vocab_size=60, hidden_size=16, intermediate_size=12, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def classifier() -> nn.Sequential:
    """Two layers of 8 hidden neurons on vectors of 5 numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)]
        return nn.Sequential(*layers)


def neurons_at(model: LlamaForCausalLM, kind: type[Site] = Columns, **limits: Any) -> list[Site]:
    """A site per layer: the inputs of the down projection."""
    return [
        kind(f"L{i}.mlp", i, [f"L{i}N{n}" for n in range(12)], layer.mlp.down_proj, family="neuron", **limits)
        for i, layer in enumerate(model.model.layers)
    ]


def neurons(subject: Callable[..., Subject] = HookedSubject, kind: type[Site] = Columns, **limits: Any) -> Subject:
    """The neurons of the Llama."""
    model = llama()
    return subject(model, neurons_at(model, kind, **limits), READS, "neurons")


def vectors(subject: Callable[..., Subject] = HookedSubject, kind: type[Site] = Features) -> Subject:
    """The hidden neurons of the classifier."""
    model = classifier()
    sites = [kind(f"hidden{i}", i, [f"h{i}:{n}" for n in range(8)], model[2 * i + 1]) for i in range(2)]
    return subject(model, sites, Width(5, 3), "hidden neurons")


def several_families() -> HookedSubject:
    """Heads, whole MLPs and whole blocks of one model."""
    model = llama()
    sites: list[Site] = []
    for i, layer in enumerate(model.model.layers):
        heads = [f"L{i}H{head}" for head in range(4)]
        sites += [Columns(f"L{i}.attn", i, heads, layer.self_attn.o_proj, family="head")]
        sites += [Whole(f"L{i}.mlp", i, [f"mlp{i}"], layer.mlp), Residual(f"L{i}", i, [f"block{i}"], layer)]
    return HookedSubject(model, sites, READS, "several families")


def heads() -> HeadSubject:
    """The heads of a GPT-2."""
    config = GPT2Config(
        vocab_size=60, n_positions=32, n_embd=16, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HeadSubject(GPT2LMHeadModel(config).eval(), "heads")


def without_shared_work() -> Subject:
    """The Llama's neurons, two of a site at a time; conditions share nothing."""
    return neurons(partial(HookedSubject, share=False), at_most=2)


CORRECT = (neurons, vectors, several_families, heads, without_shared_work)

# ----------------------------------------------------------------------------------------------------------------------
# Wrong interventions: what a subject makes of the one that it was given
# ----------------------------------------------------------------------------------------------------------------------


class Zero(Intervention):
    """Zeros."""

    name: ClassVar[str] = "zero"

    def __call__(self, output: Tensor) -> Tensor:
        return torch.zeros_like(output)


def with_members(intervention: Intervention, **members: Any) -> Intervention:
    """A copy that declares something else."""
    changed = copy.copy(intervention)
    vars(changed).update(members)
    return changed


class Rewriting(HookedSubject):
    """Ablates with something else than the given intervention, conditions, batch and reference."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        """What is used instead."""
        return batch, conditions, intervention, reference

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        batch, conditions, intervention, reference = self.rewritten(batch, conditions, intervention, reference)
        return super().evaluate(batch, conditions, intervention, metrics, tick, reference)


class IgnoresTheIntervention(Rewriting):
    """Writes zero, whatever the intervention says (house.md, the first)."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        return batch, conditions, Zero(), reference


class AblatesAnotherUnit(Rewriting):
    """Ablates the unit that follows in the site (house.md, the second)."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        n = len(self.sites[0].labels)
        other = [tuple(unit // n * n + (unit + 1) % n for unit in group) for group in conditions]
        return batch, other, intervention, reference


class IgnoresPositionsAndReference(Rewriting):
    """Ablates everywhere, with means over the batch (house.md, the third)."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        return batch, conditions, with_members(intervention, positions="all"), None


class IgnoresReference(Rewriting):
    """Takes means over the batch."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        return batch, conditions, intervention, None


class AlwaysUsesTheReference(Rewriting):
    """Takes means over the reference, also with over=batch."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        return batch, conditions, with_members(intervention, over="reference"), reference


class AblatesAtTheQueryOnly(Rewriting):
    """Leaves the positions before the query as they are."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        return batch, conditions, with_members(intervention, positions="query"), reference


class IgnoresPer(Rewriting):
    """Takes one mean for all positions."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        return batch, conditions, with_members(intervention, per="all"), reference


class AveragesOverPadding(Rewriting):
    """Takes means over the positions after the query as well."""

    def rewritten(self, batch: Any, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        over = reference if reference is not None and intervention.over == "reference" else batch
        padded = replace(over, query=np.full(len(over), over.tokens.shape[1] - 1))
        return batch, conditions, with_members(intervention, over="reference"), padded


class ExchangesDonors(Rewriting):
    """Gives the donors in another order."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        def donors(examples: Any) -> Batch:
            right = type(intervention).donors(intervention, examples)
            return replace(right, tokens=right.tokens[::-1])

        return batch, conditions, with_members(intervention, donors=donors), reference


class SharesState(Rewriting):
    """Ablates the units of the conditions before a condition as well."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        summed, seen = [], set[int]()
        for group in conditions:
            summed.append(tuple(sorted(seen | set(group))) if group else ())
            seen |= set(group)
        return batch, summed, intervention, reference


class AblatesEveryRow(Rewriting):
    """Ablates the units of all conditions in every row of the pass."""

    def rewritten(self, batch: Batch, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        units = tuple(sorted({unit for group in conditions for unit in group}))
        return batch, [units] * len(conditions), intervention, reference


class SeesTheFuture(Rewriting):
    """Moves the query to the end of the sequence."""

    def rewritten(self, batch: Any, conditions: Any, intervention: Any, reference: Any) -> tuple[Any, ...]:
        last = batch.tokens.shape[1] - 1
        return replace(batch, query=np.full(len(batch), last)), conditions, intervention, reference


# ----------------------------------------------------------------------------------------------------------------------
# Wrong passes
# ----------------------------------------------------------------------------------------------------------------------


class DrawsNoiseByCondition(HookedSubject):
    """Draws other noise for every condition."""

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        alone = []
        for place, group in enumerate(conditions):
            seeded = with_members(intervention, seed=intervention.seed + place)
            alone.append(super().evaluate(batch, [group], seeded, metrics, tick, reference))
        return np.concatenate(alone, axis=1)


class LeavesAHook(HookedSubject):
    """A hook of the ablation stays on the model."""

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        values = super().evaluate(batch, conditions, intervention, metrics, tick, reference)
        if any(conditions):
            self.sites[0].module.register_forward_hook(lambda _, __, output: 0.5 * output)
        return values


class LeavesAHookAfterAnError(HookedSubject):
    """Removes its hook only if all goes well."""

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        handle = self.sites[0].module.register_forward_hook(lambda _, __, output: output)
        values = super().evaluate(batch, conditions, intervention, metrics, tick, reference)
        handle.remove()
        return values


class ChangesTheWeights(HookedSubject):
    """Ablation rounds a weight of the model."""

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        with torch.no_grad():
            next(self.model.parameters()).mul_(1 + 1e-6)
        return super().evaluate(batch, conditions, intervention, metrics, tick, reference)


class SwitchesGradientsOff(HookedSubject):
    """Parameters need no gradients after a recording."""

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Any) -> Recording:
        self.model.requires_grad_(False)
        return super().record(batch, readers, tick)


class DropsOut(HookedSubject):
    """Noise in every pass, from the global generator."""

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        values = super().evaluate(batch, conditions, intervention, metrics, tick, reference)
        return values + 0.1 * np.abs(values).max() * torch.rand(values.shape).numpy()


class ForgetsTheOrder(HookedSubject):
    """Returns examples in the order of their queries."""

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        values = super().evaluate(batch, conditions, intervention, metrics, tick, reference)
        return values[:, :, np.argsort(batch.query, kind="stable")]


class Flat(HookedSubject):
    """Returns values without one of their axes."""

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        return super().evaluate(batch, conditions, intervention, metrics, tick, reference)[0]


# ----------------------------------------------------------------------------------------------------------------------
# Wrong recordings
# ----------------------------------------------------------------------------------------------------------------------


class RecordsUnitsBackwards(HookedSubject):
    """The units of a site have another order in recordings than in evaluations."""

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Any) -> Recording:
        def backwards(reader: Reader) -> Reader:
            changed = copy.copy(reader)
            changed.read = lambda rows: reader.read(replace(rows, values=rows.values[:, ::-1]))  # type: ignore[method-assign]
            return changed

        return super().record(batch, {name: backwards(reader) for name, reader in readers.items()}, tick)


class RaisesAKeyError(HookedSubject):
    """Looks sources up in a dictionary."""

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Any) -> Recording:
        for reader in readers.values():
            _ = dict(self.sources)[reader.source]
        return super().record(batch, readers, tick)


class SwapsSites(HookedSubject):
    """Rows name the other sites."""

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Any) -> Recording:
        def swapped(reader: Reader) -> Reader:
            changed = copy.copy(reader)
            changed.read = lambda rows: reader.read(replace(rows, site="elsewhere"))  # type: ignore[method-assign]
            return changed

        return super().record(batch, {name: swapped(reader) for name, reader in readers.items()}, tick)


class DoublesFirstOrder(HookedSubject):
    """Its first-order estimate is twice as large."""

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Any) -> Recording:
        def doubled(reader: Reader) -> Reader:
            changed = copy.copy(reader)
            changed.read = lambda rows: reader.read(replace(rows, values=2 * rows.values))  # type: ignore[method-assign]
            return changed

        readers = {n: doubled(r) if r.source == "first_order" else r for n, r in readers.items()}
        return super().record(batch, readers, tick)


class AlwaysEstimatesZeroing(HookedSubject):
    """Its first-order estimate does not follow the intervention."""

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Any) -> Recording:
        plain = {n: r.reader if isinstance(r, FirstOrder) else r for n, r in readers.items()}
        return super().record(batch, plain, tick)


class AcceptsEveryBatch(HookedSubject):
    """Takes token ids modulo the vocabulary."""

    def evaluate(
        self, batch: Any, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        if isinstance(batch, Tokens):
            batch = replace(batch, tokens=batch.tokens % READS.vocab_size)
        return super().evaluate(batch, conditions, intervention, metrics, tick, reference)


class AblatesTooMany(HookedSubject):
    """Ablates the first units of a group that cannot be ablated together."""

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        allowed = [group if self.units.allows(group) else group[:1] for group in conditions]
        return super().evaluate(batch, allowed, intervention, metrics, tick, reference)


class GivesNoNoise(HookedSubject):
    """Says that it gives no noise, and gives it."""

    gives: frozenset[str] = HookedSubject.gives - {"noise"}

    def evaluate(
        self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        self.gives = HookedSubject.gives
        values = super().evaluate(batch, conditions, intervention, metrics, tick, reference)
        self.gives = GivesNoNoise.gives
        return values


# ----------------------------------------------------------------------------------------------------------------------
# Wrong sites
# ----------------------------------------------------------------------------------------------------------------------


class AddsHalf(Columns):
    """Puts back half of what `values` takes."""

    def add(self, output: Tensor, change: Tensor, units: Tensor) -> Tensor:
        return super().add(output, change / 2, units)


class MixesPositions(Columns):
    """Values are sums over the positions so far."""

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return super().values(inputs, output).cumsum(dim=1)


class ComputesAgain(Columns):
    """Adds to the product without the bias, whatever the output is."""

    def add(self, output: Tensor, change: Tensor, units: Tensor) -> Tensor:
        return super().add(output * (1 + 1e-6), change, units)


class IgnoresUnits(Columns):
    """Adds the changes of any units as those of the first ones."""

    def add(self, output: Tensor, change: Tensor, units: Tensor) -> Tensor:
        return super().add(output, change, torch.arange(len(units)))


class Clips(Columns):
    """Changes saturate."""

    def add(self, output: Tensor, change: Tensor, units: Tensor) -> Tensor:
        return super().add(output, change.tanh(), units)


class ForgetsWidth(Features):
    """Values without their last axis."""

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output


WRONG: dict[partial[Any], tuple[str, str]] = {
    partial(neurons, IgnoresTheIntervention): (
        "hands on what the intervention returns", "returns the output unchanged changes the prediction",
    ),
    partial(neurons, AblatesAnotherUnit): (
        "ablates the named unit and no other", "ablating L0N0 does not change .* of L0N0, but that of L0N1",
    ),
    partial(neurons, IgnoresPositionsAndReference): ("honours positions", "is ablated before the query as well"),
    partial(neurons, AblatesAtTheQueryOnly): ("estimates damage to first order", "at every position"),
    partial(neurons, IgnoresReference): (
        "gives means over the right examples", "over=reference, per=all: `mean` is not .* in the reference",
    ),
    partial(neurons, AlwaysUsesTheReference): (
        "gives means over the right examples", "over=batch, per=all: `mean` is not .* in the batch",
    ),
    partial(neurons, IgnoresPer): ("gives standard deviations over the right examples", "per=position: `std` is not"),
    partial(neurons, AveragesOverPadding): ("gives means over the right examples", "padding does not count"),
    partial(neurons, ExchangesDonors): ("gives outputs of donors", "keep the order of `donors"),
    partial(neurons, SharesState): ("evaluates conditions independently", "start every condition from the baseline"),
    partial(neurons, AblatesEveryRow): ("has one baseline", "baseline changes with the intervention"),
    partial(neurons, SeesTheFuture): ("does not see past the query", "tokens after the query change the values"),
    partial(neurons, DrawsNoiseByCondition): (
        "gives the same noise in every condition", "noise of a unit changes with the conditions",
    ),
    partial(neurons, LeavesAHook): ("has one baseline", "remove all hooks"),
    partial(neurons, LeavesAHookAfterAnError): ("leaves the model as it was", "changes the hooks of the model"),
    partial(neurons, ChangesTheWeights): ("leaves the model as it was", "changes the weights"),
    partial(neurons, SwitchesGradientsOff): ("leaves the model as it was", "which parameters have gradients"),
    partial(neurons, DropsOut): ("gives the same values twice", "two calls with the same input differ"),
    partial(neurons, ForgetsTheOrder): ("evaluates every condition on every example", "target of their example"),
    partial(neurons, Flat): ("evaluates every condition on every example", "not .* \\[metrics, conditions, examples"),
    partial(neurons, RecordsUnitsBackwards): (
        "ablates the named unit and no other", "ablating L0N0 does not change .* but that of L0N11",
    ),
    partial(neurons, RaisesAKeyError): ("refuses a source that it does not have", "raises KeyError: 'no_such_source'"),
    partial(neurons, SwapsSites): ("records every source", "name the site 'elsewhere', which has no units"),
    partial(neurons, DoublesFirstOrder): ("estimates damage to first order", "differs by"),
    partial(neurons, AlwaysEstimatesZeroing): (
        "estimates damage to first order", "use the intervention and the metric",
    ),
    partial(neurons, AcceptsEveryBatch): (
        "refuses a batch that it cannot read", "outside the vocabulary, which it cannot evaluate, is accepted",
    ),
    partial(neurons, AblatesTooMany, at_most=2): (
        "refuses groups that cannot be ablated together", "3 units of L0.mlp, .* is accepted",
    ),
    partial(neurons, GivesNoNoise): (
        "refuses an intervention that asks for more than it gives", "asks for 'noise' is accepted",
    ),
    partial(neurons, kind=AddsHalf): ("takes away what units hand on", "values do not add up to its output"),
    partial(neurons, kind=MixesPositions): ("keeps rows and positions apart", "depend on other positions"),
    partial(neurons, kind=ComputesAgain): ("adds changes up", "a change of zero changes the output"),
    partial(neurons, kind=IgnoresUnits): ("adds changes up", "changes of single units do not add up"),
    partial(neurons, kind=Clips): ("adds changes up", "not linear"),
    partial(vectors, IgnoresTheIntervention): (
        "hands on what the intervention returns", "adding any number .* changes nothing",
    ),
    partial(vectors, AblatesAnotherUnit): ("ablates the named unit and no other", "of h0:0, but that of h0:1"),
    partial(vectors, kind=ForgetsWidth): ("hands on values of the right shape", "need \\[rows, units, width\\]"),
}  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------------
# The suite
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """Builds a subject of the tests."""

    name: ClassVar[str] = "made"
    build: Callable[[], Any]
    others: tuple[tuple[Any, Callable[[], Any]], ...] = ()

    def __call__(self) -> Any:
        return self.build()

    def checkpoints(self) -> Mapping[Any, Made]:
        return {step: Made(build) for step, build in self.others}


def finding(check: Check, plugin: Any) -> str:
    """What a check finds: nothing, or what is wrong. Checks that do not apply find nothing."""
    try:
        check(plugin)
    except NotChecked:
        return ""
    except Violation as violation:
        return str(violation)
    return ""


@pytest.mark.parametrize("build", CORRECT, ids=lambda build: build.__name__)
def test_correct_subjects_pass(build: Callable[[], Any]) -> None:
    plugin = Made(build)
    found = {check.__name__: finding(check, plugin) for check in CONTRACTS["subject"]}
    assert {name: reason for name, reason in found.items() if reason} == {}


class Nameless(HookedSubject):
    """Has labels instead of units."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.units = list(self.units.labels)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("build", "says"),
    [(lambda: "toy", "returns str, not Subject"), (partial(vectors, Nameless), "not a UnitSpace")],
)
def test_what_is_no_subject_is_refused_first(build: Callable[[], Any], says: str) -> None:
    assert says in finding(CONTRACTS["subject"][0], Made(build))


def case(build: partial[Any], check: str, says: str) -> Any:
    """A wrong subject, by the name of the class that is wrong."""
    wrong = next(part for part in (*build.args, *build.keywords.values()) if isinstance(part, type))
    return pytest.param(build, check, says, id=f"{build.func.__name__}-{wrong.__name__}")


@pytest.mark.parametrize(("build", "check", "says"), [case(build, *expected) for build, expected in WRONG.items()])
def test_a_wrong_subject_is_refused_with_the_reason(build: Callable[[], Any], check: str, says: str) -> None:
    (meant,) = (one for one in CONTRACTS["subject"] if one.__name__.replace("_", " ") == check)
    found = finding(meant, Made(build))
    assert re.search(says, found), found or "nothing is found"


@pytest.mark.parametrize(
    ("others", "says"),
    [
        (((0, heads), (1.5, heads)), "not training steps"),
        (((0, heads), (9, vectors)), "has other units"),
        (((0, heads), (9, heads)), ""),  # weights without a digest are not compared
    ],
)
def test_checkpoints_have_steps_and_the_same_units(others: Any, says: str) -> None:
    (check,) = (one for one in CONTRACTS["subject"] if one.__name__ == "lists_checkpoints_of_the_same_units")
    found = finding(check, Made(heads, others))
    assert (says in found) if says else not found


@dataclass(frozen=True)
class Third:
    """The third wrong subject of the house, as a plugin."""

    name: ClassVar[str] = "third"

    def __call__(self) -> Subject:
        return neurons(IgnoresPositionsAndReference)


def test_the_suite_as_users_run_it_refuses_a_wrong_subject() -> None:
    found = check_method(Method("subject", "third", Third, "tests"))
    failed = [one.check for one in found if one.outcome == "failed"]
    assert failed == [
        "honours positions",
        "gives true outputs",
        "gives outputs of donors",
        "gives means over the right examples",
        "gives standard deviations over the right examples",
    ]
