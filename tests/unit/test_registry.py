"""The registry: methods by name, built with their parameters, and every refusal gives a fix."""

from __future__ import annotations

from typing import Any

import pytest

from harness.registry.config import registry
from harness.util.errors import HarnessError


@pytest.mark.parametrize(("stage", "name"), [("affinity", "isng"), ("affinities", "ising"), ("metric", "los")])
def test_an_unknown_method_is_refused_with_the_nearest_name(stage: str, name: str) -> None:
    with pytest.raises(HarnessError, match=r"Did you mean: (ising|loss|affinity)"):
        registry().get(stage, name)


@pytest.mark.parametrize(
    ("stage", "name", "parameters", "message"),
    [
        ("affinity", "ising", {"l2": "small"}, r"affinity\.l2='small'.*number"),
        ("affinity", "ising", {"max_iter": 1.5}, r"affinity\.max_iter=1\.5.*integer"),
        ("affinity", "ising", {"transform": "cube"}, r"affinity\.transform='cube'.*abs"),
        ("affinity", "ising", {"l2": None}, r"affinity\.l2=None"),
        ("partitioner", "spectral", {"k": [2, "x"]}, r"partitioner\.k\.1='x'"),
        ("partitioner", "spectral", {"k": 4}, r"partitioner\.k=4: must be a list"),
        ("affinity", "ising", {"l1": 0.5}, "parameter 'l1' is not known. Did you mean: l2?"),
        ("affinity", "ising", {"name": "ising"}, "parameter 'name' is not known"),
        ("metric", "loss", {"scale": 2}, "parameter 'scale' is not known"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_expected_type(
    stage: str, name: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(HarnessError, match=message) as caught:
        registry().get(stage, name).build(parameters)
    if "l2" in parameters:
        assert "The default is 0.001." in str(caught.value)


def test_all_wrong_parameters_are_named_at_once() -> None:
    with pytest.raises(HarnessError) as caught:
        registry().get("affinity", "ising").build({"l2": "a", "max_iter": "b"})
    assert str(caught.value).splitlines() == [
        "affinity.l2='a': must be a number. The default is 0.001.",
        "affinity.max_iter='b': must be an integer. The default is 500.",
    ]


def test_parameters_are_converted_to_their_types() -> None:
    spectral = registry().get("partitioner", "spectral").build({"k": [2, 3], "offset": 0})
    assert spectral.k == (2, 3)
    assert isinstance(spectral.offset, float)


def test_compute_parameters_do_not_change_the_identity() -> None:
    tiny = registry().get("subject", "tiny")
    assert "device" in tiny.neutral
    assert "checkpoint" not in tiny.neutral
