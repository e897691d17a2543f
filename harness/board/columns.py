"""The columns of a board: the name of each, its meaning, and how a row's figure is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.board.board import Board, Row
from harness.board.references import Kind
from harness.board.result import Result
from harness.util.bytesize import write_size


@dataclass(frozen=True)
class Column:
    """``text``: the figure as it is shown; ``order``: the number that rows are sorted by."""

    head: str
    help: str
    text: Callable[[Row], str]
    order: Callable[[Row], float | None]


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
    return str(row.rank) + (f" [{low}, {high}]" if low != high else "")


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
RANK = Column(
    "rank",
    "by score: the share of closure tests passed, averaged over tasks. Methods with equal scores share a rank and "
    "are listed by q. Brackets: 95 % interval of the rank, by bootstrap over tasks. Rows in parentheses are references "
    "and have no rank: a baseline uses no model data; the ceiling uses the labels; a supervised method uses gradients "
    "of the target. A method with missing tasks (-) has no rank.",
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
        "passed",
        "closure tests with verdict pass / all closure tests [95 % Wilson interval]. A task without a candidate counts "
        "as one test that is not passed.",
        _passed,
        lambda row: row.score if row.tests else None,
    ),
    Column(
        "effect",
        "mean change of the board's metric under ablation [95 % interval, by bootstrap over tasks and examples; too "
        "narrow if there are few tasks].",
        lambda row: ranged(row.effect, row.effect_interval, "+.2f"),
        lambda row: row.effect,
    ),
    Column(
        "seeds",
        "number of seeds, where there are several; the row's figures are over all of them. Brackets: the least and the "
        "largest share passed and effect of a seed, which the interval of the effect does not include.",
        _seeds,
        lambda row: None if row.spread is None else float(row.spread.finished),
    ),
    Column(
        "q",
        "largest Benjamini-Hochberg q-value of the row's tests on that metric, corrected over all tests of the table.",
        lambda row: number(row.q, ".3f"),
        lambda row: row.q,
    ),
    Column(
        "F1",
        "best overlap of a candidate with a planted circuit, on subjects with planted circuits.",
        lambda row: number(row.f1, ".2f"),
        lambda row: row.f1,
    ),
    Column(
        "ARI",
        "adjusted Rand index of the chosen partition with the labels. *: the labels were used to choose the partition, "
        "so the value is optimistic.",
        lambda row: _starred(row.ari, row),
        lambda row: row.ari,
    ),
    Column(
        "NMI",
        "normalised mutual information of the chosen partition with the labels. *: as for ARI.",
        lambda row: _starred(row.nmi, row),
        lambda row: row.nmi,
    ),
    Column(
        "stability",
        "adjusted Rand index of the chosen partition with partitions of resampled examples.",
        lambda row: number(row.stability, ".2f"),
        lambda row: row.stability,
    ),
    Column(
        "forwards",
        "forward passes of one example under one ablation, per cell, cached results included.",
        lambda row: number(row.cost.get("forwards"), ".0f"),
        lambda row: row.cost.get("forwards"),
    ),
    Column(
        "GFLOP",
        "floating-point operations of recordings and closure tests per cell, computed from the model's shapes, cached "
        "results included.",
        lambda row: number(_giga(row.cost.get("flops")), ".3g"),
        lambda row: _giga(row.cost.get("flops")),
    ),
    Column(
        "memory",
        "peak memory of the process over the row's cells, model and libraries included.",
        lambda row: write_size(int(row.cost["memory"])) if "memory" in row.cost else "",
        lambda row: row.cost.get("memory"),
    ),
    Column(
        "s/cell",
        "wall time per cell (cached results cost nothing). +: Pareto-optimal among unsupervised methods.",
        lambda row: number(row.seconds, ".1f") + ("+" if row.pareto_optimal else ""),
        lambda row: row.seconds,
    ),
)


def nonempty(boards: Iterable[Board]) -> tuple[Column, ...]:
    """The columns in which some row has a value."""
    rows = [row for board in boards for row in board.rows]
    return tuple(column for column in COLUMNS if any(column.text(row) for row in rows))


def verdict(result: Result | None) -> str:
    """The verdict of one method on one task, or why there is none."""
    if result is None:
        return "missing"
    words = [word.replace("_", " ") for word in dict.fromkeys(result.verdicts)]
    return ", ".join(words) or "no candidate"


def details(result: Result, metric: str) -> str:
    """One method on one task: the reason of its verdict and the numbers behind it."""
    effect = ranged(result.effect, result.effect_interval, "+.2f")
    p, q = number(result.p, ".3f"), number(result.q, ".3f")
    parts = [
        result.reason.rstrip("."),
        f"{metric.replace('_', ' ')} {effect}" if effect else "",
        f"p {p}, q {q}" if p else "",
        f"{result.beyond_controls:+.1f} sd beyond controls" if result.beyond_controls is not None else "",
        f"F1 {result.f1:.2f}" if result.f1 is not None else "",
        ", ".join([f"{result.seconds:.1f} s", *costs(result.cost)]),
    ]
    return "; ".join(part for part in parts if part)


def explanation(columns: Sequence[Column]) -> list[tuple[str, str]]:
    """The name and meaning of every column, in order."""
    task = ("T1, T2, ...", "the verdict on each task, and the effect there.")
    return [(RANK.head, RANK.help), (METHOD.head, METHOD.help), task, *((c.head, c.help) for c in columns)]
