"""NaN and infinity in a model: which weight holds them, or whether its precision is the reason."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.util.errors import HarnessError


def fault_of_weights(model: nn.Module) -> str | None:
    """The first weight with NaN or infinity: ``embed.weight holds NaN in row 5``. None: all weights are finite.

    A weight is summed, which reads it once; only a sum that is not finite is looked into.
    """
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        if weight.is_floating_point() and not weight.is_meta and not weight.sum(dtype=torch.float32).isfinite():
            found = _first_fault(name, weight)
            if found:
                return found
    return None


def _first_fault(name: str, weight: Tensor) -> str | None:
    rows = weight.reshape(len(weight), -1) if weight.ndim else weight.reshape(1, 1)
    bad = (~rows.isfinite()).any(dim=1).nonzero().flatten().tolist()  # empty: finite numbers whose sum is too large
    if not bad:
        return None
    kind = "NaN" if rows[bad[0]].isnan().any() else "infinity"
    return f"{name} holds {kind} in row {bad[0]}{f', the first of {len(bad)}' if len(bad) > 1 else ''}"


def not_finite(label: str, what: str, model: nn.Module) -> HarnessError:
    """The error for NaN in what a model computes: the fault is a weight, the precision, or neither."""
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    half = dtype in (torch.float16, torch.bfloat16)
    fault = fault_of_weights(model)
    if fault:
        return HarnessError(
            f"{label}: {what}, because {fault}.",
            "float16 holds numbers up to 65504: use subject.dtype=float32 (or bfloat16)."
            if dtype is torch.float16
            else "The weights are damaged: download or save them again, or use another checkpoint.",
        )
    return HarnessError(
        f"{label}: {what}. Its weights are finite, in {str(dtype).removeprefix('torch.')}.",
        "Half precision overflows on real checkpoints: use subject.dtype=float32."
        if half
        else "Choose another intervention or metric, or look for examples on which the model overflows.",
    )
