"""A module as a chain of blocks, and how the rows of conditions are added on the way through it.

Conditions are one block of rows up to the first chain element in which they ablate different units
(:mod:`harness.engine.schedule`). A hook on every element adds the copies that branch off there:

    baseline  -- element 0 --+-- element 1 ----- element 2 --
                             |
                             +-- element 1 --+-- element 2 --      copies enter element 1 and element 2
                                             |
                                             +-- element 2 --
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.engine.schedule import Schedule


def chain_of(model: nn.Module, modules: Sequence[nn.Module]) -> list[nn.Module]:
    """The blocks that contain these modules: the container of which most elements have one. Empty: there is none.

    Whether the elements run one after the other is not visible here; see :meth:`HookedSubject` for the test.
    """
    chains = [list(part.children()) for part in model.modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
    able = [chain for chain in chains if all(element_of(chain, module) is not None for module in modules)]
    return max(able, key=lambda chain: len({element_of(chain, module) for module in modules}), default=[])


def element_of(chain: Sequence[nn.Module], module: nn.Module) -> int | None:
    """The index of the element that is the module, or contains it."""
    return next((i for i, element in enumerate(chain) if any(part is module for part in element.modules())), None)


@contextmanager
def growing(chain: Sequence[nn.Module], schedule: Schedule, n: int) -> Iterator[None]:
    """While the block runs, a pass of ``n`` examples grows to all blocks of the schedule on its way."""
    with ExitStack() as stack:
        for place, element in enumerate(chain):
            hook = _adding(schedule.copies.get(place, ()), n)
            stack.callback(element.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def with_copies(rows: Tensor, copied: Sequence[int], n: int) -> Tensor:
    """These rows, followed by a copy of each of the given blocks of ``n`` rows."""
    if not copied:
        return rows
    blocks = rows.reshape(-1, n, *rows.shape[1:])
    places = torch.tensor([*range(len(blocks)), *copied], device=rows.device)
    return blocks.index_select(0, places).flatten(0, 1)


def for_rows(value: Any, n: int, rows: int) -> Any:
    """An argument with one entry per example (rotary angles, masks), repeated for all rows; a single one broadcasts."""
    if isinstance(value, tuple):
        return tuple(for_rows(part, n, rows) for part in value)
    if isinstance(value, Tensor) and value.ndim > 2 and 1 < n == len(value) < rows:
        return value.repeat(rows // n, *[1] * (value.ndim - 1))
    return value


def _adding(copied: Sequence[int], n: int) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        first = None if args else "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
        hidden = with_copies(args[0] if args else kwargs[str(first)], copied, n)
        others = tuple(for_rows(value, n, len(hidden)) for value in args[1:])
        named = {key: hidden if key == first else for_rows(value, n, len(hidden)) for key, value in kwargs.items()}
        return ((hidden, *others), named) if args else ((), named)

    return hook
