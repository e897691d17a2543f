"""Claims of the papers: published numbers, exact p-values, and what hand-made records say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from harness.board.claims import agreement, dense, distribution, first_token, picks, rankings, routes
from harness.board.claims.claim import Answer
from harness.board.claims.published import FIRST_TOKEN, GAP, NULL, TESTS, p_of, p_of_published
from harness.board.claims.table import as_data, as_text, judged
from harness.board.paper_tests import PAPER_TESTS
from harness.closure.statistics import Effect, z_score
from harness.closure.verdict import Verdict
from harness.data.grouping import Agreement
from harness.data.units import UnitSpace
from harness.proposal.strata_null import StrataNull
from harness.records.record import PartitionRecord, Record, StratumRecord
from harness.records.workspace import Workspace

Make = Callable[..., Record]
UNITS = UnitSpace.heads([4, 4, 4])


def cell(record: Record, id_: str, **config: Mapping[str, object]) -> Record:
    """The record of another cell: other choices in its configuration."""
    usual = {"batch": {"name": "synthetic_induction"}, "labels": {"name": "survey"}}
    return replace(record, cell=replace(record.cell, id=id_), config={**record.config, **usual, **config})


# ----------------------------------------------------------------------------------------------------------------------
# Published numbers
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 6))
def test_published_changes_have_the_published_z(number: int) -> None:
    """z (ddof 0) of every metric follows from the changes: they are rounded to four digits."""
    test, published = TESTS[number - 1], PAPER_TESTS[number - 1]
    for (own, controls), expected in zip((test.loss, test.accuracy, test.target_logit), published.z, strict=True):
        z = z_score(own, controls, ddof=0)
        assert z == pytest.approx(expected, rel=2e-3, abs=0.02)


def test_the_published_gap_has_its_mean_and_deviation() -> None:
    assert np.mean(GAP[1]) == pytest.approx(-0.5525, abs=2e-4)
    assert np.std(GAP[1]) == pytest.approx(0.2823, abs=2e-4)
    assert GAP[0] == pytest.approx(-1.5182 - 0.2352, abs=2e-4)
    z = (NULL[0] - np.mean(NULL[1])) / np.std(NULL[1])
    assert z == pytest.approx(3.0525, abs=0.01)  # agreements are rounded to four digits


def test_five_controls_cannot_decide_and_loss_points_the_other_way() -> None:
    for test in TESTS[:4]:
        assert p_of_published(test) == "0.17 / 0.17 / 0.17"  # 1 / 6
    assert p_of_published(TESTS[4]) == "1.00 / 0.50 / 0.17"  # loss falls; two controls lower accuracy by more
    assert p_of(GAP, damage=-1) == pytest.approx(1 / 6)
    assert p_of(NULL) == pytest.approx(1 / 11)


def test_p_of_no_head_is_hypergeometric() -> None:
    for layers, width, total, early in FIRST_TOKEN.values():
        expected = hypergeom(layers * width, 2 * width, total).pmf(0)
        assert first_token.p_of_none(layers * width, 2 * width, total) == pytest.approx(expected, rel=1e-6)
        assert early == 0


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=8))
def test_p_of_pairs_counts_all_exchanges(pairs: list[tuple[int, int]]) -> None:
    differences = np.array([first - second for first, second in pairs])
    flipped = [np.dot(signs, differences) for signs in product((1, -1), repeat=len(pairs))]
    expected = np.mean(np.array(flipped) >= differences.sum())
    assert agreement.p_higher(np.array(pairs, dtype=float)) == pytest.approx(expected)


def test_the_least_p_of_three_models_is_an_eighth() -> None:
    assert agreement.p_higher(np.array([[0.44, 0.14], [0.39, 0.13], [0.09, 0.08]])) == pytest.approx(1 / 8)


# ----------------------------------------------------------------------------------------------------------------------
# Rules
# ----------------------------------------------------------------------------------------------------------------------


def dense_cells(make: Make, verdicts: Sequence[Verdict], subject: str = "tiny") -> list[Record]:
    chosen = {"affinity": {"name": "ising"}, "partitioner": {"name": "spectral"}, "stratifier": {"name": "none"}}
    return [
        cell(make(subject=subject, verdict=verdict), f"{subject}{i}", chooser={"name": "labels"}, **chosen)
        for i, verdict in enumerate(verdicts)
    ]


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        ((Verdict.PASS, Verdict.PASS, Verdict.NULL), (Verdict.PASS,), Answer.SUPPORTED),
        ((Verdict.PASS, Verdict.NULL), (Verdict.PASS,), Answer.NOT_SUPPORTED),
        ((Verdict.PASS,), (Verdict.WEAK_PASS,), Answer.NOT_SUPPORTED),
    ],
)
def test_dense_groups_pass_on_every_task(
    make_record: Make, first: tuple[Verdict, ...], second: tuple[Verdict, ...], answer: Answer
) -> None:
    records = [*dense_cells(make_record, first), *dense_cells(make_record, second, "other")]
    found = dense.judge(records)
    assert found is not None
    assert found.answer is answer
    assert set(found.cells) == {record.cell.id for record in records}
    assert dense.judge([cell(records[0], "x", affinity={"name": "pearson"})]) is None


def with_ari(record: Record, ari: float) -> Record:
    partition = PartitionRecord("k = 4", 4, 4, (0, 1), agreement=Agreement(ari, 0.5, 0.5, 2), chosen=True)
    return replace(record, partitions=(partition,))


def test_agreement_compares_cells_that_differ_in_the_affinity_only(make_record: Make) -> None:
    """Five pairs, all higher: p = 1/32. A cell without its pair does not count."""
    record = make_record()
    pairs = [
        with_ari(cell(record, f"{name}{i}", affinity={"name": name}, batch={"seed": i}), ari + i / 100)
        for i in range(5)
        for name, ari in (("ising", 0.1), ("mutual_information", 0.3))
    ]
    alone = with_ari(cell(record, "alone", affinity={"name": "ising"}, batch={"seed": 9}), 0.9)
    found = agreement.judge([*pairs, alone])
    assert found is not None
    assert found.answer is Answer.SUPPORTED
    assert "mean ARI 0.32 by mutual information, 0.12 by Ising; higher in 5 of 5" in found.evidence
    assert "p 0.031" in found.evidence
    assert "alone" not in found.cells
    assert agreement.judge(pairs[:4]).answer is Answer.NOT_SUPPORTED  # type: ignore[union-attr]  # two pairs: p = 1/4
    assert agreement.judge([alone]) is None


def partitioned(record: Record, id_: str, batch: str, labels: Sequence[int]) -> Record:
    partition = PartitionRecord("k = 2", 2, 2, tuple(labels), chosen=True)
    changed = replace(record, units=UNITS.labels, sites=UNITS.runs, partitions=(partition,), strata=())
    return cell(changed, id_, batch={"name": batch, "seed": id_})


def test_communities_depend_on_the_distribution_if_batches_separate_them(make_record: Make) -> None:
    """Four cells of each of two batches, equal within, crossed between: 1 of 35 divisions is as good."""
    halves, crossed = (0,) * 6 + (1,) * 6, (0, 1) * 6
    record = make_record()
    records = [
        partitioned(record, f"{batch}{i}", batch, labels)
        for batch, labels in (("synthetic", halves), ("natural", crossed))
        for i in range(4)
    ]
    found = distribution.judge(records)
    assert found is not None
    assert found.answer is Answer.SUPPORTED
    assert "ARI of the partitions of two cells: 1.00 within" in found.evidence
    assert f"p {1 / 35:.3f}" in found.evidence
    same = [partitioned(record, each.cell.id, str(each.config["batch"]["name"]), halves) for each in records]
    assert distribution.judge(same).answer is Answer.NOT_SUPPORTED  # type: ignore[union-attr]  # alike: p = 1
    assert distribution.judge(records[:5]) is None


@given(st.integers(2, 5), st.integers(0, 2**16))
def test_within_and_between_are_means_over_pairs(half: int, seed: int) -> None:
    draws = np.random.default_rng(seed).random((2 * half, 2 * half))
    matrix = draws + draws.T
    pairs = list(combinations(range(2 * half), 2))
    inside = [matrix[i, j] for i, j in pairs if (i < half) == (j < half)]
    across = [matrix[i, j] for i, j in pairs if (i < half) != (j < half)]
    found = distribution.within_and_between(matrix, range(half))
    assert found == pytest.approx((np.mean(inside), np.mean(across)))


@pytest.mark.parametrize(
    ("ps", "verdict", "answer"),
    [
        ((0.02,), Verdict.NULL, Answer.SUPPORTED),
        ((0.02,), Verdict.PASS, Answer.NOT_SUPPORTED),
        ((0.3,), Verdict.NULL, Answer.NOT_SUPPORTED),
        ((0.03, 0.5), Verdict.NULL, Answer.NOT_SUPPORTED),  # the best of two: .06
    ],
)
def test_routes_need_agreement_without_closure(
    make_record: Make, ps: tuple[float, ...], verdict: Verdict, answer: Answer
) -> None:
    strata = (StratumRecord("0", 40, 40, {}, 1.0),)
    records = [
        replace(
            cell(make_record(verdict=verdict), f"c{i}", stratifier={"name": "routes"}, subject={"name": "tiny_moe"}),
            strata=strata,
            strata_null=StrataNull(agreement=0.2, null=(0.1,) * 99, runs=99, z=None, p=p),
        )
        for i, p in enumerate(ps)
    ]
    found = routes.judge(records)
    assert found is not None
    assert found.answer is answer
    planted = [cell(record, record.cell.id, subject={"name": "planted_routes"}) for record in records]
    assert routes.judge(planted) is None


def test_first_token_heads_of_the_first_two_layers_are_counted(make_record: Make) -> None:
    """12 heads in three layers. All four of the last layer: by chance with p = 1 / 495."""
    classes = (None,) * 8 + ("first-token",) * 4
    record = replace(cell(make_record(), "a"), units=UNITS.labels, sites=UNITS.runs, classes=classes)
    found = first_token.judge([record])
    assert found is not None
    assert found.answer is Answer.SUPPORTED
    assert "0 of 4 are in layers 0 and 1 (p 0.002 for none)" in found.evidence
    one_early = replace(record, classes=("first-token", *classes[1:]))
    assert first_token.judge([one_early]).answer is Answer.NOT_SUPPORTED  # type: ignore[union-attr]
    one_late = replace(record, classes=(None,) * 11 + ("first-token",))
    assert first_token.judge([one_late]).answer is Answer.NOT_SUPPORTED  # type: ignore[union-attr]  # p = 1/3
    assert first_token.judge([replace(record, classes=(None,) * 12)]) is None


def test_without_records_every_claim_names_the_sweep_that_decides(tmp_path: Path) -> None:
    found = judged([], Workspace(tmp_path))
    text = as_text(found)
    for each in found:
        assert each.finding.answer is Answer.NOT_TESTABLE
        assert f"harness {each.claim.command} experiment={each.claim.experiment}" in each.finding.evidence
        assert each.claim.text in text
    assert len(as_data(found)) == len(found)


# ----------------------------------------------------------------------------------------------------------------------
# Training time, rankings, picks
# ----------------------------------------------------------------------------------------------------------------------


def picked(record: Record, model: int, summary: str, classes: Sequence[str | None]) -> Record:
    """A cell that picked the first three of twelve heads, which have these classes."""
    candidate = replace(record.candidates[0], units=UNITS.labels[:3])
    changed = replace(record, units=UNITS.labels, sites=UNITS.runs, candidates=(candidate,), classes=tuple(classes))
    signal = {"name": "pr_trajectory", "summary": summary, "axis": "step"}
    other = cell(changed, f"{summary}{model}", signal=signal)
    return replace(other, cell=replace(other.cell, subject=f"model {model}"))


def test_precision_of_picks_is_the_share_with_a_class(make_record: Make) -> None:
    """Five models: 2 of 3 picks by integral have a class, 1 of 3 by spread: p = 1/32."""
    of_class = {"integral": ("key", "key", None), "spread": ("key", "unclassified", None)}
    records = [
        picked(make_record(), model, summary, [*first, *[None] * 9])
        for model in range(5)
        for summary, first in of_class.items()
    ]
    found = rankings.judge(records)
    assert found is not None
    assert found.answer is Answer.SUPPORTED
    assert "mean precision 0.67 by integral, 0.33 by spread; higher in 5, lower in 0 of 5 models (p 0.031)" in (
        found.evidence
    )
    assert rankings.judge(records[:8]).answer is Answer.NOT_SUPPORTED  # type: ignore[union-attr]  # four: p = 1/16
    assert rankings.judge(records[::2]) is None


def retrieving(make: Make, model: str, group: Sequence[str], effects: dict[str, Effect], own: bool = False) -> Record:
    """A cell of ``harness matrix``: it proposed this group, or ablated it."""
    record = make(effects=effects)
    closure = replace(record.closure[0], units=tuple(group))
    candidate = replace(record.candidates[0], units=tuple(group))
    changed = cell(
        replace(record, closure=(closure,), candidates=(candidate,), provenance={"subject": {"weights": model}}),
        f"{model}{'own' if own else ''.join(group)}",
        subject={"name": "tiny_retrieval"},
        batch={"name": "key_retrieval"},
    )
    return replace(changed, config={**changed.config, "group": [] if own else list(group)})


def test_own_picks_destroy_and_other_picks_do_not(make_record: Make, make_effect: Callable[..., Effect]) -> None:
    def effects(accuracy: float) -> dict[str, Effect]:
        certain = accuracy < 0.5
        return {
            "log_odds": replace(make_effect(delta=-3.0), damage=-1, harmed=certain),
            "accuracy": replace(make_effect(delta=accuracy - 1), baseline=1.0, ablated=accuracy, damage=-1),
        }

    first, second = ("L0H0", "L0H1"), ("L0H1", "L0H2")

    def records(others: float) -> list[Record]:
        return [
            retrieving(make_record, "a", first, effects(0.1), own=True),
            retrieving(make_record, "b", second, effects(0.1), own=True),
            retrieving(make_record, "a", first, effects(0.1)),
            retrieving(make_record, "b", second, effects(0.2)),
            retrieving(make_record, "a", second, effects(others)),
            retrieving(make_record, "b", first, effects(others)),
            retrieving(make_record, "a", ("L0H0", "L0H1", "L0H2"), effects(0.0)),  # a whole site is nobody's picks
        ]

    found = picks.judge(records(0.9))
    assert found is not None
    assert found.answer is Answer.SUPPORTED
    assert "own picks destroy retrieval on 2 of 2 models; other seeds' picks in 0 of 2 pairs" in found.evidence
    assert "share 1 to 1 heads" in found.evidence
    more = retrieving(make_record, "a", ("L0H0",), effects(0.9), own=True)  # proposed by another method, not ablated
    assert picks.judge([more, *records(0.9)]) == found
    assert picks.judge(records(0.3)).answer is Answer.NOT_SUPPORTED  # type: ignore[union-attr]
    assert picks.judge(records(0.9)[:4]) is None
