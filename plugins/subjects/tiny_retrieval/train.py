r"""Trains the seeds of `tiny_retrieval`: Python's documentation, with a codeword to retrieve in half of the sequences.

``python -m harness_plugins.subjects.tiny_retrieval.train --out DIR`` trains the tokenizer and one model per seed,
measures their checkpoints, and writes them with a card.

A share ``rate`` of the sequences are examples of ``batch=key_retrieval`` with gaps in distribution, the others are
text. With R the positions where a codeword is asked for, the loss is

.. math:: L = -\operatorname{mean}_{t \notin R} \ln p(x_t \mid x_{<t})
          - \lambda \operatorname{mean}_{t \in R} \ln p(x_t \mid x_{<t}), \qquad \lambda = 2

Nothing else is asked, so no head is asked for anything. Seeds differ in initialisation and in data. Each head's query
and key weights begin with a scale of their own, so that heads are not alike.

Source: the TS-51M recipe of the probe-circuit paper (Xu 2026), at the scale of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from harness_plugins.subjects.tiny.measure import next_token_losses, text
from harness_plugins.subjects.tiny.train import train_tokenizer
from harness_plugins.subjects.tiny_retrieval.card import card
from harness_plugins.subjects.tiny_retrieval.measure import documents, encoded, measured
from safetensors.torch import save_file
from tokenizers import AddedToken
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness import Tokens, Vocabulary, method, seed_for
from harness.util.digest import digest

CONTEXT, BYTE_PAIRS, CODEWORDS = 128, 320, 64
SEEDS = 4


@dataclass(frozen=True)
class Recipe:
    """How one seed is trained. ``rate``: the share of sequences in which a codeword is to be retrieved.

    ``heads``: those of a layer. With few of them, fewer can stand in for each other.
    """

    rate: float = 0.5
    heads: int = 8
    steps: int = 400
    rows: int = 32
    length: int = 96
    peak: float = 6e-3
    warm_up: int = 50
    weight: float = 2.0
    keep: tuple[int, ...] = (0, 50, 75, 90, 100, 110, 120, 130, 150, 200, 250, 300, 400)

    @property
    def retrieving(self) -> int:
        """The sequences of a step in which a codeword is to be retrieved."""
        return round(self.rate * self.rows)


def new_tokenizer(training: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, and one token for each codeword with the space before it."""
    tokenizer: PreTrainedTokenizerFast = train_tokenizer(training, BYTE_PAIRS)
    nouns: tuple[str, ...] = method("batch", "key_retrieval").nouns[:CODEWORDS]
    tokenizer.add_tokens([AddedToken(f" {noun}", normalized=False) for noun in nouns])
    return tokenizer


def new_model(seed: int, vocabulary: int, heads: int = Recipe.heads) -> LlamaForCausalLM:
    r"""A Llama of 4 layers of ``heads`` heads, weights :math:`\sim N(0, .1^2)`.

    The query weights of every head, and its key weights, are multiplied by :math:`e^z` with :math:`z \sim N(0, 1)`.
    """
    torch.manual_seed(seed_for(seed, "key retrieval: initialisation"))
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=heads,
            num_key_value_heads=heads, head_dim=8, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
            initializer_range=0.1, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        for layer in model.model.layers:
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                projection.weight.view(heads, 8, 32).mul_(torch.randn(heads, 1, 1).exp())
    return model


def train(
    model: LlamaForCausalLM, ids: Tensor, examples: Tokens, seed: int, recipe: Recipe
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train in place. Yields after each step: the step and its losses."""
    rng = torch.Generator().manual_seed(seed_for(seed, "key retrieval: text"))
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    many = recipe.retrieving
    for step in range(recipe.steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak * min(1, (step + 1) / recipe.warm_up) * (0.1 + 0.9 * cosine)
        chosen = slice(many * step, many * (step + 1))
        tokens = torch.cat([torch.tensor(examples.tokens[chosen]), text(recipe.rows - many, ids, recipe.length, rng)])
        asked = torch.zeros(recipe.rows, recipe.length - 1, dtype=torch.bool)
        asked[torch.arange(many), torch.tensor(examples.query[chosen])] = True
        losses = next_token_losses(model(input_ids=tokens).logits, tokens)
        retrieval, other = losses[asked].mean(), losses[~asked].mean()
        optimizer.zero_grad()
        torch.autograd.backward(other + recipe.weight * retrieval)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield step + 1, {"retrieval": retrieval.item(), "text": other.item()}


def save(file: Path, kept: dict[int, dict[str, Tensor]]) -> None:
    """Write the checkpoints of one seed in float16, each weight stacked over them [checkpoints, ...]."""
    names = [name for name in next(iter(kept.values())) if name != "lm_head.weight"]  # it is the embedding
    stacked = {name: torch.stack([state[name].half() for state in kept.values()]) for name in names}
    save_file(stacked, file, metadata={"steps": json.dumps(list(kept))})  # one entry: the order of several is random


def trained(seed: int, ids: Tensor, vocabulary: Vocabulary, recipe: Recipe) -> tuple[dict[int, dict[str, Tensor]], int]:
    """The checkpoints of one seed, and how many weights it has."""
    examples = method(
        "batch", "key_retrieval", n=recipe.retrieving * recipe.steps, length=recipe.length, split="training",
        seed=seed_for(seed, "key retrieval: training examples"), bos=False,
    )(vocabulary)  # fmt: skip
    model = new_model(seed, vocabulary.vocab_size, recipe.heads)
    kept = {0: {name: weight.half() for name, weight in model.state_dict().items()}}
    for step, losses in train(model, ids, examples, seed, recipe):
        if step in recipe.keep:
            kept[step] = {name: weight.half() for name, weight in model.state_dict().items()}
        if step % 50 == 0:
            print(f"seed {seed} step {step}", json.dumps({k: round(v, 3) for k, v in losses.items()}), flush=True)
    return kept, model.num_parameters()


def main() -> None:
    """Train, measure and write. ``training_log.json`` holds everything that was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 0")
    parser.add_argument("--rate", type=float, default=Recipe.rate, help="share of sequences with a codeword")
    parser.add_argument("--heads", type=int, default=Recipe.heads, help="per layer; few cannot stand in for each other")
    parser.add_argument("--threads", type=int, default=1, help="of torch; another number gives other weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    begun, recipe, training = time.process_time(), Recipe(args.rate, args.heads), documents(held_out=False)
    if not 1 <= recipe.retrieving <= recipe.rows:
        parser.error("--rate is above 0 and at most 1.")
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = new_tokenizer(training)
    tokenizer.save_pretrained(args.out)
    ids = encoded(training, tokenizer.backend_tokenizer)
    vocabulary = Vocabulary(len(tokenizer), CONTEXT, lambda part: list(tokenizer.backend_tokenizer.encode(part).ids))
    new_model(0, len(tokenizer), recipe.heads).config.save_pretrained(args.out)
    for seed in range(args.seeds):
        kept, weights = trained(seed, ids, vocabulary, recipe)
        save(args.out / f"seed-{seed}.safetensors", kept)
    log = {
        "recipe": asdict(recipe),
        "threads": args.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "weights": weights,
        "training_tokens": len(ids),
        "training_digest": digest(training),
        "cpu_seconds": round(time.process_time() - begun),
        **measured(args.out),
    }
    (args.out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    (args.out / "README.md").write_text(card(log), encoding="utf-8")
    print(card(log))


if __name__ == "__main__":
    main()
