"""The settings of a cell besides its methods, and which of them are part of its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval

from harness.records.upgrades import SETTINGS_2

PROPOSING = ("signal", "transform", "binarizer", "affinity", "partitioner", "chooser", "selector")


@dataclass(frozen=True)
class Settings:
    """The settings of a cell, besides its methods.

    - ``split``: propose on one half of the examples and test on the other (``half``), or use all for both (``none``).
      A group named by hand has no proposal half and is tested on all. With ``test_half`` it is tested on the other half
      as well: where another cell proposed the group, on the same batch, these examples did not help to choose it.
    - ``alpha``: the level of the verdict.
    - ``futility``: testing a candidate stops early when this many groups have at least its statistic (None: never).
    - ``ddof``: delta degrees of freedom of the controls' standard deviation in z.
    - ``seed``: of the split, the bootstrap and the reruns.
    - ``reruns``: how often partitions are computed again to measure their stability (this many reruns of each kind).
    - ``scope``: the examples that a group is judged on: ``all``, those on which this group is ``active``, or those of
      the ``stratum`` that it was proposed on (without strata: all).
    - ``active``: a group is active on an example where any of its units is, all are, or its most selective one is.
    - ``test``: the exact test, or the former one against ``disjoint`` groups. ``statistic``: what the exact test
      compares: the ``necessity`` of the units, or their ``share`` of the group's damage.
    - ``joint``: a group passes only if its units need each other: their interaction is certainly below zero.
    - ``deciding``: the metrics that decide: the first and those that declare it (``declared``), or ``all``.
    - ``prune``: drop units that a candidate does not need, by ablation on the proposal half, before it is tested.
    - ``grow``: add up to so many units that a candidate lacks, by ablation on the proposal half, before it is tested
      (and before it is pruned).
    - ``check_task``: the verdict is TASK_NOT_DONE where the model does not do the task better than chance.
    - ``size_curve``: also measure the damage by the method's first 1, 2, 4, 8 and 16 units, for boards.
    - ``strata_null``: with how many random divisions of the examples the agreement of strata with labels is compared.
    - ``null_proposals``: how often the pipeline runs on permuted data (None: see :attr:`permuted_runs`).
    - ``group``: units named by hand, which are tested as they are.

    These do not enter a cell's identity:

    - ``workspace``, ``tracking``: where results go; ``force``: redo a finished cell.
    - ``on_error``: whether a sweep continues after a failed cell.
    - ``cache``, ``cache_limit``: whether shared results are kept on disk (in the workspace), and how many bytes.
    """

    split: Literal["half", "none", "test_half"] = "half"
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.05
    futility: Annotated[int, Ge(1)] | None = 10
    ddof: Literal[0, 1] = 1
    seed: int = 0
    reruns: Annotated[int, Ge(0)] = 5
    scope: Literal["all", "active", "stratum"] = "all"
    active: Literal["any", "all", "most_selective"] = "any"
    test: Literal["exact", "disjoint"] = "exact"
    statistic: Literal["necessity", "share"] = "necessity"
    joint: bool = False
    deciding: Literal["declared", "all"] = "declared"
    prune: bool = False
    grow: Annotated[int, Ge(0)] = 0
    check_task: bool = True
    size_curve: bool = False
    strata_null: Annotated[int, Ge(0)] = 0
    null_proposals: Annotated[int, Ge(0)] | None = None
    group: tuple[str, ...] = ()
    workspace: str = "runs"
    tracking: str = "local"
    force: bool = False
    on_error: Literal["continue", "stop"] = "continue"
    cache: bool = True
    cache_limit: str = "10GB"

    @property
    def permuted_runs(self) -> int:
        """How often the pipeline runs on permuted data: as set. By default 99 if candidates are tested on the examples
        they were proposed on, else 0.
        """
        if self.null_proposals is not None:
            return self.null_proposals
        return 99 if self.split == "none" else 0


def tests_on_all(config: Mapping[str, Any]) -> bool:
    """Whether the cell of a configuration tests on all of its examples, not on one half."""
    split = config.get("split", Settings.split)
    return split == "none" or (bool(config.get("group")) and split == "half")


FIRST_NAMES = {new: old for old, new in SETTINGS_2.items()}
"""A renamed setting enters the digest of a protocol under its first name, so that older records share the protocol."""
FORMERLY = {
    "scope": "all",
    "deciding": "all",
    "test": "disjoint",
    "statistic": "necessity",
    "joint": False,
    "check_task": False,
}
"""Settings that older records do not have, with the value that they follow. It does not enter the digest either."""
NOT_JUDGING = frozenset({"group", "prune", "grow", "size_curve", "strata_null"})
"""Settings of methods, and of what is reported beside: how candidates are judged does not depend on them."""
NEUTRAL = frozenset({"workspace", "tracking", "force", "on_error", "cache", "cache_limit"})
