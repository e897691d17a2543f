"""Cells in one process do not influence each other: every state that they share is restored after each cell."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from harness.cells.cell import Cell
from harness.data.contracts import Subject
from harness.util.cache import Memo
from harness.util.seeds import seed_for

# Variables that libraries set for themselves when they are first imported.
OF_LIBRARIES = ("KMP_", "TORCHINDUCTOR_", "MLFLOW_")
PUT_BACK = "This has been put back."


@dataclass(frozen=True)
class State:
    """A state that all cells of a process share: how it is read, and how it is restored."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]


@contextmanager
def isolated(cell: Cell, memo: Memo, warn: Callable[[str], None]) -> Iterator[None]:
    """Run a cell so that its record is the only effect.

    Global random states are equal at the start of every cell, wherever it runs, and are restored afterwards. All other
    shared states that a cell changed are restored and reported. If it changed the model, the model is loaded again for
    the next cell.
    """
    import torch

    shared = _states()
    before = [state.read() for state in shared]
    chance = random.getstate(), np.random.get_state()
    seed = seed_for(cell.settings.seed, "global random states")
    random.seed(seed)
    np.random.seed(seed)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(chance[0])
        np.random.set_state(chance[1])
        changed: list[tuple[str, str]] = []
        for state, value in zip(shared, before, strict=True):
            if (now := state.read()) != value:
                state.restore(value)
                changed.append((f"{state.name}{_difference(value, now)}", PUT_BACK))
        if remedies := [remedy for model, (loaded, remedy) in _models.items() if _fingerprint(model) != loaded]:
            memo.forget("subject")
            _models.clear()
            changed.append(("the model (hooks, weights, mode or attention implementation)", remedies[0]))
        for what, remedy in changed:
            warn(f"cell {cell.id} changed {what}. {remedy} Its methods: {cell.method}")


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Tells whether the user has pressed Ctrl-C in this block: a method can raise KeyboardInterrupt as well.

    Ctrl-C reaches the main thread only. Its handler is put back at the end, whatever a method set.
    """
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False
        return

    def handler(number: int, frame: Any) -> None:
        pressed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


# ----------------------------------------------------------------------------------------------------------------------
# Models, as they were loaded
# ----------------------------------------------------------------------------------------------------------------------

_models: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()


def watch_models(subject: Subject, remedy: str = PUT_BACK) -> None:
    """Remember the state of the subject's model. ``remedy``: what follows if a cell changes it."""
    if subject.model is not None:
        _models[subject.model] = _fingerprint(subject.model), remedy


def _fingerprint(model: Any) -> Any:
    """Values that differ after a model was changed. The version of a tensor counts its changes in place."""
    hooks = [
        [*module._forward_pre_hooks, *module._forward_hooks, *module._backward_pre_hooks, *module._backward_hooks]
        for module in model.modules()
    ]
    weights = [(id(weight), None if weight.is_inference() else weight._version) for weight in model.parameters()]
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return hooks, weights, model.training, attention


# ----------------------------------------------------------------------------------------------------------------------
# The process
# ----------------------------------------------------------------------------------------------------------------------


def _states() -> tuple[State, ...]:
    import torch

    return (
        State("environment variables", _environment, _set_environment),
        State("the current folder", os.getcwd, os.chdir),
        State("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        State("whether torch keeps gradients", torch.is_grad_enabled, torch.set_grad_enabled),
        State("the number of torch's threads", torch.get_num_threads, torch.set_num_threads),
        State("numpy's error handling", np.geterr, lambda handling: np.seterr(**handling)),
        State("the active MLflow run", _active_run, lambda _: sys.modules["mlflow"].end_run()),
    )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(OF_LIBRARIES)}


def _set_environment(variables: Mapping[str, str]) -> None:
    for name in _environment().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _active_run() -> str | None:
    """The active run of a plugin: the harness itself has none. MLflow is not imported for this."""
    run = sys.modules["mlflow"].active_run() if "mlflow" in sys.modules else None
    return str(run.info.run_id) if run else None


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict):
        return f" ({', '.join(sorted(key for key in {*before, *now} if before.get(key) != now.get(key)))})"
    return f" ({before} -> {now})"
