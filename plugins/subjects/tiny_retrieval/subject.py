"""Small models that come with the harness and retrieve a codeword: several seeds, each with checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from harness import SubjectMethod, digest, hookimpl
from harness.util.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor

    from harness import HeadSubject
    from harness.engine.loading import Dtype, LoadedModel

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class TinyRetrieval(SubjectMethod):
    """Attention heads of a small model that retrieves a codeword: four seeds, thirteen checkpoints each, no download.

    A decoder of the Llama class, trained on Python's documentation. In half of the sequences a line gives a codeword
    and a later line asks for it (``batch=key_retrieval``). Seeds learn the same with different heads.

    ``heads`` are those of a layer: 8, or 2, so that few can stand in for each other. ``seed`` is the model, from 0.
    ``checkpoint`` is a step of its training; null is the last. Checkpoints are stored in float16; all computation is in
    float32.

    Units: attention heads, ``L<layer>H<head>`` (4 layers of 8 or 2).
    Errors: a seed or a checkpoint that does not exist.
    Source: trained by ``train.py`` in the same folder.
    """

    name: ClassVar[str] = "tiny_retrieval"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {"batch": "key_retrieval"}
    seed: Annotated[int, Ge(0)] = field(default=0, metadata={"help": "which model"})
    heads: Literal[8, 2] = field(default=8, metadata={"help": "heads of a layer"})
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
        heads = "" if self.heads == type(self).heads else f"-{self.heads}-heads"
        step = "" if self.checkpoint is None else f"@step-{self.checkpoint:06d}"
        label = f"tiny_retrieval{heads}-{self.seed}{step}"
        return loaded(self._file(), self.checkpoint, label, self.device, dtype)

    def config(self) -> str:
        """The folder whose config.json has the shapes of the model."""
        return str(self._folder)

    def step(self) -> int:
        """The training step, also of the last checkpoint."""
        return steps_in(self._file())[-1] if self.checkpoint is None else self.checkpoint

    def checkpoints(self) -> Mapping[int, TinyRetrieval]:
        """The model at every step that was kept."""
        steps = steps_in(self._file())
        return {step: replace(self, checkpoint=None if step == steps[-1] else step) for step in steps}

    def fingerprint(self) -> str:
        """Digest of the weights of this checkpoint, because they can be trained again."""
        return weights_digest(checkpoint_in(self._file(), self.checkpoint))

    @property
    def _folder(self) -> Path:
        return WEIGHTS / f"{self.heads}-heads"

    def _file(self) -> Path:
        file = self._folder / f"seed-{self.seed}.safetensors"
        if not file.is_file():
            seeds = [other.stem.removeprefix("seed-") for other in self._folder.glob("seed-*.safetensors")]
            raise unknown("tiny_retrieval seed", str(self.seed), seeds)
        return file


def steps_in(file: Path) -> list[int]:
    """The steps of the checkpoints in a file, which has each weight stacked over them."""
    from safetensors import safe_open

    with safe_open(file, "pt") as stacked:
        steps: list[int] = json.loads(stacked.metadata()["steps"])
    return steps


def checkpoint_in(file: Path, step: int | None) -> dict[str, Tensor]:
    """The weights at a step; None: the last. Errors: there is no checkpoint at this step."""
    from safetensors import safe_open

    steps = steps_in(file)
    step = steps[-1] if step is None else step
    if step not in steps:
        raise unknown("tiny_retrieval checkpoint", str(step), map(str, steps))
    with safe_open(file, "pt") as stacked:
        return {name: stacked.get_slice(name)[steps.index(step)] for name in sorted(stacked.keys())}


def weights_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over the names and values of weights."""
    return digest(*(part for name, weight in state.items() for part in (name, weight.numpy())))


def loaded(file: Path, step: int | None, label: str, device: str = "cpu", dtype: Dtype = "float32") -> LoadedModel:
    """The model at a step, with the configuration and the tokenizer beside its file."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from harness.engine.files import ModelFiles
    from harness.engine.loading import LoadedModel, device_named
    from harness.engine.quiet import quiet
    from harness.engine.tokenizer import LazyTokenizer

    state, place = checkpoint_in(file, step), device_named(device)
    with quiet():
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(file.parent))
        model.load_state_dict({**state, "lm_head.weight": state["model.embed_tokens.weight"]})
        model.eval().to(place, getattr(torch, dtype))
    text = LazyTokenizer(label, ModelFiles(file.parent))
    about = {
        "architecture": type(model).__name__,
        "path": label,  # the path on this machine does not belong in a record
        "revision": "",
        "dtype": dtype,
        "device": str(place),
        "parameters": model.num_parameters(),
        "weights": f"sha256:{weights_digest(state)}",
    }
    return LoadedModel(model, label, text.encode, about, text.decode, text.beginning)


@hookimpl
def harness_subjects() -> list[type[TinyRetrieval]]:
    return [TinyRetrieval]
