"""The recipe of TS-51M: numbers that follow from it, and a few steps at a tiny size."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from harness_plugins.subjects.tiny_retrieval.train_ts51m import KEPT, Recipe, codewords_in, new_model, train

from harness.data.batch import Vocabulary

WORDS = ("RIVER", "TIGER", "HOUSE", "APPLE")
TOKENS = {f" {word}": 256 + place for place, word in enumerate(WORDS)}
TINY = Recipe(layers=2, width=16, heads=2, inner=32, context=120, phases=(2, 3), rows=4, parts=2, rate=0.5, warm_up=2)


def encode(text: str) -> list[int]:
    ids: list[int] = []
    for place, part in enumerate(text.split(" ")):
        spaced = f" {part}" if place else part
        ids += [TOKENS[spaced]] if spaced in TOKENS else spaced.encode()
    return ids


class Tokenizer:
    """What the script asks of one."""

    def get_vocab(self) -> dict[str, int]:
        return {"ĠRIVER": 0, "ĠRIV": 1, "RIVER": 2, "ĠRivers": 3, "ĠTIGER": 4}

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).replace("Ġ", " ")


def test_it_has_the_published_number_of_weights() -> None:
    """50,257 tokens and 256 positions of width 512, 8 layers without biases, 17 layer norms with them."""
    with torch.device("meta"):
        model = new_model(0, 50_257, Recipe())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 51_045_888


def test_the_rate_rises_for_1500_steps_and_jumps_back_to_8e_4_when_the_second_phase_begins() -> None:
    recipe = Recipe()
    assert recipe.rate_at(750, 4000) == pytest.approx(5e-4)
    assert recipe.rate_at(1500, 4000) == pytest.approx(1e-3)
    assert recipe.rate_at(4000, 4000) == pytest.approx(1e-4)
    assert recipe.rate_at(4000, 10_000) == pytest.approx(8.0e-4, abs=2e-6)


def test_checkpoints_are_dense_where_the_probe_is_learned() -> None:
    assert KEPT[:5] == (1, 200, 400, 600, 650)
    assert [b - a for a, b in pairwise(KEPT) if 2000 <= a < 4000] == [100] * 20
    assert KEPT[-1] == 10_000


def test_codewords_are_capital_words_of_one_token_after_a_space() -> None:
    assert sorted(codewords_in(Tokenizer())) == ["RIVER", "TIGER"]


def test_a_few_steps_at_a_tiny_size_are_the_same_twice_and_leave_biases_at_zero(tmp_path: Path) -> None:
    stories = tmp_path / "stories.txt"
    stories.write_text("\f".join(f"Once upon a time {place} there was a bird. " * 9 for place in range(60)))
    vocabulary = Vocabulary(260, 120, encode)
    runs = []
    for _ in range(2):
        model = new_model(1, 260, TINY)
        before = {name: p.clone() for name, p in model.named_parameters()}
        steps = [(step, losses["retrieval"]) for step, losses in train(model, stories, vocabulary, WORDS, 1, TINY)]
        runs.append(steps)
        for name, parameter in model.named_parameters():
            frozen = name.endswith(".bias") and ".ln_" not in name
            assert torch.equal(parameter, before[name]) == frozen, name
            assert not frozen or not parameter.any()
    assert runs[0] == runs[1]
    assert [step for step, _ in runs[0]] == [1, 2, 3]
    assert runs[0][0][1] == pytest.approx(5.6, abs=0.6)  # ln 260 at the beginning
