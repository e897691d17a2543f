"""The building blocks of checks: requirements, comparison of contents, and the checks that all stages share."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy
import torch

from harness.util.errors import HarnessError

Check = Callable[[Any], None]
"""Takes a built plugin. Raises :class:`Violation` if the plugin breaks the contract."""


class Violation(Exception):  # noqa: N818  # not an error of the program
    """The plugin breaks its contract. The message says how, and how to fix it."""


class NotChecked(Exception):  # noqa: N818  # not an error of the program
    """The check does not apply. The message says why."""


def require(holds: object, otherwise: str) -> None:
    """Raise a violation with the message ``otherwise`` unless it holds."""
    if not holds:
        raise Violation(otherwise)


def require_sentence(error: HarnessError) -> None:
    """Require that an error message is a sentence."""
    require(error.what.endswith("."), f"its error message is {error.what!r}: write a sentence with a full stop")


def judge_refusal(error: HarnessError) -> None:
    """Require that an error is a sentence and says what to do instead."""
    require_sentence(error)
    require(error.fix, f"its error {error.what!r} has no fix: use HarnessError(what, fix)")


def contents(value: Any) -> Any:
    """The content of a value, down to bytes, so that ``==`` compares two values bit by bit."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, *(contents(getattr(value, f.name)) for f in dataclasses.fields(value))]
    if isinstance(value, Mapping):
        return {key: contents(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [contents(item) for item in value]
    if isinstance(value, scipy.sparse.csr_array):
        return contents([value.shape, value.indptr, value.indices, value.data])
    if isinstance(value, torch.Tensor):  # numpy has no bfloat16
        value = value.detach().double().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value


def usual_checks(
    ordinary: Callable[[Any], Mapping[str, Any]], judge: Callable[[Any, Any], None], may_need_a_file: bool = False
) -> tuple[Check, ...]:
    """The checks that all stages share. ``ordinary`` creates the input, ``judge`` checks the output.

    The other checks of a stage run only if the first one passes. If plugins ``may_need_a_file``, a plugin without its
    file is skipped.
    """

    def answers_ordinary_input(plugin: Any) -> None:
        """Ordinary input gives output of the right type and shape."""
        given = ordinary(plugin)
        try:
            output = plugin(**given)
        except HarnessError as error:
            if may_need_a_file and any(f.metadata.get("by_content") for f in dataclasses.fields(plugin)):
                raise NotChecked(f"it needs a file: {error.what}") from error
            raise
        judge(plugin, output)

    def gives_the_same_result_twice(plugin: Any) -> None:
        """Two calls with the same input give the same output."""
        first, second = (contents(plugin(**ordinary(plugin))) for _ in range(2))
        require(first == second, "two calls with the same input differ: use rng_for(self.seed, ...) for random numbers")

    def does_not_change_its_input(plugin: Any) -> None:
        """A call leaves its input as it is."""
        given = ordinary(plugin)
        before = contents(given)
        plugin(**given)
        require(
            contents(given) == before, "the call changed its input, which other stages and cells share: copy it first"
        )

    def does_not_use_global_random_state(plugin: Any) -> None:
        """All random numbers come from the method's own seed."""
        answers = []
        for seed in (1, 2):
            with global_seed(seed):
                before = _global_state()
                answers.append(contents(plugin(**ordinary(plugin))))
                require(
                    _global_state() == before, "the call changed a global random state: use rng_for(self.seed, ...)"
                )
        require(answers[0] == answers[1], "the result depends on a global random state: use rng_for(self.seed, ...)")

    return (
        answers_ordinary_input,
        gives_the_same_result_twice,
        does_not_change_its_input,
        does_not_use_global_random_state,
    )


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _global_state() -> Any:
    """The states of numpy and torch. Runtime type checkers use `random`, so its state is not compared."""
    return contents([np.random.get_state(), torch.get_rng_state()])
