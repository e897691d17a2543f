"""What checks are made of: requirements, comparison of contents, and the checks that every stage shares."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from harness.util.errors import HarnessError

Check = Callable[[Any], None]
"""Takes a built plugin; returns where it holds, raises :class:`Violation` where it does not."""


class Violation(Exception):  # noqa: N818  # what it is, not what went wrong in a program
    """A contract is broken; the text says how."""


class NotChecked(Exception):  # noqa: N818  # the same
    """A check does not apply here; the text says why."""


def require(holds: object, otherwise: str) -> None:
    """Raise a violation that says ``otherwise`` unless it holds."""
    if not holds:
        raise Violation(otherwise)


def contents(value: Any) -> Any:
    """Everything a value is made of, down to bytes, so that ``==`` compares two of them bit by bit."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, *(contents(getattr(value, f.name)) for f in dataclasses.fields(value))]
    if isinstance(value, Mapping):
        return {key: contents(of) for key, of in value.items()}
    if isinstance(value, (list, tuple)):
        return [contents(of) for of in value]
    if hasattr(value, "indptr"):  # a sparse array
        return contents([value.shape, value.indptr, value.indices, value.data])
    if hasattr(value, "detach"):  # a tensor, of whatever dtype
        value = value.detach().double().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value


def usual_checks(
    ordinary: Callable[[Any], Mapping[str, Any]], judge: Callable[[Any, Any], None], may_need_a_file: bool = False
) -> tuple[Check, ...]:
    """The checks of a stage whose plugins are called once: ``ordinary`` makes the input, ``judge`` looks at the output.

    Where plugins ``may_need_a_file``, one that has none yet says so, and is not checked further.

    The first one decides whether the others are worth running.
    """

    def answers_ordinary_input(plugin: Any) -> None:
        given = ordinary(plugin)
        try:
            made = plugin(**given)
        except HarnessError as error:
            if may_need_a_file and any(f.metadata.get("by_content") for f in dataclasses.fields(plugin)):
                raise NotChecked(f"needs a file: {error.what}") from error
            raise
        judge(plugin, made)

    def gives_the_same_twice(plugin: Any) -> None:
        first, second = (contents(plugin(**ordinary(plugin))) for _ in range(2))
        require(first == second, "two calls with the same input differ: draw from a generator made from `seed`")

    def leaves_its_input_as_it_was(plugin: Any) -> None:
        given = ordinary(plugin)
        before = contents(given)
        plugin(**given)
        require(contents(given) == before, "the call changed its input: other stages and cells share it, copy first")

    def keeps_out_of_global_random_state(plugin: Any) -> None:
        answers = []
        for seed in (1, 2):
            with _global_seed(seed):
                before = _global_state()
                answers.append(contents(plugin(**ordinary(plugin))))
                require(_global_state() == before, "the call moved a global random state: use np.random.default_rng")
        require(answers[0] == answers[1], "the result depends on a global random state: draw from `seed`")

    return (
        answers_ordinary_input,
        gives_the_same_twice,
        leaves_its_input_as_it_was,
        keeps_out_of_global_random_state,
    )


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    import torch

    found = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(found[0])
        np.random.set_state(found[1])
        torch.set_rng_state(found[2])


def _global_state() -> Any:
    """Without the standard library's `random`, whose dice runtime type checkers roll; see the other check for it."""
    import torch

    return contents([np.random.get_state(), torch.get_rng_state()])
