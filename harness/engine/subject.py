"""Attention heads of a causal language model as a subject: recorded and ablated in batched, branching passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from harness.data.batch import Batch, Beginning, Vocabulary
from harness.data.contracts import Intervention, Metric, Subject, Tick, no_tick
from harness.data.first_order import FirstOrder
from harness.data.fitting import fitted_by
from harness.data.recording import ROUTER, SOURCES, Reader, Recording
from harness.data.requests import check_gives, check_sources
from harness.data.sampling import Group
from harness.data.stages import inputs_of
from harness.data.tokens import Tokens, tokens_of
from harness.data.units import Unit, UnitSpace
from harness.engine.attention import Probe, active, frozen, switched
from harness.engine.batching import micro_batches, tensors
from harness.engine.branching import Branching
from harness.engine.budget import Budget, Load
from harness.engine.discovery import device_of, sites_of
from harness.engine.evaluation import Predict, allowed_memory, evaluate_in_passes, fastest_on, within_memory
from harness.engine.fitted import Constants, normal_mode
from harness.engine.recorder import Recorder, check_projections
from harness.engine.replacement import (
    Moments,
    Replacement,
    ReplacementFor,
    Unchanged,
    averaged_over,
    donors_of,
    moments,
    noise_of,
)
from harness.engine.routers import Router, routers_of, with_routers
from harness.engine.sharing import EVERYTHING, Shared, most_shared
from harness.util.errors import HarnessError


class HeadSubject(Subject):
    """The attention heads of a Hugging Face causal language model.

    ``memory``: how much memory a pass may use, such as ``4GiB``, or ``auto``; ``tokens_per_pass``: a further bound on
    rows x positions; ``share``: the most that conditions may share of the baseline's work. None of these changes a
    result. Readers of ``router`` find the routers of a mixture of experts.

    Errors: a model whose attention cannot be intercepted, an amount of memory that cannot be read.
    """

    sources: Mapping[str, str] = {
        name: SOURCES[name] for name in ("attention", "head_output", "activation", "contribution", "first_order")
    }
    gives: frozenset[str] = frozenset({"output", "mean", "std", "noise", "donor", "constant"})

    def __init__(
        self,
        model: PreTrainedModel,
        label: str,
        encode: Callable[[str], list[int]] | None = None,
        about: Mapping[str, Any] | None = None,
        memory: str = "auto",
        tokens_per_pass: int | None = None,
        share: Shared = EVERYTHING,
        decode: Callable[[list[int]], str] | None = None,
        beginning: Callable[[], Beginning | None] | None = None,
    ) -> None:
        self.model: PreTrainedModel = model
        self.label = label
        self.sources = with_routers(self.sources, model)
        self.reads = vocabulary_of(model, encode, decode, beginning)
        self._sites = sites_of(model)
        heads = sorted((site.layer, site.heads) for site in self._sites.values())
        self.units = UnitSpace(tuple(Unit.head(layer, head) for layer, n in heads for head in range(n)))
        self.budget = budget_of(model, max(site.width for site in self._sites.values()), memory, tokens_per_pass)
        self.branching = Branching(model, self._sites, self.units, share)
        with switched(model), torch.inference_mode():
            self.branching.shared = most_shared(self._same_logits(), share)
        self._constants = Constants(label, self.budget, 2 * len(self._sites), self._with_gradients)
        self.about: dict[str, Any] = {**(about or {}), "shares": self.branching.shared.words}

    # -- recording ---------------------------------------------------------------------------------------------------

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick = no_tick) -> Recording:
        """Run the batch once; every reader reduces the rows of its source, layer by layer.

        Readers of ``first_order`` need gradients: fewer examples fit into a pass, and each pass has a backward pass.

        Errors: a source that the subject does not have (``router``, for a dense model); routers that cannot be read;
        ``contribution`` where the heads' outputs do not reach a linear projection unchanged.
        """
        batch.check(self.reads)
        check_sources(self, readers)
        routers = self.routers if any(reader.source == ROUTER for reader in readers.values()) else ()
        check_projections(self.label, self._sites, readers)
        batch, first_order = tokens_of(batch, self.label), FirstOrder.among(readers)
        for reader in first_order.values():
            check_gives(self, reader.intervention)
        # A pass with gradients keeps the results of all layers, and those of donors; others, one layer at a time.
        rows_each = 2 * len(self._sites) if first_order else 1
        with switched(self.model), self._within_memory():
            with torch.inference_mode():
                replacements = {
                    name: self.replacements(batch, [tuple(range(len(self.units)))], reader.intervention, None)
                    for name, reader in first_order.items()
                }
            recorder = Recorder(self.model, self._sites, batch, readers, replacements, routers)
            for examples in micro_batches(batch, Load.throughout(rows_each), self.budget):
                recorder.run(examples)
                tick(len(examples))
        return Recording(batch, self.units, recorder.joined())

    @cached_property
    def routers(self) -> tuple[Router, ...]:
        """The routers of a mixture of experts. Errors: they cannot be read."""
        return routers_of(self.model, self.label)

    # -- ablating ----------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[Group],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick = no_tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric at the query position under every condition; ``()`` is the baseline model.

        Conditions of one pass share work (:mod:`harness.engine.branching`). The intervention's other inputs come from
        baseline passes: means from one run in advance, donors for each micro-batch.

        Errors: donors or a reference that do not fit the batch, see :mod:`harness.engine.replacement`.
        """
        batch.check(self.reads)
        check_gives(self, intervention)
        batch = tokens_of(batch, self.label)
        groups = sorted((group for group in conditions if group), key=sorted)
        with switched(self.model), self._within_memory(), torch.inference_mode():
            passes = _HeadPasses(self, batch, groups, intervention, reference)
            return evaluate_in_passes(self.label, self.model, batch, conditions, metrics, self.budget, passes, tick)

    def replacements(
        self, batch: Tokens, groups: Sequence[Group], intervention: Intervention, reference: Batch | None
    ) -> ReplacementFor:
        """The intervention for any examples of the batch, with the means and donors that it requests."""
        inputs = set(inputs_of(type(intervention))) if groups else set()
        layers = {int(self.units.depth_of[unit]) for group in groups for unit in group}
        donors = donors_of(intervention, batch, self.reads) if "donor" in inputs else None
        known = Moments({}, {})
        if inputs & {"mean", "std"}:
            over = averaged_over(intervention, batch, reference, self.reads)
            parts = micro_batches(over, Load(), self.budget)
            each_position = intervention.per == "position"
            known = moments(
                over, each_position, parts, lambda chosen: self._outputs(over.take(chosen), layers), "std" in inputs
            )

        constant = {}
        if "constant" in inputs:
            over = averaged_over(intervention, batch, reference, self.reads)
            for layer in sorted(layers):
                units = _HeadsOfLayer(self, layer, intervention)
                constant[layer] = self._constants.of(layer, units, np.arange(units.size), fitted_by(intervention), over)

        def replacement_for(examples: Int[np.ndarray, " chosen"]) -> Replacement:
            donor = self._outputs(donors.take(examples), layers) if donors else {}
            noise = self._noise(intervention.seed, batch, examples, layers) if "noise" in inputs else {}
            return Replacement(intervention, donor, known.mean, known.std, noise, constant=constant)

        return replacement_for

    def _noise(
        self, seed: int, batch: Batch, examples: Int[np.ndarray, " chosen"], layers: Collection[int]
    ) -> dict[int, Float[Tensor, "examples positions heads _"]]:
        """Noise for the heads of these layers."""
        positions = int(batch.query[examples].max()) + 1
        widths = {site.layer: site.value_dim for site in self._sites.values()}
        return {
            layer: noise_of(
                seed, self.units.names(np.flatnonzero(self.units.depth_of == layer)), examples, positions, widths[layer]
            )
            for layer in layers
        }

    def _outputs(self, part: Batch, layers: Collection[int]) -> dict[int, Float[Tensor, "examples positions heads _"]]:
        """The head outputs of these layers at every position, in a baseline pass."""
        tokens, query, _ = tensors(tokens_of(part, self.label), device_of(self.model))
        outputs: dict[int, Tensor] = {}

        def keep(module: nn.Module, output: Tensor) -> Tensor:
            if self._sites[module].layer in layers:
                outputs[self._sites[module].layer] = output
            return output

        with active(Probe(query, ablate=keep)):
            self.model.base_model(tokens, use_cache=False)
        return outputs

    @contextmanager
    def _with_gradients(self) -> Iterator[None]:
        with normal_mode(), frozen(self.model):
            yield

    def _same_logits(self) -> Callable[[Shared], bool]:
        """A test of what conditions can share: an intervention that changes nothing must not change the logits."""
        device = device_of(self.model)
        tokens = torch.arange(12, device=device).reshape(2, 6) % self.reads.vocab_size
        query = torch.tensor([5, 3], device=device)
        conditions = [(0, len(self.units) - 1), (len(self.units) - 1,)]
        baseline = self.model(tokens, use_cache=False).logits[torch.arange(2, device=device), query].float()
        tolerance = float(baseline.abs().max()) * (1e-4 if self.model.dtype == torch.float32 else 0.05)

        def works(shared: Shared) -> bool:
            self.branching.shared = shared
            try:
                past = self.branching.past(tokens, query) if shared.past else None
                logits = self.branching.logits(tokens, query, conditions, Replacement(Unchanged()), past).float()
            except (RuntimeError, TypeError, ValueError, IndexError):
                return False
            return float((logits - baseline.repeat(3, 1)).abs().max()) <= tolerance

        return works

    def _within_memory(self) -> AbstractContextManager[None]:
        return within_memory(self.label, device_of(self.model), self.budget)


