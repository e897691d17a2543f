"""Any causal language model that transformers can load."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import hookimpl

if TYPE_CHECKING:
    from harness import HeadSubject


@dataclass(frozen=True)
class HuggingFace:
    """Attention heads of a causal language model: from the hub, a folder, or a GGUF file.

    Units: attention heads, ``L<layer>H<head>``, in the order of layers. With grouped-query attention a unit is a query
    head. A hub model is downloaded once, safetensors only unless ``allow_pickle``; its own code is never run.
    float32 is the default because half precision under- and overflows on real checkpoints, and selectivity ratios and
    losses with it; parameters take 4 bytes each.

    Errors: nothing at ``path``, a model that is not causal or whose attention cannot be intercepted, a device that is
    not there.
    Source: transformers' ``AttentionInterface``; see ``harness/engine``.
    """

    name: ClassVar[str] = "hf"
    path: str = field(default="", metadata={"help": "hub id, folder in Hugging Face layout, or .gguf file"})
    revision: str = field(default="main", metadata={"help": "branch, tag or commit on the hub (step1000 of Pythia)"})
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "precision of weights and computation"}
    )
    allow_pickle: bool = field(default=False, metadata={"help": "accept .bin weights, which can run code"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda, cuda:1", "neutral": True})
    device_map: str | None = field(
        default=None, metadata={"help": "auto spreads a model over all devices (needs accelerate)", "neutral": True}
    )
    memory: str = field(
        default="auto", metadata={"help": "what a pass may take, such as 4GiB: time, not results", "neutral": True}
    )

    def __call__(self) -> HeadSubject:
        from harness import load_model

        return load_model(
            self.path,
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            device_map=self.device_map,
            allow_pickle=self.allow_pickle,
            memory=self.memory,
        )

    def config(self) -> str:
        """The folder or hub id whose config.json has its shapes."""
        return self.path

    def fingerprint(self) -> str:
        """Names, sizes and times of a local model's files; "" for the hub, where the revision says what it is."""
        place = Path(self.path).expanduser()
        if not self.path or not place.exists():
            return ""
        files = sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else [place]
        return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


@hookimpl
def harness_subjects() -> list[type[HuggingFace]]:
    return [HuggingFace]
