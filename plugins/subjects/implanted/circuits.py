"""The circuits that are implanted: which heads look up what, for every task of every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from harness import rng_for

LAYERS, HEADS = 4, 12
KEYS, VALUES = 8, 16

Model = Literal["separate", "shared", "large"]
Task = Literal["serial", "parallel", "backup"]
MODELS: tuple[Model, ...] = get_args(Model)
TASKS: tuple[Task, ...] = get_args(Task)
SEEDS = (0, 1)

Head = tuple[int, int]
"""A layer, and a head of it."""


@dataclass(frozen=True)
class Reader:
    """A head of a circuit: it attends to the tokens of a key, and carries these bits of the key's value."""

    name: str
    layer: int
    bits: tuple[int, ...]


@dataclass(frozen=True)
class Circuit:
    """The lookups of a task, each by several readers. A bit of a value is known while one of its readers works.

    ``chained``: the value of a lookup says the key of the next one, and the last value is the answer. Otherwise, lookup
    ``i`` is of the key that is ``4 i`` after that of the query, and the answer has the bits of all.
    """

    lookups: tuple[tuple[Reader, ...], ...]
    chained: bool = False

    @property
    def readers(self) -> tuple[Reader, ...]:
        return tuple(reader for lookup in self.lookups for reader in lookup)

    @property
    def width(self) -> int:
        """Bits of a value that are in the answer."""
        return 4 if self.chained or len(self.lookups) == 1 else 3

    @property
    def answers(self) -> int:
        """How many answers there are."""
        return VALUES if self.chained else 2 ** (self.width * len(self.lookups))


def _readers(name: str, layer: int, *bits: tuple[int, ...]) -> tuple[Reader, ...]:
    return tuple(Reader(f"{name}{place}", layer, these) for place, these in enumerate(bits))


KEY, PAIR, EACH = ((0, 1), (2,)), ((0, 1), (2, 3)), ((0,), (1,), (2,), (3,))
"""How readers divide the three bits of a key, or the four bits of a value."""

_FIRST, _LAST = _readers("first", 1, *PAIR), _readers("last", 3, *EACH)

CIRCUITS: Mapping[Model, Mapping[Task, Circuit]] = {
    "separate": {
        "serial": Circuit((_readers("first", 1, *KEY), _readers("last", 3, *PAIR)), chained=True),
        "parallel": Circuit((_readers("bit", 2, *EACH),)),
        "backup": Circuit((_readers("main", 0, *PAIR) + _readers("spare", 1, *PAIR),)),
    },
    "shared": {
        "serial": Circuit((_FIRST, _LAST), chained=True),
        "parallel": Circuit((_LAST,)),
        "backup": Circuit((_FIRST + _readers("spare", 2, *PAIR),)),
    },
    "large": {
        "serial": Circuit(
            (_readers("first", 1, *KEY), _readers("next", 2, *KEY), _readers("last", 3, *PAIR)), chained=True
        ),
        "parallel": Circuit((_readers("low", 2, (0,), (1,), (2,)), _readers("high", 3, (0,), (1,), (2,)))),
        "backup": Circuit((_readers("main", 0, *EACH) + _readers("spare", 1, *EACH),)),
    },
}
"""``separate``: no head is in two circuits. ``shared``: the heads of ``serial`` are also in the others. ``large``:
circuits of 6 and 8 heads."""

DECOYS = 4
"""Decoys of a lookup at most: a reader has one or none."""
BYSTANDERS = (1, 2, 3)
"""How far after the key of the query the key is that a bystander attends to. No task asks for it."""


@dataclass(frozen=True)
class Layout:
    """Where the heads of a model are. ``readers`` and ``decoys``: by task and reader. ``bystanders``: by offset."""

    readers: Mapping[Task, Mapping[Reader, Head]]
    decoys: Mapping[Task, Mapping[Reader, Head]]
    bystanders: Mapping[int, Head]

    def circuit(self, task: Task) -> tuple[Head, ...]:
        """The heads that a task needs."""
        return tuple(sorted(self.readers[task].values()))

    def decoys_of(self, task: Task) -> tuple[Head, ...]:
        """The heads that attend as those of the circuit do, and carry nothing."""
        return tuple(sorted(self.decoys[task].values()))


def layout(model: Model, seed: int) -> Layout:
    """Random places within the layers: another seed has its circuits at other heads."""
    rng = rng_for(seed, f"implanted heads of {model}")
    free = [iter(rng.permutation(HEADS).tolist()) for _ in range(LAYERS)]
    placed: dict[tuple[str, Reader], Head] = {}

    def place(kind: str, task: Task, reader: Reader) -> Head:
        own = f"{kind} of {'all' if model == 'shared' else task}", reader
        if own not in placed:
            placed[own] = reader.layer, next(free[reader.layer])
        return placed[own]

    circuits = CIRCUITS[model]
    readers = {task: {r: place("reader", task, r) for r in circuit.readers} for task, circuit in circuits.items()}
    decoys = {
        task: {r: place("decoy", task, r) for lookup in circuit.lookups for r in lookup[:DECOYS]}
        for task, circuit in circuits.items()
    }
    bystanders = {offset: (layer, next(free[layer])) for layer, offset in enumerate(BYSTANDERS, start=1)}
    return Layout(readers, decoys, bystanders)


def unit_name(head: Head) -> str:
    """The label of a head as a unit."""
    layer, number = head
    return f"L{layer}H{number}"
