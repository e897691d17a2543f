"""The command that measures the harness itself by planted truth."""

from __future__ import annotations

import dataclasses
import shlex
from argparse import Namespace
from pathlib import Path

from harness.cli.session import Session
from harness.util.errors import HarnessError

WORLDS = 20
OWN_WORDS = ("worlds", "out")


def calibrate(arguments: Namespace) -> int:
    """Groups of known kind and a few proposal methods, under both protocols; page, table and picture are kept."""
    from harness.calibration.calibrate import calibrate as measured
    from harness.calibration.page import write
    from harness.util.threads import one_thread

    session = Session.open(arguments)
    pairs = [word.partition("=") for word in session.overrides]
    told = {key: value for key, _, value in pairs if key in OWN_WORDS}
    rest = ["".join(pair) for pair in pairs if pair[0] not in OWN_WORDS]
    worlds = _number(told.get("worlds", str(WORLDS)))
    out = Path(told["out"]) if "out" in told else session.workspace.root / "calibration"
    _check_writable(out)
    with one_thread():
        made = measured(worlds, rest, session.registry, session.note)
    command = shlex.join(["harness", "calibrate", f"worlds={worlds}", *rest])
    page = write(out, made, command)
    data = {"out": str(out), "command": command, "rulings": [dataclasses.asdict(ruling) for ruling in made.rulings]}
    session.print(f"{page}\nsaved: {out / 'calibration.md'} · calibration.csv · calibration.png", data)
    return 0


def _number(worlds: str) -> int:
    if not worlds.isdigit():
        raise HarnessError(f"worlds={worlds}: it must be a whole number.", f"Example: worlds={WORLDS}")
    return int(worlds)


def _check_writable(out: Path) -> None:
    """Errors: a place that cannot be written to, said before minutes of computing."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"out={out}: it cannot be written to: {error.strerror}.", "Choose another: out=DIR"
        ) from error
