"""A toy mixture of experts, with its experts as units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from harness import HarnessError, SubjectMethod, Width, digest_files, hookimpl
from harness.data.stages import FOR_ANY_UNITS

if TYPE_CHECKING:
    from harness import HookedSubject

    from .model import ToyMixture

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ToyMoE(SubjectMethod):
    r"""The experts of a toy mixture: sparse features, each routed to one expert with few dimensions.

    .. math:: y = f_{e(x)}(x), \qquad f_e(x) = \mathrm{ReLU}(W_e^\top W_e x + b_e), \qquad
              e(x) = \operatorname*{arg\,max}_e (Gx)_e

    20 features, present with probability .1 in training (``batch.present=0.1``), and less important from feature to
    feature (.7 each in the loss). ``size=16x2`` has sixteen experts of two dimensions, enough for a closure test of
    groups. ``1x5`` and ``4x5`` have experts of equal size; ``1x12``, ``2x6``, ``4x3`` and ``6x2`` have twelve
    dimensions in all. One expert is the dense toy. ``init`` is how the router began, and where it stays: random, or
    every expert's own features, in order or shuffled.

    An example that is not routed to an expert is not changed by ablating it: the built-in negative control. The record
    has each toy's geometry: features per dimension, interference, the sum of dimensionalities (E m).

    Units: experts, ``L0E2``, one site. Errors: a toy that was not trained.
    Source: Chaudhari et al. (arXiv 2510.23671). Trained by ``train.py`` in the same folder.
    """

    name: ClassVar[str] = "toy_moe"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {
        **FOR_ANY_UNITS,
        "batch": "sparse_features",
        "signal": "usage",
        "controls": "usage_matched",
    }
    size: Literal["16x2", "4x5", "1x5", "1x12", "2x6", "4x3", "6x2"] = field(
        default="16x2", metadata={"help": "experts x dimensions"}
    )
    init: Literal["xavier", "ordered", "shuffled"] = field(default="ordered", metadata={"help": "of the router"})
    seed: Annotated[int, Ge(0)] = field(default=0, metadata={"help": "which training"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HookedSubject:
        from harness import HookedSubject
        from harness.engine.experts import Experts
        from harness.engine.loading import device_named
        from harness.engine.routers import Router

        from .geometry import Geometry

        toy = self.load()
        geometry = {name: round(value, 4) for name, value in Geometry.of(toy).summary().items()}
        toy.to(device_named(self.device))
        count = toy.sizes["experts"]
        router = Router("L0.router", 0, count, toy.gate, lambda logits: logits.softmax(-1))
        labels = [f"L0E{expert}" for expert in range(count)]
        site = Experts("L0.experts", 0, labels, toy.experts, family="expert", router=router)
        about = {
            "architecture": "ToyMixture",
            **toy.sizes,
            "weights": f"sha256:{self.fingerprint()}",
            "geometry": geometry,
            "device": str(toy.gate.weight.device),
        }
        width = toy.sizes["features"]
        return HookedSubject(toy, [site], Width(width, width), self._file.stem, about, self.memory)

    def load(self) -> ToyMixture:
        """The trained toy, in float32. Errors: one that was not trained."""
        from safetensors.torch import load_file

        from .model import ToyMixture

        if not self._file.is_file():
            known = sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))
            raise HarnessError(
                f"subject toy_moe: there is no toy {self._file.stem} (size-init-seed).",
                f"There are: {', '.join(known)}. To train it: "
                f"python -m harness_plugins.subjects.toy_moe.train {self.size}-{self.init} --seeds {self.seed}",
            )
        tensors = load_file(self._file)
        experts, hidden, features = tensors["experts.weight"].shape
        toy = ToyMixture(features, experts, hidden)
        toy.load_state_dict(tensors)
        return toy.requires_grad_(False).eval()

    def fingerprint(self) -> str:
        """The weights, because they can be trained again."""
        return digest_files(self._file) if self._file.is_file() else ""

    @property
    def _file(self) -> Path:
        return WEIGHTS / f"{self.size}-{self.init}-{self.seed}.safetensors"


@hookimpl
def harness_subjects() -> list[type[ToyMoE]]:
    return [ToyMoE]
