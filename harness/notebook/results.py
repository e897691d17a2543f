"""Results as a notebook shows them: a card, a table, a figure. Each holds the plain result it is made from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from harness.board.card import card
from harness.board.fragment import fragment, table
from harness.closure.report import ClosureReport
from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict
from harness.data.grouping import Affinity, Candidate, Partition
from harness.data.recording import Activity, Spins
from harness.data.units import UnitSpace
from harness.proposal.proposal import Proposal
from harness.records.record import CandidateRecord, Record, Status
from harness.util.errors import HarnessError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from harness.board.figures.style import NewFigure


class _Shown(ABC):
    """A result whose text is its card."""

    @property
    @abstractmethod
    def card(self) -> str:
        """The verdict card."""

    def __str__(self) -> str:
        return self.card

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class ClosureResult(_Shown):
    """The closure test of one group. ``report`` holds every number; ``record`` the cell it is from."""

    report: ClosureReport
    record: Record

    @property
    def units(self) -> tuple[str, ...]:
        """Labels of the group."""
        return self.report.units

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.report.verdict

    @property
    def reason(self) -> str:
        """The reason for the verdict, in one sentence."""
        return self.report.reason

    @property
    def effects(self) -> Mapping[str, Effect]:
        """The effect of ablation, by metric."""
        return self.report.effects

    @property
    def n_controls(self) -> int:
        """Number of distinct control groups that were counted."""
        return self.report.n_controls

    @property
    def card(self) -> str:
        """The verdict card."""
        return card(replace(self.record, closure=(self.report,)))

    def to_frame(self) -> DataFrame:
        """One row per metric.

        ``effect``: mean change under ablation, with its 95 % interval (``low``, ``high``). ``controls_low``,
        ``controls_high``: 5th and 95th percentile of the controls' effects. ``p_corrected``: corrected over metrics
        and candidates. ``decides``: whether the metric takes part in the verdict. Missing numbers are NaN.
        """
        from pandas import DataFrame

        rows = [{"metric": name, **_row(effect)} for name, effect in self.effects.items()]
        return DataFrame(rows).set_index("metric")

    def plot(self) -> list[Axes]:
        """Draw the effect of the group and of every control. Returns one axes per metric, the deciding one first."""
        from harness.board.figures.report import cloud_figure

        return _drawn(lambda new: cloud_figure(self.report, new)).axes

    def _repr_html_(self) -> str:
        return fragment(replace(self.record, closure=(self.report,)))


@dataclass(frozen=True, repr=False)
class ProposalResult(_Shown):
    """Proposed groups. ``proposal`` holds every step; ``record`` what a record of it contains.

    With strata, there is a proposal for each; ``strata`` gives them by name, and this result shows the first one.
    """

    proposals: tuple[Proposal, ...]
    record: Record

    @property
    def proposal(self) -> Proposal:
        """Every step of the (first) proposal."""
        return self.proposals[0]

    @property
    def strata(self) -> dict[str, ProposalResult]:
        """The proposal of each stratum."""
        return {one.stratum: ProposalResult((one,), self.record) for one in self.proposals}

    @property
    def units(self) -> UnitSpace:
        """The units, in the order of every array."""
        return self.proposal.units

    @property
    def activity(self) -> Activity:
        """The signal's activity [observations, units], after all transforms."""
        return self.proposal.activity

    @property
    def spins(self) -> Spins:
        """The binarized activity [observations, units]."""
        return self.proposal.spins

    @property
    def affinity(self) -> Affinity:
        """How similarly two units behave [units, units]."""
        return self.proposal.affinity

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All partitions."""
        return self.proposal.partitions

    @property
    def partition(self) -> Partition:
        """The chosen partition."""
        return self.proposal.partition

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The groups to test, best first. ``close`` takes one of them."""
        return self.proposal.candidates

    @property
    def card(self) -> str:
        """The partitions and candidates."""
        return card(self.record)

    def to_frame(self) -> DataFrame:
        """One row per unit: its class by the labels, its group in the chosen partition (-1: none), and the number of
        the first candidate that contains it, from 1 (0: none).
        """
        from pandas import DataFrame

        candidate = np.zeros(len(self.units), dtype=np.int64)
        for number, group in reversed(list(enumerate(self.candidates, 1))):
            candidate[list(group.members)] = number
        columns = {"class": self.proposal.labels.classes, "group": self.partition.labels, "candidate": candidate}
        return DataFrame(columns, index=list(self.units.labels)).rename_axis("unit")

    def plot(self) -> Axes:
        """Draw the affinity, units in the order of their groups. Errors: no method of this cell uses an affinity."""
        from harness.board.figures.affinity import affinity_figure

        members = self.candidates[0].members if self.candidates else ()
        return _drawn(lambda new: affinity_figure(self.affinity, self.partition, members, new=new)).axes[0]

    def _repr_html_(self) -> str:
        return fragment(self.record, self.affinity if self.proposal.has("affinity") else None)


