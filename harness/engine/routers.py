"""The routers of a mixture of experts: which modules they are, and how their logits become probabilities.

A router is a module that returns, for every token, the logits of all experts, the weights of the chosen experts and
their numbers. It is read where it computes them, so that it does not matter how transformers runs the experts (eager,
batched_mm, grouped_mm).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.recording import ROUTER, SOURCES
from harness.engine.attention import evaluating
from harness.engine.batching import at_query
from harness.engine.decoders import blocks_of, has_experts
from harness.engine.discovery import device_of
from harness.util.errors import HarnessError

_TRIAL_TOKENS = 16
_TOLERANCE = 0.02  # of log weights, which are rounded in half precision
_SMALL = 0.01  # weights this much below the largest one are rounded too much in half precision to be compared

_Probabilities = Callable[[Float[Tensor, "*tokens experts"]], Float[Tensor, "*tokens experts"]]
_PROBABILITIES: Mapping[str, _Probabilities] = {
    "softmax": lambda logits: logits.softmax(-1),
    "sigmoid": torch.sigmoid,
    "none": lambda probabilities: probabilities,  # the router itself returns probabilities (Gemma 4)
}


@dataclass(frozen=True, eq=False)
class Router:
    """The router of one layer, ``L3.router``. ``probabilities``: of all its experts, from what it returns first."""

    name: str
    layer: int
    experts: int
    module: nn.Module
    probabilities: _Probabilities


def with_routers(sources: Mapping[str, str], model: nn.Module) -> dict[str, str]:
    """These sources, with that of routers if the model is a mixture of experts."""
    routers = {ROUTER: SOURCES[ROUTER]} if isinstance(model, PreTrainedModel) and has_experts(model) else {}
    return {**sources, **routers}


def routers_of(model: PreTrainedModel, label: str) -> tuple[Router, ...]:
    """The routers of a model, from early to late. A few tokens run through it once.

    Which function makes probabilities of logits is told from the router itself: the weights of the chosen experts are
    proportional to their probabilities, however they are normalised or scaled. A correction bias influences which
    experts are chosen and not their weights, so it is no part of a probability.

    Errors: experts without such routers; weights that are proportional to none of the known functions; a router that
    runs several times.
    """
    routings: dict[nn.Module, Routing] = {}
    calls: Counter[nn.Module] = Counter()

    def watch(module: nn.Module, _: Any, __: Any, output: Any) -> None:
        found = Routing.of(output)
        if found is not None and not any(found.logits is other.logits for other in routings.values()):
            routings[module] = found  # a module around a router may return what the router returned
        calls[module] += 1

    trial_pass(model, watch)
    if not routings or any(calls[module] != 1 for module in routings):
        raise HarnessError(
            f"{label}: {type(model).__name__} has experts, but no module that is called once and returns the logits, "
            "weights and numbers of the chosen experts.",
            "Its routers cannot be read. Choose another model, or a method that does not read routers.",
        )
    probabilities = _probabilities(label, list(routings.values()))
    layer_of = {part: layer for layer, block in enumerate(blocks_of(model)) for part in block.modules()}
    return tuple(
        Router(f"L{layer_of[module]}.router", layer_of[module], routing.logits.shape[-1], module, probabilities)
        for module, routing in routings.items()
    )


def trial_pass(
    model: PreTrainedModel, watch: Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]
) -> None:
    """Run a few tokens through a model once. ``watch`` is given every module, its arguments and its output."""
    tokens = torch.arange(_TRIAL_TOKENS, device=device_of(model)).remainder(model.config.get_text_config().vocab_size)
    with ExitStack() as stack, evaluating(model), torch.inference_mode():
        for module in model.modules():
            stack.callback(module.register_forward_hook(watch, with_kwargs=True).remove)
        model.base_model(tokens[None], use_cache=False)


@contextmanager
def reading(
    routers: Sequence[Router],
    query: Int[Tensor, " rows"],
    read: Callable[[Router, Float[Tensor, "rows experts 1"]], None],
) -> Iterator[None]:
    """While the block runs a pass, every router's probabilities at the query go to ``read``.

    Errors: NaN, which clustering would otherwise hide.
    """

    def reads(router: Router) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            logits = output[0].detach().float().reshape(len(query), -1, router.experts)
            probabilities = router.probabilities(at_query(logits, query)[:, 0])
            if not probabilities.isfinite().all():
                raise HarnessError(
                    f"{router.name} gives probabilities that are NaN or infinite.",
                    "Half precision overflows on real checkpoints: try subject.dtype=float32.",
                )
            read(router, probabilities[:, :, None])

        return hook

    with ExitStack() as stack:
        for router in routers:
            stack.callback(router.module.register_forward_hook(reads(router)).remove)
        yield


@dataclass(frozen=True, eq=False)
class Routing:
    """What a router returned: logits of all experts, weights and numbers of those that it chose."""

    logits: Float[Tensor, "tokens experts"]
    weights: Float[Tensor, "tokens chosen"]
    chosen: Int[Tensor, "tokens chosen"]

    @classmethod
    def of(cls, output: object) -> Routing | None:
        """The output of a module as a routing; None if it is something else."""
        if not isinstance(output, tuple) or len(output) < 3 or not all(isinstance(o, Tensor) for o in output[:3]):
            return None
        logits, weights, chosen = (part.reshape(-1, part.shape[-1]) if part.ndim else part for part in output[:3])
        kinds = logits.is_floating_point(), weights.is_floating_point(), chosen.dtype in (torch.int64, torch.int32)
        if not all(kinds) or logits.ndim != 2 or chosen.shape != weights.shape or len(chosen) != len(logits):
            return None
        return cls(output[0], weights, chosen.long()) if int(chosen.max()) < logits.shape[1] else None

    def error(self, probabilities: _Probabilities) -> float:
        """How far the weights are from proportional to these probabilities: the spread of log(weight / probability).

        Over the experts of a token; if it has one, over tokens.
        """
        logits = self.logits.detach().float().reshape(len(self.chosen), -1)
        weights, proposed = self.weights.float(), probabilities(logits).gather(1, self.chosen)
        if weights.shape[1] == 1:
            weights, proposed = weights.T, proposed.T
        compared = weights > _SMALL * weights.amax(1, keepdim=True)
        ratio = (weights / proposed).log().nan_to_num(torch.inf)
        most, least = ratio.masked_fill(~compared, -torch.inf).amax(1), ratio.masked_fill(~compared, torch.inf).amin(1)
        several = compared.sum(1) > 1
        return float((most - least)[several].nan_to_num(torch.inf).amax()) if several.any() else 0.0


def _probabilities(label: str, routings: Sequence[Routing]) -> _Probabilities:
    """The function to which the weights of all routers are proportional."""
    errors = {name: max(routing.error(f) for routing in routings) for name, f in _PROBABILITIES.items()}
    best, second = sorted(errors, key=lambda name: errors[name])[:2]
    if errors[best] > _TOLERANCE or errors[second] <= 4 * errors[best] or errors[second] <= 1e-5:
        raise HarnessError(
            f"{label}: the weights of the experts do not say how the router's logits become probabilities (relative "
            f"error of softmax: {errors['softmax']:.2g}, of sigmoid: {errors['sigmoid']:.2g}).",
            "Routers are read where a softmax or a sigmoid makes their probabilities. Choose another model, or a "
            "method that does not read routers.",
        )
    return _PROBABILITIES[best]
