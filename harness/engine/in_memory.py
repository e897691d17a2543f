"""Models that are already in memory as subjects."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from harness.data.batch import Reads
from harness.engine.hooked import HookedSubject
from harness.engine.loading import LoadedModel
from harness.engine.quiet import quiet
from harness.engine.sites import Site
from harness.engine.subject import HeadSubject, vocabulary_of
from harness.engine.tokenizer import beginning_of
from harness.util.errors import HarnessError


def subject_of(
    model: nn.Module,
    tokenizer: Any = None,
    *,
    units: str | Collection[str] = "heads",
    sites: Sequence[Site] = (),
    reads: Reads = None,
    label: str = "",
    memory: str = "auto",
) -> HeadSubject | HookedSubject:
    """A model as a subject. Without ``sites``, its units are those of some families of a causal language model.

    ``units``: one or several of :data:`harness.engine.families.FAMILIES`. ``tokenizer``: a tokenizer of transformers;
    without one, batches of text cannot be made. ``reads``: what the module takes; a model of transformers says it
    itself. ``label``: the name in results; by default the last part of the path that the model was loaded from, or its
    class.

    Errors: a model in training mode; a module without sites; a model whose attention cannot be intercepted.
    """
    if not sites and not isinstance(model, PreTrainedModel):
        raise HarnessError(
            f"a {type(model).__name__} is not a model of transformers, so its units have to be named.",
            "Example: harness.subject(model, sites=[Features('hidden', 0, labels, model.hidden)], reads=Width(inputs, "
            "outputs))",
        )
    if model.training:
        raise HarnessError(
            "the model is in training mode, in which dropout changes its outputs at random.", "Type: model.eval()"
        )
    path = model.config.name_or_path if isinstance(model, PreTrainedModel) else None
    name = label or Path(path or "").name or type(model).__name__
    families = {units} if isinstance(units, str) else set(units)
    encode = None if tokenizer is None else partial(tokenizer.encode, add_special_tokens=False)
    decode = None if tokenizer is None else tokenizer.decode
    beginning = None if tokenizer is None else partial(beginning_of, tokenizer)
    with quiet():
        if isinstance(model, PreTrainedModel):
            if not sites and families != {"heads"}:
                return LoadedModel(model, name, encode, _about(model), decode, beginning).units(families, memory)
            if not sites:
                return HeadSubject(model, name, encode, _about(model), memory, decode=decode, beginning=beginning)
            reads = reads or vocabulary_of(model, encode, decode, beginning)
        return HookedSubject(model, sites, reads, name, _about(model), memory)


def _about(model: nn.Module) -> dict[str, Any]:
    """The description of a model in records."""
    parameters = list(model.parameters())
    return {
        "architecture": type(model).__name__,
        "dtype": ", ".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters})),
        "device": ", ".join(sorted({str(parameter.device) for parameter in parameters})),
        "parameters": sum(parameter.numel() for parameter in parameters),
    }
