"""Compiled programs side by side in one causal transformer: each reads and writes a stream of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor, nn

from harness.data.recording import SOURCES
from harness.engine.sites import Site, Values

from .programs import ANSWERS, LONGEST, NAMES, SYMBOLS, Name

WEIGHTS = Path(__file__).parent / "weights"
FIRST_LAYER: Mapping[Name, int] = {"reverse": 1, "hist": 1, "count": 0, "same_ends": 3}
"""Where a program begins, if not at layer 0: so that every circuit has a hundred groups of its profile or more."""
SURE, NEVER = 10.0, -10.0
"""The logit of the answer, where the other answers have 0; and that of tokens which are no answer of the program."""

Part = dict[str, Tensor]
"""The weights of a head or of an MLP, by name."""


@dataclass(frozen=True)
class Compiled:
    """The weights of one program: ``parts`` by layer and name, such as ``(1, "H0")`` or ``(0, "mlp")``."""

    name: Name
    tokens: Float[Tensor, "brackets width"]
    positions: Float[Tensor, "places width"]
    answers: Float[Tensor, "width answers"]
    parts: Mapping[tuple[int, str], Part]

    @classmethod
    def read(cls, name: Name) -> Compiled:
        """The shipped weights."""
        parts: dict[tuple[int, str], Part] = {}
        with safe_open(WEIGHTS / f"{name}.safetensors", "pt") as file:
            assert json.loads(file.metadata()["answers"]) == [*ANSWERS[name]]
            for key in sorted(file.keys()):
                if key.startswith("L"):
                    layer, unit, part = key.split(".")
                    place = FIRST_LAYER.get(name, 0) + int(layer[1:]), unit
                    parts.setdefault(place, {})[part] = file.get_tensor(key)
            tokens, positions, answers = (file.get_tensor(key) for key in ("tokens", "positions", "answers"))
        return cls(name, tokens, positions, answers, parts)


def stacked(parts: Sequence[Tensor], *size: int) -> Float[Tensor, "parts ..."]:
    """Tensors in one, filled with zeros to a common size."""
    whole = torch.zeros(len(parts), *size)
    for place, part in enumerate(parts):
        whole[place][tuple(slice(length) for length in part.shape)] = part
    return whole


class Sublayer(nn.Module):
    """Heads or MLPs of one layer, each of which hands on ``inner`` numbers. ``owner``: the program of each; ``labels``:
    what each is called."""

    kind: ClassVar[str]

    def __init__(self, units: Sequence[tuple[str, int, Part]], programs: int, width: int, inner: int) -> None:
        super().__init__()
        self.labels = [label for label, _, _ in units]
        self.programs, self.width = programs, width
        self.register_buffer("owner", torch.tensor([owner for _, owner, _ in units], dtype=torch.long))
        self.write = Write(stacked([part["out"] for *_, part in units], inner, width), self.owner, programs)

    owner: Int[Tensor, " units"]
    write: Write

    def read(self, stream: Float[Tensor, "rows places stream"]) -> Float[Tensor, "rows places units width"]:
        """The stream of each unit's program."""
        return stream.reshape(*stream.shape[:-1], self.programs, self.width).index_select(-2, self.owner)


class Write(nn.Module):
    """Adds up what units hand on, each into the stream of its program: [rows, places, programs * width]."""

    out: Float[Tensor, "units inner width"]
    owner: Int[Tensor, " units"]

    def __init__(self, out: Float[Tensor, "units inner width"], owner: Int[Tensor, " units"], programs: int) -> None:
        super().__init__()
        self.programs = programs
        self.register_buffer("out", out)
        self.register_buffer("owner", owner)

    def forward(
        self,
        values: Float[Tensor, "rows places units inner"],
        attention: Float[Tensor, "rows places units keys"] | None = None,  # noqa: ARG002  # for readers of this module's inputs
    ) -> Float[Tensor, "rows places stream"]:
        """The sum of all units."""
        return self.written(values, torch.arange(len(self.owner), device=values.device))

    def written(
        self, values: Float[Tensor, "rows *places chosen inner"], units: Int[Tensor, " chosen"]
    ) -> Float[Tensor, "rows *places stream"]:
        """The sum of these units."""
        each = torch.einsum("...ui,uiw->...uw", values, self.out[units])
        stream = each.new_zeros(*each.shape[:-2], self.programs, each.shape[-1])
        return stream.index_add(-2, self.owner[units], each).flatten(-2)


class Heads(Sublayer):
    """Causal attention without biases; the scale is part of the query weights."""

    kind = "head"
    query: Float[Tensor, "units width matched"]
    key: Float[Tensor, "units width matched"]
    value: Float[Tensor, "units width inner"]

    def __init__(self, units: Sequence[tuple[str, int, Part]], programs: int, width: int, inner: int) -> None:
        super().__init__(units, programs, width, inner)
        matched = max((part["query"].shape[1] for *_, part in units), default=0)
        for name, size in (("query", matched), ("key", matched), ("value", inner)):
            self.register_buffer(name, stacked([part[name] for *_, part in units], width, size))

    def forward(self, stream: Float[Tensor, "rows places stream"]) -> Float[Tensor, "rows places stream"]:
        """What all heads write."""
        own = self.read(stream)
        query, key, value = (
            torch.einsum("rpuw,uwi->rupi", own, weight) for weight in (self.query, self.key, self.value)
        )
        later = torch.ones(stream.shape[1], stream.shape[1], dtype=torch.bool, device=stream.device).triu(1)
        scores = (query @ key.transpose(-1, -2)).masked_fill(later, -torch.inf)
        attention = scores.softmax(-1)
        written: Tensor = self.write((attention @ value).transpose(1, 2), attention.transpose(1, 2))
        return written


