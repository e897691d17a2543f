"""The stages of a cell, and what a method may ask for.

The argument names of a method's call are the inputs that it asks for (:data:`INPUTS`), as in pluggy: a partitioner may
ask for the affinity, for scores, or for labels. A cell computes only the stages that its candidates depend on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

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


@dataclass(frozen=True)
class Stage:
    """One step of a cell, with interchangeable methods. Its name is its config group and its key on the command line.

    ``contract``: the protocol of its methods. ``asks``: the inputs they may request. ``many``: a cell has a list of
    them (``metric=[loss,accuracy]``).
    """

    name: str
    hook: str
    does: str
    contract: type
    asks: tuple[str, ...] = ()
    many: bool = False


_KNOWING = ("recording", "history", "units", "truth")
MIXING = ("weights", "rerouted", "ablated")
"""Inputs of interventions that change the weights with which outputs are added up, instead of the outputs."""
_REPLACING = ("output", "donor", "mean", "std", "constant", "noise", "traffic", *MIXING)
_MATCHING = ("units", "labels", "strength", "usage")
_PROPOSED = ("affinity", "scores", "labels", "units", "spins", "observations", "activity", "truth")
STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("subject", "harness_subjects", "a model that can be recorded and ablated", SubjectMethod),
        Stage(
            "batch", "harness_batches", "examples with a target each: token sequences or vectors", BatchMethod,
            ("vocabulary", "width"),
        ),
        Stage("labels", "harness_labels", "classes of units that are known without clustering", LabelMethod, _KNOWING),
        Stage(
            "stratifier", "harness_stratifiers", "recording -> strata of examples, each proposed on by itself",
            Stratifier, ("recording",),
        ),
        Stage(
            "signal", "harness_signals", "recording -> one number per observation and unit", Signal,
            ("recording", "history", "units"),
        ),
        Stage(
            "transform", "harness_transforms", "activity -> activity, one after the other", Transform,
            ("activity", "batch"), many=True,
        ),
        Stage("binarizer", "harness_binarizers", "activity -> spins", Binarizer, ("activity",)),
        Stage(
            "affinity", "harness_affinities", "spins -> similarity of units", AffinityMethod,
            ("spins", "observations", "units"),
        ),
        Stage("partitioner", "harness_partitioners", "affinity -> groups", Partitioner, _PROPOSED),
        Stage(
            "chooser", "harness_choosers", "partitions -> the partition to take groups from", Chooser,
            ("partitions", *_PROPOSED),
        ),
        Stage(
            "selector", "harness_selectors", "groups -> candidates to be tested", Selector, ("partition", *_PROPOSED)
        ),
        Stage(
            "intervention", "harness_interventions", "what replaces the output of an ablated unit", Intervention,
            _REPLACING,
        ),
        Stage(
            "controls", "harness_controls", "a partition of the units, in whose cells groups are matched", Controls,
            _MATCHING,
        ),
        Stage(
            "metric", "harness_metrics", "what ablation may damage, and in which direction", Metric,
            ("prediction",), many=True,
        ),
    )
}  # fmt: skip

INPUTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "vocabulary": ((), "the tokens of a subject that reads token sequences: vocab_size, context, encode"),
    "width": ((), "the widths of a subject that reads vectors: inputs, outputs"),
    "units": ((), "the units of the subject, in order"),
    "truth": ((), "the class of each unit where the subject knows it (planted subjects do); else None"),
    "batch": (("batch",), "the proposal half of the examples"),
    "recording": (("batch",), "the joined results of the method's `read` on the batch"),
    "history": (("batch",), "the recordings at every checkpoint of the subject, by step; it needs a subject with some"),
    "activity": (("signal", "transform"), "one number per observation and unit, transformed"),
    "scores": (("signal",), "one number per unit"),
    "spins": (("binarizer",), "activity as -1 / +1"),
    "observations": (("binarizer",), "the output of the binarizer: spins, or activity with binarizer=none"),
    "affinity": (("affinity",), "similarity of units"),
    "labels": (("labels",), "the classes of units; a method that requests them is marked as using labels"),
    "partitions": (("partitioner",), "all partitions, with their stability"),
    "partition": (("partitioner", "chooser"), "the chosen partition"),
    "output": ((), "output of the units of one site [rows, places, units, width]"),
    "donor": ((), "the same output, in the run of the intervention's `donors(batch)`"),
    "mean": ((), "mean output of the units [places, units, width]"),
    "std": ((), "standard deviation of their output, of the same shape"),
    "constant": ((), "the constant of each unit with the least loss when it is ablated alone [1, units, width]"),
    "noise": ((), "standard normal numbers of the output's shape, the same ones in every condition"),
    "traffic": ((), "share of the tokens that means are over on which a unit hands on anything but zero [1, units, 1]"),
    "weights": ((), "of a mixture: the weight of every unit of the site [rows, places, units]"),
    "rerouted": ((), "of a mixture: the weights that the router gives without the ablated units, of the same shape"),
    "ablated": ((), "of a mixture: which units of the site are ablated [rows, 1, units]"),
    "strength": ((), "mean norm of what each unit writes to the residual stream, or hands on [units]"),
    "usage": ((), "share of the proposal examples on which each unit hands on anything but zero [units]"),
    "prediction": ((), "logits at the query, and the target"),
}
"""The inputs that a method may request by name: the stages that produce each, and its meaning."""

FOR_ANY_UNITS: Mapping[str, str] = {
    "labels": "none",
    "signal": "activation",
    "binarizer": "none",
    "affinity": "pearson_knn",
    "partitioner": "leiden",
    "chooser": "modularity",
    "selector": "isolated",
    "controls": "layer_matched",
}
"""By stage: methods that need neither attention nor labels, for any number of units."""

FOR_COUNTERFACTUALS: Mapping[str, tuple[str, ...]] = {
    "metric": ("logit_difference", "accuracy", "target_logit", "loss")
}
"""By stage: methods for examples whose counterfactual has an answer of its own, which competes with the target."""
FOR_ANSWERS: Mapping[str, tuple[str, ...]] = {"metric": ("logit_difference", "two_way_accuracy")}
"""By stage: methods for prompts with right and wrong answers, where other continuations of the text do not count."""

# ----------------------------------------------------------------------------------------------------------------------
# Properties of a method
# ----------------------------------------------------------------------------------------------------------------------


def inputs_of(method: type) -> tuple[str, ...]:
    """The inputs that a method requests: the names of its call's arguments, except those with a default."""
    arguments = list(signature(method.__call__).parameters.values())[1:]
    return tuple(a.name for a in arguments if a.default is Parameter.empty and a.kind is not Parameter.VAR_KEYWORD)


def call_with(method: Any, **available: Any) -> Any:
    """Call a method with the inputs that it requests."""
    return method(**{name: available[name] for name in inputs_of(type(method))})


def uses_other_runs(intervention: Intervention) -> bool:
    """Whether an intervention needs other runs: those of its donors, or those of a mean."""
    return not {"constant", "donor", "mean", "std", "traffic"}.isdisjoint(inputs_of(type(intervention)))


def mixes(intervention: Intervention) -> bool:
    """Whether an intervention changes the weights of a mixture, instead of what units hand on."""
    return not set(MIXING).isdisjoint(inputs_of(type(intervention)))


def upstream(stage: str, methods: Mapping[str, Sequence[type]]) -> set[str]:
    """The stages that a stage depends on, itself included. ``methods``: the chosen methods, by stage."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            names = {name for method in methods[stage] for name in inputs_of(method)}
            waiting += [producer for name in names for producer in INPUTS[name][0]]
    return found
