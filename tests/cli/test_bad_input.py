"""Bad input: a clear error, exit code 2, and no record lost or half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

BATCH = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from harness import Tokens, hookimpl

@dataclass(frozen=True)
class Handmade:
    \"\"\"A batch with one wrong number.\"\"\"
    name: ClassVar[str] = "handmade"
    query: int = 9
    target: int = 5
    def __call__(self, vocabulary):
        n = 8
        first = np.zeros((n, 1), dtype=np.int64)
        return Tokens("handmade", np.full((n, 10), 7), np.full(n, self.query), np.full(n, self.target),
                      {"first-token": first}, "successor")

@hookimpl
def harness_batches():
    return [Handmade]
"""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "affinity=isng"], ["affinity 'isng' is not known", "Did you mean: ising?", "mutual_information"]),
        (["run", "subject=tinny"], ["subject 'tinny' is not known", "Did you mean: tiny, tiny_moe, toy?"]),
        (["run", "affinity.l3=1"], ["no key 'affinity.l3'", "harness list affinity"]),
        (["run", "affinity.l2=abc"], ["affinity.l2='abc'", "The default is 0.001"]),
        (["run", "partitioner.k=[4,x]"], ["partitioner.k", "'x'"]),
        (["run", "affinity.l2=-1"], ["affinity.l2=-1", "must be greater than 0"]),
        (["run", "alpha=2"], ["alpha=2: must be less than 1", "The default is 0.05"]),
        (["run", "metric=[los]"], ["metric 'los' is not known", "loss"]),
        (["run", "affinity=ising,mutual_information"], ["affinity"]),
        (["run", "nonsense"], ["'nonsense' is not of the form KEY=VALUE"]),
        (["runn"], ["command 'runn' is not known", "Did you mean: run, ranking?"]),
        (["run", "partitioner.k=[4,64]", "batch.n=8"], ["64 groups cannot be made of 32 units"]),
        (["run", "subject=hf", "subject.path=./no-such-folder"], ["no-such-folder"]),
        (
            ["run", "batch.length=4096", "batch.n=8"],
            ["two copies of different tokens do not fit", "batch.length=128 or less"],
        ),
        (["run", "batch.vocab=[100,10000]", "batch.n=8"], ["outside the subject's vocabulary"]),
        (["run", "batch=natural_text", "batch.n=10000000"], ["10000000 were requested", "batch.n="]),
        (["run", "batch=natural_text", "batch.text=./missing.txt"], ["missing.txt", "does not exist"]),
        (["run", "batch.n=1"], ["one example cannot be split", "split=none"]),
        (
            ["run", "stratifier=routes", "batch.n=8"],
            ["stratifier reads 'router', which subject tiny", "only mixtures of experts have routers"],
        ),
        (["run", "stratifier=random", "stratifier.k=9", "batch.n=8"], ["4 examples are proposed on", "k=9"]),
        (["run", "give_up=5"], ["give_up is now called futility.", "Write futility=5."]),
        (["sweep", "give_up=5,10"], ["give_up is now called futility.", "Write futility=5,10."]),
        (["plan", "batch@elsewhere=natural_text"], ["batch@elsewhere is now called batch@contrast."]),
        (["close", "L0H0", "elsewhere.n=6"], ["elsewhere.n is now called contrast.n.", "Write contrast.n=6."]),
        (["propose", "give_up=null"], ["Write futility=null."]),
        (["survey", "give_up=5"], ["Write futility=5."]),
        (["calibrate", "give_up=5"], ["Write futility=5."]),
        (["close", "L9H9"], ["unit 'L9H9' is not a unit of this subject"]),
        (["close", "banana"], ["unit 'banana' is not a unit of this subject.", "It has 32 units: L0H0 .. L3H7"]),
        (["close", "L0H0,L0H0"], ["named twice"]),
        (["close"], ["close needs the units of a group"]),
        (["list", "affinty"], ["stage 'affinty' is not known", "affinity"]),
        (["show", "affinity", "isin"], ["affinity 'isin' is not known", "ising"]),
        (["show", "ising"], ["a stage and a name"]),
        (["check", "isng"], ["plugin 'isng' is not known"]),
        (["leaderboard"], ["holds no records"]),
        (["leaderboard", "affinity=ising"], ["has no effect here"]),
        (["sweep", "affinity=isng,ising"], ["isng"]),
        (["run", "--plugin", "no_such_file.py"], ["no_such_file.py", "there is no file"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].islower() else "",
)
def test_bad_input_is_refused_with_what_where_why_and_the_fix(
    harness: Run, words: list[str], says: list[str], tmp_path: Path
) -> None:
    answer = harness(*words, *(["tracking=none"] if words[0] in ("run", "close", "sweep") else []))
    assert answer.code == 2, answer.err
    for part in says:
        assert part in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert not list(tmp_path.glob("runs/records/*/.*")), "a half-written file was left"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("batch.query=10", "query position 10 of example 0 is past its sequence of 10 tokens"),
        ("batch.target=99999", "target 99999 is outside the subject's vocabulary"),
        ("batch.target=-1", "target -1 is negative"),
    ],
)
def test_a_batch_from_a_plugin_is_checked(harness: Run, tmp_path: Path, override: str, says: str) -> None:
    plugin = tmp_path / "handmade.py"
    plugin.write_text(BATCH)
    answer = harness("run", "batch=handmade", override, "tracking=none", "--plugin", str(plugin))
    assert answer.code == 2
    assert says in answer.err


