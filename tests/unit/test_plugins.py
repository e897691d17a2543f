"""Plugins from files and modules: a bad one does not affect the others, and every refusal gives a fix."""

from __future__ import annotations

import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.data.recording import Recording, Spins
from harness.data.units import UnitSpace
from harness.registry import plugins
from harness.registry.config import registry
from harness.registry.plugins import Broken
from harness.registry.registry import Method, Registry
from harness.testing import examples
from harness.util import fingerprint
from harness.util.errors import HarnessError, PluginError

HEAD = """
from dataclasses import dataclass, field
from typing import ClassVar
import numpy as np
from harness import Affinity, hookimpl
"""
GOOD = (
    HEAD
    + '''
@dataclass(frozen=True)
class Same:
    """Equal affinity for every pair."""
    name: ClassVar[str] = "{name}"
    strength: float = {strength}

    def __call__(self, spins):
        n = len(spins.units)
        return Affinity(self.strength * (np.ones((n, n)) - np.eye(n)), spins.units)

@hookimpl
def harness_affinities():
    return [Same]
'''
)


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., str]:
    """Write a plugin file; its path."""

    def write(text: str, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def good(name: str = "zz_same", strength: float = 1.0) -> str:
    return GOOD.format(name=name, strength=strength)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry]:
    """The registry with these files or modules loaded additionally."""

    def load(*extra: str) -> Registry:
        monkeypatch.setenv(plugins.EXTRA_VARIABLE, ",".join(extra))
        return Registry.of(plugins.load())

    return load


def problem(found: Registry, extra: str) -> Broken:
    """The only problem of an extra plugin."""
    (broken,) = [broken for broken in found.problems if broken.origin == extra]
    return broken


def offer(body: str, offered: str = "Bad") -> str:
    """A plugin whose class has this body."""
    return HEAD + textwrap.dedent(body) + f"\n@hookimpl\ndef harness_affinities():\n    return [{offered}]\n"


# ----------------------------------------------------------------------------------------------------------------------
# Loading
# ----------------------------------------------------------------------------------------------------------------------


def test_a_file_is_a_plugin(plugin: Callable[..., str], load: Callable[..., Registry]) -> None:
    path = plugin(good())
    method = load(path).get("affinity", "zz_same")
    assert method.owner == path
    assert method.summary == "Equal affinity for every pair."
    assert method.parameters == {"strength": 1.0}
    spins = Spins(np.array([[1, -1, 1]], dtype=np.int8), UnitSpace.heads([3]))
    assert method.build({"strength": 2})(spins).matrix.sum() == 12
    assert pickle.loads(pickle.dumps(method.build({}))) == method.build({})


