"""A cell's identity: it changes with everything that decides the result, and with nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cells.cell import Cell
from harness.cells.provenance import provenance
from harness.registry.config import registry, resolve
from harness.util.errors import HarnessError
from harness.util.fingerprint import _read

pytestmark = pytest.mark.unchecked


def cell(*overrides: str) -> Cell:
    return Cell.of(resolve(overrides, registry()), registry())


@pytest.fixture(scope="module")
def usual() -> Cell:
    """The cell of the defaults."""
    return cell()


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Copy a built-in plugin under another name and load it."""

    def copy(source: str, name: str) -> Path:
        original = Path(__file__).parents[2] / "plugins" / source
        path = tmp_path / f"{name}.py"
        path.write_text(original.read_text().replace(f'= "{original.stem}"', f'= "{name}"'))
        monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(path))
        return path

    return copy


def test_the_same_overrides_give_the_same_cell() -> None:
    assert cell("seed=1").id == cell("seed=1").id


@pytest.mark.parametrize(
    "override",
    [
        "affinity=mutual_information",
        "affinity.l2=0.01",
        "partitioner.k=[4,6]",
        "binarizer=median",
        "selector.count=2",
        "batch.n=100",
        "batch=natural_text",
        "labels=survey_paper",
        "controls=uniform",
        "controls.n=59",
        "controls.seed=1",
        "metric=[loss]",
        "metric=[loss,accuracy,target_logit]",
        "split=none",
        "alpha=0.01",
        "ddof=0",
        "seed=1",
        "group=[L0H0]",
    ],
)
def test_settings_that_change_the_result_change_the_identity(override: str, usual: Cell) -> None:
    assert (cell(override).id == usual.id) == (override == "binarizer=median")  # median is the default


@pytest.mark.parametrize(
    "override",
    ["workspace=elsewhere", "tracking=none", "force=true", "cache=false", "cache_limit=1GB", "subject.device=cpu"],
)
def test_output_and_compute_settings_do_not_change_the_identity(override: str, usual: Cell) -> None:
    changed = cell(override)
    assert changed.id == usual.id
    assert changed.protocol == usual.protocol
    assert changed.title == usual.title


def test_a_group_given_by_hand_does_not_depend_on_the_proposing_methods() -> None:
    by_hand = cell("group=[L0H0,L1H1]")
    assert by_hand.id == cell("group=[L0H0,L1H1]", "affinity=mutual_information", "partitioner.k=[2]").id
    assert by_hand.id != cell("group=[L0H0]").id
    assert by_hand.id != cell("group=[L0H0,L1H1]", "intervention=zero", "controls=uniform").id
    assert by_hand.method == "by hand: L0H0 L1H1"


def test_a_group_judged_where_it_is_active_depends_on_the_signal() -> None:
    by_hand, signal = ("group=[L0H0,L1H1]", "scope=active"), "signal=output_norm"
    assert cell(*by_hand).id != cell(*by_hand, signal).id
    assert cell(by_hand[0]).id == cell(by_hand[0], signal).id


def test_provenance_names_the_stages_that_a_cell_runs() -> None:
    def listed(*overrides: str) -> set[str]:
        return set(provenance(cell(*overrides))["plugins"])

    assert {"signal", "affinity", "partitioner", "labels"} <= listed()
    by_hand = {"subject", "batch", "stratifier", "intervention", "controls", "metric"}
    assert listed("group=[L0H0]") == by_hand
    assert listed("group=[L0H0]", "scope=active") == by_hand | {"signal"}
    assert listed("group=[L0H0]", "controls=class_matched") == by_hand | {"labels"}
    assert "affinity=" not in cell("group=[L0H0]").command
    assert "affinity" not in listed("partitioner=layers", "chooser=fixed", "selector=largest")


@pytest.mark.parametrize(
    ("source", "name", "overrides"),
    [
        ("affinities/mutual_information.py", "zz_affinity", ["affinity=zz_affinity"]),
        ("metrics/loss.py", "zz_loss", ["metric=[zz_loss]"]),
        ("controls/uniform.py", "zz_controls", ["controls=zz_controls"]),
    ],
)
def test_changed_plugin_code_makes_a_different_cell(
    mine: Callable[[str, str], Path], source: str, name: str, overrides: list[str]
) -> None:
    path = mine(source, name)
    before = cell(*overrides).id
    path.write_text(path.read_text() + "\n# another thought\n")
    assert cell(*overrides).id == before, "what runs in this process is what was loaded"
    _read.cache_clear()  # as in another process
    assert cell(*overrides).id != before


