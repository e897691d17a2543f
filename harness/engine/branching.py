"""Many conditions in one forward pass: they share work up to the layer in which they begin to differ.

Rows are examples x conditions. What is not computed twice, or at all:

- blocks up to the layer where two conditions part: they are one block of rows until then, and conditions that ablate
  nothing yet are the baseline model;
- in that layer, everything up to the heads' outputs, which ablation does not reach;
- in the last layer, whatever is not at the query: other positions are only attended to;
- the unembedding of other positions.

Where units are ablated at the query only, earlier positions never hear of it: their keys and values are those of the
baseline model, and a condition is a pass of one token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.units import UnitSpace
from harness.engine.attention import Heads, Probe, active
from harness.engine.batching import at_query
from harness.engine.budget import Load
from harness.engine.discovery import Site
from harness.engine.replacement import Replacement
from harness.engine.schedule import Forks, blocks_of, load_of


@dataclass(frozen=True)
class Shared:
    """What a model lets conditions share.

    ``trunk``: the layers before they part; ``inside``: the layer where they do, up to the heads' outputs; ``tail``: the
    last layer's work, but for keys and values, is done at the query alone; ``past``: keys and values of the positions
    before the query.
    """

    trunk: bool = True
    inside: bool = True
    tail: bool = True
    past: bool = True

    @property
    def words(self) -> list[str]:
        """Their names, for a record."""
        return [name for name, given in vars(self).items() if given]


class _AtTheQuery(Exception):  # noqa: N818  # not an error: it leaves a block that has shown what was wanted of it
    """The heads' outputs at the query are known, and nothing else of this block is needed at other positions."""


