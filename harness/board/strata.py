"""The strata of a record, on its card."""

from __future__ import annotations

import numpy as np

from harness.closure.report import ClosureReport
from harness.closure.verdict import spaced
from harness.proposal.strata_null import StrataNull
from harness.records.record import Record


def strata_table(record: Record) -> str:
    """Sizes in both halves, metrics without ablation, and routing entropy, a line per stratum. Empty without strata."""
    if not record.strata:
        return ""
    metrics = list(dict.fromkeys(name for stratum in record.strata for name in stratum.baseline))
    heads = ["proposed", "tested", *map(spaced, metrics)]
    routed = any(stratum.routing_entropy is not None for stratum in record.strata)
    heads += ["routing entropy (nats)"] if routed else []
    rows = [
        [
            str(stratum.n_proposed),
            str(stratum.n_tested),
            *(number_or_dash(stratum.baseline.get(name), ".2f") for name in metrics),
            *([number_or_dash(stratum.routing_entropy, ".3f")] if routed else []),
        ]
        for stratum in record.strata
    ]
    width = max(14, *(len(stratum.name) + 4 for stratum in record.strata))
    widths = [max(len(head), *(len(row[i]) for row in rows)) + 3 for i, head in enumerate(heads)]
    names = [f"  {stratum.name}" for stratum in record.strata]
    lines = [
        f"{name:<{width}}" + "".join(f"{text:>{wide}}" for text, wide in zip(row, widths, strict=True))
        for name, row in zip(["strata", *names], [heads, *rows], strict=True)
    ]
    return "\n".join([*lines, *([null_line(record.strata_null)] if record.strata_null else [])])


def null_line(null: StrataNull) -> str:
    """The agreement within strata, beside that within random ones."""
    place = 1 + sum(other >= null.agreement for other in null.null)
    early = f", stopped early of {null.runs}" if len(null.null) < null.runs else ""
    return (
        f"  largest ARI with the labels within a stratum: {null.agreement:.3f}, place {place} of {1 + len(null.null)} "
        f"with random strata of these sizes ({np.mean(null.null):.3f} on average{early}; "
        f"z {number_or_dash(null.z, '+.1f')}, p {null.p:.3f})"
    )


def outside_line(closure: ClosureReport, first: str) -> list[str]:
    """What the group does outside its stratum, on the metric that decides first, and how much more it does inside."""
    if not closure.outside:
        return []
    outside = closure.outside[first]
    change = f"{outside.delta:+.2f}{' [{:+.2f}, {:+.2f}]'.format(*outside.interval) if outside.interval else ''}"
    as_large = (
        f"{sum(other >= outside.gap for other in outside.gaps)} of {len(outside.gaps)} groups have as large a gap"
    )
    p = f", p {outside.p:.3f}" if outside.p is not None else ""
    return [
        f"  outside its stratum ({closure.n_outside} examples): {spaced(first)} {change}; route-specificity gap "
        f"{outside.gap:+.2f} ({as_large}{p}; z {number_or_dash(outside.z, '+.1f')})"
    ]


def number_or_dash(value: float | None, form: str) -> str:
    """The value as text; - for None."""
    return "-" if value is None else format(value, form)
