"""What the experts of a mixture do: where they are used, what they say, and what ablating each one damages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from harness.cells.inputs import Inputs
from harness.cells.unit_damage import UnitDamage
from harness.closure.association import Association
from harness.closure.intervals import mean_interval
from harness.data.recording import Norm
from harness.data.specialisation import Specialisation
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError

if TYPE_CHECKING:
    from harness.engine.expert_lens import ExpertLens

DOMAIN = "domain"
"""The property of examples by which specialisation is measured."""


@dataclass(frozen=True, eq=False)
class ExpertSurvey:
    """The experts of one subject on one batch.

    ``specialisation``: on the examples proposed on. ``damage``: by ablating every expert alone, on those tested.
    ``intervals``: by domain, the 95 % interval of every expert's share, over documents. ``lens``: of language models,
    on the examples tested (None: another subject).
    """

    specialisation: Specialisation
    intervals: Mapping[str, Float[np.ndarray, "units 2"]]
    damage: UnitDamage
    lens: ExpertLens | None

    @classmethod
    def measure(cls, inputs: Inputs) -> ExpertSurvey:
        """Record, ablate every expert alone, and look through the lens.

        Errors: units that are not experts; a batch whose examples have no domain.
        """
        subject, half, test = inputs.subject, inputs.proposal_half, inputs.test_half
        assert half is not None
        assert test is not None
        if "routed" not in subject.sources:
            raise HarnessError(
                f"experts: units of subject {subject.label} are no experts of a mixture.",
                "Choose subject=experts (with subject.path=...), or subject=toy_moe.",
            )
        if DOMAIN not in half.groups:
            raise HarnessError(
                f"experts: the examples of batch {half.name} have no domain.", "Use batch=domains, or one with domains."
            )
        routed = inputs.record(half, {"routed": Norm("routed")}).readings["routed"] > 0
        domain, document = np.asarray(half.groups[DOMAIN]).astype(str), half.groups.get("document")
        seed, site_of = inputs.cell.settings.seed, subject.units.site_of
        documents = None if document is None else np.asarray(document).astype(str)
        found = Specialisation.of(routed, domain, site_of, documents, seed)
        clusters = np.arange(len(half)) if documents is None else np.unique(documents, return_inverse=True)[1]
        intervals = {
            name: np.array(
                [
                    mean_interval(column[domain == name].astype(np.float64), seed, clusters[domain == name])
                    or (np.nan, np.nan)
                    for column in routed.T
                ]
            )
            for name in found.domains
        }
        return cls(found, intervals, UnitDamage.measure(inputs), _lens(inputs))

    @property
    def units(self) -> UnitSpace:
        """The experts."""
        return self.damage.units

    @property
    def importance(self) -> Float[np.ndarray, " units"]:
        """The damage to the first metric by ablating each expert alone, positive for the worse."""
        metric = next(iter(self.damage.changes))
        damage: Float[np.ndarray, " units"] = self.damage.damage[metric] * self.damage.changes[metric]
        return damage

    @property
    def predictors(self) -> dict[str, Float[np.ndarray, " units"]]:
        """What is known of every expert without ablation."""
        usage, largest = self.specialisation.usage, self.specialisation.largest
        lift = np.divide(largest, usage, out=np.zeros_like(largest), where=usage > 0)
        found = {"usage": usage, "largest share of a domain": largest, "lift of that share": lift}
        if self.lens is not None:
            found["size of direct logit effect"] = np.abs(self.lens.direct).mean(axis=1)
        return found

    def associations(self) -> dict[str, tuple[Association | None, Association | None]]:
        """By predictor: its rank correlation with importance, and the same with usage and layer held fixed.

        Of usage itself, only the layer is held fixed. Experts that cannot be ablated alone are left out.
        """
        measured = ~np.isnan(self.importance)
        importance, site = self.importance[measured], self.units.site_of[measured]
        usage = self.specialisation.usage[measured]
        layers = [(site == other).astype(np.float64) for other in np.unique(site)[1:]]
        found = {}
        for name, values in self.predictors.items():
            held = [*([] if name == "usage" else [usage]), *layers]
            chosen = values[measured]
            found[name] = (Association.of(chosen, importance), Association.of(chosen, importance, *held))
        return found


def _lens(inputs: Inputs) -> ExpertLens | None:
    from transformers import PreTrainedModel

    from harness.engine.expert_lens import ExpertLens
    from harness.engine.hooked import HookedSubject

    subject, test = inputs.subject, inputs.test_half
    if not isinstance(subject, HookedSubject) or not isinstance(subject.model, PreTrainedModel):
        return None
    assert test is not None
    with inputs.progress.step("lens", f"{len(test)} examples"):
        return ExpertLens.of(subject, test)
