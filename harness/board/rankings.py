"""Rankings of the units of one model side by side, held against the classes of the units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.board.markdown import plain, table
from harness.board.strata import number_or_dash
from harness.data.grouping import Labels
from harness.data.ranking import Ranking, class_map, degenerate

SIZES = (5, 10, 15, 30, 50, 80)
"""How many units are taken, besides those before the elbow: the published numbers, up to half of the units."""
SHOWN = 10
HEADS = ("ranked by", "first", "precision", "not first-token", "recall", "classified fraction", "classes")
MEANING = """\
- **first**: how many units of the ranking count: those before the elbow of its scores, and fixed numbers beside it.
- **precision**: the share of them that have a class; **not first-token**: a class other than first-token.
- **recall**: the share of all units with a class that are among them; **classified fraction**: the same units as a
  share of all units.
"""


@dataclass(frozen=True)
class Rankings:
    """Rankings of the same units, by signal. ``title``: the model, the examples and the labels.

    ``over_training``: for signals of training time, the activity of every unit at each step.
    """

    title: str
    labels: Labels
    by_signal: dict[str, Ranking]
    over_training: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)


def sizes_of(ranking: Ranking) -> list[int]:
    """The elbow, if there is one, and the fixed numbers up to half of the units."""
    units = len(ranking.order)
    return [*([ranking.elbow] if ranking.elbow else []), *(k for k in SIZES if 2 * k <= units)]


def as_text(rankings: Rankings) -> str:
    """Where classes are, the first units of each ranking, and how well it agrees with the classes."""
    rows = [
        [
            signal,
            f"{k} (elbow)" if place == 0 and ranking.elbow else str(k),
            f"{ranking.precision(k):.2f}",
            f"{ranking.precision_not_first(k):.2f}",
            number_or_dash(ranking.recall(k), ".2f"),
            f"{ranking.classified_fraction(k):.3f}",
            _counted(ranking.classes(k)),
        ]
        for signal, ranking in rankings.by_signal.items()
        for place, k in enumerate(sizes_of(ranking))
    ]
    first = [f"- {plain(signal)}: {' '.join(ranking.names[:SHOWN])}" for signal, ranking in rankings.by_signal.items()]
    notes = [
        f"- elbow of {plain(signal)}: {why}"
        for signal, ranking in rankings.by_signal.items()
        if (why := degenerate(ranking.elbow, len(ranking.order)))
    ]
    parts = [
        f"## {plain(rankings.title)}\n",
        f"Units of each class, by depth:\n\n{_map(rankings.labels)}",
        "First units of each ranking:\n\n" + "\n".join(first) + "\n",
        *(
            f"First units by {plain(signal)}, at every checkpoint:\n\n{_courses(rankings.by_signal[signal], courses)}"
            for signal, courses in rankings.over_training.items()
        ),
        table([HEADS, *rows]),
        *(["\n".join(notes) + "\n"] if notes else []),
        MEANING,
    ]
    return "\n".join(parts)


def as_data(rankings: Rankings) -> dict[str, Any]:
    """The same as data."""
    return {
        "title": rankings.title,
        "classes_by_depth": {name: dict(counts) for name, counts in class_map(rankings.labels).items()},
        "rankings": [
            {
                "signal": signal,
                "units": ranking.names,
                "over_training": rankings.over_training.get(signal, {}),
                "elbow": ranking.elbow,
                "degenerate": degenerate(ranking.elbow, len(ranking.order)),
                "first": [
                    {
                        "k": k,
                        "precision": ranking.precision(k),
                        "precision_not_first": ranking.precision_not_first(k),
                        "recall": ranking.recall(k),
                        "classified_fraction": ranking.classified_fraction(k),
                        "classes": dict(ranking.classes(k)),
                    }
                    for k in sizes_of(ranking)
                ],
            }
            for signal, ranking in rankings.by_signal.items()
        ],
    }


def _map(labels: Labels) -> str:
    depths = sorted(set(labels.units.depth_of.tolist()))
    rows: list[Sequence[str]] = [
        [name, *(str(counts[depth] or "") for depth in depths), str(counts.total())]
        for name, counts in class_map(labels).items()
    ]
    return table([["class", *map(str, depths), "all"], *rows])


def _courses(ranking: Ranking, courses: dict[str, dict[int, float]]) -> str:
    shown = ranking.names[:SHOWN]
    steps = [str(step) for step in courses[shown[0]]]
    return table([["unit", *steps], *([unit, *(f"{value:.1f}" for value in courses[unit].values())] for unit in shown)])


def _counted(classes: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in classes.most_common())
