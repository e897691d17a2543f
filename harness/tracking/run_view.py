"""What a record looks like as an MLflow run: tags, params, metrics, input and files; knows no server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from harness.board.card import card
from harness.cells.cell import NEUTRAL
from harness.closure.report import ClosureReport
from harness.closure.verdict import decision_order
from harness.records.record import PartitionRecord, Record, Status

if TYPE_CHECKING:  # importing MLflow takes a second: only who writes to a server pays it
    from mlflow.entities import DatasetInput, Metric

LONGEST_TAG = 5000  # 8000 in MLflow, which cuts what is longer, in silence
LONGEST_PARAM = 500
LONGEST_DIGEST = 36
VIEW = "closure"
COLUMNS = {  # of the table of runs, with their widths: the answer first, then what it was an answer to
    "tags.`verdict`": 130,
    **dict.fromkeys(("metrics.`effect`", "metrics.`p`", "metrics.`ari`"), 80),
    **dict.fromkeys(("tags.`plugin.signal`", "tags.`plugin.affinity`", "tags.`plugin.partitioner`"), 140),
    "tags.`subject`": 120,
    "attributes.`Dataset`": 200,
    "tags.`intervention`": 100,
    "metrics.`seconds`": 80,
}


def experiment_tags() -> dict[str, str]:
    """A view of the runs that MLflow's page can open with: cells by p, without their sweeps.

    (In the order of time it would put cells away below their sweeps.)
    """
    shown = {
        "searchFilter": "tags.cell != ''",
        "orderByKey": "metrics.`p`",
        "orderByAsc": True,
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "columnWidths": COLUMNS,
    }
    return {f"mlflow.sharedViewState.{VIEW}": json.dumps(shown)}


def page(server: str, experiment: str) -> str:
    """Where a browser finds that view. Without being told, MLflow 3 shows traces of agents."""
    return f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def times(record: Record) -> tuple[int, int]:
    """When the cell began and ended, in milliseconds since 1970: of the record, so that a second copy is the same."""
    began = int(datetime.fromisoformat(record.provenance["started"]).timestamp() * 1000)
    return began, began + int(1000 * sum(record.seconds.values()))


def tags(record: Record) -> dict[str, str]:
    """What runs are found and told apart by; the description is the verdict card."""
    cell, commit = record.cell, str(record.provenance.get("commit"))
    found = {
        "status": record.status.value,
        "verdict": " ".join(closure.verdict.value for closure in record.closure) or "-",
        "subject": cell.subject,
        "batch": cell.batch,
        "intervention": cell.intervention,
        "task": cell.task,
        "cell": cell.id,
        "row": cell.row,
        "protocol": cell.protocol,
        "commit": commit.removesuffix("+"),
        "dirty": str(commit.endswith("+")).lower(),
        "mlflow.source.name": str(record.provenance.get("command")),
        "mlflow.source.git.commit": commit.removesuffix("+"),
        "mlflow.note.content": f"```\n{card(record)}\n```",
    }
    for stage, methods in record.provenance.get("plugins", {}).items():
        found[f"plugin.{stage}"] = ", ".join(methods)
    if record.reason:
        found["reason"] = record.reason
    return {key: value[:LONGEST_TAG] for key, value in found.items()}


def params(record: Record) -> dict[str, str]:
    """The configuration as ``a.b.c`` -> text, without what does not change a result."""
    told = {key: value for key, value in record.config.items() if key not in NEUTRAL}
    return {key: text[:LONGEST_PARAM] for key, text in flatten(told).items()}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested configuration as ``a.b.c`` -> text."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def metrics(record: Record) -> list[Metric]:
    """The numbers of a record, by names MLflow takes (no brackets), and its curves, as metrics with steps."""
    from mlflow.entities import Metric

    at, _ = times(record)
    return [Metric(name, value, at, step) for name, value, step in _numbers(record) if value is not None]


def _numbers(record: Record) -> Iterator[tuple[str, float | None, int]]:
    yield "seconds", sum(record.seconds.values()), 0
    yield from ((f"seconds.{stage}", spent, 0) for stage, spent in record.seconds.items())
    yield from ((f"cost.{what}", float(n), 0) for what, n in record.cost.items())
    for partition in record.partitions:  # a curve over the number of groups asked for
        yield from ((f"partition.{name}", value, partition.k) for name, value in _qualities(partition))
    if record.partition:
        yield from ((name, value, 0) for name, value in _qualities(record.partition))
    if record.closure:  # of the first candidate, by short names: the columns one looks at
        first = record.closure[0].effects[decision_order(record.closure[0].effects)[0]]
        yield from ((what, getattr(first, what), 0) for what in ("z", "p"))
        yield "effect", first.delta, 0
    for i, closure in enumerate(record.closure):
        yield from _closure(f"closure.{i}", closure)


def _qualities(partition: PartitionRecord) -> Iterator[tuple[str, float | None]]:
    for part in (partition.agreement, partition.stability):
        yield from (vars(part) if part else {}).items()


def _closure(place: str, closure: ClosureReport) -> Iterator[tuple[str, float | None, int]]:
    """An effect's numbers; its controls from least to most, and the candidate at the step where it stands in them."""
    for metric, effect in closure.effects.items():
        for name in ("baseline", "ablated", "delta", "z", "p", "p_adjusted"):
            yield f"{place}.{metric}.{name}", getattr(effect, name), 0
        controls = sorted(effect.controls)
        yield from ((f"{place}.{metric}.controls", value, rank) for rank, value in enumerate(controls))
        yield f"{place}.{metric}.candidate", effect.delta, sum(value < effect.delta for value in controls)


def dataset(record: Record) -> DatasetInput | None:
    """The batch, with its digest; None where the cell ended before there was one."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    written = record.provenance.get("batch") or {}
    if "digest" not in written:
        return None
    batch = Dataset(
        name=record.cell.batch,
        digest=str(written["digest"])[:LONGEST_DIGEST],
        source_type="code",
        source=json.dumps({"tags": {"harness.batch": record.config["batch"]}}),
        profile=json.dumps({"examples": written["n"], "target": written["target"]}),
    )
    return DatasetInput(batch, [InputTag("mlflow.data.context", "propose and test")])


def lay_out(record: Record, folder: Path, into: Path) -> None:
    """The files of a run: record, configuration, verdict card, and figures and traceback where there are any."""
    for file in (folder / "record.json", *folder.glob("*.png"), *folder.glob("*.html"), folder / "traceback.txt"):
        if file.is_file():
            shutil.copy(file, into)
    OmegaConf.save(OmegaConf.create(dict(record.config)), into / "config.yaml")
    (into / "card.txt").write_text(card(record) + "\n", encoding="utf-8")


def ended(record: Record) -> str:
    """The run's status as MLflow calls it."""
    if record.status is Status.INTERRUPTED:
        return "KILLED"
    return "FINISHED" if record.status in (Status.OK, Status.SKIPPED) else "FAILED"
