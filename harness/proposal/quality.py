"""How good groups are without any ablation: what their units have in common, in figures of published clusterings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # scipy.sparse loads at first use: `harness list` must stay fast
from jaxtyping import Float, Int

from harness.data.contents import Contents
from harness.data.grouping import Affinity
from harness.data.units import UnitSpace

TOP = 10
"""An example is among those that activate a unit most if at most this many, without ties, do more."""
NAMED = 8
"""How many inputs are named for a group."""
FEWEST = 2
"""An input is named if it is in at least this many examples: the mean over one example is chance."""
WEAKEST = 0.25
"""An input is named if the group's mean activity with it is at least this share of that with the first."""
BLOCK = 2048
_NUMBER = re.compile(r"L?(\d+)")

Values = Float[np.ndarray, "observations units"]
Group = Int[np.ndarray, " _"]


def groups_of(labels: Int[np.ndarray, " units"]) -> list[Group]:
    """The members of every group, the largest group first; units with the label -1 are in none."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []
    return sorted(groups, key=lambda group: -len(group))


def correlations(labels: Int[np.ndarray, " units"], values: Values) -> dict[str, float]:
    """Mean Pearson correlation of two units of one group (``within_correlation``), and of two groups (``between``).

    From sums of standardised columns: the squared length of a sum is the sum of all its correlations. Constant units
    have no correlation. A figure without any pair is left out.
    """
    used = np.flatnonzero((labels >= 0) & (values.min(axis=0) < values.max(axis=0)))
    if len(used) < 2:
        return {}
    member = scipy.sparse.csr_array((np.ones(len(used)), (np.arange(len(used)), labels[used])))
    sizes = member.sum(axis=0)
    sums = sum(standardised(values[:, used[block]]) @ member[block] for block in _blocks(len(used)))
    inside = float((np.square(sums).sum(axis=0) - sizes).sum()) / 2
    everything = (float(np.square(sums.sum(axis=1)).sum()) - len(used)) / 2
    pairs_inside = float((sizes * (sizes - 1)).sum()) / 2
    pairs_between = len(used) * (len(used) - 1) / 2 - pairs_inside
    found = {}
    if pairs_inside:
        found["within_correlation"] = inside / pairs_inside
    if pairs_between:
        found["between_correlation"] = (everything - inside) / pairs_between
    return found


def standardised(values: Values) -> Values:
    """Columns of mean zero and length one, whose products are correlations; a constant column becomes zero."""
    columns = values - values.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(columns, axis=0)
    varies = values.min(axis=0) < values.max(axis=0)
    result: Values = np.divide(columns, length, out=np.zeros_like(columns), where=varies & (length > 0))
    return result


def _blocks(n: int) -> list[slice]:
    """Units in blocks, so that no copy of the whole activity is made."""
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]


def links_inside(labels: Int[np.ndarray, " units"], affinity: Affinity) -> float | None:
    """The share of the affinity's links (nearest-neighbour edges) with both ends in one group. None: no links."""
    i, j = scipy.sparse.triu(scipy.sparse.csr_array(affinity.matrix), 1, format="coo").coords
    inside = (labels[i] == labels[j]) & (labels[i] >= 0)
    return float(inside.mean()) if len(i) else None


def most_activating(values: Values) -> scipy.sparse.csc_array:
    """Which examples [examples, units] activate each unit most: the ``TOP`` first, and all that tie with the last.

    Importances saturate at 1, so that ties are frequent; none is preferred. Examples at a unit's minimum never count: a
    constant unit has none.
    """
    tenth = max(len(values) - TOP, 0)
    found = []
    for block in _blocks(values.shape[1]):
        some = values[:, block]
        last = np.partition(some, tenth, axis=0)[tenth]
        found.append(scipy.sparse.csc_array((some >= last) & (some > some.min(axis=0)), dtype=np.float64))
    return scipy.sparse.hstack(found, format="csc")


def agreement(top: scipy.sparse.csc_array, group: Group) -> float | None:
    """Mean overlap of the units' most activating examples, over pairs: size of the intersection by that of the union.

    None: fewer than two units have such examples.
    """
    sets = top[:, group]
    sizes = sets.sum(axis=0)
    sets, sizes = sets[:, sizes > 0], sizes[sizes > 0]
    if len(sizes) < 2:
        return None
    common = (sets.T @ sets).toarray()
    pairs = np.triu_indices(len(sizes), 1)
    return float((common / (sizes[:, None] + sizes - common))[pairs].mean())


def profiles(top: scipy.sparse.csc_array, contents: Contents) -> scipy.sparse.csr_array:
    """The mean content of each unit's most activating examples [units, kinds], with length one (zero: no content)."""
    sums = scipy.sparse.csr_array(top.T @ contents.values)
    length = np.sqrt(sums.power(2).sum(axis=1))
    return scipy.sparse.diags_array(1 / np.where(length > 0, length, 1)) @ sums


