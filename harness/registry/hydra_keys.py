"""Keys of Hydra's own: those that the harness uses, and what to type instead of the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.registry.command import command
from harness.util.errors import HarnessError

EVERYWHERE = ("hydra.searchpath",)
IN_SWEEPS = ("hydra/launcher", "hydra.launcher", "hydra.sweeper.params", "hydra/callbacks", "hydra.callbacks",
             "hydra.job.env_set", "hydra.job.env_copy")  # fmt: skip

_BASIC = "The harness expands comma lists, range(), choice() and glob(), as Hydra's basic sweeper does."
_WORKSPACE = "Records, boards and caches are kept in the workspace. Type workspace=DIR."
INSTEAD: Mapping[str, str] = {
    "hydra.run.dir": _WORKSPACE,
    "hydra.sweep.dir": _WORKSPACE,
    "hydra.sweep.subdir": _WORKSPACE,
    "hydra.output_subdir": _WORKSPACE,
    "hydra.job.chdir": "Cells run in the folder where the command is typed: cd there first.",
    "hydra.sweeper.max_batch_size": "hydra/launcher=joblib hydra.launcher.n_jobs=N limits how many cells run at once.",
    "hydra/sweeper": _BASIC,
    "hydra.sweeper": _BASIC,
    "hydra.mode": "Type harness run for one cell, harness sweep for several.",
    "hydra.verbose": "--debug shows tracebacks.",
}  # fmt: skip
"""By key: what to type, or why there is nothing to type."""


def check_hydra_keys(overrides: Iterable[str], sweep: bool) -> None:
    """Errors: a key of Hydra's own that has no effect here."""
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0].partition("@")[0]
        if key.split(".")[0].split("/")[0] != "hydra" or _under(key, EVERYWHERE) or (sweep and _under(key, IN_SWEEPS)):
            continue
        if _under(key, IN_SWEEPS):
            raise HarnessError(f"{key} has an effect in sweeps only.", f"Type {command('sweep', '...', word)}")
        closest = next((listed for listed in INSTEAD if _under(key, [listed])), None)
        why = INSTEAD[closest] if closest else "The harness names jobs, logs and output by itself."
        raise HarnessError(f"{key} has no effect in the harness.", why)


def _under(key: str, keys: Iterable[str]) -> bool:
    return any(key == one or key.startswith((f"{one}.", f"{one}/")) for one in keys)
