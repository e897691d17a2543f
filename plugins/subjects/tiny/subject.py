"""The default subject: a model small enough to ship, trained long enough to have circuits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness import SubjectMethod, digest_files, hookimpl
from harness.util.errors import unknown

if TYPE_CHECKING:
    from harness import HeadSubject
    from harness.engine.loading import Dtype, LoadedModel

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Tiny(SubjectMethod):
    """Attention heads of the small model that comes with the harness: no download, seconds on a CPU.

    ``checkpoint`` is ``final``, or a step of the training (``800`` or ``step-000800``), before or while circuits form.
    Checkpoints are stored in float16; all computation is in float32.

    Units: attention heads, ``L<layer>H<head>`` (4 layers of 8).
    Errors: a checkpoint that does not exist.
    Source: trained by ``train.py`` in the same folder.
    """

    name: ClassVar[str] = "tiny"
    checkpoint: int | str = field(default="final", metadata={"help": "final, or a training step"})
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

        folder = self._folder()
        label = "tiny" if folder == WEIGHTS else f"tiny@{folder.name}"
        loaded = load(str(folder), dtype=dtype, device=self.device, tokenizer=str(WEIGHTS), label=label)
        return loaded.described(path=label)  # the path on this machine does not belong in a record

    def config(self) -> str:
        """The folder whose config.json has the shapes of the model."""
        return str(self._folder())

    def step(self) -> int:
        """The training step, also of ``final``."""
        folder = self._folder()
        return max(self.checkpoints()) if folder == WEIGHTS else int(folder.name.removeprefix("step-"))

    def checkpoints(self) -> Mapping[int, Tiny]:
        """The model at every step that was kept, the last one included."""
        log = json.loads((WEIGHTS / "training_log.json").read_text(encoding="utf-8"))
        steps = {step: replace(self, checkpoint=step) for step in log["checkpoints"]}
        return {**steps, log["history"][-1]["step"]: replace(self, checkpoint="final")}

    def fingerprint(self) -> str:
        """Digest of the weights, because they can be trained again."""
        weights = self._folder() / "model.safetensors"
        return digest_files(weights) if weights.is_file() else ""

    def _folder(self) -> Path:
        checkpoint = str(self.checkpoint)
        if checkpoint == "final":
            return WEIGHTS
        folders = {folder.name: folder for folder in (WEIGHTS / "checkpoints").glob("step-*")}
        name = f"step-{int(checkpoint):06d}" if checkpoint.isdecimal() else checkpoint
        if name not in folders:
            raise unknown("tiny checkpoint", checkpoint, ["final", *folders], "the step number alone also works")
        return folders[name]


@hookimpl
def harness_subjects() -> list[type[Tiny]]:
    return [Tiny]
