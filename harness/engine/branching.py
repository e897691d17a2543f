"""Many conditions in one forward pass: they share work up to the layer in which they begin to differ.

The rows of a pass are examples x blocks (:mod:`harness.engine.schedule`). Four things are computed once, or not at all.

**trunk**: conditions that ablate the same units up to a layer are one block of rows up to that layer. Hooks on each
residual block add the copies:

    block 0  -- layer 0 --+-- layer 1 ----- layer 2 --
                          |
                          +-- layer 1 --+-- layer 2 --      copies enter layer 1 and layer 2
                                        |
                                        +-- layer 2 --

**inside**: in the layer where conditions begin to differ, a copy differs from its original only after attention. Norms,
queries, keys, values and attention are computed for the originals; the copies are added to their outputs:

    originals    norm  q k v  attention --+-- ablate --+
    copies       .     .      .           +-- ablate --+--  output projection, MLP, for all rows

**tail**: after the last layer only the query is read. The last block therefore runs twice. The first call stops as
soon as the head outputs at the query are known. The second call gets the query position only, and those head outputs
in place of attention. The unembedding, too, gets the query position only.

**past**: with ablation at the query alone, a condition is a pass of one token (:mod:`harness.engine.past`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.engine.attention import Heads, Probe, active
from harness.engine.batching import at_query, unembedding_only
from harness.engine.budget import Load
from harness.engine.chain import for_rows, with_copies
from harness.engine.discovery import AttentionSite
from harness.engine.past import Past
from harness.engine.replacement import Replacement
from harness.engine.schedule import Schedule, load_of
from harness.engine.sharing import Shared


class _HeadsKnown(Exception):  # noqa: N818  # not an error: it ends a block early
    """The wanted head outputs are known; the rest of this block need not run."""


@dataclass
class _Pass:
    """One forward pass of ``n`` examples. Fields without a value are set by one hook and read by a later one.

    ``copied``: the blocks of rows whose copies are the last rows, from the start of a layer until its attention has
    run; ``first_call``: whether the last layer runs for the first time, to get its heads at the query; ``heads``: these
    head outputs, for the second time; ``length``: number of positions to which the query's hidden state is repeated
    after the last layer, because later modules expect that shape (0: it is not repeated).
    """

    n: int
    query: Int[Tensor, " examples"]
    schedule: Schedule
    masks: Mapping[int, Bool[Tensor, "blocks heads"]]
    replacement: Replacement
    past: Mapping[int, Past] | None = None
    copied: Sequence[int] = ()
    first_call: bool = False
    heads: Tensor | None = None
    length: int = 0

    def originals(self, rows: Tensor) -> Tensor:
        """The rows without the copies."""
        return rows[: len(rows) - self.n * len(self.copied)]

    def with_copies(self, rows: Tensor, copied: Sequence[int]) -> Tensor:
        """These rows, followed by a copy of each of the given blocks of them."""
        return with_copies(rows, copied, self.n)

    def queries(self, rows: Tensor) -> Int[Tensor, " rows"]:
        """The query position of each of these rows."""
        return self.query.to(rows.device).repeat(len(rows) // self.n)


class Branching:
    """A model that evaluates many conditions in one pass. ``shared``: the parts of the work that conditions share."""

    def __init__(
        self, model: PreTrainedModel, sites: Mapping[nn.Module, AttentionSite], units: UnitSpace, shared: Shared
    ) -> None:
        self.model, self.units, self.shared = model, units, shared
        self._layer_of = {module: site.layer for module, site in sites.items()}
        self._sites = sorted(sites.values(), key=lambda site: site.layer)
        self._columns = {site.layer: np.flatnonzero(units.depth_of == site.layer) for site in self._sites}
        self._pass: _Pass | None = None

    def logits(
        self,
        tokens: Int[Tensor, "examples positions"],
        query: Int[Tensor, " examples"],
        conditions: Sequence[Group],
        replacement: Replacement,
        past: Mapping[int, Past] | None = None,
    ) -> Float[Tensor, "rows vocabulary"]:
        """Logits at the query: of the baseline, then under each condition.

        Conditions whose first ablated units are the same should be in one call: only such conditions can share work.
        With a ``past`` only the token at the query is run.
        """
        n = len(tokens)
        schedule = Schedule.of([(), *conditions], self.units.depth_of, self.shared.trunk)
        self._pass = _Pass(n, query, schedule, self._masks(schedule, query.device), replacement, past)
        options: dict[str, Tensor] = {}
        if past is not None:
            tokens = tokens.gather(1, query[:, None])
            options["position_ids"] = query[:, None].repeat(schedule.entering, 1)
        try:
            with active(Probe(query, compute=self._attend)), self._hooked():
                logits: Tensor = self.model(tokens.repeat(schedule.entering, 1), **options, use_cache=False).logits
        finally:
            self._pass = None
        blocks = logits[:, 0].reshape(-1, n, logits.shape[-1])
        return blocks[torch.tensor(schedule.places, device=logits.device)].flatten(0, 1)

    def load(self, conditions: Sequence[Group], query_only: bool = False) -> Load:
        """Rows per example of a pass under these conditions."""
        if query_only:
            return Load.throughout(1 + len(conditions))
        return load_of(Schedule.of([(), *conditions], self.units.depth_of, self.shared.trunk).blocks)

    def past(self, tokens: Int[Tensor, "examples positions"], query: Int[Tensor, " examples"]) -> dict[int, Past]:
        """Keys and values from a baseline pass of the examples, by layer, for passes of the query alone."""
        found: dict[int, Past] = {}

        def keep(module: nn.Module, heads: Heads) -> Tensor:
            found[self._layer_of[module]] = Past.of(heads, query.to(heads.key.device))
            if len(found) == len(self._columns):
                raise _HeadsKnown
            return heads.outputs()

        try:
            with active(Probe(query, compute=keep)):
                self.model.base_model(tokens, use_cache=False)
        except _HeadsKnown:
            pass
        return found

    # -- hooks of a pass, in the order in which they run -------------------------------------------------------------

    def _enter(self, site: AttentionSite, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before a block: add the copies that branch off in it; let only the query through the last one."""
        running = self._running
        if running.first_call:
            return None
        copied = running.schedule.copies.get(site.layer, [])
        hidden = running.with_copies(args[0] if args else kwargs["hidden_states"], copied)
        running.copied = copied if self.shared.inside and running.past is None else ()
        length = hidden.shape[1]

        def inputs(hidden: Tensor, adapt: Callable[[Any], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            """The block's arguments with these hidden states, and all others adapted to them."""
            named = {key: adapt(value) for key, value in kwargs.items() if key != "hidden_states"}
            return ((hidden, *map(adapt, args[1:])), named) if args else ((), {**named, "hidden_states": hidden})

        def adapted(value: Any) -> Any:
            return for_rows(value, running.n, len(hidden))

        every_position = inputs(hidden, adapted)
        if site is not self._sites[-1] or not self.shared.tail or running.past is not None or length == 1:
            return every_position
        running.first_call = True
        try:
            block(*every_position[0], **every_position[1])
        except _HeadsKnown:
            pass
        finally:
            running.first_call = False
        running.length = length
        return inputs(
            at_query(hidden, running.queries(hidden)), lambda value: _for_one_position(adapted(value), length)
        )

    def _drop_copies(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Before a module that runs before attention: originals only."""
        running = self._running
        return (running.originals(args[0]), *args[1:]) if running.copied else None

    def _add_copies(self, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """After a module that runs before attention: copies get the outputs of their originals."""
        running = self._running
        return running.with_copies(output, running.copied) if running.copied else None

    def _attend(self, module: nn.Module, heads: Heads) -> Float[Tensor, "rows positions heads value_dim"]:
        """Instead of attention: head outputs, with those of ablated heads replaced."""
        running = self._running
        layer = self._layer_of[module]
        if running.heads is not None:  # the second call of the last block
            output, running.heads = running.heads, None
            return output
        if running.past is not None:
            output = running.past[layer].outputs(heads)
        else:
            heads = heads.first(len(running.originals(heads.query)))
            output = heads.outputs_at(running.queries(heads.query)) if running.first_call else heads.outputs()
            output = running.with_copies(output, running.copied)
        running.copied = ()
        if layer in running.masks:
            ablated = running.masks[layer].repeat_interleave(running.n, dim=0).to(output.device)
            query_only = running.first_call or running.past is not None
            output = running.replacement(layer, output, ablated, running.queries(output), query_only)
        if running.first_call:
            running.heads = output
            raise _HeadsKnown
        return output

    def _repeat_query(self, _: nn.Module, __: Any, output: Any) -> Any:
        """After the last block, and after each later module: the query's hidden state at every position."""
        running = self._running
        if not running.length or running.first_call:
            return None
        if isinstance(output, tuple):
            return (output[0].expand(-1, running.length, -1), *output[1:])
        return output.expand(-1, running.length, -1)

    def _first_position(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Before a module that follows the last block: all positions are the same, so one is enough."""
        return (args[0][:, :1], *args[1:]) if self._running.length else None

    def _query_of(self, hidden: Tensor) -> Tensor:
        """Before the unembedding: the query's hidden state."""
        running = self._running
        query_only = running.length or running.past is not None
        return hidden[:, :1] if query_only else at_query(hidden, running.queries(hidden))

    @property
    def _running(self) -> _Pass:
        assert self._pass is not None  # hooks are installed only while a pass runs
        return self._pass

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        with ExitStack() as stack:
            for site in self._sites:

                def enter(block: nn.Module, args: Any, kwargs: Any, site: AttentionSite = site) -> Any:
                    return self._enter(site, block, args, kwargs)

                stack.callback(site.block.register_forward_pre_hook(enter, with_kwargs=True).remove)
                for module in site.before if self.shared.inside else ():
                    stack.callback(module.register_forward_pre_hook(self._drop_copies).remove)
                    stack.callback(module.register_forward_hook(self._add_copies).remove)
            last = self._sites[-1]
            for module in (last.block, *last.after):
                stack.callback(module.register_forward_hook(self._repeat_query).remove)
            for module in last.after:
                stack.callback(module.register_forward_pre_hook(self._first_position).remove)
            stack.enter_context(unembedding_only(self.model, self._query_of))
            yield

    def _masks(self, schedule: Schedule, device: torch.device) -> dict[int, Bool[Tensor, "blocks heads"]]:
        """Which heads of a layer each block ablates, for the layers where any block does."""
        masks = {}
        for layer, blocks in schedule.ablated.items():
            if blocks is not None:
                columns = self._columns[layer]
                mask = np.zeros((len(blocks), len(columns)), dtype=bool)
                for row, units in zip(mask, blocks, strict=True):
                    row[np.searchsorted(columns, units)] = True
                masks[layer] = torch.from_numpy(mask).to(device)
        return masks


def _for_one_position(value: Any, length: int) -> Any:
    """An argument with one entry per position, cut to one. Any entry will do, because the head outputs are known."""
    if isinstance(value, tuple):
        return tuple(_for_one_position(part, length) for part in value)
    if isinstance(value, Tensor):
        for dim in range(min(1, value.ndim - 1), value.ndim):
            if value.shape[dim] == length:
                value = value.narrow(dim, 0, 1)
    return value
