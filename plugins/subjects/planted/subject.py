"""Parameters of a planted world."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from harness_plugins.subjects.planted.at_work import PlantedSubject
from harness_plugins.subjects.planted.roles import READ, Roles
from harness_plugins.subjects.planted.world import World

from harness import HarnessError, digest_files, hookimpl, rng_for


@dataclass(frozen=True)
class Planted:
    r"""Units whose causal roles are known by construction, to measure the harness itself.

    .. math:: z_y = b + e \sum_g \text{on}_g(x)\, c_g(x) - \sum_u (1 - k_u)\,(d_{\text{layer}(u)} + \nu_u(x))

    with y the answer, e the effect, :math:`k_u` how much of its output unit u keeps, :math:`\nu_u` its own small effect
    (one part the same on all examples, one drawn for each, on other tokens too) and d the general damage of its layer:
    ``general`` in the first sixth of the layers, a fifth of it in the last sixth, else none. Other tokens' logits are
    drawn per example. Each kind has one group of ``group_size``:

    - serial: c is the product over members, so that any missing one kills it; parallel: the mean;
    - redundant_pair: the better of two halves, each a product; routed: the mean, in one stratum (of four);
    - cancelling: minus the mean, its removal helps; bystander: active when serial is, read by nobody;
    - position: active by the query position alone; early, late: do the damage of their layers, as any units there do.

    All other units are filler. The verdicts that the kinds deserve without noise and overlap: pass for the first four
    (routed also weak_pass), null for a redundant half, bystander and position, wrong_direction for cancelling,
    not_specific for early and late.

    An example says in its tokens what is called for: the first modulo ``answers`` is the answer, the second modulo 4
    the stratum, the parity of those that follow switches each circuit. Tokens as such mean nothing else.

    Errors: too few layers or units for the roles, sizes and shares that make no sense.
    """

    name: ClassVar[str] = "planted"
    seed: int = field(default=0, metadata={"help": "which units play what, and every example's noise"})
    layers: int = field(default=12, metadata={"help": "layers: 6 or more"})
    width: int = field(default=10, metadata={"help": "units per layer: twice group_size or more"})
    answers: int = field(default=12, metadata={"help": "tokens, each a possible answer; even"})
    group_size: int = field(default=4, metadata={"help": "units of a planted group"})
    effect: float = field(default=2.0, metadata={"help": "what a whole circuit adds to the answer, in logits"})
    general: float = field(
        default=0.5, metadata={"help": "what a unit of the first layers adds to any answer, in logits"}
    )
    bias: float = field(default=1.0, metadata={"help": "logit of the answer where no circuit is called for"})
    noise: float = field(default=0.05, metadata={"help": "spread of every unit's own effects, in logits; 0: none"})
    overlap: float = field(default=0.0, metadata={"help": "share of its units that a circuit has from the one before"})

    def __post_init__(self) -> None:
        if self.answers < 4 or self.answers % 2:
            raise HarnessError(f"subject.answers={self.answers}: it must be even (features are parities), 4 or more.")
        if self.group_size < 2:
            raise HarnessError(f"subject.group_size={self.group_size}: a group has two units or more.")
        if min(self.noise, self.effect, self.general, self.seed) < 0:
            raise HarnessError(
                f"subject.effect={self.effect}, subject.general={self.general}, subject.noise={self.noise}, "
                f"subject.seed={self.seed}: none can be negative."
            )
        if not 0 <= self.overlap <= 0.5:
            raise HarnessError(f"subject.overlap={self.overlap}: a share of a group, from 0 to 0.5.")

    def __call__(self) -> PlantedSubject:
        shared = round(self.overlap * self.group_size)
        roles = Roles.dealt(self.layers, self.width, self.group_size, shared, rng_for(self.seed, "roles"))
        world = World(roles, self.answers, self.effect, self.general, self.bias, self.noise, self.seed)
        circuits = {kind: list(roles.units.names(roles.members(kind))) for kind in READ}
        return PlantedSubject(world, {"architecture": "planted", **asdict(self), "circuits": circuits})

    def fingerprint(self) -> str:
        """The rules of the world: a result of other rules is not served."""
        return digest_files(*sorted(Path(__file__).parent.glob("*.py")))


@hookimpl
def harness_subjects() -> list[type[Planted]]:
    return [Planted]
