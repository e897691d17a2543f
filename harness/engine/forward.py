"""How any torch module is run: examples to tensors, and the outputs at the query, for token ids and for vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.batch import Batch, Reads, Vocabulary, Width
from harness.data.tokens import Tokens
from harness.data.vectors import Vectors
from harness.engine.batching import at_query, tensors, unembedding_only
from harness.engine.budget import Budget
from harness.engine.evaluation import allowed_memory, fastest_on
from harness.engine.sites import tensor_in
from harness.util.errors import HarnessError

_SAMPLE_TOKENS = 6


@dataclass(frozen=True, eq=False)
class Forward:
    """A module that takes token ids [rows, positions] or vectors [rows, inputs] and returns its outputs.

    Outputs are [rows, outputs], or [rows, positions, outputs], of which those at the query are taken; as a tensor or as
    ``.logits``. Of a Hugging Face model, logits are computed at the query only.
    """

    model: nn.Module
    reads: Reads
    label: str

    @property
    def has_positions(self) -> bool:
        """Whether examples are sequences."""
        return isinstance(self.reads, Vocabulary)

    @cached_property
    def device(self) -> torch.device:
        """Where examples have to be: the device of the first parameter, or of the token embeddings."""
        if isinstance(self.model, PreTrainedModel):
            return next(self.model.get_input_embeddings().parameters()).device
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    @cached_property
    def dtype(self) -> torch.dtype:
        """The precision of vectors: that of the first parameter."""
        floating = (parameter.dtype for parameter in self.model.parameters() if parameter.is_floating_point())
        return next(floating, torch.float32)

    def tensors(self, part: Batch) -> tuple[Num[Tensor, "examples _"], Int[Tensor, " examples"]]:
        """The content of examples (tokens are cut after the longest query), and their query positions."""
        if isinstance(part, Tokens):
            content, query, _ = tensors(part, self.device)
            return content, query
        assert isinstance(part, Vectors)  # Batch.check has refused other kinds
        query = torch.zeros(len(part), dtype=torch.long, device=self.device)
        return torch.from_numpy(part.inputs).to(self.device, self.dtype), query

    def sample(self, n: int) -> tuple[Num[Tensor, "examples _"], Int[Tensor, " examples"]]:
        """A few different examples, to try the module with."""
        if isinstance(self.reads, Vocabulary):
            length = min(_SAMPLE_TOKENS, self.reads.context)
            ids = torch.arange(n * length, device=self.device).reshape(n, length) % self.reads.vocab_size
            return ids, (length - 1 - torch.arange(n, device=self.device)).clamp(min=0)
        if not isinstance(self.reads, Width):
            raise HarnessError(
                f"{self.label}: nothing says what the module reads.",
                "Give reads=Vocabulary(vocab_size, context) for token ids, or Width(inputs, outputs) for vectors.",
            )
        steps = torch.linspace(-1, 1, n * self.reads.inputs, dtype=self.dtype, device=self.device)
        return steps.reshape(n, self.reads.inputs), torch.zeros(n, dtype=torch.long, device=self.device)

    def __call__(
        self, content: Num[Tensor, "rows _"], query: Int[Tensor, " examples"]
    ) -> Float[Tensor, "all_rows outputs"]:
        """The outputs at the query. Hooks may add rows on the way: multiples of the examples, in their order.

        Errors: an output of another shape.
        """

        def queries(rows: Tensor) -> Tensor:
            return query.to(rows.device).repeat(len(rows) // len(query))

        if self._unembeds:
            with unembedding_only(self.model, lambda hidden: at_query(hidden, queries(hidden))):  # type: ignore[arg-type]  # _unembeds: it is a PreTrainedModel
                logits: Tensor = self.model(content, use_cache=False).logits
            return logits[:, 0]
        outputs = self.model(content)
        outputs = getattr(outputs, "logits", outputs)
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 + self.has_positions:
            shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            expected = "[rows, positions, outputs]" if self.has_positions else "[rows, outputs]"
            raise HarnessError(
                f"{self.label}: the module returns {shape}, not {expected}.",
                "Wrap it in a module that returns its outputs as one tensor (or as .logits).",
            )
        return at_query(outputs, queries(outputs))[:, 0] if self.has_positions else outputs

    def trunk(self, content: Num[Tensor, "rows _"], query: Int[Tensor, " examples"]) -> None:
        """The same pass for what hooks see of it: of a Hugging Face model, without logits."""
        if self._unembeds:
            self.model.base_model(content, use_cache=False)  # type: ignore[operator]  # a PreTrainedModel
        else:
            self(content, query)

    @property
    def _unembeds(self) -> bool:
        return isinstance(self.model, PreTrainedModel) and self.model.get_output_embeddings() is not None


@dataclass(frozen=True)
class Measured:
    """What a trial pass shows: numbers that the widest module gives per position, and the number of outputs."""

    widest: int
    outputs: int
    itemsize: int
    device: torch.device

    @classmethod
    def of(cls, forward: Forward, modules: Mapping[str, nn.Module]) -> Measured:
        """Run a few examples.

        Errors: a module of a site that does not run exactly once; other outputs than ``reads`` says.
        """
        content, query = forward.sample(2)
        places = content.shape[1] if forward.has_positions else 1
        calls: Counter[nn.Module] = Counter()
        widths = [1]

        def watch(module: nn.Module, _: Any, output: Any) -> None:
            calls[module] += 1
            parts = output if isinstance(output, tuple | list) else [output]
            widths.extend(part.numel() // (2 * places) for part in parts if isinstance(part, Tensor))

        with ExitStack() as stack:
            for module in forward.model.modules():
                stack.callback(module.register_forward_hook(watch).remove)
            outputs = forward(content, query).shape[1]
        for name, module in modules.items():
            if calls[module] != 1:
                raise HarnessError(
                    f"{forward.label}: the module of site {name} runs {calls[module]} times in a pass, not once.",
                    "Choose a module that runs once: its units are recorded and ablated where it runs.",
                )
        if isinstance(forward.reads, Width) and outputs != forward.reads.outputs:
            raise HarnessError(
                f"{forward.label}: the module returns {outputs} outputs; {forward.reads.outputs} were declared.",
                f"Give reads=Width({forward.reads.inputs}, {outputs}).",
            )
        return cls(max(widths[:-1], default=1), outputs, forward.dtype.itemsize, forward.device)

    def budget(self, memory: str) -> Budget:
        """The largest pass. Errors: an amount of memory that cannot be read."""
        return Budget.of(
            allowed_memory(memory, self.device), fastest_on(self.device), self.itemsize, self.widest, self.widest,
            vocabulary=self.outputs,
        )  # fmt: skip


def by_row(
    args: Sequence[Any], kwargs: Mapping[str, Any], output: Any, rows: int, has_positions: bool, returned: int = 0
) -> tuple[tuple[Tensor, ...], Tensor]:
    """A module's inputs and its output [rows, *places, width].

    Inputs are the tensors among its arguments that have the rows and places of its output. The blocks of language
    models take others as well: masks [rows, 1, positions, positions], angles of positions. In experts, and in OPT's
    MLP, rows and positions are one dimension. ``has_positions``: examples are sequences, possibly of one position.
    ``returned``: which of several tensors is the output.
    """
    given = tensor_in(output, returned)
    flat = len(given) != rows or (has_positions and given.ndim == 2)

    def unflattened(values: Tensor) -> Tensor:
        return values.reshape(rows, -1, *values.shape[1:]) if flat else values

    result = unflattened(given)
    shared = result.shape[: min(2, result.ndim - 1)]
    tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim)
    inputs = (unflattened(value) for value in tensors if len(value) % rows == 0)
    return tuple(value for value in inputs if value.shape[: len(shared)] == shared), result


def with_result(output: Any, result: Tensor, returned: int = 0) -> Any:
    """A module's output with another tensor [rows, *places, width]: alone, or as one of several."""
    changed = result.reshape(tensor_in(output, returned).shape)
    return (*output[:returned], changed, *output[returned + 1 :]) if isinstance(output, tuple) else changed