class _HeadsOfLayer:
    """The heads of one layer, ablated by constants (:class:`harness.engine.fitted.Ablatable`)."""

    def __init__(self, subject: HeadSubject, layer: int, intervention: Intervention) -> None:
        self._subject, self._layer, self._intervention = subject, layer, intervention
        self._units = np.flatnonzero(subject.units.depth_of == layer)
        self.size = len(self._units)

    def outputs(self, part: Batch, places: Int[np.ndarray, " some"]) -> Float[Tensor, "examples positions some width"]:
        """What the heads hand on in a baseline pass."""
        with torch.no_grad():
            return self._subject._outputs(part, {self._layer})[self._layer][:, :, places]

    def logits(
        self, part: Batch, places: Int[np.ndarray, " some"], constants: Float[Tensor, "1 some width"]
    ) -> Float[Tensor, "rows outputs"]:
        """Logits of the baseline, then with each of these heads ablated alone."""
        tokens, query, _ = tensors(tokens_of(part, self._subject.label), device_of(self._subject.model))
        every = constants.new_zeros(1, self.size, constants.shape[-1])
        every[:, places] = constants
        replacement = Replacement(self._intervention, constant={self._layer: every})
        groups = [(int(unit),) for unit in self._units[places]]
        return self._subject.branching.logits(tokens, query, groups, replacement)


