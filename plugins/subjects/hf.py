"""Any causal language model that transformers can load."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, SubjectMethod, hookimpl
from harness.util.paths import expanded

if TYPE_CHECKING:
    from harness import HeadSubject, Vocabulary
    from harness.engine.loading import LoadedModel


@dataclass(frozen=True)
class HuggingFace(SubjectMethod):
    """Attention heads of a causal language model: from the hub, a folder, or a GGUF file.

    Units: attention heads, ``L<layer>H<head>``, in the order of layers. With grouped-query attention, a unit is a query
    head. A model from the hub is downloaded once. Only safetensors are read unless ``allow_pickle``, and code of the
    model repository is never run. The default is float32 (4 bytes per parameter), because half precision under- and
    overflows on real checkpoints; selectivity ratios and losses are then wrong.

    ``history`` names the revisions that are its checkpoints, for methods that compare them. Steps are read from the
    names: ``step1000``, ``step1000-tokens4B``, ``ckpt-1000``.

    Errors: no model at ``path``; a model that is not causal, or whose attention cannot be intercepted; a device that
    does not exist; a revision in ``history`` without one step in its name, or two with the same step.
    Source: transformers' ``AttentionInterface``; see ``harness/engine``.
    """

    name: ClassVar[str] = "hf"
    path: str = field(default="", metadata={"help": "hub id, folder in Hugging Face layout, or .gguf file"})
    revision: str = field(default="main", metadata={"help": "branch, tag or commit on the hub (for Pythia: step1000)"})
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "precision of weights and computation"}
    )
    allow_pickle: bool = field(default=False, metadata={"help": "read .bin weights; the trap: they can run code"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    history: tuple[str, ...] = field(
        default=(), metadata={"help": "revisions that are its checkpoints: [step1000,step143000]", "added": True}
    )
    device_map: str | None = field(
        default=None,
        metadata={"help": "auto distributes the model over all devices (needs accelerate)", "neutral": True},
    )
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HeadSubject:
        return self.load().heads(self.memory)

    def load(self) -> LoadedModel:
        """The model, for units of any family."""
        from harness.engine.loading import load

        return load(
            self.path,
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            device_map=self.device_map,
            allow_pickle=self.allow_pickle,
        )

    def vocabulary(self) -> Vocabulary:
        """Its tokens, from its configuration and its tokenizer."""
        from harness.engine.loading import vocabulary_in

        return vocabulary_in(self.path, self.revision, self.allow_pickle)

    def config(self) -> str:
        """The folder or hub id whose config.json has the shapes of the model."""
        return self.path

    def step(self) -> int | None:
        """The step that the name of its revision says. None: it says none."""
        return step_in(self.revision)

    def checkpoints(self) -> Mapping[int, HuggingFace]:
        """The model at every revision in ``history``."""
        found: dict[int, HuggingFace] = {}
        for revision in self.history:
            if (step := step_in(revision)) is None:
                raise HarnessError(
                    f"subject.history: the name of revision '{revision}' does not say its step.",
                    "Name revisions with one step each, such as step1000 or step1000-tokens4B.",
                )
            if step in found:
                raise HarnessError(
                    f"subject.history: {found[step].revision} and {revision} are both step {step}.",
                    "Name one revision for each step.",
                )
            found[step] = replace(self, revision=revision, history=())
        return found

    def fingerprint(self) -> str:
        """Names, sizes and times of the files of a local model; "" for the hub, where the revision identifies it."""
        path = expanded(self.path)
        if not self.path or not path.exists():
            return ""
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        return " ".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def step_in(revision: str) -> int | None:
    """The step that a revision is named by: the digits after ``step``, or the only digits. None: there are none."""
    named = re.findall(r"step[-_]?(\d+)", revision, re.IGNORECASE) or re.findall(r"\d+", revision)
    return int(named[0]) if len(named) == 1 else None


@hookimpl
def harness_subjects() -> list[type[HuggingFace]]:
    return [HuggingFace]
