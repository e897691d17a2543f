"""The configurations of a grid are, key for key, those that Hydra composes cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest

from harness.registry import config, grid
from harness.registry.config import DIR_VARIABLE, NAME_VARIABLE, expand, registry, resolve_all
from harness.util.seeds import rng_for

pytestmark = pytest.mark.unchecked

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
COMPARED = 4


def assert_equal_to_hydra(*overrides: str) -> None:
    """Compare some cells of a sweep, drawn at random, with Hydra's own composition of each."""
    methods = registry()
    cells = expand(overrides, methods)
    found = resolve_all(cells, methods)
    for i in rng_for(0, "compared cells").permutation(len(cells))[:COMPARED].tolist():
        with config.hydra_ready():
            expected = config.plain(hydra.compose(config.config_name(), overrides=cells[i]))
        assert found[i] == expected, cells[i]


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The words of every composition that the grid asks Hydra for."""
    asked = []
    compose = grid.compose

    def spy(name: str, overrides: list[str]) -> Any:
        asked.append(overrides)
        return compose(name, overrides=overrides)

    monkeypatch.setattr(grid, "compose", spy)
    return asked


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write configuration files into a folder that Hydra searches."""

    def write(**texts: str) -> None:
        for name, text in texts.items():
            path = (tmp_path / name.replace("__", "/")).with_suffix(".yaml")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    monkeypatch.setenv(DIR_VARIABLE, str(tmp_path))
    return write


QUICK = {"grid", "moe_routes", "paper_claims", "spd_mechanisms"}  # Hydra takes six seconds for each


@pytest.mark.parametrize(
    "experiment", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS]
)
def test_the_cells_of_a_shipped_experiment_are_those_of_hydra(experiment: str) -> None:
    assert_equal_to_hydra(f"experiment={experiment}")


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=grid", "seed=range(0,3)", "affinity=glob(*,exclude=[precomputed])"],
        ["experiment=robustness", "preset=default,paper"],
        ["preset=default,paper", "controls=uniform,layer_matched", "alpha=0.01,0.05", "controls.n=19,39"],
        ["subject=glob([pl*,ti*])", "batch.n=64,128", "batch=natural_text,synthetic_induction"],
        ["experiment=paper_1,paper_5", "affinity=ising,cosine", "partitioner.k=[4],[4,6]"],
        ["affinity=ising,pearson", "alpha=0.02,0.1", "~preset", "~seed"],
        ["subject=precomputed", "affinity=precomputed", "affinity.path=a,b"],
        ["metric=[loss],[accuracy,loss]", "transform=[],[standardize]"],
        ["batch@contrast=natural_text,synthetic_induction", "contrast.n=6,8"],
        ["affinity=ising", "affinity.l2=0.1,0.2", "reruns=2,3", "split=${oc.env:NO_SUCH,none},half"],
    ],
    ids=" ".join,
)
def test_other_sweeps_are_those_of_hydra(words: list[str]) -> None:
    assert_equal_to_hydra(*words)


def test_every_choice_of_a_grid_is_composed_once(composed: list[Any]) -> None:
    methods = registry()
    cells = expand(["experiment=grid", "seed=range(0,10)"], methods)
    assert len(resolve_all(cells, methods)) == 810
    assert len(composed) == 1 + 2 + 2 + 2 + 2, "the first cell, and the other choices of four keys; a seed is a value"


def test_a_choice_that_sets_other_parts_is_composed_with_all_of_them(files: Any, composed: list[Any]) -> None:
    files(
        subject__far="# @package _global_\ndefaults:\n  - /subject@subject: tiny\n  - _self_\naffinity:\n  l2: 0.5\n",
        preset__picks="# @package _global_\ndefaults:\n  - override /affinity: ising\n  - _self_\nalpha: 0.05\n",
    )
    assert_equal_to_hydra("subject=tiny,far", "alpha=0.01,0.05", "seed=0,1")
    assert_equal_to_hydra("preset=default,picks", "alpha=0.05,0.1", "binarizer=median,mean")
    assert len(composed) == (1 + 2) + 2 * 2, "alpha and seed are values; a preset is composed with every binarizer"


def test_a_file_that_two_keys_choose_together_is_found(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files(
        pairs="defaults:\n  - config\n  - optional pair: ${affinity}_${binarizer}\n  - _self_\n",
        pair__pearson_mean="# @package _global_\nalpha: 0.2\n",
    )
    monkeypatch.setenv(NAME_VARIABLE, "pairs")
    assert_equal_to_hydra("affinity=ising,pearson", "binarizer=median,mean")


def test_an_interpolation_takes_the_value_of_its_own_cell() -> None:
    methods = registry()
    cells = expand(["reruns=${seed}", "seed=3,4", "affinity=ising,pearson"], methods)
    assert [(found["seed"], found["reruns"]) for found in resolve_all(cells, methods)] == [(3, 3)] * 2 + [(4, 4)] * 2
