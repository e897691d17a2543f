"""Parameters of a planted world."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Le, MultipleOf
from harness_plugins.subjects.planted.loaded import PlantedSubject
from harness_plugins.subjects.planted.roles import Roles
from harness_plugins.subjects.planted.world import World

from harness import SubjectMethod, digest_files, rng_for


@dataclass(frozen=True)
class Planted(SubjectMethod):
    r"""Units whose causal roles are known by construction, to measure the harness itself.

    .. math:: z_y = b + e \sum_g \text{on}_g(x)\, c_g(x) - \sum_u (1 - k_u)\,(d_{\text{layer}(u)} + \nu_u(x))

    y is the answer, b the ``bias`` and e the ``effect``. :math:`k_u` is the share of its output that unit u keeps.
    :math:`\nu_u` is a small side effect of unit u: one part is the same in all examples, one part is drawn per example,
    also for other tokens. d is the damage of a layer: ``general`` in the first sixth of the layers, a fifth of it in
    the last sixth, else 0. The logits of other tokens are drawn per example. Each kind has one group of ``group_size``
    units:

    - serial: c is the product over members, so removing any member removes all of it; parallel: c is the mean;
    - redundant_pair: the larger of two halves, each a product; routed: the mean, in one of four strata;
    - cancelling: minus the mean, so its removal helps; bystander: active with serial, without any effect;
    - position: its activity depends only on the query position; early, late: the damage of their layers, like any other
      units there.

    All other units are filler. Without noise and overlap, a correct closure test gives pass to the first four kinds
    (weak_pass is possible for routed), null to a redundant half, bystander and position, wrong_direction to cancelling,
    and not_specific to early and late.

    The tokens of an example set what is active. The first token modulo ``answers`` is the answer, the second modulo 4
    is the stratum, and the parity of each following token switches one circuit. Tokens have no other meaning.

    Errors: too few units in a layer for the groups.
    """

    name: ClassVar[str] = "planted"
    seed: Annotated[int, Ge(0)] = field(
        default=0, metadata={"help": "seed of the roles and of the noise of every example"}
    )
    layers: Annotated[int, Ge(6)] = field(default=12, metadata={"help": "number of layers"})
    width: int = field(default=10, metadata={"help": "units per layer: twice group_size or more"})
    answers: Annotated[int, Ge(4), MultipleOf(2)] = field(
        default=12, metadata={"help": "number of tokens, each a possible answer; even, because features are parities"}
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
    overlap: Annotated[float, Ge(0), Le(0.5)] = field(
        default=0.0, metadata={"help": "share of its units that a circuit has in common with the previous one"}
    )

    def __call__(self) -> PlantedSubject:
        shared = round(self.overlap * self.group_size)
        roles = Roles.assign(self.layers, self.width, self.group_size, shared, rng_for(self.seed, "roles"))
        world = World(roles, self.answers, self.effect, self.general, self.bias, self.noise, self.seed)
        circuits = {kind: list(roles.units.names(roles.members(kind))) for kind in roles.circuits}
        return PlantedSubject(world, {"architecture": "planted", **asdict(self), "circuits": circuits})

    def fingerprint(self) -> str:
        """Digest of the code of the world, so that results of other rules are never reused."""
        return digest_files(*sorted(Path(__file__).parent.glob("*.py")))
