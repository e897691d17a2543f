"""The groups of cells before any ablation: how alike their units are, what they are made of, what activates them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.board.figures.board import distinguishing_words
from harness.board.markdown import table
from harness.closure.verdict import Verdict
from harness.records.record import QUALITY, Record
from harness.util.errors import HarnessError

NAMED = 6
"""How many units and inputs of a group are shown."""
FORMS = {
    "within_correlation": ("within", ".3f"),
    "between_correlation": ("between", ".3f"),
    "links_inside": ("links inside", ".3f"),
    "agreement": ("agreement", ".3f"),
    "cosine": ("cosine", ".3f"),
    "one_kind": ("one kind", ".2f"),
}
"""Figures of the table: their heads and how they are written."""
MEANING = """\
- **within**, **between**: mean Pearson correlation of the activity of two units of one group, and of two groups.
- **links inside**: share of the affinity's links (nearest-neighbour edges) with both ends in one group.
- **agreement**: of two units of a group, the examples that activate each most: intersection by union. **cosine**: of
  the mean content of these examples (values of features, or counts of the token at the query). Means over groups.
- **one kind**: share of the groups of two units or more that have one kind of module (type purity). **cross-layer**:
  share of them that span two layers or more. **alone**: units in no group, or in one of their own.
- **passed**: groups with the verdict pass or weak_pass, of those tested. A dash: not defined, or not measured.
"""


def described(records: Sequence[Record]) -> list[Record]:
    """The records that have the quality of their groups. Errors: none has it."""
    found = [record for record in records if QUALITY in record.diagnostics]
    if not found:
        raise HarnessError(
            f"none of {len(records)} records has groups that were described: they were named by hand, no signal was "
            "used, or the records are of an older version.",
            "Run the cells again: harness run ... --force",
        )
    return found


def as_markdown(records: Sequence[Record]) -> str:
    """A row for each cell, and what the columns mean."""
    methods = distinguishing_words([record.cell.method for record in records])
    heads = ["cell", "subject", "method", "groups", "alone", "sizes", *(head for head, _ in FORMS.values()),
             "cross-layer", "passed"]  # fmt: skip
    rows = [
        [record.cell.id, record.cell.subject, method, *_row(record)]
        for record, method in zip(records, methods, strict=True)
    ]
    return f"{table([heads, *rows])}\n{MEANING}"


def about_cell(record: Record) -> str:
    """One cell: its row, its modules, and each of its largest groups with the inputs that activate it most."""
    parts = [as_markdown([record])]
    if modules := modules_of(record):
        parts.append(f"### Subcomponents by module\n\n{table(modules)}")
    parts.append(f"### Groups and the inputs that activate them most\n\n{table(groups_of(record))}\n{left_out(record)}")
    return "\n".join(parts)


def as_data(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same as data."""
    return [
        {
            "cell": record.cell.id,
            "subject": record.cell.subject,
            "method": record.cell.method,
            **record.diagnostics[QUALITY],
            "modules": [
                dict(zip(head, row, strict=True)) for head, *rows in [modules_of(record) or [[]]] for row in rows
            ],
            "passed": passed(record),
        }
        for record in records
    ]


def modules_of(record: Record) -> list[list[str]]:
    """Of every decomposed matrix: alive and dead subcomponents, and how many are expected; the first row is the head.

    Empty for a subject without a decomposition.
    """
    about = decomposition_of(record)
    alive, dead = about.get("alive"), about.get("dead")
    if not isinstance(alive, Mapping) or not isinstance(dead, Mapping):
        return []
    expected = about.get("expected") or {}
    rows = [[str(path), str(n), str(dead.get(path, "-")), str(expected.get(path, "-"))] for path, n in alive.items()]
    return [["module", "alive", "dead", "expected"], *rows]


def decomposition_of(record: Record) -> Mapping[str, Any]:
    """What the record says about the decomposition that the units come from; empty without one."""
    about = (record.provenance.get("subject") or {}).get("decomposition")
    return about if isinstance(about, Mapping) else {}


def groups_of(record: Record) -> list[list[str]]:
    """Each of the largest groups; the first row is the head."""
    rows = []
    for place, group in enumerate(record.diagnostics[QUALITY]["groups"], 1):
        units = group["units"]
        more = f" … {len(units)} units" if len(units) > NAMED else ""
        inputs = ", ".join(
            f"{name.strip() or repr(name)} {mean:.2f} ({n})" for name, mean, n in group.get("inputs", [])[:NAMED]
        )
        figures = [_number(group, name, ".2f") for name in ("within_correlation", "agreement", "cosine")]
        rows.append([str(place), " ".join(units[:NAMED]) + more, *figures, inputs or "-"])
    return [["", "units", "within", "agreement", "cosine", "inputs: mean activity (examples)"], *rows]


def left_out(record: Record) -> str:
    """How many groups the table of groups does not have."""
    quality = record.diagnostics[QUALITY]
    others = quality["n_groups"] - len(quality["groups"])
    return f"{others} smaller groups are not shown.\n" if others else ""


def passed(record: Record) -> list[int] | None:
    """How many candidates pass, and how many were tested. None: no test."""
    verdicts = [closure.verdict for closure in record.closure]
    return [sum(v in (Verdict.PASS, Verdict.WEAK_PASS) for v in verdicts), len(verdicts)] if verdicts else None


def facts(record: Record) -> Iterator[tuple[str, str]]:
    """The figures of a cell, by name."""
    heads = ["groups", "alone", "sizes", *(head for head, _ in FORMS.values()), "cross-layer", "passed"]
    yield from zip(heads, _row(record), strict=True)


def _row(record: Record) -> list[str]:
    quality = record.diagnostics[QUALITY]
    spans = {int(span): n for span, n in quality.get("layers", {}).items()}
    across = sum(n for span, n in spans.items() if span > 1)
    sizes = [f"{n} × {size}" for size, n in quality["sizes"].items()]
    counts = passed(record)
    return [
        str(quality["n_groups"]),
        str(quality["alone"]),
        ", ".join(sizes[:3]) + (", …" if len(sizes) > 3 else ""),
        *(_number(quality, name, form) for name, (_, form) in FORMS.items()),
        f"{across / sum(spans.values()):.2f}" if spans else "-",
        f"{counts[0]} of {counts[1]}" if counts else "-",
    ]


def _number(figures: Mapping[str, Any], name: str, form: str) -> str:
    return format(figures[name], form) if name in figures else "-"
