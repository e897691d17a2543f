"""How well groups divide correlations and links: the measures that clusterings of subcomponents are published with."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float, Int

from harness import Affinity, UnitSpace


def quality_of(
    labels: Int[np.ndarray, " units"], values: Float[np.ndarray, "observations units"], affinity: Affinity
) -> dict[str, float]:
    """Measures of groups; those that are not defined are left out.

    ``within_correlation``, ``between_correlation``: mean Pearson correlation of two units of one group, and of two
    groups. ``links_inside``: share of the affinity's links with both ends in one group. ``one_site``: share of the
    groups of two units or more that lie in one site; ``sites``: mean number of sites of these groups.
    """
    return {
        **_correlations(labels, values),
        **_links(labels, affinity),
        **_spans(labels, affinity.units),
    }


def _correlations(
    labels: Int[np.ndarray, " units"], values: Float[np.ndarray, "observations units"]
) -> dict[str, float]:
    """From sums of standardised columns: the squared length of a sum is the sum of all its correlations."""
    used = np.flatnonzero((labels >= 0) & (values.min(axis=0) < values.max(axis=0)))
    if len(used) < 2:
        return {}
    columns = values[:, used] - values[:, used].mean(axis=0, dtype=np.float64)
    columns /= np.linalg.norm(columns, axis=0)
    member = scipy.sparse.csr_array((np.ones(len(used)), (np.arange(len(used)), labels[used])))
    sums, sizes = columns @ member, member.sum(axis=0)
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


def _links(labels: Int[np.ndarray, " units"], affinity: Affinity) -> dict[str, float]:
    i, j = scipy.sparse.triu(scipy.sparse.csr_array(affinity.matrix), 1, format="coo").coords
    inside = (labels[i] == labels[j]) & (labels[i] >= 0)
    return {"links_inside": float(inside.mean())} if len(i) else {}


def _spans(labels: Int[np.ndarray, " units"], units: UnitSpace) -> dict[str, float]:
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    spans = [len(set(units.site_of[group].tolist())) for group in groups if len(group) > 1]
    return {"one_site": float(np.mean(np.equal(spans, 1))), "sites": float(np.mean(spans))} if spans else {}
