"""Vectors from a file, or clusters that are made for the subject's inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from harness import BatchMethod, Counterfactual, HarnessError, Vectors, Width, digest_files, hookimpl, rng_for
from harness.util.arrays import read_arrays, shapes_of
from harness.util.paths import expanded, is_file

HEIGHT = 2.0  # of a cluster's centre, in standard deviations of the noise
PARTS = ("inputs", "target", "counterfactual_inputs", "counterfactual_target")


@dataclass(frozen=True)
class FromVectors(BatchMethod):
    r"""Vectors, each with a class or with all outputs as its target: from a file, or made for the subject.

    The file (.npz or .safetensors) has ``inputs`` [n, width] and ``target``: classes [n], or right outputs [n,
    outputs]. It may have ``counterfactual_inputs`` and ``counterfactual_target`` of the same shapes. Every other array
    with n entries is a property of the examples (``groups``). Of a file with more than ``n`` examples, a random subset
    is taken.

    Without a file, class :math:`c` has its own inputs :math:`B_c`, ``width // outputs`` neighbours, and two clusters:

    .. math:: x_i = 2\,s\,[i \in B_c] + \epsilon_i, \quad s = \pm 1, \; \epsilon \sim \mathcal N(0, 1)

    So a class cannot be read from a weighted sum of the inputs. The counterfactual of an example has the same side
    (:math:`s`) and noise, and another class. ``groups`` has the side. The default subject was trained on such examples.

    Input: the subject's width. Output: vectors.
    Errors: no file, or one that cannot be read or lacks a part; fewer than ``n`` examples; NaN; for clusters, fewer
    than two classes or fewer inputs than classes.
    Source: none; two clusters per class are the XOR problem, once for each class.
    """

    name: ClassVar[str] = "vectors"
    path: str = field(default="", metadata={"help": ".npz or .safetensors file; empty: clusters", "by_content": True})
    n: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "number of examples; null: all of the file, or 512"}
    )
    seed: int = field(default=42, metadata={"help": "seed of the subset, or of the clusters"})

    def __call__(self, width: Width) -> Vectors:
        return self._from_file() if self.path else self._clusters(width)

    def fingerprint(self) -> str:
        """The content of the file."""
        file = expanded(self.path)
        return digest_files(file) if self.path and is_file(file) else ""

    def check_files(self) -> None:
        """The file has arrays."""
        if self.path:
            shapes_of("batch.path", self.path)

    def _clusters(self, width: Width) -> Vectors:
        classes, size = width.outputs, width.inputs // width.outputs
        if classes < 2 or not size:
            raise HarnessError(
                f"batch vectors: clusters need two classes and an input for each; the subject has {width.inputs} "
                f"inputs and {classes} outputs.",
                "Give examples: batch.path=FILE.npz with inputs [n, width] and target.",
            )
        rng, n = rng_for(self.seed, "clusters"), self.n or 512
        own = np.kron(np.eye(classes), np.ones(size))  # [classes, inputs of all classes]
        centres = HEIGHT * np.pad(own, ((0, 0), (0, width.inputs - classes * size)))
        target, side = rng.integers(classes, size=n), rng.choice([-1, 1], n)
        noise = rng.standard_normal((n, width.inputs))
        other = (target + rng.integers(1, classes, n)) % classes

        def inputs(of: np.ndarray) -> np.ndarray:
            clusters: np.ndarray = side[:, None] * centres[of] + noise
            return clusters.astype(np.float32)

        counterfactual = Counterfactual(inputs(other), other)
        notes = {"path": "", "inputs_per_class": size}
        return Vectors(self.name, inputs(target), target, "class", notes, counterfactual, {"side": side})

    def _from_file(self) -> Vectors:
        arrays = read_arrays("batch.path", self.path)
        if missing := [part for part in PARTS[:2] if part not in arrays]:
            raise self._wrong(f"it has no array '{missing[0]}' (arrays: {', '.join(arrays)}).")
        inputs, target = self._numbers(arrays, "inputs", 2), self._numbers(arrays, "target", 1, 2)
        counterfactual = None
        if "counterfactual_inputs" in arrays and "counterfactual_target" in arrays:
            content = self._numbers(arrays, "counterfactual_inputs", 2)
            counterfactual = Counterfactual(content, self._numbers(arrays, "counterfactual_target", target.ndim))
        others = {name: values for name, values in arrays.items() if name not in PARTS}
        groups = {name: values for name, values in others.items() if values.shape == target.shape[:1]}
        kind = "class" if target.ndim == 1 else "outputs"
        whole = Vectors(self.name, inputs, target, kind, {"path": Path(self.path).name}, counterfactual, groups)
        if self.n is None:
            return whole
        if self.n > len(whole):
            raise HarnessError(
                f"batch.path={self.path}: it has {len(whole)} examples; {self.n} were requested.",
                f"Use batch.n={len(whole)} or less, or leave batch.n out.",
            )
        return whole.take(np.sort(rng_for(self.seed, "subset").permutation(len(whole))[: self.n]))

    def _numbers(self, arrays: Mapping[str, np.ndarray], part: str, *dimensions: int) -> np.ndarray:
        """Inputs and outputs as float32, classes as integers."""
        values = arrays[part]
        if values.dtype.kind not in "biuf" or values.ndim not in dimensions:
            raise self._wrong(f"{part} has the shape {values.shape} and dtype {values.dtype}.")
        if values.ndim == 2:
            return values.astype(np.float32)
        if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
            raise self._wrong(f"{part} [n] contains numbers that are not whole, so they are not classes.")
        return values.astype(np.int64)

    def _wrong(self, what: str) -> HarnessError:
        return HarnessError(
            f"batch.path={self.path}: {what}",
            "Give inputs [n, width], and as target classes [n] or right outputs [n, outputs].",
        )


@hookimpl
def harness_batches() -> list[type[FromVectors]]:
    return [FromVectors]
