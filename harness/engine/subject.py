"""Attention heads of a causal language model as a subject: recorded and ablated in batched, branching passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.batch import Batch
from harness.engine.attention import Probe, active, frozen, switched
from harness.engine.donors import Replacement, averaged_over, donors_of, mean_outputs, per_position
from harness.engine.layout import device_of, output_matrix, sites_of
from harness.engine.passes import condition_chunks, micro_batches, tensors
from harness.engine.prediction import Prediction
from harness.engine.readings import Readings
from harness.errors import HarnessError
from harness.recording import Reader, Recording, Source
from harness.stages import Intervention, Metric, Tick, asked
from harness.units import Unit, UnitSpace

FROM_THE_INPUT = -1  # before the first layer
OF_HEADS: tuple[Source, ...] = ("attention", "head_output", "contribution", "first_order")


def no_tick(_: int) -> None:
    """For callers who watch no progress."""


class _Unchanged:
    """The intervention of a trial: nothing happens to an ablated head."""

    name: ClassVar[str] = "unchanged"

    def __call__(self, output: Tensor) -> Tensor:
        return output


class HeadSubject:
    """The attention heads of a Hugging Face causal language model.

    ``tokens_per_pass`` bounds rows x positions of one forward pass: memory, not results.

    Errors: a model whose attention cannot be intercepted.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        label: str,
        encode: Callable[[str], list[int]] | None = None,
        about: Mapping[str, Any] | None = None,
        tokens_per_pass: int = 8192,
    ) -> None:
        self.model = model
        self.label = label
        self.encode = encode
        self.about = dict(about or {})
        self.tokens_per_pass = tokens_per_pass
        if tokens_per_pass < 1:
            raise HarnessError(f"tokens_per_pass={tokens_per_pass}: it must be positive.", "The default is 8192.")
        text_config = model.config.get_text_config()
        self.vocab_size = int(text_config.vocab_size)
        self.context = int(getattr(text_config, "max_position_embeddings", None) or 2**31)
        sites = sites_of(model)
        self._layer_of = {module: site.layer for module, site in sites.items()}
        self._blocks = {site.layer: site.block for site in sites.values()}
        self._projections = {site.layer: site.projection for site in sites.values()}
        heads = sorted((site.layer, site.heads) for site in sites.values())
        self.units = UnitSpace(tuple(Unit(layer, head) for layer, n in heads for head in range(n)))
        self._columns = {layer: np.flatnonzero(self.units.layers == layer) for layer, _ in heads}
        self._shares_trunk = True
        self._shares_trunk = self.about["shares_trunk"] = self._can_share_trunk()

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
        rows_each = len(self._columns) if readings.wants("first_order") else 1
        with switched(self.model), self._within_memory():
            for chosen in micro_batches(batch, rows_each, self.tokens_per_pass):
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
        """Every metric at the query position under every condition; ``()`` is the untouched model.

        Rows of one pass share the trunk (the untouched model) up to their condition's first ablated layer, and branch
        off there; only the query position is unembedded. What the intervention asks for of other examples comes from
        untouched runs of theirs: means from one run in advance, donors micro-batch by micro-batch.

        Errors: donors or a reference that do not fit the batch, see :mod:`harness.engine.donors`.
        """
        batch.check(self)
        values = np.full((len(metrics), len(conditions), len(batch)), np.nan, dtype=np.float64)
        # Late starters last: the trunk is extended by a contiguous block of rows at each layer.
        ordered = sorted(range(len(conditions)), key=lambda c: self._first_layer(conditions[c]))
        touched = [c for c in ordered if conditions[c]]
        untouched = [c for c in ordered if not conditions[c]]
        layers = {int(self.units.layers[unit]) for c in touched for unit in conditions[c]}
        wanted = asked(type(intervention)) if touched else ()
        donors = donors_of(intervention, batch, self) if "donor" in wanted else None
        with switched(self.model), self._within_memory(), torch.inference_mode():
            means = self._means(intervention, batch, reference, layers) if "mean" in wanted else {}
            for chosen in micro_batches(batch, 1 + len(touched), self.tokens_per_pass):
                part = batch.take(chosen)
                tokens, query, target = tensors(part, device_of(self.model))
                donor = self._outputs(donors.take(chosen), layers) if donors else {}
                replacement = Replacement(intervention, donor, means)
                for some in condition_chunks(touched, tokens.shape[1], self.tokens_per_pass):
                    logits = self._branching_pass(tokens, query, [conditions[c] for c in some], replacement).float()
                    rows = 1 + len(some)
                    other = (
                        torch.from_numpy(part.twin.target).long().repeat(rows).to(logits.device) if part.twin else None
                    )
                    clean = logits[: len(chosen)].repeat(rows, 1)
                    seen = Prediction(logits, target.repeat(rows).to(logits.device), clean, other)
                    for m, metric in enumerate(metrics):
                        result = metric(seen).double().cpu().numpy().reshape(rows, len(chosen))
                        for condition in untouched:
                            values[m, condition, chosen] = result[0]
                        for condition, row in zip(some, result[1:], strict=True):
                            values[m, condition, chosen] = row
                    tick(len(chosen) * len(some))
                tick(len(chosen) * len(untouched))
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
        """What the heads of these layers hand on at every position of an untouched run."""
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
        parts = micro_batches(over, 1, self.tokens_per_pass)
        return mean_outputs(over, per_position(intervention), parts, lambda part: self._outputs(part, layers))

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

    def _branching_pass(
        self,
        tokens: Int[Tensor, "examples positions"],
        query: Int[Tensor, " examples"],
        conditions: Sequence[tuple[int, ...]],
        replacement: Replacement,
    ) -> Float[Tensor, "rows vocabulary"]:
        """Logits at the query: the examples untouched, then under each condition (ordered by first ablated layer)."""
        n = len(tokens)
        first = [self._first_layer(condition) for condition in conditions]
        entering = tokens.repeat(1 + first.count(FROM_THE_INPUT), 1)
        ablated = {layer: self._masks(conditions, layer) for layer in self._columns}

        def branch(layer: int, hidden: Tensor) -> Tensor:
            """Add a copy of the trunk for every condition whose first ablated layer this is."""
            starting = first.count(layer)
            return torch.cat([hidden, hidden[:n].repeat(starting, 1, 1)]) if starting else hidden

        def ablate(module: nn.Module, output: Tensor) -> Tensor:
            layer = self._layer_of[module]
            mask = ablated[layer][: len(output) // n]
            if not mask.any():
                return output
            rows = mask.repeat_interleave(n, dim=0).to(output.device)
            return replacement(layer, output, rows, probe.query[: len(output)].to(output.device))

        probe = Probe(query.repeat(1 + len(conditions)), ablate=ablate)
        with active(probe), self._branching_at_blocks(branch, n), self._unembedding_only(probe.query):
            logits: Tensor = self.model(entering, use_cache=False).logits
        return logits[:, 0]

    def _can_share_trunk(self) -> bool:
        """Whether rows can be added between blocks: a few models (GPTBigCode) shape their output by their input.

        Where they cannot, every condition runs from the embeddings on: slower, the same numbers; ``about`` says so.
        """
        tokens = torch.zeros(1, 2, dtype=torch.long, device=device_of(self.model))
        last = (len(self.units) - 1,)
        try:
            with switched(self.model), torch.inference_mode():
                self._branching_pass(tokens, tokens[:, 1], [last], Replacement(_Unchanged()))
        except RuntimeError:
            return False
        return True

    def _masks(self, conditions: Sequence[tuple[int, ...]], layer: int) -> Bool[Tensor, "conditions heads"]:
        """Which heads of a layer are ablated in the trunk (none) and under each condition."""
        columns = self._columns[layer]
        return torch.from_numpy(np.stack([np.isin(columns, condition) for condition in ((), *conditions)]))

    def _first_layer(self, condition: tuple[int, ...]) -> int:
        """Where a condition's rows leave the trunk."""
        if not self._shares_trunk:
            return FROM_THE_INPUT
        return min((int(self.units.layers[unit]) for unit in condition), default=FROM_THE_INPUT)

    @contextmanager
    def _branching_at_blocks(self, branch: Callable[[int, Tensor], Tensor], n: int) -> Iterator[None]:
        with ExitStack() as stack:
            for layer, block in self._blocks.items():

                def enter(_: nn.Module, args: Any, kwargs: Any, layer: int = layer) -> Any:
                    hidden = branch(layer, args[0] if args else kwargs["hidden_states"])
                    beside = [_for_branches(value, n, len(hidden)) for value in args[1:]]
                    named = {key: _for_branches(value, n, len(hidden)) for key, value in kwargs.items()}
                    return ((hidden, *beside), named) if args else ((), {**named, "hidden_states": hidden})

                stack.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
            yield

    @contextmanager
    def _unembedding_only(self, query: Int[Tensor, " rows"]) -> Iterator[None]:
        """Hand only the query position to the unembedding; what a model does to its logits afterwards still happens."""

        def at_query(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden = args[0]
            rows = torch.arange(len(hidden), device=hidden.device)
            return (hidden[rows, query.to(hidden.device)].unsqueeze(1), *args[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(at_query)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _within_memory(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise HarnessError(
                f"{self.label}: a pass of {self.tokens_per_pass} tokens does not fit into the memory of the device.",
                f"Make passes smaller, which changes no result: subject.tokens_per_pass={self.tokens_per_pass // 4}",
            ) from error


def _for_branches(value: Any, n: int, rows: int) -> Any:
    """What comes along with ``n`` trunk rows (rotary angles, masks), repeated for all rows. One row broadcasts."""
    if isinstance(value, tuple):
        return tuple(_for_branches(part, n, rows) for part in value)
    if isinstance(value, Tensor) and value.ndim > 2 and 1 < n == len(value) < rows:
        return value.repeat(rows // n, *[1] * (value.ndim - 1))
    return value
