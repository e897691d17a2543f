"""Latents of a dictionary: a sparse autoencoder or a transcoder at one module of a language model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from harness import HarnessError, digest_files, hookimpl
from harness.data.units import Run
from harness.util.paths import expanded

from ._decoder import DecoderUnits

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from harness import HookedSubject
    from harness.data.contracts import Sizes


SHIPPED = Path(__file__).parent / "_dictionary" / "tiny.safetensors"
SHIPPED_LAYER = 1
TRAINING = ("explained_variance", "dead_latents")  # numbers that a file may report of its training


@dataclass(frozen=True)
class SparseAutoencoder(DecoderUnits):
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

    def __call__(self) -> HookedSubject:
        from harness import HookedSubject
        from harness.engine.families import sites_of_families

        from ._dictionary.files import read_dictionary
        from ._dictionary.fit import fit_of
        from ._dictionary.latents import Latents

        dictionary, config = read_dictionary(
            str(self._file), self.activation, self.k, self.centred, self.encodes == "input"
        )
        loaded = self._load()
        path, module = self._module(loaded.model)
        dictionary = dictionary.to(next(module.parameters(), next(loaded.model.parameters())).device)
        prefix = path if self._layer is None else f"L{self._layer}"
        labels = [f"{prefix}F{latent}" for latent in range(len(dictionary.encoder))]
        latents = Latents(
            f"{prefix}.latents", self._layer or 0, labels, module, family="latent", dictionary=dictionary,
            encodes=self.encodes,
        )  # fmt: skip
        fit = fit_of(loaded, latents, self._file.name)
        trained = {f"training_{key}": config[key] for key in TRAINING if key in config}
        about = {
            **loaded.about,
            "weights": f"{loaded.about['weights']} sha256:{digest_files(self._file)}",
            "site": path,
            "dictionary": {"file": self._file.name, "activation": dictionary.activation, **fit, **trained},
        }
        sites = sorted([*sites_of_families(loaded.model, self.also), latents], key=lambda site: site.depth)
        reads = loaded.reads
        return HookedSubject(loaded.model, sites, reads, f"{loaded.label} {prefix} latents", about, self.memory)

    def runs(self, sizes: Sizes) -> tuple[Run, ...]:
        """The sites of its units in a model of these sizes."""
        from ._dictionary.files import count_latents

        layer = self._layer or 0
        latents = Run(f"L{layer}.latents", layer, "latent", count_latents(str(self._file)))
        return tuple(sorted([*super().runs(sizes), latents], key=lambda run: run.depth))

    def fingerprint(self) -> str:
        """The content of the dictionary, and that of the model."""
        return f"{digest_files(self._file) if self._file.is_file() else ''} {self._source.fingerprint()}"

    @property
    def _file(self) -> Path:
        return expanded(self.dictionary) if self.dictionary else SHIPPED

    @property
    def _layer(self) -> int | None:
        """The layer of the site; None for a path without a number."""
        if isinstance(self.site, int):
            return self.site
        number = re.search(r"\.(\d+)(\.|$)", self.site)
        return int(number[1]) if number else None

    def _module(self, model: PreTrainedModel) -> tuple[str, nn.Module]:
        """The module of the site, and its path."""
        from harness.engine.decoders import blocks_of, mlps_of
        from harness.engine.sites import module_at

        if not isinstance(self.site, int):
            return self.site, module_at(model, self.site)
        modules = blocks_of(model) if self.encodes == "output" else mlps_of(model)
        if not 0 <= self.site < len(modules):
            raise HarnessError(
                f"subject.site={self.site}: the model has no such layer.", f"Its layers are 0 to {len(modules) - 1}."
            )
        module = modules[self.site]
        return next(path for path, part in model.named_modules() if part is module), module


@hookimpl
def harness_subjects() -> list[type[SparseAutoencoder]]:
    return [SparseAutoencoder]
