"""The strata of a cell: which examples are in each, what the model does on them, and whether routes are worth more than
chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from harness.cells.inputs import Inputs
from harness.data.contracts import no_tick
from harness.data.grouping import Labels
from harness.data.recording import ROUTER
from harness.data.routing import RoutingEntropy
from harness.data.stages import call_with
from harness.proposal.proposal import Proposal
from harness.proposal.strata_null import StrataNull, best_agreement, strata_null
from harness.records.record import StratumRecord
from harness.util.errors import HarnessError
from harness.util.threads import one_thread


@dataclass(frozen=True, eq=False)
class Division:
    """The examples of a cell by stratum. ``names``: of the strata; none where the cell does not divide its examples.

    ``proposed``, ``tested``: the stratum of every example of each half, as a place in ``names``; -1: none.
    """

    inputs: Inputs
    labels: Labels | None = None
    names: tuple[str, ...] = ()
    proposed: Int[np.ndarray, " examples"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    tested: Int[np.ndarray, " examples"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(cls, inputs: Inputs) -> Division:
        """Fit the strata on the proposal half.

        Without strata all examples are one: ``scope=stratum`` is then all of them, and there is no ``strata_null``.

        Errors: covariates without strata; ``strata_null`` without labels to agree with.
        """
        cell, settings = inputs.cell, inputs.cell.settings
        if not cell.has_strata:
            if cell.given_strata:
                raise HarnessError(
                    f"affinity {cell.describe('affinity')}: this cell has no strata.",
                    "Choose some (stratifier=groups), or an affinity without strata as covariates.",
                )
            return cls(inputs)
        if not cell.divided and (settings.scope == "stratum" or settings.strata_null):
            raise HarnessError(
                f"affinity {cell.describe('affinity')}: it takes the strata as covariates, so that no candidate is "
                "proposed on one of them.",
                "Use scope=all and strata_null=0, or an affinity without covariates.",
            )
        assert inputs.proposal_half is not None
        readers = inputs.readers("stratifier")
        recordings = [
            inputs.record(half, readers) for half in (inputs.proposal_half, inputs.test_half) if half is not None
        ]
        strata = call_with(cell.stages["stratifier"], recording=recordings[0])
        proposed, tested = (strata.of(recording) for recording in (recordings[0], recordings[-1]))
        labels = inputs.labels_of_units()
        if settings.strata_null and (settings.group or not labels.divide):
            why = "a group named by hand is not proposed" if settings.group else "the labels do not divide the units"
            raise HarnessError(
                f"strata_null: {why}, so that nothing can agree with them.",
                "Choose labels with two classes or more (labels=survey), or strata_null=0.",
            )
        return cls(inputs, labels, strata.names, proposed, tested)

    @property
    def parts(self) -> list[Inputs]:
        """The inputs of every stratum: its examples of the proposal half, and with ``scope=stratum`` also its examples
        of the test half. The inputs as they are where examples are not divided.

        Errors: no stratum with two examples in each half.
        """
        if not self.names:
            return [self.inputs]
        if not self.inputs.cell.divided:
            return [replace(self.inputs, covariates=self.proposed)]
        inputs, cell = self.inputs, self.inputs.cell
        assert inputs.proposal_half is not None
        parts = []
        for place, name in enumerate(self.names):
            mine, others = np.flatnonzero(self.tested == place), np.flatnonzero(self.tested != place)
            proposed = np.flatnonzero(self.proposed == place)
            if min(len(proposed), len(mine)) < 2:
                continue
            part = replace(inputs, proposal_half=inputs.proposal_half.take(proposed), stratum=name, labels=self.labels)
            if cell.settings.scope == "stratum" and inputs.test_half is not None:
                outside = inputs.test_half.take(others) if len(others) > 1 else None
                part = replace(part, test_half=inputs.test_half.take(mine), outside=outside)
            parts.append(part)
        if not parts:
            raise HarnessError(
                f"stratifier {cell.describe('stratifier')}: no stratum has two examples in each half.",
                "Use more examples (batch.n=...).",
            )
        return parts

    def described(self, test: bool) -> tuple[StratumRecord, ...]:
        """The strata as a record holds them. Metrics and entropy are means over the examples that are tested; without a
        ``test`` there are no metrics.
        """
        if not self.names:
            return ()
        inputs, half = self.inputs, self.inputs.test_half or self.inputs.proposal_half
        assert half is not None
        columns = {}
        if test:
            metrics, names = inputs.cell.stages["metric"], [m.name for m in inputs.cell.methods["metric"]]
            intervention = inputs.cell.stages["intervention"]
            values = inputs.evaluate(half, [()], intervention, metrics, no_tick, inputs.proposal_half)[:, 0]
            columns = dict(zip(names, values, strict=True))
        entropy = None
        if ROUTER in inputs.subject.sources:
            entropy = RoutingEntropy.of(inputs.record(half, {"entropy": RoutingEntropy()}).readings["entropy"])
        described = []
        for place, name in enumerate(self.names):
            mine = self.tested == place
            described.append(
                StratumRecord(
                    name,
                    n_proposed=int((self.proposed == place).sum()),
                    n_tested=int(mine.sum()),
                    baseline={metric: float(of[mine].mean()) for metric, of in columns.items() if mine.any()},
                    routing_entropy=float(entropy[mine].mean()) if entropy is not None and mine.any() else None,
                )
            )
        return tuple(described)

    def null(self, proposals: Sequence[Proposal]) -> StrataNull | None:
        """The agreement within strata, against uniform partitions of the proposal half into strata of these sizes. None
        where the cell does not ask for it.
        """
        inputs, settings = self.inputs, self.inputs.cell.settings
        if not settings.strata_null or not self.names:
            return None
        whole, recording, history = inputs.proposal_half, inputs.recording(), inputs.history()
        assert whole is not None

        def propose(rows: Int[np.ndarray, " some"]) -> Proposal:
            """The proposal of some examples, from what was recorded of all."""
            given = {
                "truth": inputs.subject.truth,
                "batch": whole.take(rows),
                "recording": None if recording is None else recording.take(rows),
                "history": None if history is None else history.take(rows),
            }
            return Proposal(inputs.cell.stages, inputs.subject.units, given, seed=settings.seed, labels=self.labels)

        sizes = [len(proposal.batch) for proposal in proposals]
        what = f"{settings.strata_null} partitions into {len(sizes)} strata"
        with inputs.progress.step("strata null", what, settings.strata_null) as tick, one_thread():
            return strata_null(
                best_agreement(proposals),
                propose,
                sizes,
                len(whole),
                runs=settings.strata_null,
                futility=settings.futility,
                ddof=settings.ddof,
                seed=settings.seed,
                tick=tick,
            )