@dataclass(frozen=True, repr=False)
class RunResult(_Shown):
    """One cell, as its ``record`` describes it."""

    record: Record

    @property
    def id(self) -> str:
        """The cell's id: ``harness report ID`` writes a page about it."""
        return self.record.cell.id

    @property
    def status(self) -> Status:
        """How the cell ended."""
        return self.record.status

    @property
    def reason(self) -> str:
        """Why it did not reach its end; empty if it did."""
        return self.record.reason

    @property
    def candidates(self) -> tuple[CandidateRecord, ...]:
        """The proposed groups."""
        return self.record.candidates

    @property
    def closure(self) -> tuple[ClosureResult, ...]:
        """The test of each candidate."""
        return tuple(ClosureResult(report, self.record) for report in self.record.closure)

    @property
    def card(self) -> str:
        """The verdict cards."""
        return card(self.record)

    def to_frame(self) -> DataFrame:
        """One row per candidate and metric: cell, status, method, task, group, verdict, and the columns of
        :meth:`ClosureResult.to_frame`. A cell without a tested candidate has one row.
        """
        from pandas import DataFrame

        cell = self.record.cell
        about = {
            "cell": cell.id,
            "status": self.status.value,
            "subject": cell.subject,
            "batch": cell.batch,
            "method": cell.method,
            "intervention": cell.intervention,
        }
        rows = [
            {**about, "units": " ".join(report.units), "verdict": report.verdict.value, "metric": name, **_row(effect)}
            for report in self.record.closure
            for name, effect in report.effects.items()
        ]
        return DataFrame(rows or [about])

    def plot(self) -> list[Axes]:
        """Draw the test of the first candidate. Errors: nothing was tested."""
        if not self.closure:
            raise HarnessError(f"cell {self.id} tested nothing: {self.reason}")
        return self.closure[0].plot()

    def _repr_html_(self) -> str:
        return fragment(self.record)


@dataclass(frozen=True, repr=False)
class SweepResult(_Shown, Sequence[RunResult]):
    """The cells of a sweep, in order."""

    cells: tuple[RunResult, ...]

    @overload
    def __getitem__(self, place: int) -> RunResult: ...
    @overload
    def __getitem__(self, place: slice) -> SweepResult: ...
    def __getitem__(self, place: int | slice) -> RunResult | SweepResult:
        return SweepResult(self.cells[place]) if isinstance(place, slice) else self.cells[place]

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[RunResult]:
        return iter(self.cells)

    @property
    def card(self) -> str:
        """One line per cell: verdicts, or the status."""
        verdicts = [", ".join(closure.verdict.value for closure in cell.closure) for cell in self]
        lines = zip(verdicts, self, strict=True)
        return "\n".join(f"{verdict or cell.status.value:<16}{cell.record.cell.title}" for verdict, cell in lines)

    def to_frame(self) -> DataFrame:
        """The rows of every cell: see :meth:`RunResult.to_frame`."""
        from pandas import DataFrame, concat

        return concat([result.to_frame() for result in self], ignore_index=True) if self.cells else DataFrame()

    def _repr_html_(self) -> str:
        return table([result.record for result in self])


def _row(effect: Effect) -> dict[str, Any]:
    low, high = effect.interval or (np.nan, np.nan)
    controls = np.percentile(effect.controls, [5, 95]) if effect.controls else (np.nan, np.nan)
    return {
        "baseline": effect.baseline,
        "ablated": effect.ablated,
        "effect": effect.delta,
        "low": low,
        "high": high,
        "controls_low": float(controls[0]),
        "controls_high": float(controls[1]),
        "z": np.nan if effect.z is None else effect.z,
        "p": np.nan if effect.p is None else effect.p,
        "p_corrected": np.nan if effect.p_adjusted is None else effect.p_adjusted,
        "decides": effect.decides,
    }


def _drawn(draw: Callable[[NewFigure], Figure]) -> Figure:
    """A figure of pyplot, which notebooks show by themselves, in the style of the reports."""
    from matplotlib import pyplot

    from harness.board.figures.style import style

    with style():
        return draw(lambda width, height: pyplot.figure(figsize=(width, height), layout="constrained"))
