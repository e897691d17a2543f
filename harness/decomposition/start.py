"""Where subcomponents start: at random, or at a site's inputs, which they then read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.decomposition.masked import Matrix, Target
from harness.decomposition.settings import Settings
from harness.util.errors import HarnessError
from harness.util.seeds import seed_for

WARMUP_RATE = 1e-2
LEAST_POOL = 4096
"""Examples among which those to start at are chosen."""


def started(target: Target, content: Tensor, settings: Settings, seed: int) -> dict[str, Matrix]:
    """The subcomponents of every site before training, after the warm-up.

    Errors: tied sites whose matrices are not transposes of each other; no examples to start at.
    """
    _check_tied(target, settings)
    inputs = {} if settings.start == "random" else _inputs(target, content, settings, seed)
    matrices: dict[str, Matrix] = {}
    for site in target.modules:
        weight = target.weight(site)
        rng = torch.Generator().manual_seed(seed_for(seed, f"decompose start {site}"))
        v = inputs.get(site)
        if v is None:
            v = torch.randn(settings.subcomponents, weight.shape[1], generator=rng).to(weight) / weight.shape[1] ** 0.5
            u = torch.randn(settings.subcomponents, weight.shape[0], generator=rng).to(weight)
            u = u / settings.subcomponents
        else:
            v = torch.nn.functional.normalize(v, dim=1)
            chosen = torch.randint(len(v), (settings.subcomponents,), generator=rng).to(v.device)
            v = v[spread(v, settings.subcomponents) if settings.spread else chosen]
            u = v @ weight.T
            u = u * (weight.norm() / (u.T @ v).norm().clamp(min=1e-12))
        matrices[site] = Matrix(v.clone().requires_grad_(), u.clone().requires_grad_())
    if settings.tied:
        first, second = settings.tied
        matrices[second] = Matrix(matrices[first].u, matrices[first].v)
    _warm_up(target, matrices, settings)
    return matrices


def spread(directions: Float[Tensor, "rows width"], n: int) -> Int[Tensor, " n"]:
    """The first of these unit vectors, and then again and again the one least parallel to all that are chosen."""
    chosen, nearest = [torch.tensor(0, device=directions.device)], torch.zeros_like(directions[:, 0])
    while len(chosen) < n:
        nearest = torch.maximum(nearest, (directions @ directions[chosen[-1]]).abs())
        chosen.append(nearest.argmin())
    return torch.stack(chosen)


def unfaithful(target: Target, matrices: Mapping[str, Matrix]) -> Float[Tensor, ""]:
    r""":math:`|W - \sum_c U_c V_c^\top|^2 / |W|^2`, mean over sites."""
    errors = []
    for site, matrix in matrices.items():
        weight = target.weight(site)
        errors.append((weight - matrix.u.T @ matrix.v).square().sum() / weight.square().sum())
    return torch.stack(errors).mean()


def tensors_of(matrices: Mapping[str, Matrix]) -> list[Tensor]:
    """The tensors of all sites; those that sites share, once."""
    return list({id(value): value for matrix in matrices.values() for value in (matrix.v, matrix.u)}.values())


def _warm_up(target: Target, matrices: Mapping[str, Matrix], settings: Settings) -> None:
    optimizer = torch.optim.AdamW(tensors_of(matrices), lr=WARMUP_RATE, weight_decay=0, fused=True)
    for _ in range(settings.warmup):
        optimizer.zero_grad()
        torch.autograd.backward(unfaithful(target, matrices))
        optimizer.step()


def _inputs(target: Target, content: Tensor, settings: Settings, seed: int) -> dict[str, Tensor]:
    """Inputs of every site that are not zero [chosen, inputs]."""
    what = {"inputs": "any input", "single": "exactly one input", "mixed": "two or more inputs"}[settings.start]
    if target.tokens and settings.start != "inputs":
        raise HarnessError(
            f"start={settings.start} is for vectors; this model reads tokens.", "Choose start=inputs or start=random."
        )
    if not target.tokens:
        features = (content != 0).sum(1)
        content = content[{"inputs": features > 0, "single": features == 1, "mixed": features > 1}[settings.start]]
    rng = torch.Generator().manual_seed(seed_for(seed, "decompose start examples"))
    most = LEAST_POOL if not target.tokens else max(1, LEAST_POOL // content.shape[1])
    content = content[torch.randperm(len(content), generator=rng)[:most].to(content.device)]
    if not len(content):
        raise HarnessError(
            f"start={settings.start}: no example has {what} different from zero.", "Choose start=random."
        )
    _, inputs = target.record(content)
    return {site: values.flatten(0, -2) for site, values in inputs.items()}


def _check_tied(target: Target, settings: Settings) -> None:
    if not settings.tied:
        return
    if len(settings.tied) != 2 or not set(settings.tied) <= set(target.modules):
        raise HarnessError(
            f"tied={list(settings.tied)}: two of the decomposed sites are needed.",
            f"Sites: {', '.join(target.modules)}",
        )
    first, second = (target.weight(site) for site in settings.tied)
    if first.shape != second.T.shape or not torch.allclose(first, second.T, atol=1e-5):
        raise HarnessError(
            f"tied={list(settings.tied)}: the second matrix {list(second.shape)} is not the transpose of the first "
            f"{list(first.shape)}, so one set of tensors cannot be both.",
            "Leave tied out.",
        )
