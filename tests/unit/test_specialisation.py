"""Specialisation of experts and co-routing: sums, closed forms, and a test that is uniform where nothing depends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import Activity, HarnessError, Recording, Spins, Unit, UnitSpace, Vectors, method
from harness.data.specialisation import Specialisation

SITE_OF = np.repeat([0, 1], 4)
UNITS = UnitSpace(tuple(Unit(f"L{i // 4}E{i % 4}", f"L{i // 4}.experts", i // 4, "expert") for i in range(8)))


def routes(preferred: np.ndarray, rng: np.random.Generator, k: int = 2, strength: float = 0.0) -> np.ndarray:
    """Top-k routing of examples in two layers of four experts; ``preferred`` [examples]: an expert of each layer."""
    noise = rng.standard_normal((len(preferred), 2, 4))
    noise[np.arange(len(preferred)), :, preferred] += strength
    chosen = noise.argsort(-1).argsort(-1) >= 4 - k
    return chosen.reshape(len(preferred), 8)


def test_shares_sum_to_k_in_every_domain_and_the_uniform_line_is_k_over_e() -> None:
    rng = np.random.default_rng(0)
    found = Specialisation.of(routes(rng.integers(0, 4, 60), rng), np.repeat(["a", "b"], [20, 40]), SITE_OF)
    np.testing.assert_allclose(found.shares.reshape(2, 2, 4).sum(-1), 2.0)
    np.testing.assert_allclose(found.uniform, 0.5)
    np.testing.assert_allclose(found.shares.T @ [20 / 60, 40 / 60], found.usage)


def test_an_expert_of_one_domain_has_its_share_there_and_a_small_p() -> None:
    rng = np.random.default_rng(0)
    domain = np.repeat([0, 1], 50)
    routed = routes(domain, rng, strength=20.0)  # expert 0 on domain a, expert 1 on b, the second expert at random
    found = Specialisation.of(routed, np.array(["a", "b"])[domain], SITE_OF)
    assert found.shares[0, [0, 4]].tolist() == [1.0, 1.0]
    assert found.domain_of[0] == "a"
    assert found.domain_of[1] == "b"
    assert found.p[0] == found.p[1] == 0.001
    np.testing.assert_allclose(found.largest, found.shares.max(0))


def test_p_is_uniform_where_routing_depends_on_the_document_and_not_on_the_domain() -> None:
    """Examples of a document share their preference: permuted examples would call nearly every expert specialised."""
    by_document, by_example = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        document = np.repeat(np.arange(20), 6)
        routed = routes(rng.integers(0, 4, 20)[document], rng, strength=2.0)
        domain = np.where(document < 10, "a", "b")
        by_document.append(Specialisation.of(routed, domain, SITE_OF, document.astype(str)).p[0])
        by_example.append(Specialisation.of(routed, domain, SITE_OF).p[0])
    assert np.mean(np.array(by_document) <= 0.2) < 0.4  # expected .2; 99 % of binomial(30, .2) are below 12
    assert np.mean(np.array(by_example) <= 0.2) > np.mean(np.array(by_document) <= 0.2)


def test_concentration_and_overlap_of_known_routes() -> None:
    routed = np.zeros((4, 8), dtype=bool)
    routed[:2, [0, 1, 4, 5]] = True  # domain a: experts 0 and 1
    routed[2, [0, 2, 4, 5]] = routed[3, [0, 3, 4, 5]] = True  # domain b: expert 0, and 2 or 3
    found = Specialisation.of(routed, np.array(list("aabb")), SITE_OF)
    np.testing.assert_allclose(found.concentration(np.arange(4)), [1.0, 0.75])
    np.testing.assert_allclose(found.overlap(np.arange(4)), [[1.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(found.overlap(np.arange(4, 8)), 1.0)


# -- the plugins -------------------------------------------------------------------------------------------------------


def recording(routed: np.ndarray, **groups: Any) -> Recording:
    vectors = np.zeros((len(routed), 2), dtype=np.float32)
    batch = Vectors("some", vectors, vectors, "outputs", groups={name: np.array(of) for name, of in groups.items()})
    return Recording(batch, UNITS, {"signal": routed.astype(np.float32)})


def test_the_signal_has_shares_or_lifts_as_scores() -> None:
    routed = np.zeros((4, 8), dtype=bool)
    routed[[0, 1, 2], 0] = True
    given = recording(routed, domain=["a", "a", "b", "b"])
    scores = {
        words: method("signal", "expert_specialisation", **dict(words))(given).scores.values[0]
        for words in ((), (("domain", "b"),), (("score", "lift"),))
    }
    assert list(scores.values()) == [1.0, 0.5, pytest.approx(1 / 0.75)]
    lift = method("signal", "expert_specialisation", score="lift")(given).scores.values
    assert lift[1] == 0  # an expert that is never used


@pytest.mark.parametrize(
    ("chosen", "groups", "words"),
    [
        ({}, {}, "signal.by=domain: batch some does not have this property of its examples.\nIt has: none."),
        ({"domain": "c"}, {"domain": ["a", "b"]}, "signal.domain=c: no example of batch some is of this domain.\nIts"),
    ],
)
def test_what_the_batch_lacks_is_named(chosen: dict[str, Any], groups: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError) as error:
        method("signal", "expert_specialisation", **chosen)(recording(np.ones((2, 8), dtype=bool), **groups))
    assert str(error.value).replace("\n  ", "\n").startswith(words)


def test_co_routing_counts_examples_in_common() -> None:
    up = np.array([[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    units = UnitSpace.heads([4])
    spins = Spins(np.where(up, 1, -1).astype(np.int8), units)
    jaccard = method("affinity", "co_routing")(spins).matrix
    lift = method("affinity", "co_routing", measure="lift")(spins).matrix
    assert jaccard[0, 1] == pytest.approx(2 / 3)
    assert jaccard[0, 3] == pytest.approx(1 / 4)
    assert jaccard[1, 3] == 0
    assert lift[0, 1] == pytest.approx(4 * 2 / (3 * 2))
    assert not jaccard[2].any()
    independent = np.array(np.meshgrid([0, 1], [0, 1])).reshape(2, -1).T
    both = Spins(np.where(np.hstack([independent, independent]), 1, -1).astype(np.int8), units)
    assert method("affinity", "co_routing", measure="lift")(both).matrix[0, 1] == pytest.approx(1.0)


def test_activity_of_the_signal_is_routing() -> None:
    routed = np.eye(8, dtype=bool)
    activity = method("signal", "expert_specialisation")(recording(routed, domain=list("aabbccdd")))
    assert isinstance(activity, Activity)
    np.testing.assert_array_equal(activity.values, np.eye(8))
