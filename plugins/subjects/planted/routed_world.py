"""A planted world with routes: on each route another circuit adds to the answer, and routes switch all other units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from harness import Tokens, rng_for

from .roles import DECOYS
from .world import STRATA, World, content_of, stratum_of

ROUTES = tuple(f"route {route}" for route in range(STRATA))  # the kinds of the circuits
ROUTERS, EXPERTS = 3, 2 * STRATA  # routers, and experts of each: two for every route
PREFERENCE = 2.0  # logits by which a router prefers the experts of the route


@dataclass(frozen=True)
class RoutedWorld(World):
    """The rules of a world with routes. Without ``routed``, nothing but the routers knows the route."""

    routed: bool = True
    router_noise: float = 1.0

    def router(self, batch: Tokens) -> Float[np.ndarray, "examples routers experts"]:
        """The probabilities that every router gives its experts at the query, drawn for each example."""
        noise = np.empty((len(batch), ROUTERS, EXPERTS))
        for i, (row, query) in enumerate(zip(batch.tokens, batch.query, strict=True)):
            noise[i] = np.random.default_rng([self.seed, content_of(row, query), 1]).standard_normal(noise.shape[1:])
        weights = np.exp(PREFERENCE * self._preferred[stratum_of(batch)] + self.router_noise * noise)
        probabilities: Float[np.ndarray, "examples routers experts"] = weights / weights.sum(axis=2, keepdims=True)
        return probabilities

    def _active(
        self, features: Bool[np.ndarray, "examples features"], stratum: Int[np.ndarray, " examples"]
    ) -> dict[str, Bool[np.ndarray, " examples"]]:
        active = dict(zip((*ROUTES, *DECOYS), features.T, strict=True))
        return active | {kind: active[kind] & here for kind, here in self._where(stratum).items()}

    def _activity(
        self,
        jitter: Float[np.ndarray, "examples units"],
        active: Mapping[str, Bool[np.ndarray, " examples"]],
        batch: Tokens,
    ) -> Float[np.ndarray, "examples units"]:
        """As without routes; but a route switches every unit, except those of its own circuit."""
        route = stratum_of(batch)
        on = self._up[route]
        for kind, examples in active.items():
            members = list(self.roles.members(kind))
            here = self._where(route).get(kind, np.ones(len(route), dtype=bool))
            on[:, members] = np.where(here[:, None], examples[:, None], on[:, members])
        switched = self.routed | self._among(self._members(active))
        return np.where(switched, 0.1 + 0.3 * jitter + 0.5 * on, 0.1 + 0.8 * jitter)

    def _where(self, route: Int[np.ndarray, " examples"]) -> dict[str, Bool[np.ndarray, " examples"]]:
        """The examples on which each circuit can add to the answer."""
        return {kind: route == i if self.routed else route >= 0 for i, kind in enumerate(ROUTES)}

    @cached_property
    def _up(self) -> Bool[np.ndarray, "routes units"]:
        """The routes that switch a unit on: a random half of them."""
        rng = rng_for(self.seed, "routes that switch a unit on")
        halves = np.tile(np.arange(STRATA) < STRATA // 2, (len(self.roles.units), 1))
        return rng.permuted(halves, axis=1).T

    @cached_property
    def _preferred(self) -> Bool[np.ndarray, "routes routers experts"]:
        """The experts that a router prefers on each route."""
        rng = rng_for(self.seed, "experts of routes")
        route_of = rng.permuted(np.tile(np.arange(EXPERTS) % STRATA, (ROUTERS, 1)), axis=1)
        preferred: Bool[np.ndarray, "routes routers experts"] = route_of == np.arange(STRATA)[:, None, None]
        return preferred