def test_a_changed_text_makes_a_different_cell(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("one")
    words = ("batch=natural_text", f"batch.text={text}")
    before = cell(*words).id
    text.write_text("two")
    assert cell(*words).id != before
    text.write_text("one")
    assert cell(*words).id == before


def test_the_row_covers_the_proposing_methods_and_the_protocol_covers_the_test(usual: Cell) -> None:
    for override in ("affinity.l2=0.01", "partitioner.k=[4]", "selector.count=2", "affinity=mutual_information"):
        changed = cell(override)
        assert changed.row != usual.row
        assert changed.protocol == usual.protocol
    for override in ("controls.n=59", "alpha=0.01", "split=none", "metric=[loss]", "labels=survey_paper"):
        changed = cell(override)
        assert changed.row == usual.row
        assert changed.protocol != usual.protocol
    for override in ("batch=natural_text", "batch.n=100", "subject.checkpoint=400", "seed=2"):
        changed = cell(override)
        assert changed.id != usual.id
        assert changed.row == usual.row
        assert changed.protocol == usual.protocol


def test_only_settings_that_differ_from_the_defaults_are_shown() -> None:
    assert cell().method == "max_attention median ising spectral stability most_separated"
    assert cell("affinity.l2=0.01").method == "max_attention median ising(l2=0.01) spectral stability most_separated"
    assert cell("partitioner.k=[4,6]").describe("partitioner") == "spectral(k=[4, 6])"
    assert cell("subject.device=cpu").describe("subject") == "tiny"
    assert cell().title == "tiny · random_repeat · max_attention median ising spectral stability most_separated · zero"


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["affinity.l2=0.01", "partitioner.k=[4,6]", "batch.vocab=[5,90]", "batch.length=64"],
        ["group=[L0H0,L1H1]", "metric=[loss,target_logit]", "split=none", "seed=3"],
        ["batch=natural_text", "batch.text='./my notes, in 2 files'", "selector.count=4", "labels=survey_paper"],
    ],
)
def test_the_command_of_a_cell_reproduces_it(overrides: list[str]) -> None:
    original = cell(*overrides)
    program, verb, *words = shlex.split(original.command)
    assert (program, verb) == ("harness", "run")
    assert cell(*words).id == original.id


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("affinity.l2=small", r"affinity\.l2='small'"),
        ("affinity.l2=-1", r"affinity\.l2=-1"),
        ("+affinity.l3=1", "parameter 'l3' is not known. Did you mean: l2"),
        ("+alfa=1", "key 'alfa' is not known. Did you mean: alpha"),
        ("~affinity", "no affinity is chosen"),
        ("metric=[los]", "metric 'los' is not known. Did you mean: loss"),
        ("metric=[]", "no metric is chosen"),
        ("transform=[standardise]", "transform 'standardise' is not known. Did you mean: standardize"),
        ("reruns=-1", "reruns=-1: must be at least 0. The default is 5."),
        ("alpha=0", "alpha=0: must be greater than 0"),
        ("alpha=1", "alpha=1: must be less than 1"),
        ("ddof=2", "ddof=2"),
        ("split=thirds", "split='thirds'"),
        ("group=L0H1", "group='L0H1'"),
        ("seed=0.5", r"seed=0\.5"),
        ("force=maybe", "force='maybe'"),
        ("cache=maybe", "cache='maybe'"),
        ("cache_limit=10GBit", "cache_limit: .10GBit. is not an amount of memory"),
    ],
)
def test_an_invalid_cell_is_refused(override: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        cell(override)


def test_a_misspelled_key_in_a_configuration_file_is_refused() -> None:
    """Hydra does not detect additional keys in files, as it does on the command line."""
    found: dict[str, Any] = resolve([], registry())
    found["affinity"]["l3"] = 0.1
    with pytest.raises(HarnessError, match="parameter 'l3' is not known"):
        Cell.of(found, registry())
