"""Any label file: classes that it gives, or a sentence."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from harness.data.grouping import Labels
from harness.data.units import UnitSpace
from harness.registry.config import registry
from tests.fuzz.generated import generated
from tests.fuzz.refusals import unless_refused

UNITS = UnitSpace.heads([2, 2])
NAMES = st.one_of(st.sampled_from([*UNITS.labels, "L9H9", " L0H0", "l0h0", ""]), st.text(max_size=6))
CLASSES = st.one_of(
    st.none(),
    st.sampled_from(["self", "local", "unclassified", "", " ", "a\nb", "\u2028", "\ud800"]),
    st.text(max_size=4),
)
SCALARS = st.one_of(
    CLASSES, st.booleans(), st.integers(), st.integers(10**17, 10**25), st.floats(), st.just(10**400), st.just([])
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
PLAIN = st.dictionaries(NAMES, st.one_of(CLASSES, SCALARS), max_size=5)
ENTRIES = st.fixed_dictionaries(
    {}, optional={"unit": st.one_of(NAMES, TREES), "class": st.one_of(CLASSES, TREES), "selectivity": TREES}
)
HEADS = st.fixed_dictionaries({}, optional={"layer": SCALARS, "head": SCALARS, "classification": SCALARS})
FILES = st.one_of(
    PLAIN,
    TREES,
    st.fixed_dictionaries({"units": st.lists(ENTRIES, max_size=4)}),
    st.fixed_dictionaries({"classifications": st.lists(HEADS, max_size=4)}, optional={"all_head_selectivity": TREES}),
)
DAMAGE = (
    lambda text: text,
    lambda text: text[: len(text) // 2],
    lambda text: "[" * 5_000 + text,
    lambda text: text.replace("1", "1" * 5000, 1),
    lambda text: "\ufeff" + text,
    lambda text: text.replace("{", '{"L0H0": "self", "L0H0": "local", ', 1),
    lambda text: text.replace("null", "NaN"),
)


def outcome(content: bytes) -> Labels | None:
    """The labels in a file; None where it is refused in a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.json"
        path.write_bytes(content)
        method = registry().get("labels", "file").build({"path": str(path)})
        return unless_refused(lambda: method(UNITS), f"labels.path={path}")


def given(data: Any) -> dict[str, Any] | None:
    """The classes that a plain file gives, by its own rule; None where the file is not a plain one."""
    if not isinstance(data, dict) or {"units", "classifications"} & data.keys():
        return None
    named = {name.strip(): value for name, value in data.items()}
    fits = named.keys() <= set(UNITS.labels) and len(named) == len(data)
    return {unit: named.get(unit) for unit in UNITS.labels} if fits else None


@generated(FILES, st.sampled_from(DAMAGE), st.sampled_from(["utf-8", "utf-16", "cp1252"]))
def test_any_file(data: Any, damage: Any, encoding: str) -> None:
    """What is read is what the file gives to each unit; classes can be shown in a line."""
    text = damage(json.dumps(data))
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        return
    found = outcome(content)
    if found is None:
        return
    assert len(found.classes) == len(UNITS)
    for label in found.classes:
        assert label is None or ((label.strip() and label.isprintable()) or " " in label or not label.isascii())
        assert label is None or "\n" not in label
    expected = given(json.loads(text.removeprefix("\ufeff")))
    if expected is not None:
        assert list(found.classes) == list(expected.values())
    for ratios in found.selectivity.values():
        assert len(ratios) == len(UNITS)


@generated(st.binary(max_size=80))
def test_any_bytes(content: bytes) -> None:
    """Bytes that are not JSON are refused."""
    outcome(content)
