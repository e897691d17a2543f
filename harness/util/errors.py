"""Errors for users: where and what is wrong, why, and the exact fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """An error that the user can correct. It is shown without a traceback, and the process exits with 2.

    ``what`` names the key, file or plugin, and the problem. ``fix``: the text to type, or the change to make.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what if not fix else f"{what}\n{fix}")
        self.what = what
        self.fix = fix


class PluginError(HarnessError):
    """A plugin that cannot be used: a class of the wrong shape, or a name that two plugins offer."""


def unknown(kind: str, name: str, options: Iterable[str], hint: str = "") -> HarnessError:
    """The error for an unknown name: the nearest names first, then all of them."""
    names = sorted(options)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    guess = f" Did you mean: {', '.join(close)}?" if close else ""
    return HarnessError(
        f"{kind} '{name}' is not known.{guess}",
        f"{kind} options: {', '.join(names) or '(none)'}" + (f"\n({hint})" if hint else ""),
    )


def without_model(label: str) -> HarnessError:
    """The error for a subject that has units and no model."""
    return HarnessError(
        f"subject {label} has no model, so it can be neither recorded nor ablated.",
        "Use `harness propose`, which stops before ablation, with inputs from files: affinity=precomputed or "
        "subject.activity=A.npy, and labels=file or labels=none instead of labels=survey.",
    )
