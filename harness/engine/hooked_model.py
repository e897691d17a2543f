"""A torch module with sites: its outputs under many conditions in one pass, and what its units hand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from harness.data.batch import Batch
from harness.data.sampling import Group
from harness.data.stages import mixes
from harness.data.units import UnitSpace
from harness.engine.chain import chain_of, element_of, growing
from harness.engine.forward import Forward, by_row, with_result
from harness.engine.replacement import Replacement, Unchanged, remixed
from harness.engine.schedule import Schedule
from harness.engine.sites import Mixture, Site

Chosen = Mapping[str, Int[Tensor, " _"]]
"""By site, the places of some of its units. Sites differ in their number, so the axis has no name."""


@dataclass(frozen=True, eq=False)
class HookedModel:
    """A module and its sites. ``chain``: blocks in which conditions share the baseline's work (empty: they do not)."""

    forward: Forward
    sites: tuple[Site, ...]
    units: UnitSpace
    chain: Sequence[nn.Module] = ()

    @classmethod
    def with_chain(cls, forward: Forward, sites: tuple[Site, ...], units: UnitSpace) -> HookedModel:
        """The model with a chain of blocks, if it has one and outputs stay the same when nothing is changed."""
        model = cls(forward, sites, units, chain_of(forward.model, [site.module for site in sites]))
        return model if model.chain and model.leaves_outputs() else cls(forward, sites, units)

    def predictions(
        self,
        content: Num[Tensor, "examples _"],
        query: Int[Tensor, " examples"],
        groups: Sequence[Group],
        replacement: Replacement,
        chosen: Chosen,
    ) -> Float[Tensor, "rows outputs"]:
        """Outputs of the baseline, then under each condition. ``chosen``: the units that the replacement covers."""
        n, schedule = len(content), self.schedule(groups)
        masks = self._masks(schedule, chosen)
        with ExitStack() as stack:
            stack.enter_context(growing(self.chain, schedule, n))
            for site in self.sites:
                if site.name in masks:
                    ablation = _Ablation(
                        site, chosen[site.name], masks[site.name], n, query, self.forward.has_positions, replacement
                    )
                    stack.callback(site.module.register_forward_hook(ablation, with_kwargs=True).remove)
            outputs = self.forward(content.repeat(schedule.entering, 1), query)
        blocks = outputs.reshape(-1, n, outputs.shape[-1])
        return blocks[torch.tensor(schedule.places, device=outputs.device)].flatten(0, 1)

    def outputs(self, part: Batch, chosen: Chosen) -> dict[str, Float[Tensor, "examples places _ _"]]:
        """By site, what the chosen units hand on in a baseline pass."""
        kept: dict[str, Tensor] = {}

        def keeping(site: Site) -> Callable[..., None]:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
                inputs, result = by_row(args, kwargs, output, len(part), self.forward.has_positions, site.returned)
                values = site.values_of(inputs, result, chosen[site.name])
                kept[site.name] = values if values.ndim == 4 else values.unsqueeze(1)

            return hook

        with ExitStack() as stack:
            for site in self.sites:
                if site.name in chosen:
                    stack.callback(site.module.register_forward_hook(keeping(site), with_kwargs=True).remove)
            self.forward.trunk(*self.forward.tensors(part))
        return kept

    def schedule(self, groups: Sequence[Group]) -> Schedule:
        """The blocks of rows in each element of the chain, or at each site."""
        return Schedule.of([(), *groups], self.element_of_unit, trunk=bool(self.chain))

    def chosen(self, groups: Sequence[Group]) -> dict[str, Int[Tensor, " _"]]:
        """The units that any of these groups ablates."""
        places: dict[str, set[int]] = {}
        for unit in {unit for group in groups for unit in group}:
            site = self.units.units[unit].site
            places.setdefault(site, set()).add(unit - self._first_unit[site])
        device = self.forward.device
        return {site: torch.tensor(sorted(members), device=device) for site, members in places.items()}

    def all_at(self, chosen: Chosen) -> dict[str, Int[Tensor, " _"]]:
        """All units of the sites of these units."""
        sizes = {site.name: len(site.labels) for site in self.sites}
        return {name: torch.arange(sizes[name], device=places.device) for name, places in chosen.items()}

    def leaves_outputs(self) -> bool:
        """Whether conditions that change nothing give the baseline's outputs."""
        content, query = self.forward.sample(2)
        ends = {0, len(self.units) - 1}
        groups = list(dict.fromkeys([tuple(sorted(ends)), (max(ends),), (min(ends),)]))
        try:
            outputs = self.predictions(content, query, groups, Replacement(Unchanged()), self.chosen(groups))
        except (RuntimeError, TypeError, ValueError, IndexError):
            return False
        baseline = self.forward(content, query)
        tolerance = float(baseline.abs().max()) * (1e-4 if baseline.dtype.itemsize >= 4 else 0.05)
        return torch.allclose(outputs, baseline.repeat(1 + len(groups), 1), rtol=0, atol=tolerance)

    def _masks(self, schedule: Schedule, chosen: Chosen) -> dict[str, Bool[Tensor, "_ _"]]:
        """By site, which of the chosen units each block ablates, for the sites where any block does."""
        masks = {}
        for site, element in zip(self.sites, self._elements, strict=True):
            blocks = schedule.ablated.get(element)
            if blocks is None or site.name not in chosen:
                continue
            units = (chosen[site.name] + self._first_unit[site.name]).tolist()
            column = {unit: place for place, unit in enumerate(units)}
            ablated = [(row, column[unit]) for row, group in enumerate(blocks) for unit in group if unit in column]
            if ablated:
                mask = np.zeros((len(blocks), len(units)), dtype=bool)
                mask[tuple(np.transpose(ablated))] = True
                masks[site.name] = torch.from_numpy(mask).to(chosen[site.name].device)
        return masks

    @cached_property
    def _first_unit(self) -> dict[str, int]:
        """The position of every site's first unit."""
        firsts = np.cumsum([0, *(len(site.labels) for site in self.sites)])
        return {site.name: int(first) for site, first in zip(self.sites, firsts, strict=False)}

    @cached_property
    def _elements(self) -> list[int]:
        """The element of the chain that contains each site. Without a chain, every site is an element of its own."""
        found = [element_of(self.chain, site.module) for site in self.sites]
        return [place if element is None else element for place, element in enumerate(found)]

    @cached_property
    def element_of_unit(self) -> Int[np.ndarray, " units"]:
        """The element of the chain that contains each unit."""
        return np.repeat(self._elements, [len(site.labels) for site in self.sites])


