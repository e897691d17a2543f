r"""Trains the subject `tiny_moe`: a mixture of experts on English, code and repeats, from what comes with Python.

``python -m harness_plugins.subjects.tiny_moe.train --out DIR`` trains the tokenizer and the model, measures the
checkpoints that it keeps, and writes them with a card.

The way to induction heads is that of `tiny` (see there): two layers first, random tokens of which few are different and
then more, and a linear probe, discarded later, that predicts the previous token from the output of the first layer. In
the last stage all four layers train on three domains, a third of the rows each. The loss is

.. math:: L = L_\text{predictable repeats} + L_\text{text} + \lambda \sum_\ell E \sum_e f_{\ell e} P_{\ell e}

with f the share of tokens that expert e of layer l gets and P its mean probability over the batch (the router loss of
OLMoE, layer by layer: taken over all layers at once, experts of one layer could stand in for those of another). It
balances experts over a batch, not within a domain, so experts may prefer domains. Nothing asks them to.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from harness_plugins.subjects.tiny.measure import next_token_losses, text
from harness_plugins.subjects.tiny.train import ALPHABETS, Stage, repeats, train_tokenizer
from harness_plugins.subjects.tiny_moe.card import card
from harness_plugins.subjects.tiny_moe.measure import CONTEXT, corpus, encoded, measured
from safetensors.torch import save_file
from torch import Tensor
from transformers import OlmoeConfig, OlmoeForCausalLM
from transformers.models.olmoe.modeling_olmoe import load_balancing_loss_func

from harness.util.digest import digest

VOCABULARY, LAYERS, EXPERTS, TOP = 320, 4, 8, 2
ROUTER_LOSS = 0.01
STAGES = (
    *(Stage(32, 24, alphabet, (4, 10), 3e-3, 1500, enough=0.7) for alphabet in ALPHABETS),
    Stage(64, 16, 319, (4, 30), 2e-3, 300, enough=0.3),
    Stage(96, 15, 319, (4, 46), 2e-3, 800, text=10, layers=LAYERS),
)
KEEP = (1 / 8, 1 / 2)
"""Checkpoints inside the last stage, as shares of it. The others are initialisation and the ends of the first stage, of
the last stage but one, and of the training."""


def new_model(seed: int) -> OlmoeForCausalLM:
    r"""An OLMoE whose attention starts as a copier that matches equal tokens: mimetic initialisation.

    :math:`W_K = W_Q` orthogonal / 2 and :math:`W_O = \tfrac12 W_V^\top`, :math:`W_V` orthogonal (Trockman and Kolter
    2023), in every head alike. Random query and key biases make each head prefer some distances. The upper two layers
    start as the identity.
    """
    torch.manual_seed(seed)
    model = OlmoeForCausalLM(
        OlmoeConfig(
            vocab_size=VOCABULARY, hidden_size=128, intermediate_size=64, num_hidden_layers=LAYERS,
            num_attention_heads=8, num_key_value_heads=8, num_experts=EXPERTS, num_experts_per_tok=TOP,
            max_position_embeddings=CONTEXT, tie_word_embeddings=True, attention_bias=True,
            router_aux_loss_coef=ROUTER_LOSS, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(std=0.1)
        for layer in model.model.layers:
            attention = layer.self_attn
            torch.nn.init.orthogonal_(attention.q_proj.weight, gain=0.5)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            torch.nn.init.orthogonal_(attention.v_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T / 2)
            attention.q_norm.weight.fill_(2)
            attention.q_proj.bias.normal_()
            attention.k_proj.bias.normal_()
            layer.mlp.gate.weight.normal_(std=0.1)
        for layer in model.model.layers[2:]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.experts.down_proj.zero_()
    return model


def train(
    model: OlmoeForCausalLM, ids: dict[str, Tensor], seed: int, stages: tuple[Stage, ...] = STAGES
) -> Iterator[tuple[int, int, int, dict[str, float]]]:
    """Train in place. Yields after each step: the step, its stage, steps left in the stage, and the losses."""
    rng = torch.Generator().manual_seed(seed)
    quick = ("q_proj.bias", "k_proj.bias", "q_norm.weight", "k_norm.weight")
    fast = [p for name, p in model.named_parameters() if name.endswith(quick)]
    slow = [p for name, p in model.named_parameters() if not name.endswith(quick)]
    width = model.config.hidden_size
    probe = torch.nn.Linear(width, VOCABULARY)
    groups = [{"params": [*slow, *probe.parameters()]}, {"params": fast}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.01)
    step = 0
    for number, stage in enumerate(stages):
        average = math.inf
        model.config.num_hidden_layers = stage.layers
        for done in range(stage.steps):
            rate = stage.rate * min(1, (step + 1) / 50)
            if stage.text:
                rate *= 0.5 * (1 + math.cos(math.pi * done / stage.steps))
            optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, 10 * rate
            tokens, follows = repeats(stage.rows - stage.text, stage, rng)
            written = [text(stage.text // len(ids), part, stage.length, rng) for part in ids.values()]
            tokens = torch.cat([tokens, *written])
            output = model(input_ids=tokens, output_router_logits=True, output_hidden_states=True)
            losses = next_token_losses(output.logits, tokens)
            predictable = losses[: len(follows)][follows[:, 1:]].mean()
            routers = torch.stack(
                [torch.as_tensor(load_balancing_loss_func((logits,), EXPERTS, TOP)) for logits in output.router_logits]
            )
            loss = predictable + ROUTER_LOSS * routers.sum()
            if stage.text:
                loss = loss + losses[len(follows) :].mean()
            else:
                state = torch.nn.functional.rms_norm(output.hidden_states[1][:, 1:], (width,))
                loss = loss + torch.nn.functional.cross_entropy(probe(state).transpose(1, 2), tokens[:, :-1])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            current = predictable.item()
            average = current if done == 0 else 0.9 * average + 0.1 * current
            step += 1
            enough = done > 10 and average < stage.enough
            left = 0 if enough else stage.steps - done - 1
            yield step, number, left, {"repeats": average, "loss": loss.item(), "router": routers.mean().item()}
            if enough:
                break


def is_kept(stage: Stage, number: int, left: int, stages: tuple[Stage, ...] = STAGES) -> bool:
    """Whether the weights after a step become a checkpoint."""
    last = len(stages) - 1
    if number < last:
        return left == 0 and number in (0, last - 1)
    return left in {0, *(stage.steps - round(share * stage.steps) for share in KEEP)}


def save(folder: Path, model: OlmoeForCausalLM) -> None:
    """Write ``config.json`` and ``model.safetensors`` in float16; like Hugging Face, without the tied unembedding."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.num_hidden_layers = LAYERS  # layers that are not in use yet are the identity
    model.config.save_pretrained(folder)
    state = {k: v.half().contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Train, measure and write. ``training_log.json`` holds everything that was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch; another number gives other weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    training, begun = corpus(held_out=False), time.process_time()
    tokenizer = train_tokenizer([document for part in training.values() for document in part], VOCABULARY)
    tokenizer.save_pretrained(args.out)
    ids = encoded(training, tokenizer.backend_tokenizer)
    model = new_model(args.seed)
    save(args.out / "checkpoints" / "step-000000", model)
    history = []
    for step, number, left, losses in train(model, ids, args.seed):
        stage = STAGES[number]
        if step % 100 == 0 or left == 0:
            history.append({"step": step, "stage": number, **{name: round(loss, 4) for name, loss in losses.items()}})
            print(f"{time.process_time() - begun:.0f} s", json.dumps(history[-1]), flush=True)
        if is_kept(stage, number, left):
            save(args.out / "checkpoints" / f"step-{step:06}", model)
            model.config.num_hidden_layers = stage.layers
    log = {
        "seed": args.seed,
        "threads": args.threads,
        "stages": [asdict(stage) for stage in STAGES],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "weights": model.num_parameters(),
        "training_tokens": {domain: len(part) for domain, part in ids.items()},
        "training_digest": digest(training),
        "router_loss": ROUTER_LOSS,
        "cpu_seconds": round(time.process_time() - begun),
        "history": history,
        **measured(args.out),
    }
    (args.out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    (args.out / "README.md").write_text(card(log), encoding="utf-8")
    print(card(log))


if __name__ == "__main__":
    main()
