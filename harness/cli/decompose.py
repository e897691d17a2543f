"""The command that decomposes the matrices of a model into rank-one subcomponents: decompose."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cells.cell import Cell
from harness.cli.session import Session, lines
from harness.cli.words import KEYS, key_of, value_of
from harness.data.batch import Batch
from harness.data.tokens import Tokens
from harness.data.vectors import Vectors
from harness.decomposition.recipes import RECIPES, Recipe
from harness.decomposition.settings import Settings
from harness.registry.command import command, override
from harness.registry.config import resolve
from harness.util.errors import HarnessError, unknown
from harness.util.validation import validated

if TYPE_CHECKING:
    from torch import Tensor

    from harness.data.contracts import Subject
    from harness.decomposition.artefact import Decomposition
    from harness.decomposition.train import Step

LINES_SHOWN = 20
"""Of progress."""


def decompose(arguments: Namespace) -> int:
    """Decompose a model by a recipe, or one that overrides describe, and write the decomposition to ``out``."""
    from harness.cells.inputs import Inputs, cache_of
    from harness.util.cache import Memo

    session = Session.open(arguments)
    for word in session.overrides:
        if (key := key_of(word)) not in KEYS:
            hint = "`harness decompose --help` describes them"
            raise unknown("setting", key or word, [field.name for field in fields(Settings)], hint)
    recipe = _recipe(arguments.words)
    settings = _settings(recipe, session.own)
    out = _out(session, arguments.words)
    chosen = {word.partition("=")[0].lstrip("+") for word in session.overrides}
    words = [word for word in recipe.overrides if word.partition("=")[0] not in chosen]
    cell = Cell.of(resolve([*words, *session.overrides], session.registry), session.registry)
    inputs = Inputs.gather(cell, Memo(disk=cache_of(cell)), session.progress(), test=True)
    assert inputs.batch is not None
    begun = time.process_time()
    found = _decomposed(inputs.subject, inputs.batch, settings, cell.settings.seed, out, session)
    seconds = time.process_time() - begun
    title = f"{found.label} · {cell.describe('batch')} · {settings.steps} steps · {'tied' if found.tied else 'untied'}"
    text = f"{title} · {seconds:.0f} CPU s\n{_table(found)}\nsaved: {out}"
    if found.tied:
        text += f"\n{_tied(found, settings)}"
    text += f"\nnext: {command('run', *_closing(found, cell, inputs.batch, [*words, *session.overrides], out))}"
    data = {
        "target": found.label, "tied": found.tied, "settings": dict(found.settings), "fidelity": dict(found.fidelity),
        "saved": str(out),
    }  # fmt: skip
    session.print(text, data)
    return 0


def notes() -> str:
    """The recipes and the settings, for the help."""
    recipes = [(name, recipe.about) for name, recipe in RECIPES.items()]
    settings = [
        (f"{field.name}={'' if field.default == () else field.default}", field.metadata["help"])
        for field in fields(Settings)
    ]
    return f"recipes:\n{lines(recipes)}\n\nsettings:\n{lines(settings)}"


def _decomposed(
    subject: Subject, batch: Batch, settings: Settings, seed: int, out: Path, session: Session
) -> Decomposition:
    from torch import nn

    from harness.decomposition.masked import Target
    from harness.decomposition.run import decompose

    model = getattr(subject, "model", None)
    if not isinstance(model, nn.Module):
        raise HarnessError(
            f"subject {subject.label} has no torch module, so it has no matrices.",
            "Choose one that has: subject=toy, subject=tiny, subject=torch_module",
        )
    target = Target.of(model, settings.sites, subject.label, isinstance(batch, Tokens))
    content = _content(batch, model)
    shown = max(1, settings.steps // LINES_SHOWN)

    def tell(step: Step) -> None:
        if step.step % shown == 0 or step.step == settings.steps:
            session.note(_progress(step, settings.steps))

    return decompose(target, content, settings, seed, out, batch.digest, tell)


def _content(batch: Batch, model: Any) -> Tensor:
    """All examples as one tensor; of sequences with different lengths the longer half, cut to one length."""
    import numpy as np
    import torch

    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    if isinstance(batch, Vectors):
        return torch.from_numpy(batch.inputs).to(device)
    assert isinstance(batch, Tokens)
    last = int(np.median(batch.query))  # tokens after the query may be padding
    return torch.from_numpy(batch.tokens[batch.query >= last, : last + 1]).to(device)


def _tied(found: Decomposition, settings: Settings) -> str:
    """What sharing tensors builds in."""
    first, second = settings.tied
    built_in = (
        f"note: {first} and {second} share their tensors (tied), so that pairs of one index are built in, not found. "
        "Compare with partitioner=same_index, or leave tied out."
    )
    rank = min(found.sites[first].v.shape[1], found.sites[first].u.shape[1])
    if settings.subcomponents <= rank:
        return built_in
    return (
        f"{built_in}\nnote: {settings.subcomponents} subcomponents share matrices of rank {rank}: many tied sums are "
        f"exact. The penalty alone chooses among them: see L0 and alive, or give subcomponents={rank}."
    )


def _closing(found: Decomposition, cell: Cell, batch: Batch, words: list[str], out: Path) -> list[str]:
    """The overrides of a run with these subcomponents as units, on examples of the same kind."""
    chosen = ["subject=spd", override("subject.decomposition", str(out))]
    examples = [word for word in words if key_of(word) == "batch"]
    if found.target is not None:
        return [*chosen, *(word for word in examples if not word.startswith("batch.n="))]
    subject = cell.stages["subject"]
    path = getattr(subject, "module", None) or getattr(subject, "path", subject.name)
    if path != "tiny":
        chosen.append(override("subject.path", path))
    if weights := getattr(subject, "weights", ""):
        chosen.append(override("subject.weights", weights))
    metric = ["metric=[squared_error]"] if batch.target_kind == "outputs" else []
    return [*chosen, "labels=none", *examples, *metric]


def _recipe(words: list[str]) -> Recipe:
    if len(words) > 1:
        raise HarnessError("decompose takes one recipe.", f"Recipes: {', '.join(RECIPES)}")
    if words and words[0] not in RECIPES:
        raise unknown(
            "recipe", words[0], RECIPES, "any other model: harness decompose subject=NAME batch=NAME out=FILE"
        )
    return RECIPES[words[0]] if words else Recipe(())


def _settings(recipe: Recipe, own: tuple[str, ...]) -> Settings:
    given = {key_of(word): value_of(word) for word in own if key_of(word) != "out"}
    return validated(Settings, {**recipe.settings, **given})


def _out(session: Session, words: list[str]) -> Path:
    out = session.out or Path(f"{words[0] if words else 'decomposition'}.safetensors").absolute()
    if out.suffix != ".safetensors":
        raise HarnessError(f"out={out.name}: decompose writes .safetensors.", f"Example: out={out.stem}.safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _progress(step: Step, steps: int) -> str:
    loss = "  ".join(f"{name} {value:.1e}" for name, value in step.loss.items())
    alive = " ".join(str(value) for value in step.alive.values())
    needed = " ".join(f"{value:.2f}" for value in step.l0.values())
    return f"  step {step.step:>6} of {steps}   {loss}   alive {alive}   L0 {needed}"


def _table(found: Decomposition) -> str:
    """Errors in one line each, then one row per matrix."""
    whole: Mapping[str, float] = {key: value for key, value in found.fidelity.items() if not _site(key, found)}
    measures = list(dict.fromkeys(key.partition(" ")[0] for key in found.fidelity if _site(key, found)))
    by_site = [
        (site, *(_number(found.fidelity.get(f"{measure} {site}")) for measure in measures)) for site in found.sites
    ]
    errors = [(key, _number(value)) for key, value in whole.items()]
    return f"{lines(errors)}\n{lines([('matrix', *measures), *by_site])}"


def _site(key: str, found: Decomposition) -> bool:
    return key.partition(" ")[2] in found.sites


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
