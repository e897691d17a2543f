"""What every unit of a planted world writes on an example, and the logits that the output makes of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from harness_plugins.subjects.planted.roles import DECOYS, READ, Roles
from jaxtyping import Bool, Float, Int

from harness import Batch

ANSWER, STRATUM, FEATURES = 0, 1, 2  # where the answer, the stratum and the first feature stand in the tokens
STRATA = 4
SWITCHED = ("serial", "parallel", "redundant_pair", "cancelling", *DECOYS)  # by a feature of their own
WRITES_ANSWER = (*READ, "cancelling", "bystander")
OFF, ON = 0.4, 0.6  # what lies below the first counts as nothing, above the second as the whole
LAYER_DAMAGE = {"early": 1.0, "late": 0.2}  # of every unit in the decoys' layers, as shares of `general`
SPREAD = 1.5  # of the other tokens' logits: they win now and then, so that accuracy has room both ways


@dataclass(frozen=True)
class Seen:
    """A batch as the world sees it.

    ``active`` [examples] by kind: whether its circuit is called for; ``outputs`` [examples, units, tokens]: a unit's
    activity in the direction it writes; ``logits`` of the other tokens, and ``own`` effects of every unit.
    """

    answer: Int[np.ndarray, " examples"]
    active: Mapping[str, Bool[np.ndarray, " examples"]]
    activity: Float[np.ndarray, "examples units"]
    outputs: Float[np.ndarray, "examples units tokens"]
    logits: Float[np.ndarray, "examples tokens"]
    own: Float[np.ndarray, "examples units tokens"]


@dataclass(frozen=True)
class World:
    """The rules of one world: what the roles do, and how strongly."""

    roles: Roles
    tokens: int
    effect: float
    general: float
    bias: float
    noise: float
    seed: int

    def see(self, batch: Batch) -> Seen:
        """Everything about a batch that no ablation changes; nothing of it depends on the other examples."""
        tokens = np.where(np.arange(batch.tokens.shape[1]) <= batch.query[:, None], batch.tokens, 0)
        head = np.zeros((len(batch), FEATURES + len(SWITCHED)), dtype=np.int64)
        head[:, : tokens.shape[1]] = tokens[:, : head.shape[1]]
        answer = head[:, ANSWER] % self.tokens
        active = {kind: head[:, FEATURES + i] % 2 == 1 for i, kind in enumerate(SWITCHED)}
        active |= {"routed": head[:, STRATUM] % STRATA == 0, "bystander": active["serial"]}
        n_units = len(self.roles.units)
        jitter, logits = np.empty((len(batch), n_units)), np.empty((len(batch), self.tokens))
        own = np.zeros((len(batch), n_units, self.tokens))
        for i, (row, query) in enumerate(zip(tokens, batch.query, strict=True)):  # by content: the same in any batch
            rng = np.random.default_rng([self.seed, zlib.crc32(row[: query + 1].astype(np.int64).tobytes())])
            jitter[i], logits[i] = rng.random(n_units), SPREAD * rng.standard_normal(self.tokens)
            if self.noise:
                own[i] = self.noise * rng.standard_normal(own.shape[1:])
                own[i, :, answer[i]] += self.noise * self._always
        logits[np.arange(len(batch)), answer] = self.bias
        activity = self._activity(jitter, active, batch.query)
        outputs = np.zeros((len(batch), n_units, self.tokens))
        towards = np.where(self._of(WRITES_ANSWER), answer[:, None], np.arange(n_units) % self.tokens)
        np.put_along_axis(outputs, towards[:, :, None], activity[:, :, None], axis=2)
        return Seen(answer, active, activity, outputs, logits, own)

    def logits(
        self,
        seen: Seen,
        replaced: Float[np.ndarray, "examples units tokens"],
        ablated: Bool[np.ndarray, "conditions units"],
    ) -> Float[np.ndarray, "conditions examples tokens"]:
        """Logits under every condition: where a unit is ablated it writes ``replaced`` instead of its output."""
        total = np.repeat(seen.logits[None], len(ablated), axis=0)
        before, after = _heard(seen.outputs), _heard(replaced)
        for kind in (*READ, "cancelling"):
            members = list(self.roles.members(kind))
            patterns, which = np.unique(ablated[:, members], axis=0, return_inverse=True)
            made = [
                self._contribution(kind, np.where(gone[:, None], after[:, members], before[:, members]))
                for gone in patterns
            ]
            total += (self.effect * seen.active[kind][:, None] * np.stack(made))[which.reshape(-1)]
        lost = 1 - (replaced * seen.outputs).sum(axis=2) / np.square(seen.outputs).sum(axis=2)
        here = np.arange(len(seen.answer))
        for kind, share in LAYER_DAMAGE.items():
            inside = np.isin(self.roles.units.layers, self.roles.bands[kind])
            # Counted first, weighted afterwards: two groups of a size lose the same to the last digit.
            total[:, here, seen.answer] -= share * self.general * (ablated[:, inside].astype(float) @ lost[:, inside].T)
        if self.noise:
            total -= np.tensordot(ablated.astype(float), lost[:, :, None] * seen.own, axes=([1], [1]))
        return total

    def _contribution(
        self, kind: str, heard: Float[np.ndarray, "examples members tokens"]
    ) -> Float[np.ndarray, "examples tokens"]:
        """What the output makes of a group, as a share of the effect."""
        made: Float[np.ndarray, "examples tokens"]
        if kind == "serial":
            made = heard.prod(axis=1)
        elif kind == "redundant_pair":
            first = np.isin(self.roles.members(kind), self.roles.groups["redundant_half"][0])
            made = np.maximum(heard[:, first].prod(axis=1), heard[:, ~first].prod(axis=1))
        else:
            made = heard.mean(axis=1)
        return -made if kind == "cancelling" else made

    def _activity(
        self,
        jitter: Float[np.ndarray, "examples units"],
        active: Mapping[str, Bool[np.ndarray, " examples"]],
        query: Int[np.ndarray, " examples"],
    ) -> Float[np.ndarray, "examples units"]:
        """0.1 .. 0.4 where a unit's circuit is not called for, 0.6 .. 0.9 where it is; in between only filler."""
        called = np.zeros(jitter.shape, dtype=bool)
        for kind, where in active.items():
            called[:, list(self.roles.members(kind))] |= where[:, None]
        level = np.where(self._of(active), 0.1 + 0.3 * jitter + 0.5 * called, 0.1 + 0.8 * jitter)
        places = list(self.roles.members("position"))
        bend = 1 + np.arange(len(places))  # all rise with the query, none is a copy of another
        level[:, places] = 0.1 + 0.8 * (1 - np.exp(-query[:, None] * bend / 64))
        return level

    def _of(self, kinds: Mapping[str, object] | tuple[str, ...]) -> Bool[np.ndarray, " units"]:
        """Which units play one of these kinds."""
        return np.isin(np.arange(len(self.roles.units)), [u for kind in kinds for u in self.roles.members(kind)])

    @cached_property
    def _always(self) -> Float[np.ndarray, " units"]:
        """What every unit does to the answer on all examples alike, in units of the noise."""
        return np.random.default_rng(self.seed).standard_normal(len(self.roles.units))


def _heard(outputs: Float[np.ndarray, "examples units tokens"]) -> Float[np.ndarray, "examples units tokens"]:
    """What of an output gets through: nothing of a weak one, the whole of a strong one."""
    return np.clip((outputs - OFF) / (ON - OFF), 0.0, 1.0)
