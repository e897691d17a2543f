"""What single experts say about the next token: the extended logit lens, and direct logit attribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.batch import Batch
from harness.engine.attention import evaluating
from harness.engine.batching import at_query, micro_batches
from harness.engine.budget import Load
from harness.engine.decoders import blocks_of
from harness.engine.experts import Experts
from harness.engine.forward import by_row, with_result
from harness.engine.hooked import HookedSubject
from harness.engine.sites import tensor_in
from harness.util.errors import HarnessError

_TOLERANCE = 1e-3
"""Of logits that are computed again, relative to the largest."""
Numbers = Float[np.ndarray, "rows examples"]


@dataclass(frozen=True, eq=False)
class ExpertLens:
    r"""The lens on every layer with experts, at the query of every example.

    .. math:: \text{lens}(h) = \mathrm{Norm}(h + u)\, W_U, \qquad
              \text{direct}_{i} = \frac{w_i f_i \odot \gamma}{\mathrm{rms}(r)} \cdot
              \Bigl(W_U[t] - \operatorname{mean}_v W_U[v]\Bigr)

    u: the layer's residual stream without its routed experts. h: the experts' sum (``topk``), the weighted output of
    the expert with the largest weight (``top1``), or its output without the weight (``raw``). ``final``: the model's
    own logits. Cosines are between logits minus their mean over the vocabulary, which no probability depends on. r: the
    residual stream before the final norm, whose scale is held fixed; t: the target.

    ``cosines``: by pair [layers, examples]. ``loss`` [1 + layers + 1, examples], in nats: of the model, with only the
    top expert in one layer (its weight as it is), and with only the top expert in every layer. ``direct`` [units,
    examples]: what every expert adds to the target's logit, relative to the mean logit.

    Errors: no decoder; experts whose output is not simply added to the residual stream; a final norm that is no RMS
    norm; logits that are not the unembedding of the normed stream (a soft cap).
    Source: MoE Lens (arXiv 2603.05806), extended logit lens; Elhage et al. 2021, direct logit attribution.
    """

    PAIRS: ClassVar[tuple[str, ...]] = ("final-top1", "final-topk", "top1-topk", "final-raw", "raw-topk")
    layers: tuple[int, ...]
    cosines: Mapping[str, Float[np.ndarray, "layers examples"]]
    loss: Float[np.ndarray, "conditions examples"]
    direct: Float[np.ndarray, "units examples"]

    @classmethod
    def of(cls, subject: HookedSubject, batch: Batch) -> ExpertLens:
        """Look at a batch: one pass, and one for every layer and for all layers together."""
        decoder = _Decoder.of(subject)
        with evaluating(decoder.model), torch.inference_mode():
            decoder.check()
            parts = [
                (examples, *decoder.look(batch.take(examples)))
                for examples in micro_batches(batch, Load(), subject.budget)
            ]
        back = np.argsort(np.concatenate([examples for examples, *_ in parts]))

        def joined(values: Iterable[Tensor]) -> Numbers:
            return torch.cat(list(values), dim=1).double().cpu().numpy()[:, back]

        cosines = {pair: joined(part[1][pair] for part in parts) for pair in cls.PAIRS}
        layers = tuple(site.depth for site in decoder.sites)
        return cls(layers, cosines, joined(part[2] for part in parts), joined(part[3] for part in parts))


@dataclass(frozen=True, eq=False)
class _Decoder:
    """A decoder's experts, the blocks that they are in, and what makes logits of the residual stream."""

    subject: HookedSubject
    model: PreTrainedModel
    sites: tuple[Experts, ...]
    blocks: tuple[nn.Module, ...]
    norm: nn.Module
    head: nn.Module

    @classmethod
    def of(cls, subject: HookedSubject) -> _Decoder:
        sites = tuple(site for site in subject.sites if isinstance(site, Experts))
        model = subject.model
        if not isinstance(model, PreTrainedModel) or model.get_output_embeddings() is None or not sites:
            raise HarnessError(
                f"{subject.label}: the logit lens needs experts of a language model.", "Choose subject=experts"
            )
        blocks = blocks_of(model)
        norms = [part for part in model.base_model.children() if "rmsnorm" in type(part).__name__.lower()]
        if len(norms) != 1:
            raise HarnessError(
                f"{subject.label}: {type(model).__name__} does not have one RMS norm after its blocks.",
                "The logit lens reads the residual stream through it. Choose another model.",
            )
        head = model.get_output_embeddings()
        return cls(subject, model, sites, tuple(blocks[site.depth] for site in sites), norms[0], head)

    def check(self) -> None:
        """Experts' outputs reach the residual stream unchanged; logits are the unembedding of the normed stream."""
        forward = self.subject.hooked.forward
        content, query = forward.sample(2)
        seen = self._seen(content, query)
        again = self.head(self.norm(seen["stream"]))
        if not _close(again, seen["logits"]):
            raise HarnessError(
                f"{self.subject.label}: its logits are not the unembedding of the normed residual stream.",
                "The logit lens cannot read a model that changes its logits afterwards.",
            )
        for place, site in enumerate(self.sites):
            change = torch.linspace(-1, 1, seen["stream"].shape[-1], device=content.device).to(seen["stream"])
            with self._changing({site: lambda _, whole: whole + change}):  # noqa: B023  # called inside the block
                moved = self._seen(content, query)[f"block {place}"] - seen[f"block {place}"]
            if not _close(moved, change.expand_as(moved)):
                raise HarnessError(
                    f"{self.subject.label}: what the experts of {site.name} give is not simply added to the residual "
                    "stream.",
                    "The logit lens cannot read such a model.",
                )

    def look(self, part: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Cosines by pair [layers, examples], losses [conditions, examples], and direct effects [units, examples]."""
        content, query = self.subject.hooked.forward.tensors(part)
        seen = self._seen(content, query)
        target = torch.from_numpy(np.asarray(part.target)).long().to(seen["logits"].device)
        unembedding: Any = self.head.weight
        towards = unembedding[target] - unembedding.mean(dim=0)
        scale = self.norm(seen["stream"]) / seen["stream"]
        cosines: dict[str, list[Tensor]] = {pair: [] for pair in ExpertLens.PAIRS}
        direct = []
        for place, site in enumerate(self.sites):
            inputs, output, block = seen[f"inputs {place}"], seen[f"output {place}"], seen[f"block {place}"]
            values = site.values(inputs, output)[:, 0]
            raw = site.reading("expert_output", inputs, output)[:, 0]
            top = site.weights(inputs)[:, 0].argmax(-1)
            rows, rest = torch.arange(len(top), device=top.device), block - output[:, 0]
            version = {
                "final": seen["logits"],
                "topk": self._lens(block),
                "top1": self._lens(rest + values[rows, top]),
                "raw": self._lens(rest + raw[rows, top]),
            }
            version = {name: logits - logits.mean(dim=-1, keepdim=True) for name, logits in version.items()}
            for pair, found in cosines.items():
                first, second = (version[name] for name in pair.split("-"))
                found.append(torch.cosine_similarity(first.double(), second.double(), dim=-1))
            direct.append(((values * scale[:, None]) * towards[:, None]).sum(-1).T)
        losses = [_loss(seen["logits"], target)]
        for sites in [*((site,) for site in self.sites), self.sites]:
            with self._changing({site: _top_only(site) for site in sites}):
                losses.append(_loss(self.subject.hooked.forward(content, query), target))
        return {pair: torch.stack(of) for pair, of in cosines.items()}, torch.stack(losses), torch.cat(direct)

    def _lens(self, stream: Float[Tensor, "examples width"]) -> Float[Tensor, "examples vocabulary"]:
        logits: Tensor = self.head(self.norm(stream)).float()
        return logits

    def _seen(self, content: Tensor, query: Tensor) -> dict[str, Any]:
        """Logits, the stream before the final norm, and by site inputs, output and the block's output, at the query."""
        seen: dict[str, Any] = {}

        def of_site(place: int) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
                inputs, result = by_row(args, kwargs, output, len(content), True)
                seen[f"inputs {place}"] = tuple(at_query(value, query) for value in inputs)
                seen[f"output {place}"] = at_query(result, query)

            return hook

        def of_block(place: int) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                seen[f"block {place}"] = at_query(tensor_in(output), query)[:, 0]

            return hook

        def of_norm(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen["stream"] = at_query(args[0], query)[:, 0]

        with ExitStack() as stack:
            for place, (site, block) in enumerate(zip(self.sites, self.blocks, strict=True)):
                stack.callback(site.module.register_forward_hook(of_site(place), with_kwargs=True).remove)
                stack.callback(block.register_forward_hook(of_block(place)).remove)
            stack.callback(self.norm.register_forward_pre_hook(of_norm).remove)
            seen["logits"] = self.subject.hooked.forward(content, query).float()
        return seen

    def _changing(self, changes: Mapping[Experts, Callable[[tuple[Tensor, ...], Tensor], Tensor]]) -> ExitStack:
        """Hooks that change the outputs of experts, given their inputs."""
        stack = ExitStack()
        for site, change in changes.items():

            def hook(_: nn.Module, args: Any, kwargs: Any, output: Any, change: Any = change) -> Any:
                inputs, result = by_row(args, kwargs, output, len(tensor_in(output)), False)
                return with_result(output, change(inputs, result))

            stack.callback(site.module.register_forward_hook(hook, with_kwargs=True, prepend=True).remove)
        return stack


def _top_only(site: Experts) -> Callable[[tuple[Tensor, ...], Tensor], Tensor]:
    """The experts' sum with only the largest weight of each token."""

    def change(inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        weights = site.weights(inputs)
        return site.mixed(inputs, output, weights.where(weights == weights.amax(-1, keepdim=True), 0))

    return change


def _loss(logits: Float[Tensor, "examples vocabulary"], target: Int[Tensor, " examples"]) -> Float[Tensor, " examples"]:
    return nn.functional.cross_entropy(logits.float(), target, reduction="none")


def _close(value: Tensor, other: Tensor) -> bool:
    return bool((value.float() - other.float()).abs().max() <= _TOLERANCE * other.float().abs().max().clamp(min=1e-6))
