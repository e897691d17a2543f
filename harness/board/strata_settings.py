"""What candidates do inside and outside their strata, under every setting of a workspace's records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.board.configs import differing, flat
from harness.board.markdown import plain, table
from harness.board.strata import number_or_dash
from harness.closure.comparison import p_among
from harness.closure.outside import Outside
from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict, decision_order
from harness.records.record import FINISHED, Record
from harness.util.text import in_order

HEADS = (
    "subject",
    "batch",
    "intervention",
    "strata",
    "other settings",
    "candidates",
    "pass",
    "weak pass",
    "also outside",
    "gap z",
    "gap p",
    "strata null p",
    "routing entropy",
)
MEANING = """\
- **pass**, **weak pass**: candidates with this verdict, inside their stratum where the cell has `scope=stratum`.
- **also outside**: of those that pass, how many do more damage outside their stratum than the groups they are compared
  with (p at most alpha).
- **gap z**, **gap p**: of damage inside minus damage outside, the best of the candidates: in standard deviations of
  that of groups without a common unit, and p times the number of candidates. A group with one unit of a circuit can do
  as much damage as the whole circuit, so p can be large for a circuit.
- **strata null p**: of the largest agreement with the labels within a stratum, among random strata of the same sizes.
- **routing entropy**: of the tested examples, in nats, over all strata.
"""
_NAMED = ("batch", "intervention")
"""Keys of the configuration that a cell's own names describe."""


@dataclass(frozen=True)
class Setting:
    """One cell: its settings, and how its candidates did. None: not measured, or no strata.

    ``kind``: the names of its subject and its stratifier. ``inside``: whether candidates are judged inside their
    stratum. ``also_outside``: of those that pass, how many do damage outside as well.
    """

    kind: tuple[str, str]
    named: tuple[str, ...]
    inside: bool
    candidates: int
    passed: int
    weakly_passed: int
    also_outside: int | None
    gap_z: float | None
    gap_p: float | None
    null_p: float | None
    entropy: float | None

    @property
    def holds(self) -> bool:
        """Whether a candidate passes; if it is judged inside its stratum, one that does no such damage outside."""
        return self.passed > (self.also_outside or 0)


def settings_of(records: Sequence[Record]) -> list[Setting]:
    """The finished cells whose groups were proposed, in the order of their settings."""
    by_kind: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.status in FINISHED and not record.config.get("group"):
            kind = (str(record.config["subject"]["name"]), str(record.config["stratifier"]["name"]))
            by_kind.setdefault(kind, []).append(record)
    found = []
    for kind, cells in by_kind.items():
        keys = differing(cells)
        found += [_setting(kind, record, keys) for record in cells]
    return sorted(found, key=lambda setting: (setting.kind, [in_order(name) for name in setting.named]))


def as_markdown(settings: Sequence[Setting]) -> str:
    """What holds, in sentences; the table; and what its columns mean."""
    rows = [
        [
            *setting.named,
            *(str(count) for count in (setting.candidates, setting.passed, setting.weakly_passed)),
            "-" if setting.also_outside is None else str(setting.also_outside),
            number_or_dash(setting.gap_z, "+.1f"),
            *(number_or_dash(value, ".3f") for value in (setting.gap_p, setting.null_p, setting.entropy)),
        ]
        for setting in settings
    ]
    found = "\n".join(f"- {plain(sentence)}" for sentence in sentences(settings))
    return f"{found}\n\n{table([HEADS, *rows])}\n{MEANING}"


def as_data(settings: Sequence[Setting]) -> dict[str, Any]:
    """The same as data."""
    rows = [{**dataclasses.asdict(setting), "holds": setting.holds} for setting in settings]
    return {"found": list(sentences(settings)), "settings": rows}


def sentences(settings: Sequence[Setting]) -> Iterator[str]:
    """For every subject and stratifier: under how many settings a group passes, and not outside its stratum as well."""
    for subject, stratifier in dict.fromkeys(setting.kind for setting in settings):
        alike = [setting for setting in settings if setting.kind == (subject, stratifier)]
        holding, n = sum(setting.holds for setting in alike), len(alike)
        share = f"all {n}" if holding == n > 1 else f"{holding} of {n}"
        where = "without strata" if stratifier == "none" else f"strata by {stratifier}"
        inside = " inside its stratum and not outside" if all(setting.inside for setting in alike) else ""
        yield f"{subject}, {where}: under {share} settings, a group passes{inside}."


def p_outside(effect: Effect, outside: Outside) -> float:
    r"""p of a candidate's damage outside its stratum, among that of the groups it is compared with.

    .. math:: p = \frac{1 + \#\{d_i \ge d\}}{1 + n}, \qquad d_i = \text{damage inside}_i - \text{gap}_i
    """
    others = effect.damage * np.array(effect.controls) - np.array(outside.gaps)
    return p_among(effect.damage * outside.delta, others)


def _setting(kind: tuple[str, str], record: Record, keys: Sequence[str]) -> Setting:
    config = flat(record.config)
    strata = [f"{key.removeprefix('stratifier.')}={config[key]}" for key in keys if key.startswith("stratifier.")]
    other = [f"{key}={config.get(key)}" for key in keys if key.split(".")[0] not in ("stratifier", *_NAMED)]
    firsts = [(closure, decision_order(closure.effects)[0]) for closure in record.closure if closure.outside]
    outside = [closure.outside[first] for closure, first in firsts]
    p_of_passed = [
        p_outside(closure.effects[first], closure.outside[first])
        for closure, first in firsts
        if closure.verdict is Verdict.PASS
    ]
    inside = any(closure.scope == "stratum" for closure in record.closure)
    alpha, n = float(record.config["alpha"]), len(record.closure)
    routed = [stratum for stratum in record.strata if stratum.routing_entropy is not None and stratum.n_tested]
    tested = sum(stratum.n_tested for stratum in routed)
    return Setting(
        kind=kind,
        named=(
            *(record.cell.subject, record.cell.batch, record.cell.intervention),
            kind[1] + (f"({', '.join(strata)})" if strata else ""),
            ", ".join(other) or "-",
        ),
        inside=inside,
        candidates=n,
        passed=sum(closure.verdict is Verdict.PASS for closure in record.closure),
        weakly_passed=sum(closure.verdict is Verdict.WEAK_PASS for closure in record.closure),
        also_outside=sum(p <= alpha for p in p_of_passed) if inside else None,
        gap_z=max((each.z for each in outside if each.z is not None), default=None),
        gap_p=min((min(1.0, each.p * n) for each in outside if each.p is not None), default=None),
        null_p=record.strata_null.p if record.strata_null else None,
        entropy=sum(s.n_tested * (s.routing_entropy or 0.0) for s in routed) / tested if tested else None,
    )
