"""Some test examples of a candidate, with the model's most likely output before and after its ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from harness.cells.inputs import Inputs
from harness.data.batch import Reads, Vocabulary
from harness.data.contracts import Metric, no_tick
from harness.data.tokens import Tokens
from harness.records.record import ExampleRecord

if TYPE_CHECKING:
    import torch

    from harness.data.prediction import Prediction

MOST_DAMAGED, TYPICAL = 5, 2
"""How many examples are shown: those with the largest damage, and those whose damage is closest to the median."""
LONGEST = 200
"""Longest prompt that is shown whole, in characters."""
UNPRINTABLE = "\ufffd"
REACHES = (32, 16, 8, 4, 2, 1)
"""How many tokens on either side of a relevant position are shown of a longer prompt: the most that fit."""


@dataclass(frozen=True)
class MostLikely(Metric):
    """The index of the most likely output [rows]. It goes through ``evaluate`` like a metric, and decides nothing."""

    name: ClassVar[str] = "most_likely"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        return prediction.logits.argmax(dim=1).float()  # exact for vocabularies of up to 2 ** 24 tokens


Outputs = Mapping[tuple[int, ...], Int[np.ndarray, " examples"]]
"""The most likely output on every example, by ablated group; ``()`` is the baseline."""


def most_likely_outputs(inputs: Inputs, candidates: Sequence[tuple[int, ...]]) -> Outputs:
    """The model's predictions without ablation, and with each candidate ablated. Empty for batches of vectors."""
    batch = inputs.test_half
    if not candidates or not isinstance(batch, Tokens):
        return {}
    groups = list(dict.fromkeys([(), *candidates]))
    with inputs.progress.step("predictions", f"{len(batch)} examples"):  # a mean or a donor needs all examples
        outputs = inputs.evaluate(
            batch, groups, inputs.cell.stages["intervention"], [MostLikely()], no_tick, inputs.proposal_half
        )
    return dict(zip(groups, outputs[0].astype(int), strict=True))


def example_predictions(
    inputs: Inputs, candidate: tuple[int, ...], change: Float[np.ndarray, " examples"], outputs: Outputs
) -> tuple[ExampleRecord, ...]:
    """The examples that ablation of the candidate damages most, then typical ones, with the model's predictions.

    ``change``: of the first metric, by the candidate, on every test example. Empty for batches of vectors.
    """
    batch, reads, stages = inputs.test_half, inputs.subject.reads, inputs.cell.stages
    if not isinstance(batch, Tokens):
        return ()
    before, after = outputs[()], outputs[candidate]
    return tuple(
        ExampleRecord(
            example=example,
            prompt=prompt(batch, example, reads),
            answer=token(int(batch.target[example]), reads),
            before=token(int(before[example]), reads),
            after=token(int(after[example]), reads),
            change=float(change[example]),
        )
        for example in chosen(stages["metric"][0].damage * change)
    )


def chosen(damage: Float[np.ndarray, " examples"]) -> list[int]:
    """The examples with the largest damage, and of the others those whose damage is closest to the median."""
    order = np.argsort(-damage, kind="stable")
    most, others = order[:MOST_DAMAGED], order[MOST_DAMAGED:]
    distance = np.abs(damage[others] - np.median(damage))
    return [*most.tolist(), *others[np.argsort(distance, kind="stable")[:TYPICAL]].tolist()]


def prompt(batch: Tokens, example: int, reads: Reads) -> str:
    """The tokens up to the query, as text if the subject has a tokenizer.

    Of a long prompt, only the surroundings of the anchors and the end are shown.
    """
    query = int(batch.query[example])
    ids = batch.tokens[example, : query + 1]
    text = _text(ids.tolist(), reads)
    relevant = {query, *(int(place) for places in batch.anchors.values() for place in places[example])}
    for reach in REACHES:
        if len(text) <= LONGEST:
            break
        kept = [place for place in range(query + 1) if any(abs(place - other) <= reach for other in relevant)]
        runs = np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1)
        text = " … ".join(_text(ids[run].tolist(), reads) for run in runs)
        text = text if kept[0] == 0 else f"… {text}"
    return text


def token(index: int, reads: Reads) -> str:
    """One token as text. Its number, if it has no text of its own: a blank, or a part of a character."""
    text = _text([index], reads)
    return text if text.strip() and UNPRINTABLE not in text else f"token {index}"


def _text(ids: list[int], reads: Reads) -> str:
    """Text in one line, with a sign for characters that cannot be shown."""
    if isinstance(reads, Vocabulary) and reads.decode:
        decoded = reads.decode(ids).replace("\n", "⏎")
        return "".join(character if character.isprintable() else UNPRINTABLE for character in decoded)
    return " ".join(map(str, ids))
