"""How much of a domain is routed to an expert."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from harness import Activity, HarnessError, Recording, Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class ExpertSpecialisation(Signal):
    r"""Whether the query is routed to an expert. Its score is the expert's specialisation: its share of a domain.

    .. math:: a_{e,i} = [\, i \in \operatorname{top}_k(e) \,], \qquad
              ES(E_i, D) = \frac{N^{(k)}_{E_i,D}}{N_D} = \operatorname{mean}_{e \in D} a_{e,i}

    D is ``domain``, or the one in which the share is largest. The shares of a layer's experts sum to k; with uniform
    routing each is k / E. An expert that is used often has a large share of every domain: ``score=lift`` is the share
    divided by the expert's share of all examples, and is 1 for an expert without a preference. ``harness experts``
    shows the shares beside the uniform line, with a test.

    Input: routing at the query [examples, experts, 1]. Output: activity [examples, units], 0 or 1; scores [units], a
    share in [0, 1], or a ratio.

    Errors: a subject whose units are not experts; a batch without the property; a domain that it does not have.
    Source: MoE Lens (arXiv 2603.05806), expert specialisation.
    """

    name: ClassVar[str] = "expert_specialisation"
    source: ClassVar[Source] = "routed"
    by: str = field(default="domain", metadata={"help": "property of the batch that says the domain of an example"})
    domain: str | None = field(default=None, metadata={"help": "which domain; null: that with the largest share"})
    score: Literal["share", "lift"] = field(
        default="share", metadata={"help": "the share, or the share divided by that of all examples"}
    )

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        return rows.values[:, :, 0]

    def __call__(self, recording: Recording) -> Activity:
        groups, routed = recording.batch.groups, recording.readings["signal"]
        if self.by not in groups:
            raise HarnessError(
                f"signal.by={self.by}: batch {recording.batch.name} does not have this property of its examples.",
                f"It has: {', '.join(groups) or 'none'}. Choose one, or another batch (batch=domains).",
            )
        of_example = np.asarray(groups[self.by]).astype(str)
        domains = list(dict.fromkeys(of_example)) if self.domain is None else [self.domain]
        if self.domain is not None and self.domain not in of_example:
            raise HarnessError(
                f"signal.domain={self.domain}: no example of batch {recording.batch.name} is of this domain.",
                f"Its domains: {', '.join(dict.fromkeys(of_example))}.",
            )
        scores = np.stack([routed[of_example == domain].mean(axis=0) for domain in domains]).max(axis=0)
        if self.score == "lift":
            usage = routed.mean(axis=0)
            scores = np.divide(scores, usage, out=np.zeros_like(scores), where=usage > 0)
        return Activity(routed, recording.units, own_scores=scores)


@hookimpl
def harness_signals() -> list[type[ExpertSpecialisation]]:
    return [ExpertSpecialisation]
