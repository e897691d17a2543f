"""Subjects of other units than heads, chosen by one word: a cell ends in a verdict, with methods that fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data.stages import STAGES
from harness.records.reader import read_record
from harness.records.record import Status
from harness.registry.config import registry, resolve, resolve_all

Run = Callable[..., Any]
FEW = ("batch.n=16", "batch.length=48", "controls.n=19", "reruns=2", "tracking=none")
UNITS = {"mlp_layers": ("L0.mlp", 4), "stream": ("L0.stream", 4), "kv_groups": ("L0K0", 32)}


@pytest.mark.parametrize("subject", UNITS)
def test_a_family_alone_ends_in_a_verdict(subject: str, harness: Run, tmp_path: Path) -> None:
    answer = harness("run", f"subject={subject}", *FEW)
    assert answer.code == 0, answer.err
    (path,) = tmp_path.glob("runs/records/*/record.json")
    record = read_record(path)
    assert (record.units[0], len(record.units)) == UNITS[subject]
    assert record.status is Status.OK
    assert record.closure[0].verdict.value.upper().replace("_", " ") in answer.out
    assert record.cell.supervised == ()


def test_neurons_and_heads_in_one_space_end_in_a_verdict(harness: Run) -> None:
    words = ("subject=mlp_neurons", "subject.layers=[1]", "subject.also=[heads,mlp_layers]", "intervention=mean")
    record = harness("run", *words, *FEW, "--json").data
    assert record["status"] == "ok", record["reason"]
    assert record["units"][:2] == ["L0H0", "L0H1"]
    assert len(record["units"]) == 384 + 4 * (8 + 1)
    assert record["cost"]["flops"] > 0
    assert record["closure"][0]["verdict"]


def test_a_group_named_by_hand_is_tested(harness: Run) -> None:
    answer = harness("close", "L1.mlp,L2H3", "subject=mlp_layers", "subject.also=[heads]", *FEW, "--json")
    assert answer.code == 0, answer.err
    assert answer.data["closure"][0]["units"] == ["L1.mlp", "L2H3"]


# -- methods that fit --------------------------------------------------------------------------------------------------


def chosen(*words: str) -> dict[str, Any]:
    config = resolve(words, registry())
    return {stage: config[stage].get("name") or list(config[stage]) for stage in STAGES if config[stage]}


def test_a_subject_chooses_for_other_stages() -> None:
    methods = registry()
    for name in ("mlp_layers", "mlp_neurons", "kv_groups", "stream"):
        found, defaults = chosen(f"subject={name}"), methods.get("subject", name).defaults
        assert found["signal"] == "activation"
        assert found["labels"] == "none"
        assert found["selector"] == "most_isolated"  # selector=isolated is a preset of it
        assert {stage: found[stage] for stage in defaults if stage != "selector"} == {
            stage: choice for stage, choice in defaults.items() if stage != "selector"
        }
    assert chosen()["signal"] == "max_attention"


@pytest.mark.parametrize(
    ("words", "selector", "controls", "signal"),
    [
        ((), "most_isolated", "depth_band", "activation"),
        (("preset=paper",), "paper_score", "uniform", "activation"),
        (("preset=paper", "selector=largest"), "largest", "uniform", "activation"),
        (("signal=output_norm", "controls=layer_matched"), "most_isolated", "layer_matched", "output_norm"),
        (("experiment=mine",), "largest", "depth_band", "usage"),
        (("experiment=mine", "signal=output_norm", "preset=paper"), "largest", "uniform", "output_norm"),
    ],
)
def test_words_come_before_experiments_before_presets_before_the_subject(
    words: tuple[str, ...],
    selector: str,
    controls: str,
    signal: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /selector: largest\n  - override /signal: usage\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    monkeypatch.setenv("HARNESS_CONFIG_DIR", str(tmp_path))
    found = chosen("subject=mlp_layers", *words)
    assert (found["selector"], found["controls"], found["signal"]) == (selector, controls, signal)


def test_an_experiment_may_choose_the_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /subject: stream\n  - override /affinity: cosine\n"
    )
    monkeypatch.setenv("HARNESS_CONFIG_DIR", str(tmp_path))
    found = chosen("experiment=mine")
    assert (found["subject"], found["affinity"], found["controls"]) == ("stream", "cosine", "depth_band")


def test_every_subject_of_a_sweep_has_methods_that_fit_it(harness: Run) -> None:
    answer = harness("plan", "subject=tiny,mlp_layers,mlp_neurons", "affinity=pearson,cosine", "--json")
    assert answer.code == 0, answer.err
    titles = [row["title"] for row in answer.data]
    assert [("max_attention" in title, "activation" in title) for title in titles] == [(True, False)] * 2 + [
        (False, True)
    ] * 4


def test_parameters_of_a_method_that_a_swept_subject_chooses_can_be_set() -> None:
    cells = resolve_all([(f"subject={s}", "partitioner.resolution=[2.0]") for s in ("stream", "kv_groups")], registry())
    assert [cell["partitioner"]["resolution"] for cell in cells] == [[2.0], [2.0]]


def test_the_command_of_a_cell_gives_the_same_cell(harness: Run) -> None:
    import shlex

    from harness.cells.cell import Cell

    methods = registry()
    words = ("subject=mlp_neurons", "subject.layers=[1,2]", "subject.also=[heads]", "controls.n=30")
    cell = Cell.of(resolve(words, methods), methods)
    again = Cell.of(resolve(shlex.split(cell.command)[2:], methods), methods)
    assert again.id == cell.id


def test_show_says_what_a_subject_chooses(harness: Run) -> None:
    answer = harness("show", "subject", "mlp_layers")
    assert "Unless others are chosen, a cell with it has:\n  labels=none signal=activation" in answer.out
    assert harness("show", "subject", "mlp_layers", "--json").data["defaults"]["controls"] == "depth_band"
    assert "Unless others" not in harness("show", "subject", "tiny").out


def test_defaults_of_a_stage_that_is_not_there_are_refused(harness: Run, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from harness import hookimpl\n"
        "@dataclass(frozen=True)\n"
        "class Wrong:\n"
        "    '''A subject.'''\n"
        "    name: ClassVar[str] = 'wrong'\n"
        "    defaults: ClassVar[dict] = {'signals': 'activation'}\n"
        "    def __call__(self): ...\n"
        "@hookimpl\n"
        "def harness_subjects():\n"
        "    return [Wrong]\n"
    )
    answer = harness("list", "subject", "--plugin", "wrong.py")
    assert answer.code == 2
    assert "its defaults name signals, which is no stage: subject, batch" in answer.err


# -- cost, bad input ---------------------------------------------------------------------------------------------------


def test_plan_knows_the_cost_of_families(harness: Run) -> None:
    words = ("subject=kv_groups,mlp_neurons,mlp_layers,stream", "batch.n=64")
    answer = harness("plan", *words, "--json")
    assert answer.code == 0, answer.err
    seconds = {row["title"].split(" ")[0]: row["steps"]["closure"]["most"] for row in answer.data}
    assert len(seconds) == 4
    assert all(value > 0 for value in seconds.values())
    assert seconds["mlp_layers"] < seconds["mlp_neurons"]  # six groups instead of a hundred


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("subject=mlp_layers", "subject.path=nowhere/"), "subject.path=nowhere/: there is no such file or folder"),
        (("subject=mlp_neurons", "subject.layers=[4]"), "subject.layers=[4]: the model has no layer 4"),
        (("subject=mlp_neurons", "subject.also=[neurons]"), "subject.also"),
        (("subject=kv_groups", "subject.also=[heads]"), "every head is part of a KV group"),
        (("subject=stream", "subject.revision=7"), "tiny checkpoint '7' is not known"),
        (("subject=stream", "signal=max_attention"), "signal reads 'attention', which subject tiny does not have"),
    ],
)
def test_bad_input_is_refused_by_a_sentence(words: tuple[str, ...], message: str, harness: Run) -> None:
    answer = harness("run", *words, *FEW)
    assert answer.code == 2
    assert message in answer.err
