"""`harness curve`: against `evaluate` group by group, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.contracts import no_tick
from harness.registry.config import registry

Run = Callable[..., Any]
TASK = ("experiment=curve", "subject=tiny", "batch=random_repeat", "batch.n=16", "workspace=w")


def test_the_curve_is_that_of_ablating_everything_else(harness: Run) -> None:
    (found,) = harness("curve", *TASK, "signal=attribution,output_norm", "--json").data
    assert Path(found["saved"]).is_file()
    methods = {curve["method"].split(" ")[0]: curve for curve in found["curves"]}
    assert set(methods) == {"attribution", "output_norm"}
    assert methods["attribution"]["cpr"] > methods["output_norm"]["cpr"]

    def build(stage: str, name: str, **parameters: Any) -> Any:
        return registry().get(stage, name).build(parameters)

    subject = build("subject", "tiny")()
    batch = build("batch", "random_repeat", n=16)(subject.reads).halves(0)[1]
    order = [subject.units.labels.index(unit) for unit in methods["attribution"]["units"]]
    metric = build("metric", "logit_difference")
    everything = set(range(len(subject.units)))
    groups = [(), tuple(everything), *(tuple(sorted(everything - set(order[:k]))) for k in (1, 3, 6, 16))]
    means = subject.evaluate(batch, groups, build("intervention", "patching"), [metric], no_tick)[0].mean(axis=1)
    expected = (means[2:] - means[1]) / (means[0] - means[1])
    assert found["sizes"] == [0, 0, 0, 0, 0, 1, 3, 6, 16, 32]
    np.testing.assert_allclose(methods["attribution"]["f"][5:9], expected, atol=1e-4)
    assert (found["whole"], found["none"]) == (pytest.approx(means[0]), pytest.approx(means[1], abs=1e-4))


def test_what_has_no_ranking_and_what_cannot_be_written_is_refused(harness: Run) -> None:
    by_hand = harness("curve", *TASK, "signal=attribution", "group=[L0H0]")
    assert (by_hand.code, by_hand.out) == (2, "")
    assert "a group named by hand has no ranking of all units" in by_hand.err
    assert "curve writes .png, .svg, .json" in harness("curve", *TASK, "signal=attribution", "out=curve.pdf").err
