"""The public API: its names, their lazy loading, and their use in a notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness import HarnessError, Record, Status, Verdict, close, method, propose, run

NAMES = [
    "Activity",
    "Affinity",
    "AffinityMethod",
    "Agreement",
    "Batch",
    "BatchMethod",
    "Binarizer",
    "Candidate",
    "CellFinished",
    "Chooser",
    "ClosureReport",
    "ClosureResult",
    "Columns",
    "ControlSets",
    "Controls",
    "Counterfactual",
    "Features",
    "HarnessError",
    "HeadSubject",
    "HookedSubject",
    "History",
    "Intervention",
    "LabelMethod",
    "Labels",
    "Metric",
    "Partition",
    "Partitioner",
    "PluginError",
    "Prediction",
    "Profile",
    "Proposal",
    "ProposalResult",
    "Reader",
    "Record",
    "Recording",
    "Residual",
    "Rows",
    "RunResult",
    "Scores",
    "Selector",
    "Sign",
    "Signal",
    "Site",
    "Source",
    "Spins",
    "Stability",
    "Status",
    "Strata",
    "Stratifier",
    "Subject",
    "SubjectMethod",
    "SweepResult",
    "Tick",
    "Tokens",
    "Transform",
    "UNCLASSIFIED",
    "Unit",
    "UnitSpace",
    "Vectors",
    "Verdict",
    "Vocabulary",
    "Whole",
    "Width",
    "Windows",
    "Workspace",
    "batch",
    "check",
    "close",
    "default_id_range",
    "digest",
    "digest_files",
    "from_pools",
    "from_windows",
    "hookimpl",
    "isolation",
    "jaccard",
    "load_model",
    "method",
    "others",
    "propose",
    "purity",
    "read_record",
    "repeat_anchors",
    "rng_for",
    "run",
    "seed_for",
    "signed_part",
    "site_bands",
    "spread",
    "subject",
    "sweep",
    "tokens_of",
]
SMALL = ("subject=planted", "batch=planted", "batch.n=128", "controls.n=39", "reruns=1", "tracking=none", "cache=false")


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(harness.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(harness, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Afinity"):
        _ = harness.Afinity  # type: ignore[attr-defined]


def test_importing_the_package_loads_no_library() -> None:
    code = (
        "import sys, harness; print([name for name in ('numpy', 'torch', 'hydra', 'pydantic') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_method_is_built_by_name_with_checked_parameters() -> None:
    assert method("affinity", "ising", l2=0.5).l2 == 0.5
    with pytest.raises(HarnessError, match="isng"):
        method("affinity", "isng")
    with pytest.raises(HarnessError, match="lambda"):
        method("affinity", "ising", **{"lambda": 1})
    with pytest.raises(HarnessError, match=r"controls\.n=0"):
        method("controls", "layer_matched", n=0)


def test_a_notebook_runs_a_cell_and_finds_its_record(tmp_path: Path) -> None:
    words = (*SMALL, f"workspace={tmp_path}")
    result = run(*words)
    assert isinstance(result.record, Record)
    assert result.status in (Status.OK, Status.SKIPPED)
    assert harness.Workspace.at(tmp_path).find(result.record.cell.id) == result.record
    assert run(*words) == result  # served, with the same times


def test_a_notebook_can_propose_and_inspect_every_step(tmp_path: Path) -> None:
    proposal = propose(*SMALL, f"workspace={tmp_path}")
    n = len(proposal.units)
    assert proposal.affinity.matrix.shape == (n, n)
    assert len(proposal.partition.labels) == n
    assert not list(tmp_path.rglob("record.json"))
    with pytest.raises(HarnessError, match="named by hand"):
        propose("group=[L0H0]")


def test_a_notebook_closes_a_planted_circuit(tmp_path: Path) -> None:
    subject = method("subject", "planted", noise=0.0)()
    circuit = subject.units.names(subject.groups["serial"][0])
    report = close(circuit, *SMALL, "subject.noise=0.0", f"workspace={tmp_path}")
    assert list(report.units) == circuit
    assert report.verdict is Verdict.PASS
    assert close(",".join(circuit), *SMALL, "subject.noise=0.0", f"workspace={tmp_path}") == report
    assert close(circuit, *SMALL, "subject.noise=0.0").report == report.report  # without a workspace
