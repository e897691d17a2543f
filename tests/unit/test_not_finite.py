"""NaN in what a model computes is explained by its cause."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.engine.finite import fault_of_weights, not_finite
from harness.util.errors import HarnessError


def test_a_fault_is_the_first_weight_and_row() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    assert fault_of_weights(model) is None
    with torch.no_grad():
        model[1].weight[2, 0] = torch.inf
        model[1].bias[3] = torch.nan
    assert fault_of_weights(model) == "1.weight holds infinity in row 2"


def test_large_finite_weights_are_no_fault() -> None:
    """Their sum overflows float32, and they do not."""
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.weight[:] = 3e38
    assert not model.weight.sum().isfinite()
    assert fault_of_weights(model) is None


@pytest.mark.parametrize(("dtype", "advice"), [(torch.float32, "another intervention"), (torch.bfloat16, "float32")])
def test_advice_depends_on_the_precision(dtype: torch.dtype, advice: str) -> None:
    error = not_finite("m", "a metric is NaN or infinite", nn.Linear(1, 1).to(dtype))
    assert f"Its weights are finite, in {str(dtype)[6:]}" in error.what
    assert advice in error.fix


def test_a_metric_that_is_nan_is_explained(ragged_batch, silence, architectures) -> None:
    """In a model whose weights became NaN after it was taken as a subject."""
    from harness.data.contracts import Metric
    from harness.engine.in_memory import subject_of

    class Logit(Metric):
        name, damage = "logit", -1

        def __call__(self, prediction):
            return prediction.logits[:, 0]

    model = architectures["llama_gqa"].build()
    subject = subject_of(model)
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    with pytest.raises(HarnessError, match=r"a metric is NaN or infinite, because model\.norm\.weight holds NaN"):
        subject.evaluate(ragged_batch, [()], silence, [Logit()])
