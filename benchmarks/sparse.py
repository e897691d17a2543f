"""pearson_knn and the partitioners of its links at 1k, 8k and 50k units: seconds, memory, and the recovered groups.

eigengap runs a second time with the dense basis that it uses if groups are few or not clear; both partitions are
compared. Seconds are those of all cores together (processor time), so that other work on the machine changes them less.

leiden uses igraph's implementation above 8,192 units. With leidenalg's, the time of one pass grows with the number of
units to the power 1.5 (0.48 s for 8,000, 7.4 s for 50,000), and it takes 4 passes for 8,000 and 10 for 50,000 units.
The partitions of the two agree as those of two seeds do (adjusted Rand index 0.996 and 0.997 for 16,000 units), and
their quality differs in the sixth digit.

``python benchmarks/sparse.py`` prints the table (ten to fifteen minutes on two cores, most of it for 50k units);
with a number of units, one measurement as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any
from unittest.mock import patch

import numpy as np

from harness.util.memory import peak

SIZES = (1_000, 8_000, 50_000)
OBSERVATIONS = 5_000
TIMED = {"affinity": "affinity", "eigengap": "eigengap", "dense": "eigengap with a dense basis", "leiden": "leiden"}


def planted(n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Activity [observations, units] in float32, units in shuffled order, and the group of each.

    Groups of 2 to 200 units (sizes uniform in their logarithm) share a signal: correlation 0.5 inside, 0 outside.
    """
    rng = np.random.default_rng(n_units)
    sizes: list[int] = []
    while sum(sizes) < n_units:
        sizes.append(int(np.exp(rng.uniform(np.log(2), np.log(201)))))
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)[:n_units])
    signal = rng.standard_normal((OBSERVATIONS, len(sizes)), dtype=np.float32)
    values = np.empty((OBSERVATIONS, n_units), dtype=np.float32)
    for start in range(0, OBSERVATIONS, 500):
        values[start : start + 500] = signal[start : start + 500, groups]
        values[start : start + 500] += rng.standard_normal((500, n_units), dtype=np.float32)
    return values, groups


def measure(n_units: int) -> dict[str, Any]:
    """One size, in a process of its own: its peak memory is that of this size."""
    import igraph  # noqa: F401  (loaded before the clock starts)
    import sklearn.cluster  # noqa: F401
    from sklearn.metrics import adjusted_rand_score

    from harness.data import spectrum
    from harness.data.recording import Activity
    from harness.data.units import UnitSpace
    from harness.registry.config import registry
    from harness.util.threads import one_thread

    values, groups = planted(n_units)
    activity = Activity(values, UnitSpace.heads([1000] * (n_units // 1000)))
    methods = registry()
    result: dict[str, Any] = {"units": n_units, "groups": int(groups.max()) + 1, "input": values.nbytes}
    with one_thread():
        started = time.process_time()
        affinity = methods.get("affinity", "pearson_knn").build({"permutations": 2, "quantile": 0.9999})(activity)
        result |= {
            "affinity": time.process_time() - started,
            "k": affinity.diagnostics["k"],
            "links": affinity.links.nnz,
        }
        result["threshold"] = affinity.diagnostics["threshold"]
        result["peak of affinity"] = peak()["memory"]
        for name, parameters in (("eigengap", {}), ("leiden", {"resolution": [1.0]})):
            started = time.process_time()
            (found,) = methods.get("partitioner", name).build(parameters)(affinity)
            result[name] = time.process_time() - started
            result[f"ari of {name}"] = adjusted_rand_score(groups, found.labels)
            result[f"k of {name}"] = found.k
            if name == "eigengap":
                with patch.object(spectrum, "localised", return_value=None):
                    started = time.process_time()
                    (dense,) = methods.get("partitioner", name).build(parameters)(affinity)
                    result["dense"] = time.process_time() - started
                result["agreement"] = adjusted_rand_score(dense.labels, found.labels)
    return result | {"peak": peak()["memory"]}


def run() -> str:
    """The table, as Markdown: every size once, in a process of its own."""
    measurements = []
    for n_units in SIZES:
        process = subprocess.run([sys.executable, __file__, str(n_units)], capture_output=True, text=True, check=True)
        measurements.append(json.loads(process.stdout))
    rows = [
        "| units | k | links | affinity (s) | eigengap (s) | ARI | dense basis (s) | same partition (ARI) | leiden (s) "
        "| ARI | peak (GiB) | input (GiB) |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows += [
        f"| {row['units']:,} | {row['k']} | {row['links']:,} | {row['affinity']:.1f} | {row['eigengap']:.1f} | "
        f"{row['ari of eigengap']:.3f} | {row['dense']:.1f} | {row['agreement']:.3f} | {row['leiden']:.1f} | "
        f"{row['ari of leiden']:.3f} | {row['peak'] / 2**30:.2f} | {row['input'] / 2**30:.2f} |"
        for row in measurements
    ]
    exponents = ", ".join(f"{words} {_exponent(measurements, name):.2f}" for name, words in TIMED.items())
    result = (
        f"{OBSERVATIONS:,} observations; processor seconds. Exponents of the number of units, from the largest two "
        f"sizes: {exponents}."
    )
    return "\n".join([*rows, "", result])


def _exponent(measurements: list[dict[str, Any]], name: str) -> float:
    small, large = measurements[-2:]
    return float(np.log(large[name] / small[name]) / np.log(large["units"] / small["units"]))


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))) if sys.argv[1:] else run())
