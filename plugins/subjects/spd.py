"""Subcomponents of weight matrices, found by stochastic parameter decomposition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Lt

from harness import HarnessError, Labels, SubjectMethod, UnitSpace, Width, digest_files, hookimpl
from harness.data.stages import FOR_ANY_UNITS
from harness.util.paths import expanded

from .toy.kinds import Kind
from .toy.subject import ToyModel

if TYPE_CHECKING:
    from harness import HookedSubject
    from harness.decomposition.artefact import Decomposition

EXACT, TRAINED = "exact", "trained"
SHIPPED = Path(__file__).parent / "_decompositions"


@dataclass(frozen=True)
class Spd(SubjectMethod):
    r"""Rank-one subcomponents of a model's matrices; what an ablated one wrote is taken out of the matrix's output.

    .. math:: y' = y + \sum_{c \in S} (h_c' - h_c)\, U_c, \qquad h_c = V_c \cdot a, \qquad
              W = \Delta + \sum_c U_c V_c^\top

    y is the output of the matrix itself: the delta, which the decomposition leaves out, stays, and without ablation the
    model's outputs are exactly its own. Zero ablation is the mask 0 of the subcomponent with all other masks 1.

    ``decomposition``: a file that ``harness decompose`` wrote, of a toy or of ``tiny``. ``exact``: the true one of a
    toy, written down without training. ``trained``: one that comes with the harness (of tms_20_10 and tms_40_10,
    untied). ``toy`` and ``seed``: which toy, for these two.

    Units are the subcomponents that are alive: the importance on some example is above ``threshold``. The record counts
    dead ones, and names those that nearly every example needs (``always_on``) and those that are parallel to another
    one of their matrix (``aliases``). The truth of a unit is the feature that needs it most when it is the only one, or
    ``shared`` if more than half of the features need it.

    Units: subcomponents, ``<matrix>:<index>``; a site for each matrix.
    Errors: no file, or one that is no decomposition; a target with other weights than those that were decomposed; no
    subcomponent above the threshold.
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
    threshold: Annotated[float, Ge(0), Lt(1)] = field(
        default=0.1, metadata={"help": "a subcomponent is alive if its importance is ever above this"}
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:1", "neutral": True})
    memory: str = field(
        default="auto",
        metadata={"help": "memory for one pass, such as 4GiB; it changes only the time", "neutral": True},
    )

    def __call__(self) -> HookedSubject:
        from harness import HookedSubject
        from harness.decomposition.site import Examples, SubcomponentSite
        from harness.decomposition.usage import aliases, usage
        from harness.engine.loading import device_named

        found = self._decomposition()
        toy = found.target
        if toy is None:
            raise HarnessError(
                f"subject.decomposition={self.decomposition}: it is one of {found.label}, which is not in the file.",
                "Give a decomposition of a toy.",
            )
        used = usage(found, toy, self.threshold)
        device = device_named(self.device)
        found = found.to(device)
        toy.to(device)
        examples = Examples(toy)
        sites = [
            SubcomponentSite(
                path, depth, [f"{path}:{unit}" for unit in used[path].alive.tolist()], toy.get_submodule(path),
                family="subcomponent", parts=parts, alive=used[path].alive.to(device), examples=examples,
            )
            for depth, (path, parts) in enumerate(found.sites.items())
            if len(used[path].alive)
        ]  # fmt: skip
        if not sites:
            highest = max(float(of_site.highest.max()) for of_site in used.values())
            raise HarnessError(
                f"subject.threshold={self.threshold}: all subcomponents are dead; the highest importance on any "
                f"example is {highest:.3g}.",
                "Use a lower threshold, or decompose with a lower penalty.",
            )
        truth = [
            (found.truth.get(site.name) or used[site.name].mechanisms)[unit]
            for site in sites
            for unit in used[site.name].alive.tolist()
        ]
        about = {
            "architecture": type(toy).__name__,
            **toy.sizes,
            "target": found.label,
            "weights": f"sha256:{found.target_digest}",
            "decomposition": {
                "tied": found.tied,
                "exact": not found.settings,
                **found.fidelity,
                "alive": {path: len(of_site.alive) for path, of_site in used.items()},
                "dead": {path: len(of_site.highest) - len(of_site.alive) for path, of_site in used.items()},
                "always_on": [
                    f"{path}:{unit}" for path, of_site in used.items() for unit in of_site.always_on.tolist()
                ],
                "aliases": {
                    f"{path}:{unit}": f"{path}:{first}"
                    for path, parts in found.sites.items()
                    for unit, first in aliases(parts, used[path].alive.to(device)).items()
                },
            },
            "device": str(device),
        }
        classes = frozenset(name for name in truth if name is not None)
        units = UnitSpace(tuple(unit for site in sites for unit in site.units))
        labels = Labels(tuple(truth), units, circuits=classes)
        reads = Width(toy.width, toy.width)
        label = f"{found.label} {'' if found.settings else 'exact '}subcomponents"
        return HookedSubject(toy, sites, reads, label, about, self.memory, truth=labels)

    def fingerprint(self) -> str:
        """The content of the file, or the weights of the toy."""
        file = self._file
        return self._target.fingerprint() if file is None else digest_files(file) if file.is_file() else ""

    @property
    def _target(self) -> ToyModel:
        return ToyModel(self.toy, self.seed)

    @property
    def _file(self) -> Path | None:
        """The file of the decomposition; None for an exact one, which has none."""
        if self.decomposition == EXACT:
            return None
        if self.decomposition == TRAINED:
            return SHIPPED / f"{self.toy}-{self.seed}.safetensors"
        return expanded(self.decomposition)

    def _decomposition(self) -> Decomposition:
        from harness.decomposition.artefact import Decomposition
        from harness.decomposition.oracle import oracle

        if self._file is None:
            return oracle(self._target.load(), f"{self.toy}-{self.seed}")
        if self.decomposition == TRAINED and not self._file.is_file():
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors")))
            raise HarnessError(
                f"subject.decomposition=trained: none of {self.toy}, seed {self.seed}, comes with the harness.",
                f"Those that do: {shipped}. Train one: harness decompose {self.toy} out=FILE.safetensors",
            )
        return Decomposition.load(self._file, "subject.decomposition")


@hookimpl
def harness_subjects() -> list[type[Spd]]:
    return [Spd]
