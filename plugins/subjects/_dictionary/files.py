"""Dictionaries in files, by the names that SAELens, Gemma Scope, dictionary_learning, sparsify and circuit-tracer use.

==================  ======================================================================================
``W_enc, W_dec``    SAELens, Gemma Scope, JumpReLU of dictionary_learning: [inputs, latents], [latents, outputs].
                    circuit-tracer stores both as [latents, ...]; the shapes decide.
``encoder.weight``  dictionary_learning, sparsify: [latents, inputs]; with ``decoder.weight`` [outputs, latents], or
                    ``W_dec`` [latents, outputs]. The decoder's bias (``bias``, ``b_dec``) is subtracted before
                    encoding, but not if it is called ``decoder.bias``.
==================  ======================================================================================

``cfg.json`` beside the file, or the header of a safetensors file, may name ``k``, ``apply_b_dec_to_input``, and
settings that change the computation. A setting that is not computed here is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness import HarnessError
from harness.util.arrays import read_arrays

Activation = Literal["auto", "relu", "jumprelu", "topk"]

ENCODERS, ENCODER_BIASES = ("W_enc", "w_enc", "encoder.weight"), ("b_enc", "encoder.bias")
DECODERS, DECODER_BIASES = ("W_dec", "w_dec", "decoder.weight"), ("b_dec", "bias", "decoder.bias")
THRESHOLDS = ("threshold", "activation_function.threshold")
GATED = ("r_mag", "b_gate", "gate_bias", "mag_bias", "b_mag")
COMPUTED: Mapping[str, Sequence[Any]] = {
    "normalize_activations": (None, "none"),
    "rescale_acts_by_decoder_norm": (None, False),
    "reshape_activations": (None, "none"),
    "activation": (None, "relu", "jumprelu", "topk"),
    "activation_fn_str": (None, "relu", "jumprelu", "topk"),
}
"""Settings of a dictionary's configuration, with the values that mean what is computed here."""


def read_dictionary(
    path: str, activation: Activation, k: int | None, centred: bool | None, transcoder: bool
) -> tuple[dict[str, Tensor | int | None], dict[str, Any]]:
    """The parts of a :class:`Dictionary` in float32, and the configuration that comes with the file.

    ``centred``: whether the decoder's bias is subtracted before encoding; None: as the file says.

    Errors: no file; a part that is missing, has another shape, or is NaN; a setting that is not computed here.
    """
    arrays = read_arrays("subject.dictionary", path)
    config = _config(Path(path).expanduser())
    if gated := [name for name in GATED if name in arrays]:
        raise _wrong(path, f"it is gated ({gated[0]}); gated dictionaries are not read.")
    for key, values in COMPUTED.items():
        if config.get(key) not in values:
            raise _wrong(path, f"its configuration says {key}={config[key]!r}, which is not computed here.")
    names = {
        part: _named(path, arrays, part, options)
        for part, options in {
            "encoder": ENCODERS,
            "encoder_bias": ENCODER_BIASES,
            "decoder": DECODERS,
            "decoder_bias": DECODER_BIASES,
        }.items()
    }
    tensors = {part: torch.from_numpy(arrays[name].astype(np.float32)) for part, name in names.items()}
    for part, values in tensors.items():
        if not torch.isfinite(values).all():
            raise _wrong(path, f"{names[part]} contains NaN or infinity.")
    encoder = _by_latent(path, names["encoder"], tensors["encoder"], tensors["encoder_bias"], tensors["decoder_bias"])
    decoder = _by_latent(path, names["decoder"], tensors["decoder"], tensors["encoder_bias"], tensors["decoder_bias"])
    bias, outputs = tensors["encoder_bias"], tensors["decoder_bias"]
    if decoder.shape[1] != len(outputs):
        raise _wrong(path, f"{names['decoder']} writes {decoder.shape[1]} numbers, {names['decoder_bias']} {len(outputs)}.")
    if centred is None:
        says = config.get("apply_b_dec_to_input")
        by_name = names["encoder"] == "encoder.weight" and names["decoder_bias"] != "decoder.bias"
        centred = bool(says) if says is not None else by_name and not transcoder
    if centred:
        if encoder.shape[1] != len(outputs):
            raise _wrong(path, "its input and output differ in width, so the decoder's bias cannot be subtracted.")
        bias = bias - encoder @ outputs
    k = k or _number(arrays.get("k")) or _number(config.get("k"))
    threshold = next((arrays[name] for name in THRESHOLDS if name in arrays), None)
    chosen = activation if activation != "auto" else "topk" if k else "relu" if threshold is None else "jumprelu"
    if chosen == "topk" and not 0 < (k or 0) <= len(bias):
        raise _wrong(path, f"TopK needs k between 1 and {len(bias)}.", "Give it: subject.k=32")
    if chosen == "jumprelu" and threshold is None:
        raise _wrong(path, "JumpReLU needs an array 'threshold'.", "Choose subject.activation=relu or topk.")
    skip = arrays.get("W_skip")
    parts: dict[str, Tensor | int | None] = {
        "encoder": encoder.contiguous(),
        "encoder_bias": bias,
        "decoder": decoder.contiguous(),
        "decoder_bias": outputs,
        "k": k if chosen == "topk" else None,
        "threshold": None
        if chosen != "jumprelu" or threshold is None
        else torch.from_numpy(np.broadcast_to(threshold.astype(np.float32), (len(bias),)).copy()),
        "skip": None if skip is None else torch.from_numpy(skip.astype(np.float32)),
    }
    return parts, config


def _by_latent(path: str, name: str, matrix: Tensor, latents: Tensor, outputs: Tensor) -> Tensor:
    """The matrix as [latents, numbers]. A square one is read as its name says."""
    n = len(latents)
    if matrix.ndim != 2 or n not in matrix.shape:
        raise _wrong(path, f"{name} has the shape {list(matrix.shape)}; there are {n} latents and {len(outputs)} outputs.")
    by_column = name.lower() == "w_enc" or name == "decoder.weight"
    return matrix.T if matrix.shape[0] != n or (by_column and matrix.shape[1] == n) else matrix


def _named(path: str, arrays: Mapping[str, np.ndarray], part: str, options: Sequence[str]) -> str:
    for name in options:
        if name in arrays:
            return name
    raise _wrong(
        path,
        f"it has no {part.replace('_', ' ')} ({' or '.join(options)}); its arrays: {', '.join(arrays) or 'none'}.",
        "Save W_enc [inputs, latents], b_enc, W_dec [latents, outputs] and b_dec.",
    )


def _config(file: Path) -> dict[str, Any]:
    """The settings of ``cfg.json`` beside the file, and of a safetensors header."""
    beside = file.parent / "cfg.json"
    config = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, framework="np") as opened:
            config |= {key: _value(text) for key, text in (opened.metadata() or {}).items()}
    return dict(config)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _number(value: Any) -> int | None:
    return int(value) if value is not None and np.ndim(value) == 0 else None


def _wrong(path: str, what: str, fix: str = "Convert it to an ordinary dictionary, or use another one.") -> HarnessError:
    return HarnessError(f"subject.dictionary={path}: {what}", fix)
