"""The columns of a board: the name of each, its meaning, and how a row's figure is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

from harness.board.board import Board, Row
from harness.board.references import Kind
from harness.board.result import Result
from harness.closure.verdict import Verdict
from harness.util.bytesize import write_size

MOST_TASKS = 8
"""Tasks that are shown with a column each, and with their commands. In texts, more of them cannot be read."""


@dataclass(frozen=True)
class Column:
    """``text``: the figure as it is shown; ``order``: the number that rows are sorted by."""

    head: str
    help: str
    text: Callable[[Row], str]
    order: Callable[[Row], float | None]


TOLD = "°"
TOLD_HELP = (
    "as told: a record that was added (harness leaderboard --add) holds the measured numbers of the compared "
    "groups, from which p, verdicts, scores and agreement were computed again. It does not hold the changes per "
    "example, reruns and clocks behind this figure, which is therefore taken from its sender."
)


def told(text: str, row: Row) -> str:
    """A figure that cannot be computed again from a record: marked where others sent one of the row's records."""
    return f"{text}{TOLD}" if text and row.added else text


def number(value: float | None, form: str) -> str:
    """The value as text; empty for None."""
    return "" if value is None else format(value, form)


def ranged(value: float | None, interval: tuple[float, float] | None, form: str) -> str:
    """``+1.00 [+0.50, +1.50]``."""
    bounds = f" [{interval[0]:{form}}, {interval[1]:{form}}]" if value is not None and interval else ""
    return number(value, form) + bounds


def _rank(row: Row) -> str:
    if row.rank is None:
        return "-" if row.kind is Kind.METHOD else f"({row.kind.value})"
    low, high = row.rank_interval or (row.rank, row.rank)
    return str(low) if low == high else f"{low}-{high}"


def _passed(row: Row) -> str:
    return f"{row.passed}/{row.tests} [{row.passed_interval[0]:.2f}, {row.passed_interval[1]:.2f}]" if row.tests else ""


def _starred(value: float | None, row: Row) -> str:
    return number(value, ".2f") + ("*" if row.chosen_by_labels and value is not None else "")


def _seeds(row: Row) -> str:
    if (spread := row.spread) is None:
        return ""
    all_finished = spread.finished == spread.started
    seeds = str(spread.finished) if all_finished else f"{spread.finished} of {spread.started}"
    ranges = [f"passed {spread.passed[0]:.2f} .. {spread.passed[1]:.2f}"]
    if spread.effect:
        ranges.append(f"effect {spread.effect[0]:+.2f} .. {spread.effect[1]:+.2f}")
    return f"{seeds} [{', '.join(ranges)}]"


def _giga(flops: int | float | None) -> float | None:
    return None if flops is None else flops / 1e9


def costs(cost: Mapping[str, int | float]) -> list[str]:
    """A cell's costs, each with its unit."""
    return [_COSTS[what](amount) if what in _COSTS else f"{amount:.0f} {what}" for what, amount in cost.items()]


_COSTS: Mapping[str, Callable[[int | float], str]] = {
    "flops": lambda flops: f"{number(_giga(flops), '.3g')} GFLOP",
    "memory": lambda size: f"{write_size(int(size))} of memory",
    "gpu_memory": lambda size: f"{write_size(int(size))} on GPUs",
}


def _known(head: str, figure: str, meaning: str) -> Column:
    """A figure about known circuits: the mean over the tasks that have it."""
    return Column(
        head,
        f"{meaning} Mean over the tasks on subjects whose circuits are known.",
        lambda row: told(number(row.known.get(figure), ".2f"), row),
        lambda row: row.known.get(figure),
    )


