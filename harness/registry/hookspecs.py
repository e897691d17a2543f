"""Every hook of the harness, in the order in which a run calls them.

A plugin implements the hooks that it needs with :data:`hookimpl`. Hooks that offer methods are called once, when
plugins are loaded. They return classes, not instances: the registry builds instances from the configuration. Two
plugins may not offer the same name for the same stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pluggy

from harness.data.contracts import (
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
    Stratifier,
    SubjectMethod,
    Transform,
)
from harness.records.record import Record

PROJECT = "closure_harness"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of its name."""

# ----------------------------------------------------------------------------------------------------------------------
# Setting up: further folders of configuration
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def harness_config_paths() -> Iterable[str]:  # type: ignore[empty-body]  # a specification has no body
    """Folders with configuration files of this plugin (``subject/*.yaml``, ``experiment/*.yaml``, ...).

    Return Hydra search paths such as ``pkg://my_package.conf``; the package needs an ``__init__.py`` in every folder.

    Example: ``tests/third_party``.
    """


# ----------------------------------------------------------------------------------------------------------------------
# Inputs: the model, the examples, the labels of the units
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def harness_subjects() -> Iterable[type[SubjectMethod]]:  # type: ignore[empty-body]
    """Subjects of this plugin: models that can be recorded and ablated.

    Example: ``plugins/subjects/hf.py``.
    """


@hookspec
def harness_batches() -> Iterable[type[BatchMethod]]:  # type: ignore[empty-body]
    """Batches of this plugin: examples, each with a query position and a target, and anchors.

    Example: ``plugins/batches/random_repeat.py``.
    """


@hookspec
def harness_labels() -> Iterable[type[LabelMethod]]:  # type: ignore[empty-body]
    """Label sources of this plugin: the classes of units, found without clustering.

    Example: ``plugins/labels/survey.py``.
    """


# ----------------------------------------------------------------------------------------------------------------------
# Proposing: recording -> activity -> spins -> affinity -> partition -> candidates
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def harness_stratifiers() -> Iterable[type[Stratifier]]:  # type: ignore[empty-body]
    """Stratifiers of this plugin: strata of the examples, each proposed on by itself.

    Example: ``plugins/stratifiers/groups.py``.
    """


@hookspec
def harness_signals() -> Iterable[type[Signal]]:  # type: ignore[empty-body]
    """Signals of this plugin: one number per observation and unit, from what the subject computes.

    Example: ``plugins/signals/max_attention.py``.
    """


@hookspec
def harness_transforms() -> Iterable[type[Transform]]:  # type: ignore[empty-body]
    """Transforms of this plugin: what is removed from activity before affinities are estimated.

    Example: ``plugins/transforms/residualize.py``.
    """


@hookspec
def harness_binarizers() -> Iterable[type[Binarizer]]:  # type: ignore[empty-body]
    """Binarizers of this plugin: activity -> spins.

    Example: ``plugins/binarizers/median.py``.
    """


@hookspec
def harness_affinities() -> Iterable[type[AffinityMethod]]:  # type: ignore[empty-body]
    """Affinities of this plugin: how similarly two units behave.

    Example: ``plugins/affinities/mutual_information.py``.
    """


@hookspec
def harness_partitioners() -> Iterable[type[Partitioner]]:  # type: ignore[empty-body]
    """Partitioners of this plugin: affinity -> one label per unit.

    Example: ``plugins/partitioners/spectral.py``.
    """


@hookspec
def harness_choosers() -> Iterable[type[Chooser]]:  # type: ignore[empty-body]
    """Choosers of this plugin: how good each of several partitions is.

    Example: ``plugins/choosers/modularity.py``.
    """


@hookspec
def harness_selectors() -> Iterable[type[Selector]]:  # type: ignore[empty-body]
    """Selectors of this plugin: which groups get a closure test.

    Example: ``plugins/selectors/paper_score.py``.
    """


# ----------------------------------------------------------------------------------------------------------------------
# Disposing: candidate -> ablation, controls, metrics -> closure
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def harness_interventions() -> Iterable[type[Intervention]]:  # type: ignore[empty-body]
    """Interventions of this plugin: what an ablated unit writes instead of its output.

    Example: ``plugins/interventions/zero.py``.
    """


@hookspec
def harness_controls() -> Iterable[type[Controls]]:  # type: ignore[empty-body]
    """Controls of this plugin: random groups matched to a candidate.

    Example: ``plugins/controls/layer_matched.py``.
    """


@hookspec
def harness_metrics() -> Iterable[type[Metric]]:  # type: ignore[empty-body]
    """Metrics of this plugin: what ablation may damage, and in which direction damage changes it.

    Example: ``plugins/metrics/log_odds.py``.
    """


# ----------------------------------------------------------------------------------------------------------------------
# Events of a run. Every event is one frozen dataclass, so that a new field breaks no plugin
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellFinished:
    """A cell has ended, with any status. ``folder`` holds its record and its other files."""

    record: Record
    folder: Path


@hookspec
def harness_cell_finished(event: CellFinished) -> None:
    """A cell has ended, with any status, and its record is on disk.

    Called in the process that ran the cell. An exception is reported as a warning; the record is kept.

    ``event``: the record and its folder.

    Example: ``harness/tracking/mlflow.py``, the MLflow mirror.
    """
