"""A planted world as a subject: recorded and ablated like a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from harness_plugins.subjects.planted.roles import EXPECTED
from harness_plugins.subjects.planted.world import WRITES_ANSWER, Seen, World
from jaxtyping import Float

from harness import Batch, HarnessError, Intervention, Labels, Metric, Reader, Recording, Rows, Tick
from harness.data.stages import call_with, inputs_of
from harness.util.cache import Memo

AT_ONCE = 1_000_000  # logits per pass


class PlantedSubject:
    """A planted world at work. ``groups``: what was planted, by kind; ``expected``: the verdicts it deserves."""

    encode = None
    context = 64

    def __init__(self, world: World, about: Mapping[str, Any]) -> None:
        self.world, self.about = world, about
        self.label = f"planted-{world.seed}"
        self.units, self.groups, self.expected = world.roles.units, world.roles.groups, EXPECTED
        self.truth = Labels(world.roles.classes, self.units)
        self.vocab_size = world.tokens
        self._memo = Memo()

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick) -> Recording:
        """Attention rows whose maximum is a unit's activity, or outputs of that norm (in the residual stream as well).

        Errors: a source that planted units do not have (``first_order``, ``router``).
        """
        batch.check(self)
        seen = self._seen(batch)
        readings = {}
        for name, reader in readers.items():
            if reader.source in ("first_order", "router"):
                raise HarnessError(
                    f"{name} reads '{reader.source}': the units of {self.label} have none.",
                    f"Choose a {name} that reads attention, head_output or contribution (harness list {name}).",
                )
            values = self._attention(batch, seen) if reader.source == "attention" else seen.outputs
            parts = []
            for layer in np.unique(self.units.layers):
                inside = values[:, self.units.layers == layer].astype(np.float32)
                parts.append(reader.read(Rows(reader.source, int(layer), inside, batch, batch, np.arange(len(batch)))))
            readings[name] = np.concatenate(parts, axis=1)
        tick(len(batch))
        return Recording(batch, self.units, readings)

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[tuple[int, ...]],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric on every example under every condition; all units are heads of one tensor, at one position."""
        import torch

        from harness import Prediction

        batch.check(self)
        seen = self._seen(batch)
        replaced = self._replaced(batch, seen, intervention, reference)
        ablated = np.array([np.isin(np.arange(len(self.units)), condition) for condition in conditions])
        baseline = torch.from_numpy(
            self.world.logits(seen, replaced, np.zeros((1, len(self.units)), dtype=bool))[0]
        ).float()
        target = torch.from_numpy(np.array(batch.target, dtype=np.int64))
        other = (
            torch.from_numpy(np.array(batch.counterfactual.target, dtype=np.int64)) if batch.counterfactual else None
        )
        values = np.empty((len(metrics), len(conditions), len(batch)))
        each = max(1, AT_ONCE // baseline.numel())
        for start in range(0, len(conditions), each):
            some = ablated[start : start + each]
            n = len(some)
            logits = torch.from_numpy(self.world.logits(seen, replaced, some)).float().reshape(-1, self.vocab_size)
            shown = Prediction(
                logits, target.repeat(n), baseline.repeat(n, 1), None if other is None else other.repeat(n)
            )
            for m, metric in enumerate(metrics):
                values[m, start : start + n] = metric(shown).double().numpy().reshape(n, len(batch))
            tick(n * len(batch))
        return values

    def _replaced(
        self, batch: Batch, seen: Seen, intervention: Intervention, reference: Batch | None
    ) -> Float[np.ndarray, "examples units tokens"]:
        """What every unit would write instead, if it were ablated. Units write at one position: the query."""
        import torch

        from harness.engine.replacement import averaged_over, donors_of

        def outputs(of: Batch) -> torch.Tensor:
            return torch.from_numpy(self._seen(of).outputs)[:, None]

        given = {"output": torch.from_numpy(seen.outputs)[:, None]}
        if "donor" in inputs_of(type(intervention)):
            given["donor"] = outputs(donors_of(intervention, batch, self))
        if "mean" in inputs_of(type(intervention)):
            given["mean"] = outputs(averaged_over(intervention, batch, reference, self)).mean(dim=0)
        replaced = call_with(intervention, **given).expand_as(given["output"])
        return np.asarray(replaced[:, 0].numpy(), dtype=np.float64)

    def _seen(self, batch: Batch) -> Seen:
        seen: Seen = self._memo.get("seen", batch.digest, lambda: self.world.see(batch))
        return seen

    def _attention(self, batch: Batch, seen: Seen) -> Float[np.ndarray, "examples units keys"]:
        """The unit's activity on one key, the rest spread evenly over the others up to the query.

        Units that write the answer look at the first token, where it stands; those of position at the query itself.
        """
        length = batch.tokens.shape[1]
        query = batch.query[:, None]
        own = 1 + np.arange(len(self.units)) % 8
        roles = self.world.roles
        own[[unit for kind in WRITES_ANSWER for unit in roles.members(kind)]] = 0
        own[list(roles.members("position"))] = length
        key = np.minimum(own, query)
        rest = (1 - seen.activity) / np.maximum(query, 1)
        rows = np.where(np.arange(length) <= query[:, :, None], rest[:, :, None], 0.0)
        peak = np.where(query == 0, 1.0, seen.activity)
        np.put_along_axis(rows, key[:, :, None], peak[:, :, None], axis=2)
        return rows
