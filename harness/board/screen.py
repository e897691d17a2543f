"""The capability screen over models: sets of units that reach a selectivity, beside equally many that rank highest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.board.configs import differing, flat
from harness.board.markdown import plain, table
from harness.board.strata import number_or_dash
from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict, decision_order, spaced
from harness.data.units import named
from harness.records.record import FINISHED, Record
from harness.util.errors import HarnessError
from harness.util.text import in_order

SCREEN = "target_selectivity"
"""The signal that the screen ranks by."""
HEADS = ("subject", "batch", "intervention", "other settings", "class", "at", "ranked by", "size", "shared", "effect",
         "T", "p", "verdict", "units")  # fmt: skip
MEANING = f"""\
- **at**: the smallest selectivity for the class, relative to the baseline, that counts. **size**: how many units reach
  it; the other rankings are cut at as many, so that only this number comes from the labels.
- **ranked by**: {SCREEN} gives the set of all units that reach it. **shared**: how many of its units a ranking
  has as well.
- **effect**, **T**, **p**: of the metric that decides first: its change by the ablation, what the weaker units of the
  group add to the damage, and p among groups of the same profile. p is not corrected for the number of sets; sets of
  one model contain each other.
"""


@dataclass(frozen=True)
class Screened:
    """One set, and the result of its closure test. ``setting``: all that is equal among the sets of one threshold.

    ``ranked_by``: the signal. ``shared``: how many units of the screen are in it; None: the screen was not closed.
    ``verdict``: or why nothing was tested. ``effect``, ``T``, ``p``: on the ``metric`` that decides first.
    """

    subject: str
    setting: tuple[str, ...]
    of: str
    at: float
    ranked_by: str
    units: tuple[str, ...]
    verdict: str
    metric: str = ""
    effect: float | None = None
    T: float | None = None
    p: float | None = None
    shared: int | None = None

    @property
    def is_screen(self) -> bool:
        """Whether these are all units that reach the threshold."""
        return self.ranked_by == SCREEN

    @property
    def same_threshold(self) -> tuple[Any, ...]:
        """What the sets that are compared with each other have in common."""
        return self.subject, self.setting, self.of, self.at


def screened(records: Sequence[Record]) -> list[Screened]:
    """The finished cells that are part of a screen, by model and threshold; the screen is the first of each.

    Errors: there are none.
    """
    chosen = [record for record in records if record.status in FINISHED and _takes_part(record)]
    if not chosen:
        raise HarnessError(
            "no finished cell is part of a capability screen.",
            "Run one: harness sweep experiment=screen, or harness run signal=target_selectivity partitioner=threshold",
        )
    by_signal: dict[str, list[Record]] = {}
    for record in chosen:
        by_signal.setdefault(record.config["signal"]["name"], []).append(record)
    keys = {name: [key for key in differing(cells) if key.startswith("signal.")] for name, cells in by_signal.items()}
    signals = {f"signal.{key}" for record in chosen for key in record.config["signal"]}
    shown = {"subject", "batch", "intervention", "partitioner"}
    others = [key for key in differing(chosen) if key.split(".")[0] not in shown and key not in signals]
    found = [_screened(record, keys[record.config["signal"]["name"]], others) for record in chosen]
    screens = {each.same_threshold: set(each.units) for each in found if each.is_screen}
    found = [
        dataclasses.replace(each, shared=len(screens[each.same_threshold] & set(each.units)))
        if each.same_threshold in screens
        else each
        for each in found
    ]
    return sorted(
        found,
        key=lambda each: (
            in_order(each.subject), each.setting, each.of, each.at, not each.is_screen, in_order(each.ranked_by)
        ),
    )  # fmt: skip


def as_markdown(sets: Sequence[Screened]) -> str:
    """How many sets pass, in sentences; the table; and what its columns mean."""
    rows = [
        [
            *(each.subject, *each.setting, each.of, f"{each.at:g}", each.ranked_by, str(len(each.units))),
            "-" if each.shared is None or each.is_screen else str(each.shared),
            "-" if each.effect is None else f"{each.effect:+.2f} {spaced(each.metric)}",
            *(number_or_dash(each.T, ".2f"), number_or_dash(each.p, ".3f"), spaced(each.verdict)),
            named(each.units, 6),
        ]
        for each in sets
    ]
    found = "\n".join(f"- {plain(sentence)}" for sentence in sentences(sets))
    return f"{found}\n\n{table([HEADS, *rows])}\n{MEANING}"


def as_data(sets: Sequence[Screened]) -> dict[str, Any]:
    """The same as data."""
    return {"found": list(sentences(sets)), "sets": [dataclasses.asdict(each) for each in sets]}


def sentences(sets: Sequence[Screened]) -> Iterator[str]:
    """For every model and class: at how many thresholds the screen passes, and as many units by every ranking."""
    for subject, of in dict.fromkeys((each.subject, each.of) for each in sets):
        alike = [each for each in sets if (each.subject, each.of) == (subject, of)]
        for ranking in dict.fromkeys(each.ranked_by for each in alike):
            tested = [each for each in alike if each.ranked_by == ranking and each.metric]
            passed, weak = (
                sum(each.verdict == verdict for each in tested) for verdict in (Verdict.PASS, Verdict.WEAK_PASS)
            )
            what = "the units that reach a threshold" if ranking == SCREEN else f"as many units by {ranking}"
            weakly = f", and weakly at {weak}" if weak else ""
            yield f"{subject}, {of}: {what} pass at {passed} of {len(tested)} tested thresholds{weakly}."


def _takes_part(record: Record) -> bool:
    partitioner, signal = (record.config.get(stage, {}).get("name") for stage in ("partitioner", "signal"))
    by_threshold = partitioner == "threshold" and signal == SCREEN
    return not record.config.get("group") and (partitioner == "size_matched" or by_threshold)


def _screened(record: Record, of_signal: Sequence[str], others: Sequence[str]) -> Screened:
    config, signal = flat(record.config), record.config["signal"]
    words = ", ".join(f"{key.removeprefix('signal.')}={config.get(key)}" for key in of_signal)
    by_labels = record.partition.diagnostics.get("class") if record.partition else None
    candidate = record.candidates[0] if record.candidates else None
    closure = record.closure[0] if record.closure else None
    metric = decision_order(closure.effects)[0] if closure else ""
    effect: Effect | None = closure.effects[metric] if closure else None
    return Screened(
        subject=record.cell.subject,
        setting=(
            record.cell.batch,
            record.cell.intervention,
            ", ".join(f"{key}={config.get(key)}" for key in others) or "-",
        ),
        of=str(by_labels or signal.get("of") or "first of the batch"),
        at=float(config["partitioner.at"]),
        ranked_by=f"{signal['name']}({words})" if words and signal["name"] != SCREEN else signal["name"],
        units=candidate.units if candidate else _untested_units(record),
        verdict=closure.verdict.value if closure else _why_not(record),
        metric=metric,
        effect=effect.delta if effect else None,
        T=effect.statistic if effect else None,
        p=effect.p if effect else None,
    )


def _untested_units(record: Record) -> tuple[str, ...]:
    labels = record.partition.labels if record.partition else ()
    return tuple(unit for unit, label in zip(record.units, labels, strict=False) if label >= 0)


def _why_not(record: Record) -> str:
    selected = len(_untested_units(record))
    return f"not tested: {'all' if selected else 'no'} units reach it"
