"""How good a decomposition is: what it reconstructs, how few subcomponents it needs, and whether they are the known
mechanisms of a toy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness.decomposition.masked import Masks, Matrix, Target, error_of, stochastic
from harness.decomposition.targets import Toy

PROBE = 0.75
"""The value of a feature that is active alone."""
TOLERANCE = 0.1
ATTACK_STEPS, ATTACK_RATE = 20, 0.1

Importances = Mapping[str, Float[Tensor, "*rows subcomponents"]]


def errors(
    target: Target, content: Tensor, matrices: Mapping[str, Matrix], importances: Importances, rng: torch.Generator
) -> dict[str, float]:
    """Errors of the outputs: mean squared differences from the target's, or for language models KL divergences.

    ``unmasked``: all subcomponents, without the delta. ``masked``: masks are the importances, without the delta.
    ``stochastic``: stochastic masks. ``adversarial``: the masks that hurt every example most, among those between its
    importance and 1 (20 steps along the sign of the gradient). ``nothing``: all masks zero, for comparison.
    """
    with torch.no_grad():
        outputs = target(content)
        made = {
            "unmasked": {site: _masks(torch.ones_like(values), 0.0) for site, values in importances.items()},
            "masked": {site: _masks(values, 0.0) for site, values in importances.items()},
            "stochastic": {site: stochastic(values, rng) for site, values in importances.items()},
            "nothing": {site: _masks(torch.zeros_like(values), 0.0) for site, values in importances.items()},
        }
        found = {
            name: float(error_of(target.masked(content, matrices, masks), outputs, target.tokens))
            for name, masks in made.items()
        }
    return {**found, "adversarial": _attacked(target, content, outputs, matrices, importances)}


def _masks(parts: Tensor, delta: float) -> Masks:
    return Masks(parts, torch.full_like(parts[..., :1], delta))


def _attacked(
    target: Target, content: Tensor, outputs: Tensor, matrices: Mapping[str, Matrix], importances: Importances
) -> float:
    r = {
        site: torch.full((*values.shape[:-1], values.shape[-1] + 1), 0.5, device=values.device)
        for site, values in importances.items()
    }
    worst = 0.0
    for _ in range(ATTACK_STEPS):
        for value in r.values():
            value.requires_grad_()
        masks = {
            site: Masks(values + (1 - values) * r[site][..., :-1], r[site][..., -1:])
            for site, values in importances.items()
        }
        error = error_of(target.masked(content, matrices, masks), outputs, target.tokens)
        worst = max(worst, float(error.detach()))
        slopes = torch.autograd.grad(error, list(r.values()))
        r = {
            site: (r[site].detach() + ATTACK_RATE * slope.sign()).clamp(0, 1)
            for site, slope in zip(r, slopes, strict=True)
        }
    return worst


def needed(importances: Importances, alive: float) -> dict[str, float]:
    """By site: ``l0``, how many subcomponents an example needs, and ``alive``, how many any example needs."""
    found: dict[str, float] = {}
    for site, values in importances.items():
        active = values.flatten(0, -2) > alive
        found[f"l0 {site}"] = float(active.sum(1).float().mean())
        found[f"alive {site}"] = float(active.any(0).sum())
    return found


def of_features(toy: Toy, matrices: Mapping[str, Matrix], alone: Importances, alive: float) -> dict[str, float]:
    """How far the subcomponents are a toy's known mechanisms. ``alone``: importances with one feature active at a time.

    ``exact``: features with a subcomponent of their own at every site that computes features separately; ``exact
    SITE``: at this site. ``clean``: features with one of their own at every site where they need any, because not every
    feature is computed in every block. ``identity_errors SITE``, ``dense_errors SITE``: entries of
    ``alone`` that differ from the pattern. ``mmcs SITE``, ``ml2r SITE``: :func:`similarity` to the matrix's columns.
    """
    found: dict[str, float] = {}
    exact, clean, somewhere = (np.full(toy.width, start) for start in (True, True, False))
    for site, values in alone.items():
        matrix = values.cpu().numpy()
        if site in toy.shared:
            found[f"dense_errors {site}"] = float(dense_errors(matrix, toy.get_submodule(site).in_features))  # type: ignore[arg-type]  # an nn.Linear
            continue
        active = matrix > alive
        own = exclusive(active)
        exact &= own
        clean &= own | ~active.any(1)
        somewhere |= own
        found[f"exact {site}"] = float(own.sum())
        found[f"identity_errors {site}"] = float(identity_errors(matrix))
        weight = toy.get_submodule(site).weight
        assert isinstance(weight, Tensor)
        if toy.width in weight.shape:
            cosine, ratio = similarity(weight, matrices[site], by_input=weight.shape[1] == toy.width)
            found |= {f"mmcs {site}": cosine, f"ml2r {site}": ratio}
    return {"exact": float(exact.sum()), "clean": float((clean & somewhere).sum()), **found}


def exclusive(active: Bool[np.ndarray, "features subcomponents"]) -> Bool[np.ndarray, " features"]:
    """Features that need exactly one subcomponent, which no other feature needs."""
    own = active & (active.sum(0) == 1)
    result: Bool[np.ndarray, " features"] = (active.sum(1) == 1) & own.any(1)
    return result


def identity_errors(importance: Float[np.ndarray, "features subcomponents"]) -> int:
    """Entries that differ by more than .1 from one subcomponent per feature, after the best assignment of the two."""
    features, subcomponents = linear_sum_assignment(importance, maximize=True)
    ideal = np.zeros_like(importance)
    ideal[features, subcomponents] = 1
    unassigned = importance.shape[0] - len(features)
    return int((np.abs(importance - ideal) > TOLERANCE).sum() + unassigned)


def dense_errors(importance: Float[np.ndarray, "features subcomponents"], k: int) -> int:
    """Differences from k subcomponents that features need, and others that none needs.

    Subcomponents are sorted by their sum. Each of the first k without an entry of .9 or more is one error, and so is
    each entry above .1 of the others.
    """
    ordered = importance[:, np.argsort(-importance.sum(0), kind="stable")]
    missing = (ordered[:, :k] < 1 - TOLERANCE).all(0).sum() + max(k - ordered.shape[1], 0)
    return int(missing + (ordered[:, k:] > TOLERANCE).sum())


def similarity(weight: Float[Tensor, "outputs inputs"], matrix: Matrix, by_input: bool) -> tuple[float, float]:
    r"""Mean over features of the largest cosine between a feature's column of W and the same column of a subcomponent
    (MMCS), and of the ratio of their lengths (ML2R).

    ``by_input``: features are inputs (columns of W); else outputs (rows). Columns of a subcomponent are U_c V_cj.
    Source: Bushnaq et al. 2025.
    """
    columns = weight.T if by_input else weight  # [features, hidden]
    hidden, sizes = (matrix.u, matrix.v) if by_input else (matrix.v, matrix.u)  # [subcomponents, hidden | features]
    with torch.no_grad():
        cosines = torch.nn.functional.normalize(columns, dim=1) @ torch.nn.functional.normalize(hidden, dim=1).T
        best = (cosines * sizes.T.sign()).max(1)
        lengths = hidden.norm(dim=1)[best.indices] * sizes.T.abs().gather(1, best.indices[:, None])[:, 0]
        return float(best.values.mean()), float((lengths / columns.norm(dim=1)).mean())