def test_a_model_whose_attention_cannot_be_intercepted_is_refused(harness: Run, tmp_path: Path) -> None:
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    config = GPTNeoConfig(
        vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64, intermediate_size=64,
    )  # fmt: skip
    GPTNeoForCausalLM(config).save_pretrained(tmp_path / "neo")
    answer = harness("run", "subject=hf", f"subject.path={tmp_path / 'neo'}", "batch.n=8", "tracking=none")
    assert answer.code == 2
    assert "GPTNeoForCausalLM cannot be intercepted" in answer.err


def test_an_unwritable_workspace_is_refused_before_anything_is_computed(harness: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    answer = harness("run", f"workspace={tmp_path / 'file' / 'runs'}")
    assert answer.code == 2
    assert "cannot be written to" in answer.err
    assert "workspace=DIR" in answer.err
    assert "recording" not in answer.err


@pytest.mark.parametrize(
    "damage", ["{", '{"schema": "closure-harness/record/999"}', '{"schema": "closure-harness/record/1"}', "[]"]
)
def test_a_damaged_record_is_named_and_left_alone(harness: Run, planted: Any, tmp_path: Path, damage: str) -> None:
    assert harness("run", *planted).code == 0
    (path,) = tmp_path.glob("runs/records/*/record.json")
    path.write_text(damage)
    for command in (("run", *planted), ("leaderboard",)):
        answer = harness(*command)
        assert answer.code == 2
        assert f"record {path.parent.name}" in answer.err
        assert "--force" in answer.err
    assert path.read_text() == damage
    assert harness("run", *planted, "--force").code == 0
    assert harness("leaderboard").code == 0


def test_a_failure_never_replaces_a_finished_record(
    harness: Run, planted: Any, affinity_plugin: Run, tmp_path: Path
) -> None:
    moody = affinity_plugin(
        "moody",
        "if os.environ.get('MOODY'):",
        "    raise RuntimeError('not today')",
        "return Affinity(1.0 - np.eye(len(spins.units)), spins.units)",
    )
    words = ("run", *planted, "affinity=moody", *moody)
    assert harness(*words).code == 0
    (path,) = tmp_path.glob("runs/records/*/record.json")
    before = path.read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOODY", "1")
        assert harness(*words, "--force", "cache=false").code == 1
    assert path.read_text() == before


def test_a_sweep_refuses_a_damaged_record_before_it_computes(harness: Run, planted: Any, tmp_path: Path) -> None:
    assert harness("run", *planted, "affinity=mutual_information").code == 0
    (path,) = tmp_path.glob("runs/records/*/record.json")
    path.write_text("{")
    answer = harness("sweep", *planted, "affinity=ising,mutual_information")
    assert answer.code == 2
    assert f"record {path.parent.name} is damaged" in answer.err
    assert path.read_text() == "{"
    assert len(list(tmp_path.glob("runs/records/*"))) == 1
