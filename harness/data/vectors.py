"""Vectors with a class or all outputs as their target, checked when they are created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from harness.data.batch import Batch, Counterfactual, Reads, Width, described
from harness.util.digest import digest
from harness.util.errors import HarnessError

SHOWN = 6
"""How many numbers of an example are shown."""


@dataclass(frozen=True, eq=False)
class Vectors(Batch):
    """Vectors, each with a class or with all outputs as its target.

    ``inputs`` [examples, width]. ``target`` [examples]: the index of the right output, or [examples, outputs]: the
    right outputs.

    Errors: NaN or infinite numbers, a negative class, a part of the wrong shape, no examples.
    """

    name: str
    inputs: Float[np.ndarray, "examples width"]
    target: Int[np.ndarray, " examples"] | Float[np.ndarray, "examples outputs"]
    target_kind: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    counterfactual: Counterfactual | None = None
    groups: Mapping[str, Shaped[np.ndarray, " examples"]] = field(default_factory=dict)
    query: Int[np.ndarray, " examples"] = field(init=False)  # 0: a vector has no positions

    def __post_init__(self) -> None:
        object.__setattr__(self, "query", np.zeros(len(self.inputs), dtype=np.int64))
        other = self.counterfactual
        self._check_lengths({"target": self.target, **({"target of a counterfactual": other.target} if other else {})})
        if other and (other.content.shape != self.inputs.shape or other.target.shape != self.target.shape):
            raise HarnessError(
                f"batch {self.name}: its counterfactuals have shapes {other.content.shape} and {other.target.shape}, "
                f"its examples have shapes {self.inputs.shape} and {self.target.shape}.",
                "Give a counterfactual of the same shape to every example.",
            )
        for part, values in self._parts.items():
            if not np.isfinite(values).all():
                raise HarnessError(
                    f"batch {self.name}: {part} contains NaN or infinity.", "Remove or replace these examples."
                )
            if values.ndim == 1 and values.min() < 0:
                raise HarnessError(
                    f"batch {self.name}: {part} contains class {values.min()}.", "Classes are numbered from 0."
                )

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def digest(self) -> str:
        """Digest of the content: inputs, targets, counterfactuals."""
        return digest(*self._parts.values())

    @property
    def _parts(self) -> dict[str, Num[np.ndarray, examples * _]]:
        parts: dict[str, np.ndarray] = {"inputs": self.inputs, "target": self.target}
        if self.counterfactual:
            parts["inputs of a counterfactual"] = self.counterfactual.content
            parts["target of a counterfactual"] = self.counterfactual.target
        return parts

    @property
    def counterfactual_batch(self) -> Vectors:
        """The counterfactuals as a batch, whose counterfactuals are these examples. Errors: there are none."""
        if self.counterfactual is None:
            raise self.without_counterfactual()
        return replace(
            self,
            inputs=self.counterfactual.content,
            target=self.counterfactual.target,
            counterfactual=Counterfactual(self.inputs, self.target),
        )

    def take(self, examples: Int[np.ndarray, " chosen"]) -> Vectors:
        """These examples, in this order."""
        other = self.counterfactual
        return replace(
            self,
            inputs=self.inputs[examples],
            target=self.target[examples],
            counterfactual=Counterfactual(other.content[examples], other.target[examples]) if other else None,
            groups=self._groups_of(examples),
        )

    def exchanged(self, cycle: Int[np.ndarray, " examples"]) -> Vectors:
        """Each example with the inputs of the next one on the cycle."""
        inputs = np.empty_like(self.inputs)
        inputs[cycle] = self.inputs[np.roll(cycle, -1)]
        return replace(self, inputs=inputs, counterfactual=None)

    def with_targets(self, target: Int[np.ndarray, " examples"] | Float[np.ndarray, "examples outputs"]) -> Vectors:
        """The same examples with other targets. The targets of their counterfactuals become the former targets."""
        other = self.counterfactual
        former = Counterfactual(other.content, self.target) if other else None
        return replace(self, target=target, counterfactual=former)

    def shown(self, example: int, reads: Reads) -> str:  # noqa: ARG002  # vectors need no vocabulary
        """The largest inputs, and the target."""
        inputs, target = self.inputs[example], np.atleast_1d(self.target[example])
        largest = np.argsort(-np.abs(inputs), kind="stable")[:SHOWN]
        named = " ".join(f"x{place}={inputs[place]:.2g}" for place in sorted(largest.tolist()) if inputs[place])
        return f"{named or 'zero'} → {' '.join(f'{value:.3g}' for value in target[:SHOWN])}"

    def check(self, reads: Reads) -> None:
        """Refuse a batch that a subject cannot read.

        Errors: a subject of tokens; vectors of another width; targets outside the outputs, or of another width.
        """
        if not isinstance(reads, Width):
            raise HarnessError(
                f"batch {self.name} has vectors; the subject reads {described(reads)}.",
                "Choose a batch of token sequences (batch=random_repeat), or a subject that reads vectors "
                "(subject=torch_module).",
            )
        for part, values in self._parts.items():
            width = reads.inputs if part.startswith("inputs") else reads.outputs
            if values.ndim == 2 and values.shape[1] != width:
                raise HarnessError(
                    f"batch {self.name}: {part} has {values.shape[1]} numbers per example; the subject has {width}.",
                    f"Give vectors of {width} numbers.",
                )
            if values.ndim == 1 and values.max() >= reads.outputs:
                raise HarnessError(
                    f"batch {self.name}: {part} contains class {values.max()}, which is outside the subject's "
                    f"{reads.outputs} outputs.",
                    f"Classes run from 0 to {reads.outputs - 1}.",
                )
