"""Parameters of a planted world with routes, and this world as a subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, MultipleOf
from jaxtyping import Float

from harness import Source, SubjectMethod, Tokens, digest_files, rng_for

from .loaded import PlantedSubject
from .roles import Roles
from .routed_world import ROUTES, RoutedWorld


class RoutedSubject(PlantedSubject):
    """A planted world whose routers can be read."""

    world: RoutedWorld
    sources: Mapping[str, str] = {
        **PlantedSubject.sources,
        "router": "probability of each expert of each router [examples, experts, 1]",
    }

    def _values(self, source: Source, batch: Tokens) -> Iterator[tuple[str, Float[np.ndarray, "examples units _"]]]:
        if source != "router":
            yield from super()._values(source, batch)
            return
        probabilities = self.world.router(batch)
        for layer in range(probabilities.shape[1]):
            yield f"L{layer}.router", probabilities[:, layer, :, None]


@dataclass(frozen=True)
class PlantedRoutes(SubjectMethod):
    r"""Planted circuits that work on one route each, as the closure paper expects in a mixture of experts.

    .. math:: z_y = b + e\,[\text{feature}_r(x)] \prod_{u \in C_r} a_u(x) - \sum_u (1 - k_u)\,(d_{\text{layer}(u)} +
        \nu_u(x)), \qquad r = r(x)

    Every example x has one of four routes r (the second token modulo 4; property ``stratum`` of batch=planted). Circuit
    :math:`C_r` (labels ``route 0`` .. ``route 3``) adds to the answer on its route alone, in the half of the examples
    with its feature, and needs all of its units. a is 1 where a unit is on, else 0. The other terms are those of
    subject planted, and so are the decoys early and late. Removing any part of a circuit costs e in these examples,
    and exactly nothing on other routes.

    Units of a circuit are on together on their own route only. On other routes they are like every other unit: on in a
    random half of the routes. So over all examples those units go together that the same routes switch, although they
    have no common effect. On one route nothing goes together but its circuit, and the units of each decoy.

    Three routers of eight experts tell the route: each raises the logits of two experts by 2. All logits have noise.

    With ``routed=false`` nothing depends on the route but the routers: circuits work on all routes, and other units are
    independent. It is a null for whatever divides examples by routes.

    Errors: too few units in a layer for the groups.
    """

    name: ClassVar[str] = "planted_routes"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {"batch": "planted", "labels": "truth"}
    seed: Annotated[int, Ge(0)] = field(
        default=0, metadata={"help": "seed of the roles and of the noise of every example"}
    )
    layers: Annotated[int, Ge(6)] = field(default=12, metadata={"help": "number of layers"})
    width: int = field(default=10, metadata={"help": "units per layer: twice group_size or more"})
    answers: Annotated[int, Ge(4), MultipleOf(4)] = field(
        default=12,
        metadata={"help": "number of tokens, each a possible answer; a multiple of 4, so that routes are equal"},
    )
    group_size: Annotated[int, Ge(2)] = field(default=4, metadata={"help": "units in a planted group"})
    effect: Annotated[float, Ge(0)] = field(
        default=2.0, metadata={"help": "logits that a complete circuit adds to the answer"}
    )
    general: Annotated[float, Ge(0)] = field(
        default=0.5, metadata={"help": "logits that a unit of the first layers adds to any answer"}
    )
    bias: float = field(default=1.0, metadata={"help": "logit of the answer if no circuit is active"})
    noise: Annotated[float, Ge(0)] = field(
        default=0.05, metadata={"help": "standard deviation of the side effects of a unit, in logits"}
    )
    routed: bool = field(default=True, metadata={"help": "whether units and answers depend on the route"})
    router_noise: Annotated[float, Ge(0)] = field(
        default=1.0, metadata={"help": "standard deviation of the logits of the routers"}
    )

    def __call__(self) -> RoutedSubject:
        rng = rng_for(self.seed, "roles")
        roles = Roles.assign(self.layers, self.width, self.group_size, 0, rng, circuits=ROUTES, others=())
        world = RoutedWorld(
            roles,
            self.answers,
            self.effect,
            self.general,
            self.bias,
            self.noise,
            self.seed,
            self.routed,
            self.router_noise,
        )
        circuits = {kind: list(roles.units.names(roles.members(kind))) for kind in roles.circuits}
        return RoutedSubject(world, {"architecture": self.name, **asdict(self), "circuits": circuits})

    def fingerprint(self) -> str:
        """Digest of the code of the world, so that results of other rules are never reused."""
        return digest_files(*sorted(Path(__file__).parent.glob("*.py")))
