"""What the subjects of one family of units have in common: the model that their units are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from harness import SubjectMethod
from harness.data.stages import FOR_ANY_UNITS
from harness.data.units import Run

from .hf import HuggingFace
from .smollm2_wheel import SmolLM2Wheel
from .tiny import Tiny
from .tiny_moe import TinyMoE

if TYPE_CHECKING:
    from harness import Vocabulary
    from harness.data.contracts import Sizes
    from harness.engine.hooked import HookedSubject
    from harness.engine.loading import LoadedModel

Family = Literal[
    "depth_routes", "expert_neurons", "experts", "heads", "kv_groups", "mlp_layers", "mlp_neurons", "stream"
]
Dtype = Literal["float32", "bfloat16", "float16"]
Source: TypeAlias = Tiny | TinyMoE | SmolLM2Wheel | HuggingFace


@dataclass(frozen=True)
class DecoderUnits(SubjectMethod):
    """The parameters of units of any family in a causal language model; ``name`` is the family."""

    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_ANY_UNITS

    path: str = field(
        default="tiny",
        metadata={"help": "hub id, folder in Hugging Face layout, .gguf file; or tiny, tiny_moe, smollm2_wheel"},
    )
    revision: int | str = field(
        default="main", metadata={"help": "branch, tag or commit on the hub; of tiny and tiny_moe, a training step"}
    )
    dtype: Dtype = field(default="float32", metadata={"help": "precision of weights and computation"})
    also: tuple[Family, ...] = field(default=(), metadata={"help": "other families in the same space: [heads]"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HookedSubject:
        return self._load().units({self.name, *self.also}, self.memory)

    def vocabulary(self) -> Vocabulary | None:
        """That of the subject that loads the same model."""
        return self._source.vocabulary()

    def config(self) -> str | None:
        """The folder or hub id whose config.json has the shapes of the model."""
        return self._source.config()

    def runs(self, sizes: Sizes) -> tuple[Run, ...]:
        """The sites of its units in a model of these sizes."""
        sites = {
            "experts": ("experts", "expert", sizes.experts),
            "expert_neurons": ("expert_neurons", "expert_neuron", sizes.experts * sizes.mlp),
            "heads": ("attn", "head", sizes.heads),
            "kv_groups": ("attn", "kv_group", sizes.kv_heads),
            "mlp_neurons": ("neurons", "neuron", sizes.mlp),
            "mlp_layers": ("mlp", "mlp", 1),
            "stream": ("stream", "stream", 1),
        }
        return tuple(
            Run(f"L{layer}.{site}", layer, kind, units)
            for layer in range(sizes.layers)
            for family, (site, kind, units) in sites.items()
            if family in self._families(layer)
        )

    def step(self) -> int | None:
        """That of the subject that loads the same model."""
        return self._source.step()

    def checkpoints(self) -> Mapping[int, DecoderUnits]:
        """The same units at every checkpoint of tiny and tiny_moe; of other models none are known."""
        source = self._source
        if not isinstance(source, Tiny | TinyMoE):
            return {}
        steps = {step: each.checkpoint for step, each in source.checkpoints().items()}
        main = ("final", None)
        return {step: replace(self, revision="main" if name in main else name) for step, name in steps.items()}

    def _families(self, layer: int) -> set[str]:  # noqa: ARG002  # neurons are units in some layers only
        """The families with units in this layer."""
        return {self.name, *self.also}

    def fingerprint(self) -> str:
        """That of the subject that loads the same model."""
        return self._source.fingerprint()

    @property
    def _source(self) -> Source:
        return source_of(self.path, self.revision, self.dtype, self.device)

    def _load(self) -> LoadedModel:
        return loaded_by(self._source, self.dtype)


def source_of(path: str, revision: int | str, dtype: Dtype, device: str) -> Source:
    """The subject that loads the model at this path."""
    if path == "tiny":
        return Tiny("final" if revision == "main" else revision, device)
    if path == "tiny_moe":
        return TinyMoE(None if revision == "main" else revision, device)
    return SmolLM2Wheel(device) if path == "smollm2_wheel" else HuggingFace(path, str(revision), dtype, device=device)


def loaded_by(source: Source, dtype: Dtype) -> LoadedModel:
    """The model in memory."""
    return source.load() if isinstance(source, HuggingFace) else source.load(dtype)