_VERDICTS = [verdict.value for verdict in Verdict]
RANK = Column(
    "rank",
    "95 % interval of the rank by score, by bootstrap over tasks: 2-5 is from second to fifth. The score of a task is "
    "F where circuits are known and 1 - 2p elsewhere. Interventions on the same subject and batch are averaged first: "
    "they count as one task. No rank (-): a method with missing tasks, or without any pass or weak pass. References "
    "are in parentheses and have no rank: a baseline uses no model data; the ceiling uses the labels; a supervised "
    "method uses gradients of the target.",
    _rank,
    lambda row: None if row.rank is None else float(row.rank),
)
METHOD = Column(
    "method",
    "signal, transform, binarizer, affinity, partitioner, chooser, selector; stages that the method does not use are "
    "left out.",
    lambda row: row.method,
    lambda _: None,
)
COLUMNS = (
    Column(
        "known circuits: F",
        "F = 2PR / (P + R) on subjects whose circuits are known. P: mean over candidates of their largest F1 with a "
        "circuit; R: mean over circuits of their largest F1 with a candidate. 0 without a candidate. Brackets: 95 % "
        "interval, by bootstrap over tasks.",
        lambda row: ranged(row.scores.known_circuits, row.known_circuits_interval, ".2f"),
        lambda row: row.scores.known_circuits,
    ),
    _known(
        "score AUROC",
        "auroc",
        "area under the ROC curve of the signal's scores: how often a unit of a known circuit has a higher score than "
        "another unit (.5: chance).",
    ),
    _known(
        "score AP",
        "average_precision",
        "average precision of the signal's scores on units of known circuits (chance: their share of all units).",
    ),
    _known(
        "units: P",
        "precision",
        "share of the units in any candidate that are in a known circuit. Unlike the column of F, units count, and not "
        "how they are grouped.",
    ),
    _known("units: R", "recall", "share of the units of known circuits that are in a candidate."),
    _known(
        "best Jaccard",
        "jaccard",
        "Jaccard index of the group of any partition that is most like a circuit, a candidate or not; "
        "mean over circuits.",
    ),
    _known("by chance", "jaccard_null", "the best Jaccard index where circuits are as many units drawn at random."),
    _known(
        "false closure",
        "false_closure",
        "share of the tested groups without any unit of a known circuit that have verdict pass or weak pass.",
    ),
    Column(
        "other tasks: 1 - 2p",
        "mean over the first three candidates of 1 - 2p, on subjects whose circuits are not known. p: of the metric "
        "that decides first, before any correction. About 0 for random groups, 1 at best; 0 without a candidate, and "
        "for one that was underpowered or on a task that the model does not do. Brackets: 95 % interval, by bootstrap "
        "over tasks.",
        lambda row: ranged(row.scores.beyond_random, row.beyond_random_interval, ".2f"),
        lambda row: row.scores.beyond_random,
    ),
    Column(
        "size curve",
        "damage by the method's first 1, 2, 4, 8 and 16 units, between random groups of as many units (0) and those "
        "that greedy selection by damage finds on the proposal half (1). Below 0: less damage than random groups. It "
        "is about single units, not groups, so methods are not ranked by it.",
        lambda row: told(number(row.scores.size_curve, ".2f"), row),
        lambda row: row.scores.size_curve,
    ),
    Column(
        "stability",
        "adjusted Rand index of the chosen partition with partitions of resampled examples.",
        lambda row: told(number(row.stability, ".2f"), row),
        lambda row: row.stability,
    ),
    Column(
        "s/cell",
        "wall time per cell, without the size curve (cached results cost nothing). +: Pareto-optimal in score and time "
        "among unsupervised methods.",
        lambda row: told(number(row.seconds, ".1f") + ("+" if row.pareto_optimal else ""), row),
        lambda row: row.seconds,
    ),
    Column(
        "verdicts",
        "how many closure tests had each verdict.",
        lambda row: ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in ordered(row.verdicts)),
        lambda row: float(row.passed) if row.tests else None,
    ),
    Column(
        "passed",
        "closure tests with verdict pass (weak passes not counted) / all closure tests [95 % Wilson interval]. A task "
        "without a candidate counts as one test that is not passed.",
        _passed,
        lambda row: row.passed / row.tests if row.tests else None,
    ),
    Column(
        "effect",
        "mean change of the board's metric under ablation [95 % interval, by bootstrap over tasks and examples; too "
        "narrow if there are few tasks].",
        lambda row: told(ranged(row.effect, row.effect_interval, "+.2f"), row),
        lambda row: row.effect,
    ),
    Column(
        "seeds",
        "number of seeds, where there are several; the row's figures are over all of them. Brackets: the least and the "
        "largest share passed and effect of a seed, which the interval of the effect does not include.",
        lambda row: told(_seeds(row), row),
        lambda row: None if row.spread is None else float(row.spread.finished),
    ),
    Column(
        "selectivity",
        "of groups tested inside a stratum: damage in the worst other stratum, relative to that inside (mean over "
        "candidates); then how many candidates are selective by points, and by intervals. Selective: damage inside is "
        "above the mean of the compared groups plus two standard deviations, and damage in every other stratum is at "
        "most a third of it; by intervals, with the unfavourable ends of 95 % intervals.",
        lambda row: told(row.selectivity.text, row) if row.selectivity else "",
        lambda row: row.selectivity.ratio if row.selectivity else None,
    ),
    Column(
        "q",
        "largest Benjamini-Hochberg q-value of the method's groups, from p of the metric that decides first, over the "
        "distinct groups that the methods of this board proposed.",
        lambda row: number(row.q, ".3f"),
        lambda row: row.q,
    ),
    Column(
        "ARI",
        "adjusted Rand index of the chosen partition with the labels. *: the labels were used to choose the partition, "
        "so the value is optimistic.",
        lambda row: _starred(row.ari, row) + (f" ({row.labelled} units)" if row.labelled else ""),
        lambda row: row.ari,
    ),
    Column(
        "NMI",
        "normalised mutual information of the chosen partition with the labels. *: as for ARI.",
        lambda row: _starred(row.nmi, row),
        lambda row: row.nmi,
    ),
    Column(
        "forwards",
        "forward passes of one example under one ablation, per cell, cached results included.",
        lambda row: told(number(row.cost.get("forwards"), ".0f"), row),
        lambda row: row.cost.get("forwards"),
    ),
    Column(
        "GFLOP",
        "floating-point operations of recordings and closure tests per cell, computed from the model's shapes, cached "
        "results included.",
        lambda row: told(number(_giga(row.cost.get("flops")), ".3g"), row),
        lambda row: _giga(row.cost.get("flops")),
    ),
    Column(
        "memory",
        "peak memory of the process over the row's cells, model and libraries included.",
        lambda row: told(write_size(int(row.cost["memory"])) if "memory" in row.cost else "", row),
        lambda row: row.cost.get("memory"),
    ),
)


