"""Checks of the stages that a cell starts from: subjects, batches, labels."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float

from harness.data.batch import Batch, Vocabulary, Width
from harness.data.contracts import Intervention, Metric, Subject, reads
from harness.data.grouping import Labels
from harness.data.prediction import Prediction
from harness.data.recording import Reader, Recording, Rows, Source
from harness.data.stages import inputs_of
from harness.data.tokens import Tokens
from harness.data.units import UnitSpace
from harness.testing import examples
from harness.testing.checks import Check, NotChecked, require, require_sentence, usual_checks
from harness.util.errors import HarnessError

# ----------------------------------------------------------------------------------------------------------------------
# Subjects: loaded once, with their defaults. A subject that needs parameters is not checked
# ----------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Look(Reader):
    """All attention weights of the query, padded to one width."""

    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads keys"]:
        wide = np.zeros((*rows.values.shape[:2], 64))
        wide[:, :, : rows.values.shape[2]] = rows.values
        return wide


@dataclasses.dataclass(frozen=True)
class _Zero(Intervention):
    name: ClassVar[str] = "zero"

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(())


@dataclasses.dataclass(frozen=True)
class _TargetLogit(Metric):
    name: ClassVar[str] = "target_logit"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        return prediction.logits.gather(1, prediction.target[:, None])[:, 0]


@lru_cache(maxsize=1)
def _loaded(plugin: Any) -> Any:
    try:
        subject = plugin()
    except HarnessError as error:
        raise NotChecked(f"it does not load without parameters: {error.what}") from error
    return subject


def _batch_for(subject: Subject) -> Tokens:
    if not isinstance(subject.reads, Vocabulary):
        raise NotChecked("it does not read token sequences")
    return examples.batch(vocab_size=min(subject.reads.vocab_size, 1000))


def loads_and_names_its_units(plugin: Any) -> None:
    """It has a label, ordered units and says what it reads."""
    subject = _loaded(plugin)
    require(isinstance(subject, Subject), f"it returns {type(subject).__name__}, not Subject: inherit from Subject")
    require(isinstance(subject.label, str) and subject.label, "its `label` is not a non-empty string")
    require(isinstance(subject.units, UnitSpace), "its `units` are not a UnitSpace: use UnitSpace.heads(...)")
    kinds = (Vocabulary, Width, type(None))
    require(isinstance(subject.reads, kinds), "its `reads` is neither Vocabulary(...) nor Width(...) nor None")


def records_a_row_of_attention_per_unit(plugin: Any) -> None:
    """Attention weights of a unit sum to at most one over keys up to the query, and are zero after it."""
    subject = _loaded(plugin)
    batch = _batch_for(subject)
    readings = subject.record(batch, {"look": _Look()}, lambda _: None).readings["look"]
    require(
        readings.shape == (len(batch), len(subject.units), 64),
        f"readings have shape {readings.shape}, not [examples, units, ...]: join the sites along the units",
    )
    hidden = np.arange(64) > batch.query[:, None]
    require(
        not np.moveaxis(readings, 1, 2)[hidden].any(),
        "a head attends to keys after the query: cut the sequence at the query",
    )
    # At most one: some attention may go to a sink outside the sequence.
    require(
        readings.min() >= 0 and readings.sum(axis=2).max() <= 1 + 1e-4,
        "attention weights are not probabilities: read them after the softmax",
    )


def evaluates_every_condition_on_every_example(plugin: Any) -> None:
    """Baseline, one unit, all units. A condition that occurs twice has the same values."""
    subject = _loaded(plugin)
    batch = _batch_for(subject)
    conditions = [(), (0,), tuple(range(len(subject.units))), (0,), ()]
    values = subject.evaluate(batch, conditions, _Zero(), [_TargetLogit()], lambda _: None)
    require(values.shape == (1, 5, len(batch)), f"shape {values.shape}, not [metrics, conditions, examples]")
    require(np.isfinite(values).all(), "values are NaN or infinite")
    require(
        np.allclose(values[0, 0], values[0, 4], atol=1e-4),
        "the baseline differs between two evaluations: the model is not deterministic",
    )
    require(
        np.allclose(values[0, 1], values[0, 3], atol=1e-4),
        "one condition differs between two evaluations: the model is not deterministic",
    )
    require(
        not np.allclose(values[0, 0], values[0, 2], atol=1e-4),
        "ablating every unit changes nothing: the intervention has no effect",
    )


def does_not_see_past_the_query(plugin: Any) -> None:
    """Tokens after the query have no effect."""
    subject = _loaded(plugin)
    batch = _batch_for(subject)
    later = np.arange(batch.tokens.shape[1]) > batch.query[:, None]
    other = dataclasses.replace(batch, tokens=np.where(later, 1, batch.tokens))
    first, second = (subject.evaluate(b, [(), (0,)], _Zero(), [_TargetLogit()], lambda _: None) for b in (batch, other))
    require(
        np.allclose(first, second, atol=1e-4), "tokens after the query change the values: cut the sequence at the query"
    )


SUBJECT: tuple[Check, ...] = (
    loads_and_names_its_units,
    records_a_row_of_attention_per_unit,
    evaluates_every_condition_on_every_example,
    does_not_see_past_the_query,
)

# ----------------------------------------------------------------------------------------------------------------------
# Batches: created in the tokens of a small vocabulary
# ----------------------------------------------------------------------------------------------------------------------


def _judge_batch(plugin: Any, batch: Any) -> None:
    require(isinstance(batch, Batch), f"it returns {type(batch).__name__}, not Batch")
    batch.check(examples.word_vocabulary() if isinstance(batch, Tokens) else Width(6, 4))
    require(batch.target_kind, "its `target_kind` is empty: name what the target is, for example next_token")
    require(plugin.n in (None, len(batch)), f"it returns {len(batch)} examples, not the requested {plugin.n}")


def answers_or_refuses_a_small_vocabulary(plugin: Any) -> None:
    """40 words and 48 positions: a batch that fits, or an error message."""
    if "vocabulary" not in inputs_of(type(plugin)):
        raise NotChecked("it does not make token sequences")
    small = examples.word_vocabulary(vocab_size=40, context=48)
    try:
        batch = plugin(small)
    except HarnessError as error:
        require_sentence(error)
        return
    batch.check(small)


BATCH: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_batch),
    answers_or_refuses_a_small_vocabulary,
)

# ----------------------------------------------------------------------------------------------------------------------
# Labels: from their own recording where they read the model
# ----------------------------------------------------------------------------------------------------------------------


def _given(plugin: Any, at_once: int = 100) -> dict[str, Any]:
    if reads(plugin):
        return examples.given(plugin, recording=examples.read(plugin, "labels", at_once))
    return examples.given(plugin, recording=Recording(examples.batch(), examples.UNITS, {}))


def _judge_labels(_: Any, labels: Any) -> None:
    require(isinstance(labels, Labels), f"it returns {type(labels).__name__}, not Labels")
    n = len(examples.UNITS)
    require(len(labels.classes) == n, f"{len(labels.classes)} classes for {n} units")
    wrong = [c for c in labels.classes if not (c is None or (isinstance(c, str) and c))]
    require(not wrong, f"classes must be names or None, not {wrong[:3]}")
    for name, values in labels.selectivity.items():
        require(np.shape(values) == (n,), f"selectivity for {name} is not one number per unit")
        require(np.isfinite(values).all(), f"selectivity for {name} is NaN or infinite")


def does_not_depend_on_micro_batches(plugin: Any) -> None:
    """How a subject splits the batch into micro-batches has no effect."""
    if not reads(plugin):
        raise NotChecked("it does not read the model")
    whole, parts = plugin(**_given(plugin)), plugin(**_given(plugin, at_once=4))
    require(
        whole.classes == parts.classes,
        "classes depend on the micro-batches: treat each example independently in `read`",
    )


LABELS: tuple[Check, ...] = (
    *usual_checks(_given, _judge_labels, may_need_a_file=True),
    does_not_depend_on_micro_batches,
)
