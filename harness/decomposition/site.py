"""The subcomponents of one matrix as units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor, nn

from harness.data.recording import SOURCES
from harness.decomposition.artefact import Subcomponents
from harness.engine.sites import Site, Values

IMPORTANCE = "importance"


class Examples:
    """The examples of the current pass: what the model itself reads. Importances of an oracle depend on them."""

    def __init__(self, model: nn.Module) -> None:
        self.current: Tensor | None = None
        model.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.current = args[0] if args else None


@dataclass(frozen=True, eq=False)
class SubcomponentSite(Site):
    r"""Some subcomponents (``alive``) of a matrix: unit c hands on :math:`V_c \cdot a`, which is written to U_c.

    A change reaches the output through U_c. What the decomposition leaves out of the matrix (the delta) belongs to no
    unit and stays, so that without ablation the output is exactly the module's own. Source ``importance``: the
    importance of each, in [0, 1].
    """

    complete: ClassVar[bool] = False  # the delta belongs to no unit
    sources: ClassVar[Mapping[str, str]] = {IMPORTANCE: SOURCES[IMPORTANCE]}
    parts: Subcomponents = field(kw_only=True)
    alive: Int[Tensor, " units"] = field(kw_only=True)
    examples: Examples = field(kw_only=True)

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:  # noqa: ARG002
        """Inner activations."""
        return (inputs[0] @ self.parts.v[self.alive].T)[..., None]

    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:
        """The output plus the change times U."""
        return output + change[..., 0] @ self.parts.u[self.alive[units]]

    def reading(self, source: str, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """Importances, or inner activations."""
        if source != IMPORTANCE:
            return super().reading(source, inputs, output)
        return self.parts.importances(inputs[0], self.examples.current)[..., self.alive, None]
