"""Subcomponents of weight matrices, found by stochastic parameter decomposition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Lt

from harness import HarnessError, SubjectMethod, digest_files, hookimpl
from harness.data.stages import FOR_ANY_UNITS
from harness.util.paths import expanded

from ._decoder import Source, loaded_by, source_of
from .torch_module import TorchModule
from .toy.kinds import Kind
from .toy.subject import ToyModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness import HookedSubject
    from harness.data.batch import Reads
    from harness.decomposition.artefact import Decomposition
    from harness.decomposition.targets import Toy

EXACT, TRAINED = "exact", "trained"
SHIPPED = Path(__file__).parent / "_decompositions"


@dataclass(frozen=True)
class Spd(SubjectMethod):
    r"""Rank-one subcomponents of a model's matrices; what an ablated one wrote is taken out of the matrix's output.

    .. math:: y' = y + \sum_{c \in S} (h_c' - h_c)\, U_c, \qquad h_c = V_c \cdot a, \qquad
              W = \Delta + \sum_c U_c V_c^\top

    y is the output of the matrix itself: the delta, which the decomposition leaves out, stays, and without ablation the
    model's outputs are exactly its own. Zero ablation is the mask 0 of the subcomponent with all other masks 1.

    ``decomposition``: a file that ``harness decompose`` wrote, of a toy, or of the model at ``path``: a language model
    (importances are those at the query) or your own module (``FILE.py:build``, with the ``weights`` of
    ``subject=torch_module``). Choose ``batch`` and ``labels=none`` for them. ``exact``: the true one of a toy, written
    down without training. ``trained``: one that comes with the harness (of tms_5_2_id, tms_20_10, tms_40_10; untied).
    ``toy`` and ``seed``: which toy, for these two. ``penalty``: for ``trained``, the coefficient of the importance
    penalty (that of the frequency term is half of it).

    Units are the subcomponents that are alive: the importance on some example is above ``threshold``. These examples
    are a toy's features, or those that the file keeps of its training. The record counts dead ones, and names those
    that nearly every example needs (``always_on``) and those that are parallel to another one of their matrix
    (``aliases``). The truth of a unit is the feature that needs it most when it is the only one, or ``shared`` if more
    than half of the features need it.

    Units: subcomponents, ``<matrix>:<index>``; a site for each matrix.
    Errors: no file, or one that is no decomposition; a target with other weights than those that were decomposed; no
    subcomponent above the threshold; a path where a toy is decomposed.
    Source: Bushnaq et al. 2025 (stochastic parameter decomposition); Seshadri et al. (mechanisms across layers).
    """

    name: ClassVar[str] = "spd"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {
        **FOR_ANY_UNITS,
        "batch": "sparse_features",
        "labels": "truth",
        "signal": "importance",
        "partitioner": "mechanisms",
        "selector": "every_group",
    }
    decomposition: str = field(
        default=EXACT,
        metadata={"help": "exact, trained, or a file that `harness decompose` wrote", "by_content": True},
    )
    toy: Kind = field(default="tms_20_10", metadata={"help": "which toy is decomposed; of a file, the file says"})
    seed: Annotated[int, Ge(0)] = field(default=0, metadata={"help": "which training of the toy"})
    path: str = field(
        default="tiny",
        metadata={"help": "the model that a file is of: hub id, folder, tiny, smollm2_wheel, or FILE.py:build"},
    )
    weights: str = field(
        default="",
        metadata={"help": ".safetensors file of weights, for FILE.py:build", "by_content": True, "added": True},
    )
    threshold: Annotated[float, Ge(0), Lt(1)] = field(
        default=0.1, metadata={"help": "a subcomponent is alive if its importance is ever above this"}
    )
    penalty: Annotated[float, Gt(0)] | None = field(
        default=None,
        metadata={
            "added": True,
            "help": "penalty of a decomposition that comes with the harness (tms_20_10: 2.4e-5 to 2.4e-3); null: that "
            "of its recipe",
        },
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __post_init__(self) -> None:
        if self.decomposition in (EXACT, TRAINED) and self.path != "tiny":
            raise HarnessError(
                f"subject.path={self.path} has no effect with subject.decomposition={self.decomposition}: it is of a "
                "toy.",
                f"Name a file that `harness decompose` wrote: subject.decomposition={self.path}, or choose a toy: "
                "subject.toy=tms_40_10",
            )
        if self.weights and not self._is_file(self.path):
            raise HarnessError(
                f"subject.weights={self.weights} has no effect with subject.path={self.path}, which has its own.",
                "Name the module they are of: subject.path=FILE.py:build, or leave subject.weights out.",
            )
        if self.penalty is not None and self.decomposition != TRAINED:
            raise HarnessError(
                f"subject.penalty={self.penalty:g} has no effect with subject.decomposition={self.decomposition}.",
                "It chooses among those that come with the harness: subject.decomposition=trained",
            )

    def __call__(self) -> HookedSubject:
        from harness.engine.loading import device_named

        found = self._decomposition().to(device_named(self.device))
        if found.target is not None:
            self._check_no_path(found)
            return self._of_toy(found, found.target)
        source = self._source
        return self._of_module(found, source) if isinstance(source, TorchModule) else self._of_decoder(found, source)

    def _of_toy(self, found: Decomposition, toy: Toy) -> HookedSubject:
        from harness import Width
        from harness.decomposition.usage import examples_of

        device = next(iter(found.sites.values())).v.device
        sampled, alone = (examples.to(device) for examples in examples_of(toy.cpu()))
        about = {"architecture": type(toy).__name__, **toy.sizes, "weights": f"sha256:{found.target_digest}"}
        return self._subject(found, toy.to(device), Width(toy.width, toy.width), about, sampled, alone)

    def _of_module(self, found: Decomposition, source: TorchModule) -> HookedSubject:
        import torch

        from harness import Width

        model, examples = source.load(), self._examples(found)
        found.check(model)
        with torch.inference_mode():
            reads = Width(examples.shape[1], model(examples[:1]).shape[1])
        about = {"architecture": type(model).__name__, "weights": f"sha256:{found.target_digest}"}
        return self._subject(found, model, reads, about, examples)

    def _of_decoder(self, found: Decomposition, source: Source) -> HookedSubject:
        loaded = loaded_by(source, "float32")
        found.check(loaded.model)
        return self._subject(found, loaded.model, loaded.reads, loaded.about, self._examples(found))

    def _examples(self, found: Decomposition) -> Tensor:
        """Those that the file keeps. Errors: it has none, because another program wrote it."""
        if found.examples is None:
            raise HarnessError(
                f"subject.decomposition={self.decomposition}: it keeps no examples, so none show which subcomponents "
                "are alive.",
                "Give a file that `harness decompose` wrote.",
            )
        return found.examples

    def _subject(
        self,
        found: Decomposition,
        model: nn.Module,
        reads: Reads,
        about: Mapping[str, Any],
        sampled: Tensor,
        alone: Tensor | None = None,
    ) -> HookedSubject:
        """The subject; ``sampled`` and ``alone``: examples that show which subcomponents are alive."""
        from harness import HookedSubject
        from harness.decomposition.usage import usage

        from ._decompositions.units import circuits_of, described, sites_of, truth_of

        used = usage(found, model, sampled, self.threshold, alone)
        sites = sites_of(found, model, used)
        truth = truth_of(found, sites, used)
        about = {**about, "target": found.label, "decomposition": described(found, used)}
        if truth is not None:
            about["circuits"] = circuits_of(truth)
        label = f"{found.label} {'' if found.settings else 'exact '}subcomponents"
        return HookedSubject(model, sites, reads, label, about, self.memory, truth=truth)

    def fingerprint(self) -> str:
        """The content of the file, or the weights of the toy."""
        file = self._file
        if file is None:
            return self._target.fingerprint()
        return f"{digest_files(file) if file.is_file() else ''} {self._source.fingerprint()}"

    @property
    def _source(self) -> Source | TorchModule:
        """The subject that loads the model at ``path``."""
        if self._is_file(self.path):
            return TorchModule(self.path, self.weights, device=self.device)
        return source_of(self.path, "main", "float32", self.device)

    @staticmethod
    def _is_file(path: str) -> bool:
        return path.partition(":")[0].endswith(".py")

    def _check_no_path(self, found: Decomposition) -> None:
        if self.path != "tiny":
            raise HarnessError(
                f"subject.path={self.path} has no effect: the decomposition is one of the toy {found.label}, which is "
                "in the same file.",
                "Leave subject.path out.",
            )

    @property
    def _target(self) -> ToyModel:
        return ToyModel(self.toy, self.seed)

    @property
    def _file(self) -> Path | None:
        """The file of the decomposition; None for an exact one, which has none."""
        if self.decomposition == EXACT:
            return None
        if self.decomposition == TRAINED:
            penalty = "" if self.penalty is None else f"-{self.penalty:g}"
            return SHIPPED / f"{self.toy}-{self.seed}{penalty}.safetensors"
        return expanded(self.decomposition)

    def _decomposition(self) -> Decomposition:
        from harness.decomposition.artefact import Decomposition
        from harness.decomposition.oracle import oracle

        if self._file is None:
            return oracle(self._target.load(), f"{self.toy}-{self.seed}")
        if self.decomposition == TRAINED and not self._file.is_file():
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors")))
            penalty = "" if self.penalty is None else f" minimality={self.penalty:g} frequency={self.penalty / 2:g}"
            of = "" if self.penalty is None else f", penalty {self.penalty:g}"
            raise HarnessError(
                f"subject.decomposition=trained: none of {self.toy}, seed {self.seed}{of}, comes with the harness.",
                f"Those that do: {shipped}. Train one: harness decompose {self.toy}{penalty} out=FILE.safetensors",
            )
        return Decomposition.load(self._file, "subject.decomposition")


@hookimpl
def harness_subjects() -> list[type[Spd]]:
    return [Spd]
