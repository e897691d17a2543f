"""The subcomponents of a decomposition that are alive, as sites of its model, with what the record says about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness import HarnessError, Labels, UnitSpace
from harness.decomposition.artefact import Decomposition
from harness.decomposition.site import Examples, SubcomponentSite
from harness.decomposition.usage import Usage, aliases

BINS = 20
COEFFICIENTS = ("minimality", "frequency")
"""Of the importance penalty, as the settings of a training name them."""


def sites_of(found: Decomposition, model: nn.Module, used: Mapping[str, Usage]) -> list[SubcomponentSite]:
    """A site for every matrix with living subcomponents, in the model's order. Errors: all are dead."""
    examples = Examples(model)
    order = [path for path, _ in model.named_modules() if path in found.sites]
    sites = [
        SubcomponentSite(
            path, depth, [f"{path}:{unit}" for unit in used[path].alive.tolist()], model.get_submodule(path),
            family="subcomponent", parts=found.sites[path], alive=used[path].alive, examples=examples,
        )
        for depth, path in enumerate(order)
        if len(used[path].alive)
    ]  # fmt: skip
    if not sites:
        of_any = next(iter(used.values()))
        highest = max(float(of_site.highest.max()) for of_site in used.values())
        raise HarnessError(
            f"subject.threshold={of_any.threshold}: all subcomponents are dead; the highest importance on any example "
            f"is {highest:.3g}.",
            "Use a lower threshold, or decompose with a lower penalty.",
        )
    return sites


def truth_of(found: Decomposition, sites: list[SubcomponentSite], used: Mapping[str, Usage]) -> Labels | None:
    """The mechanism of every unit: as the decomposition says, or the feature that needs it. None: not known of any."""
    known = {site.name: found.truth.get(site.name) or used[site.name].mechanisms for site in sites}
    classes = tuple(known[site.name][unit] for site in sites for unit in site.alive.tolist())
    units = UnitSpace(tuple(unit for site in sites for unit in site.units))
    circuits = frozenset(name for name in classes if name is not None)
    return Labels(classes, units, circuits=circuits) if circuits else None


def circuits_of(truth: Labels) -> dict[str, list[str]]:
    """The units of every mechanism, by their labels."""
    groups: dict[str, list[str]] = {}
    for unit, name in zip(truth.units.labels, truth.classes, strict=True):
        if name is not None:
            groups.setdefault(name, []).append(unit)
    return groups


def expected_of(found: Decomposition) -> dict[str, int]:
    """By matrix of a toy, how many subcomponents its known mechanisms are: one per feature, or the rank of a matrix
    that serves all features."""
    toy = found.target
    if toy is None:
        return {}
    return {path: min(site.v.shape[1], site.u.shape[1]) if path in toy.shared else toy.width
            for path, site in found.sites.items()}  # fmt: skip


def histogram(highest: Tensor) -> list[int]:
    """How many subcomponents have their highest importance in each twentieth of [0, 1]."""
    return [int(count) for count in torch.histc(highest.float().cpu(), BINS, 0, 1).tolist()]


def described(found: Decomposition, used: Mapping[str, Usage]) -> dict[str, Any]:
    """Quality and use, for the record."""
    tokens = found.examples is not None and not found.examples.is_floating_point()
    return {
        "tied": found.tied,
        "trained": bool(found.settings),
        "errors": "KL divergence" if tokens else "mean squared difference",
        "penalty": {name: found.settings[name] for name in ("penalty", *COEFFICIENTS) if name in found.settings},
        **found.fidelity,
        "alive": {path: len(of_site.alive) for path, of_site in used.items()},
        "expected": expected_of(found),
        "highest": {path: histogram(of_site.highest) for path, of_site in used.items()},
        "dead": {path: len(of_site.highest) - len(of_site.alive) for path, of_site in used.items()},
        "always_on": [f"{path}:{unit}" for path, of_site in used.items() for unit in of_site.always_on.tolist()],
        "aliases": {
            f"{path}:{unit}": f"{path}:{first}"
            for path, parts in found.sites.items()
            for unit, first in aliases(parts, used[path].alive).items()
        },
    }
