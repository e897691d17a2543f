"""Checks of the stages that make examples and labels: batches, labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.batch import Batch, Width
from harness.data.contracts import reads
from harness.data.grouping import Labels
from harness.data.recording import Recording
from harness.data.stages import inputs_of
from harness.data.tokens import Tokens
from harness.testing import examples
from harness.testing.checks import Check, NotChecked, require, require_sentence, usual_checks
from harness.util.errors import HarnessError

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
    *usual_checks(examples.given, _judge_batch, may_need_a_file=True),
    answers_or_refuses_a_small_vocabulary,
)

# ----------------------------------------------------------------------------------------------------------------------
# Labels: from their own recording where they read the model
# ----------------------------------------------------------------------------------------------------------------------


def _given(plugin: Any, at_once: int = 100) -> dict[str, Any]:
    if reads(plugin):
        seen = {name: make(plugin, "labels", at_once) for name, make in examples.RECORDED.items()}
        return examples.given(plugin, **seen)
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