class _HeadPasses:
    """The passes of one evaluation of heads."""

    def __init__(
        self,
        subject: HeadSubject,
        batch: Tokens,
        groups: Sequence[Group],
        intervention: Intervention,
        reference: Batch | None,
    ) -> None:
        self._branching, self._batch, self._device = subject.branching, batch, device_of(subject.model)
        self.one_position = bool(groups) and intervention.positions == "query" and subject.branching.shared.past
        self.load = subject.branching.load(groups, self.one_position)
        # With one token per condition, the past of all layers is kept.
        self.examples_load = Load.throughout(len(subject.units.sites)) if self.one_position else self.load
        self._replacement_for = subject.replacements(batch, groups, intervention, reference)

    def begin(self, examples: Int[np.ndarray, " chosen"]) -> Predict:
        """The baseline's past, where conditions share it, and the intervention's inputs."""
        tokens, query, _ = tensors(self._batch.take(examples), self._device)
        replacement = self._replacement_for(examples)
        past = self._branching.past(tokens, query) if self.one_position else None
        return lambda groups: self._branching.logits(tokens, query, groups, replacement, past)


def vocabulary_of(
    model: PreTrainedModel,
    encode: Callable[[str], list[int]] | None = None,
    decode: Callable[[list[int]], str] | None = None,
    beginning: Callable[[], Beginning | None] | None = None,
) -> Vocabulary:
    """What a language model reads."""
    return vocabulary_of_config(model.config, encode, decode, beginning)


def vocabulary_of_config(
    config: PreTrainedConfig,
    encode: Callable[[str], list[int]] | None = None,
    decode: Callable[[list[int]], str] | None = None,
    beginning: Callable[[], Beginning | None] | None = None,
) -> Vocabulary:
    """What a language model with this configuration reads."""
    text = config.get_text_config()
    # Not every configuration has max_position_embeddings: without learned positions there is no such bound.
    context = getattr(text, "max_position_embeddings", None) or 2**31
    return Vocabulary(text.vocab_size, context, encode, decode, beginning)


def budget_of(model: PreTrainedModel, width: int, memory: str, tokens_per_pass: int | None) -> Budget:
    """The largest pass of this model, whose widest module takes ``width`` numbers per position."""
    device, config = device_of(model), model.config.get_text_config()
    if tokens_per_pass is not None and tokens_per_pass < 1:
        raise HarnessError(f"tokens_per_pass={tokens_per_pass}: it must be positive.")
    fastest = tokens_per_pass or fastest_on(device)
    sizes = model.dtype.itemsize, int(config.hidden_size), width
    return Budget.of(allowed_memory(memory, device), fastest, *sizes, vocabulary=int(config.vocab_size))
