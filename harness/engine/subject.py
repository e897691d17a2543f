"""Attention heads of a causal language model as a subject: recorded and ablated in batched, branching passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.batch import Batch, Vocabulary
from harness.data.contracts import Intervention, Metric, Subject, Tick, check_sources
from harness.data.prediction import Prediction
from harness.data.recording import SOURCES, Reader, Recording
from harness.data.sampling import Group
from harness.data.stages import inputs_of
from harness.data.tokens import Tokens, tokens_of
from harness.data.units import Unit, UnitSpace
from harness.engine.attention import Probe, active, switched
from harness.engine.batching import condition_chunks, micro_batches, tensors
from harness.engine.branching import Branching
from harness.engine.budget import ON_CPU, ON_GPU, Budget, Load
from harness.engine.discovery import device_of, sites_of
from harness.engine.recorder import Recorder, check_projections
from harness.engine.replacement import Moments, Replacement, averaged_over, donors_of, moments, noise_of
from harness.engine.sharing import EVERYTHING, Shared, most_shared
from harness.util.bytesize import parse_size
from harness.util.errors import HarnessError
from harness.util.memory import keep_freed


def no_tick(_: int) -> None:
    """For callers that show no progress."""


class _Unchanged(Intervention):
    """Leaves the outputs of ablated heads as they are."""

    name: ClassVar[str] = "unchanged"

    def __call__(self, output: Tensor) -> Tensor:
        return output


class HeadSubject(Subject):
    """The attention heads of a Hugging Face causal language model.

    ``memory``: how much memory a pass may use, such as ``4GiB``, or ``auto``; ``tokens_per_pass``: a further bound on
    rows x positions; ``share``: the most that conditions may share of the baseline's work. None of these changes a
    result.

    Errors: a model whose attention cannot be intercepted, an amount of memory that cannot be read.
    """

    sources: Mapping[str, str] = {
        name: SOURCES[name] for name in ("attention", "head_output", "contribution", "first_order")
    }
    gives: frozenset[str] = frozenset({"output", "mean", "std", "noise", "donor"})

    def __init__(
        self,
        model: PreTrainedModel,
        label: str,
        encode: Callable[[str], list[int]] | None = None,
        about: Mapping[str, Any] | None = None,
        memory: str = "auto",
        tokens_per_pass: int | None = None,
        share: Shared = EVERYTHING,
    ) -> None:
        self.model: PreTrainedModel = model
        self.label = label
        self.reads = vocabulary_of(model, encode)
        self._sites = sites_of(model)
        heads = sorted((site.layer, site.heads) for site in self._sites.values())
        self.units = UnitSpace(tuple(Unit.head(layer, head) for layer, n in heads for head in range(n)))
        self.budget = budget_of(model, max(site.width for site in self._sites.values()), memory, tokens_per_pass)
        self._branching = Branching(model, self._sites, self.units, share)
        with switched(model), torch.inference_mode():
            self._branching.shared = most_shared(self._same_logits(), share)
        self.about: dict[str, Any] = {**(about or {}), "shares": self._branching.shared.words}

    # -- recording ---------------------------------------------------------------------------------------------------

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick = no_tick) -> Recording:
        """Run the batch once; every reader reduces the rows of its source, layer by layer.

        Readers of ``first_order`` need gradients: fewer examples fit into a pass, and each pass has a backward pass.

        Errors: a source that heads do not have (``router``); ``contribution`` where the heads' outputs do not reach a
        linear projection unchanged.
        """
        batch.check(self.reads)
        check_sources(self, readers)
        check_projections(self.label, self._sites, readers)
        recorder = Recorder(self.model, self._sites, tokens_of(batch, self.label), readers)
        # A pass with gradients keeps the results of all layers; without them, those of one layer at a time.
        rows_each = len(self._sites) if "first_order" in recorder.sources else 1
        with switched(self.model), self._within_memory():
            for examples in micro_batches(batch, Load.throughout(rows_each), self.budget):
                recorder.run(examples)
                tick(len(examples))
        return Recording(batch, self.units, recorder.joined())

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
        batch = tokens_of(batch, self.label)
        values = np.full((len(metrics), len(conditions), len(batch)), np.nan, dtype=np.float64)
        # In this order, conditions that ablate the same units first come one after the other.
        ordered = sorted(range(len(conditions)), key=lambda c: sorted(conditions[c]))
        baseline = [c for c in ordered if not conditions[c]]
        ablating = [c for c in ordered if conditions[c]]
        groups = [conditions[c] for c in ablating]
        query_only = bool(groups) and intervention.positions == "query" and self._branching.shared.past
        load = self._branching.load(groups, query_only)
        past_load = Load.throughout(len(self._sites))  # with one token per condition, the past of all layers is kept
        with switched(self.model), self._within_memory(), torch.inference_mode():
            replacement_for = self._replacements(batch, groups, intervention, reference)
            for examples in micro_batches(batch, past_load if query_only else load, self.budget):
                part = batch.take(examples)
                tokens, query, target = tensors(part, device_of(self.model))
                replacement = replacement_for(examples)
                past = self._branching.past(tokens, query) if query_only else None
                length = 1 if query_only else tokens.shape[1]
                each = self.budget.conditions(len(groups), len(examples), length, load)
                for chunk in condition_chunks(ablating, each):
                    sets = [conditions[c] for c in chunk]
                    logits = self._branching.logits(tokens, query, sets, replacement, past).float()
                    chunk_values = _metric_values(metrics, logits, target, part)
                    values[:, _column(baseline), examples] = chunk_values[:, :1]
                    values[:, _column(chunk), examples] = chunk_values[:, 1:]
                    tick(len(examples) * len(chunk))
                tick(len(examples) * len(baseline))
        if not np.isfinite(values).all():
            raise HarnessError(
                f"{self.label}: a metric is NaN or infinite under ablation.",
                "Half precision overflows on real checkpoints: try subject.dtype=float32.",
            )
        return values

    def _replacements(
        self, batch: Tokens, groups: Sequence[Group], intervention: Intervention, reference: Batch | None
    ) -> Callable[[Int[np.ndarray, " chosen"]], Replacement]:
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

        def replacement_for(examples: Int[np.ndarray, " chosen"]) -> Replacement:
            donor = self._outputs(donors.take(examples), layers) if donors else {}
            noise = self._noise(intervention.seed, batch, examples, layers) if "noise" in inputs else {}
            return Replacement(intervention, donor, known.mean, known.std, noise)

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

    def _same_logits(self) -> Callable[[Shared], bool]:
        """A test of what conditions can share: an intervention that changes nothing must not change the logits."""
        device = device_of(self.model)
        tokens = torch.arange(12, device=device).reshape(2, 6) % self.reads.vocab_size
        query = torch.tensor([5, 3], device=device)
        conditions = [(0, len(self.units) - 1), (len(self.units) - 1,)]
        baseline = self.model(tokens, use_cache=False).logits[torch.arange(2, device=device), query].float()
        tolerance = float(baseline.abs().max()) * (1e-4 if self.model.dtype == torch.float32 else 0.05)

        def works(shared: Shared) -> bool:
            self._branching.shared = shared
            try:
                past = self._branching.past(tokens, query) if shared.past else None
                logits = self._branching.logits(tokens, query, conditions, Replacement(_Unchanged()), past).float()
            except (RuntimeError, TypeError, ValueError, IndexError):
                return False
            return float((logits - baseline.repeat(3, 1)).abs().max()) <= tolerance

        return works

    @contextmanager
    def _within_memory(self) -> Iterator[None]:
        if device_of(self.model).type == "cpu":
            keep_freed()
        try:
            yield
        except torch.OutOfMemoryError as error:
            budget = self.budget
            tokens = min(budget.positions, budget.memory // budget.per_position)
            raise HarnessError(
                f"{self.label}: a pass of {tokens} tokens does not fit into the memory of the device.",
                f"Make passes smaller, which changes no result: subject.memory={budget.memory // 2**22}MiB",
            ) from error


def vocabulary_of(model: PreTrainedModel, encode: Callable[[str], list[int]] | None = None) -> Vocabulary:
    """What a language model reads."""
    config = model.config.get_text_config()
    # Not every configuration has max_position_embeddings: without learned positions there is no such bound.
    return Vocabulary(config.vocab_size, getattr(config, "max_position_embeddings", None) or 2**31, encode)


def budget_of(model: PreTrainedModel, width: int, memory: str, tokens_per_pass: int | None) -> Budget:
    """The largest pass of this model, whose widest module takes ``width`` numbers per position."""
    device, config = device_of(model), model.config.get_text_config()
    if tokens_per_pass is not None and tokens_per_pass < 1:
        raise HarnessError(f"tokens_per_pass={tokens_per_pass}: it must be positive.")
    if memory == "auto":
        on_gpu = device.type == "cuda"
        allowed = int(0.8 * torch.cuda.mem_get_info(device)[0]) if on_gpu else parse_size("4GiB")
    else:
        try:
            allowed = parse_size(memory)
        except ValueError as error:
            raise HarnessError(f"subject.memory: {error}.", "The default is subject.memory=auto.") from error
    fastest = tokens_per_pass or (ON_CPU if device.type == "cpu" else ON_GPU)
    return Budget.of(
        allowed, fastest, model.dtype.itemsize, int(config.hidden_size), width, vocabulary=int(config.vocab_size)
    )


def _column(places: list[int]) -> Int[np.ndarray, "places 1"]:
    return np.array(places, dtype=np.int64)[:, None]


def _metric_values(
    metrics: Sequence[Metric], logits: Float[Tensor, "rows vocabulary"], target: Int[Tensor, " examples"], part: Batch
) -> Float[np.ndarray, "metrics conditions examples"]:
    """Every metric on rows of conditions x examples, of which the baseline comes first."""
    n, conditions = len(target), len(logits) // len(target)
    other = part.counterfactual
    prediction = Prediction(
        logits,
        target.repeat(conditions).to(logits.device),
        logits[:n].repeat(conditions, 1),
        torch.from_numpy(other.target).long().repeat(conditions).to(logits.device) if other else None,
    )
    # One transfer for all metrics: a GPU has to finish its work before each transfer.
    values = torch.stack([metric(prediction).float() for metric in metrics]).cpu().double().numpy()
    return values.reshape(len(metrics), conditions, n)
