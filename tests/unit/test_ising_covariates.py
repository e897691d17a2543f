"""``affinity=ising affinity.covariates=strata``: couplings beyond those that units share by their route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_plugins.affinities._pseudolikelihood import regress_each
from sklearn.linear_model import LogisticRegression

from harness import HarnessError, Spins, UnitSpace, method
from harness.cells.cell import Cell
from harness.cells.inputs import cache_of
from harness.cells.progress import Progress
from harness.notebook.choices import cell_of
from harness.pipeline import run_cell
from harness.records.reader import read_record
from harness.registry.config import registry
from harness.util.cache import Memo
from harness.util.threads import one_thread

UNITS = UnitSpace.heads([6])
OLD = Path(__file__).parents[1] / "old"


def routed(n: int, coupled: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Spins that depend on the stratum alone: four of six units are mostly up in stratum 0 and mostly down in stratum
    1; stratum -1 is in between. With ``coupled``, unit 5 mostly copies unit 4.
    """
    rng = np.random.default_rng(0)
    strata = rng.integers(-1, 2, n)
    up = np.where(strata == 0, 0.85, np.where(strata == 1, 0.15, 0.5))[:, None] * np.ones(6)
    up[:, 4:] = 0.5
    spins = np.where(rng.random((n, 6)) < up, 1, -1).astype(np.int8)
    if coupled:
        spins[:, 5] = np.where(rng.random(n) < 0.8, spins[:, 4], -spins[:, 4])
    return spins, strata


@pytest.mark.parametrize("l2", [1e-3, 1.0, 30.0])
def test_the_regressions_are_those_of_scikit_learn_with_one_column_per_stratum(l2: float) -> None:
    """Another solver: Newton's method, which shares nothing with ours."""
    spins, strata = routed(200)
    one_hot = strata[:, None] == np.array([0, 1])
    found = regress_each(spins, l2, 20_000, tolerance=1e-10, covariates=one_hot)
    for unit in range(6):
        others = np.delete(np.arange(6), unit)
        fit = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-12, max_iter=1000)
        fit.fit(np.hstack([spins[:, others], one_hot]), spins[:, unit])
        np.testing.assert_allclose(found.coefficients[unit, others], fit.coef_[0, :5], atol=1e-6)
        assert found.intercepts[unit] == pytest.approx(fit.intercept_[0], abs=1e-6)
    couplings = (found.coefficients + found.coefficients.T) / 4
    ising = method("affinity", "ising", covariates="strata", l2=l2, transform="signed")
    np.testing.assert_allclose(ising(Spins(spins, UNITS), strata=strata).matrix, couplings, atol=2e-3)


def test_a_coupling_by_the_route_alone_vanishes_and_another_stays() -> None:
    """Units are independent within strata, so J is 0; unit 5 copies unit 4 with odds 4, so J is ln(4) / 2."""
    values, strata = routed(6000, coupled=True)
    spins = Spins(values, UNITS)
    marginal = method("affinity", "ising", transform="signed")(spins).matrix
    given = method("affinity", "ising", transform="signed", covariates="strata")(spins, strata=strata).matrix
    by_route = ~np.eye(4, dtype=bool)
    assert marginal[:4, :4][by_route].min() > 0.15
    assert np.abs(given[:4, :4][by_route]).max() < 0.06  # standard error about .016
    assert given[4, 5] == pytest.approx(np.log(4) / 2, abs=0.06)
    assert marginal[4, 5] == pytest.approx(np.log(4) / 2, abs=0.06)


WORDS = ("subject=planted", "batch=planted", "batch.n=128", "tracking=none", "reruns=1", "partitioner.k=[24]")
STRATA = ("stratifier=groups", "stratifier.by=stratum", "stratifier.smallest=10")
GIVEN = "affinity.covariates=strata"


def run(folder: Path, *words: str) -> Any:
    cell = cell_of((*WORDS, f"workspace={folder}", *words), {})
    return run_cell(cell, Memo(disk=cache_of(cell)), Progress(quiet=True), test=False)


def test_examples_are_not_divided_for_the_proposal(tmp_path: Path) -> None:
    result = run(tmp_path, *STRATA, GIVEN)
    (proposal,) = result.proposals
    assert len(proposal.batch) == 64
    assert proposal.stratum == ""
    assert [stratum.name for stratum in result.record.strata] == ["0", "1", "2", "3"]
    strata = np.array([int(value) for value in proposal.batch.groups["stratum"]])
    with one_thread():  # as a cell does: other numbers of threads round differently
        expected = method("affinity", "ising", covariates="strata")(proposal.spins, strata=strata)
    np.testing.assert_array_equal(proposal.affinity.matrix, expected.matrix)
    resampled = proposal.again(np.arange(len(proposal.units)), np.arange(0, 64, 2), 0)
    assert resampled.strata.tolist() == strata[::2].tolist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((GIVEN,), r"affinity ising\(covariates=strata\): this cell has no strata"),
        ((*STRATA, GIVEN, "scope=stratum"), "it takes the strata as covariates"),
        ((*STRATA, GIVEN, "strata_null=9", "labels=truth"), "it takes the strata as covariates"),
        ((*STRATA, GIVEN, "signal=participation_ratio"), "its observations are not examples"),
    ],
)
def test_covariates_that_there_are_none_of_are_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        run(tmp_path, *words)


# ----------------------------------------------------------------------------------------------------------------------
# Parameters that were added later
# ----------------------------------------------------------------------------------------------------------------------


def test_a_row_keeps_its_identity_where_an_added_parameter_stands_at_its_default() -> None:
    """The record is older than the parameter."""
    record = read_record(OLD / "record_6.json")
    assert "covariates" not in record.config["affinity"]
    old, new = (
        Cell.of({**record.config, "affinity": {**record.config["affinity"], **added}}, registry())
        for added in ({}, {"covariates": "none"})
    )
    assert old.row == new.row == record.cell.row
    assert old.protocol == new.protocol == record.cell.protocol
    assert old.id == new.id
    other = {**record.config["affinity"], "covariates": "strata"}
    assert Cell.of({**record.config, "affinity": other}, registry()).row != old.row


def test_a_batch_of_before_batch_bos_is_the_same_choice() -> None:
    record = read_record(OLD / "record_5.json")
    assert "bos" not in record.config["batch"]
    cells = [
        Cell.of({**record.config, "batch": {**record.config["batch"], **added}}, registry())
        for added in ({}, {"bos": None}, {"bos": True})
    ]
    assert cells[0].identity("batch") == cells[1].identity("batch") != cells[2].identity("batch")
