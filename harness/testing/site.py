"""Checks of the sites of a subject: what units hand on, and how a change of it reaches the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.batch import Vocabulary
from harness.engine.forward import by_row
from harness.engine.sites import Site
from harness.testing.bench import Bench, bench
from harness.testing.checks import Check, NotChecked, require
from harness.testing.probes import Output


@dataclass(frozen=True)
class _Pass:
    """The inputs and the output of a site's module in one pass, and what its units hand on there."""

    site: Site
    inputs: tuple[Tensor, ...]
    output: Tensor
    values: Tensor

    @property
    def all_units(self) -> Tensor:
        return torch.arange(len(self.site.labels), device=self.output.device)

    def added(self, change: Tensor, units: Tensor | None = None) -> Tensor:
        """How much the output grows if units hand on ``change`` more."""
        return self.site.add(self.output, change, self.all_units if units is None else units) - self.output

    def close(self, value: Tensor, other: Tensor) -> bool:
        size = float(self.output.abs().max().clamp(min=1e-6))
        return value.shape == other.shape and bool(
            torch.allclose(value.float(), other.float(), rtol=1e-3, atol=1e-4 * size)
        )


def hands_on_values_of_the_right_shape(plugin: Any) -> None:
    """`values` of a site is [rows, *places, units, width], and `values_of` is a part of it."""
    for one in _passes(bench(plugin)):
        name, values, some = one.site.name, one.values, one.all_units[::2]
        places = one.output.ndim - 2
        require(
            values.ndim == 3 + places and values.shape[-2] == len(one.site.labels),
            f"site {name}: `values` has shape {list(values.shape)}; its {len(one.site.labels)} units need "
            f"[rows, {'places, ' * places}units, width]",
        )
        part = one.site.values_of(one.inputs, one.output, some)
        require(one.close(part, values.index_select(-2, some)), f"site {name}: `values_of` is not a part of `values`")


def keeps_rows_and_positions_apart(plugin: Any) -> None:
    """`values` and `add` treat every row and every position separately."""
    for one in _passes(bench(plugin)):
        name = one.site.name
        change = torch.ones_like(one.values)
        for axis, word in enumerate(("row", "position")[: one.output.ndim - 1]):
            for place in range(one.output.shape[axis]):
                inputs = tuple(value.narrow(axis, place, 1) for value in one.inputs)
                output = one.output.narrow(axis, place, 1)
                require(
                    one.close(one.site.values(inputs, output), one.values.narrow(axis, place, 1)),
                    f"site {name}: `values` of a {word} depend on other {word}s",
                )
                added = one.site.add(output, change.narrow(axis, place, 1), one.all_units)
                whole = one.site.add(one.output, change, one.all_units).narrow(axis, place, 1)
                require(one.close(added, whole), f"site {name}: `add` at a {word} depends on other {word}s")


def adds_changes_up(plugin: Any) -> None:
    """`add` is linear: no change leaves the output exactly as it is, and the changes of several units add up."""
    for one in _passes(bench(plugin)):
        name, generator = one.site.name, torch.Generator().manual_seed(0)
        zero = torch.zeros_like(one.values)
        require(
            torch.equal(one.site.add(one.output, zero, one.all_units), one.output),
            f"site {name}: `add` with a change of zero changes the output: add to `output`, do not compute it again",
        )
        size = one.values.abs().mean().clamp(min=1e-3)
        first, second = (torch.randn(one.values.shape, generator=generator).to(one.values) * size for _ in range(2))
        require(
            one.close(one.added(first) + one.added(second), one.added(first + second))
            and one.close(2 * one.added(first), one.added(2 * first)),
            f"site {name}: `add` is not linear in the change",
        )
        some = one.all_units[:: 1 + len(one.all_units) // 8].flip(0)
        by_unit = [one.added(first[..., [unit], :], one.all_units[[unit]]) for unit in some.tolist()]
        others = torch.isin(one.all_units, some, invert=True)
        require(
            one.close(sum(by_unit, torch.zeros_like(one.output)), one.added(first[..., some, :], some))
            and one.close(
                sum(by_unit, torch.zeros_like(one.output)), one.added(first.index_fill(-2, others.nonzero()[:, 0], 0))
            ),
            f"site {name}: the changes of single units do not add up to the change of all: `add` gets the places of "
            "the changed units as `units`, in the order of `change`",
        )


def takes_away_what_units_hand_on(plugin: Any) -> None:
    """Without what its units hand on, the output of a complete site is constant (a bias, or zero)."""
    for one in _passes(bench(plugin)):
        if not one.site.complete:
            continue
        rest = (one.output + one.added(-one.values)).flatten(0, -2).float()
        left, whole = (rest - rest.mean(dim=0)).norm(), (one.output - one.output.flatten(0, -2).mean(dim=0)).norm()
        require(
            left <= 1e-3 * whole + 1e-5,
            f"site {one.site.name}: its values do not add up to its output. Without what its units hand on, "
            f"{float(left / whole):.0%} of the output's variation remains: correct `values` or `add`, or declare "
            "`complete: ClassVar[bool] = False` if a part of the output belongs to no unit (a skip connection)",
        )


def _passes(test: Bench) -> Iterator[_Pass]:
    """Each site in a pass of the examples, if the subject has sites."""
    sites = getattr(test.subject, "sites", ())
    if not sites:
        raise NotChecked("it has no sites (HookedSubject has)")
    # Examples of one length share a pass, so that a hook sees all of them.
    batch = test.batch.take(np.flatnonzero(test.batch.query == test.batch.query[0]))
    seen: dict[str, tuple[tuple[Tensor, ...], Tensor]] = {}

    def keeping(site: Site) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            seen[site.name] = by_row(args, kwargs, output, len(batch), isinstance(test.subject.reads, Vocabulary))

        return hook

    with ExitStack() as stack:
        for site in sites:
            stack.callback(site.module.register_forward_hook(keeping(site), with_kwargs=True).remove)
        test.evaluate([()], Output(), batch)
    with torch.inference_mode():
        for site in sites:
            inputs, output = seen[site.name]
            yield _Pass(site, inputs, output, site.values(inputs, output))


SITE: tuple[Check, ...] = (
    hands_on_values_of_the_right_shape,
    keeps_rows_and_positions_apart,
    adds_changes_up,
    takes_away_what_units_hand_on,
)
