"""The survey of a mixture's experts as text, as data, and as a figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.board.compare_cells import metric_label
from harness.board.markdown import plain, table
from harness.cells.expert_survey import ExpertSurvey
from harness.closure.association import Association
from harness.closure.statistics import benjamini_hochberg
from harness.records.workspace import atomically, write_atomically

FORMS = (".png", ".svg", ".json")
SHOWN = 12
"""How many experts the text lists."""
LEVEL = 0.05
MEANING = """\
- **usage**, and a column for each domain: share of the queries that are routed to the expert, of all examples proposed
  on and of those of the domain. **+**, **-**: the 95 % interval over documents is above, or below, the uniform line.
- **q**: that the shares differ between domains, by permutation of whole documents, Benjamini-Hochberg over experts.
- **direct**: mean of what the expert adds to the target's logit at the query, relative to the mean logit.
- **damage**: change of each metric when this expert alone is ablated, on the test examples.
"""
COSINES = """\
Cosines are between logits minus their mean. final: the model's; topk, top1, raw: of the residual stream with all chosen
experts, with the top one, and with the top one's output before its weight.
"""


def as_markdown(survey: ExpertSurvey) -> str:
    """The answers in sentences, then the tables behind them."""
    parts = [plain(survey.damage.task), "\n".join(f"- {plain(sentence)}" for sentence in sentences(survey))]
    parts += [_experts(survey), MEANING, _associations(survey)]
    if survey.lens is not None:
        parts.append(_lens(survey))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def sentences(survey: ExpertSurvey) -> Iterator[str]:
    """What the survey says about the claims on experts."""
    found, units = survey.specialisation, survey.units
    q = np.array(benjamini_hochberg(found.p.tolist()))
    yield (
        f"{int((q <= LEVEL).sum())} of {len(units)} experts are used on some domain more or less than on others "
        f"(q <= {LEVEL:g}, permutation of {found.documents} documents)."
    )
    sites = [np.flatnonzero(units.site_of == site) for site in range(len(units.sites))]
    concentration = np.mean([found.concentration(site).mean() for site in sites])
    uniform = np.mean([found.uniform[site[0]] for site in sites])
    pairs = np.triu_indices(len(found.domains), 1)
    overlap = [found.overlap(site)[pairs].mean() for site in sites] if len(found.domains) > 1 else []
    yield (
        f"The most used experts of a layer, as many as a token is routed to, take {concentration:.0%} of a domain's "
        f"routing ({uniform:.0%} if it were uniform)"
        + (f"; two domains have {np.mean(overlap):.0%} of their routing in common." if overlap else ".")
    )
    for name, (raw, partial) in survey.associations().items():
        if raw is not None:
            yield _predicts(name, raw, partial)
    never = [label for label, usage in zip(units.labels, found.usage, strict=True) if usage == 0]
    if never:
        yield f"No example proposed on is routed to {' '.join(never)}."
    if survey.lens is not None:
        cosines = {pair: float(values.mean()) for pair, values in survey.lens.cosines.items()}
        loss = survey.lens.loss.mean(axis=1)
        yield (
            f"Through the lens, the cosine of the top expert alone with all chosen experts of its layer is "
            f"{cosines['top1-topk']:.3f}, with the model's output {cosines['final-top1']:.3f}; of all chosen experts "
            f"with the model's output {cosines['final-topk']:.3f}."
        )
        yield f"With only the top expert in every layer, the loss is {loss[-1]:.2f} instead of {loss[0]:.2f} nats."


def _predicts(name: str, raw: Association, partial: Association | None) -> str:
    held = "layer" if name == "usage" else "usage and layer"
    sentence = f"{name[0].upper()}{name[1:]} and damage by ablation: Spearman {raw.text}, over {raw.n} experts"
    if partial is None or not partial.held:
        return f"{sentence}."
    known = (partial.interval[0] > 0) - (partial.interval[1] < 0)
    verdict = {1: "it predicts importance", -1: "it predicts unimportance", 0: "it is not shown to predict importance"}
    return f"{sentence}; with {held} held fixed {partial.text}: {verdict[known]}."


def _experts(survey: ExpertSurvey) -> str:
    found, units, damage = survey.specialisation, survey.units, survey.damage
    q = benjamini_hochberg(found.p.tolist())
    direct = None if survey.lens is None else survey.lens.direct.mean(axis=1)
    heads = ["expert", "usage", "uniform", *found.domains, "q", *(["direct"] if direct is not None else [])]
    heads += [metric_label(name, sign) for name, sign in damage.damage.items()]
    rows = [heads]
    for unit in damage.strongest[:SHOWN]:
        shares = [
            f"{found.shares[place, unit]:.2f}{_mark(survey, name, unit)}" for place, name in enumerate(found.domains)
        ]
        row = [units.labels[unit], f"{found.usage[unit]:.2f}", f"{found.uniform[unit]:.2f}", *shares, f"{q[unit]:.3f}"]
        row += [] if direct is None else [f"{direct[unit]:+.2f}"]
        rows.append([*row, *(f"{change[unit]:+.3f}" for change in damage.changes.values())])
    rest = len(damage.strongest) - SHOWN
    more = f"\nand {rest} experts with less damage (all: --json)" if rest > 0 else ""
    return table(rows).rstrip() + more


def _mark(survey: ExpertSurvey, domain: str, unit: int) -> str:
    low, high = survey.intervals[domain][unit]
    uniform = survey.specialisation.uniform[unit]
    return "+" if low > uniform else "-" if high < uniform else ""


def _associations(survey: ExpertSurvey) -> str:
    rows = [["Spearman with damage", "alone", "with usage and layer held fixed"]]
    for name, pair in survey.associations().items():
        rows.append([name, *("-" if each is None else each.text for each in pair)])
    return table(rows)


def _lens(survey: ExpertSurvey) -> str:
    assert survey.lens is not None
    lens, loss = survey.lens, survey.lens.loss.mean(axis=1)
    rows = [["layer", *lens.cosines, "loss with only its top expert"]]
    for place, layer in enumerate(lens.layers):
        cosines = [f"{values[place].mean():.3f}" for values in lens.cosines.values()]
        rows.append([f"L{layer}", *cosines, f"{loss[1 + place]:.3f} ({loss[1 + place] - loss[0]:+.3f})"])
    rows.append(["all", *([""] * len(lens.cosines)), f"{loss[-1]:.3f} ({loss[-1] - loss[0]:+.3f})"])
    return f"{table(rows)}{COSINES}"


def as_data(survey: ExpertSurvey) -> dict[str, Any]:
    """Every expert, the correlations, and the lens."""
    found, lens = survey.specialisation, survey.lens
    q = benjamini_hochberg(found.p.tolist())
    experts = [
        {
            "unit": label,
            "usage": float(found.usage[unit]),
            "uniform": float(found.uniform[unit]),
            "shares": {name: float(found.shares[place, unit]) for place, name in enumerate(found.domains)},
            "intervals": {name: _bounds(survey.intervals[name][unit]) for name in found.domains},
            "p": float(found.p[unit]),
            "q": q[unit],
            "direct": None if lens is None else float(lens.direct[unit].mean()),
            "change": {name: _number(change[unit]) for name, change in survey.damage.changes.items()},
        }
        for unit, label in enumerate(survey.units.labels)
    ]

    def association(each: Association | None) -> dict[str, Any] | None:
        return None if each is None else {"rho": each.rho, "interval": list(each.interval), "p": each.p, "n": each.n}

    correlations = {
        name: {"alone": association(raw), "partial": association(partial)}
        for name, (raw, partial) in survey.associations().items()
    }
    looked = lens and {
        "layers": list(lens.layers),
        "cosines": {pair: values.mean(axis=1).tolist() for pair, values in lens.cosines.items()},
        "loss": lens.loss.mean(axis=1).tolist(),
    }
    return {"task": survey.damage.task, "found": list(sentences(survey)), "experts": experts,
            "correlations": correlations, "lens": looked}  # fmt: skip


def write(survey: ExpertSurvey, path: Path) -> None:
    """A figure, or all numbers as JSON."""
    if path.suffix == ".json":
        write_atomically(path, json.dumps(as_data(survey), indent=1, ensure_ascii=False) + "\n")
        return
    from harness.board.figures.experts import experts_figure

    with atomically(path) as beside:
        experts_figure(survey).savefig(beside, dpi=120, format=path.suffix[1:])


def _bounds(interval: np.ndarray) -> list[float] | None:
    return None if np.isnan(interval).any() else [float(bound) for bound in interval]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
