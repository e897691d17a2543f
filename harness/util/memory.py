"""Memory of this process: its peak since the last reset, and how freed memory is kept."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any


def forget_peak() -> None:
    """Reset the peak on Linux and CUDA; on other systems the peak is that of the whole process.

    Freed memory that the process still holds is returned to the system first, so that it does not count.
    """
    if libc := _glibc():
        libc.malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if cuda := _cuda():
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)


def peak() -> dict[str, int]:
    """Bytes in main memory (``memory``), and on all GPUs together (``gpu_memory``) where any was used."""
    peaks = {"memory": _resident()}
    if cuda := _cuda():
        peaks["gpu_memory"] = sum(cuda.max_memory_allocated(device) for device in range(cuda.device_count()))
    return peaks


@cache
def keep_freed() -> None:
    """Keep up to 2 GiB of freed memory in the process, as torch's own allocator does on GPUs. Only with glibc.

    By default glibc returns large blocks at once. Every activation of a forward pass then gets new pages, which the
    system has to clear first. This takes a third of the time of a small model's passes.
    """
    if libc := _glibc():
        trim_threshold, mmap_threshold = -1, -3  # mallopt(3)
        libc.mallopt(trim_threshold, 2**31 - 1)
        if not libc.mallopt(mmap_threshold, 2**30):
            libc.mallopt(mmap_threshold, 2**25)  # the limit before glibc 2.35


def machine_memory() -> int:
    """Bytes of main memory that this process may use: those of the machine, or of its container."""
    limit = Path("/sys/fs/cgroup/memory.max")
    container = limit.read_text().strip() if limit.is_file() else "max"
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine if container == "max" else min(machine, int(container))


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def _resident() -> int:
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return 1024 * int(found[1])
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _cuda() -> Any:
    """torch.cuda if it is in use. This does not import torch."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None
