"""Computes the outputs of every unit of a planted world on an example, and the resulting logits."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from harness_plugins.subjects.planted.roles import DECOYS, Roles
from jaxtyping import Bool, Float, Int

from harness import Tokens

ANSWER, STRATUM, FEATURES = 0, 1, 2  # positions of the tokens that hold the answer, the stratum and the first feature
STRATA = 4
SWITCHED = ("serial", "parallel", "redundant_pair", "cancelling", *DECOYS)  # each is active by a feature of its own
MEAN = ("parallel", "routed", "cancelling")  # of these, what members add is their mean; of other circuits, the product
OFF, ON = 0.4, 0.6  # outputs up to OFF have no effect, from ON the full effect
LAYER_DAMAGE = {
    "early": 1.0,
    "late": 0.2,
}  # damage by ablating any unit in the layers of a decoy, as a share of `general`
SPREAD = 1.5  # standard deviation of the other logits: they sometimes win, so accuracy can rise and fall


@dataclass(frozen=True)
class Response:
    """How a world responds to a batch before any ablation.

    ``active`` [examples] by kind: whether the circuit is active; ``outputs`` [examples, units, tokens]: the activity of
    a unit at the token it writes to; ``logits`` [examples, tokens] without any unit; ``side_effects`` [examples, units,
    tokens]: the small effects of every unit.
    """

    answer: Int[np.ndarray, " examples"]
    active: Mapping[str, Bool[np.ndarray, " examples"]]
    activity: Float[np.ndarray, "examples units"]
    outputs: Float[np.ndarray, "examples units tokens"]
    logits: Float[np.ndarray, "examples tokens"]
    side_effects: Float[np.ndarray, "examples units tokens"]


@dataclass(frozen=True)
class World:
    """The rules of one world: what each role does, and how strongly."""

    roles: Roles
    tokens: int
    effect: float
    general: float
    bias: float
    noise: float
    seed: int

    def respond(self, batch: Tokens) -> Response:
        """Everything about a batch that ablation does not change. Each example is independent of the others."""
        head = first_tokens(batch)
        answer = head[:, ANSWER] % self.tokens
        active = self._active(head[:, FEATURES:] % 2 == 1, stratum_of(batch))
        n_units = len(self.roles.units)
        jitter, logits = np.empty((len(batch), n_units)), np.empty((len(batch), self.tokens))
        side_effects = np.zeros((len(batch), n_units, self.tokens))
        # The seed is the content of the example, so it gets the same draw in any batch.
        for i, (row, query) in enumerate(zip(batch.tokens, batch.query, strict=True)):
            rng = np.random.default_rng([self.seed, content_of(row, query)])
            jitter[i], logits[i] = rng.random(n_units), SPREAD * rng.standard_normal(self.tokens)
            if self.noise:
                side_effects[i] = self.noise * rng.standard_normal(side_effects.shape[1:])
                side_effects[i, :, answer[i]] += self.noise * self._constant_effect
        logits[np.arange(len(batch)), answer] = self.bias
        activity = self._activity(jitter, active, batch)
        outputs = np.zeros((len(batch), n_units, self.tokens))
        written = np.where(self._among(self.roles.answering), answer[:, None], np.arange(n_units) % self.tokens)
        np.put_along_axis(outputs, written[:, :, None], activity[:, :, None], axis=2)
        return Response(answer, active, activity, outputs, logits, side_effects)

    def logits(
        self,
        response: Response,
        replaced: Float[np.ndarray, "examples units tokens"],
        ablated: Bool[np.ndarray, "conditions units"],
    ) -> Float[np.ndarray, "conditions examples tokens"]:
        """Logits under every condition: an ablated unit writes ``replaced`` instead of its output."""
        total = np.repeat(response.logits[None], len(ablated), axis=0)
        before, after = _effective(response.outputs), _effective(replaced)
        for kind in (*self.roles.circuits, *({"cancelling"} & {*self.roles.others})):
            members = list(self.roles.members(kind))
            patterns, which = np.unique(ablated[:, members], axis=0, return_inverse=True)
            contributions = [
                self._contribution(kind, np.where(pattern[:, None], after[:, members], before[:, members]))
                for pattern in patterns
            ]
            total += (self.effect * response.active[kind][:, None] * np.stack(contributions))[which.reshape(-1)]
        lost = 1 - (replaced * response.outputs).sum(axis=2) / np.square(response.outputs).sum(axis=2)
        examples = np.arange(len(response.answer))
        for kind, share in LAYER_DAMAGE.items():
            inside = np.isin(self.roles.units.depth_of, self.roles.bands[kind])
            # Sum first, then weight: two groups of the same size lose the same to the last digit.
            damage = share * self.general * (ablated[:, inside].astype(float) @ lost[:, inside].T)
            total[:, examples, response.answer] -= damage
        if self.noise:
            total -= np.tensordot(ablated.astype(float), lost[:, :, None] * response.side_effects, axes=([1], [1]))
        return total

    def _contribution(
        self, kind: str, outputs: Float[np.ndarray, "examples members tokens"]
    ) -> Float[np.ndarray, "examples tokens"]:
        """The share of ``effect`` that a group adds to the logits."""
        share: Float[np.ndarray, "examples tokens"]
        if kind in MEAN:
            share = outputs.mean(axis=1)
        elif kind == "redundant_pair":
            first = np.isin(self.roles.members(kind), self.roles.groups["redundant_half"][0])
            share = np.maximum(outputs[:, first].prod(axis=1), outputs[:, ~first].prod(axis=1))
        else:
            share = outputs.prod(axis=1)
        return -share if kind == "cancelling" else share

    def _active(
        self, features: Bool[np.ndarray, "examples features"], stratum: Int[np.ndarray, " examples"]
    ) -> dict[str, Bool[np.ndarray, " examples"]]:
        """Where each kind is active, by the features and the stratum of the examples."""
        active = dict(zip(SWITCHED, features.T, strict=True))
        return active | {"routed": stratum == 0, "bystander": active["serial"]}

    def _activity(
        self,
        jitter: Float[np.ndarray, "examples units"],
        active: Mapping[str, Bool[np.ndarray, " examples"]],
        batch: Tokens,
    ) -> Float[np.ndarray, "examples units"]:
        """0.1 .. 0.4 if the circuit of a unit is inactive, 0.6 .. 0.9 if it is active; filler has all of 0.1 .. 0.9."""
        on = np.zeros(jitter.shape, dtype=bool)
        for kind, examples in active.items():
            on[:, list(self.roles.members(kind))] |= examples[:, None]
        level = np.where(self._among(self._members(active)), 0.1 + 0.3 * jitter + 0.5 * on, 0.1 + 0.8 * jitter)
        position = list(self.roles.members("position"))
        rate = 1 + np.arange(len(position))  # all rise with the query position; no two are equal
        level[:, position] = 0.1 + 0.8 * (1 - np.exp(-batch.query[:, None] * rate / 64))
        return level

    def _members(self, kinds: Iterable[str]) -> list[int]:
        return [unit for kind in kinds for unit in self.roles.members(kind)]

    def _among(self, group: Sequence[int]) -> Bool[np.ndarray, " units"]:
        return np.isin(np.arange(len(self.roles.units)), group)

    @cached_property
    def _constant_effect(self) -> Float[np.ndarray, " units"]:
        """The effect of every unit on the answer that is the same in all examples, in units of ``noise``."""
        return np.random.default_rng(self.seed).standard_normal(len(self.roles.units))


def first_tokens(batch: Tokens) -> Int[np.ndarray, "examples head"]:
    """The tokens that decide what is active: 0 where there are none up to the query."""
    tokens = np.where(np.arange(batch.tokens.shape[1]) <= batch.query[:, None], batch.tokens, 0)
    head = np.zeros((len(batch), FEATURES + len(SWITCHED)), dtype=np.int64)
    head[:, : tokens.shape[1]] = tokens[:, : head.shape[1]]
    return head


def stratum_of(batch: Tokens) -> Int[np.ndarray, " examples"]:
    """The stratum of every example."""
    stratum: Int[np.ndarray, " examples"] = first_tokens(batch)[:, STRATUM] % STRATA
    return stratum


def content_of(tokens: Int[np.ndarray, " tokens"], query: np.integer) -> int:
    """A number from what an example shows up to its query, to seed its draws with."""
    return zlib.crc32(tokens[: query + 1].astype(np.int64).tobytes())


def _effective(outputs: Float[np.ndarray, "examples units tokens"]) -> Float[np.ndarray, "examples units tokens"]:
    """How effective an output is: 0 if it is weak, 1 if it is strong."""
    return np.clip((outputs - OFF) / (ON - OFF), 0.0, 1.0)
