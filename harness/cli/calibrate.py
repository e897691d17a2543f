"""The command that measures the harness on planted groups: calibrate."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from pathlib import Path

from harness.cli.session import Session
from harness.registry.command import command, override
from harness.registry.config import search_options
from harness.util.errors import HarnessError

WORLDS = 20


def calibrate(arguments: Namespace) -> int:
    """Test groups of known kind, proposal methods, and the tests themselves; write page, tables and figure."""
    from harness.calibration.calibrate import calibrate as measure
    from harness.calibration.page import write
    from harness.util.threads import one_thread

    session = Session.open(arguments)
    rest = list(session.overrides)
    worlds = _number(session.named("worlds") or str(WORLDS))
    out = session.out or session.workspace.root / "calibration"
    _check_writable(out)
    with one_thread():
        calibration = measure(worlds, rest, session.registry, session.note)
    again = command("calibrate", override("worlds", worlds), *rest, *search_options())
    page = write(out, calibration, again)
    data = {
        "out": str(out),
        "command": again,
        "rulings": [dataclasses.asdict(ruling) for ruling in calibration.rulings],
        "shares": [dataclasses.asdict(share) for share in calibration.shares],
    }
    session.print(f"{page}\nsaved: {out / 'calibration.md'} · .csv · .json · .png", data)
    return 0


def _number(worlds: str) -> int:
    if not worlds.isdigit():
        raise HarnessError(f"worlds={worlds}: it must be a whole number.", f"Example: worlds={WORLDS}")
    return int(worlds)


def _check_writable(out: Path) -> None:
    """Errors: a folder that cannot be written to, found before minutes of computing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"out={out}: it cannot be written to: {error.strerror}.", "Choose another folder: out=DIR"
        ) from error
