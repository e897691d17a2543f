"""Sites: where the units of a family stand side by side in a model, what they hand on, and how a change reaches the
model. This is all that a new family of units defines; recording and ablation are the same for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from harness.data.units import Unit
from harness.util.errors import HarnessError

Values = Float[Tensor, "rows *places units width"]


@dataclass(frozen=True, eq=False)
class Site(ABC):
    """The units of one module.

    ``name`` and ``labels`` are unique in a model. ``depth``: how early the module comes. ``module``: it runs once in
    each pass of the model. ``family``: what the units are. ``at_most``: how many of them can be ablated together, if
    fewer than all. ``returned``: which of the tensors that the module returns is the output, where it returns several.

    ``places`` are the positions of a sequence; vectors have none. Every position is treated separately: values at one
    position, and a change there, depend on the inputs and outputs of that position only.
    """

    name: str
    depth: int
    labels: Sequence[str]
    module: nn.Module
    complete: ClassVar[bool] = True
    """Whether the output is what units hand on, plus a constant. False: a part of it belongs to no unit."""
    sources: ClassVar[Mapping[str, str]] = {}
    """What :meth:`reading` gives beside the values, in words. A subject has the sources that all its sites have."""
    family: str = field(default="unit", kw_only=True)
    at_most: int | None = field(default=None, kw_only=True)
    returned: int = field(default=0, kw_only=True)

    @abstractmethod
    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """What each unit hands on, from the inputs and the output of the module's forward pass."""

    @abstractmethod
    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:
        """The output, where these units hand on ``change`` ``[rows, *places, changed, width]`` more than they did.

        A bias, and every part of the output that belongs to no unit, stays as it is: it is part of ``output``.
        """

    def values_of(self, inputs: tuple[Tensor, ...], output: Tensor, units: Int[Tensor, " chosen"]) -> Values:
        """What these units hand on. A site with many units may compute only theirs."""
        return self.values(inputs, output).index_select(-2, units)

    def reading(self, source: str, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """The values of a source: ``activation``, which is :meth:`values`, or one of :attr:`sources`."""
        assert source == "activation", source  # a site with other sources has its own reading
        return self.values(inputs, output)

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units of the site, in order."""
        return tuple(Unit(label, self.name, self.depth, self.family) for label in self.labels)


class Features(Site):
    """Units are the numbers of the module's output: neurons after their activation function. Width: 1."""

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:  # noqa: ARG002
        """The output."""
        return output[..., None]

    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:
        """The output with these numbers changed."""
        return output.index_add(-1, units, change[..., 0])


class Columns(Site):
    """Units are equal blocks of a linear module's input: neurons (width 1), heads before the projection, KV groups.

    A change of a unit reaches the output through the block's columns of the weight matrix.

    Errors: a module that is not linear; an input that is not divided into equal blocks.
    """

    def __post_init__(self) -> None:
        if self._weight.shape[1] % len(self.labels):
            raise HarnessError(
                f"site {self.name}: the input of {type(self.module).__name__} has {self._weight.shape[1]} numbers, "
                f"which are not {len(self.labels)} equal blocks.",
                "Give as many labels as there are units.",
            )

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:  # noqa: ARG002
        """The input, in blocks."""
        return inputs[0].reshape(*inputs[0].shape[:-1], len(self.labels), -1)

    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:
        """The output plus the change, times the columns of these units."""
        blocks = self._weight.reshape(self._weight.shape[0], len(self.labels), -1)
        columns = blocks.index_select(1, units).flatten(1)
        return output + nn.functional.linear(change.flatten(-2), columns)

    @property
    def _weight(self) -> Float[Tensor, "outputs inputs"]:
        return weight_of(self.module, self.name)


class Whole(Site):
    """One unit: the module's whole output, such as that of an MLP. Width: the size of the output."""

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:  # noqa: ARG002
        """The output."""
        return output.unsqueeze(-2)

    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:  # noqa: ARG002
        """The output plus the change."""
        return output + change.squeeze(-2)


class Residual(Whole):
    """One unit: what a residual block writes, its output minus its input. With zero ablation the block is skipped."""

    complete: ClassVar[bool] = False  # the input belongs to no unit

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """The output minus the input."""
        return (output - inputs[0]).unsqueeze(-2)


class Mixture(Site):
    """Units whose outputs are added up with weights that a router gives: experts, sources of a depth router.

    Interventions may change the weights instead of what units hand on (``weights``, ``rerouted``, ``ablated``).
    """

    @abstractmethod
    def weights(self, inputs: tuple[Tensor, ...]) -> Float[Tensor, "rows *places units"]:
        """The weight of every unit, from the inputs of the module's forward pass."""

    @abstractmethod
    def rerouted(
        self, inputs: tuple[Tensor, ...], ablated: Bool[Tensor, "rows *_ units"]
    ) -> Float[Tensor, "rows *places units"]:
        """The weights that the router would give if it could not choose the ablated units."""

    @abstractmethod
    def mixed(self, inputs: tuple[Tensor, ...], output: Tensor, weights: Float[Tensor, "rows *places units"]) -> Tensor:
        """The output with other weights. Where they are as they were, it stays exactly as it was."""


def weight_of(module: nn.Module, site: str) -> Float[Tensor, "outputs inputs"]:
    """The matrix of a linear module. Errors: another module; a weight that is not a plain matrix (quantised)."""
    from transformers.pytorch_utils import Conv1D

    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear | Conv1D) and isinstance(weight, Tensor) and weight.is_floating_point():
        return weight if isinstance(module, nn.Linear) else weight.T  # Conv1D stores [inputs, outputs]
    raise HarnessError(
        f"site {site}: {type(module).__name__} is not a linear module with a matrix of floating-point weights.",
        "Give an nn.Linear, or write a Site of your own (values and add).",
    )


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module at a path such as ``model.layers.3.mlp``. Errors: it is not there."""
    from difflib import get_close_matches

    try:
        return model.get_submodule(path)
    except AttributeError as error:
        paths = [name for name, _ in model.named_modules() if name]
        close = get_close_matches(path, paths, 3)
        near = f" Did you mean: {', '.join(close)}?" if close else ""
        raise HarnessError(
            f"{type(model).__name__} has no module '{path}'.{near}",
            f"Its modules: {', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}",
        ) from error


def tensor_in(output: object, returned: int = 0) -> Tensor:
    """The tensor of a module's output, or one of several."""
    value = output[returned] if isinstance(output, tuple | list) else output
    if not isinstance(value, torch.Tensor):
        raise HarnessError(
            f"a module gives {type(value).__name__}, not a tensor.", "Choose a module whose (first) output is a tensor."
        )
    return value
