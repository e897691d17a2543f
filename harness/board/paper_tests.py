"""The closure paper's five tests: its published verdicts, and ours where a workspace has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.board.task import asked_digest, asked_of
from harness.cells.cell import Cell
from harness.closure.paper import paper_verdict
from harness.closure.report import ClosureReport
from harness.closure.verdict import spaced
from harness.records.record import Record, Status
from harness.records.workspace import Workspace
from harness.registry.command import command, in_workspace
from harness.registry.config import resolve
from harness.registry.registry import Registry


@dataclass(frozen=True)
class PaperTest:
    """One published test. ``z``: of loss, accuracy and target logit, in standard deviations of five controls (ddof 0).

    Source: closure paper, table of section 6; z from its published result files.
    """

    number: int
    model: str
    text: str
    heads: int
    z: tuple[float, float, float]
    verdict: str

    @property
    def experiment(self) -> str:
        """The experiment that repeats it."""
        return f"paper_{self.number}"


METRICS = ("loss", "accuracy", "target_logit")
PAPER_TESTS = (
    PaperTest(1, "OLMo-1B", "synthetic", 5, (1.83, -1.97, -2.68), "pass"),
    PaperTest(2, "Pythia-1B", "synthetic", 25, (2.05, -1.16, -2.06), "weak pass"),
    PaperTest(3, "OLMo-1B", "natural", 10, (36.44, -50.59, -50.93), "pass"),
    PaperTest(4, "Pythia-1B", "natural", 9, (1.95, -9.89, -52.51), "pass (redundant)"),
    PaperTest(5, "OLMoE", "natural, one route stratum", 22, (-5.64, -0.22, -2.97), "fail"),
)


@dataclass(frozen=True)
class Ours:
    """A test in a workspace: its newest finished ``record``; if there is none, ``command`` makes it from the model
    ``hub`` on the Hugging Face hub.
    """

    test: PaperTest
    record: Record | None
    command: str
    hub: str


def our_tests(records: Sequence[Record], workspace: Workspace, registry: Registry) -> list[Ours]:
    """The five tests, each with the record of its experiment: the same methods, model and batch, judged alike."""
    found = []
    for test in PAPER_TESTS:
        word = f"experiment={test.experiment}"
        cell = Cell.of(resolve([word], registry), registry)
        asked = (cell.row, cell.protocol, asked_of(cell.config))
        same = [r for r in records if r.status is Status.OK and (r.cell.row, r.cell.protocol, asked_digest(r)) == asked]
        newest = max(same, key=lambda record: str(record.provenance.get("started", "")), default=None)
        typed = command("run", word, *in_workspace(workspace.root))
        found.append(Ours(test, newest, typed, str(cell.config["subject"]["path"])))
    return found


def paper_table(found: Sequence[Ours]) -> str:
    """The published verdicts, and ours below each."""
    lines = ["z: of loss, accuracy and target logit, in standard deviations of five controls (ddof 0)"]
    for ours in found:
        test = ours.test
        lines += ["", f"{test.number}  {test.model} · {test.text}"]
        lines.append(f"   paper  {test.verdict:<18}{test.heads:>4} heads   z {_z(test.z)}")
        if ours.record is None:
            lines.append(f"   ours   not in this workspace: {ours.command}   (needs {ours.hub} from the hub)")
            continue
        lines += [f"   ours   {text}" for text in map(_closure, ours.record.closure)]
        lines.append(f"          cell {ours.record.cell.id}")
    return "\n".join(lines)


def paper_data(found: Sequence[Ours]) -> list[dict[str, Any]]:
    """The same for ``--json``."""
    return [
        {
            **asdict(ours.test),
            "cell": ours.record.cell.id if ours.record else None,
            "command": ours.command,
            "hub": ours.hub,
            "ours": [
                {
                    "stratum": closure.stratum,
                    "units": closure.units,
                    "verdict": closure.verdict.value,
                    "by_the_papers_rule": paper_verdict(closure.effects)[0].value,
                    "z": [_z_of(closure, name) for name in METRICS],
                }
                for closure in (ours.record.closure if ours.record else ())
            ],
        }
        for ours in found
    ]


def _closure(closure: ClosureReport) -> str:
    by_rule, _ = paper_verdict(closure.effects)
    stratum = f"   {closure.stratum}" if closure.stratum else ""
    verdict, z = spaced(closure.verdict.value), _z([_z_of(closure, name) for name in METRICS])
    return f"{verdict:<18}{len(closure.units):>4} units   z {z}   by the paper's rule: {spaced(by_rule.value)}{stratum}"


def _z_of(closure: ClosureReport, name: str) -> float | None:
    return closure.effects[name].z if name in closure.effects else None


def _z(values: Sequence[float | None]) -> str:
    return " / ".join("-" if value is None else f"{value:+.2f}" for value in values)
