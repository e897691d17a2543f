"""What a torch module shows of itself: its hidden layers, its inputs, the sizes of its sites and its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness import HarnessError


def hidden_layers(model: nn.Module) -> list[str]:
    """Paths of the activation functions; where there are none, of the linear layers but the last."""
    not_hidden = nn.MultiheadAttention | nn.Softmax | nn.LogSoftmax | nn.Softmin | nn.Softmax2d
    named = list(model.named_modules())
    found = [
        path
        for path, module in named
        if type(module).__module__ == nn.ReLU.__module__ and not isinstance(module, not_hidden)
    ]
    found = found or [path for path, module in named if isinstance(module, nn.Linear)][:-1]
    if not found:
        raise HarnessError(
            f"subject torch_module: {type(model).__name__} has no activation function and no hidden linear layer.",
            "Name the modules whose outputs are the units: subject.sites=[PATH,PATH]",
        )
    return found


def first_inputs(model: nn.Module) -> int:
    """The inputs of the first linear layer."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            return module.in_features
    raise HarnessError(
        f"subject torch_module: {type(model).__name__} has no linear layer, so its inputs are not known.",
        "Give the numbers per example: subject.inputs=N",
    )


def measured(model: nn.Module, modules: Mapping[str, nn.Module], inputs: int) -> tuple[dict[str, int], int]:
    """The size of every site's output, and the number of the module's outputs."""
    sizes: dict[str, int] = {}

    def keeping(path: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim != 2:
                shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise HarnessError(
                    f"subject torch_module: site {path} gives {shape}, not [rows, n].",
                    "Choose modules that give n numbers per example: subject.sites=[PATH]",
                )
            sizes[path] = output.shape[1]

        return hook

    first = next(model.parameters(), torch.zeros(0))
    handles = [module.register_forward_hook(keeping(path)) for path, module in modules.items()]
    try:
        with torch.inference_mode():
            outputs = model(torch.zeros(2, inputs, dtype=first.dtype, device=first.device))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise HarnessError(
            f"subject torch_module: {type(model).__name__} does not take vectors of {inputs} numbers "
            f"({' '.join(str(error).split())[:160]}).",
            "Give the numbers per example: subject.inputs=N",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if missing := [path for path in modules if path not in sizes]:
        raise HarnessError(
            f"subject torch_module: site {missing[0]} does not run in a pass.",
            "Choose modules that run: subject.sites=[PATH]",
        )
    return sizes, int(outputs.shape[-1]) if isinstance(outputs, Tensor) else 0
