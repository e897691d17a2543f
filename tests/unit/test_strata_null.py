"""The random-partition null: agreement within strata, among that of random strata of the same sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from scipy.stats import kstest
from sklearn.metrics import adjusted_rand_score

from harness import Activity, Affinity, HarnessError, Labels, Partition, Recording, UnitSpace, method
from harness.board.strata import null_line
from harness.cells.inputs import cache_of
from harness.cells.progress import Progress
from harness.data.contracts import no_tick
from harness.notebook.choices import cell_of
from harness.pipeline import run_cell
from harness.proposal.proposal import Proposal
from harness.proposal.strata_null import LOWEST, StrataNull, best_agreement, strata_null
from harness.testing import examples
from harness.util.cache import Memo

pytestmark = pytest.mark.unchecked

UNITS = UnitSpace.heads([30])
CLASSES = np.repeat(np.arange(3), 10)
LABELS = Labels(tuple(f"class {c}" for c in CLASSES), UNITS)
N, SIZES = 60, [25, 20]  # 15 examples are in no stratum
RUNS = 9


class Readings:
    """A signal: what was recorded."""

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


class ByEigenvector:
    """Two groups by the sign of the leading eigenvector: the cheapest of spectral partitions."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        vector = np.linalg.eigh(affinity.matrix)[1][:, -1]
        return [Partition(2, (vector > 0).astype(int))]


@dataclass(frozen=True)
class Correlation:
    """An affinity that computes as little as possible."""

    def __call__(self, observations: Activity) -> Affinity:
        matrix = np.corrcoef(observations.values.T)
        np.fill_diagonal(matrix, 0)
        return Affinity((matrix + matrix.T) / 2, UNITS)


class Same:
    """No binarizer."""

    def __call__(self, activity: Activity) -> Activity:
        return activity


CHEAP = {"signal": Readings(), "transform": (), "binarizer": Same(), "affinity": Correlation()}


def proposer(values: np.ndarray, stages: dict[str, Any]) -> Callable[[np.ndarray], Proposal]:
    recording = Recording(examples.batch(len(values)), UNITS, {"signal": values})
    return lambda rows: Proposal(stages, UNITS, {"recording": recording.take(rows)}, labels=LABELS)


def p_of_world(seed: int, stages: dict[str, Any]) -> StrataNull:
    """A world whose classes act together, in all strata alike."""
    rng = np.random.default_rng(seed)
    stratum = np.repeat([0, 1, 2], [*SIZES, N - sum(SIZES)])
    common = 0.6 * rng.standard_normal((N, 3))[:, CLASSES]
    propose = proposer(common + rng.standard_normal((N, len(UNITS))), stages)
    observed = best_agreement(propose(np.flatnonzero(stratum == s)) for s in (0, 1))
    return strata_null(observed, propose, SIZES, N, RUNS, None, 1, seed, no_tick)


def uniform(found: Sequence[StrataNull]) -> float:
    """KS against the uniform law. p has steps of 1 / (1 + RUNS); a uniform part of a step makes it continuous."""
    part = np.random.default_rng(0).random(len(found))
    return float(kstest(np.array([null.p for null in found]) - part / (1 + RUNS), "uniform").pvalue)


def test_p_is_uniform_where_strata_have_nothing_to_do_with_what_units_do() -> None:
    """In small: 40 worlds of 10 x 2 fits. p-values of half their size are refused."""
    stages = {**CHEAP, "partitioner": ByEigenvector()}
    assert uniform([p_of_world(seed, stages) for seed in range(40)]) > 0.01


@pytest.mark.slow
def test_p_is_uniform_over_many_worlds() -> None:
    """300 worlds: a share of p <= .1 of .16 is refused."""
    stages = {**CHEAP, "partitioner": ByEigenvector()}
    found = [p_of_world(seed, stages) for seed in range(300)]
    assert uniform(found) > 0.01
    assert np.mean([null.p <= 0.1 for null in found]) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)


@pytest.mark.slow
def test_p_is_uniform_with_the_methods_of_the_paper() -> None:
    """80 worlds of 20 Ising fits and spectral partitions."""
    stages = {
        **CHEAP,
        "binarizer": method("binarizer", "median"),
        "affinity": method("affinity", "ising"),
        "partitioner": method("partitioner", "spectral", k=(3, 4)),
    }
    assert uniform([p_of_world(seed, stages) for seed in range(80)]) > 0.01


