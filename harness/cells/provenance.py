"""The provenance of a record: command, code, packages, machine."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from harness.cells.cell import Cell
from harness.data.stages import inputs_of

PACKAGES = ("closure-harness", "torch", "transformers", "numpy", "scikit-learn", "hydra-core", "pluggy", "mlflow")

CODE = ("harness", "plugins", "conf", "pyproject.toml", "constraints.txt")  # a new board changes no result

LOGIN = re.compile(r"://(?P<user>[^:/@]*)(?P<password>:[^/@]*)?@")


def provenance(cell: Cell) -> dict[str, Any]:
    """What is needed to reproduce a record: the command, the code and its owners, packages, the machine."""
    import torch

    return {
        "command": cell.command,
        "typed": [Path(sys.argv[0]).name, *map(without_password, sys.argv[1:])],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "packages": _packages(),
        "plugins": {
            stage: [f"{method.name} ({method.owner}, code {method.code[:12]})" for method in cell.methods[stage]]
            for stage in _asked(cell)
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def _asked(cell: Cell) -> list[str]:
    """The stages that this cell ran: the labels of a group named by hand only if its controls ask for them."""
    labels = not cell.settings.group or any("labels" in inputs_of(method.cls) for method in cell.methods["controls"])
    return [stage for stage in cell.used if cell.methods[stage] and (labels or stage != "labels")]


@cache
def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@cache
def _commit() -> str | None:
    """The commit of the harness's checkout, with ``+`` if its code has changes; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no", "--", *CODE) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(where: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True, check=True).stdout.strip()


def without_password(uri: str) -> str:
    """The address with its password hidden: ``https://user:***@host``."""
    return LOGIN.sub(lambda login: f"://{login['user']}{':***' if login['password'] else ''}@", uri)


def without_login(uri: str) -> str:
    """The address without user and password: ``https://host``."""
    return LOGIN.sub("://", uri)
