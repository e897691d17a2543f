"""A third-party distribution: installed by pip, found, checked, ranked with built-in methods, and uninstalled."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "third_party" / "closure-harness-jaccard"
SMALL = ("batch.n=24", "batch.length=48", "controls.n=19", "partitioner.k=[4,8]", "reruns=1", "tracking=none")


class Elsewhere:
    """A fresh environment that sees all packages installed here; its own packages are visible only in it."""

    def __init__(self, place: Path) -> None:
        venv.create(place / "venv", with_pip=False)
        self.place, self.python = place, place / "venv" / "bin" / "python"
        site_packages = Path(
            self.call(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        )
        here = sysconfig.get_path("purelib")
        # addsitedir reads the .pth files there, too
        (site_packages / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")

    def pip(self, *words: str | Path) -> str:
        """Run the pip of this environment on the other one."""
        return self.call(sys.executable, "-m", "pip", "--python", self.python, *words)

    def harness(self, *words: str) -> Any:
        """The JSON output of a command in that environment."""
        return json.loads(self.call(self.python, "-m", "harness", *words, "--json"))

    def affinities(self) -> dict[str, str]:
        """Name -> owner."""
        return {found["name"]: found["owner"] for found in self.harness("list", "affinity")["methods"]}

    def call(self, *words: str | Path, expected: int = 0) -> str:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HARNESS_", "PYTHON", "PIP_"))}
        done = subprocess.run(
            [str(word) for word in words], cwd=self.place, capture_output=True, text=True, env=clean, check=False
        )
        assert done.returncode == expected, done.stderr
        return done.stdout + (done.stderr if expected else "")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """The environment with the distribution in it, built and installed by pip from a copy, without an index."""
    place = tmp_path_factory.mktemp("third_party")
    shutil.copytree(SOURCE, place / "source", ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere = Elsewhere(place)
    assert "jaccard" not in elsewhere.affinities()
    elsewhere.pip("install", "-q", "--no-index", "--no-deps", "--no-build-isolation", place / "source")
    shutil.rmtree(place / "source")  # what was installed stands by itself
    return elsewhere


def test_the_method_is_listed_with_its_distribution_and_version(installed: Elsewhere) -> None:
    owners = installed.affinities()
    assert owners["jaccard"] == "closure-harness-jaccard 1.2.3"
    assert owners["mutual_information"].startswith("closure-harness ")
    assert installed.harness("list", "affinity")["presets"] == {"affinity": ["jaccard_strict"]}


def test_the_method_is_shown_with_its_source(installed: Elsewhere) -> None:
    shown = installed.harness("show", "affinity", "jaccard")
    assert "Jaccard 1912" in shown["doc"]
    assert shown["parameters"] == {"least": 0.0}


def test_the_method_satisfies_the_contract_of_its_stage(installed: Elsewhere) -> None:
    findings = installed.harness("check", "jaccard")
    assert {finding["outcome"] for finding in findings} <= {"passed", "skipped"}
    assert sum(finding["outcome"] == "passed" for finding in findings) >= 10


def test_the_method_and_its_preset_are_on_one_board_with_built_in_methods(installed: Elsewhere) -> None:
    swept = installed.harness("sweep", "affinity=jaccard,jaccard_strict,mutual_information", *SMALL)
    chosen = [cell["config"]["affinity"] for cell in swept["cells"]]
    assert [choice["name"] for choice in chosen] == ["jaccard", "jaccard", "mutual_information"]
    assert [choice["least"] for choice in chosen[:2]] == [0.0, 0.5]
    assert {cell["status"] for cell in swept["cells"]} == {"ok"}
    with (installed.place / "runs" / "boards" / "board.csv").open() as file:
        methods = [row["method"] for row in csv.DictReader(file) if row["cells"]]
    assert len(methods) == 3
    for affinity in (" jaccard ", " jaccard(least=0.5) ", " mutual_information "):
        assert sum(affinity in method for method in methods) == 1, (affinity, methods)


def test_the_experiment_of_the_distribution_is_found(installed: Elsewhere) -> None:
    planned = installed.harness("plan", "experiment=jaccard", *SMALL)
    assert len(planned) == 3


def test_an_uninstalled_distribution_offers_nothing(
    installed: Elsewhere,
) -> None:  # last: the environment is of no use afterwards
    installed.pip("uninstall", "-q", "-y", "closure-harness-jaccard")
    assert "jaccard" not in installed.affinities()
    answer = installed.call(installed.python, "-m", "harness", "run", "affinity=jaccard", expected=2)
    assert "affinity 'jaccard' is not known" in answer


def test_the_affinities_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from sklearn.metrics import jaccard_score

    from harness.data.recording import Spins
    from harness.data.units import UnitSpace

    monkeypatch.syspath_prepend(str(SOURCE))
    from closure_harness_jaccard import Jaccard

    up = np.random.default_rng(0).random((50, 6)) < [0.1, 0.3, 0.5, 0.5, 0.7, 0.9]
    matrix = Jaccard()(Spins(np.where(up, 1, -1).astype(np.int8), UnitSpace.heads([6]))).matrix
    for i in range(6):
        for j in range(i):
            assert matrix[i, j] == pytest.approx(jaccard_score(up[:, i], up[:, j]))
