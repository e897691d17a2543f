"""What methods request of a subject: a request for what it does not have is refused, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from harness.data.contracts import Intervention, Subject
from harness.data.recording import ROUTER, Reader
from harness.data.stages import inputs_of
from harness.util.errors import HarnessError


def check_gives(subject: Subject, intervention: Intervention) -> None:
    """Refuse an intervention that asks for something the subject does not give."""
    for name in inputs_of(type(intervention)):
        if name not in subject.gives:
            raise HarnessError(
                f"intervention {intervention.name} asks for '{name}', which subject {subject.label} does not give.",
                f"It gives: {', '.join(sorted(subject.gives)) or 'nothing'}. Choose another intervention "
                "(`harness list intervention`).",
            )


def check_sources(subject: Subject, readers: Mapping[str, Reader]) -> None:
    """Refuse readers of a source that the subject does not have."""
    for name, reader in readers.items():
        if reader.source not in subject.sources:
            has = ", ".join(subject.sources) or "nothing"
            other = f"Choose a {name} that reads one of these (harness list {name})"
            experts = "; only mixtures of experts have routers (subject=tiny_moe)"
            raise HarnessError(
                f"{name} reads '{reader.source}', which subject {subject.label} does not have.",
                f"It has: {has}. {other}{experts if reader.source == ROUTER else ''}.",
            )


def check_signal_of_units(subject: Subject, readers: Mapping[str, Reader]) -> None:
    """Refuse a signal of experts where units are others: it has no number for them."""
    others = [unit.label for unit in subject.units.units if unit.family != "expert"]
    if others and "signal" in readers and readers["signal"].source == ROUTER:
        raise HarnessError(
            f"signal reads '{ROUTER}', which gives one number per expert; units of subject {subject.label} are others "
            f"({others[0]}).",
            "Choose a signal of its units (harness list signal). Routers divide the examples: stratifier=routes",
        )