def test_a_module_is_a_plugin(
    plugin: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[..., Registry]
) -> None:
    plugin(good("zz_module"), "zz_my_module.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("zz_my_module").get("affinity", "zz_module").owner == "zz_my_module"


def test_two_files_with_the_same_name_are_two_plugins(
    plugin: Callable[..., str], load: Callable[..., Registry]
) -> None:
    one, other = plugin(good("zz_one", 1.0), "a/mine.py"), plugin(good("zz_other", 2.0), "b/mine.py")
    found = load(one, other)
    assert [m.owner for m in (found.get("affinity", "zz_one"), found.get("affinity", "zz_other"))] == [one, other]
    assert found.get("affinity", "zz_one").code != found.get("affinity", "zz_other").code
    again = pickle.loads(pickle.dumps(found.get("affinity", "zz_one").build({})))
    assert again.name == "zz_one"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def broken(:", "SyntaxError"),
        ("raise ValueError('half-written')", "ValueError: half-written"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("x = 1", "implements no hook: is @hookimpl missing?"),
        (HEAD + "\n@hookimpl\ndef harness_affinitys():\n    return []\n", "Did you mean: harness_affinities"),
        (HEAD + "\n@hookimpl\ndef harness_affinities(spins):\n    return []\n", "PluginValidationError"),
        (HEAD + "\n@hookimpl\ndef harness_affinities():\n    raise RuntimeError('no')\n", "RuntimeError: no"),
        (HEAD + "\n@hookimpl\ndef harness_affinities():\n    return None\n", "NoneType"),
        (HEAD + "\n@hookimpl\ndef harness_affinities():\n    return [3]\n", "it is not a class"),
    ],
)
def test_a_broken_plugin_is_reported_and_the_others_are_kept(
    plugin: Callable[..., str], text: str, reason: str, load: Callable[..., Registry]
) -> None:
    bad, fine = plugin(text, "bad.py"), plugin(good(), "fine.py")
    found = load(bad, fine)
    assert reason in problem(found, bad).reason
    assert ("affinity", "zz_same") in found.methods
    assert ("affinity", "ising") in found.methods


def test_a_plugin_that_fails_while_loading_offers_nothing(
    plugin: Callable[..., str], load: Callable[..., Registry]
) -> None:
    """Pluggy keeps the hooks registered before the invalid one."""
    text = good("zz_half") + "\n@hookimpl\ndef harness_batches(wrong):\n    return []\n"
    found = load(plugin(text, "half.py"))
    assert ("affinity", "zz_half") not in found.methods
    assert ("affinity", "ising") in found.methods


def test_a_hook_that_gives_no_list_of_folders_is_reported(
    plugin: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A string would be read as a list of letters."""
    path = plugin(good("zz_paths") + '\n@hookimpl\ndef harness_config_paths():\n    return "pkg://mine"\n')
    monkeypatch.setenv(plugins.EXTRA_VARIABLE, path)
    assert "not a list of search paths" in problem(registry(), path).reason
    assert registry().get("affinity", "zz_paths").name == "zz_paths"


def test_one_invalid_offer_does_not_affect_the_others_of_its_plugin(
    plugin: Callable[..., str], load: Callable[..., Registry]
) -> None:
    text = good("zz_stays") + "\n@hookimpl\ndef harness_metrics():\n    return [int]\n"
    path = plugin(text.replace("[Same]", "[str, Same]"), "mixed.py")
    found = load(path)
    assert ("affinity", "zz_stays") in found.methods
    assert len([broken for broken in found.problems if broken.origin == path]) == 2
    assert all("not a frozen dataclass" in broken.reason for broken in found.problems if broken.origin == path)


def test_a_missing_plugin_file_is_named(tmp_path: Path, load: Callable[..., Registry]) -> None:
    missing = str(tmp_path / "missing.py")
    assert f"there is no file {missing}" in problem(load(missing), missing).reason


def test_every_built_in_plugin_loads() -> None:
    assert Registry.of(plugins.load()).problems == []


# ----------------------------------------------------------------------------------------------------------------------
# Choosing
# ----------------------------------------------------------------------------------------------------------------------


def test_some_plugins_can_be_loaded_alone(monkeypatch: pytest.MonkeyPatch, load: Callable[..., Registry]) -> None:
    monkeypatch.setenv("HARNESS_PLUGINS", "affinities.ising, binarizers.median")
    assert set(load().methods) == {("affinity", "ising"), ("binarizer", "median")}


def test_some_plugins_can_be_excluded(monkeypatch: pytest.MonkeyPatch, load: Callable[..., Registry]) -> None:
    everything = set(load().methods)
    monkeypatch.setenv("HARNESS_BLOCK_PLUGINS", "affinities.ising")
    assert set(load().methods) == everything - {("affinity", "ising")}


def test_a_whole_distribution_can_be_selected_or_excluded(
    monkeypatch: pytest.MonkeyPatch, load: Callable[..., Registry]
) -> None:
    everything = set(load().methods)
    monkeypatch.setenv("HARNESS_PLUGINS", "closure-harness")
    assert set(load().methods) == everything
    monkeypatch.delenv("HARNESS_PLUGINS")
    monkeypatch.setenv("HARNESS_BLOCK_PLUGINS", "closure-harness")
    assert ("affinity", "ising") not in load().methods


def test_a_whole_package_can_be_selected_or_excluded(
    monkeypatch: pytest.MonkeyPatch, load: Callable[..., Registry]
) -> None:
    everything = set(load().methods)
    affinities = {key for key in everything if key[0] == "affinity"}
    monkeypatch.setenv("HARNESS_BLOCK_PLUGINS", "affinities")
    assert set(load().methods) == everything - affinities
    monkeypatch.setenv("HARNESS_BLOCK_PLUGINS", "affinities.ising,affinities.cosine")
    assert set(load().methods) == everything - {("affinity", "ising"), ("affinity", "cosine")}
    monkeypatch.delenv("HARNESS_BLOCK_PLUGINS")
    monkeypatch.setenv("HARNESS_PLUGINS", "affinities")
    assert set(load().methods) == affinities
    monkeypatch.setenv("HARNESS_BLOCK_PLUGINS", "affinities.ising")
    assert set(load().methods) == affinities - {("affinity", "ising")}


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed distribution whose entry point ``mine`` names the package ``zz_mine``; the package's folder."""
    folder = tmp_path / "zz_mine"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    info = tmp_path / "zz_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zz-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[closure_harness]\nmine = zz_mine\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins._load.cache_clear()
    yield folder
    plugins._load.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "zz_mine"]:
        del sys.modules[name]


def test_each_module_of_a_package_is_a_plugin_and_a_broken_one_does_not_affect_the_others(
    distribution: Path, load: Callable[..., Registry]
) -> None:
    (distribution / "one.py").write_text(good("zz_one"))
    (distribution / "other.py").write_text(good("zz_other"))
    (distribution / "bad.py").write_text("from harness.groups import Affinity\n")
    (distribution / "_shared.py").write_text("raise RuntimeError('a private module is no plugin')\n")
    found = load()
    assert {("affinity", "zz_one"), ("affinity", "zz_other"), ("affinity", "ising")} <= set(found.methods)
    assert found.get("affinity", "zz_one").owner == "zz-mine 1.0"
    (broken,) = found.problems
    assert (broken.name, broken.origin) == ("mine.bad", "zz-mine 1.0")
    assert broken.reason == "harness.groups has moved. Write: from harness import Affinity"


def test_a_package_with_hooks_of_its_own_is_one_plugin(distribution: Path, load: Callable[..., Registry]) -> None:
    (distribution / "__init__.py").write_text(good("zz_whole"))
    (distribution / "helper.py").write_text("raise RuntimeError('not a plugin')\n")
    found = load()
    assert ("affinity", "zz_whole") in found.methods
    assert found.problems == []


@pytest.mark.parametrize("text", ["raise RuntimeError('no')", "import sys; sys.exit(3)", "def broken(:"])
def test_a_package_that_cannot_be_imported_is_reported_once(
    text: str, distribution: Path, load: Callable[..., Registry]
) -> None:
    (distribution / "__init__.py").write_text(text)
    (distribution / "one.py").write_text(good("zz_one"))
    found = load()
    assert [broken.name for broken in found.problems] == ["mine"]
    assert ("affinity", "ising") in found.methods


def test_excluded_plugins_are_not_imported(
    distribution: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[..., Registry]
) -> None:
    for variable, name in (
        ("HARNESS_BLOCK_PLUGINS", "mine"),
        ("HARNESS_BLOCK_PLUGINS", "zz-mine"),
        ("HARNESS_PLUGINS", "affinities.ising"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, name)
            assert ("affinity", "ising") in load().methods
            assert "zz_mine" not in sys.modules


@pytest.mark.parametrize("variable", ["HARNESS_PLUGINS", "HARNESS_BLOCK_PLUGINS"])
def test_selecting_a_missing_plugin_is_an_error(
    variable: str, monkeypatch: pytest.MonkeyPatch, load: Callable[..., Registry]
) -> None:
    monkeypatch.setenv(variable, "affinities.ising,isng")
    with pytest.raises(HarnessError, match=f"{variable}: plugin 'isng' is not known") as caught:
        load()
    assert "ising" in caught.value.fix


def test_workers_load_what_the_command_line_named(plugin: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers inherit the environment, not the command line."""
    monkeypatch.setenv(plugins.EXTRA_VARIABLE, plugin(good("zz_worker")))
    assert registry().get("affinity", "zz_worker").name == "zz_worker"


# ----------------------------------------------------------------------------------------------------------------------
# Offers
# ----------------------------------------------------------------------------------------------------------------------


def test_a_name_offered_twice_names_both_owners(plugin: Callable[..., str], load: Callable[..., Registry]) -> None:
    one, other = plugin(good("zz_twice"), "one.py"), plugin(good("zz_twice"), "other.py")
    found = load(one, other)
    with pytest.raises(PluginError, match="is offered twice") as caught:
        found.get("affinity", "zz_twice")
    assert one in caught.value.what
    assert other in caught.value.what
    assert "HARNESS_BLOCK_PLUGINS" in caught.value.fix
    assert found.get("affinity", "ising").name == "ising"


def test_a_built_in_name_cannot_be_taken(plugin: Callable[..., str], load: Callable[..., Registry]) -> None:
    path = plugin(good("ising"), "thief.py")
    with pytest.raises(PluginError, match="is offered twice") as caught:
        load(path).get("affinity", "ising")
    assert "closure-harness" in caught.value.what
    assert path in caught.value.what


WRONG = {
    "not frozen": (
        '@dataclass\nclass Bad:\n    """Doc."""\n    name: ClassVar[str] = "zz"\n    def __call__(self, spins): ...\n',
        "it is not a frozen dataclass",
    ),
    "no dataclass": (
        'class Bad:\n    """Doc."""\n    name = "zz"\n    def __call__(self, spins): ...\n',
        "it is not a frozen dataclass",
    ),
    "no docstring": (
        '@dataclass(frozen=True)\nclass Bad:\n    name: ClassVar[str] = "zz"\n    def __call__(self, spins): ...\n',
        "it has no docstring",
    ),
    "blank docstring": (
        '@dataclass(frozen=True)\nclass Bad:\n    """ """\n    name: ClassVar[str] = "zz"\n'
        "    def __call__(self, spins): ...\n",
        "it has no docstring",
    ),
    "a wrong signature": (
        '@dataclass(frozen=True)\nclass Bad:\n    """Doc."""\n    name: ClassVar[str] = "zz"\n'
        "    def __call__(self, spikes): ...\n",
        "its call has the argument 'spikes'; a call of this stage may have spins, observations, units",
    ),
    "no default": (
        '@dataclass(frozen=True)\nclass Bad:\n    """Doc."""\n    k: int\n    name: ClassVar[str] = "zz"\n'
        "    def __call__(self, spins): ...\n",
        "its parameter 'k' has no default",
    ),
    "no name": (
        '@dataclass(frozen=True)\nclass Bad:\n    """Doc."""\n    def __call__(self, spins): ...\n',
        "its name is None",
    ),
    "unusable name": (
        '@dataclass(frozen=True)\nclass Bad:\n    """Doc."""\n    name: ClassVar[str] = "my affinity"\n'
        "    def __call__(self, spins): ...\n",
        "its name is 'my affinity'",
    ),
    "name as parameter": (
        '@dataclass(frozen=True)\nclass Bad:\n    """Doc."""\n    name: str = "zz"\n'
        "    def __call__(self, spins): ...\n",
        "its name is a parameter",
    ),
    "no call": (
        '@dataclass(frozen=True)\nclass Bad:\n    """Doc."""\n    name: ClassVar[str] = "zz"\n',
        "it has no method __call__: define it",
    ),
}


@pytest.mark.parametrize("body", WRONG)
def test_an_invalid_offer_is_refused_in_three_lines(
    plugin: Callable[..., str], body: str, load: Callable[..., Registry]
) -> None:
    path = plugin(offer(WRONG[body][0]), "bad.py")
    who, what, why = problem(load(path), path).reason.splitlines()
    assert who == f"plugin {path}"
    assert what.startswith("  offers <class ")
    assert what.endswith("for stage affinity")
    assert why.startswith(f"  {WRONG[body][1]}")


def test_an_instance_is_refused(plugin: Callable[..., str], load: Callable[..., Registry]) -> None:
    path = plugin(good().replace("return [Same]", "return [Same()]"))
    assert "return classes, not instances" in problem(load(path), path).reason


def signals(body: str) -> str:
    """A plugin whose signal has this body."""
    return offer(f"""
from harness import Signal

@dataclass(frozen=True)
class Bad{body}
""").replace("harness_affinities", "harness_signals")


READING = """:
    '''The readings as they are.'''
    name: ClassVar[str] = "zz_reading"
    source: ClassVar[str] = "attention"
    def read(self, rows):
        return rows.values.max(axis=-1)
"""


@pytest.mark.parametrize("bases", ["", "(Signal)"])
def test_a_signal_without_a_call_returns_its_reading_as_activity(
    bases: str, plugin: Callable[..., str], load: Callable[..., Registry]
) -> None:
    signal = load(plugin(signals(bases + READING))).get("signal", "zz_reading").build({})
    batch, units = examples.batch(3), UnitSpace.heads([2])
    readings = np.arange(6.0).reshape(3, 2)
    assert signal(Recording(batch, units, {"signal": readings})).values is readings


@pytest.mark.parametrize("bases", ["", "(Signal)"])
def test_a_signal_that_reads_nothing_is_refused(
    bases: str, plugin: Callable[..., str], load: Callable[..., Registry]
) -> None:
    path = plugin(signals(bases + READING.replace("def read", "def look")))
    assert problem(load(path), path).reason.endswith("it has no method read: define it (the contract is Signal)")


def test_a_plugin_may_inherit_its_call(plugin: Callable[..., str], load: Callable[..., Registry]) -> None:
    text = (
        good("zz_parent")
        .replace(
            "@hookimpl",
            '@dataclass(frozen=True)\nclass Heir(Same):\n    """Inherits."""\n'
            '    name: ClassVar[str] = "zz_heir"\n\n@hookimpl',
        )
        .replace("[Same]", "[Same, Heir]")
    )
    found = load(plugin(text))
    assert found.get("affinity", "zz_heir").parameters == {"strength": 1.0}


def test_the_code_of_a_method_is_its_file(plugin: Callable[..., str], load: Callable[..., Registry]) -> None:
    path = plugin(good("zz_code"))
    method: Method = load(path).get("affinity", "zz_code")
    before = method.code
    Path(path).write_text(Path(path).read_text() + "\n# another thought\n")
    assert method.code == before  # what runs in this process is what was there when it started
    fingerprint._read.cache_clear()
    assert method.code != before