def cosine(rows: scipy.sparse.csr_array) -> float | None:
    """Mean cosine of two rows of length one; rows of zeros do not count. None: fewer than two rows."""
    n = int((rows.power(2).sum(axis=1) > 0).sum())
    return (float(np.square(rows.sum(axis=0)).sum()) - n) / (n * (n - 1)) if n > 1 else None


def inputs_of_group(values: Values, group: Group, contents: Contents) -> list[tuple[str, float, int]]:
    """The inputs with which a group is most active: name, its mean activity over examples that contain it, and how many
    these are. The activity of a group is the mean over its units."""
    present = contents.values != 0
    counts = present.sum(axis=0)
    means = (values[:, group].mean(axis=1, dtype=np.float64) @ present) / np.maximum(counts, 1)
    means = np.where(counts >= FEWEST, means, -np.inf)
    best = np.argsort(-means, kind="stable")[:NAMED]
    return [
        (contents.name(int(kind)), float(means[kind]), int(counts[kind]))
        for kind in best
        if means[kind] > 0 and means[kind] >= WEAKEST * means[best[0]]
    ]


def modules(sites: Sequence[str], depths: Sequence[int]) -> tuple[list[int], list[str]]:
    """The layer of each site, and its kind of module: its path without the number of the layer.

    ``model.layers.2.mlp.up_proj``: layer 2, kind ``model.layers.mlp.up_proj``. Where a path has no number, as in toys,
    every depth is a layer.
    """
    numbers, kinds = [], []
    for site in sites:
        parts = site.split(".")
        place = next((i for i, part in enumerate(parts) if _NUMBER.fullmatch(part)), None)
        numbers.append(None if place is None else int(_NUMBER.fullmatch(parts.pop(place))[1]))  # type: ignore[index]  # it matched
        kinds.append(".".join(parts))
    layers = [number for number in numbers if number is not None]
    return (layers if len(layers) == len(sites) else list(depths)), kinds


def composition(groups: Sequence[Group], units: UnitSpace) -> dict[str, Any]:
    """What modules the groups of two units or more are made of.

    ``one_site``, ``one_kind``: share of groups in one site, and of one kind of module (type purity). ``sites``: mean
    number of sites. ``layers``: how many groups span how many layers.
    """
    of_site = {unit.site: unit.depth for unit in units.units}
    layers, kinds = modules(list(of_site), list(of_site.values()))
    where = {site: (layer, kind) for site, layer, kind in zip(of_site, layers, kinds, strict=True)}
    sites = [{units.units[unit].site for unit in group.tolist()} for group in groups if len(group) > 1]
    if not sites:
        return {}
    spans = Counter(len({where[site][0] for site in of_group}) for of_group in sites)
    return {
        "one_site": float(np.mean([len(of_group) == 1 for of_group in sites])),
        "one_kind": float(np.mean([len({where[site][1] for site in of_group}) == 1 for of_group in sites])),
        "sites": float(np.mean([len(of_group) for of_group in sites])),
        "layers": {str(span): spans[span] for span in sorted(spans)},
    }


def quality_of(
    labels: Int[np.ndarray, " units"],
    values: Values,
    units: UnitSpace,
    affinity: Affinity | None,
    contents: Contents | None,
    described: int,
) -> dict[str, Any]:
    """All figures of a partition; those that are not defined are left out.

    ``values`` [observations, units]: the activity. ``contents``: what each observation contains, where observations are
    examples. ``agreement`` and ``cosine`` are means over groups of two units or more. ``groups``: the same for each of
    the largest groups, ``described`` at most, with the ``inputs`` that activate it most.
    """
    groups = groups_of(labels)
    sizes = Counter(map(len, groups))
    found: dict[str, Any] = {
        "n_groups": len(groups),
        "alone": int((labels < 0).sum()) + sizes[1],
        "sizes": {str(size): sizes[size] for size in sorted(sizes, reverse=True)},
        **correlations(labels, values),
        "links_inside": links_inside(labels, affinity) if affinity is not None else None,
        **composition(groups, units),
    }
    top = most_activating(values)
    rows = profiles(top, contents) if contents is not None else None
    each: list[dict[str, Any]] = []
    for place, group in enumerate(groups):
        of_group: dict[str, Any] = {}
        if len(group) > 1:
            of_group = {"agreement": agreement(top, group), "cosine": cosine(rows[group]) if rows is not None else None}
        if place < described:
            of_group |= {"units": [*units.names(group.tolist())], **correlations(0 * labels[group], values[:, group])}
            if contents is not None:
                of_group["inputs"] = [[*entry] for entry in inputs_of_group(values, group, contents)]
        each.append(_defined(of_group))
    for name in ("agreement", "cosine"):
        if known := [of_group[name] for of_group in each if name in of_group]:
            found[name] = float(np.mean(known))
    return _defined(found) | {"groups": each[:described]}


def _defined(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if value is not None}
