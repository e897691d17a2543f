"""Importances of MIB: read, written, and refused where they are of another model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.importances import as_importances, read_importances
from harness.data.units import Unit, UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError

UNITS = UnitSpace.heads([2, 2])
SCORES = [0.5, -1.0, 2.0, 0.0]


def saved(folder: Path, content: Any) -> str:
    path = folder / "importances.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "nodes",
    [
        {"a0.h0": 0.5, "a0.h1": -1.0, "a1.h0": 2, "a1.h1": 0},
        {"input": {"score": 9}, "logits": {}, "m0": {"score": 3.0}, "m1": {"score": 4.0}}
        | {"a1.h1": {"score": 0.0, "in_graph": True}, "a1.h0": {"score": 2.0}}
        | {"a0.h0": {"score": 0.5}, "a0.h1": {"score": -1.0}},
        {"L0H0": 0.5, "L0H1": -1.0, "L1H0": 2.0, "L1H1": 0.0},
    ],
)
def test_the_scores_of_heads_are_read_under_every_name(nodes: dict[str, Any], tmp_path: Path) -> None:
    nodes = {name: value for name, value in nodes.items() if value != {}}
    for content in (nodes, {"cfg": {"n_layers": 2, "n_heads": 2}, "nodes": nodes, "edges": {}}):
        path = saved(tmp_path, content)
        assert read_importances("signal.path", path, UNITS).tolist() == SCORES
        method = registry().get("signal", "precomputed").build({"path": path})
        assert method(UNITS).scores.values.tolist() == SCORES
    absolute = registry().get("signal", "precomputed").build({"path": path, "absolute": True})
    assert absolute(UNITS).scores.values.tolist() == np.abs(SCORES).tolist()


def test_what_is_written_is_read_again_with_names_of_mib(tmp_path: Path) -> None:
    units = UnitSpace((*UNITS.units, Unit("L0.mlp", "mlp0", 0, "mlp"), Unit("L1N5", "n1", 1, "neuron")))
    content = json.loads(as_importances(units, np.arange(6.0)))
    assert list(content["nodes"]) == ["a0.h0", "a0.h1", "a1.h0", "a1.h1", "m0", "L1N5"]
    assert content["cfg"] == {"n_layers": 2, "n_heads": 2}
    assert read_importances("signal.path", saved(tmp_path, content), units).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a0.h0": 1.0, "a0.h1": 1.0, "a1.h0": 1.0}, r"of another model: it has no score of L1H1 \(3 nodes, 4 units\)"),
        ({f"a{i}.h{j}": 1.0 for i in range(3) for j in range(2)}, "it scores L2H0, which the subject does not have"),
        ({"nodes": {"a0.h0": True}}, "node 'a0.h0' says whether it is in a circuit, not its score"),
        ({"nodes": {"a0.h0": {"in_graph": True}}}, "node 'a0.h0' has no score"),
        ([1, 2], "none of the known forms"),
        ({"nodes": {}}, "none of the known forms"),
    ],
)
def test_files_of_another_model_or_without_scores_are_refused(content: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=reason) as refused:
        read_importances("signal.path", saved(tmp_path, content), UNITS)
    assert refused.value.fix


def test_no_file_is_refused() -> None:
    with pytest.raises(HarnessError, match="no file is given"):
        registry().get("signal", "precomputed").build({})(UNITS)
