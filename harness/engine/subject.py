"""Attention heads of a causal language model as a subject: recorded and ablated in batched, branching passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.batch import Batch
from harness.data.prediction import Prediction
from harness.data.recording import Reader, Recording, Source
from harness.data.stages import Intervention, Metric, Tick, inputs_of
from harness.data.units import Unit, UnitSpace
from harness.engine.attention import Probe, active, frozen, switched
from harness.engine.batching import at_query, condition_chunks, micro_batches, tensors
from harness.engine.branching import Branching, Shared
from harness.engine.budget import ON_CPU, ON_GPU, Load, Room
from harness.engine.discovery import device_of, output_matrix, sites_of
from harness.engine.recorder import Readings
from harness.engine.replacement import Replacement, averaged_over, donors_of, mean_outputs
from harness.util.bytesize import parse_size
from harness.util.errors import HarnessError
from harness.util.memory import keep_freed

EVERYTHING = Shared()
OF_HEADS: tuple[Source, ...] = ("attention", "head_output", "contribution", "first_order")


def no_tick(_: int) -> None:
    """For callers who watch no progress."""


class _Unchanged(Intervention):
    """The intervention of a trial: nothing happens to an ablated head."""

    name: ClassVar[str] = "unchanged"

    def __call__(self, output: Tensor) -> Tensor:
        return output


class HeadSubject:
    """The attention heads of a Hugging Face causal language model.

    ``memory`` is what a pass may take, as people write it (``4GiB``), or ``auto``; ``tokens_per_pass``, where given,
    bounds its rows x positions as well; ``share``: the most that conditions may share of the baseline model's work.
    None of it changes a result.

    Errors: a model whose attention cannot be intercepted, an amount of memory that is none.
    """

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
        self.model = model
        self.label = label
        self.encode = encode
        self.about = dict(about or {})
        text_config = model.config.get_text_config()
        self.vocab_size = int(text_config.vocab_size)
        self.context = int(getattr(text_config, "max_position_embeddings", None) or 2**31)
        sites = sites_of(model)
        self._layer_of = {module: site.layer for module, site in sites.items()}
        self._projections = {site.layer: site.projection for site in sites.values()}
        heads = sorted((site.layer, site.heads) for site in sites.values())
        self.units = UnitSpace(tuple(Unit(layer, head) for layer, n in heads for head in range(n)))
        self.room = room_for(model, max(site.width for site in sites.values()), memory, tokens_per_pass)
        self._branching = Branching(model, sites, self.units, share)
        self._branching.shared = self._what_can_be_shared()
        self.about["shares"] = self._branching.shared.words

    # -- the two things a subject does -----------------------------------------------------------------------------

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick = no_tick) -> Recording:
        """One pass of the batch; every reader reduces the rows of its source, layer by layer.

        A reader of ``first_order`` turns the pass into one with gradients: fewer examples at a time, and a backward
        pass behind each.

        Errors: a source that heads do not have (``router``), ``contribution`` where no linear projection is handed the
        heads' outputs.
        """
        batch.check(self)
        self._check_sources(readers)
        readings = Readings(batch, readers)
        matrices: dict[int, Tensor] = {}
        # A pass with gradients keeps what every layer computed, a pass without them little more than one layer's.
        rows_each = len(self._projections) if readings.wants("first_order") else 1
        with switched(self.model), self._within_memory():
            for chosen in micro_batches(batch, Load.throughout(rows_each), self.room):
                part = readings.begin(chosen)
                self._recording_pass(part, readings, matrices)
                tick(len(part))
        return Recording(batch, self.units, readings.joined())

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[tuple[int, ...]],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick = no_tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric at the query position under every condition; ``()`` is the baseline model.

        Rows of one pass share what they can of the baseline model's work (:mod:`harness.engine.branching`); with an
        intervention at the query alone, a condition is one token. What the intervention asks for of other examples
        comes from baseline runs of theirs: means from one run in advance, donors micro-batch by micro-batch.

        Errors: donors or a reference that do not fit the batch, see :mod:`harness.engine.replacement`.
        """
        batch.check(self)
        values = np.full((len(metrics), len(conditions), len(batch)), np.nan, dtype=np.float64)
        ordered = sorted(range(len(conditions)), key=lambda c: sorted(conditions[c]))  # those that begin alike together
        touched = [c for c in ordered if conditions[c]]
        baseline = [c for c in ordered if not conditions[c]]
        layers = {int(self.units.layers[unit]) for c in touched for unit in conditions[c]}
        wanted = inputs_of(type(intervention)) if touched else ()
        donors = donors_of(intervention, batch, self) if "donor" in wanted else None
        of_one_token = bool(touched) and intervention.positions == "query" and self._branching.shared.past
        layers_kept = Load.throughout(len(self._projections))  # the past is kept of all layers
        load = self._branching.load([conditions[c] for c in touched], of_one_token)
        with switched(self.model), self._within_memory(), torch.inference_mode():
            means = self._means(intervention, batch, reference, layers) if "mean" in wanted else {}
            for chosen in micro_batches(batch, layers_kept if of_one_token else load, self.room):
                part = batch.take(chosen)
                tokens, query, target = tensors(part, device_of(self.model))
                donor = self._outputs(donors.take(chosen), layers) if donors else {}
                replacement = Replacement(intervention, donor, means)
                past = self._branching.past(tokens, query) if of_one_token else None
                length = 1 if of_one_token else tokens.shape[1]
                each = self.room.conditions(len(touched), len(chosen), length, load)
                for some in condition_chunks(touched, each):
                    sets = [conditions[c] for c in some]
                    logits = self._branching.logits(tokens, query, sets, replacement, past).float()
                    seen = _prediction(logits, target, part)
                    found = torch.stack([metric(seen).float() for metric in metrics]).cpu().double().numpy()
                    found = found.reshape(len(metrics), 1 + len(some), len(chosen))
                    for condition in baseline:
                        values[:, condition, chosen] = found[:, 0]
                    for row, condition in enumerate(some, start=1):
                        values[:, condition, chosen] = found[:, row]
                    tick(len(chosen) * len(some))
                tick(len(chosen) * len(baseline))
        if not np.isfinite(values).all():
            raise HarnessError(
                f"{self.label}: a metric is NaN or infinite under ablation.",
                "Half precision overflows on real checkpoints: try subject.dtype=float32.",
            )
        return values

    # -- one pass ----------------------------------------------------------------------------------------------------

    def _recording_pass(self, part: Batch, readings: Readings, matrices: dict[int, Tensor]) -> None:
        """Show readers what they want to see of one micro-batch; ``matrices`` are those of the output projections."""
        tokens, query, target = tensors(part, device_of(self.model))
        handed: dict[int, Tensor] = {}

        def show_rows(module: nn.Module, rows: Tensor) -> None:
            readings.show("attention", self._layer_of[module], rows)

        def show_outputs(module: nn.Module, outputs: Tensor) -> None:
            layer = self._layer_of[module]
            projection = self._projections[layer]
            readings.show("head_output", layer, outputs)
            if readings.wants("contribution") and projection is not None:
                if layer not in matrices:
                    matrices[layer] = output_matrix(projection, outputs)
                readings.show(
                    "contribution", layer, torch.einsum("ehi,hio->eho", outputs.detach().float(), matrices[layer])
                )

        def keep(module: nn.Module, output: Tensor) -> Tensor:
            handed[self._layer_of[module]] = output.requires_grad_()
            return output

        probe = Probe(query)
        if readings.wants("attention"):
            probe.rows = show_rows
        if readings.wants("head_output") or readings.wants("contribution"):
            probe.outputs = show_outputs
        if not readings.wants("first_order"):
            with active(probe), torch.inference_mode():
                self.model.base_model(tokens, use_cache=False)
            return
        probe.ablate = keep
        with active(probe), self._unembedding_only(query), frozen(self.model), torch.enable_grad():
            logits = self.model(tokens, use_cache=False).logits[:, 0].float()
            answers = logits.gather(1, target.to(logits.device)[:, None])
            slopes = torch.autograd.grad(answers.sum(), list(handed.values()))  # examples do not touch each other
        for (layer, output), slope in zip(handed.items(), slopes, strict=True):
            readings.show("first_order", layer, (output.detach().float() * slope.float()).sum(dim=(1, 3))[:, :, None])

    def _outputs(self, part: Batch, layers: Collection[int]) -> dict[int, Float[Tensor, "examples positions heads _"]]:
        """What the heads of these layers hand on at every position of a baseline run."""
        tokens, query, _ = tensors(part, device_of(self.model))
        found: dict[int, Tensor] = {}

        def keep(module: nn.Module, output: Tensor) -> Tensor:
            if self._layer_of[module] in layers:
                found[self._layer_of[module]] = output
            return output

        with active(Probe(query, ablate=keep)):
            self.model.base_model(tokens, use_cache=False)
        return found

    def _means(
        self, intervention: Intervention, batch: Batch, reference: Batch | None, layers: Collection[int]
    ) -> dict[int, Float[Tensor, "positions heads head_dim"]]:
        """What the heads of these layers hand on on average, where the intervention wants it averaged."""
        over = averaged_over(intervention, batch, reference, self)
        parts = micro_batches(over, Load(), self.room)
        return mean_outputs(over, intervention.per == "position", parts, lambda part: self._outputs(part, layers))

    def _check_sources(self, readers: Mapping[str, Reader]) -> None:
        for name, reader in readers.items():
            if reader.source not in OF_HEADS:
                raise HarnessError(
                    f"{name} reads '{reader.source}': the units of {self.label} are attention heads, which have none.",
                    f"Choose a {name} that reads {', '.join(OF_HEADS[:-1])} or {OF_HEADS[-1]} (harness list {name}).",
                )
            missing = [str(layer) for layer, projection in self._projections.items() if projection is None]
            if reader.source == "contribution" and missing:
                raise HarnessError(
                    f"{name} reads 'contribution': in layers {', '.join(missing)} of {self.label} something (a gate, "
                    "a norm) stands between heads and output projection, so what each of them writes is not known.",
                    f"Choose a {name} that reads something else, such as {name}=max_attention (harness list {name}).",
                )

    def _what_can_be_shared(self) -> Shared:
        """As much as leaves the logits what they are: a few models shape their output by their input, or have no
        ``position_ids``.

        Where less can be shared, more is computed, and the numbers are the same; ``about`` says what is.
        """
        device = device_of(self.model)
        tokens = torch.arange(12, device=device).reshape(2, 6) % self.vocab_size
        query = torch.tensor([5, 3], device=device)
        both_ends = [(0, len(self.units) - 1), (len(self.units) - 1,)]
        with switched(self.model), torch.inference_mode():
            plain = self.model(tokens, use_cache=False).logits[torch.arange(2, device=device), query].float()
            close = float(plain.abs().max()) * (1e-4 if self.model.dtype == torch.float32 else 0.05)

            def works(shared: Shared) -> bool:
                self._branching.shared = shared
                try:
                    past = self._branching.past(tokens, query) if shared.past else None
                    found = self._branching.logits(tokens, query, both_ends, Replacement(_Unchanged()), past).float()
                except (RuntimeError, TypeError, ValueError, IndexError):
                    return False
                return float((found - plain.repeat(3, 1)).abs().max()) <= close

            most = self._branching.shared
            tries = (most, replace(most, tail=False), replace(most, tail=False, inside=False))
            shared = next(
                filter(works, (replace(shared, past=False) for shared in tries)),
                Shared(trunk=False, inside=False, tail=False, past=False),
            )
            return replace(shared, past=most.past and works(replace(shared, past=True)))

    @contextmanager
    def _unembedding_only(self, query: Int[Tensor, " rows"]) -> Iterator[None]:
        """Hand only the query position to the unembedding; what a model does to its logits afterwards still happens."""

        def only_the_query(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (at_query(args[0], query), *args[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(only_the_query)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _within_memory(self) -> Iterator[None]:
        if device_of(self.model).type == "cpu":
            keep_freed()
        try:
            yield
        except torch.OutOfMemoryError as error:
            room = self.room
            raise HarnessError(
                f"{self.label}: a pass of {min(room.positions, room.memory // room.per_position)} tokens does not fit "
                "into the memory of the device.",
                f"Make passes smaller, which changes no result: subject.memory={room.memory // 2**22}MiB",
            ) from error


def room_for(model: PreTrainedModel, width: int, memory: str, tokens_per_pass: int | None) -> Room:
    """What fits into a pass of this model, whose widest module is handed ``width`` numbers per position."""
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
    itemsize, vocabulary = model.dtype.itemsize, int(config.vocab_size)
    return Room.of(allowed, fastest, itemsize, int(config.hidden_size), width, vocabulary)


def _prediction(logits: Float[Tensor, "rows vocabulary"], target: Int[Tensor, " examples"], part: Batch) -> Prediction:
    """What metrics are shown: rows are examples x conditions, baseline ones first."""
    n, rows = len(target), len(logits) // len(target)
    counterfactual = part.counterfactual
    return Prediction(
        logits,
        target.repeat(rows).to(logits.device),
        logits[:n].repeat(rows, 1),
        torch.from_numpy(counterfactual.target).long().repeat(rows).to(logits.device) if counterfactual else None,
    )
