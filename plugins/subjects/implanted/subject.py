"""Trained transformers with implanted circuits: on every task, a known set of heads is needed, and no other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Labels, SubjectMethod, digest_files, hookimpl
from harness.util.errors import unknown

from .circuits import HEADS, Head, Model, Task, layout, unit_name
from .task import examples, words

if TYPE_CHECKING:
    from torch import Tensor

    from harness import HeadSubject
    from harness.engine.loading import LoadedModel

WEIGHTS = Path(__file__).parent / "weights"
DECOY = "decoy"


@dataclass(frozen=True)
class Implanted(SubjectMethod):
    """Attention heads of a small trained transformer whose circuits are known: three models, three tasks, two seeds.

    A sequence has tokens that give a key a value, and ends in a query about a key. Heads of a circuit look a key up,
    and each carries some bits of its value.

    ========  ==========================================================================================
    serial    the value of the key says the next key (``large``: and that one's, one more)
    parallel  the value of the key, of which each head carries one bit (``large``: of two keys)
    backup    the value of the key; every bit is carried by two heads, either of which is enough
    ========  ==========================================================================================

    ``separate``: no head is in two circuits, of 4 heads each. ``shared``: the heads of ``serial`` are also in the other
    circuits. ``large``: circuits of 6 and 8 heads. ``seed`` is another training, with its circuits at other heads.

    Decoys attend as a head of the circuit does, and carry nothing. Training replaced random sets of the other heads, so
    that no answer depends on them, and specified the answers of a broken circuit. Weights are stored in float16; all
    computation is in float32.

    Units: attention heads, ``L<layer>H<head>`` (4 layers of 12). Labels from ``truth``: the circuit of ``task``, and
    its decoys.
    Errors: a seed that does not exist.
    Source: trained by ``train.py`` in the same folder; ``weights/`` has what was verified of each model.
    """

    name: ClassVar[str] = "implanted"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {"batch": "own_task", "labels": "truth"}
    model: Model = field(default="separate", metadata={"help": "what its circuits are like"})
    task: Task = field(default="serial", metadata={"help": "which circuit answers"})
    seed: int = field(default=0, metadata={"help": "which training: 0 or 1"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HeadSubject:
        subject = self.load().heads(self.memory)
        subject.reads = replace(subject.reads, decode=words, task=partial(examples, self.model, self.task))
        heads = layout(self.model, self.seed)
        classes: list[str | None] = [None] * len(subject.units)
        for kind, those in ((self.task, heads.circuit(self.task)), (DECOY, heads.decoys_of(self.task))):
            for head in those:
                classes[unit_of(head)] = kind
        subject.truth = Labels(tuple(classes), subject.units, circuits=frozenset({self.task}))
        return subject

    def load(self) -> LoadedModel:
        """The model, for units of any family."""
        from safetensors.torch import load_file

        label = f"{self.model}-{self.seed} {self.task}"
        loaded = in_memory(load_file(self._file()), label, self.device)
        heads = layout(self.model, self.seed)
        names = [unit_name(head) for head in heads.circuit(self.task)]
        return loaded.described(
            circuits={self.task: names},
            verified=self.card()["tasks"][self.task]["verified"],
            weights=f"sha256:{self.fingerprint()}",
        )

    def card(self) -> dict[str, Any]:
        """What was verified of the model, and how it was trained."""
        card: dict[str, Any] = json.loads(self._file().with_suffix(".json").read_text(encoding="utf-8"))
        return card

    def config(self) -> str:
        """The folder whose config.json has the shapes of the model."""
        return str(WEIGHTS)

    def fingerprint(self) -> str:
        """Digest of the weights, because they can be trained again."""
        return digest_files(self._file())

    def _file(self) -> Path:
        file = WEIGHTS / f"{self.model}-{self.seed}.safetensors"
        if not file.is_file():
            seeds = [other.stem.removeprefix(f"{self.model}-") for other in WEIGHTS.glob(f"{self.model}-*.safetensors")]
            raise unknown("implanted seed", str(self.seed), sorted(seeds))
        return file


def unit_of(head: Head) -> int:
    """The place of a head among the units."""
    layer, number = head
    return layer * HEADS + number


def in_memory(state: Mapping[str, Tensor], label: str, device: str = "cpu") -> LoadedModel:
    """A model of these weights, in float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from harness.engine.loading import LoadedModel, device_named
    from harness.engine.quiet import quiet

    place = device_named(device)
    with quiet():
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(WEIGHTS))
        model.load_state_dict({name: weight.float() for name, weight in state.items()})
        model.eval().to(place)
    about = {
        "architecture": type(model).__name__, "path": label, "revision": "", "dtype": "float32", "device": str(place),
        "parameters": sum(weight.numel() for weight in state.values()),
    }  # fmt: skip
    return LoadedModel(model, label, None, about, None, None)


@hookimpl
def harness_subjects() -> list[type[Implanted]]:
    return [Implanted]
