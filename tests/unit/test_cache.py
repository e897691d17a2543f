"""The cache: the identity of results, damaged entries, and independence of records from the cache."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

import harness
from harness.cells.ablations import cached_evaluate
from harness.cells.cell import Cell
from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.data.batch import Batch, Vocabulary
from harness.data.contracts import AffinityMethod, Partitioner, Subject
from harness.data.grouping import Affinity, Partition
from harness.data.tokens import Tokens
from harness.data.units import UnitSpace
from harness.pipeline import run_cell
from harness.proposal.cached import cached_call
from harness.records.record import Record
from harness.registry.config import registry, resolve
from harness.util.bytesize import parse_size, write_size
from harness.util.cache import Cache, Entry, Memo
from harness.util.digest import digest_files
from harness.util.errors import HarnessError
from harness.util.fingerprint import _read, code_of, content, identity
from tests.processes import forked

pytestmark = pytest.mark.unchecked

VALUES = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False]), "none": np.zeros((0, 2)), "one": np.array(7)}
ABOUT = {"k": [1, 2.5, None], "text": "µ"}
KEY = "0" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


# -- entries -----------------------------------------------------------------------------------------------------------


def test_an_entry_is_read_only_under_its_own_key(cache: Cache) -> None:
    assert cache.read("affinity", KEY) is None
    cache.write("affinity", KEY, Entry(VALUES, ABOUT))
    entry = cache.read("affinity", KEY)
    assert entry is not None
    assert entry.about == ABOUT
    assert entry.arrays.keys() == VALUES.keys()
    for name, array in VALUES.items():
        np.testing.assert_array_equal(entry.arrays[name], array, strict=True)
    assert cache.read("partitioner", KEY) is None
    assert cache.read("affinity", "1" * 64) is None


def test_a_cache_without_a_folder_stores_nothing() -> None:
    cache = Cache()
    cache.write("affinity", KEY, Entry(VALUES))
    assert cache.read("affinity", KEY) is None
    assert cache.stored() == []


@pytest.mark.parametrize("about", [{1j}, object(), np.ones(2)], ids=["a set", "an object", "an array"])
def test_values_that_json_cannot_hold_are_not_stored(cache: Cache, about: Any) -> None:
    cache.write("affinity", KEY, Entry({}, about))
    assert cache.stored() == []


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_an_entry_with_a_flipped_bit_is_never_returned_with_a_wrong_value(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int
) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    cache.write("affinity", KEY, Entry(VALUES, ABOUT))
    (stored,) = cache.stored()
    data = bytearray(stored.file.read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    stored.file.write_bytes(bytes(data))
    entry = cache.read("affinity", KEY)
    if entry is None:
        assert not stored.file.exists()
    else:  # a space became another character that means nothing: the content is what it was
        assert entry.about == ABOUT
        assert all((entry.arrays[name] == array).all() for name, array in VALUES.items())


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_truncated_entry_is_reported_once_and_recomputed(
    cache: Cache, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.write("affinity", KEY, Entry(VALUES, ABOUT))
    (stored,) = cache.stored()
    stored.file.write_bytes(stored.file.read_bytes()[:left])
    assert cache.read("affinity", KEY) is None
    assert "is damaged" in capsys.readouterr().err
    assert cache.read("affinity", KEY) is None
    assert capsys.readouterr().err == ""
    cache.write("affinity", KEY, Entry(VALUES, ABOUT))
    assert cache.read("affinity", KEY) is not None


def test_an_entry_moved_to_another_key_is_not_returned(cache: Cache) -> None:
    cache.write("affinity", KEY, Entry(VALUES))
    (stored,) = cache.stored()
    os.replace(stored.file, stored.file.with_name("1" * 64 + ".safetensors"))
    assert cache.read("affinity", "1" * 64) is None


# -- size and room -----------------------------------------------------------------------------------------------------


def test_the_least_recently_used_entries_are_removed_first(cache: Cache) -> None:
    for age, key in enumerate("abcd"):
        cache.write("affinity", key, Entry({"x": np.zeros(100)}))
        (cache.folder / "affinity" / f"{key}.safetensors").touch()
        os.utime(cache.folder / "affinity" / f"{key}.safetensors", (1000 + age, 1000 + age))
    cache.read("affinity", "a")  # used now
    each = cache.stored()[0].bytes
    assert [entry.file.stem for entry in cache.prune(2 * each)] == ["b", "c"]
    assert {entry.file.stem for entry in cache.stored()} == {"a", "d"}
    assert cache.prune(2 * each) == []
    assert len(cache.prune(0)) == 2
    assert cache.stored() == []


def test_the_cache_stays_within_its_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit=50_000)
    for i in range(40):
        cache.write("affinity", str(i), Entry({"x": np.zeros(500)}))
        assert sum(entry.bytes for entry in cache.stored()) <= 50_000 * (1 + 1 / 20) + 5000
    assert cache.read("affinity", "39") is not None


def test_a_full_disk_is_reported_once_and_the_run_continues(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.write("affinity", "before", Entry(VALUES))

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache.write("affinity", "a", Entry(VALUES))
    assert "No space left on device" in capsys.readouterr().err
    cache.write("affinity", "b", Entry(VALUES))
    assert capsys.readouterr().err == ""
    assert [entry.file.stem for entry in cache.stored()] == ["before"], "what was begun is taken away"
    assert cache.read("affinity", "before") is not None


def _write_many(folder: Path, first: int) -> None:
    cache = Cache(folder)
    for i in range(first, first + 60):
        cache.write("affinity", str(i % 80), Entry({"x": np.full(2000, i % 80)}))
        entry = cache.read("affinity", str((i * 7) % 80))
        assert entry is None or (entry.arrays["x"] == (i * 7) % 80).all()


def test_two_processes_may_write_the_same_entries_at_once(cache: Cache, capfd: pytest.CaptureFixture[str]) -> None:
    context = forked()
    writers = [context.Process(target=_write_many, args=(cache.folder, first)) for first in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert "damaged" not in capfd.readouterr().err
    assert len(cache.stored()) == 80
    for i in range(80):
        entry = cache.read("affinity", str(i))
        assert entry is not None
        assert (entry.arrays["x"] == i).all()


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), ("1.5 MB", 1_500_000), ("4GiB", 4 * 2**30), ("512mib", 2**29), ("0B", 0)]
)
def test_sizes_are_parsed_from_human_notation(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["10", "GB", "-1GB", "10 GBit", ""])
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount of memory"):
        parse_size(text)
    with pytest.raises(HarnessError, match="cache_limit"):
        cell(f"cache_limit='{text}'")


def test_sizes_are_printed_in_human_notation() -> None:
    assert [write_size(size) for size in (0, 999, 1500, 3_250_000, 10**10)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "3.25 MB",
        "10 GB",
    ]


# -- keys --------------------------------------------------------------------------------------------------------------


def cell(*overrides: str) -> Cell:
    return Cell.of(resolve(overrides, registry()), registry())


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("affinity.l2=0.01", False),
        ("affinity=mutual_information", False),
        ("subject.device=cpu", True),
        ("alpha=0.01", True),
    ],
)
def test_the_fingerprint_of_a_method_covers_what_decides_its_result(override: str, same: bool) -> None:
    for stage in ("affinity", "subject"):
        usual, changed = identity(cell().stages[stage]), identity(cell(override).stages[stage])
        assert (content(usual) == content(changed)) == (same or not override.startswith(stage))


def test_the_fingerprint_of_a_file_depends_on_content_and_not_on_location(tmp_path: Path) -> None:
    def labels(folder: str, words: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "labels.json").write_text(words)
        path = tmp_path / folder / "labels.json"
        return content(identity(cell("labels=file", f"labels.path={path}").stages["labels"]))

    assert labels("a", "{}") == labels("b", "{}") != labels("a", "[]")


@dataclasses.dataclass(frozen=True)
class Holder:
    """A value that stages could pass to each other."""

    values: Any = None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(2), np.zeros(2, dtype=np.float32)),
        (["a", "b"], ["ab"]),
        ([["a"], "b"], [["a", "b"]]),
        ({"a": 1}, {"b": 1}),
        ({"a": None}, {}),
        ("1", 1),
        (Holder(1), {"values": 1}),
        (csr_array(np.eye(3)), csr_array(np.eye(3)[::-1])),
        (UnitSpace.heads([2]), UnitSpace.heads([1, 1])),
    ],
)
def test_different_values_have_different_digests(one: Any, other: Any) -> None:
    assert content(one) == content(one)
    assert content(one) != content(other)


def test_values_without_a_defined_digest_are_refused() -> None:
    for value in (object(), {"of": {1, 2}}, np.array([object()])):
        with pytest.raises(TypeError):
            content(Holder(value))


def test_the_code_of_a_method_is_its_file_and_what_that_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "zz_methods"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "method.py").write_text(
        "class M:\n    def __call__(self):\n        from .helper import x\n        return x\n"
    )
    (package / "helper.py").write_text("from zz_methods import deeper\nimport json\nx = deeper.y\n")
    (package / "deeper.py").write_text("y = 1\n")
    (package / "stranger.py").write_text("z = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from zz_methods.method import M  # type: ignore[import-not-found]

    before = code_of(M)
    (package / "stranger.py").write_text("z = 1 + 1\n")
    _read.cache_clear()
    assert code_of(M) == before
    for file in ("deeper.py", "helper.py", "method.py"):
        (package / file).write_text((package / file).read_text() + "# another thought\n")
        assert code_of(M) == before, "what runs in this process is what was loaded"
        _read.cache_clear()
        after = code_of(M)
        assert after != before, file
        before = after


@pytest.mark.parametrize(
    ("stage", "name", "edited", "counts"),
    [
        ("affinity", "pearson", "data/grouping.py", True),
        ("affinity", "pearson", "engine/subject.py", False),
        ("affinity", "pearson", "closure/statistics.py", False),
        ("subject", "tiny", "engine/attention.py", True),
        ("subject", "tiny", "cli/main.py", False),
        ("metric", "loss", "proposal/proposal.py", False),
    ],
)
def test_core_code_counts_for_the_methods_that_use_it(stage: str, name: str, edited: str, counts: bool) -> None:
    cls = registry().get(stage, name).cls
    before, file = code_of(cls), Path(harness.__file__).parent / edited
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "harness.util.fingerprint.digest_files", lambda path: "edited" if path == file else digest_files(path)
        )
        _read.cache_clear()
        assert (code_of(cls) != before) == counts
    _read.cache_clear()
    assert code_of(cls) == before


@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("pipeline.py", True),
        ("cells/trial.py", True),
        ("proposal/stability.py", True),
        ("closure/statistics.py", True),
        ("engine/branching.py", True),
        ("data/sampling.py", True),
        ("util/seeds.py", True),
        ("tracking/mlflow.py", False),
        ("board/card.py", False),
        ("cli/main.py", False),
        ("testing/checks.py", False),
        ("registry/hookspecs.py", False),
    ],
)
def test_core_code_imported_by_the_pipeline_counts(edited: str, counts: bool) -> None:
    """The identity of a cell covers exactly the files that compute its result, wherever packages move."""
    before, file = code_of("harness.pipeline"), Path(harness.__file__).parent / edited
    assert file.is_file()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "harness.util.fingerprint.digest_files", lambda path: "edited" if path == file else digest_files(path)
        )
        _read.cache_clear()
        assert (code_of("harness.pipeline") != before) == counts
    _read.cache_clear()


# -- steps of a proposal -----------------------------------------------------------------------------------------------

UNITS = UnitSpace.heads([3])


MATRIX = np.array([[0, 1, 2.5], [1, 0, 0], [2.5, 0, 0]])


@dataclasses.dataclass(frozen=True)
class Once(AffinityMethod):
    """An affinity that records its calls."""

    calls: ClassVar[list[float]] = []
    strength: float = 1.0
    sparse: bool = False
    label: str = dataclasses.field(default="", metadata={"neutral": True})

    def __call__(self, spins: np.ndarray) -> Affinity:
        self.calls.append(self.strength)
        matrix = MATRIX * self.strength * spins[0]
        return Affinity(csr_array(matrix) if self.sparse else matrix, UNITS, {"constant": ["L0H1"], "n": 3})


@pytest.mark.parametrize("sparse", [False, True])
def test_an_affinity_is_computed_once_per_input(cache: Cache, sparse: bool) -> None:
    def ask(spin: float = 1.0, **parameters: Any) -> Affinity:
        found: Affinity = cached_call(
            "affinity", Once(sparse=sparse, **parameters), {"spins": np.full(4, spin)}, UNITS, cache
        )
        return found

    Once.calls.clear()
    first, again = ask(), ask()
    assert len(Once.calls) == 1
    np.testing.assert_array_equal(again.dense(), first.dense(), strict=True)
    assert type(again.matrix) is type(first.matrix)
    assert (again.units, again.diagnostics) == (first.units, first.diagnostics)
    assert len(Once.calls) == 1
    ask(label="neutral")
    assert len(Once.calls) == 1
    assert ask(spin=2.0).matrix[0, 1] == 2
    assert ask(strength=3.0).matrix[0, 1] == 3
    assert len(Once.calls) == 3


class OnceFound(Partitioner):
    """A partitioner that can be called only once."""

    called = False

    def __call__(self, affinity: Affinity) -> list[Partition]:
        assert not self.called
        type(self).called = True
        return [
            Partition(
                2, np.array([0, 1, -1]), "resolution = 0.5", {"sizes": [1, 1], "dense": affinity.dense().tolist()}
            ),
            Partition(3, np.array([0, 1, 2], dtype=np.int32)),
        ]


def test_cached_partitions_equal_the_computed_ones(cache: Cache) -> None:
    found, again = (
        cached_call("partitioner", OnceFound(), {"affinity": Affinity(MATRIX, UNITS)}, UNITS, cache) for _ in range(2)
    )
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels, strict=True)
        assert dataclasses.replace(one, labels=other.labels) == other
    with pytest.raises(AssertionError):
        cached_call("partitioner", OnceFound(), {"affinity": Affinity(2 * MATRIX, UNITS)}, UNITS, cache)


# -- outcomes of ablations ---------------------------------------------------------------------------------------------


class Double(Subject):
    """A subject whose outcomes follow a formula; it counts the conditions it computes."""

    label, units, about, reads = "double", UnitSpace.heads([4, 4]), {}, Vocabulary(100, 50)

    def __init__(self) -> None:
        self.computed: list[tuple[int, ...]] = []

    def record(self, batch: Batch, readers: Any, tick: Any) -> Any:
        raise NotImplementedError

    def evaluate(
        self, batch: Batch, conditions: Sequence[Any], intervention: Any, metrics: Any, tick: Any, reference: Any = None
    ) -> np.ndarray:
        self.computed += conditions
        tick(len(batch) * len(conditions))
        shift = 0 if reference is None else reference.target.sum() / 7
        damage = np.array([sum((unit + 1) ** 1.5 for unit in group) for group in conditions])
        return np.stack([m + np.outer(damage, batch.target + shift) / 3 for m in range(len(metrics))])


def batch_of(target: Sequence[int]) -> Batch:
    n = len(target)
    return Tokens("made", np.ones((n, 3), dtype=int), np.full(n, 2), np.array(target), {}, "next_token")


def method(stage: str, name: str, **parameters: Any) -> Any:
    return registry().get(stage, name).build(parameters)


BATCH = batch_of([1, 2, 3])
LOSS = [method("metric", "loss")]
ZERO = method("intervention", "zero")
groups = st.lists(st.frozensets(st.integers(0, 7), max_size=3).map(lambda g: tuple(sorted(g))), max_size=6)


@given(calls=st.lists(groups, min_size=1, max_size=4), fresh=st.booleans())
def test_cached_outcomes_equal_those_of_the_subject_and_are_computed_once(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[tuple[int, ...]]], fresh: bool
) -> None:
    double, folder = Double(), tmp_path_factory.mktemp("cache")
    memo, progress = Memo(disk=Cache(folder)), Progress(quiet=True)
    ticks: list[int] = []
    for conditions in calls:
        if fresh:  # as another process would
            memo = Memo(disk=Cache(folder))
        subject = (double, ["double"], memo, progress)
        found = cached_evaluate(*subject, BATCH, conditions, ZERO, LOSS, ticks.append)
        np.testing.assert_array_equal(
            found, Double().evaluate(BATCH, conditions, ZERO, LOSS, lambda _: None), strict=True
        )
    every = [group for conditions in calls for group in conditions]
    assert sorted(double.computed) == sorted(set(every))
    assert sum(ticks) == len(BATCH) * len(every)
    spent = {"conditions": len(every), "computed": len(set(every)), "forwards": len(BATCH) * len(every)}
    assert progress.cost == spent


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, False),
        ({"key": ["another"]}, True),
        ({"batch": batch_of([1, 2, 4])}, True),
        ({"intervention": method("intervention", "mean")}, True),
        ({"intervention": method("intervention", "zero", positions="query")}, True),
        ({"metrics": [method("metric", "accuracy")]}, True),
        ({"metrics": [*LOSS, method("metric", "accuracy")]}, True),
        ({"reference": batch_of([9, 9])}, False),  # zero ablation asks for no mean
    ],
)
def test_an_outcome_depends_on_model_examples_intervention_and_metrics(
    tmp_path: Path, change: dict[str, Any], again: bool
) -> None:
    double = Double()
    memo = Memo(disk=Cache(tmp_path))

    def ask(key: Sequence[Any] = ("double",), **changes: Any) -> None:
        usual = {"batch": BATCH, "conditions": [(0, 1)], "intervention": ZERO, "metrics": LOSS, "tick": lambda _: None}
        cached_evaluate(double, key, memo, Progress(quiet=True), **{**usual, **changes})

    ask()
    ask(**change)
    assert len(double.computed) == 1 + again


@pytest.mark.parametrize(("over", "computed"), [("reference", 2), ("batch", 1)])
def test_an_outcome_depends_on_the_reference_examples_if_means_are_taken_over_them(
    tmp_path: Path, over: str, computed: int
) -> None:
    double, mean = Double(), method("intervention", "mean", over=over)
    subject = (double, ["double"], Memo(disk=Cache(tmp_path)), Progress(quiet=True))
    for reference in (batch_of([5, 6]), batch_of([6, 5])):
        cached_evaluate(*subject, BATCH, [(0,)], mean, LOSS, lambda _: None, reference)
    assert len(double.computed) == computed


# -- recordings --------------------------------------------------------------------------------------------------------


def test_a_reading_is_shared_by_cells_with_different_sets_of_readers(tmp_path: Path) -> None:
    """Two signals, one survey: three readings, each of one pass."""
    seen: list[set[str]] = []
    memo = Memo(disk=Cache(tmp_path))

    for signal in ("max_attention", "attention_entropy", "max_attention"):
        here = cell("subject=planted", "batch=planted", "batch.n=8", f"signal={signal}")
        subject = here.stages["subject"]()

        def record(batch: Batch, readers: Any, tick: Any, subject: Any = subject) -> Any:
            seen.append({type(reader).__name__ for reader in readers.values()})
            return type(subject).record(subject, batch, readers, tick)

        inputs = Inputs(here, Memo(disk=memo.disk), Progress(quiet=True), subject)
        readers, batch = inputs.readers("signal", "labels"), here.stages["batch"](subject.reads)
        alone = subject.record(batch, readers, lambda _: None)
        subject.record = record
        found = inputs.record(batch, readers)
        assert found.readings.keys() == alone.readings.keys()
        for name, values in alone.readings.items():
            np.testing.assert_array_equal(found.readings[name], values, strict=True)
    assert seen == [{"MaxAttention", "Survey"}, {"AttentionEntropy"}]


# -- records -----------------------------------------------------------------------------------------------------------

SMALL = [
    "subject=tiny",
    "batch.n=8",
    "batch.length=42",
    "controls.n=19",
    "partitioner.k=[3,4]",
    "partitioner.n_init=1",
    "selector.count=1",
    "reruns=1",
]
GRID = [  # the first two share ablations, the last two share an affinity
    ["affinity=mutual_information", "intervention=zero"],
    ["affinity=cosine", "intervention=zero"],
    ["affinity=cosine", "intervention=mean"],
]


Alike = Callable[[Any, Any], bool]


def results(record: Record) -> Any:
    """A record without what it cost, and when and on how many threads it was made."""
    when = {**record.provenance, "started": "", "threads": 0}
    return json.loads(dataclasses.replace(record, seconds={}, cost={}, provenance=when, config={}).to_json())


def grid(memo: Callable[[], Memo]) -> list[Record]:
    return [run_cell(cell(*SMALL, *words), memo(), Progress(quiet=True)).record for words in GRID]


def _grid_in_a_process(folder: Path, answers: Any) -> None:
    memo = Memo(disk=Cache(folder))
    answers.put([(results(record), dict(record.cost)) for record in grid(lambda: memo)])


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], Path]:
    """The grid with a cache that was empty, and that cache."""
    memo = Memo(disk=Cache(tmp_path_factory.mktemp("cold")))
    return grid(lambda: memo), Path(str(memo.disk.folder))


@pytest.fixture(scope="module")
def undisturbed() -> list[Record]:
    """The grid without a cache."""
    memo = Memo()
    return grid(lambda: memo)


def test_a_record_does_not_depend_on_the_cache(
    cold: tuple[list[Record], Path], undisturbed: list[Record], alike: Alike
) -> None:
    records, folder = cold
    warm = grid(lambda: Memo(disk=Cache(folder)))
    for usual, first, again in zip(undisturbed, records, warm, strict=True):
        assert alike(results(first), results(usual))
        assert results(again) == results(first)
        assert usual.cost["computed"] == usual.cost["conditions"] == first.cost["conditions"]
        assert again.cost == {**usual.cost, "computed": 0, "memory": again.cost["memory"]}
    assert sum(record.cost["computed"] for record in records) < sum(record.cost["conditions"] for record in records)


def test_a_record_does_not_depend_on_another_process_that_runs_the_same_cells(
    cache: Cache, undisturbed: list[Record], alike: Alike
) -> None:
    context = forked()
    answers = context.Queue()
    runs = [context.Process(target=_grid_in_a_process, args=(cache.folder, answers)) for _ in range(2)]
    for run in runs:
        run.start()
    found = [answers.get(timeout=300) for _ in runs]
    for run in runs:
        run.join()
    for records in found:
        assert alike([record for record, _ in records], [results(record) for record in undisturbed])


def test_a_damaged_cache_entry_is_recomputed_and_the_record_is_unchanged(
    cold: tuple[list[Record], Path], cache: Cache, undisturbed: list[Record], alike: Alike
) -> None:
    shutil.copytree(cold[1], str(cache.folder))
    for stored in cache.stored():
        data = stored.file.read_bytes()
        stored.file.write_bytes(data[:-8] + bytes(8))
    again = grid(lambda: Memo(disk=cache))
    assert alike([results(record) for record in again], [results(record) for record in undisturbed])
    assert {"reading", "affinity", "partitioner", "outcome"} <= {stored.kind for stored in cache.stored()}
