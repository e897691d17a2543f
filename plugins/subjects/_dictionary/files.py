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

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness import HarnessError
from harness.util.arrays import read_arrays
from harness.util.json_files import parse_json, read_json
from harness.util.paths import expanded

from .latents import Dictionary

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
) -> tuple[Dictionary, Mapping[str, Any]]:
    """The dictionary in float32, and the configuration that comes with its file.

    ``centred``: whether the decoder's bias is subtracted before encoding; None: as the file says.

    Errors: no file; a part that is missing, has another shape, or is NaN; a setting that is not computed here.
    """
    file = _File(path)
    file.check()
    encoder_bias, decoder_bias = file.vector(ENCODER_BIASES), file.vector(DECODER_BIASES)
    encoder, decoder = (file.by_latent(names, len(encoder_bias)) for names in (ENCODERS, DECODERS))
    if decoder.shape[1] != len(decoder_bias):
        raise file.wrong(f"its decoder writes {decoder.shape[1]} numbers, and its bias has {len(decoder_bias)}.")
    if file.centred(transcoder) if centred is None else centred:
        if encoder.shape[1] != len(decoder_bias):
            raise file.wrong("its input and output differ in width, so the decoder's bias cannot be subtracted.")
        encoder_bias = encoder_bias - encoder @ decoder_bias
    k = k or file.k
    threshold = next((file.tensor(name) for name in THRESHOLDS if name in file.arrays), None)
    if activation == "auto":
        activation = "topk" if k else "relu" if threshold is None else "jumprelu"
    if activation == "topk" and not 0 < (k or 0) <= len(encoder_bias):
        raise file.wrong(f"TopK needs k between 1 and {len(encoder_bias)}.", "Give it: subject.k=32")
    if activation == "jumprelu" and threshold is None:
        raise file.wrong("JumpReLU needs an array 'threshold'.", "Choose subject.activation=relu or topk.")
    skip = file.tensor("W_skip") if "W_skip" in file.arrays else None
    dictionary = Dictionary(
        encoder.contiguous(),
        encoder_bias,
        decoder.contiguous(),
        decoder_bias,
        threshold.expand(len(encoder_bias)).clone() if activation == "jumprelu" and threshold is not None else None,
        k if activation == "topk" else None,
        skip,
    )
    return dictionary, file.config


def count_latents(path: str) -> int:
    """The number of latents, without reading the matrices. Errors: a file that cannot be read."""
    file = expanded(path)
    if file.suffix == ".safetensors" and file.is_file():
        from safetensors import safe_open

        with safe_open(file, framework="np") as opened:
            names = [name for name in ENCODER_BIASES if name in opened.keys()]  # noqa: SIM118  # not a mapping
            if names:
                return int(opened.get_slice(names[0]).get_shape()[0])
    return len(_File(path).vector(ENCODER_BIASES))


class _File:
    """The arrays of a dictionary's file, and its configuration."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.arrays = read_arrays("subject.dictionary", path)
        self.config = _config(expanded(path))

    def check(self) -> None:
        """Refuse what is not computed here."""
        if gated := [name for name in GATED if name in self.arrays]:
            raise self.wrong(f"it is gated ({gated[0]}); gated dictionaries are not read.")
        for key, values in COMPUTED.items():
            if self.config.get(key) not in values:
                raise self.wrong(f"its configuration says {key}={self.config[key]!r}, which is not computed here.")

    def name(self, names: Sequence[str]) -> str:
        """The one of these names that the file has."""
        for name in names:
            if name in self.arrays:
                return name
        raise self.wrong(
            f"it has no {' or '.join(names)}; its arrays: {', '.join(sorted(self.arrays)) or 'none'}.",
            "Save W_enc [inputs, latents], b_enc, W_dec [latents, outputs] and b_dec.",
        )

    def tensor(self, name: str) -> Tensor:
        """An array in float32."""
        values = torch.from_numpy(np.array(self.arrays[name], dtype=np.float32))
        if not torch.isfinite(values).all():
            raise self.wrong(f"{name} contains NaN or infinity.")
        return values

    def vector(self, names: Sequence[str]) -> Tensor:
        """A bias."""
        values = self.tensor(self.name(names))
        if values.ndim != 1:
            raise self.wrong(f"{self.name(names)} has the shape {list(values.shape)}, not one number each.")
        return values

    def by_latent(self, names: Sequence[str], latents: int) -> Tensor:
        """A matrix as [latents, numbers]. A square one is read as its name says."""
        name = self.name(names)
        matrix = self.tensor(name)
        if matrix.ndim != 2 or latents not in matrix.shape:
            raise self.wrong(f"{name} has the shape {list(matrix.shape)}, and there are {latents} latents.")
        by_column = name.lower() == "w_enc" or name == "decoder.weight"
        is_square = matrix.shape[0] == matrix.shape[1]
        return matrix.T if (by_column if is_square else matrix.shape[1] == latents) else matrix

    def centred(self, transcoder: bool) -> bool:
        """Whether the decoder's bias is subtracted before encoding: as configured, or as the names imply."""
        configured = self.config.get("apply_b_dec_to_input")
        by_name = self.name(ENCODERS) == "encoder.weight" and self.name(DECODER_BIASES) != "decoder.bias"
        return bool(configured) if configured is not None else by_name and not transcoder

    @property
    def k(self) -> int | None:
        """The k of TopK, if there is one."""
        found = self.arrays.get("k", self.config.get("k"))
        return None if found is None or np.ndim(found) else int(found)

    def wrong(self, what: str, fix: str = "Convert it to an ordinary dictionary, or use another one.") -> HarnessError:
        """The error for this file."""
        return HarnessError(f"subject.dictionary={self.path}: {what}", fix)


def _config(file: Path) -> dict[str, Any]:
    """The settings of ``cfg.json`` beside the file, and of a safetensors header."""
    beside = file.parent / "cfg.json"
    config = read_json("subject.dictionary", str(beside)) if beside.is_file() else {}
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, framework="np") as opened:
            config |= {key: _value(text) for key, text in (opened.metadata() or {}).items()}
    return dict(config)


def _value(text: str) -> Any:
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return text
