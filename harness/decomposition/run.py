"""A decomposition from its beginning, or from where it was interrupted, to its file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.decomposition import checkpoint, fidelity
from harness.decomposition.artefact import Decomposition, Subcomponents
from harness.decomposition.masked import Target
from harness.decomposition.settings import Settings
from harness.decomposition.targets import Toy, weights_digest
from harness.decomposition.train import Step, Training
from harness.util.seeds import seed_for

CHECKPOINT_SECONDS = 10.0
"""Between two checkpoints. When they are written changes no digit."""
TEST_ROWS = 2048
KEPT_ROWS, KEPT_SEQUENCES = 1024, 64
"""Examples in the file of a target that is no toy."""

Tell = Callable[[Step], None]


def decompose(
    target: Target, content: Tensor, settings: Settings, seed: int, out: Path, data: str, tell: Tell = lambda _: None
) -> Decomposition:
    """Decompose the target on these examples, and write the decomposition to ``out``.

    ``data``: the digest of the examples. ``tell`` is called after every step. Where ``out`` has an unfinished
    decomposition of the same task beside it, that one is continued; the result is the same to the digit.

    Errors: those of the training; an unfinished decomposition of another task; a run that diverges, whose last
    checkpoint is kept.
    """
    file = checkpoint.checkpoint_of(out)
    task = {**asdict(settings), "seed": seed, "examples": data, "weights": weights_digest(target.model)}
    with one_torch_thread(), frozen(target.model):
        training = Training(target, content, settings, seed)
        checkpoint.read(file, training, task)
        checkpoint.write(file, training, task)
        written = time.monotonic()
        while training.step < settings.steps:
            tell(training.advance())
            if time.monotonic() - written > CHECKPOINT_SECONDS:
                checkpoint.write(file, training, task)
                written = time.monotonic()
        rates = {"rates": training.rates} if len(training.rates) > 1 else {}
        found = _finished(training, task | rates)
    found.save(out)
    file.unlink()
    return found


def _finished(training: Training, task: Mapping[str, Any]) -> Decomposition:
    """The decomposition with its fidelity."""
    target, settings, seed = training.target, training.settings, training.seed
    rng = torch.Generator().manual_seed(seed_for(seed, "decompose fidelity"))
    rows = min(TEST_ROWS if not target.tokens else settings.rows, len(training.content))
    order = torch.randperm(len(training.content), generator=rng).to(training.content.device)
    content = training.content[order[:rows]]
    importances = training.needed(content)
    measured = {f"error {name}": value for name, value in
                fidelity.errors(target, content, training.matrices, importances, rng).items()}  # fmt: skip
    measured |= fidelity.needed(importances, settings.alive)
    toy = target.model if isinstance(target.model, Toy) else None
    if toy is not None:
        alone = fidelity.PROBE * torch.eye(toy.width, device=content.device)
        measured |= fidelity.of_features(toy, training.matrices, training.needed(alone), settings.alive)
        with torch.no_grad():
            measured["error target"] = float((target(content) - toy.ideal(content)).square().mean())
    sites = {
        site: Subcomponents(matrix.v.detach(), matrix.u.detach(), training.importances[site].requires_grad_(False))
        for site, matrix in training.matrices.items()
    }
    kept = training.content[order[: KEPT_SEQUENCES if target.tokens else KEPT_ROWS]] if toy is None else None
    return Decomposition(
        sites, target.label, str(task["weights"]), toy, bool(settings.tied), dict(task), measured, examples=kept
    )


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Small products are faster in one thread, and their sums are the same on every machine with as many."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Take no gradients of the model's weights, and switch dropout off."""
    training, free = model.training, [value for value in model.parameters() if value.requires_grad]
    model.eval()
    for value in free:
        value.requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for value in free:
            value.requires_grad_(True)