@dataclass(frozen=True)
class Past:
    """Keys and values of baseline examples, and what of them each one's query sees, itself left out."""

    key: Float[Tensor, "examples kv_heads keys head_dim"]
    value: Float[Tensor, "examples kv_heads keys value_dim"]
    seen: Float[Tensor, "examples _ keys"]

    @classmethod
    def of(cls, heads: Heads, query: Int[Tensor, " examples"]) -> Past:
        """What one attention module of a baseline run leaves."""
        seen = heads.seen(query).clone()
        seen.scatter_(2, query[:, None, None].expand(*seen.shape[:2], 1), torch.finfo(seen.dtype).min)
        return cls(heads.key, heads.value, seen)

    def output(self, heads: Heads) -> Float[Tensor, "rows 1 heads value_dim"]:
        """Outputs of rows of one token each, its own key and value added to those of its example's past."""
        n, rows = len(self.key), len(heads.query)
        key, value = heads.shared(self.key), heads.shared(self.value)
        apart = (rows // n, n, heads.query.shape[1])
        asked = heads.query.reshape(*apart, -1)
        back = torch.einsum("cehd,ehkd->cehk", asked, key)
        own = (heads.query * heads.shared(heads.key)).sum(-1).reshape(*apart, 1)
        scores = heads.capped(torch.cat([back, own], dim=-1) * heads.scaling).float()
        scores[..., :-1] += self.seen
        weights = scores.softmax(-1).to(value.dtype)
        found = torch.einsum("cehk,ehkd->cehd", weights[..., :-1], value).flatten(0, 1)
        return (found + weights[..., -1:].flatten(0, 1) * heads.shared(heads.value).squeeze(2)).unsqueeze(1)


@dataclass
class _Run:
    """One pass of ``n`` examples, and where in it we are.

    ``joining``: in this block, until attention has run, the blocks of rows that the last ones are copies of.
    ``spread``: how many positions the query's stands for after the last block, so that what follows finds the shape it
    expects.
    """

    n: int
    query: Int[Tensor, " examples"]
    forks: Forks
    masks: Mapping[int, Bool[Tensor, "blocks heads"]]
    replacement: Replacement
    past: Mapping[int, Past] | None = None
    joining: Sequence[int] = ()
    looking: bool = False
    at_query: Tensor | None = None
    spread: int = 0

    def old(self, rows: Tensor) -> Tensor:
        """The rows that are not copies."""
        return rows[: len(rows) - self.n * len(self.joining)]

    def joined(self, rows: Tensor, joining: Sequence[int]) -> Tensor:
        """These rows, and after them copies of those blocks of them."""
        if not joining:
            return rows
        blocks = rows.reshape(-1, self.n, *rows.shape[1:])
        places = torch.tensor([*range(len(blocks)), *joining], device=rows.device)
        return blocks.index_select(0, places).flatten(0, 1)

    def queries(self, rows: Tensor) -> Int[Tensor, " rows"]:
        """The query of each of these rows."""
        return self.query.to(rows.device).repeat(len(rows) // self.n)


class Branching:
    """A model at work on examples under many conditions."""

    def __init__(
        self, model: PreTrainedModel, sites: Mapping[nn.Module, Site], units: UnitSpace, shared: Shared
    ) -> None:
        self.model, self.units, self.shared = model, units, shared
        self._layer_of = {module: site.layer for module, site in sites.items()}
        self._sites = sorted(sites.values(), key=lambda site: site.layer)
        self._columns = {site.layer: np.flatnonzero(units.layers == site.layer) for site in self._sites}
        self._run: _Run | None = None

    def logits(
        self,
        tokens: Int[Tensor, "examples positions"],
        query: Int[Tensor, " examples"],
        conditions: Sequence[Sequence[int]],
        replacement: Replacement,
        past: Mapping[int, Past] | None = None,
    ) -> Float[Tensor, "rows vocabulary"]:
        """At the query: of the baseline examples, then under each condition.

        Conditions that begin alike should stand together: one call shares what it can among its own. With a ``past``
        only the token at the query is run.
        """
        n = len(tokens)
        forks = Forks.of([(), *conditions], self.units.layers, self.shared.trunk)
        self._run = run = _Run(n, query, forks, self._masks(forks, query.device), replacement, past)
        told: dict[str, Tensor] = {}
        if past is not None:
            tokens = tokens.gather(1, query[:, None])
            told["position_ids"] = query[:, None].repeat(forks.entering, 1)
        try:
            with active(Probe(query, compute=self._attend)), self._hooked():
                logits: Tensor = self.model(tokens.repeat(forks.entering, 1), **told, use_cache=False).logits[:, 0]
        finally:
            self._run = None
        blocks = logits.reshape(-1, n, logits.shape[-1])
        return blocks[torch.tensor(run.forks.places, device=logits.device)].flatten(0, 1)

    def load(self, conditions: Sequence[Sequence[int]], of_one_token: bool = False) -> Load:
        """Rows that a pass under these conditions has for each example."""
        if of_one_token:
            return Load.throughout(1 + len(conditions))
        return load_of(blocks_of(conditions, self.units.layers, self.shared.trunk))

    def past(self, tokens: Int[Tensor, "examples positions"], query: Int[Tensor, " examples"]) -> dict[int, Past]:
        """What a baseline run of the examples leaves for passes of the query alone, by layer."""
        found: dict[int, Past] = {}

        def keep(module: nn.Module, heads: Heads) -> Tensor:
            found[self._layer_of[module]] = Past.of(heads, query.to(heads.key.device))
            if len(found) == len(self._columns):
                raise _AtTheQuery
            return heads.outputs()

        try:
            with active(Probe(query, compute=keep)):
                self.model.base_model(tokens, use_cache=False)
        except _AtTheQuery:
            pass
        return found

    # -- inside a pass -----------------------------------------------------------------------------------------------

    def _attend(self, module: nn.Module, heads: Heads) -> Float[Tensor, "rows positions heads value_dim"]:
        run = self._running
        layer = self._layer_of[module]
        if run.at_query is not None:  # the last block once more, at the query alone: its heads have been computed
            made, run.at_query = run.at_query, None
            return made
        if run.past is not None:
            output = run.past[layer].output(heads)
        else:
            old = heads.first(len(run.old(heads.query)))
            output = old.output(run.queries(old.query)) if run.looking else old.outputs()
            output = run.joined(output, run.joining)
        run.joining = ()
        if layer in run.masks:
            rows = run.masks[layer].repeat_interleave(run.n, dim=0).to(output.device)
            alone = run.looking or run.past is not None
            output = run.replacement(layer, output, rows, run.queries(output), alone)
        if run.looking:
            run.at_query = output
            raise _AtTheQuery
        return output

    def _enter(self, site: Site, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Rows that leave the trunk here join; of the last block, only the query is let through."""
        run = self._running
        if run.looking:
            return None
        hidden = args[0] if args else kwargs["hidden_states"]
        joining = run.forks.copies.get(site.layer, [])
        hidden = run.joined(hidden, joining)
        run.joining = joining if self.shared.inside and run.past is None else ()
        beside = tuple(_for_branches(value, run.n, len(hidden)) for value in args[1:])
        named = {key: _for_branches(value, run.n, len(hidden)) for key, value in kwargs.items()}
        length = hidden.shape[1]
        if site is self._sites[-1] and self.shared.tail and run.past is None and length > 1:
            given = (hidden, *beside) if args else beside
            run.looking = True
            try:
                block(*given, **(named if args else {**named, "hidden_states": hidden}))
            except _AtTheQuery:
                pass
            finally:
                run.looking = False
            hidden, run.spread = at_query(hidden, run.queries(hidden)), length
            beside = tuple(_of_one_position(value, length) for value in beside)
            named = {key: _of_one_position(value, length) for key, value in named.items()}
        return ((hidden, *beside), named) if args else ((), {**named, "hidden_states": hidden})

    def _narrow(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        run = self._running
        return (run.old(args[0]), *args[1:]) if run.joining else None

    def _widen(self, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor | None:
        run = self._running
        return run.joined(output, run.joining) if run.joining else None

    def _one(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return (args[0][:, :1], *args[1:]) if self._running.spread else None

    def _every(self, _: nn.Module, __: Any, output: Any) -> Any:
        run = self._running
        if not run.spread or run.looking:
            return None
        if isinstance(output, tuple):
            return (output[0].expand(-1, run.spread, -1), *output[1:])
        return output.expand(-1, run.spread, -1)

    def _only_the_query(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Hand only the query to the unembedding; what a model does to its logits afterwards still happens."""
        run, hidden = self._running, args[0]
        alone = run.spread or run.past is not None
        return (hidden[:, :1] if alone else at_query(hidden, run.queries(hidden)), *args[1:])

    @property
    def _running(self) -> _Run:
        assert self._run is not None  # hooks are there only while a pass is
        return self._run

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        with ExitStack() as stack:
            for site in self._sites:

                def enter(block: nn.Module, args: Any, kwargs: Any, site: Site = site) -> Any:
                    return self._enter(site, block, args, kwargs)

                stack.callback(site.block.register_forward_pre_hook(enter, with_kwargs=True).remove)
                for module in site.before if self.shared.inside else ():
                    stack.callback(module.register_forward_pre_hook(self._narrow).remove)
                    stack.callback(module.register_forward_hook(self._widen).remove)
            last = self._sites[-1]
            for module in (last.block, *last.after):
                stack.callback(module.register_forward_hook(self._every).remove)
            for module in last.after:
                stack.callback(module.register_forward_pre_hook(self._one).remove)
            head = self.model.get_output_embeddings()
            stack.callback(head.register_forward_pre_hook(self._only_the_query).remove)
            yield

    def _masks(self, forks: Forks, device: torch.device) -> dict[int, Bool[Tensor, "blocks heads"]]:
        """Which heads of a layer each block goes without, where any does."""
        masks = {}
        for layer, blocks in forks.ablated.items():
            if blocks is not None:
                columns = self._columns[layer]
                mask = np.zeros((len(blocks), len(columns)), dtype=bool)
                for row, units in zip(mask, blocks, strict=True):
                    row[np.searchsorted(columns, units)] = True
                masks[layer] = torch.from_numpy(mask).to(device)
        return masks


def _for_branches(value: Any, n: int, rows: int) -> Any:
    """What comes along with ``n`` trunk rows (rotary angles, masks), repeated for all rows. One row broadcasts."""
    if isinstance(value, tuple):
        return tuple(_for_branches(part, n, rows) for part in value)
    if isinstance(value, Tensor) and value.ndim > 2 and 1 < n == len(value) < rows:
        return value.repeat(rows // n, *[1] * (value.ndim - 1))
    return value


def _of_one_position(value: Any, length: int) -> Any:
    """What comes along with all positions, for one: which one does not matter, its heads have been computed."""
    if isinstance(value, tuple):
        return tuple(_of_one_position(part, length) for part in value)
    if isinstance(value, Tensor):
        for dim in range(min(1, value.ndim - 1), value.ndim):
            if value.shape[dim] == length:
                value = value.narrow(dim, 0, 1)
    return value
