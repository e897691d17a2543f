"""The command that classifies units: survey."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter

from harness.cli.session import Session, lines
from harness.data.grouping import Labels
from harness.util.digest import digest


def survey(arguments: Namespace) -> int:
    """Classify every unit on the whole batch; print the table and save it as JSON in the workspace."""
    from harness.cells.inputs import Inputs, cache_of
    from harness.records.workspace import Workspace, write_atomically
    from harness.util.cache import Memo

    session = Session.open(arguments)
    cell = session.cell()
    workspace = Workspace.at(cell.settings.workspace)
    workspace.check_writable()
    inputs = Inputs.gather(cell, Memo(disk=cache_of(cell)), session.progress(), test=True)
    subject, batch = inputs.subject, inputs.batch
    assert batch is not None
    labels = cell.stages["labels"](inputs.record(batch, inputs.readers("labels")))
    data = {
        "subject": subject.label,
        "batch": {"name": batch.name, "digest": batch.digest, "n": len(batch), "target": batch.target_kind},
        "labels": cell.node("labels"),
        "units": [
            {"unit": unit, "class": label, "selectivity": {c: float(s[i]) for c, s in labels.selectivity.items()}}
            for i, (unit, label) in enumerate(zip(subject.units.labels, labels.classes, strict=True))
        ],
    }
    identity = digest(batch.digest, cell.node("labels"))[:12]
    path = workspace.root / "surveys" / f"{subject.label}-{identity}.json"
    write_atomically(path, json.dumps(data, indent=1))
    title = f"{subject.label} · {cell.describe('batch')} · {len(batch)} examples · {cell.describe('labels')}"
    session.print(f"{title}\n{table(labels)}\nsaved: {path}", data)
    return 0


def table(labels: Labels) -> str:
    """Per class: how many units it has, and the most selective ones."""
    counts = Counter(label for label in labels.classes if label)
    rows = [("class", "units", "most selective (ratio to the baseline)")]
    for name, ratios in labels.selectivity.items():
        best = sorted((i for i, label in enumerate(labels.classes) if label == name), key=lambda i, r=ratios: -r[i])  # type: ignore[misc]
        rows.append(
            (name, str(counts[name]), "  ".join(f"{labels.units.labels[i]} {ratios[i]:.0f}x" for i in best[:6]))
        )
    rest = [label for label in counts if label not in labels.selectivity]
    rows += [(label, str(counts[label]), "") for label in rest]
    return lines(rows)
