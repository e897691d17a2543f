"""A planted world as a loaded subject: it is recorded and ablated like a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from harness_plugins.subjects.planted.roles import EXPECTED
from harness_plugins.subjects.planted.world import Response, World
from jaxtyping import Float

from harness import (
    Batch,
    Intervention,
    Labels,
    Metric,
    Reader,
    Recording,
    Rows,
    Source,
    Subject,
    Tick,
    Tokens,
    Vocabulary,
    tokens_of,
)
from harness.data.requests import check_gives, check_sources
from harness.data.stages import call_with, inputs_of
from harness.util.cache import Memo

LOGITS_PER_PASS = 1_000_000


class PlantedSubject(Subject):
    """A planted world. ``groups``: the planted groups, by kind; ``expected``: the verdicts each kind should get."""

    sources: Mapping[str, str] = {
        "attention": "rows whose maximum is the activity of a unit [examples, units, keys]",
        "head_output": "what a unit writes, of the norm of its activity [examples, units, tokens]",
        "activation": "the same",
        "contribution": "the same",
    }
    gives: frozenset[str] = frozenset({"output", "mean", "donor"})

    def __init__(self, world: World, about: Mapping[str, Any]) -> None:
        self.world, self.about = world, about
        self.reads = Vocabulary(world.tokens, context=64)  # one token for each possible answer
        self.label = f"{about['architecture']}-{world.seed}"
        self.units, self.groups = world.roles.units, world.roles.groups
        self.expected = {kind: EXPECTED.get(kind, EXPECTED["routed"]) for kind in self.groups}
        self.truth = Labels(world.roles.classes, self.units, circuits=frozenset(world.roles.circuits))
        self._memo = Memo()

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick) -> Recording:
        """Attention rows whose maximum is the activity of a unit, or outputs (and contributions) with that norm."""
        batch.check(self.reads)
        check_sources(self, readers)
        batch = tokens_of(batch, self.label)
        readings = {}
        for name, reader in readers.items():
            parts = [
                reader.read(Rows(reader.source, site, values.astype(np.float32), batch, batch, np.arange(len(batch))))
                for site, values in self._values(reader.source, batch)
            ]
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
        """Every metric on every example under every condition. Units write at one position, the query."""
        import torch

        from harness import Prediction

        batch.check(self.reads)
        check_gives(self, intervention)
        response = self._response(batch)
        replaced = self._replaced(batch, intervention, reference)
        ablated = np.array([np.isin(np.arange(len(self.units)), condition) for condition in conditions])
        nothing = np.zeros((1, len(self.units)), dtype=bool)
        baseline = torch.from_numpy(self.world.logits(response, replaced, nothing)[0]).float()
        target = torch.from_numpy(np.array(batch.target, dtype=np.int64))
        counterfactual = batch.counterfactual
        other = torch.from_numpy(np.array(counterfactual.target, dtype=np.int64)) if counterfactual else None
        values = np.empty((len(metrics), len(conditions), len(batch)))
        per_pass = max(1, LOGITS_PER_PASS // baseline.numel())
        for start in range(0, len(conditions), per_pass):
            part = ablated[start : start + per_pass]
            n = len(part)
            logits = (
                torch.from_numpy(self.world.logits(response, replaced, part)).float().reshape(-1, self.world.tokens)
            )
            repeated = None if other is None else other.repeat(n)
            prediction = Prediction(logits, target.repeat(n), baseline.repeat(n, 1), repeated)
            for m, metric in enumerate(metrics):
                values[m, start : start + n] = metric(prediction).double().numpy().reshape(n, len(batch))
            tick(n * len(batch))
        return values

    def _values(self, source: Source, batch: Tokens) -> Iterator[tuple[str, Float[np.ndarray, "examples units _"]]]:
        """What readers of a source read, by site."""
        response = self._response(batch)
        values = self._attention(batch, response) if source == "attention" else response.outputs
        for place, site in enumerate(self.units.sites):
            yield site, values[:, self.units.site_of == place]

    def _replaced(
        self, batch: Batch, intervention: Intervention, reference: Batch | None
    ) -> Float[np.ndarray, "examples units tokens"]:
        """The values that every unit would write instead of its output, if it were ablated."""
        import torch

        from harness.engine.replacement import averaged_over, donors_of

        def outputs(examples: Batch) -> torch.Tensor:
            return torch.from_numpy(self._response(examples).outputs)[:, None]

        inputs = {"output": outputs(batch)}
        if "donor" in inputs_of(type(intervention)):
            inputs["donor"] = outputs(donors_of(intervention, batch, self.reads))
        if "mean" in inputs_of(type(intervention)):
            inputs["mean"] = outputs(averaged_over(intervention, batch, reference, self.reads)).mean(dim=0)
        replaced = call_with(intervention, **inputs).expand_as(inputs["output"])
        return np.asarray(replaced[:, 0].numpy(), dtype=np.float64)

    def _response(self, batch: Batch) -> Response:
        tokens = tokens_of(batch, self.label)
        response: Response = self._memo.get("response", batch.digest, lambda: self.world.respond(tokens))
        return response

    def _attention(self, batch: Tokens, response: Response) -> Float[np.ndarray, "examples units keys"]:
        """Attention rows with the activity of a unit on one key and the rest spread evenly over the other keys.

        Units that write the answer attend to the first token, which holds it; position units attend to the query.
        """
        length = batch.tokens.shape[1]
        query = batch.query[:, None]
        key = 1 + np.arange(len(self.units)) % 8
        roles = self.world.roles
        key[list(roles.answering)] = 0
        if "position" in roles.groups:
            key[list(roles.members("position"))] = length
        key = np.minimum(key, query)
        rest = (1 - response.activity) / np.maximum(query, 1)
        rows = np.where(np.arange(length) <= query[:, :, None], rest[:, :, None], 0.0)
        peak = np.where(query == 0, 1.0, response.activity)
        np.put_along_axis(rows, key[:, :, None], peak[:, :, None], axis=2)
        return rows
