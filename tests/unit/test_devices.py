"""Devices: data on a device stays there, and a GPU gives the results of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.data.batch import Batch
from harness.engine.batching import micro_batches
from harness.engine.subject import HeadSubject
from harness.registry.config import registry
from harness.testing import examples

pytestmark = pytest.mark.unchecked

CONDITIONS = [(), (0, 1), (5,), (0, 9), (14,)]
INTERVENTIONS = [(name, where) for name in ("zero", "mean", "resample", "patching") for where in ("all", "query")]
METRICS = [registry().get("metric", name).build({}) for name in ("target_logit", "accuracy", "loss", "kl_to_baseline")]


def ablated(subject: HeadSubject, batch: Batch, name: str, where: str) -> np.ndarray:
    intervention = registry().get("intervention", name).build({"positions": where})
    return subject.evaluate(batch, CONDITIONS, intervention, METRICS)


@pytest.mark.parametrize(("name", "where"), INTERVENTIONS)
@pytest.mark.parametrize("architecture", ["gpt2", "llama_gqa", "gpt_neox", "mistral_sliding", "gemma2_softcap"])
def test_a_pass_copies_only_metrics_from_its_device(
    architectures: Any, architecture: str, name: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device holds no numbers: reading one raises, as does mixing devices.

    On a GPU such a read waits for all pending work, per condition or head. Metrics are read once per pass, means and
    the past before all passes.
    """
    subject = HeadSubject(architectures[architecture].build(), architecture)
    batch = examples.batch(6, vocab_size=48)
    subject.model.to("meta")
    reads: list[tuple[int, ...]] = []
    read: Callable[[Tensor], Tensor] = Tensor.cpu

    def cpu(tensor: Tensor) -> Tensor:
        if tensor.device.type != "meta":
            return read(tensor)
        reads.append(tuple(tensor.shape))
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    monkeypatch.setattr(Tensor, "cpu", cpu)
    # transformers itself looks once in a pass: whether several texts are packed into one row.
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", lambda _: None)
    assert not ablated(subject, batch, name, where).any()
    metrics = [shape for shape in reads if shape[0] == len(METRICS)]
    load = subject.branching.load(CONDITIONS[1:])
    assert len(metrics) == len(list(micro_batches(batch, load, subject.budget)))
    assert sum(shape[1] for shape in metrics) == len(CONDITIONS) * len(batch)
    averaged = name == "mean"
    layers = {subject.units.depth_of[unit] for group in CONDITIONS for unit in group}
    assert len(reads) - len(metrics) == averaged * len(layers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("architecture", ["gpt2", "llama_gqa", "gpt_neox", "olmoe", "gemma2_softcap", "qwen3_5_hybrid"])
def test_a_gpu_gives_the_results_of_the_cpu(architectures: Any, architecture: str) -> None:
    batch = examples.batch(6, vocab_size=48)
    here = HeadSubject(architectures[architecture].build(), architecture)
    there = HeadSubject(architectures[architecture].build().to("cuda"), architecture)
    for intervention in INTERVENTIONS:
        np.testing.assert_allclose(ablated(there, batch, *intervention), ablated(here, batch, *intervention), atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_a_gpu_is_close_to_single_precision(architectures: Any, dtype: torch.dtype) -> None:
    """Metrics are computed in float32; half precision keeps two or three digits of each logit."""
    batch = examples.batch(6, vocab_size=48)
    full = HeadSubject(architectures["llama_gqa"].build().to("cuda"), "full")
    half = HeadSubject(architectures["llama_gqa"].build().to("cuda", dtype), "half")
    found, expected = (ablated(subject, batch, "zero", "all")[0] for subject in (half, full))
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
