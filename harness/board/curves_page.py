"""Faithfulness curves as text, as data and as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from harness.board.curves import Curves
from harness.board.markdown import plain, table
from harness.closure.faithfulness import SHARES, Curve, Interval
from harness.records.workspace import atomically, write_atomically

FORMS = (".png", ".svg", ".json")
"""The endings of the files that :func:`write` writes."""
MEANING = """\
- **f**: the share of the metric, from all units ablated (0) to none (1), that is left when every unit but the first
  ones is ablated. It can be above 1 or below 0.
- **CPR**: area under f over shares of the units (.999: the task is whole from the first share on); **CMD**: area under
  |1 - f| (0 is best).
- **without them**: completeness, the same share when the first units are ablated and all others are left (0: nothing
  else does the task).
- Brackets: 95 %, by bootstrap over examples (documents, where there are some). **random**: mean and range of 20 random
  rankings. **p**: random rankings with at least this CPR.
"""


def as_text(curves: Curves) -> str:
    """A row per method and one of the random rankings, with f at the sizes that are one unit or more."""
    first = curves.first
    shown = [place for place, size in enumerate(first.curve.sizes) if size]
    rows = [["ranked by", "CPR [95 %]", "p", "CMD [95 %]", *(f"f({first.curve.sizes[place]})" for place in shown)]]
    for method, found in curves.by_method.items():
        curve = found.curve
        rows.append(
            [
                curves.names[method],
                _ranged(curve.cpr, curve.cpr_interval),
                f"{found.p:.3f}",
                _ranged(curve.cmd, curve.cmd_interval),
                *(f"{curve.faithfulness[place]:.2f}" for place in shown),
            ]
        )
        rows.append(["  without them", "", "", "", *(f"{found.rest[place]:.2f}" for place in shown)])
    random = first.random
    rows.append(
        [
            f"random ({len(random)})",
            _spread([curve.cpr for curve in random]),
            "",
            _spread([curve.cmd for curve in random]),
            *(f"{np.mean([curve.faithfulness[place] for curve in random]):.2f}" for place in shown),
        ]
    )
    return "\n".join(
        [
            f"## {plain(curves.title)}\n",
            f"{first.metric}: {first.whole:.3g} without ablation, {first.none:.3g} with all {len(first.units)} units "
            f"ablated; {first.examples} test examples. f(k): the first k units are left.\n",
            table(rows),
            MEANING,
        ]
    )


def as_data(curves: Curves) -> dict[str, Any]:
    """The same as data."""
    first = curves.first
    return {
        "title": curves.title,
        "metric": first.metric,
        "whole": first.whole,
        "none": first.none,
        "examples": first.examples,
        "shares": list(SHARES),
        "sizes": list(first.curve.sizes),
        "curves": [
            {
                "method": method,
                "units": list(found.units),
                "p": found.p,
                "rest": list(found.rest),
                **_plain(found.curve),
            }
            for method, found in curves.by_method.items()
        ],
        "random": [_plain(curve) for curve in first.random],
    }


def write(curves: Curves, path: Path) -> None:
    """Write the curves: a picture (``.png``, ``.svg``) or all data (``.json``)."""
    if path.suffix == ".json":
        write_atomically(path, json.dumps(as_data(curves), indent=1))
        return
    from harness.board.figures.curves import drawn
    from harness.board.figures.style import style

    with style(), atomically(path) as beside:
        drawn(curves).savefig(beside, dpi=130, format=path.suffix[1:], facecolor="white")


def _plain(curve: Curve) -> dict[str, Any]:
    return {
        "f": list(curve.faithfulness),
        "f_intervals": [list(interval) for interval in curve.intervals],
        "cpr": curve.cpr,
        "cpr_interval": list(curve.cpr_interval),
        "cmd": curve.cmd,
        "cmd_interval": list(curve.cmd_interval),
    }


def _ranged(value: float, interval: Interval) -> str:
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.2f} ({min(values):.2f} .. {max(values):.2f})"
