"""The contract suite finds affinities that violate it, and plugins that violate the checks of every stage."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
import torch
from annotated_types import Ge

from harness.data.grouping import Affinity
from harness.data.recording import Spins
from harness.testing.contracts import Finding

ANSWERS = "answers ordinary input"
TWICE = "gives the same result twice"
UNCHANGED = "does not change its input"
GLOBAL = "does not use global random state"

# ----------------------------------------------------------------------------------------------------------------------
# One that keeps every contract: what the offenders below differ from
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fine:
    """The mean absolute product of spins."""

    name: ClassVar[str] = "fine"
    scale: float = field(default=1.0, metadata={"help": "of everything"})

    def __call__(self, spins: Spins) -> Affinity:
        values = spins.values.astype(np.float64)
        matrix = np.abs(values.T @ values) / len(values) * self.scale
        np.fill_diagonal(matrix, 0.0)
        return Affinity(matrix, spins.units)


def test_a_correct_affinity_passes_every_check(findings: Callable[[str, type], list[Finding]]) -> None:
    found = findings("affinity", Fine)
    assert {finding.outcome for finding in found} == {"passed"}
    assert len(found) == 12


# ----------------------------------------------------------------------------------------------------------------------
# Affinities
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picky(Fine):
    """Takes observations but accepts only spins."""

    def __call__(self, observations: Any) -> Affinity:
        assert np.isin(observations.values, (-1, 1)).all()
        return super().__call__(observations)


BOTH = "accepts activity as observations"


@dataclass(frozen=True)
class Honest(Picky):
    """Declares its limit."""

    known_limits: ClassVar[dict[str, str]] = {BOTH: "spins only"}


@dataclass(frozen=True)
class Modest(Fine):
    """Declares limits it does not have."""

    known_limits: ClassVar[dict[str, str]] = {BOTH: "spins only", "flies": "no wings"}


def test_an_affinity_that_takes_observations_must_accept_activity(
    assert_fails: Callable[[str, type, str, str], None],
) -> None:
    assert_fails("affinity", Picky, BOTH, "AssertionError")


@pytest.mark.unchecked
def test_a_declared_limit_is_not_a_failure_if_the_method_has_it(
    findings: Callable[[str, type], list[Finding]],
) -> None:
    (limit,) = [finding for finding in findings("affinity", Honest) if finding.outcome != "passed"]
    assert (limit.check, limit.outcome, limit.reason) == (BOTH, "known limit", "spins only")
    failed = {f.check: f.reason for f in findings("affinity", Modest) if f.outcome == "failed"}
    assert set(failed) == {BOTH, "flies"}
    assert "remove the declaration" in failed[BOTH]


class Offender(Fine):
    """The base of offenders: spoils a correct affinity."""

    def __call__(self, spins: Spins) -> Any:
        return self.spoil(super().__call__(spins), spins)

    def spoil(self, right: Affinity, spins: Spins) -> Any:
        raise NotImplementedError


class Asymmetric(Offender):
    """Returns an asymmetric matrix."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        return Affinity(np.triu(right.matrix), spins.units)


class SecretlyAsymmetric(Offender):
    """Makes the matrix asymmetric after its validation."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        right.matrix[0, 1] += 1.0
        return right


class NotANumber(Offender):
    """Returns NaN."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        return Affinity(np.full_like(right.matrix, np.nan), spins.units)


class SelfLoving(Offender):
    """Fills the diagonal after the validation of the matrix."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        np.fill_diagonal(right.matrix, 1.0)
        return right


class Bare(Offender):
    """Returns a matrix instead of an Affinity."""

    def spoil(self, right: Affinity, spins: Spins) -> np.ndarray:
        return right.matrix


class Raising(Offender):
    """Raises an error."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        raise ZeroDivisionError("no")


class Ordered(Offender):
    """Depends on the order of units."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        matrix = right.matrix.copy()
        matrix[0, 1:] += 1e-6
        matrix[1:, 0] += 1e-6
        return Affinity(matrix, spins.units)


class Mutating(Offender):
    """Changes its input."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        spins.values[:, 0] *= -1
        return right


class Noting(Offender):
    """Adds a diagnostic to its input."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        spins.diagnostics["seen"] = True  # type: ignore[index]
        return right


class Unseeded(Offender):
    """Uses an unseeded generator."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        return Affinity(right.matrix * (1 + np.random.default_rng().random()), spins.units)


