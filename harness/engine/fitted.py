"""Constants that ablated units hand on, fitted by gradient: those with the least loss when one unit is ablated."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.data.batch import Batch
from harness.data.fitting import Fitted, TargetLoss
from harness.engine.batching import micro_batches
from harness.engine.budget import Budget, Load
from harness.engine.evaluation import prediction_of
from harness.engine.replacement import moments
from harness.util.errors import HarnessError
from harness.util.fingerprint import identity

TOGETHER = 16
"""Units of one site that are fitted in the same passes. Which ones does not depend on what is asked for, so that a
unit's constant is the same to the last digit in every evaluation."""


@runtime_checkable
class Ablatable(Protocol):
    """How a subject ablates units of one site by given constants. ``places``: the units of the site."""

    @property
    def size(self) -> int:
        """The number of units of the site."""

    def outputs(self, part: Batch, places: Int[np.ndarray, " some"]) -> Float[Tensor, "examples positions some width"]:
        """What the units hand on in a baseline pass."""

    def logits(
        self, part: Batch, places: Int[np.ndarray, " some"], constants: Float[Tensor, "1 some width"]
    ) -> Float[Tensor, "rows outputs"]:
        """Outputs of the baseline, then with each unit ablated alone; they have gradients by the constants."""


@dataclass(frozen=True, eq=False)
class Constants:
    """The constants of a subject's units that were fitted so far. ``kept``: values that a pass with gradients keeps,
    per row, in rows of one layer."""

    label: str
    budget: Budget
    kept: int
    with_gradients: Callable[[], Any]
    found: dict[Any, Float[Tensor, "1 some width"]] = field(default_factory=dict)

    def of(
        self,
        site: Hashable,
        units: Ablatable,
        places: Int[np.ndarray, " some"],
        intervention: Fitted,
        over: Batch,
    ) -> Float[Tensor, "1 some width"]:
        """The constants of these units of a site, fitted on the examples ``over``."""
        key = (site, repr(identity(intervention)), over.digest)
        blocks = sorted({int(place) // TOGETHER for place in places})
        for block in blocks:
            if (*key, block) not in self.found:
                together = np.arange(block * TOGETHER, min(units.size, (block + 1) * TOGETHER))
                with self.with_gradients():
                    self.found[*key, block] = self._fit(units, together, intervention, over)
        columns = [TOGETHER * blocks.index(int(place) // TOGETHER) + int(place) % TOGETHER for place in places]
        return torch.cat([self.found[*key, block] for block in blocks], dim=1)[:, columns]

    def _fit(
        self, units: Ablatable, places: Int[np.ndarray, " some"], intervention: Fitted, over: Batch
    ) -> Float[Tensor, "1 some width"]:
        """Adam from the mean, in units of each unit's standard deviation; the best of all steps, unit by unit.

        The rate falls to zero in a straight line. A unit whose output is the same everywhere keeps its mean.
        """
        rows, n, steps = 1 + len(places), len(over), intervention.steps
        parts = list(micro_batches(over, Load(float(rows), rows * self.kept), self.budget))
        known = moments(over, False, parts, lambda some: {0: units.outputs(over.take(some), places)}, True)
        start, spread = known.mean[0].float(), known.std[0].float().square().mean(dim=-1, keepdim=True).sqrt()
        moved = torch.zeros_like(start, requires_grad=True)
        adam = torch.optim.Adam([moved], lr=intervention.rate)
        best, least = start, torch.full((len(places),), torch.inf)
        for step in range(steps + 1):
            adam.zero_grad()
            constants, losses = start + spread * moved, torch.zeros(len(places))
            for some in parts:
                part = over.take(some)
                prediction = prediction_of(units.logits(part, places, start + spread * moved).float(), part)
                of_part = TargetLoss()(prediction).reshape(rows, -1)[1:].sum(dim=1) / n
                if not of_part.requires_grad:
                    raise HarnessError(
                        f"intervention {intervention.name}: the outputs of {self.label} have no gradient by what its "
                        "units hand on, so no constant can be fitted.",
                        "Use intervention=mean.",
                    )
                if step < steps:
                    torch.autograd.backward(of_part.sum())
                losses += of_part.detach().cpu()
            better = losses < least
            least = torch.where(better, losses, least)
            best = torch.where(better[None, :, None], constants.detach(), best)
            if step < steps:
                adam.param_groups[0]["lr"] = intervention.rate * (1 - step / steps)
                adam.step()
        return best


@contextmanager
def normal_mode() -> Iterator[None]:
    """Gradients, also where the caller runs in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
