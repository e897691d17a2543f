"""Two methods compared on all tasks that both were judged on, example by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.board import pair
from harness.board.pair import Pair
from harness.closure.statistics import Difference, paired_difference
from harness.closure.verdict import Verdict, asked_first
from harness.errors import HarnessError
from harness.record import FINISHED, Record
from harness.workspace import Workspace


@dataclass(frozen=True)
class Match:
    """Two methods on the same tasks; differences are first minus second, as damage.

    ``pairs``: by task where both proposed a group; ``passed``: tasks in which the first candidate passed, of ``tasks``
    (one in which nothing was proposed is not passed); ``together``: the differences per metric, each pair counting the
    same. An example that several interventions were tried on is one observation, not several: its differences are
    averaged first.
    """

    methods: tuple[str, str]
    tasks: int
    passed: tuple[int, int]
    pairs: tuple[Pair, ...]
    together: dict[str, Difference]


def compare(first: Sequence[Record], second: Sequence[Record], workspace: Workspace) -> Match:
    """One method's candidates against the other's, task by task and over all.

    Errors: no task that both were judged on, or none on which both proposed a group; deltas that are not there.
    """
    by_task = [
        {(r.cell.task, r.cell.protocol): r for r in records if r.status in FINISHED} for records in (first, second)
    ]
    shared = sorted(by_task[0].keys() & by_task[1].keys())
    matched = [(by_task[0][task], by_task[1][task]) for task in shared]
    tested = [(a, b) for a, b in matched if a.closure and b.closure]
    names = [records[0].cell.method for records in (first, second)]
    if not tested:
        raise HarnessError(
            f"'{names[0]}' and '{names[1]}' have no task on which both proposed a group (of {len(shared)} that both "
            "were judged on).",
            "Judge both on the same subject, batch and intervention, by the same protocol: harness leaderboard",
        )
    return Match(
        methods=(names[0], names[1]),
        tasks=len(shared),
        passed=(sum(map(_passed, (a for a, _ in matched))), sum(map(_passed, (b for _, b in matched)))),
        pairs=tuple(pair.compare(a, b, workspace) for a, b in tested),
        together=_together(tested, workspace),
    )


def text(match: Match) -> str:
    """Tasks passed, each task's difference on the metric asked first, and all of them together."""
    lines = [
        f"{letter}  {method}   passed {passed} of {match.tasks} tasks"
        for letter, method, passed in zip("AB", match.methods, match.passed, strict=True)
    ]
    primary, damage = asked_first(match.together)[0], match.pairs[0].damage
    width = max(len(found.task) for found in match.pairs)
    what = f"  damage to {primary.replace('_', ' ')}, A - B, example by example"
    lines.append(f"{what:<{width + 4}}{'difference':>12}   {'95 % interval':<20}{'p':>7}")
    lines += ["    " + pair.line(found.task, found.differences[primary], width) for found in match.pairs]
    lines.append(f"  together, over {len(match.pairs)} tasks on which both proposed a group")
    lines += ["    " + pair.line(pair.named(name, damage[name]), of, width) for name, of in match.together.items()]
    return "\n".join(lines)


def _passed(record: Record) -> bool:
    return bool(record.closure) and record.closure[0].verdict is Verdict.PASS


def _together(tested: Sequence[tuple[Record, Record]], workspace: Workspace) -> dict[str, Difference]:
    metrics = [name for name in tested[0][0].closure[0].effects if all(name in a.closure[0].effects for a, _ in tested)]
    seed = int(tested[0][0].config["seed"])
    return {name: _of_metric(name, tested, workspace, seed) for name in metrics}


def _of_metric(name: str, tested: Sequence[tuple[Record, Record]], workspace: Workspace, seed: int) -> Difference:
    """Mean over tasks of the mean over examples, tested by flipping the signs of examples."""
    examples: dict[tuple[str, str], list[Float[np.ndarray, " examples"]]] = {}
    for a, b in tested:
        sign = a.closure[0].effects[name].damage
        change = [pair.deltas_of(record, workspace)[name][0] for record in (a, b)]
        key = (str(a.provenance["batch"]["digest"]), a.cell.protocol)
        examples.setdefault(key, []).append(sign * (change[0] - change[1]))
    total = sum(len(found[0]) for found in examples.values())
    weighed = [np.sum(found, axis=0) * (total / len(tested) / len(found[0])) for found in examples.values()]
    together = np.concatenate(weighed)
    return paired_difference(together, np.zeros_like(together), seed)
