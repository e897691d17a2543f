"""How well a dictionary fits a model: measured on a little text when the two are loaded."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import nn

from harness import HarnessError
from harness.data.corpus import python_topics
from harness.engine.forward import by_row
from harness.engine.loading import LoadedModel

from .latents import Dictionary, Latents

SEQUENCES, LENGTH = 8, 128  # of Python's documentation


def fit_of(loaded: LoadedModel, site: Latents, file: str) -> dict[str, Any]:
    """How well the dictionary fits the model, on a little text. Errors: a dictionary of another width."""
    ids: list[int] = [0]
    if loaded.encode is not None:
        ids = [token for text in islice(python_topics(), 4 * SEQUENCES) for token in loaded.encode(text)] or ids
    length = min(LENGTH, len(ids), loaded.model.config.get_text_config().max_position_embeddings)
    rows = min(SEQUENCES, len(ids) // length)
    measured: dict[str, Any] = {}

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        inputs, output = by_row(args, kwargs, result, rows, has_positions=True)
        encoded, dictionary = site.encoded(inputs, output), site.dictionary
        _check_widths(dictionary, encoded.shape[-1], output.shape[-1], file)
        x, right = encoded.flatten(0, -2), output.flatten(0, -2).float()
        latents = dictionary.encode(x)
        error = (right - dictionary.decode(latents, x)).square().sum()
        active = latents > 0
        measured.update(
            explained_variance=round(1 - float(error / (right - right.mean(dim=0)).square().sum()), 4),
            active_per_token=round(float(active.sum(dim=1).float().mean()), 2),
            never_active=int((~active.any(dim=0)).sum()),
            tokens=len(x),
        )

    handle = site.module.register_forward_hook(hook, with_kwargs=True)
    try:
        with torch.inference_mode():
            loaded.model(torch.tensor(ids[: rows * length]).reshape(rows, length).to(loaded.model.device))
    finally:
        handle.remove()
    return measured if len(ids) > 1 else {}


def _check_widths(dictionary: Dictionary, inputs: int, outputs: int, file: str) -> None:
    reads, writes = dictionary.encoder.shape[1], dictionary.decoder.shape[1]
    if (reads, writes) != (inputs, outputs):
        raise HarnessError(
            f"subject.dictionary={file}: it reads {reads} numbers and writes {writes}; the module has {inputs} and "
            f"{outputs}.",
            "Choose the site that it was trained on (subject.site), or another dictionary.",
        )
