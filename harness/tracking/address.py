"""Tracking stores by their address: which there are, and why one does not work, in words."""

from __future__ import annotations

import re
from pathlib import Path

from harness.cells.provenance import without_password
from harness.records.workspace import Workspace
from harness.registry.command import command, override
from harness.util.errors import HarnessError

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
TIMEOUT = 10  # seconds that a server or database may take to answer
REASONS = {
    r"refused": "the connection was refused, so no server listens there",
    r"[Tt]imed? ?out|timeout": "it did not answer in time",
    r"resolve|getaddrinfo|not known|could not translate host": "its host name is not known",
    r"too many 5\d\d|error code 5\d\d|INTERNAL_ERROR": "the server answered with an internal error (5xx)",
    r"\b401\b|\b403\b|PERMISSION_DENIED|UNAUTHENTICATED|password authentication": "it refused the login",
    r"JSON|error code 404|BadStatusLine|not an MLflow": "what answers there is not an MLflow server",
    r"[Cc]onnection (aborted|reset|broken)|RemoteDisconnected|IncompleteRead": "the connection broke off",
    r"must be in the '?active'?|deleted": "its experiment or run was deleted by hand while it was in use",
    r"database is locked": "another process holds the database for too long",
    r"disk is full|No space left": "the disk is full",
    r"file is not a database|malformed": "the file is not an SQLite database",
    r"unable to open database|No such file|Not a directory": "the database file cannot be opened",
    r"readonly database|Permission denied|Read-only file": "it cannot be written to",
    r"out-of-date database schema": "the database is of another version of MLflow (see mlflow db upgrade)",
}
"""What the errors of MLflow, its HTTP client and its databases say, as a pattern, and what it means."""


def address(tracking: str, workspace: Workspace) -> str | None:
    """The tracking URI, absolute so that it does not depend on the current folder. None: no tracking.

    Errors: an address that MLflow cannot write to; a database whose driver is not installed.
    """
    if tracking == "none":
        return None
    uri = database_of(workspace.root) if tracking == "local" else tracking
    scheme, _, rest = uri.partition("://")
    kind = scheme.partition("+")[0]
    if not rest or kind not in (*DATABASES, "http", "https", "databricks"):
        raise HarnessError(
            f"tracking={without_password(tracking)}: this is not the address of a tracking server or database.",
            "Write tracking=local, tracking=none, tracking=http://HOST:5000, or a database: "
            "sqlite:////ABSOLUTE/PATH.db, postgresql://USER@HOST/NAME",
        )
    if kind in DATABASES[1:]:
        from sqlalchemy import make_url

        try:
            make_url(uri).get_dialect().import_dbapi()
        except ImportError as error:
            raise HarnessError(
                f"tracking={without_password(uri)}: Python's driver for {kind} is not installed ({error}).",
                "For PostgreSQL: pip install 'psycopg[binary]'",
            ) from error
    return uri


def database_of(root: Path) -> str:
    """The address of the database in a workspace."""
    return sqlite(root / "mlflow.db")


def sqlite(path: Path) -> str:
    """The address of an SQLite database; its path may hold any characters."""
    encoded = str(path).replace("%", "%25").replace("?", "%3F")
    # With the plain scheme, MLflow makes the folders of the path as it is encoded.
    return f"sqlite{'' if encoded == str(path) else '+pysqlite'}:///{encoded}"


def sync_command(uri: str, root: Path) -> str:
    """The command that copies the records of a workspace to a store later."""
    store = [] if uri == database_of(root) else [override("tracking", without_password(uri))]
    return command("sync", override("workspace", str(root)), *store)


def unreachable(uri: str, error: Exception) -> str:
    """The sentence about a store that does not work: its address and the reason."""
    if isinstance(error, HarnessError):
        return str(error)
    message = without_password(str(error).strip().partition("\n")[0]) or type(error).__name__
    reason = next((words for pattern, words in REASONS.items() if re.search(pattern, str(error))), message[:300])
    return f"tracking at {without_password(uri)} does not work: {reason}"
