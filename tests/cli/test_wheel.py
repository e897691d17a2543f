"""The built wheel works without the checkout, in an empty environment and folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def call(*words: str | Path, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HARNESS_", "PYTHON"))}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, env=clean, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commands of a fresh environment that holds our wheel and sees our dependencies, but not this checkout."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in ("harness", "plugins", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    call(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", place, source, cwd=place
    )
    (wheel,) = place.glob("closure_harness-*.whl")
    assert wheel.stat().st_size < 60e6  # mostly trained weights

    venv.create(place / "venv", with_pip=True)
    python = place / "venv" / "bin" / "python"
    call(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=place)
    site_packages = Path(
        call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip()
    )
    # A plain path in a .pth file adds the dependencies, and leaves the editable install's own .pth unread.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = call(python, "-c", "import harness, harness_plugins, harness_conf; print(harness.__file__)", cwd=place)
    assert Path(where.strip()).is_relative_to(place / "venv")
    return place / "venv" / "bin"


def test_the_wheel_lists_its_methods(installed: Path, tmp_path: Path) -> None:
    listing = json.loads(call(installed / "harness", "list", "--json", cwd=tmp_path))
    assert listing["broken"] == []
    assert {"tiny", "hf", "ising", "spectral", "natural_text"} <= {method["name"] for method in listing["methods"]}
    assert not list(tmp_path.iterdir())


def test_the_wheel_runs_a_cell_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    answer = call(installed / "harness", "run", "batch.n=16", "controls.n=19", "tracking=none", "--json", cwd=tmp_path)
    record = json.loads(answer)
    assert record["status"] == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
