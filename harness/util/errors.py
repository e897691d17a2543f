"""Errors for users: what is wrong, where, why, and the exact fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Something the user can put right. Shown without a traceback; the process exits with 2.

    ``what`` names the key, file or plugin and what is wrong with it; ``fix`` is what to type or change.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what if not fix else f"{what}\n{fix}")
        self.what = what
        self.fix = fix


class PluginError(HarnessError):
    """A plugin that cannot be offered: import failure, wrong shape of class, a name offered twice."""


def unknown(kind: str, name: str, options: Iterable[str], hint: str = "") -> HarnessError:
    """The answer to a name nobody offers: the nearest names first, then all of them."""
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    guess = f" Did you mean: {', '.join(close)}?" if close else ""
    return HarnessError(
        f"{kind} '{name}' is not known.{guess}",
        f"{kind} options: {', '.join(known) or '(none)'}" + (f"\n({hint})" if hint else ""),
    )


def without_model(label: str) -> HarnessError:
    """The refusal of a subject that is only units: nothing runs through it."""
    return HarnessError(
        f"subject {label} has no model: nothing can be recorded from it, and nothing ablated in it.",
        "`harness propose` stops before ablation; there, everything has to come from files: affinity=precomputed, "
        "and labels=file or labels=none instead of survey.",
    )
