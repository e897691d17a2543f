r"""Trains TS-51M, the model of the probe-circuit paper (Xu 2026), for whoever has a GPU.

``python -m harness_plugins.subjects.tiny_retrieval.train_ts51m --out DIR --seed 42 --device cuda`` needs the extra
``datasets`` and the network (TinyStories and its tokenizer). It has never been run whole: a test runs three of its
steps at a tiny size, and checks the numbers that follow from the recipe (51,045,888 weights, the learning rate).

The recipe is that of the checkpoints that the paper analyses: a decoder of 8 layers of 16 heads, width 512, learned
positions, layer norms with biases and no others, weights :math:`\sim N(0, .02^2)`; the first 200,000 stories of
TinyStories; 128 sequences of 256 tokens a step, of which a share of 0.20 has a codeword to retrieve (the paper says
0.10); AdamW with a decay of 0.5 on matrices. The loss is that of ``train``. Two phases: to step 4000, then to step
10,000 with a new optimizer. In a phase that ends at step E, the rate is

.. math:: 10^{-3} \min(1, t / 1500) \max\Bigl(.1, \tfrac12 \bigl(1 + \cos \pi \tfrac{t - 1500}{E - 1500}\bigr)\Bigr)

with t counted from the first phase; the second begins at the published rate of 8.0e-4.

Different from the paper: codewords are one token each after a space; 2 to 20 tokens stand before the codeword; phases
have no early stop. Each checkpoint is a folder for ``subject=hf subject.path=DIR/step-004000``, to be tested on
``batch=key_retrieval batch.text=DIR/stories.txt batch.gap=[80,200]`` with the words of ``DIR/codewords.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from harness_plugins.subjects.tiny.measure import next_token_losses, text
from transformers import GPT2Config, GPT2LMHeadModel

from harness import Vocabulary, method, seed_for
from harness.data.corpus import documents
from harness.data.python_source import is_held_out
from harness.util.seeds import rng_for

STORIES, TOKENIZER = "roneneldan/TinyStories", "roneneldan/TinyStories-33M"
CODEWORD = re.compile("[A-Z]{4,}")
CODEWORDS = 512
KEPT = (1, *range(200, 600, 200), *range(600, 2000, 50), *range(2000, 4000, 100), *range(4000, 10001, 200))


@dataclass(frozen=True)
class Recipe:
    """The recipe; every number is published. ``rows`` are computed in ``parts``; ``phases``: the last step of each."""

    layers: int = 8
    width: int = 512
    heads: int = 16
    inner: int = 2048
    context: int = 256
    phases: tuple[int, ...] = (4000, 10_000)
    rows: int = 128
    parts: int = 2
    rate: float = 0.20
    peak: float = 1e-3
    warm_up: int = 1500
    decay: float = 0.5
    weight: float = 2.0
    keep: tuple[int, ...] = KEPT

    def rate_at(self, step: int, end: int) -> float:
        """The learning rate at a step, from 0, of a phase that ends at ``end``."""
        done = max(0.0, (step - self.warm_up) / max(1, end - self.warm_up))
        return self.peak * min(1.0, step / self.warm_up) * max(0.1, 0.5 * (1 + math.cos(math.pi * done)))


def new_model(seed: int, vocabulary: int, recipe: Recipe) -> GPT2LMHeadModel:
    """A GPT-2 whose linear layers have no biases: they are zero and are not trained."""
    torch.manual_seed(seed_for(seed, "TS-51M: initialisation"))
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=recipe.context, n_embd=recipe.width, n_layer=recipe.layers,
        n_head=recipe.heads, n_inner=recipe.inner, activation_function="gelu", resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, initializer_range=0.02,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias") and ".ln_" not in name:
            parameter.requires_grad_(False)
    return model


def codewords_in(tokenizer: Any, seed: int = 42) -> list[str]:
    """Up to 512 words of four or more capital letters that are one token after a space, in random order."""
    words = (tokenizer.convert_tokens_to_string([token]) for token in tokenizer.get_vocab())
    found = sorted(word[1:] for word in words if word[:1] == " " and CODEWORD.fullmatch(word[1:]))
    return [found[i] for i in rng_for(seed, "TS-51M: codewords").permutation(len(found))[:CODEWORDS]]


def train(
    model: GPT2LMHeadModel, stories: Path, vocabulary: Vocabulary, words: Sequence[str], seed: int, recipe: Recipe
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train in place. Yields after each step: the step and its losses."""
    assert vocabulary.encode is not None
    many = round(recipe.rate * recipe.rows / recipe.parts)  # in each part
    examples = method(
        "batch", "key_retrieval", n=many * recipe.parts * recipe.phases[-1], length=recipe.context, split="training",
        text=str(stories), codewords=tuple(words), seed=seed_for(seed, "TS-51M: examples"), bos=False,
    )(vocabulary)  # fmt: skip
    training = (story for story in documents(str(stories), "train") if not is_held_out(story))
    ids = torch.tensor([token for story in training for token in vocabulary.encode(story)])
    rng, device = torch.Generator().manual_seed(seed_for(seed, "TS-51M: text")), model.device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    done, drawn = 0, 0
    for end in recipe.phases:
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.decay},
                {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.95),
            eps=1e-8,
        )
        for step in range(done, end):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate_at(step, end)
            optimizer.zero_grad()
            sums = {"retrieval": 0.0, "text": 0.0}
            for _ in range(recipe.parts):
                chosen = slice(drawn, drawn + many)
                drawn += many
                rest = text(recipe.rows // recipe.parts - many, ids, recipe.context, rng)
                tokens = torch.cat([torch.tensor(examples.tokens[chosen]), rest]).to(device)
                asked = torch.zeros(len(tokens), recipe.context - 1, dtype=torch.bool)
                asked[torch.arange(many), torch.tensor(examples.query[chosen])] = True
                losses = next_token_losses(model(input_ids=tokens).logits, tokens)
                of = {"retrieval": losses[asked.to(device)].mean(), "text": losses[~asked.to(device)].mean()}
                torch.autograd.backward((of["text"] + recipe.weight * of["retrieval"]) / recipe.parts)
                sums = {name: total + of[name].item() / recipe.parts for name, total in sums.items()}
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            yield step + 1, sums
        done = end


def main() -> None:
    """Write the stories and the codewords, train, and keep checkpoints."""
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--text", default=STORIES, help="stories: a dataset, a file or a folder")
    parser.add_argument("--stories", type=int, default=200_000, help="how many of them, from the first")
    parser.add_argument("--tokenizer", default=TOKENIZER, help="hub id or folder")
    args = parser.parse_args()
    recipe, tokenizer = Recipe(), AutoTokenizer.from_pretrained(args.tokenizer)
    args.out.mkdir(parents=True, exist_ok=True)
    stories, words = args.out / "stories.txt", codewords_in(tokenizer)
    stories.write_text("\f".join(islice(documents(args.text, "train"), args.stories)), encoding="utf-8")
    (args.out / "codewords.json").write_text(json.dumps(words) + "\n", encoding="utf-8")
    vocabulary = Vocabulary(
        len(tokenizer), recipe.context, lambda part: list(tokenizer.encode(part, add_special_tokens=False))
    )
    model = new_model(args.seed, len(tokenizer), recipe).to(args.device)
    for step, losses in train(model, stories, vocabulary, words, args.seed, recipe):
        if step in recipe.keep:
            folder = args.out / f"step-{step:06d}"
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            print(f"step {step}", json.dumps({name: round(value, 3) for name, value in losses.items()}), flush=True)


if __name__ == "__main__":
    main()
