"""Recording of any sites: examples run in parts, and readers reduce what units hand on at the query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from harness.data.batch import Batch
from harness.data.first_order import FirstOrder
from harness.data.recording import ROUTER, Reader, Rows
from harness.engine.attention import frozen
from harness.engine.batching import at_query
from harness.engine.evaluation import prediction_of
from harness.engine.forward import Forward, by_row, with_result
from harness.engine.path import between, midpoints
from harness.engine.replacement import ReplacementFor, first_order_damage
from harness.engine.routers import Router, reading
from harness.engine.sites import Site


class HookedRecorder:
    """The reductions of every reader, micro-batch by micro-batch and site by site.

    ``replacements``: by reader of ``first_order``, what replaces the values of the units of a micro-batch.
    ``routers``: those that readers of ``router`` read. ``rows_each``: how many rows of work an example takes: a pass
    with gradients keeps the results of all sites, and those of donors.
    """

    def __init__(
        self,
        forward: Forward,
        sites: tuple[Site, ...],
        batch: Batch,
        readers: Mapping[str, Reader],
        replacements: Mapping[str, ReplacementFor],
        routers: Sequence[Router] = (),
    ) -> None:
        self._forward, self._sites, self._batch, self._readers = forward, sites, batch, readers
        self._sources = {reader.source for reader in readers.values()}
        self._replacements, self._routers = replacements, routers
        self.rows_each = 2 * (1 + len(sites)) if "first_order" in self._sources else 1
        self._examples: list[Int[np.ndarray, " chosen"]] = []
        self._reduced: dict[str, dict[str, list[np.ndarray]]] = {
            name: {place.name: [] for place in (routers if reader.source == ROUTER else sites)}
            for name, reader in readers.items()
        }

    def run(self, examples: Int[np.ndarray, " chosen"]) -> None:
        """One pass of these examples."""
        self._examples.append(examples)
        part = self._batch.take(examples)
        if self._sources - {"first_order"}:
            self._read_values(part)
        if "first_order" in self._sources:
            self._read_gradients(part, examples)

    def joined(self) -> dict[str, np.ndarray]:
        """Each reader's reductions [examples, units or experts, ...], examples in the order of the batch."""
        back = np.argsort(np.concatenate(self._examples))
        return {
            name: np.concatenate([np.concatenate(parts) for parts in sites.values()], axis=1)[back]
            for name, sites in self._reduced.items()
        }

    def _read_values(self, part: Batch) -> None:
        content, query = self._forward.tensors(part)
        sources = sorted(self._sources - {"first_order", ROUTER})

        def of_site(site: Site) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
                inputs, result = by_row(args, kwargs, output, len(part), self._forward.has_positions, site.returned)
                if self._forward.has_positions:
                    inputs = tuple(at_query(value, query) for value in inputs)
                    result = at_query(result, query)
                for source in sources:
                    values = site.reading(source, inputs, result)
                    self._read(source, site.name, values[:, 0] if self._forward.has_positions else values, part)

            return hook

        def of_router(router: Router, probabilities: Tensor) -> None:
            self._read(ROUTER, router.name, probabilities, part)

        with self._hooked(of_site), reading(self._routers, query, of_router), torch.inference_mode():
            self._forward.trunk(content, query)

    def _read_gradients(self, part: Batch, examples: Int[np.ndarray, " chosen"]) -> None:
        """A pass, and for each reader of ``first_order`` the gradients of its metric by changes of all values: in this
        pass, or in others on the way to the counterfactuals."""
        content, query = self._forward.tensors(part)
        readers = FirstOrder.among(self._readers)
        here = {name: reader for name, reader in readers.items() if not reader.steps}
        values, gradients = self._gradients(content, query, part, here)
        for name, reader in readers.items():
            if reader.steps:
                others, _ = self._forward.tensors(part.counterfactual_batch)
                means = [torch.zeros_like(value) for value in values.values()]
                for share in midpoints(reader.steps):
                    with self._on_path(content, others, share) as moved:
                        _, found = self._gradients(moved, query, part, {name: reader})
                    means = [mean + each / reader.steps for mean, each in zip(means, found[name], strict=True)]
                gradients[name] = tuple(means)
        for name, reader in readers.items():
            with torch.inference_mode():
                replacement = self._replacements[name](examples)
            by_site = dict(zip(values, gradients[name], strict=True))
            for site in self._sites:
                value, gradient = (
                    numbers if numbers.ndim == 4 else numbers.unsqueeze(1)
                    for numbers in (values[site.name], by_site[site.name])
                )
                damage = first_order_damage(reader, replacement, site.name, value, gradient, query.to(value.device))
                self._read("first_order", site.name, damage, part, only=name)

    @contextmanager
    def _on_path(self, content: Tensor, others: Tensor, share: float) -> Iterator[Tensor]:
        """Examples on the way to their counterfactuals: vectors are moved, and so are the embeddings of tokens."""
        if content.is_floating_point():
            yield content + share * (others - content)
            return
        with between(self._forward.model, self._forward.label, content, others, share):
            yield content

    def _gradients(
        self, content: Tensor, query: Tensor, part: Batch, readers: Mapping[str, FirstOrder]
    ) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, ...]]]:
        """The values of one pass by site, and the gradients of each reader's metric by changes of them."""
        values: dict[str, Tensor] = {}
        changes: dict[str, Tensor] = {}

        def changing(site: Site) -> Callable[..., Any]:
            everything = torch.arange(len(site.labels), device=self._forward.device)

            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
                inputs, result = by_row(args, kwargs, output, len(part), self._forward.has_positions, site.returned)
                values[site.name] = site.values(inputs, result).detach()
                changes[site.name] = torch.zeros_like(values[site.name], requires_grad=True)
                return with_result(output, site.add(result, changes[site.name], everything), site.returned)

            return hook

        with self._hooked(changing), frozen(self._forward.model), torch.enable_grad():
            prediction = prediction_of(self._forward(content, query).float(), part)
            # The gradient of the sum holds that of each example: examples do not influence each other.
            gradients = {
                name: torch.autograd.grad(
                    reader.differentiable(prediction).sum(), list(changes.values()), retain_graph=len(readers) > 1
                )
                for name, reader in readers.items()
            }
        return values, gradients

    def _hooked(self, hook_of: Callable[[Site], Callable[..., Any]]) -> ExitStack:
        stack = ExitStack()
        for site in self._sites:
            stack.callback(site.module.register_forward_hook(hook_of(site), with_kwargs=True).remove)
        return stack

    def _read(
        self, source: str, site: str, values: Float[Tensor, "examples units _"], part: Batch, only: str | None = None
    ) -> None:
        """Every reader of this source, or only one, reduces these values."""
        rows = Rows(source, site, values.detach().float().cpu().numpy(), part, self._batch, self._examples[-1])
        for name, reader in self._readers.items():
            if reader.source == source and only in (None, name):
                self._reduced[name][site].append(np.asarray(reader.read(rows)))
