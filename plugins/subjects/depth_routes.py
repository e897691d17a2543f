"""Sources of depth routers: what every sublayer reads of the outputs of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from harness import HarnessError, Labels, SubjectMethod, hookimpl
from harness.data.stages import FOR_ANY_UNITS
from harness.data.units import Run

from ._decoder import Dtype, Source, loaded_by, source_of

if TYPE_CHECKING:
    from harness import Vocabulary
    from harness.data.contracts import Sizes
    from harness.engine.hooked import HookedSubject
    from harness.engine.loading import LoadedModel

OWN = "tiny_depth"
Arm = Literal["trained", "uniform", "fixed", "wrapped", "tuned_routing", "tuned_all"]


@dataclass(frozen=True)
class DepthRoutes(SubjectMethod):
    r"""What every sublayer reads, in decoders with block attention residuals instead of a residual stream.

    .. math:: h_l = \sum_i \alpha_{i \to l}\, v_i, \qquad \alpha_{\cdot \to l} = \operatorname{softmax}_i
              \bigl(w_l^\top \operatorname{RMSNorm}(v_i) + b_l\, [i \text{ is the newest}]\bigr)

    Units: pairs of a sublayer and a source, ``L3.mlp<-b2``. Sources are the ``embedding``, earlier blocks (``b1``, ...)
    and the newest one, ``current``: the running sum, or, where a block begins from nothing, the block before it. The
    units of a router are one site, and at least one of them stays. Sources that are the same tensor are one unit; a
    router with one source has no units (the records list both). A unit hands on its part of the sum.

    ``intervention=reroute`` removes a source: the softmax is taken over the others. ``zero`` leaves their weights as
    they are. Up to a weight of about .95 both are the same to the sublayer, because its norm takes out the factor.

    ``path=tiny_depth``: small models that come with the harness, in several seeds. ``arm``: ``trained`` with routing
    from scratch; ``uniform``, the same with equal weights; ``fixed``, the weights of ``trained``, w = 0 and b = bias;
    ``wrapped``, a plain model whose stream is read with w = 0 and b = bias; ``tuned_routing``, that model with its
    routers trained; ``tuned_all``, then with everything trained. Any other model of the Llama class (Llama, Qwen2,
    Qwen3) can be wrapped, in ``blocks`` blocks; one that has depth routers (Inkling 2) is taken as it is.

    The truth is the class of every unit: band, sublayer, and whether it is the embedding, the current state or older.

    Errors: a seed that does not exist; a plain model that is not wrapped; a model that cannot be wrapped.
    Source: Kimi Team 2026 (arXiv 2603.15031); Javadov 2026 (arXiv 2606.13168), whose baseline is ``wrapped``.
    """

    name: ClassVar[str] = "depth_routes"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {
        **FOR_ANY_UNITS,
        "batch": "markov_repeats",
        "signal": "routing_weight",
        "intervention": "reroute",
    }
    path: str = field(default=OWN, metadata={"help": "tiny_depth; or a hub id or folder in Hugging Face layout"})
    arm: Arm = field(default="trained", metadata={"help": "how the routing came about; of other models: as it is"})
    seed: Annotated[int, Ge(0)] = field(default=0, metadata={"help": "which model of tiny_depth"})
    bias: float = field(default=10.0, metadata={"help": "b of the newest source, of wrapped and fixed"})
    blocks: Annotated[int, Ge(1)] = field(default=8, metadata={"help": "blocks of another model that is wrapped"})
    revision: str = field(default="main", metadata={"help": "branch, tag or commit on the hub"})
    dtype: Dtype = field(default="float32", metadata={"help": "precision of another model"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HookedSubject:
        from harness.engine.depth_routes import classes, merged, single_source

        subject = self._load().units({self.name}, self.memory)
        subject.truth = Labels(tuple(classes(subject.sites)), subject.units)
        subject.about |= {
            "single_source": single_source(subject.model, subject.sites),  # type: ignore[arg-type]  # it is one
            "merged_sources": merged(subject.sites),
        }
        return subject

    def vocabulary(self) -> Vocabulary | None:
        """What the model reads."""
        if self.path != OWN:
            return self._source.vocabulary()
        from transformers import LlamaConfig

        from harness.engine.subject import vocabulary_of_config

        return vocabulary_of_config(LlamaConfig.from_pretrained(str(self.config())))

    def config(self) -> str | None:
        """The folder or hub id whose config.json has the shapes of the model."""
        from ._depth.arms import WEIGHTS

        return str(WEIGHTS) if self.path == OWN else self._source.config()

    def fingerprint(self) -> str:
        """Digest of the weights, because they can be trained again."""
        from ._depth.arms import digest_of, state_of

        return digest_of(state_of(self.arm, self.seed)) if self.path == OWN else self._source.fingerprint()

    def runs(self, sizes: Sizes) -> tuple[Run, ...]:
        """The sites of its units in a model of these sizes."""
        return tuple(
            Run(f"{reader}.router", layer, "depth_route", n) for reader, layer, n in self._readers(sizes.layers)
        )

    def _readers(self, layers: int) -> Iterator[tuple[str, int, int]]:
        """Every router of more than one source: what reads it, its layer, and the number of its sources."""
        from ._depth.arms import BLOCK, form_of

        form = form_of(self.arm)
        block, sources = BLOCK[form] if self.path == OWN else self._block(layers), 1
        for sublayer in range(2 * layers):
            begins = sublayer % block == 0
            if sources > 1:
                yield f"L{sublayer // 2}.{('attn', 'mlp')[sublayer % 2]}", sublayer // 2, sources
            sources += begins if sublayer or form == "reset" else 0
            sources += form == "cumulative" and sublayer == 0
        if form == "reset":
            yield "out", layers - 1, sources

    def _block(self, layers: int) -> int:
        """Sublayers of a block."""
        return 2 * -(-layers // self.blocks)

    @property
    def _source(self) -> Source:
        return source_of(self.path, self.revision, self.dtype, self.device)

    def _load(self) -> LoadedModel:
        if self.path == OWN:
            return self._own()
        if self.arm not in ("trained", "wrapped"):
            raise HarnessError(
                f"subject.arm={self.arm} is an arm of {OWN}; subject.path={self.path} is another model.",
                "Wrap it: subject.arm=wrapped   Or take it as it is, if it has depth routers: subject.arm=trained",
            )
        loaded = loaded_by(self._source, self.dtype)
        if self.arm == "trained":
            return loaded
        from dataclasses import replace

        from harness.engine.depth_routing import routed, with_bias

        layers = loaded.model.config.get_text_config().num_hidden_layers
        model = with_bias(routed(loaded.model, "cumulative", self._block(layers)), self.bias)
        return replace(loaded, model=model, label=f"{loaded.label}-wrapped")

    def _own(self) -> LoadedModel:
        from harness.engine.loading import LoadedModel, device_named

        from ._depth.arms import digest_of, model_of, state_of

        model, label, place = (
            model_of(self.arm, self.seed, self.bias),
            f"{OWN}-{self.arm}-{self.seed}",
            device_named(self.device),
        )
        about = {
            "architecture": type(model).__name__,
            "path": label,
            "revision": "",
            "dtype": "float32",
            "device": str(place),
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "weights": f"sha256:{digest_of(state_of(self.arm, self.seed))}",
        }
        model.to(place)  # type: ignore[arg-type]  # transformers types its wrapper as if it were unbound
        return LoadedModel(model, label, None, about)


@hookimpl
def harness_subjects() -> list[type[DepthRoutes]]:
    return [DepthRoutes]
