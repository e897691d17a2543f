"""The words of a command line: one reader for all commands, one writer of what is printed to be pasted."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.board.report import report
from harness.board.write import boards_from
from harness.cells.cell import Cell
from harness.cells.rerun import rerun_words
from harness.cli.session import Session
from harness.cli.words import Words, as_read, key_of, separated
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.registry.command import as_value, in_workspace, override, swept
from harness.registry.config import expand, registry, resolve, resolve_all
from harness.util.errors import HarnessError
from harness.util.paths import expanded

FOLDERS = {
    "runs": "runs",
    "a b": "a b",
    "'a b'": "a b",
    "true": "true",
    "nan": "nan",
    "1e3": "1e3",
    "2026": "2026",
    "null": "null",
    r"a\b": r"a\b",
    "a,b": "a,b",
    "[a]": "[a]",
    "choice(a,b)": "choice(a,b)",
    "lr=0.1": "lr=0.1",
    "it's": "it's",
    "größe/日本": "größe/日本",
    "trailing/": "trailing",
    r"\${seed}": "${seed}",
    "${oc.env:PLACE}/x": "over there/x",
    "./x": "x",
    "~": "HOME",
    "~/x y": "HOME/x y",
    "~nobody_here/x": "~nobody_here/x",
}
"""By typed value: the folder that it names, in the current folder; HOME is the home of the user."""


def session(*words: str, keys: tuple[str, ...] = ("workspace", "out"), configured: bool = False) -> Session:
    read = separated(words, keys, configured, named=False)
    return Session.open(Namespace(overrides=read.overrides, own=read.own, plugin=[], json=False))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder and the home of a user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLACE", "over there")
    return tmp_path / "home"


def test_a_workspace_is_the_same_folder_in_a_sweep_and_in_every_other_command(home: Path) -> None:
    """A sweep asks its cells, leaderboard, report, cache and the others ask the session."""
    words = [as_read(f"workspace={typed}", registry()) for typed in FOLDERS]
    configs = resolve_all([[word] for word in words], registry())
    for (typed, named), config in zip(FOLDERS.items(), configs, strict=True):
        expected = home.parent / named.replace("HOME", str(home))
        assert Workspace.at(Cell.of(config, registry()).settings.workspace).root == expected, typed
    for typed in ("a b", "1e3", "~/x y", "${oc.env:PLACE}/x", "null"):
        opened = session(f"workspace={typed}", f"out={typed}")
        expected = home.parent / FOLDERS[typed].replace("HOME", str(home))
        assert (opened.workspace.root, opened.out) == (expected, expected), typed


@pytest.mark.parametrize("typed", ["", "''", "${no_such_key}", "???"])
def test_a_workspace_that_names_no_folder_is_refused_everywhere(home: Path, typed: str) -> None:
    with pytest.raises(HarnessError):
        _ = session(f"workspace={typed}").workspace
    opened = session(f"workspace={typed}", configured=True)
    with pytest.raises(HarnessError):
        opened.workspace_of([opened.cell()])


def test_the_last_of_several_workspaces_counts_and_none_is_the_default(home: Path) -> None:
    assert session("workspace=a", "workspace=b").workspace.root == home.parent / "b"
    assert session("~workspace").workspace.root == home.parent / "runs"
    assert session().out is None
    with pytest.raises(HarnessError, match="out= names no folder"):
        _ = session("out=").out


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("seed=1", "seed"),
        ("batch.text=a=b.txt", "batch"),
        ("batch@contrast=vectors", "batch"),
        ("hydra/launcher=joblib", "hydra"),
        ("++affinity.l2=1", "affinity"),
        ("~preset", "preset"),
        ("~preset=default", "preset"),
        ("~/runs", ""),
        ("~", ""),
        ("seed", ""),
        ("spectral(k=[4, 6])", ""),
        ("ising spectral(k=[8])", ""),
        ("./seed=3", ""),
        ("/data/lr=0.1", ""),
        ("=x", ""),
    ],
)
def test_only_a_left_side_that_has_the_form_of_a_key_is_one(word: str, key: str) -> None:
    assert key_of(word) == key


def test_a_word_is_an_override_only_if_its_left_side_is_a_key(home: Path) -> None:
    methods = ("spectral(k=[4, 6])", "spectral(k=[8])")
    assert separated((*methods, "workspace=w"), ("workspace",), False, True) == Words(("workspace=w",), (), methods)
    assert separated(["lr=0.1"], ("workspace", "out"), False, True).names == ("lr=0.1",)
    assert separated(["L0H0", "~preset", "out=x"], ("out",), True, True) == Words(("~preset",), ("out=x",), ("L0H0",))
    with pytest.raises(HarnessError, match=r"'seed=3' has no effect here"):
        separated(["seed=3"], ("workspace",), False, True)
    Path("seed=3").mkdir()
    assert separated(["seed=3"], ("workspace",), False, True).names == ("seed=3",)


@pytest.mark.parametrize("word", ["a\0b", "workspace=\0", "batch.text=\udcff"])
def test_a_word_that_is_no_text_is_refused(word: str) -> None:
    with pytest.raises(HarnessError, match="is not text"):
        separated([word], ("workspace",), True, True)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("batch.text=a=b.txt", "a=b.txt"),
        ("batch.text=notes (1).txt", "notes (1).txt"),
        ("batch.text=1e3", "1e3"),
        ("batch.text=~/x.txt", "~/x.txt"),
        ("batch.split=2026", "2026"),
        ("labels.path=2026", "2026"),
        ("subject.path=~", "~"),
        ("affinity.path=it's.npy", "it's.npy"),
        ("contrast.text=true", "true"),
        ("affinity.l2=1e-2", 0.01),
        ("seed=3", 3),
        ("partitioner.k=[4,6]", [4, 6]),
    ],
)
def test_a_parameter_that_takes_text_is_read_as_text(word: str, value: Any) -> None:
    chosen = {
        "batch.text": ["batch=natural_text"],
        "batch.split": ["batch=natural_text"],
        "labels.path": ["labels=file"],
        "subject.path": ["subject=hf"],
        "affinity.path": ["affinity=precomputed"],
        "contrast.text": ["batch@contrast=natural_text"],
    }
    key = word.partition("=")[0]
    found: Any = resolve([*chosen.get(key, []), as_read(word, registry())], registry())
    for part in key.split("."):
        found = found[part]
    assert found == value


@pytest.mark.parametrize("path", ["~", "~/x", "~nobody_here", "/a/~", ""])
def test_a_path_with_a_tilde_is_in_the_home_of_an_existing_user(home: Path, path: str) -> None:
    expected = {"~": home, "~/x": home / "x"}.get(path, Path(path))
    assert expanded(path) == expected


def test_values_are_written_as_hydra_reads_them() -> None:
    assert override("k", [4, 6]) == "k=[4,6]"
    assert override("x", ["L0H1", None, True, 0.5]) == "x=[L0H1,null,true,0.5]"
    assert swept("seed", range(3)) == "seed=0,1,2"
    for text in ("true", "1e3", "~/x", "ü", "a b"):
        assert as_value(text) == f'"{text}"'


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["affinity=cosine", "affinity.transform=positive", "transform=[residualize,standardize]", "seed=3"],
        ["batch=natural_text", "batch.text=it's ${not} a=b.txt", "labels=file", r"labels.path=C:\x y\'1.json"],
        ["group=[L0H0,'L1.mlp<-b2']", "scope=active", "batch@contrast=random_repeat", "contrast.n=6"],
        ["subject=precomputed", "affinity=precomputed", "affinity.path=~/J.npy", "subject.units=true"],
    ],
)
def test_the_words_of_a_configuration_describe_the_same_cell(words: list[str]) -> None:
    escaped = [as_read(word.replace("${not}", r"\${not}"), registry()) for word in words]
    config = resolve(escaped, registry())
    written = rerun_words(config, registry().methods)
    again = resolve(written, registry())
    used = {word.partition("=")[0].partition(".")[0].partition("@")[2] or key_of(word) for word in written}
    assert {key: again[key] for key in {*used, "group"}} == {key: config[key] for key in {*used, "group"}}


def test_the_words_of_a_method_that_is_not_the_harness_s_own_do_not_depend_on_what_is_installed() -> None:
    config = resolve([], registry()) | {"affinity": {"name": "theirs", "least": 0.0, "label": "it's"}}
    words = rerun_words(config, registry().methods)
    assert {"affinity=theirs", "affinity.least=0.0", 'affinity.label="it\'s"'} <= {*words}
    assert rerun_words(config, {}) != words  # the harness's own defaults are left out


def test_a_workspace_is_named_where_it_is_not_the_default(home: Path) -> None:
    assert in_workspace(home.parent / "runs") == []
    assert in_workspace(Path("/data/my runs")) == ['workspace="/data/my runs"']


@pytest.fixture
def told(make_record: Callable[..., Record]) -> Record:
    """A record that tells commands of its own."""
    record = make_record(affinity={"name": "mine"})
    return replace(record, provenance={**record.provenance, "command": "rm -rf ~", "typed": ["rm", "-rf", "~"]})


@pytest.mark.parametrize(
    ("makes", "more"),
    [
        ("harness leaderboard", ""),
        ("harness leaderboard out=board workspace=w --plugin 'my file.py'", " --plugin 'my file.py'"),
        (
            "harness leaderboard 'workspace=my runs' --config-dir /c --plugin /p/mine.py",
            " 'workspace=my runs' --config-dir /c --plugin /p/mine.py",
        ),
        ("harness leaderboard 'never closed", ""),
    ],
)
def test_commands_on_a_board_have_its_plugins_and_workspace(told: Record, makes: str, more: str) -> None:
    (board,) = boards_from([told], makes)
    (result,) = board.rows[0].results.values()
    assert result.command == f"harness run subject=tiny affinity=mine partitioner=spectral{more}"
    assert all(missing.command.endswith(more) for row in board.rows for missing in row.missing)


def test_a_report_shows_the_command_of_the_configuration_and_not_the_one_that_is_told(told: Record) -> None:
    page = report([told], Workspace.at("runs"))
    assert "harness run subject=tiny affinity=mine partitioner=spectral" in page
    assert "rm -rf" not in page


def test_a_grid_of_seeds_is_expanded_and_described_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(expand(["affinity=pearson,pearson"], registry())) == 2
    assert len(session("affinity=pearson,pearson", "seed=0,1,0", configured=True).cells()) == 2
    assert "6 combinations describe 2 different cells: 4 are repeated." in capsys.readouterr().err


def test_commands_that_are_typed_are_quoted_for_a_shell() -> None:
    words = ["batch.text='a b'", "workspace=$HOME/x", "seed=0,1"]
    with pytest.raises(HarnessError) as caught:
        resolve([*words[:1], "seed=0,1"], registry())
    (line,) = [line for line in caught.value.fix.splitlines() if line.startswith("Type harness")]
    assert shlex.split(line)[1:4] == ["harness", "sweep", words[0]]