def nonempty(boards: Iterable[Board]) -> tuple[Column, ...]:
    """The columns in which some row has a value."""
    rows = [row for board in boards for row in board.rows]
    return tuple(column for column in COLUMNS if any(column.text(row) for row in rows))


def ordered(verdicts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Verdicts with their counts, best first."""
    return sorted(verdicts.items(), key=lambda counted: _VERDICTS.index(counted[0]))


def verdict(result: Result | None) -> str:
    """The verdict of one method on one task, or why there is none."""
    if result is None:
        return "missing"
    words = [word.replace("_", " ") for word in dict.fromkeys(result.verdicts)]
    return ", ".join(words) or "no candidate"


def details(result: Result, metric: str) -> str:
    """One method on one task: the reason of its verdict and the numbers behind it."""
    effect = ranged(result.effect, result.effect_interval, "+.2f")
    scores = zip(("F", "1 - 2p", "size curve"), astuple(result.scores), strict=True)
    parts = [
        result.reason.rstrip("."),
        f"{metric.replace('_', ' ')} {effect}" if effect else "",
        f"p {result.p:.3f}" if result.p is not None else "",
        f"q {result.q:.3f}" if result.q is not None else "",
        f"{result.beyond_controls:+.1f} sd beyond controls" if result.beyond_controls is not None else "",
        *(f"{name} {value:.2f}" for name, value in scores if value is not None),
        ", ".join([f"{result.seconds:.1f} s", *costs(result.cost)]),
    ]
    return "; ".join(part for part in parts if part)


def explanation(columns: Sequence[Column], boards: Iterable[Board], tasks: bool = True) -> list[tuple[str, str]]:
    """The name and meaning of every column, in order, and of the mark for figures as told, where there is one.

    ``tasks``: whether each task has a column.
    """
    any_told = any(row.added for board in boards for row in board.rows)
    task = [("T1, T2, ...", "the verdict on each task, and the effect there.")] if tasks else []
    legend = [(TOLD, TOLD_HELP)] if any_told else []
    return [(RANK.head, RANK.help), (METHOD.head, METHOD.help), *((c.head, c.help) for c in columns), *task, *legend]
