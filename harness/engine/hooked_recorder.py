"""Recording of any sites: examples run in parts, and readers reduce what units hand on at the query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from harness.data.batch import Batch
from harness.data.recording import Reader, Rows
from harness.engine.attention import frozen
from harness.engine.batching import at_query
from harness.engine.forward import Forward, by_row, with_result
from harness.engine.sites import Site
from harness.util.errors import HarnessError


class HookedRecorder:
    """The reductions of every reader, micro-batch by micro-batch and site by site.

    ``rows_each``: how many rows of work an example takes: a pass with gradients keeps the results of all sites.
    """

    def __init__(self, forward: Forward, sites: tuple[Site, ...], batch: Batch, readers: Mapping[str, Reader]) -> None:
        self._forward, self._sites, self._batch, self._readers = forward, sites, batch, readers
        self._sources = {reader.source for reader in readers.values()}
        if "first_order" in self._sources and batch.target.ndim != 1:
            raise HarnessError(
                f"'first_order' needs a class as the target of every example; those of batch {batch.name} are vectors.",
                "Choose a method that reads 'activation'.",
            )
        self.rows_each = 1 + len(sites) if "first_order" in self._sources else 1
        self._examples: list[Int[np.ndarray, " chosen"]] = []
        self._reduced: dict[str, dict[str, list[np.ndarray]]] = {
            name: {site.name: [] for site in sites} for name in readers
        }

    def run(self, examples: Int[np.ndarray, " chosen"]) -> None:
        """One pass of these examples."""
        self._examples.append(examples)
        part = self._batch.take(examples)
        if "activation" in self._sources:
            self._read_activations(part)
        if "first_order" in self._sources:
            self._read_gradients(part)

    def joined(self) -> dict[str, np.ndarray]:
        """Each reader's reductions [examples, units, ...], examples in the order of the batch."""
        back = np.argsort(np.concatenate(self._examples))
        return {
            name: np.concatenate([np.concatenate(parts) for parts in sites.values()], axis=1)[back]
            for name, sites in self._reduced.items()
        }

    def _read_activations(self, part: Batch) -> None:
        content, query = self._forward.tensors(part)

        def reading(site: Site) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
                inputs, result = by_row(args, kwargs, output, len(part))
                if self._forward.has_positions:
                    inputs = tuple(at_query(value, query) for value in inputs)
                    values = site.values(inputs, at_query(result, query))[:, 0]
                else:
                    values = site.values(inputs, result)
                self._read("activation", site, values, part)

            return hook

        with self._hooked(reading), torch.inference_mode():
            self._forward.trunk(content, query)

    def _read_gradients(self, part: Batch) -> None:
        """The first-order estimate of the drop of the target's output if a unit is zeroed: values times gradient."""
        content, query = self._forward.tensors(part)
        values: dict[str, Tensor] = {}
        changes: dict[str, Tensor] = {}

        def changing(site: Site) -> Callable[..., Any]:
            everything = torch.arange(len(site.labels), device=self._forward.device)

            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
                inputs, result = by_row(args, kwargs, output, len(part))
                values[site.name] = site.values(inputs, result).detach()
                changes[site.name] = torch.zeros_like(values[site.name], requires_grad=True)
                return with_result(output, site.add(result, changes[site.name], everything))

            return hook

        with self._hooked(changing), frozen(self._forward.model), torch.enable_grad():
            outputs = self._forward(content, query).float()
            target = torch.from_numpy(np.asarray(part.target)).long().to(outputs.device)
            # The gradient of the sum holds that of each example: examples do not influence each other.
            total = outputs.gather(1, target[:, None]).sum()
            gradients = dict(zip(changes, torch.autograd.grad(total, list(changes.values())), strict=True))
        for site in self._sites:
            drop = values[site.name].float() * gradients[site.name].float()
            by_unit = drop.sum(dim=-1)
            self._read("first_order", site, (by_unit.sum(dim=1) if by_unit.ndim == 3 else by_unit)[:, :, None], part)

    def _hooked(self, hook_of: Callable[[Site], Callable[..., Any]]) -> ExitStack:
        stack = ExitStack()
        for site in self._sites:
            stack.callback(site.module.register_forward_hook(hook_of(site), with_kwargs=True).remove)
        return stack

    def _read(self, source: str, site: Site, values: Float[Tensor, "examples units _"], part: Batch) -> None:
        """Every reader of this source reduces these values."""
        rows = Rows(source, site.name, values.detach().float().cpu().numpy(), part, self._batch, self._examples[-1])
        for name, reader in self._readers.items():
            if reader.source == source:
                self._reduced[name][site.name].append(np.asarray(reader.read(rows)))
