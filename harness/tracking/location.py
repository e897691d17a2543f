"""Where a tracking database keeps the artifacts of runs: in the workspace, also after it was moved or copied."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.cells.provenance import without_password
from harness.tracking.address import database_of
from harness.tracking.limits import ARTIFACTS
from harness.util.errors import HarnessError


def new_location(uri: str, root: Path) -> str:
    """Make the folder of artifacts in a workspace; returns its address, for a new experiment.

    Errors: the path is longer than a database server can hold.
    """
    folder = root / "mlartifacts"
    location = folder.as_uri()
    if not uri.startswith("sqlite") and len(location) > ARTIFACTS:
        raise HarnessError(
            f"tracking at {without_password(uri)}: the path {folder} is too long for a database server, which holds "
            f"{ARTIFACTS} characters.",
            "Use a workspace with a shorter path, or tracking=local.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return location


def follow_workspace(uri: str, root: Path, location: str) -> None:
    """Let the database of a workspace that was moved or copied name the artifacts that came with it.

    Another database keeps its place. Errors: that place is a folder that does not exist here; it is not made again.
    """
    if not location.startswith(("file:", "/")):
        return  # a bucket, a server
    recorded = Path(unquote(urlsplit(location).path))
    if uri == database_of(root):
        present = root / "mlartifacts"
        present.mkdir(exist_ok=True)
        if not (recorded.is_dir() and os.path.samefile(recorded, present)):
            _replace(uri, location, present.as_uri())
        return
    if recorded.is_dir():
        return
    raise HarnessError(
        f"tracking at {without_password(uri)}: it keeps the files of runs in {recorded}, which does not exist here. "
        "The workspace was moved or removed, or the folder is on another machine.",
        f"Move the folder back, or make it (mkdir -p {recorded}), or use another store: tracking=local",
    )


def _replace(uri: str, old: str, new: str) -> None:
    """MLflow has no call for this: it only sets the location of an experiment when it is created."""
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlRun
    from sqlalchemy import create_engine, func, update

    columns: list[tuple[Any, Any]] = [(SqlExperiment, SqlExperiment.artifact_location), (SqlRun, SqlRun.artifact_uri)]
    with create_engine(uri).begin() as database:
        for table, column in columns:
            moved = update(table).where(column.startswith(old, autoescape=True))
            database.execute(moved.values({column: new + func.substr(column, len(old) + 1)}))
