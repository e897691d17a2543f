"""`harness experts`: a survey of a language model's and a toy's experts, and what has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_the_survey_of_a_language_model_says_what_predicts_damage(harness: Run) -> None:
    answer = harness("experts", "subject=experts", "batch.n=24", "intervention.positions=query", "--json")
    assert answer.code == 0, answer.err
    data = answer.data
    assert len(data["experts"]) == 32
    for layer in range(4):
        shares = [expert["shares"] for expert in data["experts"][8 * layer : 8 * layer + 8]]
        for domain in ("code", "english", "repeats"):
            assert sum(share[domain] for share in shares) == pytest.approx(2.0)
    assert {expert["uniform"] for expert in data["experts"]} == {0.25}
    usage = data["correlations"]["usage"]["alone"]
    assert usage["n"] == 32
    assert usage["interval"][0] <= usage["rho"] <= usage["interval"][1]
    assert any("with usage and layer held fixed" in sentence for sentence in data["found"])
    assert data["lens"]["cosines"]["final-topk"][-1] == pytest.approx(1.0, abs=1e-4)
    assert len(data["lens"]["loss"]) == 6
    assert Path(data["saved"]).read_bytes().startswith(b"\x89PNG")


def test_the_survey_of_a_toy_has_no_lens(harness: Run) -> None:
    answer = harness("experts", "subject=toy_moe", "batch.n=256", "out=toy.json")
    assert answer.code == 0, answer.err
    assert "L0E0" in answer.out
    assert "lens" not in answer.out
    assert "features 0 to 4" in Path("toy.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("subject=tiny",), "units of subject tiny are no experts of a mixture"),
        (("subject=experts", "subject.path=tiny"), "is a dense model: it has no experts"),
        (("subject=toy_moe", "batch=vectors"), "the examples of batch vectors have no domain"),
        (("subject=experts", "out=experts.pdf"), "experts writes .png, .svg, .json"),
    ],
)
def test_what_has_no_experts_or_domains_is_refused(words: tuple[str, ...], said: str, harness: Run) -> None:
    answer = harness("experts", *words)
    assert answer.code == 2
    assert said in answer.err
