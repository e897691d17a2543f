"""Toy models whose mechanisms are known, because each computes its features independently of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from harness import SubjectMethod, Width, digest_files, hookimpl
from harness.data.stages import FOR_ANY_UNITS
from harness.util.errors import unknown

from .kinds import RECIPES, Kind

if TYPE_CHECKING:
    from harness import HookedSubject
    from harness.decomposition.targets import Toy

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ToyModel(SubjectMethod):
    r"""Neurons of a toy model: features in superposition, or a residual MLP. The targets of ``harness decompose``.

    ``tms_N_M`` has N features in M dimensions, :math:`\hat x = \mathrm{ReLU}(W^\top W x + b)`; ``_id`` has an identity
    matrix between the two. ``residual_BxN`` computes :math:`x + \mathrm{ReLU}(x)` of 100 features (102 with ``3x17``)
    by B blocks of N neurons on a stream of 1,000 numbers.
    Features are rarely present: in 5 % of the examples, or in 1 %, with values from -1 (``batch=sparse_features``).

    A toy is loaded only if it computes every feature: the record has its quality.

    Units: neurons, the inputs of ``linear2`` (and ``hidden.0``), or of ``layers.B.mlp_out``; a site for each matrix.
    Errors: a seed that was not trained.
    Source: Elhage et al. 2022; residual MLPs: Braun et al. 2025; Bushnaq et al. 2025. Trained by ``train.py`` in the
    same folder.
    """

    name: ClassVar[str] = "toy"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {**FOR_ANY_UNITS, "batch": "sparse_features"}
    kind: Kind = field(default="tms_20_10", metadata={"help": "which toy"})
    seed: Annotated[int, Ge(0)] = field(default=0, metadata={"help": "which training"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HookedSubject:
        from harness import Columns, HookedSubject
        from harness.decomposition.targets import Superposition, weights_digest
        from harness.engine.loading import device_named

        from .train import Quality

        toy = self.load()
        quality = Quality.of(toy, RECIPES[self.kind])
        quality.check(f"{self.kind}, seed {self.seed}")
        after = "linear1" if isinstance(toy, Superposition) else "mlp_in"
        modules = {
            path: module
            for path, module in toy.named_modules()
            if not path.endswith(after) and hasattr(module, "in_features")
        }
        toy.to(device_named(self.device))
        sites = [
            Columns(path, depth, [f"{path}:{unit}" for unit in range(module.in_features)], module, family="neuron")
            for depth, (path, module) in enumerate(modules.items())
        ]
        about = {
            "architecture": type(toy).__name__,
            **toy.sizes,
            "weights": f"sha256:{weights_digest(toy)}",
            "quality": asdict(quality),
            "device": str(next(toy.parameters()).device),
        }
        label = f"{self.kind}-{self.seed}"
        return HookedSubject(toy, sites, Width(toy.width, toy.width), label, about, self.memory)

    def load(self) -> Toy:
        """The trained toy, in float32. Errors: a seed that was not trained."""
        import torch
        from safetensors.torch import load_file

        file = self._file
        if not file.is_file():
            seeds = [other.stem.rpartition("-")[2] for other in WEIGHTS.glob(f"{self.kind}-*.safetensors")]
            how = f"python -m harness_plugins.subjects.toy.train {self.kind} --seeds {self.seed}"
            raise unknown(f"{self.kind} seed", str(self.seed), seeds, f"to train it: {how}")
        with torch.device("meta"):
            toy = RECIPES[self.kind].build()
        toy.load_state_dict({name: value.float() for name, value in load_file(file).items()}, assign=True)
        return toy.requires_grad_(False).eval()

    def fingerprint(self) -> str:
        """The weights, because they can be trained again."""
        return digest_files(self._file) if self._file.is_file() else ""

    @property
    def _file(self) -> Path:
        return WEIGHTS / f"{self.kind}-{self.seed}.safetensors"


@hookimpl
def harness_subjects() -> list[type[ToyModel]]:
    return [ToyModel]
