"""Seeds on a board: cells that differ only in their seed share a row, which shows how much they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.board.result import Result
from harness.board.score import mean


@dataclass(frozen=True)
class Spread:
    """How a row's figures differ between seeds: ``finished`` on all its tasks, of those that were ``started``.

    ``passed``, ``effect``: least and largest value of a seed, each a mean over the row's tasks.
    """

    finished: int
    started: int
    passed: tuple[float, float]
    effect: tuple[float, float] | None


def spread_of(started: set[int], tasks: Sequence[Mapping[int, Result]]) -> Spread | None:
    """The spread over seeds that have a result on every one of these tasks; None with a single seed."""
    finished = [seed for seed in started if tasks and all(seed in of_task for of_task in tasks)]
    if len(started) < 2 or not finished:
        return None
    passed = [mean(of_task[seed].passed / of_task[seed].tests for of_task in tasks) or 0.0 for seed in finished]
    effects = [mean(of_task[seed].effect for of_task in tasks) for seed in finished]
    measured = [effect for effect in effects if effect is not None]
    effect = (min(measured), max(measured)) if measured else None
    return Spread(len(finished), len(started), (min(passed), max(passed)), effect)
