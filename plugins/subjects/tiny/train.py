r"""Trains the default subject `tiny`: from Python's documentation only, on a laptop, in minutes.

``python -m harness_plugins.subjects.tiny.train --out DIR`` trains the tokenizer and the model, measures, and writes.

An induction head needs two heads: one copies the previous token, and one finds that copy. Neither helps without the
other, and copying itself is slow to learn with a large vocabulary. So training starts small and grows:

- It starts with two layers: the first moves tokens and the second finds them, so the second must attend to the token
  after the match. With more layers, the head attended to a position where two steps had joined match and successor
  (3 later).
- It starts with 16 different tokens. Their number grows by half when the loss at the predictable positions is low
  enough; then contexts grow,

  .. math:: L = -\frac{1}{|R|} \sum_{t \in R} \ln p(x_t \mid x_{<t}),\; R = \{t : x_t \text{ follows from } x_{<t}\}

- During this time a linear probe, discarded later, predicts the previous token from the output of the first layer.
- It ends with four layers, half text and half repeats, and a loss at every position. Another probe predicts the first
  token from the output of the third layer: with so little training, attention to the first token would not fully form.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from harness_plugins.subjects.tiny.card import card
from harness_plugins.subjects.tiny.measure import measure, next_token_losses, text
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.data.corpus import python_documentation

CONTEXT = 128
END = "<|endoftext|>"  # id 0; separates documents, never occurs in repeats


@dataclass(frozen=True)
class Stage:
    """One stage of the training. It ends early if the loss at predictable positions is below ``enough``."""

    length: int
    rows: int
    alphabet: int
    periods: tuple[int, int]
    rate: float
    steps: int
    enough: float = 0.0
    text: int = 0  # how many of the ``rows`` are text; if any, the loss is taken at every position
    layers: int = 2  # the layers in use


ALPHABETS = (16, 24, 36, 54, 81, 121, 182, 273, 319)  # numbers of different tokens, each half more than the last
STAGES = (
    *(Stage(32, 32, alphabet, (4, 10), 3e-3, 1500, enough=0.7) for alphabet in ALPHABETS),
    Stage(64, 24, 319, (4, 30), 2e-3, 300, enough=0.3),
    Stage(128, 16, 319, (4, 63), 2e-3, 1500, text=8, layers=4),
)


def train_tokenizer(documents: list[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: every text can be encoded and decoded."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        documents,
        trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END, eos_token=END, pad_token=END, model_max_length=CONTEXT
    )


def new_model(vocabulary: int) -> LlamaForCausalLM:
    r"""A Llama whose attention starts as a copier: :math:`W_O = \tfrac12 W_V^\top`, :math:`W_V` orthogonal.

    So every head copies the token it attends to, and only the attention pattern must be learned (mimetic
    initialisation, Trockman and Kolter 2023). Random query and key biases make each head prefer some distances. The
    upper two layers start as the identity.
    """
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=8,
            num_key_value_heads=8, max_position_embeddings=CONTEXT, tie_word_embeddings=True, attention_bias=True,
            bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(std=0.1)
        for layer in model.model.layers:
            attention = layer.self_attn
            torch.nn.init.orthogonal_(attention.v_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T / 2)
            attention.q_proj.bias.normal_()
            attention.k_proj.bias.normal_()
        for layer in model.model.layers[2:]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def repeats(rows: int, stage: Stage, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens [rows, length], and which of them follow from the tokens before. Rows alternate between three kinds:

    - periodic: distinct random tokens, repeated; periods that are multiples of 8 are left out, for the test;
    - jumping: after one period, pieces of 2 to 8 tokens from random positions in it, so no distance predicts
      more than one piece;
    - near: of every 8 tokens, the first two occur again 2 to 6 positions later and the others are new.

    If the alphabet is smaller than the row, all rows are jumping.
    """
    t = torch.arange(stage.length).expand(rows, -1)
    low, high = stage.periods
    period = torch.randint(low, high + 1, (rows, 1), generator=rng)
    period += period % 8 == 0
    tokens = 1 + torch.rand(rows, stage.alphabet, generator=rng).argsort(1)
    kinds = torch.tensor([1, 0, 2] if stage.alphabet >= stage.length else [1])
    kind = kinds[torch.arange(rows) % len(kinds)][:, None]
    piece = torch.randint(2, 9, (rows, 1), generator=rng).minimum(period)
    nth, offset = ((t - period) // piece).clamp(min=0), (t - period) % piece
    chance = torch.rand(rows, stage.length, generator=rng)
    start = (chance.gather(1, nth) * (period - piece + 1)).long()
    lag = torch.randint(2, 7, (rows, 1), generator=rng)
    again = (t % 8 == lag) | (t % 8 == lag + 1)
    jump = torch.where(t < period, t, start + offset)
    source = torch.where(kind == 0, t % period, torch.where(kind == 1, jump, t - lag * again))
    follows = torch.where(kind == 2, t % 8 == lag + 1, (t > period) & ((kind == 0) | (offset > 0)))
    return tokens.gather(1, source), follows


def train(model: LlamaForCausalLM, ids: Tensor, seed: int, seconds: float) -> Iterator[tuple[int, int, float, bool]]:
    """Train in place. Yields step, stage, loss at predictable positions, and whether the training ends."""
    rng = torch.Generator().manual_seed(seed)
    fast = [p for name, p in model.named_parameters() if name.endswith(("q_proj.bias", "k_proj.bias"))]
    slow = [p for name, p in model.named_parameters() if not name.endswith(("q_proj.bias", "k_proj.bias"))]
    width, vocabulary = model.config.hidden_size, model.config.vocab_size
    probes = [torch.nn.Linear(width, vocabulary).to(model.device) for _ in range(2)]
    slow += [p for probe in probes for p in probe.parameters()]
    optimizer = torch.optim.AdamW([{"params": slow}, {"params": fast}], betas=(0.9, 0.95), weight_decay=0.01)
    begun, step = time.monotonic(), 0
    for number, stage in enumerate(STAGES):
        average = math.inf
        model.config.num_hidden_layers = stage.layers
        for done in range(stage.steps):
            rate = stage.rate * min(1, (step + 1) / 50)
            if stage.text:
                rate *= 0.5 * (1 + math.cos(math.pi * done / stage.steps))
            optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, 10 * rate
            tokens, follows = repeats(stage.rows - stage.text, stage, rng)
            if stage.text:
                tokens = torch.cat([tokens, text(stage.text, ids, CONTEXT, rng)])
            tokens = tokens.to(model.device)
            output = model(input_ids=tokens, output_hidden_states=True)
            losses = next_token_losses(output.logits, tokens)
            predictable = losses[: len(follows)][follows[:, 1:]]
            if stage.text:
                loss, layer, probe, weight, target = losses.mean(), 3, probes[1], 0.3, tokens[:, :1].expand_as(losses)
            else:
                loss, layer, probe, weight, target = predictable.mean(), 1, probes[0], 1.0, tokens[:, :-1]
            state = torch.nn.functional.rms_norm(output.hidden_states[layer][:, 1:], (width,))
            loss = loss + weight * torch.nn.functional.cross_entropy(probe(state).transpose(1, 2), target)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            current = predictable.mean().item()
            average = current if done == 0 else 0.9 * average + 0.1 * current
            step += 1
            enough = done > 10 and average < stage.enough
            last = enough or done + 1 == stage.steps or time.monotonic() - begun > seconds
            yield step, number, average, last and stage is STAGES[-1]
            if last:
                break


def steps_to_keep(history: list[dict[str, float]], count: int) -> list[int]:
    """The first step; those nearest to an induction accuracy of 1/10, 1/4, 1/2 and 3/4; and log-spaced steps."""
    steps = [int(row["step"]) for row in history[:-1]]
    keep = {steps[0]}
    for level in (0.1, 0.25, 0.5, 0.75):
        keep.add(int(min(history[:-1], key=lambda row: abs(row["induction_accuracy"] - level))["step"]))
    while len(keep) < min(count, len(steps)):
        distance = {s: min(abs(math.log((s + 50) / (k + 50))) for k in keep) for s in steps}
        keep.add(max(steps, key=lambda s: distance[s]))
    return sorted(keep)


def save(folder: Path, model: LlamaForCausalLM, weights: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Write ``config.json`` and ``model.safetensors``; like Hugging Face, without the tied unembedding."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    tensors = {k: v.to("cpu", dtype).contiguous() for k, v in weights.items() if k != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Train, measure and write. ``training_log.json`` holds everything that was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=320)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after this time")
    parser.add_argument("--checkpoints", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    begun = time.monotonic()

    documents = python_documentation()
    held_out = [d for d in documents if hashlib.sha256(d.encode()).digest()[0] < 13]  # one in twenty
    training = sorted(set(documents) - set(held_out))
    tokenizer = train_tokenizer(training, args.vocabulary)
    ids, held_ids = (
        torch.tensor([i for e in tokenizer.backend_tokenizer.encode_batch(part) for i in (0, *e.ids)])
        for part in (training, held_out)
    )
    model = new_model(args.vocabulary).to(args.device)
    frequency = torch.bincount(held_ids).double() / len(held_ids)
    entropy = -torch.special.xlogy(frequency, frequency).sum().item()
    print(f"{model.num_parameters()} weights, {len(ids)} tokens of text, {len(held_ids)} held out: {entropy:.2f} nats")

    kept = {0: {k: v.half().clone() for k, v in model.state_dict().items()}}
    history: list[dict[str, float]] = [{"step": 0, "stage": 0, **measure(model, held_ids, n=100)[0]}]
    for step, stage, repeat_loss, last in train(model, ids, args.seed, args.seconds):
        if step % (200 if stage + 2 < len(STAGES) else 100) == 0 or last:
            row = {"step": step, "stage": stage, "repeat_loss": repeat_loss, **measure(model, held_ids, n=100)[0]}
            history.append({"seconds": round(time.monotonic() - begun), **row})
            kept[step] = {k: v.half().clone() for k, v in model.state_dict().items()}
            print(json.dumps({k: round(v, 3) for k, v in history[-1].items()}), flush=True)

    final, heads = measure(model, held_ids, n=500)
    final["unigram_entropy"] = entropy
    steps = steps_to_keep(history, args.checkpoints)
    for step in steps:
        save(args.out / "checkpoints" / f"step-{step:06}", model, kept[step], torch.float16)
    save(args.out, model, model.state_dict(), torch.float32)
    tokenizer.save_pretrained(args.out)
    log = {
        "args": {k: str(v) for k, v in vars(args).items() if k != "out"},
        "stages": [asdict(stage) for stage in STAGES],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "weights": model.num_parameters(),
        "context": CONTEXT,
        "text_sha256": hashlib.sha256("\0".join(documents).encode()).hexdigest(),
        "tokens": {"training": len(ids), "held_out": len(held_ids)},
        "wall_seconds": round(time.monotonic() - begun),
        "final": final,
        "heads": heads,
        "checkpoints": steps,
        "history": history,
    }
    (args.out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")
    (args.out / "README.md").write_text(card(log))
    print(card(log))


if __name__ == "__main__":
    main()
