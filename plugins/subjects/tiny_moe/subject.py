"""The mixture of experts that comes with the harness: heads, and routers that tell domains apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
class TinyMoE(SubjectMethod):
    """Attention heads of a small mixture of experts that comes with the harness: no download, seconds on a CPU.

    A decoder of the OLMoE class, trained on three domains: English documentation, Python source, repeated random
    tokens. ``batch=domains`` has held-out examples of each. Every layer has a router: 8 experts, 2 of them per token.

    ``checkpoint`` is a step of the training; null is the last. Checkpoints are stored in float16; all computation is in
    float32.

    Units: attention heads, ``L<layer>H<head>`` (4 layers of 8).
    Errors: a checkpoint that does not exist.
    Source: trained by ``train.py`` in the same folder.
    """

    name: ClassVar[str] = "tiny_moe"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {"batch": "domains"}
    checkpoint: int | None = field(default=None, metadata={"help": "a training step; null: the last"})
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
        label = "tiny_moe" if self.checkpoint is None else f"tiny_moe@{folder.name}"
        loaded = load(str(folder), dtype=dtype, device=self.device, tokenizer=str(WEIGHTS), label=label)
        return loaded.described(path=label)  # the path on this machine does not belong in a record

    def config(self) -> str:
        """The folder whose config.json has the shapes of the model."""
        return str(self._folder())

    def step(self) -> int:
        """The training step, also of the last checkpoint."""
        return max(_folders()) if self.checkpoint is None else self.checkpoint

    def checkpoints(self) -> Mapping[int, TinyMoE]:
        """The model at every step that was kept."""
        steps = sorted(_folders())
        return {step: replace(self, checkpoint=None if step == steps[-1] else step) for step in steps}

    def fingerprint(self) -> str:
        """Digest of the weights, because they can be trained again."""
        weights = self._folder() / "model.safetensors"
        return digest_files(weights) if weights.is_file() else ""

    def _folder(self) -> Path:
        folders = _folders()
        step = max(folders, default=0) if self.checkpoint is None else self.checkpoint
        if step not in folders:
            raise unknown("tiny_moe checkpoint", str(step), map(str, sorted(folders)))
        return folders[step]


def _folders() -> dict[int, Path]:
    """The folder of every checkpoint, by step."""
    return {int(folder.name.removeprefix("step-")): folder for folder in WEIGHTS.glob("checkpoints/step-*")}


@hookimpl
def harness_subjects() -> list[type[TinyMoE]]:
    return [TinyMoE]
