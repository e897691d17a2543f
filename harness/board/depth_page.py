"""Routing mass against causal effect, as sentences, tables, data, and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.board.depth import (
    APPRECIABLE,
    EXCESS,
    NO_ROLE,
    PUBLISHED,
    STATISTICS,
    Arm,
    DepthRouting,
    Estimate,
    Family,
    counted,
    over_seeds,
)
from harness.board.markdown import plain, table
from harness.cells.route_effects import Class
from harness.closure.verdict import spaced
from harness.records.workspace import atomically, write_atomically

MEANING = f"""\
- **mass**: the mean weight of a source at the query, on the examples proposed on. Of a family: of all its sources, per
  router. **damage**: to the metric that is named first, on the test examples; positive is worse. Of a family: when all
  its sources are removed at once. Intervals are 95 %: over examples (bootstrap) for one model, over models (t) for an
  arm.
- **current** is the newest source: the running or partial sum, and where a block begins from nothing, the block before.
- **strata**: the largest difference between bands (early, middle, late) in a family's mass above that of fixed routing,
  which has no queries and one bias, the mean of the model's. **content**: root of the mean variance of weights over
  examples; 0: weights do not depend on content. **rank**: Spearman's correlation of mass and damage over units.
- **motif**: a family of a band that has at least {EXCESS:g} more mass than under fixed routing, and whose removal
  certainly does damage. **no role**: mass of at least {APPRECIABLE:g}, and both ends of the damage are nearer
  to 0 than {NO_ROLE:.0%} of that of the largest family of these sublayers.
- **apart**: the unit with the largest damage certainly does more than that with the largest mass. It is chosen on other
  examples than those of the difference.
- **p**: exact, over all signs of the differences between models with the same seed, two-sided, not corrected for the
  number of rows. Six seeds give p .031 at least.
