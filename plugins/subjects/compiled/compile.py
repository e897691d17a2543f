"""Compiles the programs to transformers, once, with Tracr. Nothing of Tracr or JAX is used later.

    pip install tracr-pypi==1.0.0 jax    # in an environment of its own
    python plugins/subjects/compiled/compile.py --out FOLDER [PROGRAM ...]

Ten seconds each. Of a compiled model, the parts that do nothing are left out: the compiler pads every layer to as many
heads and neurons as the largest one has. What is left is written in single precision: per program a file of weights,
whose layers are numbered as early as their inputs allow.

Source: Lindner et al. 2023, "Tracr: Compiled Transformers as a Laboratory for Interpretability". Programs: its library
(reverse, hist, pair_balance, shuffle_dyck), and RASP of our own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tracr.compiler import compiling, lib  # type: ignore[import-not-found]  # only where programs are compiled
from tracr.rasp import rasp  # type: ignore[import-not-found]  # the same

BRACKETS, LONGEST, BOS = ("(", ")", "[", "]"), 8, "BOS"
TOLERANCE = 1e-3  # a balance is a mean, so it is zero up to rounding


def count_of(token: str) -> rasp.SOp:
    """How often a token occurs."""
    same = rasp.Select(rasp.tokens, rasp.Map(lambda _: token, rasp.tokens), rasp.Comparison.EQ)
    return rasp.SelectorWidth(same)


def previous() -> rasp.SOp:
    """The token before."""
    before = rasp.Map(lambda index: index - 1, rasp.indices)
    return rasp.Aggregate(rasp.Select(rasp.indices, before, rasp.Comparison.EQ), rasp.tokens)


def induction() -> rasp.SOp:
    """The mean token after the same token."""
    after_same = rasp.Select(previous().named("previous"), rasp.tokens, rasp.Comparison.EQ)
    return rasp.Aggregate(after_same, rasp.tokens)


def double_hist() -> rasp.SOp:
    """How many tokens have the same histogram value."""
    hist = lib.make_hist()
    return rasp.SelectorWidth(rasp.Select(hist, hist, rasp.Comparison.EQ))


def same_ends() -> rasp.SOp:
    """Whether the first token is the last one."""
    return rasp.SequenceMap(lambda a, b: "yes" if a == b else "no", lib.make_reverse(rasp.tokens), rasp.tokens)


def maximum() -> rasp.SOp:
    """The greatest token: a chain of comparisons of which tokens are there."""
    there = {token: rasp.Map(lambda number: number > 0, count_of(token)) for token in BRACKETS[1:]}
    greatest = rasp.Map(lambda there: BRACKETS[1] if there else BRACKETS[0], there[BRACKETS[1]])
    for token in BRACKETS[2:]:
        greatest = rasp.SequenceMap(lambda a, b, token=token: token if b else a, greatest, there[token])
    return greatest


def pair_balance() -> rasp.SOp:
    """Which round bracket occurs more often."""
    balance = lib.make_pair_balance(rasp.tokens, "(", ")")
    return rasp.Map(lambda x: "(" if x > TOLERANCE else ")" if x < -TOLERANCE else "=", balance)


PROGRAMS: Mapping[str, Callable[[], rasp.SOp]] = {
    "reverse": lambda: lib.make_reverse(rasp.tokens),
    "hist": lib.make_hist,
    "count": lambda: count_of("("),
    "previous": previous,
    "induction": induction,
    "double_hist": double_hist,
    "same_ends": same_ends,
    "maximum": maximum,
    "pair_balance": pair_balance,
    "shuffle_dyck": lambda: lib.make_shuffle_dyck(["()", "[]"]),
}
WORDS = {False: "no", True: "yes"}


def compiled(name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The weights of a program by name, and what its answers are called."""
    program = PROGRAMS[name]()
    model = compiling.compile_rasp_to_model(
        program, vocab=set(BRACKETS), max_seq_len=LONGEST, compiler_bos=BOS, causal=True
    )
    params = {key: {part: np.asarray(value) for part, value in parts.items()} for key, parts in model.params.items()}
    tokens = model.input_encoder.encode([BOS, *BRACKETS])
    weights = {
        "tokens": params["token_embed"]["embeddings"][tokens],
        "positions": params["pos_embed"]["embeddings"][: LONGEST + 1],
    }
    layer, attended = 0, False  # where the next live part goes: attention comes before the MLP of its layer
    for index in range(model.model_config.num_layers):
        heads = _heads(params, index, model.model_config)
        if heads:
            layer += attended or any(key.startswith(f"L{layer}.mlp") for key in weights)
            weights |= {f"L{layer}.H{head}.{part}": value for head, parts in heads.items() for part, value in parts}
            attended = True
        mlp = _mlp(params, index)
        if mlp:
            layer += any(key.startswith(f"L{layer}.mlp") for key in weights)
            weights |= {f"L{layer}.mlp.{part}": value for part, value in mlp}
            attended = False
    places = model.output_encoder.encoding_map
    words = [WORDS[word] if isinstance(word, bool) else str(word) for word in sorted(places, key=places.__getitem__)]
    weights["answers"] = _unembedding(model, program.label)
    return (
        {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in weights.items()},
        {
            "answers": json.dumps(words),
            "tracr": version("tracr-pypi"),
        },
    )


