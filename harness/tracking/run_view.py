"""A record as an MLflow run: tags, params, metrics, input and files; this module contacts no server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from harness.board.card import card
from harness.board.references import command
from harness.cells.settings import NEUTRAL
from harness.closure.report import ClosureReport
from harness.closure.verdict import decision_order
from harness.records.record import PartitionRecord, Record, Status
from harness.tracking import limits

if TYPE_CHECKING:  # importing MLflow takes a second
    from mlflow.entities import DatasetInput, Metric

VIEW = "closure"
COLUMNS = {  # of the table of runs, with their widths: the result first, then methods and task
    "tags.`verdict`": 130,
    **dict.fromkeys(("metrics.`effect`", "metrics.`p`", "metrics.`ari`"), 80),
    **dict.fromkeys(("tags.`plugin.signal`", "tags.`plugin.affinity`", "tags.`plugin.partitioner`"), 140),
    "tags.`subject`": 120,
    "attributes.`Dataset`": 200,
    "tags.`intervention`": 100,
    "metrics.`seconds`": 80,
}


def experiment_tags() -> dict[str, str]:
    """A view of the runs for MLflow's page: cells sorted by p, without their sweeps.

    (Sorted by time, MLflow would fold the cells into their sweeps.)
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
    """The address of that view. ``workflowType`` is needed: by default MLflow 3 shows traces of agents."""
    return f"{server}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def times(record: Record) -> tuple[int, int]:
    """Start and end of the cell, in milliseconds since 1970, from the record, so that a second copy is identical."""
    began = int(datetime.fromisoformat(record.provenance["started"]).timestamp() * 1000)
    return began, began + int(1000 * sum(record.seconds.values()))


def tags(record: Record) -> dict[str, str]:
    """The tags that runs are searched by; the description is the verdict card."""
    cell, commit = record.cell, str(record.provenance.get("commit"))
    shown = {
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
        "mlflow.source.name": command(record, record),
        "mlflow.source.git.commit": commit.removesuffix("+"),
        "mlflow.note.content": f"```\n{card(record)}\n```",
    }
    for stage, methods in record.provenance.get("plugins", {}).items():
        shown[f"plugin.{stage}"] = ", ".join(methods)
    if record.reason:
        shown["reason"] = record.reason
    return {limits.key(key): limits.text(value, limits.TAG) for key, value in shown.items()}


def params(record: Record) -> dict[str, str]:
    """The configuration as ``a.b.c`` -> text, without settings that do not change a result."""
    config = {key: value for key, value in record.config.items() if key not in NEUTRAL}
    return {limits.key(key): limits.text(value, limits.PARAM) for key, value in flatten(config).items()}


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
    """The numbers of a record, with names that MLflow accepts (no brackets); curves are metrics with steps."""
    from mlflow.entities import Metric

    at, _ = times(record)
    return [Metric(limits.key(name), value, at, step) for name, value, step in _numbers(record) if value is not None]


def _numbers(record: Record) -> Iterator[tuple[str, float | None, int]]:
    yield "seconds", sum(record.seconds.values()), 0
    yield from ((f"seconds.{stage}", seconds, 0) for stage, seconds in record.seconds.items())
    yield from ((f"cost.{name}", float(n), 0) for name, n in record.cost.items())
    for partition in record.partitions:  # a curve over k, the number of groups
        yield from ((f"partition.{name}", value, partition.k) for name, value in _qualities(partition))
    if record.partition:
        yield from ((name, value, 0) for name, value in _qualities(record.partition))
    if record.closure:  # the first candidate, by short names: the columns of the table of runs
        first = record.closure[0].effects[decision_order(record.closure[0].effects)[0]]
        yield from (("z", first.z, 0), ("p", first.p, 0), ("effect", first.delta, 0))
    for i, closure in enumerate(record.closure):
        yield from _closure(f"closure.{i}", closure)


def _qualities(partition: PartitionRecord) -> Iterator[tuple[str, float | None]]:
    for part in (partition.agreement, partition.stability):
        yield from (asdict(part) if part else {}).items()


def _closure(prefix: str, closure: ClosureReport) -> Iterator[tuple[str, float | None, int]]:
    """An effect's numbers; its controls in ascending order, and the candidate at its rank among them."""
    for metric, effect in closure.effects.items():
        numbers = {
            "baseline": effect.baseline,
            "ablated": effect.ablated,
            "delta": effect.delta,
            "z": effect.z,
            "p": effect.p,
            "p_adjusted": effect.p_adjusted,
        }
        yield from ((f"{prefix}.{metric}.{name}", value, 0) for name, value in numbers.items())
        controls = sorted(effect.controls)
        yield from ((f"{prefix}.{metric}.controls", value, rank) for rank, value in enumerate(controls))
        yield f"{prefix}.{metric}.candidate", effect.delta, sum(value < effect.delta for value in controls)


def dataset(record: Record) -> DatasetInput | None:
    """The batch, with its digest; None if the cell ended before it had one."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    batch = record.provenance.get("batch") or {}
    if "digest" not in batch:
        return None
    source = json.dumps({"tags": {"harness.batch": record.config["batch"]}})
    dataset = Dataset(
        name=limits.text(record.cell.batch, limits.DATASET_NAME),
        digest=str(batch["digest"])[: limits.DATASET_DIGEST],
        source_type="code",
        source=source if len(source) <= limits.DATASET_SOURCE else "{}",  # config.yaml has it
        profile=json.dumps({"examples": batch["n"], "target": batch["target"]}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "propose and test")])


def write_files(record: Record, folder: Path, into: Path) -> None:
    """Write the files of a run: record, configuration, verdict card, figures and traceback, as far as they exist."""
    for file in (folder / "record.json", *folder.glob("*.png"), *folder.glob("*.html"), folder / "traceback.txt"):
        if file.is_file() and not file.name.startswith("."):  # a temporary file of a killed process
            shutil.copy(file, into)
    OmegaConf.save(OmegaConf.create(dict(record.config)), into / "config.yaml")
    (into / "card.txt").write_text(card(record) + "\n", encoding="utf-8")


def run_status(record: Record) -> str:
    """The status of the run, in MLflow's words."""
    if record.status is Status.INTERRUPTED:
        return "KILLED"
    return "FINISHED" if record.status in (Status.OK, Status.SKIPPED) else "FAILED"
