"""Which work of a pass conditions can share in a given model. :mod:`harness.engine.branching` explains the parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Shared:
    """The parts of the work that conditions share."""

    trunk: bool = True
    inside: bool = True
    tail: bool = True
    past: bool = True

    @property
    def words(self) -> list[str]:
        """The names of these parts, for a record."""
        parts = {"trunk": self.trunk, "inside": self.inside, "tail": self.tail, "past": self.past}
        return [name for name, shared in parts.items() if shared]


EVERYTHING = Shared()
NOTHING = Shared(trunk=False, inside=False, tail=False, past=False)


def most_shared(works: Callable[[Shared], bool], limit: Shared) -> Shared:
    """The most that conditions can share within a limit; ``works`` tells whether logits stay the same.

    Almost all models allow everything. The exceptions: the output's shape follows the input's, or there are no
    ``position_ids``.
    """
    tries = (limit, replace(limit, tail=False), replace(limit, tail=False, inside=False))
    shared = next(filter(works, (replace(shared, past=False) for shared in tries)), NOTHING)
    return replace(shared, past=limit.past and works(replace(shared, past=True)))
