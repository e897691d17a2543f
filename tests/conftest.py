"""Shared by all tests: hypothesis settings, the published reference, a vocabulary, example effects and records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

from harness.closure.anatomy import OnInput
from harness.closure.report import Anatomy, ClosureReport
from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict
from harness.data.batch import Vocabulary
from harness.data.grouping import Agreement, Stability
from harness.data.units import UnitSpace
from harness.records.record import CandidateRecord, CellInfo, PartitionRecord, Record, Status
from harness.testing.examples import word_vocabulary
from harness.util.digest import digest

# As the command line does, and before anything imports torch: spinning threads make a busy machine three times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# No deadline: the first example of a test may import torch. The same examples every time where nobody can look.
settings.register_profile("here", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def _of_outer_functions(*, typechecker: Callable[..., Any]) -> Callable[..., Any]:
    """What jaxtyping decorates functions with, for all but functions inside functions.

    Those are defined at every call of the outer one, and their checks would be compiled every time: half of the time of
    all unit tests.
    """
    check = partial(_jaxtyped, typechecker=typechecker)
    return lambda one: one if "<locals>" in getattr(one, "__qualname__", "") else check(one)


_jaxtyped = jaxtyping.jaxtyped
jaxtyping.jaxtyped = _of_outer_functions


def pytest_configure(config: pytest.Config) -> None:
    """Ignore two warnings of the type checks of tests: old annotations of OmegaConf, random sampling by beartype."""
    config.addinivalue_line("filterwarnings", "ignore:.*deprecated by PEP 585:DeprecationWarning")
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test marked ``unchecked``, with its fixtures, as users do: without the checks of shapes and types."""
    jaxtyping.config.update("jaxtyping_disable", item.get_closest_marker("unchecked") is not None)
    try:
        return (yield)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Published results of the closure paper for OLMo-1B on synthetic induction: not part of the repository."""
    root = os.environ.get("HARNESS_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference"
    folder = Path(root) / "olmo_1b_synthetic"
    if not (folder / "J.npy").is_file():
        pytest.skip(f"the published results are not at {folder}; name their folder in HARNESS_REFERENCE")
    return folder


@pytest.fixture
def vocabulary() -> Vocabulary:
    """2000 tokens, 256 positions, a token per word."""
    return word_vocabulary()


def _effect(**changes: Any) -> Effect:
    """A target logit that falls from 4 to 2, beyond all of 99 controls."""
    usual = {
        "baseline": 4.0,
        "ablated": 2.0,
        "delta": -2.0,
        "controls": tuple(i / 100 for i in range(99)),
        "z": -8.0,
        "p": 0.01,
        "p_adjusted": 0.01,
        "interval": (-2.5, -1.5),
        "damage": -1,
        "harmed": True,
        "bound": 2.5,
    }
    return Effect(**{**usual, **changes})


@pytest.fixture(scope="session")
def make_effect() -> Callable[..., Effect]:
    """An effect that is damage beyond the controls, with changes."""
    return _effect


UNITS = UnitSpace.heads([2, 3])
OTHER = PartitionRecord("k = 2", 2, 2, (0, 1, 1, 1, 1), 0.1, Agreement(-0.1, 0.2, 0.6), Stability(1.0, 0.2))
PARTITION = PartitionRecord("k = 3", 3, 3, (0, 1, 1, 2, 1), 0.25, Agreement(0.25, 0.5, 0.75), Stability(0.9, 0.4))


ANATOMY = Anatomy(
    sufficiency=0.75,
    leave_one_out=(0.5, 0.0, 0.25),
    dispensable=(),
    interaction=-0.25,
    interaction_interval=(-0.5, 0.0),
    on_input=OnInput(7, -3.0, (-0.5, 0.25), -4.0, 0.01, -0.125, 0.04),
    contrast=(-0.5, (-0.75, -0.25)),
    necessity=(1.0, 0.0, 0.5),
)


def _alike(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_alike(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_alike, found, expected))
    if isinstance(expected, float) and isinstance(found, float):
        return found == pytest.approx(expected, rel=1e-5, abs=1e-5, nan_ok=True)
    return bool(found == expected)


@pytest.fixture(scope="session")
def alike() -> Callable[[Any, Any], bool]:
    """Whether two records, as read from JSON, are equal; numbers up to rounding in single precision.

    Conditions that are evaluated together differ between a run with and without cached results, and sums of other
    batch sizes round differently. Everything that is counted or decided has to be equal.
    """
    return _alike


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A finished record of one candidate that passed, with changes."""

    def make(
        method: str = "ising spectral paper_score",
        subject: str = "tiny",
        cell: str | None = None,
        status: Status = Status.OK,
        verdict: Verdict = Verdict.PASS,
        effect: Effect | None = None,
        effects: dict[str, Effect] | None = None,
        partition: PartitionRecord | None = PARTITION,
        supervised: tuple[str, ...] = (),
        protocol: str = "protocol",
        started: str = "2026-01-01T00:00:00+00:00",
        **config: Any,
    ) -> Record:
        measured = effects if effects is not None else {"target_logit": effect or _effect()}
        tested = status is Status.OK
        closure = ClosureReport(
            units=("L0H1", "L1H0", "L1H2"),
            n_examples=20,
            n_controls=99,
            shortfall={},
            effects=measured,
            site_ablation={name: 2 * measure.delta for name, measure in measured.items()},
            verdict=verdict,
            reason="because",
            anatomy=dict.fromkeys(measured, ANATOMY),
            selection_p=0.02,
        )
        return Record(
            status=status,
            reason="" if tested else "no reason",
            cell=CellInfo(
                id=cell or digest(method, subject)[:12],
                row=method,
                protocol=protocol,
                title=f"{subject} {method}",
                method=method,
                subject=subject,
                batch="synthetic_induction",
                target="successor",
                intervention="zero",
                supervised=supervised,
            ),
            config={
                "subject": {"name": subject},
                "partitioner": {"name": "spectral"},
                "split": "half",
                **config,
            },
            provenance={"batch": {"n": 50}, "started": started},
            units=UNITS.labels,
            sites=UNITS.runs,
            classes=("induction", None, "unclassified", None, "self"),
            partitions=(OTHER, replace(partition, chosen=True)) if partition else (),
            candidates=(CandidateRecord(("L0H1", "L1H0", "L1H2"), 3, ("L0.attn", "L1.attn"), 0.5, 2.0, 0.25),),
            closure=(closure,) if tested else (),
            diagnostics={"affinity": {"constant": ["L0H0"]}},
            seconds={"subject": 0.5, "closure": 1.5},
        )

    return make
