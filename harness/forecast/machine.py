"""How fast a machine is: this one, measured in a fraction of a second; GPUs by what is published, taken with care."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from harness.engine.budget import ON_CPU, ON_GPU
from harness.engine.flops import Work
from harness.engine.shapes import Shapes
from harness.util.bytesize import parse_size

ROWS, WATCHED = 256, 0.15  # of a product of matrices, and seconds that it is watched: short ones are seldom disturbed
REFERENCE = 128e9  # FLOP/s of the core on which constants of this package were measured
ATTENTION = 0.5  # of the rate of large products, in attention: its products are narrow, with a softmax between them
BETWEEN = 1e-8  # seconds per number that a block works on between its products (norms, rotations, gates), at REFERENCE
TRAFFIC = 8  # times that a GPU moves such a number between its memory and its cores
LAUNCHING = 5e-4  # seconds per block of a pass on a GPU, however small: kernels are launched one by one
EFFICIENCY = 0.5  # of nominal FLOP/s that a pass can be expected to reach
SPARE = 0.8  # of a GPU's free memory that passes may take


@dataclass(frozen=True)
class Nominal:
    """What a GPU's data sheet says: FLOP/s in float32, without TF32, and in half precision; bytes per second."""

    single: float
    half: float
    bandwidth: float


@dataclass(frozen=True)
class Machine:
    """A processor (``gpu`` None) with its rate in FLOP/s (None: measured when asked for), or one or several GPUs.

    ``memory``: bytes of each; ``count``: GPUs that hold a model together, of which one at a time works.
    """

    name: str
    memory: int
    flops: float | None = None
    gpu: Nominal | None = None
    count: int = 1

    @property
    def positions(self) -> int:
        """Rows x positions beyond which a pass is no faster."""
        return ON_GPU if self.gpu else ON_CPU

    def rate(self, shapes: Shapes, itemsize: int = 4) -> float:
        """FLOP/s of large products."""
        if self.gpu is None:
            return self.flops or measured(shapes.width, shapes.mlp)
        return EFFICIENCY * (self.gpu.single if itemsize == 4 else self.gpu.half)

    def slower(self, shapes: Shapes) -> float:
        """How many times longer than on the reference core a CPU stage takes; a GPU's host is taken for one."""
        return 1.0 if self.gpu else REFERENCE / self.rate(shapes)

    def seconds(self, work: Work, shapes: Shapes, itemsize: int = 4) -> float:
        """Of passes through a model."""
        rate = self.rate(shapes, itemsize)
        products = work.products / rate + work.attention / (ATTENTION * rate)
        numbers = work.positions * (shapes.width + shapes.mlp * max(1, shapes.active))
        if self.gpu is None:
            return products + numbers * BETWEEN * REFERENCE / rate
        moved = numbers * TRAFFIC * itemsize / self.gpu.bandwidth
        return products + moved + LAUNCHING * shapes.layers * work.passes

    def for_passes(self, weights: int) -> int:
        """Bytes that a pass may take beside the weights."""
        return max(0, int(SPARE * (self.memory - weights / self.count))) if self.gpu else parse_size("4GiB")

    def holding(self, weights: int) -> Machine:
        """As many of these GPUs as the weights need."""
        count = int(weights // (SPARE * self.memory)) + 1
        return replace(self, name=f"{count} x {self.name}" if count > 1 else self.name, count=count)


GPUS = (
    Machine("RTX 4090", 24 * 10**9, gpu=Nominal(82.6e12, 165e12, 1.01e12)),
    Machine("A100", 80 * 10**9, gpu=Nominal(19.5e12, 312e12, 2.04e12)),
    Machine("H100", 80 * 10**9, gpu=Nominal(67e12, 989e12, 3.35e12)),
)
"""NVIDIA's data sheets: float32, dense bfloat16 with float32 sums, and memory; the last two the SXM versions."""


def here() -> Machine:
    """This processor."""
    return Machine("this machine", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@cache
def measured(width: int, mlp: int) -> float:
    """float32 FLOP/s of this processor, on the product that an MLP starts with, of a few positions.

    The best of those that fit into the time: other work on the machine only ever slows one down.
    """
    left, right = np.ones((ROWS, width), np.float32), np.ones((width, mlp), np.float32)
    made = left @ right  # the first one also starts threads
    best, end = float("inf"), time.perf_counter() + WATCHED
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        np.matmul(left, right, out=made)
        best = min(best, time.perf_counter() - start)
    return 2 * ROWS * width * mlp / best
