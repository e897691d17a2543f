"""Recording: examples run through a model in parts, and readers reduce each part before the next one runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.first_order import FirstOrder
from harness.data.recording import ROUTER, Reader, Rows, Source
from harness.data.tokens import Tokens
from harness.data.units import Unit
from harness.engine.attention import Probe, active, frozen
from harness.engine.batching import at_query, tensors, unembedding_only
from harness.engine.discovery import AttentionSite, device_of, output_matrix
from harness.engine.evaluation import prediction_of
from harness.engine.path import between, midpoints
from harness.engine.replacement import ReplacementFor, first_order_damage
from harness.engine.routers import Router, reading
from harness.util.errors import HarnessError


class Recorder:
    """The reductions of every reader, micro-batch by micro-batch and layer by layer.

    ``replacements``: by reader of ``first_order``, what replaces the outputs of the heads of a micro-batch.
    ``routers``: those that readers of ``router`` read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sites: Mapping[nn.Module, AttentionSite],
        batch: Tokens,
        readers: Mapping[str, Reader],
        replacements: Mapping[str, ReplacementFor],
        routers: Sequence[Router] = (),
    ) -> None:
        self._model, self._sites, self._batch, self._readers = model, sites, batch, readers
        self._replacements, self._routers = replacements, routers
        self.sources = {reader.source for reader in readers.values()}
        self._part = batch
        self._names = {site.layer: Unit.head(site.layer, 0).site for site in sites.values()}
        self._examples: list[Int[np.ndarray, " chosen"]] = []
        self._matrices: dict[int, Tensor] = {}  # of the output projections, by layer
        self._reduced: dict[str, dict[int, list[np.ndarray]]] = {name: {} for name in readers}

    def run(self, examples: Int[np.ndarray, " chosen"]) -> None:
        """One pass of these examples."""
        self._examples.append(examples)
        self._part = self._batch.take(examples)
        tokens, query, _ = tensors(self._part, device_of(self._model))
        probe = Probe(query)
        if "attention" in self.sources:
            probe.rows = self._read_rows
        if self.sources & {"head_output", "activation", "contribution"}:
            probe.outputs = self._read_outputs
        with reading(self._routers, query, self._read_router):
            if "first_order" in self.sources:
                self._run_with_gradients(probe, tokens, examples)
            else:
                with active(probe), torch.inference_mode():
                    self._model.base_model(tokens, use_cache=False)

    def joined(self) -> dict[str, np.ndarray]:
        """Each reader's reductions [examples, units or experts, ...], examples in the order of the batch."""
        back = np.argsort(np.concatenate(self._examples))
        return {
            name: np.concatenate([np.concatenate(layers[layer]) for layer in sorted(layers)], axis=1)[back]
            for name, layers in self._reduced.items()
        }

    def _run_with_gradients(self, probe: Probe, tokens: Tensor, examples: Int[np.ndarray, " chosen"]) -> None:
        """A pass, and for each reader of ``first_order`` the gradients of its metric by head outputs: in this pass, or
        in others on the way to the counterfactuals."""
        readers = FirstOrder.among(self._readers)
        here = {name: reader for name, reader in readers.items() if not reader.steps}
        outputs, gradients = self._gradients(probe, tokens, here)
        for name, reader in readers.items():
            if reader.steps:
                others, _, _ = tensors(self._part.counterfactual_batch, tokens.device)
                means = [torch.zeros_like(output) for output in outputs.values()]
                for share in midpoints(reader.steps):
                    with between(self._model, "the subject", tokens, others, share):
                        _, found = self._gradients(Probe(probe.query), tokens, {name: reader})
                    means = [mean + each / reader.steps for mean, each in zip(means, found[name], strict=True)]
                gradients[name] = tuple(means)
        for name, reader in readers.items():
            with torch.inference_mode():
                replacement = self._replacements[name](examples)
            for (layer, output), gradient in zip(outputs.items(), gradients[name], strict=True):
                query = probe.query.to(output.device)
                damage = first_order_damage(reader, replacement, layer, output.detach(), gradient, query)
                self._read("first_order", layer, damage, only=name)

    def _gradients(
        self, probe: Probe, tokens: Tensor, readers: Mapping[str, FirstOrder]
    ) -> tuple[dict[int, Tensor], dict[str, tuple[Tensor, ...]]]:
        """The head outputs of one pass by layer, and the gradients of each reader's metric by them."""
        outputs: dict[int, Tensor] = {}

        def keep(module: nn.Module, output: Tensor) -> Tensor:
            outputs[self._sites[module].layer] = output.requires_grad_()
            return output

        def query_of(hidden: Tensor) -> Tensor:
            return at_query(hidden, probe.query)

        probe.ablate = keep
        with active(probe), unembedding_only(self._model, query_of), frozen(self._model), torch.enable_grad():
            logits = self._model(tokens, use_cache=False).logits[:, 0].float()
            prediction = prediction_of(logits, self._part)
            # The gradient of the sum holds that of each example: examples do not influence each other.
            gradients = {
                name: torch.autograd.grad(
                    reader.differentiable(prediction).sum(), list(outputs.values()), retain_graph=len(readers) > 1
                )
                for name, reader in readers.items()
            }
        return outputs, gradients

    def _read_rows(self, module: nn.Module, rows: Tensor) -> None:
        self._read("attention", self._sites[module].layer, rows)

    def _read_outputs(self, module: nn.Module, outputs: Tensor) -> None:
        layer, projection = self._sites[module].layer, self._sites[module].projection
        for source in ("head_output", "activation"):  # what a head hands on
            self._read(source, layer, outputs)
        if "contribution" in self.sources and projection is not None:
            if layer not in self._matrices:
                self._matrices[layer] = output_matrix(projection, outputs)
            written = torch.einsum("ehi,hio->eho", outputs.detach().float(), self._matrices[layer])
            self._read("contribution", layer, written)

    def _read_router(self, router: Router, probabilities: Tensor) -> None:
        self._read(ROUTER, router.layer, probabilities, site=router.name)

    def _read(
        self, source: Source, layer: int, values: Tensor, only: str | None = None, site: str | None = None
    ) -> None:
        """Every reader of this source, or only one, reduces these values [examples, heads or experts, ...]."""
        if source not in self.sources:
            return
        numbers = values.detach().float().cpu().numpy()
        rows = Rows(source, site or self._names[layer], numbers, self._part, self._batch, self._examples[-1])
        for name, reader in self._readers.items():
            if reader.source == source and only in (None, name):
                self._reduced[name].setdefault(layer, []).append(np.asarray(reader.read(rows)))


def check_projections(label: str, sites: Mapping[nn.Module, AttentionSite], readers: Mapping[str, Reader]) -> None:
    """Refuse readers of contributions where the heads' outputs do not reach a linear projection unchanged."""
    unprojected = [str(site.layer) for site in sites.values() if site.projection is None]
    for name, reader in readers.items():
        if reader.source == "contribution" and unprojected:
            raise HarnessError(
                f"{name} reads 'contribution': in layers {', '.join(unprojected)} of {label} a gate or a norm lies "
                "between heads and output projection, so the contribution of a single head is not defined.",
                f"Choose a {name} that reads something else, such as {name}=max_attention (harness list {name}).",
            )
