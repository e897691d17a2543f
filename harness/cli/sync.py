"""The command that copies records to a tracking store afterwards: sync."""

from __future__ import annotations

from argparse import Namespace

from harness.cli.session import Session
from harness.util.errors import HarnessError


def sync(arguments: Namespace) -> int:
    """Copy the records of a workspace that have no run in the tracking store yet. No record is copied twice.

    Errors: no records, no tracking, a store that does not answer.
    """
    from harness.tracking.address import address, unreachable
    from harness.tracking.mlflow import mirror_of
    from harness.util.waiting import said_if_slow

    session = Session.open(arguments)
    workspace = session.workspace
    uri = address(session.settings.tracking, workspace)
    if uri is None:
        raise HarnessError("sync: tracking=none is not a tracking store.", "Write tracking=local or tracking=URI.")
    records = session.records()
    try:
        with said_if_slow(f"copying {len(records)} records"):
            copied = mirror_of(uri, workspace.root).copy_missing(records, workspace, parent=None)
    except HarnessError:
        raise
    except Exception as error:
        raise HarnessError(
            f"sync: {unreachable(uri, error)}", "Start the store, then repeat this command: it continues from here."
        ) from error
    session.print(
        f"{len(records)} records: {copied} copied, {len(records) - copied} already there",
        {"records": len(records), "copied": copied},
    )
    return 0
