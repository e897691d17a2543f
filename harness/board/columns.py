"""The columns of a board: what each is called, what it means, and how a row's figure is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.board.references import Kind
from harness.board.result import Result
from harness.board.table import Board, Row
from harness.util.bytesize import write_size


@dataclass(frozen=True)
class Column:
    """``text``: as a person reads it; ``order``: what it is sorted by, where that is another thing."""

    head: str
    help: str
    text: Callable[[Row], str]
    order: Callable[[Row], float | None]


def number(value: float | None, form: str) -> str:
    """Nothing where there is nothing."""
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
    return f"{row.passed}/{row.tests} [{row.interval[0]:.2f}, {row.interval[1]:.2f}]" if row.tests else ""


def _starred(value: float | None, row: Row) -> str:
    return number(value, ".2f") + ("*" if row.label_chosen and value is not None else "")


def _giga(flops: int | float | None) -> float | None:
    return None if flops is None else flops / 1e9


def spent(cost: Mapping[str, int]) -> list[str]:
    """A cell's costs in words."""
    return [_SPENT[what](amount) if what in _SPENT else f"{amount} {what}" for what, amount in cost.items()]


_SPENT: Mapping[str, Callable[[int], str]] = {
    "flops": lambda flops: f"{number(_giga(flops), '.3g')} GFLOP",
    "memory": lambda size: f"{write_size(size)} of memory",
    "gpu_memory": lambda size: f"{write_size(size)} on GPUs",
}
RANK = Column(
    "rank",
    "by the score, the share of closure tests passed, each task counting the same. Equal scores share a rank, and are "
    "listed by q. In brackets, where they differ: the ranks of 95 % of the boards whose tasks are drawn again with "
    "replacement. Rows in parentheses are held against methods and not ranked: what every method has to beat "
    "(baseline), and what no unsupervised one can be asked to beat (ceiling: the labels; supervised: gradients of the "
    "target). A row that lacks a task is listed, not ranked.",
    _rank,
    lambda row: None if row.rank is None else float(row.rank),
)
METHOD = Column(
    "method",
    "signal, transform, binarizer, affinity, partitioner, chooser, selector, as far as the later ones ask for the "
    "earlier.",
    lambda row: row.method,
    lambda _: None,
)
COLUMNS = (
    Column(
        "passed",
        "closure tests with verdict pass, of all, with Wilson's 95 % interval. A task in which the method proposed "
        "nothing is a test not passed.",
        _passed,
        lambda row: row.score if row.tests else None,
    ),
    Column(
        "effect",
        "mean change of the board's metric under ablation, with a 95 % interval by bootstrap over tasks and, within "
        "each, over examples (few tasks make it too narrow).",
        lambda row: ranged(row.effect, row.effect_interval, "+.2f"),
        lambda row: row.effect,
    ),
    Column(
        "q",
        "largest Benjamini-Hochberg q of the row's tests on that metric, corrected over all tests of the table.",
        lambda row: number(row.q, ".3f"),
        lambda row: row.q,
    ),
    Column(
        "F1",
        "best overlap of a candidate with a planted circuit, where circuits were planted.",
        lambda row: number(row.truth, ".2f"),
        lambda row: row.truth,
    ),
    Column(
        "ARI",
        "adjusted Rand index of the chosen partition with the labels; *: these labels had a say in it, so that it "
        "flatters.",
        lambda row: _starred(row.ari, row),
        lambda row: row.ari,
    ),
    Column(
        "NMI",
        "normalised mutual information with the labels, likewise.",
        lambda row: _starred(row.nmi, row),
        lambda row: row.nmi,
    ),
    Column(
        "stability",
        "adjusted Rand index with the partitions found again on resampled examples.",
        lambda row: number(row.stability, ".2f"),
        lambda row: row.stability,
    ),
    Column(
        "forwards",
        "runs of an example through the model per cell that tested any group, one for each group that is ablated; "
        "whether or not an earlier cell had done it.",
        lambda row: number(row.cost.get("forwards"), ".0f"),
        lambda row: row.cost.get("forwards"),
    ),
    Column(
        "GFLOP",
        "floating-point operations per cell, of recordings and closure tests, by the model's shapes; likewise.",
        lambda row: number(_giga(row.cost.get("flops")), ".3g"),
        lambda row: _giga(row.cost.get("flops")),
    ),
    Column(
        "memory",
        "the most that a process held while it made one of the row's cells; with the model and all libraries.",
        lambda row: write_size(int(row.cost["memory"])) if "memory" in row.cost else "",
        lambda row: row.cost.get("memory"),
    ),
    Column(
        "s/cell",
        "wall time per cell; what an earlier cell had computed costs nothing. +: no row that sees neither labels nor "
        "targets is at least as good and cheaper.",
        lambda row: number(row.seconds, ".1f") + ("+" if row.frontier else ""),
        lambda row: row.seconds,
    ),
)


def shown(boards: Iterable[Board]) -> tuple[Column, ...]:
    """The columns that say something of some row."""
    rows = [row for board in boards for row in board.rows]
    return tuple(column for column in COLUMNS if any(column.text(row) for row in rows))


def verdict(result: Result | None) -> str:
    """One method on one task, in a word or two: its verdict, or why there is none."""
    if result is None:
        return "missing"
    words = [word.replace("_", " ") for word in dict.fromkeys(result.verdicts)]
    return ", ".join(words) or "nothing proposed"


def told(result: Result, metric: str) -> str:
    """One method on one task, in full: the reason of its verdict and the numbers that carry it."""
    effect = ranged(result.effect, result.interval, "+.2f")
    p, q = number(result.p, ".3f"), number(result.q, ".3f")
    parts = [
        result.reason,
        f"{metric.replace('_', ' ')} {effect}" if effect else "",
        f"p {p}, q {q}" if p else "",
        f"{result.standing:+.1f} sd beyond controls" if result.standing is not None else "",
        f"F1 {result.truth:.2f}" if result.truth is not None else "",
        ", ".join([f"{result.seconds:.1f} s", *spent(result.cost)]),
    ]
    return "; ".join(part for part in parts if part)


def explanation(columns: Sequence[Column]) -> list[tuple[str, str]]:
    """What the columns mean, in order."""
    task = ("T1, T2, ...", "the verdict on each task, and the effect there.")
    return [(RANK.head, RANK.help), (METHOD.head, METHOD.help), task, *((c.head, c.help) for c in columns)]