def _heads(params: Mapping[str, Any], index: int, config: Any) -> dict[int, list[tuple[str, np.ndarray]]]:
    """The heads of a layer that write anything, with the numbers of their queries, keys and values that are used."""
    attention = {part: params[f"transformer/layer_{index}/attn/{part}"] for part in ("query", "key", "value", "linear")}
    assert not any(np.any(part["b"]) for part in attention.values())  # the compiler uses no biases here
    width = attention["query"]["w"].shape[0]
    query, key, value = (
        attention[part]["w"].reshape(width, config.num_heads, -1) for part in ("query", "key", "value")
    )
    out = attention["linear"]["w"].reshape(config.num_heads, -1, width)
    live: dict[int, list[tuple[str, np.ndarray]]] = {}
    for head in range(config.num_heads):
        written = np.any(value[:, head], axis=0) & np.any(out[head], axis=1)
        matched = np.any(query[:, head], axis=0) & np.any(key[:, head], axis=0)
        if written.any():
            scaled = query[:, head][:, matched] / np.sqrt(config.key_size)
            live[len(live)] = [
                ("query", scaled),
                ("key", key[:, head][:, matched]),
                ("value", value[:, head][:, written]),
                ("out", out[head][written]),
            ]
    return live


def _mlp(params: Mapping[str, Any], index: int) -> list[tuple[str, np.ndarray]]:
    """The neurons of a layer that write anything."""
    first, second = (params[f"transformer/layer_{index}/mlp/linear_{number}"] for number in (1, 2))
    assert not np.any(second["b"])
    live = np.any(second["w"], axis=1)
    if not live.any():
        return []
    return [("in", first["w"][:, live]), ("bias", first["b"][live]), ("out", second["w"][live])]


def _unembedding(model: Any, output: str) -> np.ndarray:
    """What the compiler reads answers with: [width, answers], a direction of the stream for each."""
    places = model.output_encoder.encoding_map
    weights = np.zeros((len(model.residual_labels), len(places)))
    for answer, place in places.items():
        weights[model.residual_labels.index(f"{output}:{answer}"), place] = 1
    return weights


def main() -> None:
    """Compile, and write a file for each program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*", help=f"of {', '.join(PROGRAMS)}; all without any")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.programs or PROGRAMS:
        weights, metadata = compiled(name)
        save_file(weights, args.out / f"{name}.safetensors", metadata)
        print(name, sum(value.size for value in weights.values()), "weights,", metadata["answers"], flush=True)


if __name__ == "__main__":
    main()
