"""Runs the target with masked subcomponents, and reads the inputs of its sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harness.engine.sites import module_at, tensor_in, weight_of
from harness.util.errors import HarnessError


@dataclass(frozen=True, eq=False)
class Masks:
    """Of one site: ``parts`` [*rows, subcomponents] for the subcomponents, ``delta`` [*rows, 1] for what they lack."""

    parts: Float[Tensor, "*rows subcomponents"]
    delta: Float[Tensor, "*rows one"]


@dataclass(frozen=True, eq=False)
class Matrix:
    """Subcomponents of one matrix in training: ``v`` [subcomponents, inputs], ``u`` [subcomponents, outputs]."""

    v: Float[Tensor, "subcomponents inputs"]
    u: Float[Tensor, "subcomponents outputs"]


@dataclass(frozen=True, eq=False)
class Target:
    """A model with linear modules by name, some of which are decomposed. Its weights never change.

    ``tokens``: it reads token ids and returns logits at every position; else it maps vectors to vectors.
    """

    model: nn.Module
    modules: Mapping[str, nn.Module]
    label: str
    tokens: bool = False

    @classmethod
    def of(cls, model: nn.Module, sites: tuple[str, ...], label: str, tokens: bool = False) -> Target:
        """The target with these sites; by default, all linear modules. Errors: a path that is no linear module."""
        paths = sites or tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
        if not paths:
            raise HarnessError(f"{label} has no linear module, so it cannot be decomposed.")
        modules = {path: module_at(model, path) for path in paths}
        for path, module in modules.items():
            weight_of(module, path)
        return cls(model, modules, label, tokens)

    def weight(self, site: str) -> Float[Tensor, "outputs inputs"]:
        """The matrix of a site."""
        return weight_of(self.modules[site], site).detach()

    def __call__(self, content: Tensor) -> Tensor:
        """The outputs: [rows, outputs], or logits [rows, positions, vocabulary]."""
        outputs = self.model(content, use_cache=False) if self.tokens else self.model(content)
        return tensor_in(getattr(outputs, "logits", outputs))

    @torch.no_grad()
    def record(self, content: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The outputs of the undamaged model, and the inputs of every site [*rows, inputs]."""
        inputs: dict[str, Tensor] = {}

        def reading(site: str) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
                inputs[site] = args[0]

            return hook

        with ExitStack() as stack:
            for site, module in self.modules.items():
                stack.callback(module.register_forward_pre_hook(reading(site)).remove)
            outputs = self(content)
        if missing := [site for site in self.modules if site not in inputs]:
            raise HarnessError(f"{self.label}: site {missing[0]} does not run in a pass, so it cannot be decomposed.")
        return outputs, inputs

    def masked(self, content: Tensor, matrices: Mapping[str, Matrix], masks: Mapping[str, Masks]) -> Tensor:
        r"""The outputs where each site with masks computes
        :math:`b + \sum_c m_c U_c V_c^\top a + m_\Delta (W - \sum_c U_c V_c^\top) a`.

        With all masks at 1 this is the target exactly: only changes are added.
        """

        def changing(site: str) -> Callable[..., Tensor]:
            matrix, mask = matrices[site], masks[site]

            def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
                bias = getattr(module, "bias", None)
                whole = output if bias is None else output - bias
                parts = (mask.parts - mask.delta) * (args[0] @ matrix.v.T)
                changed: Tensor = output + parts @ matrix.u + (mask.delta - 1) * whole
                return changed

            return hook

        with ExitStack() as stack:
            for site in masks:
                stack.callback(self.modules[site].register_forward_hook(changing(site)).remove)
            return self(content)


def stochastic(importance: Float[Tensor, "*rows subcomponents"], rng: torch.Generator) -> Masks:
    r"""Masks :math:`m_c = g_c + (1 - g_c) r_c`, :math:`r \sim U(0, 1)`; that of the delta is uniform as well."""
    shape = (*importance.shape[:-1], importance.shape[-1] + 1)
    r = torch.rand(shape, generator=rng).to(importance.device)
    return Masks(importance + (1 - importance) * r[..., :-1], r[..., -1:])


def error_of(masked: Tensor, outputs: Tensor, tokens: bool) -> Tensor:
    """Mean squared difference of outputs, or for ``tokens`` the mean KL divergence of next-token distributions."""
    if not tokens:
        return (masked - outputs).square().mean()
    return nn.functional.kl_div(
        masked.flatten(0, -2).log_softmax(-1), outputs.flatten(0, -2).log_softmax(-1), log_target=True,
        reduction="batchmean",
    )  # fmt: skip
