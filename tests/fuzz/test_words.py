"""Generated words of the command line: overrides, paths, names of units and of cells."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.cli.compare import cells_named
from harness.cli.main import COMMANDS
from harness.cli.session import units_of
from harness.cli.words import as_read, key_of, separated, without_repeats
from harness.data.units import UnitSpace
from harness.records.workspace import Workspace
from harness.registry.command import command, override
from harness.registry.registry import Registry
from harness.util.errors import HarnessError
from tests.fuzz.generated import generated

SPECIAL = "ab1.\\'\"${}[](),=:~/ #\n\t*?!|<>;&-+@%_é日"
LIKE_VALUES = (
    "true",
    "NULL",
    "nan",
    "-inf",
    "1e3",
    "1_0",
    "007",
    "~",
    "~/x",
    "~nobody/x",
    "${seed}",
    "a/",
    "..",
    "'a b'",
)
TEXTS = st.text(alphabet=SPECIAL) | st.text() | st.sampled_from(LIKE_VALUES)
VALUES = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from(["workspace", "out", "seed", "batch.text", "affinity", "~preset", "+x", "spectral(k", "./a", ""])
WORDS = st.one_of(TEXTS, st.builds("{}={}".format, KEYS, TEXTS))
IDS = ("0123abcd4567", "0123abff0000", "ffff00001111")


def read(word: str) -> Any:
    """The value of an override, as Hydra and OmegaConf read it."""
    (parsed,) = OverridesParser.create().parse_overrides([word])
    return OmegaConf.to_container(OmegaConf.create({"seed": 0, "value": parsed.value()}), resolve=True)["value"]  # type: ignore[call-overload,index]


@generated(VALUES)
def test_hydra_reads_the_value_that_is_written(value: Any) -> None:
    """For every value but the text ``???``, by which OmegaConf marks what is missing."""
    if value != "???":
        assert read(override("value", value)) == value


@generated(st.lists(TEXTS))
def test_a_shell_reads_the_words_that_are_written(words: list[str]) -> None:
    assert shlex.split(command("run", *words)) == ["harness", "run", *words]


@generated(TEXTS)
def test_a_workspace_is_text_or_refused(where: str) -> None:
    """What is read is a folder; ``${...}`` may not be an interpolation that exists. Reading twice changes nothing."""
    word = as_read(f"workspace={where}", Registry())
    assert as_read(word, Registry()) == word
    try:
        found = read(word)
        assert Workspace.at(str(found)).root.is_absolute()
        assert isinstance(found, str) or "${" in where
    except (HarnessError, OmegaConfBaseException):
        assert "${" in where or not where.strip(" \t'\"") or "???" in where or "\0" in where


@generated(TEXTS)
def test_a_path_without_hydras_own_signs_is_taken_literally(where: str) -> None:
    literal = where.strip()
    if literal and not set(literal) & set("'\"\\$") and literal != "???":
        assert read(as_read(f"workspace={literal}", Registry())) == literal


@generated(st.sampled_from(sorted(COMMANDS)), st.lists(WORDS))
def test_every_word_has_one_meaning_or_is_refused(name: str, words: list[str]) -> None:
    """It is an override only if its left side is a key; none is lost."""
    chosen = COMMANDS[name]
    try:
        found = separated(words, chosen.keys, chosen.configured, bool(chosen.words))
    except HarnessError:
        return
    assert sorted([*found.overrides, *found.own, *found.names]) == sorted(words)
    assert all(key_of(word) in chosen.keys for word in found.own)
    assert chosen.configured or all(key_of(word) in chosen.keys for word in found.overrides)
    assert not any(key_of(word) in chosen.keys for word in found.names)


@generated(st.lists(st.sampled_from(["0", "1", "ising", "[4]", "'a, b'"]), min_size=1))
def test_a_repeated_value_is_swept_once(values: list[str]) -> None:
    assert without_repeats(f"key={','.join(values)}") == f"key={','.join(dict.fromkeys(values))}"


@generated(st.lists(TEXTS | st.sampled_from(["L0H0", "L1H2,L0H1", " L1H1 "]), max_size=3))
def test_names_of_units_are_found_or_refused(names: list[str]) -> None:
    """And their override gives them back."""
    units = units_of(names)
    if "???" not in units:
        assert read(override("group", units)) == units
    try:
        found = UnitSpace.heads([2, 3]).find(units)
    except HarnessError:
        return
    assert {UnitSpace.heads([2, 3]).labels[unit] for unit in found} == set(units)


@generated(st.one_of(TEXTS, st.text(alphabet="0123abf", max_size=5)))
def test_the_beginning_of_an_id_names_the_cells_that_have_it(start: str) -> None:
    """Patterns (``*``, ``[``), absolute paths and ``..`` are no patterns."""
    with tempfile.TemporaryDirectory() as folder:
        for cell in IDS:
            (Path(folder) / "records" / cell).mkdir(parents=True)
            (Path(folder) / "records" / cell / "record.json").touch()
        assert cells_named(Workspace.at(folder), start) == [cell for cell in IDS if cell.startswith(start)]
