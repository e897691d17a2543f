"""A board: its tasks, its rows, and what they show together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.board.metrics import Correlation, LossPerLogit
from harness.board.ranking import Comparison
from harness.board.references import Kind
from harness.board.result import Result, mean_of_figures
from harness.board.score import Scores, mean
from harness.board.seeds import Spread
from harness.board.selectivity import Selective
from harness.board.task import Task


@dataclass(frozen=True)
class Missing:
    """A task without a result of this row: the reason, and the command that runs it (empty if none is known)."""

    task: str
    reason: str
    command: str


@dataclass(frozen=True)
class Row:
    """One method on one board; its figures are means over its tasks, and ``spread`` is None with a single seed.

    ``rank``: by ``score``; None for references, for methods with missing tasks, and for methods without any pass or
    weak pass. ``rank_interval``: 95 %, by bootstrap over tasks. ``by_task``: its scores by subject and batch, the means
    over interventions; ``scores``: their means, with 95 % intervals by bootstrap over tasks (None with one task);
    ``score_by_task``: what ranks are made of (:attr:`harness.board.score.Scores.ranked_by`). ``tests``, ``passed``:
    closure tests, and those with verdict pass; ``passed_interval``: Wilson's 95 % interval. ``q``: the largest of its
    groups, ``discoveries``: how many of its tests have q at most alpha. ``labelled``: the fewest labelled units that
    ``ari`` and ``nmi`` are over on a task, if not all units have a label. ``pareto_optimal``: no other complete
    unsupervised row is at least as good in score and seconds, and better in one. ``added``: those of its ``cells``
    whose records others sent: figures that cannot be computed again from a record are marked as told. ``selectivity``:
    where candidates were tested inside strata.
    """

    rank: int | None
    rank_interval: tuple[int, int] | None
    method: str
    kind: Kind
    scores: Scores
    known_circuits_interval: tuple[float, float] | None
    beyond_random_interval: tuple[float, float] | None
    by_task: Mapping[str, Scores]
    score_by_task: Mapping[str, float]
    tests: int
    passed: int
    passed_interval: tuple[float, float]
    verdicts: Mapping[str, int]
    effect: float | None
    effect_interval: tuple[float, float] | None
    q: float | None
    discoveries: int
    ari: float | None
    nmi: float | None
    chosen_by_labels: bool
    stability: float | None
    seconds: float | None
    cost: Mapping[str, float]
    pareto_optimal: bool
    results: Mapping[str, Result]
    missing: tuple[Missing, ...]
    cells: tuple[str, ...]
    spread: Spread | None = None
    added: tuple[str, ...] = ()
    labelled: int | None = None
    selectivity: Selective | None = None

    @property
    def score(self) -> float:
        """Its mean score over tasks; 0 without a result."""
        return mean(self.score_by_task.values()) or 0.0

    @property
    def known(self) -> dict[str, float]:
        """How well it found known circuits: by figure, the mean over the tasks that have it."""
        return mean_of_figures(result.known for result in self.results.values())

    @property
    def complete(self) -> bool:
        """Whether it has a result on every task of its board."""
        return not self.missing and bool(self.results)

    @property
    def rankable(self) -> bool:
        """Whether it is ranked: a complete method with at least one pass or weak pass."""
        return self.complete and self.kind is Kind.METHOD and not {"pass", "weak_pass"}.isdisjoint(self.verdicts)


@dataclass(frozen=True)
class Board:
    """Methods tested under one protocol on the same tasks, best first.

    ``settings``: the protocol, as text by key; ``metric``: the one that effect, p and q refer to; ``damage``: the sign
    of its damage. ``groups``: distinct groups that methods proposed and that have a p; ``discoveries``: those with q at
    most ``level``, the alpha of the protocol. ``left_out``: cells of older records of the same method, task and seed.
    """

    protocol: str
    settings: Mapping[str, str]
    metric: str
    damage: int
    tasks: tuple[Task, ...]
    rows: tuple[Row, ...]
    comparison: Comparison
    level: float
    groups: int
    discoveries: int
    correlations: tuple[Correlation, ...]
    losses_per_logit: tuple[LossPerLogit, ...]
    left_out: tuple[str, ...] = ()
