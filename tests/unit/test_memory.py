"""Reuse of freed memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGE = 4096
BLOCK = 64 * 2**20
TIMES = 20
PROGRAM = f"""
import resource, sys
import numpy as np
from harness.util.memory import keep_freed

if sys.argv[1] == "kept":
    keep_freed()
np.ones({BLOCK} // 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TIMES}):
    np.ones({BLOCK} // 8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep what is freed")
def test_freed_memory_is_used_again() -> None:
    """By default the system maps and clears every page of a large block again; a huge page is 512 pages."""
    faults_when_given_back, faults_when_kept = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True, text=True).stdout)
        for how in ("given back", "kept")
    )
    assert faults_when_given_back >= TIMES * BLOCK / PAGE / 512
    assert faults_when_kept < faults_when_given_back / 10
