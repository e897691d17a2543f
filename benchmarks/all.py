"""Run all benchmarks and write ``benchmarks/results.md`` (``make bench``; about an hour on two cores).

``python benchmarks/all.py closure plan`` runs only those two, and keeps the other sections.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from harness.util.bytesize import write_size
from harness.util.threads import cores

RESULTS = Path(__file__).parent / "results.md"
SECTIONS = {
    "closure": "The closure test",
    "hooked": "Units of any module",
    "affinities": "Affinities",
    "grid": "A grid of cells",
    "sparse": "Fifty thousand units",
    "mechanisms": "Subcomponents of a small language model",
    "plan": "Forecasts of `harness plan`",
}
PACKAGES = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "igraph", "transformer-lens", "nnsight")


def machine() -> str:
    """Processor, memory, accelerator, versions, commit."""
    here = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", here.read_text()) if here.is_file() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    processor = found[1] if found else platform.processor()
    return (
        f"{processor}, {cores()} cores, {write_size(memory)} of memory, {accelerator}; "
        f"Python {platform.python_version()}, {', '.join(filter(None, map(_version, PACKAGES)))}; "
        f"commit {commit()}; load {os.getloadavg()[0]:.1f} at the start."
    )


@cache
def commit() -> str:
    """The commit of the checkout, read once: results that are written later do not make it dirty."""
    words = ["git", "describe", "--always", "--dirty"]
    answer = subprocess.run(words, check=False, capture_output=True, text=True, cwd=RESULTS.parent).stdout
    return answer.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""


def section(name: str) -> str:
    """One benchmark, with its machine and its time."""
    description, start = machine(), time.perf_counter()
    table = importlib.import_module(name).run()
    minutes = (time.perf_counter() - start) / 60
    return f"## {SECTIONS[name]}\n\n{table}\n\n`benchmarks/{name}.py`, {minutes:.1f} minutes. {description}\n"


def main(chosen: list[str]) -> None:
    """Run the chosen benchmarks, and write the page after each of them."""
    before = RESULTS.read_text() if RESULTS.is_file() else ""
    done = {
        name: match[0]
        for name in SECTIONS
        if (match := re.search(rf"## {re.escape(SECTIONS[name])}\n.*?(?=\n## |\Z)", before, re.S))
    }
    for name in chosen or SECTIONS:
        done[name] = section(name)
        page = "\n".join(["# Benchmarks", "", "Made by `make bench`; ratios were measured side by side.", ""])
        RESULTS.write_text(page + "\n" + "\n".join(done[name].strip() + "\n" for name in SECTIONS if name in done))
        print(done[name], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
