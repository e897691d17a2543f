"""The embedded default subject: small enough to ship, trained long enough to have circuits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness import digest_files, hookimpl
from harness.util.errors import unknown

if TYPE_CHECKING:
    from harness import HeadSubject

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Tiny:
    """Attention heads of the small model that comes with the harness: no download, seconds on a CPU.

    ``checkpoint`` is ``final``, or a step of its training, ``512`` or ``step-000512``: what the model was before its
    circuits had formed. Weights are stored as float16 at the steps and computed with in float32.

    Errors: a checkpoint that was not kept.
    Source: trained by the script beside this file.
    """

    name: ClassVar[str] = "tiny"
    checkpoint: int | str = field(default="final", metadata={"help": "final, or a step of the training"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda, cuda:1", "neutral": True})
    memory: str = field(
        default="auto", metadata={"help": "what a pass may take, such as 4GiB: time, not results", "neutral": True}
    )

    def __call__(self) -> HeadSubject:
        from harness import load_model

        folder = self._folder()
        label = "tiny" if folder == WEIGHTS else f"tiny@{folder.name}"
        subject = load_model(str(folder), device=self.device, memory=self.memory, tokenizer=str(WEIGHTS), label=label)
        subject.about["path"] = label  # where this machine keeps it is nobody's business
        return subject

    def config(self) -> str:
        """The folder whose config.json has its shapes."""
        return str(self._folder())

    def fingerprint(self) -> str:
        """Digest of the weights: they may be trained anew."""
        weights = self._folder() / "model.safetensors"
        return digest_files(weights) if weights.is_file() else ""

    def _folder(self) -> Path:
        wanted = str(self.checkpoint)
        if wanted == "final":
            return WEIGHTS
        kept = {folder.name: folder for folder in sorted((WEIGHTS / "checkpoints").glob("step-*"))}
        name = f"step-{int(wanted):06d}" if wanted.isdecimal() else wanted
        if name not in kept:
            raise unknown("tiny checkpoint", wanted, ["final", *kept], "or the number of the step alone")
        return kept[name]


@hookimpl
def harness_subjects() -> list[type[Tiny]]:
    return [Tiny]
