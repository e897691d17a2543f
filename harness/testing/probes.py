"""Probes of subjects: interventions that show what they are given, metrics that show predictions, a reader that keeps
all rows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.data.batch import Batch
from harness.data.contracts import Intervention, Metric
from harness.data.prediction import Prediction
from harness.data.recording import Reader, Rows, Source

# ----------------------------------------------------------------------------------------------------------------------
# Interventions
# ----------------------------------------------------------------------------------------------------------------------


class Probe(Intervention):
    """Returns the value that it asks for, times ``gain``. ``shapes``: what it was given, call by call."""

    name: ClassVar[str] = "probe"

    def __init__(
        self,
        gain: float = 1.0,
        positions: Literal["all", "query"] = "all",
        over: Literal["batch", "reference"] = "batch",
        per: Literal["all", "position"] = "all",
        seed: int = 0,
    ) -> None:
        self.gain, self.positions, self.over, self.per, self.seed = gain, positions, over, per, seed
        self.shapes: list[dict[str, tuple[int, ...]]] = []
        self.dtype = torch.float32

    def donors(self, batch: Batch) -> Batch:
        """For each example, the content of another one."""
        return batch.exchanged(np.random.default_rng(5).permutation(len(batch)))

    def keep(self, output: Tensor, **others: Tensor) -> None:
        """Note what was given."""
        self.dtype = output.dtype
        self.shapes.append({name: tuple(value.shape) for name, value in {"output": output, **others}.items()})


class Output(Probe):
    """The output times ``gain``: 1 leaves units as they are, 0 zeroes them."""

    def __call__(self, output: Tensor) -> Tensor:
        self.keep(output)
        return output * self.gain


class Mean(Probe):
    """The mean."""

    def __call__(self, output: Tensor, mean: Tensor) -> Tensor:
        self.keep(output, mean=mean)
        return mean * self.gain


class Std(Probe):
    """The standard deviation."""

    def __call__(self, output: Tensor, std: Tensor) -> Tensor:
        self.keep(output, std=std)
        return std * self.gain


class Donor(Probe):
    """The donor."""

    def __call__(self, output: Tensor, donor: Tensor) -> Tensor:
        self.keep(output, donor=donor)
        return donor * self.gain


class Noise(Probe):
    """The noise. ``numbers``: all that it was given."""

    def __init__(self, gain: float = 1.0, **declared: Any) -> None:
        super().__init__(gain, **declared)
        self.numbers: list[Float[np.ndarray, " numbers"]] = []

    def __call__(self, output: Tensor, noise: Tensor) -> Tensor:
        self.keep(output, noise=noise)
        self.numbers.append(noise.detach().float().cpu().numpy().flatten())
        return noise * self.gain


ASKING: dict[str, type[Probe]] = {"output": Output, "mean": Mean, "std": Std, "donor": Donor, "noise": Noise}
"""The probe that asks for each input."""


class Constant(Probe):
    """The same numbers [width] everywhere."""

    def __init__(self, value: Float[np.ndarray, " width"], **declared: Any) -> None:
        super().__init__(**declared)
        self.value = torch.from_numpy(value)

    def __call__(self, output: Tensor) -> Tensor:
        if len(self.value) != output.shape[-1]:  # units of another site
            return output
        return self.value.to(output).expand_as(output)


class Push(Probe):
    """The output plus ``gain``."""

    def __call__(self, output: Tensor) -> Tensor:
        return output + self.gain


class PushWhere(Push):
    """The output plus ``gain`` where it is one of the ``known`` outputs [outputs, width], or where it is none of them.

    It tells units apart by what they hand on. An output is known if all its numbers are close to those of a known one.
    """

    def __init__(self, known: Float[np.ndarray, "outputs width"], is_known: bool, gain: float, **declared: Any) -> None:
        super().__init__(gain, **declared)
        self.known, self.is_known = torch.from_numpy(known), is_known

    def __call__(self, output: Tensor) -> Tensor:
        if self.known.shape[1] == output.shape[-1]:
            known = self.known.to(output)
            tolerance = (1e-4 if output.dtype.itemsize >= 4 else 3e-2) * float(known.abs().max().clamp(min=1e-6))
            found = torch.zeros(output.shape[:-1], dtype=torch.bool, device=output.device)
            for one in known:
                found |= ((output - one).abs() <= tolerance).all(dim=-1)
        else:
            found = torch.zeros(output.shape[:-1], dtype=torch.bool, device=output.device)
        return torch.where((found == self.is_known)[..., None], super().__call__(output), output)


class Broken(Probe):
    """Raises an exception in the middle of a pass."""

    def __call__(self, output: Tensor) -> Tensor:  # noqa: ARG002  # what it asks for
        raise ArithmeticError("a probe that raises")


# ----------------------------------------------------------------------------------------------------------------------
# Metrics
# ----------------------------------------------------------------------------------------------------------------------


class Look(Metric):
    """A random projection of the logits: any change of them changes it."""

    name: ClassVar[str] = "look"
    damage: ClassVar[Literal[1, -1]] = -1

    def __init__(self, seed: int, baseline: bool = False) -> None:
        self.seed, self.baseline = seed, baseline

    def __call__(self, prediction: Prediction) -> Tensor:
        logits = prediction.baseline if self.baseline else prediction.logits
        assert logits is not None, "a subject gives the baseline to metrics"
        weights = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(self.seed))
        return logits.float() @ weights.to(logits.device)


class TargetLogit(Metric):
    """The logit of the target class."""

    name: ClassVar[str] = "target_logit"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> Tensor:
        return prediction.logits.gather(1, prediction.target[:, None])[:, 0]


class Target(Metric):
    """The target itself, or the sum of all right outputs; of the example or of its counterfactual."""

    name: ClassVar[str] = "target"
    damage: ClassVar[Literal[1, -1]] = -1

    def __init__(self, counterfactual: bool = False) -> None:
        self.counterfactual = counterfactual

    def __call__(self, prediction: Prediction) -> Tensor:
        target = prediction.counterfactual if self.counterfactual else prediction.target
        assert target is not None, "a subject gives counterfactual targets to metrics"
        return target.float() if target.ndim == 1 else target.float().sum(dim=1)


# ----------------------------------------------------------------------------------------------------------------------
# Readers
# ----------------------------------------------------------------------------------------------------------------------


class Keep(Reader):
    """Keeps all rows. Its reading is the sum of a unit's numbers."""

    source: Source = "activation"

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rows: list[Rows] = []

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        """The sum over the last axis."""
        self.rows.append(rows)
        sums: Float[np.ndarray, "examples units"] = rows.values.sum(axis=2)
        return sums

    def values_at(self, site: str) -> Float[np.ndarray, "examples units _"]:
        """The rows of a site, padded to one width, in the order of the examples."""
        parts = [rows for rows in self.rows if rows.site == site]
        width = max(part.values.shape[2] for part in parts)
        padded = [np.pad(part.values, ((0, 0), (0, 0), (0, width - part.values.shape[2]))) for part in parts]
        values: Float[np.ndarray, "examples units _"] = np.concatenate(padded)
        return values[np.argsort(np.concatenate([part.examples for part in parts]))]
