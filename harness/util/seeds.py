"""Seeds: every random choice has a seed derived from a base seed and a purpose."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(base: int, purpose: str) -> int:
    """A 32-bit seed for one purpose: the first four bytes of SHA-256 of ``"base/purpose"``.

    Two purposes never share a stream, and a new random choice never changes another one.
    """
    return int.from_bytes(hashlib.sha256(f"{base}/{purpose}".encode()).digest()[:4], "big")


def rng_for(base: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose; see :func:`seed_for`."""
    return np.random.default_rng(seed_for(base, purpose))
