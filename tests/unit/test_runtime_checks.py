"""Shapes and types are checked while tests run, in the core and in plugins."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.recording import Activity
from harness.data.units import UnitSpace
from harness.registry.config import registry


def test_a_wrong_shape_is_refused_by_the_core() -> None:
    with pytest.raises(TypeError, match=r"(?s)harness\.data\.recording\.Activity.*observations units"):
        Activity(np.zeros(3), UnitSpace.heads([3]))


def test_a_wrong_dtype_is_refused_by_the_core() -> None:
    with pytest.raises(TypeError, match=r"(?s)Float.*observations units"):
        Activity(np.zeros((4, 3), dtype=np.int64), UnitSpace.heads([3]))


def test_a_wrong_argument_is_refused_by_a_plugin() -> None:
    median = registry().get("binarizer", "median").build({})
    with pytest.raises(TypeError, match=r"(?s)harness_plugins\.binarizers\.median.*activity"):
        median(np.zeros((4, 3)))
