"""Programs compiled to a transformer: circuits that are known, because a compiler wrote their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Labels, SubjectMethod, Vocabulary, digest_files, hookimpl
from harness.data.stages import FOR_ANY_UNITS

from .programs import BRACKETS, LONGEST, NAMES, SYMBOLS, Name

if TYPE_CHECKING:
    from harness import HookedSubject


@dataclass(frozen=True)
class CompiledProgram(SubjectMethod):
    """A causal transformer in which ten programs run side by side on a sequence of brackets; one of them answers.

    =============  ===================================================================
    reverse        the first token (the last one of the reversed sequence)
    hist           how often the last token occurs
    count          how often ``(`` occurs
    previous       the token before the last one
    induction      what most often followed the last token before
    double_hist    how many tokens have occurred as often, up to their place
    same_ends      whether the first token is the last one
    maximum        the last token of the sorted sequence
    pair_balance   which of ``(`` and ``)`` occurs more often
    shuffle_dyck   whether both kinds of brackets are balanced
    =============  ===================================================================

    Each program was compiled to heads and MLPs that read and write a stream of their own. The logits are those of
    ``program``: 10 for its answer. So the units of ``program`` are the circuit. The others compute their answers all
    the same, on the same tokens, and carry nothing to these logits: their damage is exactly 0. Some are decoys of the
    circuit, with equal attention.

    Units: heads and MLPs, or heads only (which have ``attention`` to read), ``<layer>.<program>.<unit>``; a site for
    the heads of each layer, and one for its MLPs. Labels from ``truth``: the units of ``program``.
    Errors: none of its own.
    Source: Lindner et al. 2023 (Tracr). Compiled by ``compile.py`` in the same folder.
    """

    name: ClassVar[str] = "compiled"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {**FOR_ANY_UNITS, "batch": "own_task", "labels": "truth"}
    program: Name = field(default="induction", metadata={"help": "which program answers"})
    units: Literal["all", "heads"] = field(default="all", metadata={"help": "heads and MLPs, or heads only"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HookedSubject:
        from harness import HookedSubject
        from harness.engine.loading import device_named

        from .model import Attending, Handed, Layer, Programs
        from .task import examples
        from .verify import recorded

        model = Programs(self.program).to(device_named(self.device)).eval()
        kinds = {"heads": Attending} if self.units == "heads" else {"heads": Handed, "mlps": Handed}
        sites: list[Handed] = []
        owners: list[int] = []
        for depth, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            for name, site in kinds.items():
                part = getattr(layer, name)
                if part.labels:
                    sites.append(site(f"L{depth}.{name}", depth, part.labels, part.write, family=part.kind))
                    owners += part.owner.tolist()
        reads = Vocabulary(len(SYMBOLS), LONGEST + 1, _encode, _decode, task=partial(examples, self.program))
        about = {
            "architecture": "compiled programs",
            "programs": len(NAMES),
            "parameters": sum(value.numel() for value in model.buffers()),
            "weights": f"sha256:{self.fingerprint()}",
            "device": str(model.unembedding.device),
        }
        subject = HookedSubject(model, sites, reads, self.program, about, self.memory)
        own = NAMES.index(self.program)
        classes = [self.program if owner == own else None for owner in owners]
        circuit = [label for label, name in zip(subject.units.labels, classes, strict=True) if name]
        subject.about |= {"circuits": {self.program: circuit}, "verified": recorded(self.program)}
        subject.truth = Labels(tuple(classes), subject.units, circuits=frozenset({self.program}))
        return subject

    def fingerprint(self) -> str:
        """The weights of all programs."""
        from .model import WEIGHTS

        return digest_files(*(WEIGHTS / f"{name}.safetensors" for name in NAMES))


def _encode(text: str) -> list[int]:
    return [1 + BRACKETS.index(letter) for letter in text if letter in BRACKETS]


def _decode(ids: list[int]) -> str:
    return " ".join(SYMBOLS[token] for token in ids)


@hookimpl
def harness_subjects() -> list[type[CompiledProgram]]:
    return [CompiledProgram]
