"""Opening a database for the first time: found to be down in seconds, and never left half made."""

from __future__ import annotations

from pathlib import Path

from harness.records.workspace import atomically
from harness.tracking.address import TIMEOUT, sqlite


def prepare(uri: str) -> None:
    """Connect once, and make the tables of a new SQLite file in one step: MLflow cannot open a half-made one again.

    Errors: it does not answer (MLflow would retry ten times, for 100 seconds); it is not a database.
    """
    from sqlalchemy import create_engine, inspect, make_url

    if uri.startswith("sqlite"):
        path = Path(str(make_url(uri).database))
        if path.parent.is_dir() and (not path.exists() or path.stat().st_size == 0):
            _make(path)
    patience = {"connect_timeout": TIMEOUT} if uri.startswith(("postgresql", "mysql")) else {}
    engine = create_engine(uri, connect_args=patience)
    inspect(engine).has_table("runs")
    engine.dispose()


def _make(path: Path) -> None:
    from mlflow import MlflowClient

    with atomically(path) as beside:
        client = MlflowClient(sqlite(beside))
        client._tracking_client.store.engine.dispose()
