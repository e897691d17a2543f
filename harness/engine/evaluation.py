"""The evaluation of conditions in passes of bounded size, and the metrics of their results, for any subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from harness.data.batch import Batch
from harness.data.contracts import Metric, Tick
from harness.data.prediction import Prediction
from harness.data.sampling import Group
from harness.engine.batching import condition_chunks, micro_batches
from harness.engine.budget import ON_CPU, ON_GPU, Budget, Load
from harness.engine.finite import not_finite
from harness.util.bytesize import parse_size
from harness.util.errors import HarnessError
from harness.util.memory import keep_freed

Predict = Callable[[Sequence[Group]], Float[Tensor, "rows outputs"]]
"""Predictions for the examples of a micro-batch: of the baseline, then under each condition."""


@runtime_checkable
class Passes(Protocol):
    """How a subject computes predictions.

    ``load``: rows per example of a pass under all conditions. ``examples_load``: that by which examples are divided
    into micro-batches. ``one_position``: whether a condition is a pass of one position.
    """

    load: Load
    examples_load: Load
    one_position: bool

    def begin(self, examples: Int[np.ndarray, " chosen"]) -> Predict:
        """Prepare everything that the conditions on these examples share."""


def evaluate_in_passes(
    label: str,
    model: nn.Module,
    batch: Batch,
    conditions: Sequence[Group],
    metrics: Sequence[Metric],
    budget: Budget,
    passes: Passes,
    tick: Tick,
) -> Float[np.ndarray, "metrics conditions examples"]:
    """Every metric on every example under every condition; ``()`` is the baseline.

    Errors: a metric that is NaN or infinite.
    """
    values = np.full((len(metrics), len(conditions), len(batch)), np.nan, dtype=np.float64)
    # In this order, conditions that ablate the same units first come one after the other.
    ordered = sorted(range(len(conditions)), key=lambda c: sorted(conditions[c]))
    baseline = [c for c in ordered if not conditions[c]]
    ablating = [c for c in ordered if conditions[c]]
    for examples in micro_batches(batch, passes.examples_load, budget):
        part = batch.take(examples)
        predict = passes.begin(examples)
        length = 1 if passes.one_position else int(part.query.max()) + 1
        each = budget.conditions(len(ablating), len(examples), length, passes.load)
        for chunk in condition_chunks(ablating, each):
            logits = predict([conditions[c] for c in chunk]).float()
            chunk_values = metric_values(metrics, logits, part)
            values[:, _column(baseline), examples] = chunk_values[:, :1]
            values[:, _column(chunk), examples] = chunk_values[:, 1:]
            tick(len(examples) * len(chunk))
        tick(len(examples) * len(baseline))
    if not np.isfinite(values).all():
        raise not_finite(label, "a metric is NaN or infinite", model)
    return values


def prediction_of(logits: Float[Tensor, "rows outputs"], part: Batch) -> Prediction:
    """Rows of conditions x examples, of which the baseline comes first, with the targets of the examples."""
    n, conditions = len(part), len(logits) // len(part)

    def repeated(target: Num[np.ndarray, examples * outputs]) -> Tensor:
        values = torch.from_numpy(np.asarray(target)).to(logits.device)
        values = values.to(logits.dtype) if values.is_floating_point() else values.long()
        return values.repeat(conditions, *[1] * (values.ndim - 1))

    return Prediction(
        logits,
        repeated(part.target),
        logits[:n].detach().repeat(conditions, 1),
        repeated(part.counterfactual.target) if part.counterfactual else None,
        (repeated(part.answers.right), repeated(part.answers.wrong)) if part.answers else None,
    )


def metric_values(
    metrics: Sequence[Metric], logits: Float[Tensor, "rows outputs"], part: Batch
) -> Float[np.ndarray, "metrics conditions examples"]:
    """Every metric on rows of conditions x examples, of which the baseline comes first."""
    prediction = prediction_of(logits, part)
    # One transfer for all metrics: a GPU has to finish its work before each transfer.
    values = torch.stack([metric(prediction).float() for metric in metrics]).cpu().double().numpy()
    return values.reshape(len(metrics), -1, len(part))


def allowed_memory(memory: str, device: torch.device) -> int:
    """Bytes that a pass may use. ``auto``: 80 % of a GPU's free memory, or 4 GiB.

    Errors: an amount that cannot be read.
    """
    if memory == "auto":
        return int(0.8 * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else parse_size("4GiB")
    try:
        return parse_size(memory)
    except ValueError as error:
        raise HarnessError(f"subject.memory: {error}.", "The default is subject.memory=auto.") from error


def fastest_on(device: torch.device) -> int:
    """Rows x positions beyond which a pass is no faster on this device."""
    return ON_CPU if device.type == "cpu" else ON_GPU


@contextmanager
def within_memory(label: str, device: torch.device, budget: Budget) -> Iterator[None]:
    """Errors: a pass that does not fit into the memory of the device."""
    if device.type == "cpu":
        keep_freed()
    try:
        yield
    except torch.OutOfMemoryError as error:
        tokens = min(budget.positions, budget.memory // budget.per_position)
        raise HarnessError(
            f"{label}: a pass of {tokens} tokens does not fit into the memory of the device.",
            f"Make passes smaller, which changes no result: subject.memory={budget.memory // 2**22}MiB",
        ) from error


def _column(places: list[int]) -> Int[np.ndarray, "places 1"]:
    return np.array(places, dtype=np.int64)[:, None]
