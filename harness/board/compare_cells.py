"""Two cells compared as a pair, example by example: whose candidate does more damage, by itself and beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.board.card import ARROW
from harness.closure.statistics import Difference, excess, paired_difference
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError

SURE = 0.05  # of p, with an interval that holds no zero


@dataclass(frozen=True)
class Pair:
    """The first candidates of two cells, on the same examples; differences are first minus second, as damage.

    ``differences``: of the damage itself, per metric: held against the same controls, the controls cancel.
    ``beyond_controls``: of the damage beyond the mean of each candidate's own matched controls, which differ where
    candidates differ in size or layers.
    """

    cells: tuple[str, str]
    methods: tuple[str, str]
    units: tuple[tuple[str, ...], tuple[str, ...]]
    task: str
    differences: dict[str, Difference]
    beyond_controls: dict[str, Difference]
    damage: dict[str, int]


def compare(first: Record, second: Record, workspace: Workspace) -> Pair:
    """One candidate's damage minus the other's, per example.

    Errors: cells without a tested candidate, on other tasks or under other protocols; deltas that are not there.
    """
    for record in (first, second):
        if not record.closure:
            raise HarnessError(
                f"cell {record.cell.id} has no tested candidate: {record.status.value}. {record.reason}".rstrip(),
                "Compare cells that were put to the closure test: harness leaderboard",
            )
    asked = [
        (r.cell.task, r.cell.protocol, r.provenance["batch"]["digest"], r.closure[0].n_examples)
        for r in (first, second)
    ]
    if asked[0] != asked[1]:
        raise HarnessError(
            f"cells {first.cell.id} and {second.cell.id} were not tested alike: {first.cell.task} (protocol "
            f"{first.cell.protocol}, {asked[0][3]} examples) and {second.cell.task} (protocol {second.cell.protocol}, "
            f"{asked[1][3]} examples).",
            "A pair shares subject, batch, intervention and protocol; a group named by hand is tested on all examples.",
        )
    deltas = [deltas_of(record, workspace) for record in (first, second)]
    beyond = [{name: excess(of[0], of[1:]) for name, of in each.items()} for each in deltas]
    plain = [{name: of[0] for name, of in each.items()} for each in deltas]
    effects = first.closure[0].effects
    return Pair(
        cells=(first.cell.id, second.cell.id),
        methods=(first.cell.method, second.cell.method),
        units=(first.closure[0].units, second.closure[0].units),
        task=first.cell.task,
        differences=_differences(first, plain),
        beyond_controls=_differences(first, beyond),
        damage={name: effect.damage for name, effect in effects.items()},
    )


def text(pair: Pair) -> str:
    """The answer in words, then the numbers."""
    lines = [
        f"{letter}  {method}   {' '.join(units)}"
        for letter, method, units in zip("AB", pair.methods, pair.units, strict=True)
    ]
    lines.append(f"on {pair.task}, example by example")
    for what, differences in {
        "damage, A - B": pair.differences,
        "beyond its own controls": pair.beyond_controls,
    }.items():
        lines.append(f"  {what:<24}{'difference':>12}   {'95 % interval':<20}{'p':>7}")
        for name, found in differences.items():
            lines.append("    " + line(named(name, pair.damage[name]), found, 22))
    return "\n".join(lines)


def named(metric: str, damage: int) -> str:
    """A metric, and which way damage points."""
    return f"{metric.replace('_', ' ')} {ARROW[damage]}"


def line(what: str, found: Difference, width: int) -> str:
    """One difference: its mean, its interval, its p, and what that means."""
    interval = f"{found.interval[0]:+.2f} .. {found.interval[1]:+.2f}" if found.interval else "one example"
    return f"{what:<{width}}{found.mean:>+12.2f}   {interval:<20}{found.p:>7.4f}   {_words(found)}"


def _words(found: Difference) -> str:
    if found.interval is None or found.p > SURE or found.interval[0] <= 0 <= found.interval[1]:
        return "no difference that is sure"
    return "A does more damage" if found.mean > 0 else "B does more damage"


Changes = dict[str, Float[np.ndarray, " examples"]]


def _differences(record: Record, changes: Sequence[Changes]) -> dict[str, Difference]:
    seed = int(record.config["seed"])
    return {
        name: paired_difference(effect.damage * changes[0][name], effect.damage * changes[1][name], seed)
        for name, effect in record.closure[0].effects.items()
    }


def deltas_of(record: Record, workspace: Workspace) -> dict[str, Float[np.ndarray, "groups examples"]]:
    """Per metric, the change on every example: by the candidate, then by each of its controls."""
    from safetensors.numpy import load_file

    path = workspace.folder(record.cell.id) / "deltas.safetensors"
    if not path.is_file():
        raise HarnessError(
            f"cell {record.cell.id} has no {path.name}: what ablation did to each example.", "Redo it with --force."
        )
    deltas = load_file(path)["candidate.0"].astype("float64")
    return dict(zip(record.closure[0].effects, deltas, strict=True))
