"""Latents of a dictionary: a sparse autoencoder or a transcoder at one module of a language model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from harness import HarnessError, SubjectMethod, digest_files, hookimpl
from harness.util.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn
    from transformers import PreTrainedModel

    from harness import HeadSubject, HookedSubject
    from harness_plugins.subjects._dictionary.latents import Dictionary, Latents

SHIPPED = Path(__file__).parent / "_dictionary" / "tiny.safetensors"
SHIPPED_LAYER = 1
TINY = Path(__file__).parent / "tiny" / "weights"
SEQUENCES = 8  # of Python's documentation, on which the dictionary is measured


@dataclass(frozen=True)
class SparseAutoencoder(SubjectMethod):
    r"""Latents of a sparse autoencoder or a transcoder: what an ablated latent wrote is taken out of the activation.

    .. math:: y' = y + \sum_{i \in S} (f_i' - f_i)\, W_{dec,i}

    y is the activation itself, not its reconstruction: the error of the reconstruction stays, and without ablation the
    model's outputs are exactly its own. ``site`` is a layer (the residual stream after this block), or the path of a
    module, whose output is encoded. ``encodes=input`` is for transcoders: latents of the module's input, which write to
    its output; with a layer as its site, the module is the MLP of that layer.

    ``dictionary``: a .safetensors or .npz file with the names of SAELens, Gemma Scope, dictionary_learning, sparsify or
    circuit-tracer. Its activation function is TopK if the file has ``k``, JumpReLU if it has ``threshold``, else ReLU.
    Without a file: 512 latents of ``tiny`` after layer 1.

    The record says how well the dictionary fits this model, on a little text: explained variance, active latents per
    token, and how many latents were never active.

    Units: latents, ``L<layer>F<latent>``; one site.
    Errors: no model or dictionary; a missing part; a dictionary of another width than the module's; a gated dictionary,
    or a setting that is not computed here; a module that is not there.
    Source: Bricken et al. 2023; Rajamanoharan et al. 2024 (JumpReLU); Gao et al. 2024 (TopK); Dunefsky et al. 2024
    (transcoders); Marks et al. 2025 (circuits of latents, with the error kept).
    """

    name: ClassVar[str] = "sae"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {
        "labels": "none",
        "signal": "activation",
        "binarizer": "none",
        "affinity": "pearson_knn",
        "partitioner": "leiden",
        "chooser": "modularity",
        "selector": "most_isolated",
    }
    path: str = field(default="tiny", metadata={"help": "the model: tiny, a hub id, a folder, or a .gguf file"})
    revision: str = field(default="main", metadata={"help": "branch, tag or commit of the model on the hub"})
    dictionary: str = field(default="", metadata={"help": "file of the dictionary; empty: tiny's", "by_content": True})
    site: int | str = field(
        default=SHIPPED_LAYER, metadata={"help": "a layer (the stream after it), or the path of a module"}
    )
    encodes: Literal["output", "input"] = field(
        default="output", metadata={"help": "what is encoded: the module's output (SAE), or its input (transcoder)"}
    )
    activation: Literal["auto", "relu", "jumprelu", "topk"] = field(
        default="auto", metadata={"help": "activation function; auto: as the file says"}
    )
    k: Annotated[int, Ge(1)] | None = field(default=None, metadata={"help": "of TopK; null: as the file says"})
    centred: bool | None = field(
        default=None, metadata={"help": "subtract the decoder's bias before encoding; null: as the file says"}
    )
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "precision of the model; the dictionary is float32"}
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HookedSubject:
        from harness import HookedSubject, load_model
        from harness_plugins.subjects._dictionary.files import read_dictionary
        from harness_plugins.subjects._dictionary.latents import Dictionary, Latents

        parts, config = read_dictionary(
            str(self._file), self.activation, self.k, self.centred, self.encodes == "input"
        )
        loaded = load_model(
            str(TINY) if self.path == "tiny" else self.path,
            revision=self.revision, dtype=self.dtype, device=self.device, label="tiny" if self.path == "tiny" else None,
        )  # fmt: skip
        path, module, layer = self._module(loaded.model)
        device = next(module.parameters(), next(loaded.model.parameters())).device
        dictionary = Dictionary(**parts).to(device)  # type: ignore[arg-type]  # by the names of its fields
        prefix = path if layer is None else f"L{layer}"
        labels = [f"{prefix}F{latent}" for latent in range(len(dictionary.encoder))]
        site = Latents(
            f"{prefix}.latents", layer or 0, labels, module, family="latent", dictionary=dictionary,
            encodes=self.encodes,
        )  # fmt: skip
        about = {
            **loaded.about,
            "path": self.path,
            "weights": f"{loaded.about['weights']} dictionary sha256:{digest_files(self._file)}",
            "site": path,
            "dictionary": {
                "file": self._file.name,
                "latents": len(labels),
                "activation": dictionary.activation,
                "encodes": self.encodes,
                **_fit(loaded, site, self._file.name),
                **{f"training_{key}": config[key] for key in ("dead_latents", "explained_variance") if key in config},
            },
        }
        for key in ("heads", "layers", "shares"):
            about.pop(key, None)
        return HookedSubject(loaded.model, [site], loaded.reads, f"{loaded.label} {prefix}", about, self.memory)

    def config(self) -> str:
        """The folder or hub id whose config.json has the shapes of the model."""
        return str(TINY) if self.path == "tiny" else self.path

    def fingerprint(self) -> str:
        """The contents of the dictionary, and the files of a local model."""
        path = Path(self.config()).expanduser()
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        local = " ".join(f"{file.name}:{file.stat().st_size}" for file in files if file.exists())
        return f"{digest_files(self._file) if self._file.is_file() else ''} {local}"

    @property
    def _file(self) -> Path:
        return Path(self.dictionary).expanduser() if self.dictionary else SHIPPED

    def _module(self, model: PreTrainedModel) -> tuple[str, nn.Module, int | None]:
        """The module of the site: its path, itself, and its layer where the path has a number."""
        from harness.engine.sites import module_at

        text = str(self.site)
        if not text.isdecimal():
            number = re.search(r"\.(\d+)(\.|$)", text)
            return text, module_at(model, text), int(number[1]) if number else None
        blocks = _blocks(model)
        if int(text) >= len(blocks):
            raise unknown("subject.site: layer", text, map(str, range(len(blocks))))
        path, block = blocks[int(text)]
        if self.encodes == "input":
            inside = [name for name, _ in block.named_children() if re.search(r"mlp|ffn|feed_?forward", name)]
            if len(inside) != 1:
                raise HarnessError(
                    f"subject.site={text}: {path} has {len(inside)} modules that look like an MLP.",
                    f"Give the path of the module: subject.site={path}.NAME",
                )
            path = f"{path}.{inside[0]}"
        return path, model.get_submodule(path), int(text)


def _blocks(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The residual blocks, with their paths: the list of modules with one element for each layer."""
    from torch import nn

    layers = model.config.get_text_config().num_hidden_layers
    for name, part in model.named_modules():
        if isinstance(part, nn.ModuleList) and len(part) == layers:
            return [(f"{name}.{place}", block) for place, block in enumerate(part)]
    raise HarnessError(
        f"{type(model).__name__} has no list of {layers} residual blocks.", "Give a path: subject.site=PATH"
    )


