"""Every hook of the harness, in the order in which a run meets them.

A plugin implements the hooks it needs with :data:`hookimpl` and nothing else. Hooks that offer methods are called once,
when plugins are loaded; they return classes, not instances: the registry builds them from the configuration. Two
plugins may not offer the same name for the same stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pluggy

from harness.data.stages import (
    AffinityMethod,
    BatchMethod,
    Binarizer,
    Chooser,
    Controls,
    Intervention,
    LabelMethod,
    Metric,
    Partitioner,
    Selector,
    Signal,
    SubjectMethod,
    Transform,
)
from harness.records.record import Record

PROJECT = "closure_harness"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of its name."""

# ----------------------------------------------------------------------------------------------------------------------
# Setting up: where else configuration is to be looked for
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def harness_config_paths() -> Iterable[str]:  # type: ignore[empty-body]  # a specification has no body
    """Folders with configuration files (``subject/*.yaml``, ``experiment/*.yaml``, ...) this plugin brings.

    Return Hydra search paths such as ``pkg://my_package.conf``; the package needs an ``__init__.py`` in every folder.

    Example: ``tests/third_party``.
    """


# ----------------------------------------------------------------------------------------------------------------------
# Asking: which model, on which examples, and what is known about its units
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def harness_subjects() -> Iterable[type[SubjectMethod]]:  # type: ignore[empty-body]
    """Subjects this plugin offers: models that can be recorded and ablated.

    Example: ``plugins/subjects/hf.py``.
    """


@hookspec
def harness_batches() -> Iterable[type[BatchMethod]]:  # type: ignore[empty-body]
    """Batches this plugin offers: examples with a query position and a target each, and anchors.

    Example: ``plugins/batches/synthetic_induction.py``.
    """


@hookspec
def harness_labels() -> Iterable[type[LabelMethod]]:  # type: ignore[empty-body]
    """Sources of labels this plugin offers: what is known about units without clustering them.

    Example: ``plugins/labels/survey.py``.
    """


# ----------------------------------------------------------------------------------------------------------------------
# Proposing: recording -> activity -> spins -> affinity -> partition -> candidates
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def harness_signals() -> Iterable[type[Signal]]:  # type: ignore[empty-body]
    """Signals this plugin offers: what a subject computes, as one number per observation and unit.

    Example: ``plugins/signals/max_attention.py``.
    """


@hookspec
def harness_transforms() -> Iterable[type[Transform]]:  # type: ignore[empty-body]
    """Transforms of activity this plugin offers: what is taken out of it before affinities are estimated.

    Example: ``plugins/transforms/residualize.py``.
    """


@hookspec
def harness_binarizers() -> Iterable[type[Binarizer]]:  # type: ignore[empty-body]
    """Binarizers this plugin offers: activity -> spins.

    Example: ``plugins/binarizers/median.py``.
    """


@hookspec
def harness_affinities() -> Iterable[type[AffinityMethod]]:  # type: ignore[empty-body]
    """Affinities this plugin offers: how alike two units behave.

    Example: ``plugins/affinities/mutual_information.py``.
    """


@hookspec
def harness_partitioners() -> Iterable[type[Partitioner]]:  # type: ignore[empty-body]
    """Partitioners this plugin offers: affinity -> one label per unit.

    Example: ``plugins/partitioners/spectral.py``.
    """


@hookspec
def harness_choosers() -> Iterable[type[Chooser]]:  # type: ignore[empty-body]
    """Choosers this plugin offers: how good each of several partitions is.

    Example: ``plugins/choosers/modularity.py``.
    """


@hookspec
def harness_selectors() -> Iterable[type[Selector]]:  # type: ignore[empty-body]
    """Selectors this plugin offers: which groups are put to the closure test.

    Example: ``plugins/selectors/paper_score.py``.
    """


# ----------------------------------------------------------------------------------------------------------------------
# Disposing: candidate -> ablation, controls, metrics -> closure
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def harness_interventions() -> Iterable[type[Intervention]]:  # type: ignore[empty-body]
    """Interventions this plugin offers: what an ablated unit writes instead of its output.

    Example: ``plugins/interventions/zero.py``.
    """


@hookspec
def harness_controls() -> Iterable[type[Controls]]:  # type: ignore[empty-body]
    """Controls this plugin offers: random groups matched to a candidate.

    Example: ``plugins/controls/layer_matched.py``.
    """


@hookspec
def harness_metrics() -> Iterable[type[Metric]]:  # type: ignore[empty-body]
    """Metrics this plugin offers: what ablation may damage, and which way damage points.

    Example: ``plugins/metrics/target_logit.py``.
    """


# ----------------------------------------------------------------------------------------------------------------------
# Watching: events of a run; every event is one frozen dataclass, so that a new field breaks nobody
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellFinished:
    """A cell has ended, with any status; ``folder`` holds its record and whatever else it left."""

    record: Record
    folder: Path


@hookspec
def harness_cell_finished(event: CellFinished) -> None:
    """A cell has ended, with any status, and its record is on disk.

    Called in the process that ran the cell. What it raises is reported as a warning; the record stands.

    ``event``: the record, and the folder it lies in.

    Example: ``harness/tracking/mlflow.py``, the MLflow mirror.
    """
