"""How fast a machine is: this one, measured in a fraction of a second; GPUs from their data sheets."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from harness.engine.budget import ON_CPU, ON_GPU
from harness.engine.flops import Work
from harness.engine.shapes import Shapes
from harness.util.bytesize import parse_size
from harness.util.memory import machine_memory

ROWS, WATCHED = 256, 0.15  # rows of the matrix product that is timed, and seconds that it is repeated
REFERENCE = 128e9  # FLOP/s of the core on which constants of this package were measured
ATTENTION = 0.5  # rate of attention, relative to large products: its products are narrow, with a softmax between
BETWEEN = 1e-8  # seconds per number and block for norms, rotations and gates, on the REFERENCE core
TRAFFIC = 8  # how often a GPU moves such a number between its memory and its cores
LAUNCHING = 5e-4  # least seconds per block of a pass on a GPU: kernels are launched one by one
EFFICIENCY = 0.5  # share of the nominal FLOP/s that a pass is expected to reach
SPARE = 0.8  # share of a GPU's free memory that passes may take


@dataclass(frozen=True)
class Nominal:
    """From a GPU's data sheet: FLOP/s in float32 (without TF32) and in half precision; bytes per second."""

    single: float
    half: float
    bandwidth: float


@dataclass(frozen=True)
class Machine:
    """A processor (``gpu`` None), with its rate in FLOP/s (None: measured when needed), or one or several GPUs.

    ``memory``: bytes of each GPU; ``count``: GPUs that hold a model together. Only one of them works at a time.
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
        """The time of a CPU stage relative to the reference core. The host of a GPU counts as one."""
        return 1.0 if self.gpu else REFERENCE / self.rate(shapes)

    def seconds(self, work: Work, shapes: Shapes, itemsize: int = 4) -> float:
        """Seconds of passes through a model."""
        rate = self.rate(shapes, itemsize)
        products = work.products / rate + work.attention / (ATTENTION * rate)
        numbers = work.positions * (shapes.width + shapes.mlp * max(1, shapes.active))
        if self.gpu is None:
            return products + numbers * BETWEEN * REFERENCE / rate
        moved = numbers * TRAFFIC * itemsize / self.gpu.bandwidth
        return products + moved + LAUNCHING * shapes.layers * work.passes

    def for_passes(self, weights: int) -> int:
        """Bytes that a pass may take in addition to the weights."""
        return max(0, int(SPARE * (self.memory - weights / self.count))) if self.gpu else parse_size("4GiB")

    def holding(self, weights: int) -> Machine:
        """As many of these GPUs as are needed to hold the weights."""
        count = int(weights // (SPARE * self.memory)) + 1
        return replace(self, name=f"{count} x {self.name}" if count > 1 else self.name, count=count)


GPUS = (
    Machine("RTX 4090", 24 * 10**9, gpu=Nominal(82.6e12, 165e12, 1.01e12)),
    Machine("A100", 80 * 10**9, gpu=Nominal(19.5e12, 312e12, 2.04e12)),
    Machine("H100", 80 * 10**9, gpu=Nominal(67e12, 989e12, 3.35e12)),
)
"""NVIDIA's data sheets: float32, dense bfloat16 with float32 sums, and bandwidth. A100 and H100 are SXM versions."""


def here() -> Machine:
    """This processor."""
    return Machine("this machine", machine_memory())


@cache
def measured(width: int, mlp: int) -> float:
    """float32 FLOP/s of this processor, in the first matrix product of an MLP, for a few positions.

    The fastest of several repetitions counts, because other work on the machine can only slow them down.
    """
    left, right = np.ones((ROWS, width), np.float32), np.ones((width, mlp), np.float32)
    product = left @ right  # the first one also starts threads
    best, end = float("inf"), time.perf_counter() + WATCHED
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        np.matmul(left, right, out=product)
        best = min(best, time.perf_counter() - start)
    return 2 * ROWS * width * mlp / best
