"""From the command line to a configuration: every mistake is refused with the correction."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from harness.cells.settings import Settings
from harness.data.stages import STAGES
from harness.registry.config import expand, registry, resolve, resolve_all, runs_here
from harness.util.errors import HarnessError

pytestmark = pytest.mark.unchecked


def config(*overrides: str) -> dict[str, Any]:
    return resolve(overrides, registry())


def grid(*overrides: str) -> list[list[str]]:
    return expand(overrides, registry())


def test_the_defaults_choose_every_stage_and_every_setting() -> None:
    found = config()
    assert set(found) == set(STAGES) | set(Settings.__dataclass_fields__)
    for stage in STAGES.values():
        for node in found[stage.name].values() if stage.many else [found[stage.name]]:
            assert set(node) == {"name", *registry().get(stage.name, node["name"]).parameters}


def test_the_store_of_methods_is_not_copied_for_a_composition_and_stays_as_it_is() -> None:
    store, usual = ConfigStore.instance(), config()
    assert deepcopy(store) is store
    changed = config("affinity.l2=0.5", "metric=[loss]", "partitioner.k=[3]")
    changed["partitioner"]["k"].append(4)
    assert config() == usual


def test_several_methods_are_chosen_in_order_and_each_has_its_own_parameters() -> None:
    found = config("metric=[loss,accuracy]", "transform=[standardize,residualize]", "transform.residualize.on=[layer]")
    assert list(found["metric"]) == ["loss", "accuracy"]
    assert list(found["transform"]) == ["standardize", "residualize"]
    assert found["transform"]["residualize"] == {"name": "residualize", "on": ["layer"]}
    assert config("metric=loss")["metric"] == {"loss": {"name": "loss"}}
    assert grid("transform=[],[standardize]") == [["transform=[]"], ["transform=[standardize]"]]


WITH_COUNTERFACTUALS = ["logit_difference", "accuracy", "target_logit", "loss"]
WITHOUT = ["log_odds", "accuracy", "target_logit", "loss"]
OF_OUTPUTS = ["squared_error"]
OF_ANSWERS = ["logit_difference", "two_way_accuracy"]
PAPER = ["target_logit", "accuracy", "loss"]


@pytest.mark.parametrize(
    ("words", "batch", "metrics"),
    [
        ([], "random_repeat", WITH_COUNTERFACTUALS),
        (["batch=natural_text"], "natural_text", WITH_COUNTERFACTUALS),
        (["batch=vectors"], "vectors", WITHOUT),
        (["subject=torch_module"], "vectors", WITHOUT),
        (["batch@contrast=vectors"], "random_repeat", WITH_COUNTERFACTUALS),
        (["batch=vectors", "batch@contrast=random_repeat"], "vectors", WITHOUT),
        (["batch=vectors", "metric=[loss]"], "vectors", ["loss"]),
        (["preset=paper"], "synthetic_induction", PAPER),
        (["preset=paper", "batch=vectors"], "vectors", PAPER),
        (["preset=paper", "metric=[loss]"], "synthetic_induction", ["loss"]),
        (["experiment=paper_1"], "synthetic_induction", PAPER),
        (["experiment=paper_2"], "synthetic_induction", PAPER),
        (["experiment=paper_3"], "natural_text", PAPER),
        (["experiment=paper_4"], "natural_text", PAPER),
        (["experiment=paper_5"], "natural_text", PAPER),
    ],
)
def test_a_batch_chooses_metrics_that_fit_its_examples(words: list[str], batch: str, metrics: list[str]) -> None:
    found = config(*words)
    assert (found["batch"]["name"], list(found["metric"])) == (batch, metrics)


def test_the_choice_of_a_subject_comes_before_that_of_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from harness import Subject, hookimpl\n"
        "@dataclass(frozen=True)\n"
        "class Mine:\n"
        '    """A subject whose outputs are no logits."""\n'
        "    name: ClassVar[str] = 'mine'\n"
        "    defaults: ClassVar[dict] = {'batch': 'natural_text', 'metric': ['squared_error']}\n"
        "    def __call__(self): ...\n"
        "@hookimpl\n"
        "def harness_subjects():\n"
        "    return [Mine]\n"
    )
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(tmp_path / "mine.py"))
    found = config("subject=mine")
    assert (found["batch"]["name"], list(found["metric"])) == ("natural_text", ["squared_error"])
    assert list(config("subject=mine", "metric=[loss]")["metric"]) == ["loss"]


def test_every_batch_that_is_offered_names_its_metrics() -> None:
    for name in registry().names("batch"):
        known = (WITH_COUNTERFACTUALS, WITHOUT, OF_OUTPUTS, OF_ANSWERS)
        assert registry().get("batch", name).defaults["metric"] in known


@pytest.mark.parametrize("override", ["metric=[accuracy,accuracy]", "transform=[standardize,standardize]"])
def test_a_method_that_is_listed_twice_is_refused(override: str) -> None:
    stage, _, names = override.partition("=")
    with pytest.raises(HarnessError, match=r"is listed twice") as caught:
        config(override)
    assert override in caught.value.what
    assert caught.value.fix == f"Type {stage}=[{names.strip('[]').split(',')[0]}]."
    with pytest.raises(HarnessError, match=r"is listed twice"):
        resolve_all(grid(f"{override},[]", "seed=0,1"), registry())


def test_the_defaults_of_settings_are_those_of_the_configuration_file() -> None:
    found, defaults = config(), Settings()
    for key in Settings.__dataclass_fields__:
        value = getattr(defaults, key)
        assert found[key] == (list(value) if isinstance(value, tuple) else value), key


def test_overrides_choose_methods_and_set_parameters() -> None:
    found = config("affinity=mutual_information", "affinity.pseudocount=0.5", "partitioner.k=[2,3]", "alpha=0.01")
    assert found["affinity"] == {"name": "mutual_information", "pseudocount": 0.5}
    assert found["partitioner"]["k"] == [2, 3]
    assert found["alpha"] == 0.01


def test_a_preset_is_a_method_with_other_values() -> None:
    published = config("labels=survey_paper")["labels"]
    assert published == {**config()["labels"], "baseline": "drawn"}


@pytest.mark.parametrize(
    ("override", "message", "fix"),
    [
        ("affinity=isng", "affinity 'isng' is not known. Did you mean: ising?", "mutual_information"),
        ("subject=tinny", "Did you mean: tiny, tiny_moe, toy?", "pythia-1b"),
        ("experiment=quickstop", "Did you mean: quickstart?", "quickstart"),
        ("affinity.l3=1", "there is no key 'affinity.l3'", "harness list affinity"),
        ("alfa=0.1", "there is no key 'alfa'", "harness run --help"),
        ("affinity.l2=[1", "configuration: ", "how overrides are written"),
        ("affinity.l2", "configuration: ", "how overrides are written"),
        ("affinity=null", "configuration: ", "how overrides are written"),
        ("affinity=ising,pearson", "affinity=ising,pearson has several values", "harness sweep affinity=ising,pearson"),
        ("seed=range(0,3)", "seed=range(0,3) has several values", "harness sweep 'seed=range(0,3)'"),
        (
            "experiment=quickstart",
            "the experiment sweeps affinity, partitioner,",
            "harness sweep experiment=quickstart",
        ),
        ("hydra.run.dir=x", "hydra.run.dir has no effect", "workspace=DIR"),
        ("+hydra.job.env_set.A=b", "hydra.job.env_set.A has an effect in sweeps only", "harness sweep"),
        ("seed=${no_such_key}", "configuration: ", "how overrides are written"),
    ],
)
def test_a_mistake_is_refused_with_the_correction(override: str, message: str, fix: str) -> None:
    with pytest.raises(HarnessError) as caught:
        config(override)
    assert message in caught.value.what
    assert fix in caught.value.fix


def test_package_markers_are_not_options() -> None:
    with pytest.raises(HarnessError) as caught:
        config("subject=nope")
    assert "__init__" not in caught.value.fix


def test_the_error_for_an_option_offered_twice_names_both_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(__file__).parents[2] / "plugins" / "binarizers" / "median.py"
    thief = tmp_path / "thief.py"
    thief.write_text(source.read_text())
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(thief))
    with pytest.raises(HarnessError, match="offered twice") as caught:
        registry().get("binarizer", config("binarizer=median")["binarizer"]["name"])
    assert str(thief) in caught.value.what


def test_overrides_without_lists_are_one_cell() -> None:
    assert grid("affinity=ising") == [["affinity=ising"]]
    assert grid() == [[]]


def test_comma_lists_are_multiplied_out() -> None:
    cells = grid("affinity=ising,mutual_information", "seed=0,1,2", "batch.n=64")
    assert len(cells) == 6
    assert {tuple(cell) for cell in cells} == {
        (f"affinity={affinity}", f"seed={seed}", "batch.n=64")
        for affinity in ("ising", "mutual_information")
        for seed in (0, 1, 2)
    }


def test_a_list_in_brackets_is_one_value() -> None:
    assert grid("partitioner.k=[2,3]", "group=[L0H0,L0H1]") == [["partitioner.k=[2,3]", "group=[L0H0,L0H1]"]]


def test_a_glob_expands_to_every_plugin_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine.py"
    median = (Path(__file__).parents[2] / "plugins" / "binarizers" / "median.py").read_text()
    mine.write_text(median.replace('"median"', '"zz_glob"'))
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(mine))
    found = {cell[0].removeprefix("binarizer=") for cell in grid("binarizer=glob(*)")}
    assert {"median", "zz_glob"} <= found
    assert grid("affinity=glob(*)") == [[f"affinity={name}"] for name in registry().names("affinity")]


def test_the_command_line_replaces_the_lists_of_an_experiment() -> None:
    assert len(grid("experiment=quickstart")) == 4
    assert len(grid("experiment=quickstart", "affinity=ising")) == 2
    assert len(grid("experiment=quickstart", "affinity=ising", "partitioner=leiden")) == 1
    assert len(grid("experiment=quickstart", "seed=1,2,3")) == 12


def test_several_experiments_are_swept_each_with_its_own_lists() -> None:
    both = grid("experiment=quickstart,baselines", "seed=1,2")
    assert both == [*grid("experiment=quickstart", "seed=1,2"), *grid("experiment=baselines", "seed=1,2")]
    assert len(both) == 2 * (4 + 3)


def test_every_cell_of_a_grid_resolves_independently() -> None:
    written = OmegaConf.load(Path(__file__).parents[2] / "conf" / "experiment" / "quickstart.yaml")
    for overrides in grid("experiment=quickstart"):
        found = config(*overrides)
        assert f"affinity={found['affinity']['name']}" in overrides
        assert found["batch"]["n"] == written.batch.n


@pytest.mark.parametrize("override", ["affinity=ising,,", "affinity=[", "nonsense"])
def test_a_grid_that_does_not_parse_is_refused(override: str) -> None:
    with pytest.raises(HarnessError, match="configuration"):
        grid(override)


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Every test here runs in its own folder, which shows that composing a configuration writes no file."""
    monkeypatch.chdir(tmp_path)
    return lambda: None


@pytest.mark.parametrize(
    ("overrides", "here"),
    [
        ([], True),
        (["experiment=methods", "affinity=ising,cosine"], True),
        (["hydra/launcher=joblib"], False),
        (["+hydra.callbacks.mine._target_=mine"], False),
        (["+hydra.job.env_set.A=b"], False),
    ],
)
def test_hydra_runs_a_sweep_only_if_it_sets_a_launcher_a_callback_or_the_environment(
    overrides: list[str], here: bool
) -> None:
    registry()
    if overrides == ["hydra/launcher=joblib"]:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    assert runs_here(overrides) == here


def test_the_grid_experiment_has_81_cells() -> None:
    cells = grid("experiment=grid")
    assert len(cells) == 81
    assert {word.partition("=")[0] for word in cells[0]} >= {"signal", "affinity", "partitioner", "intervention"}
