"""A random sequence, written twice: the answer in the second copy is the token that followed in the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, MultipleOf

from harness import BatchMethod, Counterfactual, HarnessError, Tokens, Vocabulary, hookimpl, repeat_anchors, rng_for
from harness.data.stages import FOR_COUNTERFACTUALS
from harness.data.tokens import BOS_HELP, id_range, require_positions, with_bos

SHORTEST = 8  # tokens of a copy: fewer leave no position that is not an anchor
USUAL = 48  # tokens of both copies


@dataclass(frozen=True)
class RandomRepeat(BatchMethod):
    r"""A random sequence of m different tokens, written twice; the answer is known from the first copy only.

    .. math:: s_1 \dots s_m\ s_1 \dots s_j \to s_{j+1}, \qquad \tfrac m2 < j < m

    The query is the second :math:`s_j`, drawn from the later half of its copy: language models need a few repeated
    tokens to notice that the sequence repeats. The tokens :math:`s` are drawn from [lo, hi) without replacement, so the
    answer is unique. The anchors are those of ``synthetic_induction``. The distance to the first copy is always m, so a
    head that attends to a fixed distance counts as an induction head; in ``synthetic_induction`` distances vary.

    The counterfactual of an example (for patching and logit_difference) differs in one token: the first
    :math:`s_{j+1}` becomes a token that the sequence does not contain, which is its answer.

    ``length`` counts both copies. A smaller context or vocabulary shortens up to 48 tokens; more have to fit. With
    ``bos``, the tokenizer's BOS token stands before the copies. Default ``vocab``: [100, 10000), reduced for a small
    vocabulary. The notes of the batch hold the values used.

    Errors: a range outside the vocabulary; fewer than 16 positions, or fewer than 9 tokens in the range; a length above
    48 that does not fit.
    Source: the repeated random tokens of Olsson et al. 2022 (induction heads), asked at one position.
    """

    name: ClassVar[str] = "random_repeat"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_COUNTERFACTUALS
    n: Annotated[int, Ge(1)] = field(default=512, metadata={"help": "number of examples"})
    length: Annotated[int, Ge(2 * SHORTEST), MultipleOf(2)] = field(
        default=USUAL, metadata={"help": "tokens of both copies together; fewer in a small context or vocabulary"}
    )
    seed: int = field(default=0, metadata={"help": "seed of every draw"})
    vocab: tuple[int, int] | None = field(
        default=None, metadata={"help": "token ids [lo, hi); null: [100, 10000), less in a small vocabulary"}
    )
    bos: bool | None = field(default=None, metadata={"help": BOS_HELP, "added": True})

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        bos, said = vocabulary.bos(self.bos)
        require_positions(self.name, 2 * SHORTEST + (bos is not None), vocabulary)
        low, high = id_range(self.vocab, vocabulary.vocab_size, SHORTEST + 1)
        longest = min((vocabulary.context - (bos is not None)) // 2, high - low - 1)
        if self.length > max(USUAL, 2 * longest):
            raise HarnessError(
                f"batch.length={self.length}: two copies of different tokens do not fit; the subject has "
                f"{vocabulary.context} positions and {high - low} tokens to draw from.",
                f"Use batch.length={2 * longest} or less.",
            )
        copy = min(self.length // 2, longest)
        rng, row = rng_for(self.seed, "random repeat"), np.arange(self.n)
        drawn = np.stack([rng.choice(np.arange(low, high), copy + 1, replace=False) for _ in row])
        once, other = drawn[:, :copy], drawn[:, copy]
        first = rng.integers(copy // 2, copy - 1, self.n)  # the position of s_j
        query, target = copy + first, once[row, first + 1]
        tokens = np.concatenate([once, once], axis=1)
        changed = tokens.copy()
        changed[row, first + 1] = other
        adapted = self.vocab is None and high < 10_000
        notes = {"length": 2 * copy, "vocab": [low, high], "vocab_adapted": adapted, "bos": said}
        anchors, counterfactual = repeat_anchors(first, query), Counterfactual(changed, other)
        return with_bos(Tokens(self.name, tokens, query, target, anchors, "successor", notes, counterfactual), bos)


@hookimpl
def harness_batches() -> list[type[RandomRepeat]]:
    return [RandomRepeat]
