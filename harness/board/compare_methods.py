"""Two methods compared on all tasks that both were judged on, example by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.board import compare_cells as pair
from harness.board.compare_cells import Pair
from harness.closure.statistics import Difference, paired_difference
from harness.closure.verdict import Verdict, decision_order
from harness.records.record import FINISHED, Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError

Both = tuple[Record, Record]
"""The two methods' records of one task."""


@dataclass(frozen=True)
class Match:
    """Two methods on the same tasks, by one protocol; differences are first minus second, as damage.

    ``pairs``: by task where both proposed a group; ``passed``: tasks in which the first candidate passed, of ``tasks``
    (one in which nothing was proposed is not passed); ``together``: the differences per metric, each pair counting the
    same. An example that several interventions were tried on is one observation, not several: its differences are
    averaged first. ``left_out``: tasks that both were judged on by other protocols, in part on the same examples, which
    would count several times.
    """

    methods: tuple[str, str]
    protocol: str
    tasks: int
    left_out: int
    passed: tuple[int, int]
    pairs: tuple[Pair, ...]
    together: dict[str, Difference]


def compare(first: Sequence[Record], second: Sequence[Record], workspace: Workspace) -> Match:
    """One method's candidates against the other's, task by task and over all.

    Of several protocols, the one by which both proposed groups on most tasks; of equals, the one judged by last.

    Errors: no task that both were judged on, or none on which both proposed a group; no metric that all of these have;
    deltas that are not there.
    """
    judged = _judged_alike(first, second)
    matched = max(judged.values(), key=lambda of: (len(_tested(of)), _last(of)), default=[])
    tested = _tested(matched)
    in_all = sum(map(len, judged.values()))
    names = [records[0].cell.method for records in (first, second)]
    if not tested:
        raise HarnessError(
            f"'{names[0]}' and '{names[1]}' have no task on which both proposed a group (of {in_all} that both "
            "were judged on).",
            "Judge both on the same subject, batch and intervention, by the same protocol: harness leaderboard",
        )
    metrics = _shared_metrics(tested)
    return Match(
        methods=(names[0], names[1]),
        protocol=tested[0][0].cell.protocol,
        tasks=len(matched),
        left_out=in_all - len(matched),
        passed=(sum(map(_passed, (a for a, _ in matched))), sum(map(_passed, (b for _, b in matched)))),
        pairs=tuple(pair.compare(a, b, workspace) for a, b in tested),
        together=_together(metrics, tested, workspace),
    )


def text(match: Match) -> str:
    """Tasks passed, each task's difference on the metric asked first, and all of them together."""
    lines = [
        f"{letter}  {method}   passed {passed} of {match.tasks} tasks"
        for letter, method, passed in zip("AB", match.methods, match.passed, strict=True)
    ]
    if match.left_out:
        lines.append(
            f"by protocol {match.protocol}; judged by others, and left out: {match.left_out} "
            "(one by one: harness compare CELL CELL)"
        )
    primary, damage = decision_order(match.together)[0], match.pairs[0].damage
    width = max(len(found.task) for found in match.pairs)
    what = f"  damage to {primary.replace('_', ' ')}, A - B, example by example"
    lines.append(f"{what:<{width + 4}}{'difference':>12}   {'95 % interval':<20}{'p':>7}")
    lines += ["    " + pair.line(found.task, found.differences[primary], width) for found in match.pairs]
    lines.append(f"  together, over {len(match.pairs)} tasks on which both proposed a group")
    lines += ["    " + pair.line(pair.named(name, damage[name]), of, width) for name, of in match.together.items()]
    return "\n".join(lines)


def _judged_alike(first: Sequence[Record], second: Sequence[Record]) -> dict[str, list[Both]]:
    """By protocol: every task that both methods were judged on."""
    by_task = [
        {(r.cell.protocol, r.cell.task): r for r in records if r.status in FINISHED} for records in (first, second)
    ]
    found: dict[str, list[Both]] = {}
    for key in sorted(by_task[0].keys() & by_task[1].keys()):
        found.setdefault(key[0], []).append((by_task[0][key], by_task[1][key]))
    return found


def _tested(matched: Sequence[Both]) -> list[Both]:
    return [(a, b) for a, b in matched if a.closure and b.closure]


def _last(matched: Sequence[Both]) -> str:
    return max(str(record.provenance.get("started")) for both in matched for record in both)


def _passed(record: Record) -> bool:
    return bool(record.closure) and record.closure[0].verdict is Verdict.PASS


def _shared_metrics(tested: Sequence[Both]) -> list[str]:
    every = [record.closure[0].effects for both in tested for record in both]
    metrics = [name for name in every[0] if all(name in effects for effects in every)]
    if not metrics:
        a, b = (record.cell for record in tested[0])
        raise HarnessError(
            f"'{a.method}' and '{b.method}' share no metric on the tasks on which both proposed a group "
            f"({len(tested)}), though all are of protocol {a.protocol}: their records have been changed.",
            "Redo these cells with --force.",
        )
    return metrics


def _together(metrics: Sequence[str], tested: Sequence[Both], workspace: Workspace) -> dict[str, Difference]:
    """Per metric, the mean over tasks of the mean over examples, tested by flipping the signs of examples."""
    effects, seed = tested[0][0].closure[0].effects, int(tested[0][0].config["seed"])
    sign = np.array([[effects[name].damage] for name in metrics])
    examples: dict[str, list[Float[np.ndarray, "metrics examples"]]] = {}
    for both in tested:
        changes = [pair.deltas_of(record, workspace) for record in both]
        a, b = (np.stack([of[name][0] for name in metrics]) for of in changes)
        examples.setdefault(str(both[0].provenance["batch"]["digest"]), []).append(sign * (a - b))
    total = sum(found[0].shape[1] for found in examples.values())
    weighed = [np.sum(found, axis=0) * (total / len(tested) / found[0].shape[1]) for found in examples.values()]
    together = np.concatenate(weighed, axis=1)
    return {name: paired_difference(of, np.zeros(total), seed) for name, of in zip(metrics, together, strict=True)}