def _fit(loaded: HeadSubject, site: Latents, file: str) -> dict[str, Any]:
    """How well the dictionary fits the model, on a little text. Errors: a dictionary of another width."""
    import torch

    from harness.data.corpus import python_topics
    from harness.engine.forward import tensors_of
    from harness.engine.sites import first_tensor

    encode, length = loaded.reads.encode, min(128, loaded.reads.context)
    has_text = encode is not None
    ids = [token for document in islice(python_topics(), 4 * SEQUENCES) for token in encode(document)] if encode else []
    ids = (ids or list(range(loaded.reads.vocab_size)))[: SEQUENCES * length]
    content = torch.tensor(ids[: len(ids) // length * length or len(ids)], device=loaded.model.device)
    content = content.reshape(-1, min(length, len(content)))
    measured: dict[str, Any] = {}

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        output = first_tensor(result)
        encoded = site.encoded(tensors_of(args, kwargs), output)
        dictionary = site.dictionary
        widths = encoded.shape[-1], output.shape[-1]
        if widths != (dictionary.encoder.shape[1], dictionary.decoder.shape[1]):
            raise HarnessError(
                f"subject.dictionary={file}: it reads {dictionary.encoder.shape[1]} numbers and writes "
                f"{dictionary.decoder.shape[1]}; the module has {widths[0]} and {widths[1]}.",
                "Choose the site that it was trained on (subject.site), or another dictionary.",
            )
        flat, right = encoded.flatten(0, -2), output.flatten(0, -2).float()
        latents = dictionary.encode(flat)
        error = (right - dictionary.decode(latents, flat)).square().sum()
        active = latents > 0
        measured.update(
            explained_variance=round(1 - float(error / (right - right.mean(dim=0)).square().sum()), 4),
            active_per_token=round(float(active.sum(dim=1).float().mean()), 2),
            never_active=int((~active.any(dim=0)).sum()),
            measured_on=f"{len(flat)} tokens of Python's documentation",
        )

    handle = site.module.register_forward_hook(hook, with_kwargs=True)
    try:
        with torch.inference_mode():
            loaded.model(content, use_cache=False)
    finally:
        handle.remove()
    return measured if has_text else {}


@hookimpl
def harness_subjects() -> list[type[SparseAutoencoder]]:
    return [SparseAutoencoder]
