"""The file of an unfinished decomposition: written now and then, and read when the same command is typed again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.decomposition.train import Training
from harness.util.errors import HarnessError
from harness.util.json_files import parse_json

HEADER = "unfinished"
CHANGEABLE = ("rate",)
"""Settings with which a run may continue that began with others, because it diverged."""


def checkpoint_of(out: Path) -> Path:
    """The file beside ``out``."""
    return out.with_name(f"{out.name}.unfinished")


def write(file: Path, training: Training, task: Mapping[str, Any]) -> None:
    """Write the state of a training. ``task``: what it decomposes, and how."""
    from safetensors.torch import save_file

    header = {
        "task": dict(task),
        "step": training.step,
        "highest": training.highest if training.step else None,
        "rates": training.rates,
    }
    beside = file.with_name(f".{file.name}")
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in training.state().items()}
    save_file(tensors, beside, metadata={HEADER: json.dumps(header, sort_keys=True)})
    beside.replace(file)  # a run that is stopped while it writes keeps the former one


def read(file: Path, training: Training, task: Mapping[str, Any]) -> None:
    """Continue from the file, if there is one. Errors: it is of another task; it cannot be read."""
    from safetensors import safe_open

    if not file.is_file():
        return
    try:
        with safe_open(file, framework="pt") as opened:
            header = parse_json(opened.metadata()[HEADER].encode())
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
        former, step, highest = (header[key] for key in ("task", "step", "highest"))
        rates = [(int(since), float(rate)) for since, rate in header["rates"]]
    except Exception as error:  # a damaged file can raise anything
        raise HarnessError(
            f"{file}: it is no unfinished decomposition.", "Remove it, or choose another out=FILE."
        ) from error
    now = json.loads(json.dumps(dict(task)))
    other = next((key for key in now if key not in CHANGEABLE and former.get(key) != now[key]), None)
    if other:
        raise HarnessError(
            f"{file}: it is the beginning of another decomposition: {other} is {former.get(other)} there, and "
            f"{now[other]} here.",
            "Type the command as before, choose another out=FILE, or remove the file.",
        )
    training.restore(state, step, math.inf if highest is None else highest, rates)