class Mlps(Sublayer):
    """ReLU neurons, in groups."""

    kind = "mlp"
    enter: Float[Tensor, "units width inner"]
    bias: Float[Tensor, "units inner"]

    def __init__(self, units: Sequence[tuple[str, int, Part]], programs: int, width: int, inner: int) -> None:
        super().__init__(units, programs, width, inner)
        self.register_buffer("enter", stacked([part["in"] for *_, part in units], width, inner))
        self.register_buffer("bias", stacked([part["bias"] for *_, part in units], inner))

    def forward(self, stream: Float[Tensor, "rows places stream"]) -> Float[Tensor, "rows places stream"]:
        """What all MLPs write."""
        inner = torch.einsum("rpuw,uwi->rpui", self.read(stream), self.enter) + self.bias
        written: Tensor = self.write(inner.relu())
        return written


class Layer(nn.Module):
    """Heads, then MLPs; each adds to the stream."""

    def __init__(self, heads: Heads, mlps: Mlps) -> None:
        super().__init__()
        self.heads, self.mlps = heads, mlps

    def forward(self, stream: Float[Tensor, "rows places stream"]) -> Float[Tensor, "rows places stream"]:
        """The stream after this layer."""
        for sublayer in (self.heads, self.mlps):
            if sublayer.labels:
                stream = stream + sublayer(stream)
        return stream


class Programs(nn.Module):
    """All programs on the same tokens; the logits are those of one of them: [rows, places, symbols]."""

    tokens: Float[Tensor, "symbols stream"]
    positions: Float[Tensor, "places stream"]
    unembedding: Float[Tensor, "stream symbols"]
    bias: Float[Tensor, " symbols"]

    def __init__(self, program: Name) -> None:
        super().__init__()
        compiled = [Compiled.read(name) for name in NAMES]
        width, depth = max(one.tokens.shape[1] for one in compiled), 1 + max(max(one.parts)[0] for one in compiled)
        tokens = [torch.cat([one.tokens, one.tokens.new_zeros(len(SYMBOLS) - len(one.tokens), one.tokens.shape[1])])
                  for one in compiled]  # fmt: skip
        self.register_buffer("tokens", stacked(tokens, len(SYMBOLS), width).transpose(0, 1).flatten(1))
        positions = stacked([one.positions for one in compiled], LONGEST + 1, width)
        self.register_buffer("positions", positions.transpose(0, 1).flatten(1))
        units = {kind: [_units(compiled, layer, kind) for layer in range(depth)] for kind in ("head", "mlp")}
        inner = {kind: max(len(part["out"]) for layer in units[kind] for *_, part in layer) for kind in units}
        self.layers = nn.ModuleList(
            Layer(
                Heads(units["head"][layer], len(NAMES), width, inner["head"]),
                Mlps(units["mlp"][layer], len(NAMES), width, inner["mlp"]),
            )
            for layer in range(depth)
        )
        asked, symbols = compiled[NAMES.index(program)], [SYMBOLS.index(answer) for answer in ANSWERS[program]]
        self.register_buffer("unembedding", torch.zeros(len(NAMES), width, len(SYMBOLS)))
        self.unembedding[NAMES.index(program), : len(asked.answers), symbols] = SURE * asked.answers
        self.register_buffer("bias", torch.full((len(SYMBOLS),), NEVER))
        self.bias[symbols] = 0.0

    def forward(self, ids: Int[Tensor, "rows places"]) -> Float[Tensor, "rows places symbols"]:
        """Logits at every place."""
        stream = self.tokens[ids] + self.positions[: ids.shape[1]]
        for layer in self.layers:
            stream = layer(stream)
        return stream @ self.unembedding.flatten(0, 1) + self.bias


def _units(compiled: Sequence[Compiled], layer: int, kind: str) -> list[tuple[str, int, Part]]:
    """Heads or MLPs of a layer: what each is called, the place of its program, and its weights."""
    return [
        (f"L{layer}.{one.name}.{unit}", owner, part)
        for owner, one in enumerate(compiled)
        for (place, unit), part in sorted(one.parts.items())
        if place == layer and (unit == "mlp") == (kind == "mlp")
    ]


class Handed(Site):
    """Units of a :class:`Write`: what each hands on before its output weights."""

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:  # noqa: ARG002
        """The input of the module."""
        return inputs[0]

    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:
        """The output, and the change times the output weights of these units."""
        assert isinstance(self.module, Write)
        return output + self.module.written(change, units)


class Attending(Handed):
    """Heads, whose attention can be read too, and what they hand on under its name for heads."""

    sources: ClassVar[Mapping[str, str]] = {name: SOURCES[name] for name in ("attention", "head_output")}

    def reading(self, source: str, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """The attention weights, or what heads hand on."""
        return inputs[1] if source == "attention" else self.values(inputs, output)