class GloballyRandom(Offender):
    """Uses the global random state."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        return Affinity(right.matrix * (1 + np.random.random()), spins.units)


class Reseeding(Offender):
    """Reseeds the global random state."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        np.random.seed(0)
        return right


class TorchSeeding(Offender):
    """Reseeds the global random state of torch."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        torch.manual_seed(0)
        return right


class Correlation(Offender):
    """Returns NaN for constant units."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = np.corrcoef(spins.values.T)
        np.fill_diagonal(matrix, 0.0)
        return Affinity((matrix + matrix.T) / 2, spins.units)


class Crowd(Offender):
    """Fails on two units."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        right.matrix[2, 2] = 0.0
        return right


AFFINITIES = {
    Asymmetric: (ANSWERS, "not symmetric"),
    SecretlyAsymmetric: (ANSWERS, "not symmetric"),
    NotANumber: (ANSWERS, "NaN"),
    SelfLoving: (ANSWERS, "diagonal is not zero"),
    Bare: (ANSWERS, "returns ndarray, not Affinity"),
    Raising: (ANSWERS, "ZeroDivisionError: no"),
    Ordered: ("does not depend on the order of units", "when units are permuted"),
    Mutating: (UNCHANGED, "changed its input"),
    Noting: (UNCHANGED, "changed its input"),
    Unseeded: (TWICE, "two calls with the same input differ"),
    GloballyRandom: (GLOBAL, "changed a global random state"),
    Reseeding: (GLOBAL, "changed a global random state"),
    TorchSeeding: (GLOBAL, "changed a global random state"),
    Correlation: ("answers on units that never change", "NaN"),
    Crowd: ("answers on two units", "IndexError"),
}

# ----------------------------------------------------------------------------------------------------------------------
# What holds for every stage
# ----------------------------------------------------------------------------------------------------------------------


@dataclass
class Soft:
    """Is not frozen."""

    name: ClassVar[str] = "soft"
    scale: float = field(default=1.0, metadata={"help": "of everything"})
    __call__ = Fine.__call__


class Mumbling(Fine):
    """end it with a full stop"""


class Confused(Fine):
    """Has a default of the wrong type."""

    times: int = field(default="3", metadata={"help": "how often"})  # type: ignore[assignment]


class Contradicted(Fine):
    """Has a default that violates its annotation."""

    times: Annotated[int, Ge(1)] = field(default=0, metadata={"help": "how often"})


class Stuck(Fine):
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class Forgetful(Fine):
    """Changes when it is pickled."""

    def __reduce__(self) -> Any:
        return type(self), (7.0,)


EVERY_STAGE = {
    Soft: ("is frozen", "can be changed"),
    Mumbling: ("describes itself", "end it with a full stop"),
    Confused: ("builds from its parameters", "a configuration with its defaults gives"),
    Contradicted: ("builds from its parameters", "the default times=0 contradicts its annotation: must be at least 1"),
    Stuck: ("can be pickled", "cannot be pickled"),
    Forgetful: ("can be pickled", "not the same after pickling"),
}

OFFENDERS = {"affinity": AFFINITIES | EVERY_STAGE}
for frozen in (cls for classes in OFFENDERS.values() for cls in classes if cls is not Soft):
    dataclass(frozen=True)(frozen)


def test_an_offender_fails_the_expected_check(
    stage: str, cls: type, check: str, reason: str, assert_fails: Callable[[str, type, str, str], None]
) -> None:
    assert_fails(stage, cls, check, reason)


def test_checks_stop_after_a_method_that_raises(findings: Callable[[str, type], list[Finding]]) -> None:
    found = findings("affinity", Raising)[-1]
    assert (found.check, found.outcome, found.reason) == (ANSWERS, "failed", "ZeroDivisionError: no")


@pytest.mark.unchecked  # runtime checks of types roll Python's dice
def test_checking_restores_the_global_random_state(findings: Callable[[str, type], list[Finding]]) -> None:
    np.random.seed(3)
    random.seed(3)
    torch.manual_seed(3)
    expected = np.random.random(), random.random(), float(torch.rand(1))
    np.random.seed(3)
    random.seed(3)
    torch.manual_seed(3)
    findings("affinity", Fine)
    assert (np.random.random(), random.random(), float(torch.rand(1))) == expected
