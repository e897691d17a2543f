"""Experts of a mixture of experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from harness import hookimpl
from harness.data.stages import FOR_ANY_UNITS

from ._decoder import DecoderUnits


@dataclass(frozen=True)
class Experts(DecoderUnits):
    r"""The routed experts of a mixture of experts, in every layer that has some.

    .. math:: o = \sum_{e \in \operatorname{top}_k} w_e\, f_e(x)

    Units: experts, ``L3E17``. An expert hands on its part of the sum, its output times its weight: zeros for a token
    that is not routed to it. The experts of a layer are one site. With zero ablation an expert is dropped;
    ``intervention=renormalise`` and ``intervention=reroute`` change what the router does instead. Experts that every
    token takes (shared ones) are no units.

    Experts that are used more do more damage when they are ablated, whatever they compute. Groups are therefore
    compared with groups that are used about as often (``controls=expert_usage``, a preset of ``usage_matched``).

    ``path=tiny_moe`` is the model that comes with the harness. With ``also=[heads]``, heads are units as well.

    Errors: no model at ``path``; a dense model; routers that cannot be read.
    Source: Shazeer et al. 2017 (mixture of experts); OLMoE, Mixtral, Qwen-MoE, DeepSeek-MoE.
    """

    name: ClassVar[str] = "experts"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {
        **FOR_ANY_UNITS,
        "batch": "domains",
        "signal": "router_probability",
        "controls": "expert_usage",
    }
    path: str = field(default="tiny_moe", metadata={"help": "hub id or folder in Hugging Face layout; or tiny_moe"})


@hookimpl
def harness_subjects() -> list[type[Experts]]:
    return [Experts]