@dataclass(frozen=True, eq=False)
class _Ablation:
    """A hook on a site's module: some blocks of rows ablate some of its units. Other rows stay exactly as they are."""

    site: Site
    units: Int[Tensor, " chosen"]
    mask: Bool[Tensor, "blocks chosen"]
    n: int
    query: Int[Tensor, " examples"]
    has_positions: bool
    replacement: Replacement

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        inputs, whole = by_row(args, kwargs, output, len(self.mask) * self.n, self.has_positions, self.site.returned)
        blocks = self.mask.any(dim=1).nonzero()[:, 0]
        query = self.query.repeat(len(blocks))
        rows = (blocks[:, None] * self.n + torch.arange(self.n, device=blocks.device)).flatten()
        result = whole.clone()
        if self.replacement.intervention.positions == "query" and self.has_positions:
            at = rows, query
            result[at] = self._changed([value[at][:, None] for value in inputs], whole[at][:, None], blocks, True)[:, 0]
        else:
            first, count = int(blocks[0]), len(blocks)
            adjacent = count == int(blocks[-1]) + 1 - first  # a slice needs no copy
            part = slice(first * self.n, (first + count) * self.n) if adjacent else rows
            result[part] = self._changed([value[part] for value in inputs], whole[part], blocks, False)
        return with_result(output, result, self.site.returned)

    def _changed(
        self, inputs: Sequence[Tensor], output: Tensor, blocks: Int[Tensor, " some"], query_only: bool
    ) -> Tensor:
        """The output of the rows of these blocks, where the units that they ablate hand on the replacement."""
        columns = self.mask.any(dim=0).nonzero()[:, 0]
        units, ablated = self.units[columns], self.mask[blocks][:, columns].repeat_interleave(self.n, dim=0)
        if isinstance(self.site, Mixture) and mixes(self.replacement.intervention):
            return remixed(self.replacement, self.site, inputs, output, units, ablated)
        values = self.site.values_of(tuple(inputs), output, units)
        by_place = values if values.ndim == 4 else values.unsqueeze(1)
        query = self.query.repeat(len(blocks))
        replaced = self.replacement(self.site.name, by_place, ablated, query, query_only, columns)
        return self.site.add(output, (replaced - by_place).to(values.dtype).reshape(values.shape), units)
