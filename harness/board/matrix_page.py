"""The cross-model matrix as text, as data, and as a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.board.markdown import plain, table
from harness.board.matrix import Entry, Matrix
from harness.board.strata import number_or_dash
from harness.data.units import named
from harness.records.workspace import atomically, write_atomically

FORMS = (".png", ".svg", ".json")
"""The endings of the files that :func:`write` writes."""
ALPHA = 0.05


def as_markdown(matrix: Matrix) -> str:
    """What was found, in sentences; the matrix; what groups share; each model's class and accuracy."""
    found = "\n".join(f"- {plain(sentence)}" for sentence in sentences(matrix))
    first, *others = next(iter(matrix.entries)).changes
    metrics = " / ".join(name.replace("_", " ") for name in (first, *others))
    parts = [
        plain(matrix.task),
        found,
        f"{metrics} after ablation (units shared with the model's own group), p of the exact test:",
        table(_ablated(matrix)),
    ]
    if any(entry.text is not None for entry in matrix.entries):
        where = plain(matrix.contrast)
        parts += [f"Change of the loss on {where} by the same ablations, in nats:", table(_text(matrix))]
    parts += [
        "Damage by other models' groups, as a share of that by the model's own, and by random groups of the same "
        "profile that share as many units with it (models whose own group certainly does damage):",
        table(_overlap(matrix)),
        "Units that groups share, and those that random groups share, with the probability of at least as many:",
        table(_pairs(matrix)),
        "In how many groups each unit is, with the probability of at least as many for a unit of its site:",
        table(_times(matrix)),
        "Groups and accuracy without ablation:",
        table(_models(matrix)),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def as_data(matrix: Matrix) -> dict[str, Any]:
    """The same as data."""
    return {"found": list(sentences(matrix)), **dataclasses.asdict(matrix)}


def write(matrix: Matrix, path: Path) -> None:
    """Write the matrix: a heat map (``.png``, ``.svg``) or all data (``.json``).

    Errors: a file that cannot be written.
    """
    if path.suffix == ".json":
        write_atomically(path, json.dumps(as_data(matrix), indent=1))
        return
    from harness.board.figures.matrix import heat_map

    with atomically(path) as beside:
        heat_map(matrix).savefig(beside, dpi=120, format=path.suffix[1:])


def sentences(matrix: Matrix) -> Iterator[str]:
    """Whether own groups do more damage than others', and others' more than overlap explains; what recurs; and which
    class of groups goes with the higher accuracy."""
    owned = [entry for entry in matrix.entries if entry.owner is not None]
    own = {entry.model: entry for entry in owned if entry.own}
    others = [entry for entry in owned if not entry.own]
    models, metric = len(matrix.models), next(iter(matrix.entries[0].changes)).replace("_", " ")
    if not others:
        yield "Every model has the same group: there is no other model's group to compare with."
    else:
        least = sum(
            all(own[model].first.harm > entry.first.harm for entry in others if entry.model == model) for model in own
        )
        yield f"On {least} of {models} models, the own group does more damage to {metric} than every other model's."
        comparable = [entry for entry in others if entry.p_overlap is not None and 1 / (1 + entry.n_overlap) <= ALPHA]
        beyond = sum((entry.p_overlap or 1) <= ALPHA for entry in comparable)
        yield (
            f"{beyond} of {len(comparable)} other models' groups do more damage than random groups that share as many "
            f"units with the own group (p at most {ALPHA:g}, not corrected); "
            f"{len(others) - len(comparable)} have fewer than 19 such groups to compare with."
        )
    damaging = sum((entry.p_damage or 1) <= ALPHA for entry in own.values())
    yield (
        f"On {damaging} of {models} models, the own group does more damage than groups of the same profile "
        f"(p at most {ALPHA:g})."
    )
    yield _recurrence(matrix)
    yield from _classes(matrix)


def _recurrence(matrix: Matrix) -> str:
    found = matrix.recurrence
    mean, in_sites, anywhere = (
        float(np.mean(values))
        for values in (
            [pair.shared for pair in found.pairs],
            [pair.in_sites[0] for pair in found.pairs],
            [pair.anywhere[0] for pair in found.pairs],
        )
    )
    return (
        f"Two groups share {mean:.1f} units on average; random groups with as many units in each site share "
        f"{in_sites:.1f} (p {found.p_in_sites:.2g}), random groups of the whole model {anywhere:.1f} "
        f"(p {found.p_anywhere:.2g})."
    )


def _classes(matrix: Matrix) -> Iterator[str]:
    by_class = {early: [model for model in matrix.models if model.early == early] for early in (True, False)}
    if not all(by_class.values()):
        which = "early" if by_class[True] else "late"
        yield f"The groups of all models are {which} ones, so the two classes cannot be compared."
        return
    for batch in dict.fromkeys(batch for model in matrix.models for batch in model.accuracy):
        means = {
            early: np.mean([model.accuracy[batch] for model in models if batch in model.accuracy] or [np.nan])
            for early, models in by_class.items()
        }
        yield (
            f"Accuracy on {batch}: {means[True]:.2f} where the own group is early (models: {len(by_class[True])}), "
            f"{means[False]:.2f} where it is late ({len(by_class[False])})."
        )


def _ablated(matrix: Matrix) -> list[list[str]]:
    rows = [["model", "no ablation", *matrix.names, "random groups like its own"]]
    for place, model in enumerate(matrix.models):
        entries = [matrix.entry(place, name) for name in matrix.names]
        own = next(entry for entry in entries if entry.own)
        baseline = " / ".join(f"{change.baseline:.2f}" for change in own.changes.values())
        rows.append([model.name, baseline, *map(_cell, entries), _random(own)])
    return rows


def _cell(entry: Entry) -> str:
    values = " / ".join(f"{change.ablated:.2f}" for change in entry.changes.values())
    shared = "own" if entry.own else str(entry.shared)
    return f"{values} ({shared})" + (f" p {entry.p:.3f}" if entry.p is not None else "")


def _random(own: Entry) -> str:
    """Mean of the metrics under groups of the own group's profile, and how many these are."""
    means = [
        f"{change.baseline + float(np.mean(change.compared)):.2f}" for change in own.changes.values() if change.compared
    ]
    return f"{' / '.join(means)} (n {len(own.first.compared)})" if means else "-"


def _text(matrix: Matrix) -> list[list[str]]:
    rows = [["model", *matrix.names]]
    for place, model in enumerate(matrix.models):
        changes = (matrix.entry(place, name).text for name in matrix.names)
        rows.append([model.name, *(number_or_dash(change, "+.2f") for change in changes)])
    return rows


def _overlap(matrix: Matrix) -> list[list[str]]:
    rows = [["shared units", "other models' groups", "n", "random groups", "n"]]
    for row in matrix.overlaps:
        mean = float(np.mean(row.others)) if row.others else None
        counts = [str(len(row.others)), str(row.random_n)]
        rows.append(
            [str(row.shared), number_or_dash(mean, ".2f"), counts[0], number_or_dash(row.random, ".2f"), counts[1]]
        )
    return rows


def _pairs(matrix: Matrix) -> list[list[str]]:
    rows = [["groups of", "shared", "random: same sites", "p", "random: anywhere", "p"]]
    for pair in matrix.recurrence.pairs:
        names = " and ".join(matrix.models[model].name for model in pair.models)
        nulls = [text for mean, p in (pair.in_sites, pair.anywhere) for text in (f"{mean:.1f}", f"{p:.2g}")]
        rows.append([names, str(pair.shared), *nulls])
    return rows


def _times(matrix: Matrix) -> list[list[str]]:
    order = sorted(matrix.recurrence.times.items(), key=lambda item: -item[1][0])
    return [["unit", "groups", "p"], *([unit, str(count), f"{p:.2g}"] for unit, (count, p) in order)]


def _models(matrix: Matrix) -> list[list[str]]:
    batches = list(dict.fromkeys(batch for model in matrix.models for batch in model.accuracy))
    rows = [["model", "own group", "class", "depth", *batches]]
    for model in matrix.models:
        accuracy = [number_or_dash(model.accuracy.get(batch), ".2f") for batch in batches]
        kind = "early" if model.early else "late"
        rows.append([model.name, named(model.group), kind, f"{model.depth:.2f}", *accuracy])
    return rows
