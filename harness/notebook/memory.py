"""Subjects and batches that are in memory, as parts of a cell: their identity is their content."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ReferenceType, ref

from harness.data.batch import Batch
from harness.data.contracts import BatchMethod, Subject, SubjectMethod
from harness.util.digest import digest
from harness.util.errors import HarnessError
from harness.util.fingerprint import Digested, code_of

if TYPE_CHECKING:
    import torch

SHOWN = 12
"""How many characters of a digest names show."""
UNRELATED = frozenset({"architectures", "dtype", "transformers_version"})
"""Keys of a model's configuration that say how it was saved, not what it computes."""


@dataclass(frozen=True)
class LoadedSubject(SubjectMethod):
    """A subject that is in memory. Two of equal weights, class and units are the same subject."""

    name: ClassVar[str] = "in_memory"
    digest: str = field(default="", metadata={"help": "digest of the weights, class and units", "by_content": True})
    loaded: Any = field(default=None, repr=False, compare=False, metadata={"neutral": True})

    def __call__(self) -> Subject:
        subject: Subject = self.loaded
        return subject

    def fingerprint(self) -> str:
        """Digest of the subject and of the code that records and ablates it."""
        return f"{self.digest} {code_of(type(self.loaded))}"


@dataclass(frozen=True)
class LoadedBatch(BatchMethod):
    """A batch that is in memory. Two of equal content are the same batch."""

    name: ClassVar[str] = "in_memory"
    n: int | None = field(default=None, metadata={"help": "number of examples"})
    digest: str = field(default="", metadata={"help": "digest of the examples", "by_content": True})
    loaded: Any = field(default=None, repr=False, compare=False, metadata={"neutral": True})

    def __call__(self) -> Batch:
        batch: Batch = self.loaded
        return batch

    def fingerprint(self) -> str:
        """Digest of the examples."""
        return self.digest


def subject_digest(subject: Subject) -> str:
    """Digest of a subject: its own, if it has one; otherwise class, units, configuration, structure and weights.

    Errors: a subject that has neither a digest nor a model.
    """
    if isinstance(subject, Digested):
        return subject.digest
    if subject.model is None:
        raise HarnessError(
            f"subject {subject.label} has no model, so nothing identifies it.",
            f"Give {type(subject).__name__} a property `digest`: equal digests mean equal results.",
        )
    model = subject.model
    config: dict[str, Any] = getattr(getattr(model, "config", None), "to_dict", dict)()
    described = {key: value for key, value in config.items() if key not in UNRELATED and not key.startswith("_")}
    weights = [part for name, tensor in model.state_dict().items() for part in (name, _bytes(tensor))]
    sites = [part for site in getattr(subject, "sites", ()) for part in _parts_of_site(site, model)]
    return digest(type(subject).__qualname__, subject.units.digest, described, repr(model), *weights, *sites)


def _parts_of_site(site: Any, model: torch.nn.Module) -> Iterator[Any]:
    """What decides the values of a site: its code, its place in the model, and its parameters."""
    from torch import Tensor, nn

    yield from (type(site).__qualname__, code_of(type(site)))
    for parameter in dataclasses.fields(site):
        value = getattr(site, parameter.name)
        if isinstance(value, nn.Module):
            yield [name for name, module in model.named_modules() if module is value]
            yield from (_bytes(tensor) for tensor in value.state_dict().values())
        elif isinstance(value, Digested):
            yield value.digest
        else:
            yield _bytes(value) if isinstance(value, Tensor) else repr(value)


def _bytes(tensor: torch.Tensor) -> Any:
    """The content of a tensor of any type, as bytes."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


# ----------------------------------------------------------------------------------------------------------------------
# Objects that were made by name: their cells are those of the command line
# ----------------------------------------------------------------------------------------------------------------------

_made: dict[int, tuple[ReferenceType[Any], Any, str]] = {}


def remember(made: Subject | Batch, method: SubjectMethod | BatchMethod) -> None:
    """Note which method made an object, and the state of the object at that time."""
    key = id(made)
    _made[key] = ref(made, lambda _: _made.pop(key, None)), method, _state(made)


def method_of(loaded: Subject | Batch) -> SubjectMethod | BatchMethod:
    """The method that gives an object: the one that made it, or one that holds it if it has changed since."""
    _, method, state = _made.get(id(loaded), (None, None, None))
    if method is not None and _state(loaded) == state:
        made: SubjectMethod | BatchMethod = method
        return made
    if isinstance(loaded, Batch):
        return LoadedBatch(len(loaded), _state(loaded)[:SHOWN], loaded)
    return LoadedSubject(subject_digest(loaded)[:SHOWN], loaded)


def _state(made: Subject | Batch) -> str:
    """Changes with everything in an object that a user can change."""
    if isinstance(made, Batch):
        groups = {name: values.tolist() for name, values in made.groups.items()}
        return digest(made.digest, groups) if groups else made.digest
    return "" if made.model is None else subject_digest(made)