"""


def as_markdown(found: DepthRouting, figure: str = "") -> str:
    """What was found, in sentences; arms and their differences; families; motifs; the largest units."""
    parts = [
        "# Depth routes: routing mass against causal effect\n",
        f"{plain(found.task)}, damage to {spaced(found.metric)}\n",
        "\n".join(f"- {plain(sentence)}" for sentence in sentences(found)) + "\n",
        *([f"![mass and damage of every unit, by arm]({figure})\n"] if figure else []),
        f"## Arms\n\n{table(arms(found))}",
    ]
    if len(found.arms) > 1:
        parts.append(f"## Differences from {plain(found.arms[0].name)}\n\n{table(differences(found))}")
    parts += [
        f"## Families\n\n{table(families(found))}",
        f"## Motifs\n\n{table(motifs(found))}",
        f"## Largest mass and largest damage\n\n{table(largest(found))}",
        MEANING,
    ]
    return "\n".join(parts)


def sentences(found: DepthRouting) -> Iterator[str]:
    """A verdict on each claim of the paper, by the stated rules."""
    fixed = [arm.name for arm in found.arms if arm.fixed]
    learned = [arm for arm in found.arms if not arm.fixed]
    strata = {arm.name: over_seeds(arm.statistic("strata")) for arm in learned}
    if learned and fixed:
        shown = ", ".join(f"{name} {_shown(estimate, '.2f')}" for name, estimate in strata.items())
        first = found.arms[0].name
        yes = strata[first].low >= EXCESS if first in strata else False
        error = max(arm.error for arm in found.arms if arm.fixed)
        yield (
            f"{_answer(yes)}: strata only with trained routing. {shown}; 0 by construction: {', '.join(fixed)} "
            f"(analytic weights to {error:.0e})."
        )
    for arm in learned:
        having = {of: len(found) for of, found in counted(arm).items()}
        yes = all(2 * having.get(of, 0) >= len(arm.models) for of in PUBLISHED)
        told = ", ".join(f"{' '.join(of)} in {having.get(of, 0)}" for of in PUBLISHED)
        yield f"{_answer(yes)}, {arm.name}: the published motifs. {told} of {len(arm.models)} models."
        yield from _of_arm(arm)


def _of_arm(arm: Arm) -> Iterator[str]:
    models = arm.models
    for sublayer in models[0].sublayers:
        pairs = [model.largest[sublayer] for model in models]
        apart, same = sum(pair.apart for pair in pairs), sum(pair.mass == pair.effect for pair in pairs)
        yield (
            f"{_answer(apart > len(pairs) / 2)}, {arm.name}, {sublayer}: the largest mass is not the largest effect. "
            f"Apart in {apart} of {len(pairs)} models, the same unit in {same}."
        )
    idle = [model.idle() for model in models]
    names = sorted({" ".join(family.of) for families in idle for family in families})
    counts = ", ".join(f"{name} in {sum(name == ' '.join(f.of) for fs in idle for f in fs)}" for name in names)
    yield (
        f"{_answer(sum(map(bool, idle)) > len(models) / 2)}, {arm.name}: a family with mass and no role. "
        f"{sum(map(bool, idle))} of {len(models)} models have one{': ' + counts if counts else ''}."
    )


def arms(found: DepthRouting) -> list[list[str]]:
    """A row for each arm, of means over models."""
    head = ["arm", "models", *(spaced(found.metric) if name == "loss" else name for name in STATISTICS)]
    rows = [
        [arm.name, str(len(arm.models)), *(_shown(over_seeds(arm.statistic(name)), ".3f") for name in STATISTICS)]
        for arm in found.arms
    ]
    return [head, *rows]


def differences(found: DepthRouting) -> list[list[str]]:
    """A row for each arm and statistic."""
    rows = [
        [
            each.arm,
            each.statistic,
            str(each.pairs),
            _shown(each.estimate, "+.3f"),
            "-" if each.p is None else f"{each.p:.3f}",
        ]
        for each in found.differences()
    ]
    return [["arm", "statistic", "pairs", "difference", "p"], *rows]


def families(found: DepthRouting) -> list[list[str]]:
    """A row for each arm and family, of means over models."""
    rows = []
    for arm in found.arms:
        idle = [{family.of for family in model.idle()} for model in arm.models]
        for of in arm.models[0].families:
            if len(of) == 2:
                mass, damage = _means(arm, of)
                count = sum(of in each for each in idle)
                rows.append([arm.name, *of, mass, damage, f"{count} of {len(idle)}" if of[0] != "out" else "-"])
    return [["arm", "sublayers", "family", "mass", "damage", "no role"], *rows]


def motifs(found: DepthRouting) -> list[list[str]]:
    """A row for each motif that at least half of the models of an arm have."""
    rows = []
    for arm in found.arms:
        for of, having in counted(arm).items():
            if 2 * len(having) >= len(arm.models):
                excess = float(np.mean([family.excess for family in having]))
                damage = float(np.mean([family.damage.value for family in having]))
                rows.append(
                    [arm.name, " ".join(of), f"{len(having)} of {len(arm.models)}", f"{excess:+.2f}", f"{damage:.2f}"]
                )
    head = ["arm", "motif", "models", "mass above fixed", "damage"]
    return [head, *(rows or [["-"] * len(head)])]


def largest(found: DepthRouting) -> list[list[str]]:
    """A row for each model and kind of sublayer."""
    rows = []
    for arm in found.arms:
        for model in arm.models:
            for sublayer in model.sublayers:
                each = model.largest[sublayer]
                at = {unit: place for place, unit in enumerate(model.of.units)}
                told = [
                    f"{unit} ({model.mass[at[unit]]:.2f}, {model.effect[at[unit]]:.2f})"
                    for unit in (each.mass, each.effect)
                ]
                answer = "apart" if each.apart else "same" if each.mass == each.effect else "open"
                seed = "-" if model.of.seed is None else str(model.of.seed)
                rank = _shown(model.ranks[sublayer], ".2f")
                rows.append([arm.name, seed, sublayer, *told, _shown(each.difference, "+.2f"), answer, rank])
    head = ["arm", "seed", "sublayers", "largest mass (mass, damage)", "largest damage", "difference", "", "rank"]
    return [head, *rows]


def as_data(found: DepthRouting) -> dict[str, Any]:
    """The same as data, with the mass and damage of every unit."""
    return {
        "task": found.task,
        "metric": found.metric,
        "found": list(sentences(found)),
        **{
            name: [dict(zip(head, row, strict=True)) for row in rows]
            for name, (head, *rows) in {
                "arms": arms(found), "differences": differences(found), "families": families(found),
                "motifs": motifs(found), "largest": largest(found),
            }.items()
        },
        "models": [
            {
                "arm": arm.name,
                "seed": model.of.seed,
                "units": [
                    {"unit": unit, "mass": mass, "damage": damage, "fixed": fixed}
                    for unit, mass, damage, fixed in zip(
                        model.of.units, model.mass.tolist(), model.effect.tolist(), model.of.fixed.tolist(), strict=True
                    )
                ],
            }
            for arm in found.arms
            for model in arm.models
        ],
    }  # fmt: skip


def write(found: DepthRouting, folder: Path) -> str:
    """Write ``depth.md``, ``depth.json`` and ``depth.png``. Returns the Markdown."""
    from harness.board.figures.depth import save

    with atomically(folder / "depth.png") as beside:
        save(found, beside)
    text = as_markdown(found, "depth.png")
    write_atomically(folder / "depth.md", text)
    write_atomically(folder / "depth.json", json.dumps(_finite(as_data(found)), indent=1))
    return text


def _means(arm: Arm, of: Class) -> tuple[str, str]:
    having: Sequence[Family] = [model.families[of] for model in arm.models if of in model.families]
    mass = float(np.mean([family.mass for family in having]))
    if len(having) == 1:
        return f"{mass:.2f}", _shown(having[0].damage, ".3f")
    return f"{mass:.2f}", _shown(over_seeds(np.array([family.damage.value for family in having])), ".3f")


def _shown(estimate: Estimate, form: str) -> str:
    if not np.isfinite(estimate.value):
        return "-"
    ends = f" [{estimate.low:{form}}, {estimate.high:{form}}]" if estimate.interval else ""
    return f"{estimate.value:{form}}{ends}"


def _answer(yes: bool) -> str:
    return "SUPPORTED" if yes else "NOT SUPPORTED"


def _finite(value: Any) -> Any:
    """Numbers that are not finite become null: no reader of JSON accepts them."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
