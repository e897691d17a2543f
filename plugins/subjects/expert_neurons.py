"""Neurons of the experts of a mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from harness import hookimpl
from harness.data.stages import FOR_ANY_UNITS

from ._decoder import DecoderUnits


@dataclass(frozen=True)
class ExpertNeurons(DecoderUnits):
    r"""The neurons of the routed experts of a mixture of experts, in every layer that has some.

    .. math:: o = \sum_{e \in \operatorname{top}_k} w_e \sum_j a_{ej}(x)\, d_{ej}

    :math:`d_{ej}` is column j of the down projection of expert e. Units: neurons, ``L3E17N512``. A neuron hands on
    :math:`w_e a_{ej}`, its activation times the weight of its expert: zero for a token that is not routed there. The
    neurons of a layer are one site, and groups are compared with neurons that are used about as often.

    ``path=tiny_moe`` is the model that comes with the harness. With ``also=[heads]``, heads are units as well.

    Errors: no model at ``path``; a dense model; routers that cannot be read; experts without a tensor of down
    projections; whole experts in the same space.
    Source: Geva et al. 2021 (neurons as key-value memories); Shazeer et al. 2017 (mixture of experts).
    """

    name: ClassVar[str] = "expert_neurons"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {
        **FOR_ANY_UNITS,
        "batch": "domains",
        "controls": "usage_matched",
    }
    path: str = field(default="tiny_moe", metadata={"help": "hub id or folder in Hugging Face layout; or tiny_moe"})


@hookimpl
def harness_subjects() -> list[type[ExpertNeurons]]:
    return [ExpertNeurons]