def test_routes_that_hide_the_structure_are_found() -> None:
    """Units act together by class in one stratum, and in other groups in the other: mixtures show neither."""

    class Linked:
        """The connected components of correlations above .7."""

        def __call__(self, affinity: Affinity) -> list[Partition]:
            return [Partition(3, connected_components(affinity.matrix > 0.7)[1].astype(int))]

    rng = np.random.default_rng(0)
    stratum = np.repeat([0, 1], 100)
    groups = np.stack([CLASSES, np.arange(30) % 3])[stratum]  # [examples, units]
    common = np.take_along_axis(rng.standard_normal((200, 3)), groups, axis=1)
    propose = proposer(3 * common + rng.standard_normal(groups.shape), {**CHEAP, "partitioner": Linked()})
    observed = best_agreement(propose(np.flatnonzero(stratum == s)) for s in (0, 1))
    null = strata_null(observed, propose, [100, 100], 200, 19, 10, 1, 0, no_tick)
    assert (null.agreement, null.p) == (1.0, 1 / 20)
    assert max(null.null) < 0.4  # the nine groups of units that share both


def test_the_statistic_is_the_largest_index_over_strata_and_partitions() -> None:
    rng = np.random.default_rng(0)
    propose = proposer(rng.standard_normal((N, len(UNITS))), {**CHEAP, "partitioner": ByEigenvector()})
    parts = [propose(np.arange(25)), propose(np.arange(25, 45))]
    expected = max(adjusted_rand_score(CLASSES, part.raw_partitions[0].labels) for part in parts)
    assert best_agreement(parts) == pytest.approx(expected)


def test_a_stratum_on_which_a_method_fails_has_no_agreement() -> None:
    class Refuses:
        def __call__(self, affinity: Affinity) -> list[Partition]:
            raise HarnessError("no.", "no.")

    assert (
        best_agreement(
            [proposer(np.random.default_rng(0).random((N, 30)), {**CHEAP, "partitioner": Refuses()})(np.arange(9))]
        )
        == LOWEST
    )


def test_z_and_p_of_the_published_kind() -> None:
    null = StrataNull.of(0.3, [0.1, 0.2, 0.3], runs=3)
    assert (null.z, null.p) == (pytest.approx((0.3 - 0.2) / 0.1), 2 / 4)
    assert StrataNull.of(0.3, [0.2, 0.2], runs=2).z is None


def test_random_strata_have_the_sizes_and_no_common_example() -> None:
    seen: list[np.ndarray] = []
    propose = proposer(np.random.default_rng(0).standard_normal((N, 30)), {**CHEAP, "partitioner": ByEigenvector()})

    def watched(rows: np.ndarray) -> Proposal:
        seen.append(rows)
        return propose(rows)

    null = strata_null(-0.5, watched, SIZES, N, 9, futility=2, ddof=1, seed=0, tick=no_tick)
    assert [len(rows) for rows in seen] == SIZES * 2  # an agreement below all others: stopped after two
    assert (len(null.null), null.runs, null.p) == (2, 9, 1.0)
    assert not set(seen[0]) & set(seen[1])
    assert set(seen[0]) != set(seen[2])
    assert "stopped early of 9" in null_line(null)


# ----------------------------------------------------------------------------------------------------------------------
# In a cell
# ----------------------------------------------------------------------------------------------------------------------

WORDS = ("subject=planted", "batch=planted", "batch.n=128", "reruns=0", "tracking=none", "partitioner.k=[24]")
STRATA = ("stratifier=groups", "stratifier.by=stratum", "stratifier.smallest=10")


def run(folder: Path, *words: str) -> Any:
    cell = cell_of((*WORDS, f"workspace={folder}", *words), {})
    return run_cell(cell, Memo(disk=cache_of(cell)), Progress(quiet=True), test=False)


def test_a_cell_compares_the_agreement_of_its_own_partitions(tmp_path: Path) -> None:
    result = run(tmp_path, *STRATA, "labels=truth", "affinity=pearson", "strata_null=3")
    null = result.record.strata_null
    assert null.agreement == max(partition.agreement.ari for partition in result.record.partitions)
    assert len(null.null) == null.runs == 3
    assert result.record.seconds["strata null"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*STRATA, "strata_null=9", "labels=none"), "strata_null: the labels do not divide the units"),
        ((*STRATA, "strata_null=9", "group=[L0H0,L1H1]"), "strata_null: a group named by hand is not proposed"),
        (("strata_null=-1",), "strata_null"),
    ],
)
def test_a_null_that_cannot_be_made_is_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        run(tmp_path, *words)


def test_the_null_changes_neither_the_row_nor_the_protocol(tmp_path: Path) -> None:
    with_null, without = (cell_of((*WORDS, *STRATA, *words), {}) for words in (("strata_null=9",), ()))
    assert (with_null.row, with_null.protocol) == (without.row, without.protocol)
    assert with_null.id != without.id
