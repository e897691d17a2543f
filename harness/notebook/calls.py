"""The commands of the harness as functions: they take names or objects, and return results that show themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, overload

from harness.board.picture import AffinityPicture
from harness.cells.cell import Cell
from harness.cells.inputs import cache_of, load_subject, write_batch
from harness.cells.isolation import PUT_BACK, isolated, watch_models
from harness.data.batch import Batch, Vocabulary, Width
from harness.data.contracts import Subject
from harness.data.grouping import Candidate
from harness.execution import execute
from harness.notebook.choices import Words, cell_of, is_subject, merged, not_a_method
from harness.notebook.memory import LoadedSubject, remember
from harness.notebook.progress import Line, watching
from harness.notebook.results import ClosureResult, ProposalResult, RunResult, SweepResult
from harness.pipeline import run_cell
from harness.records.record import Record, Status
from harness.records.workspace import Workspace
from harness.registry import plugins
from harness.registry.config import expand, registry
from harness.util.cache import Cache, Memo
from harness.util.errors import HarnessError

if TYPE_CHECKING:
    from torch import nn

    from harness.engine.hooked import HookedSubject
    from harness.engine.sites import Site
    from harness.engine.subject import HeadSubject

Units = str | Iterable[str] | Iterable[int] | Candidate
"""A group: labels (``"L0H0,L0H7"`` or a list), positions in ``subject.units``, or a candidate of a proposal."""
STAYS = "The model is in memory and stays changed: load it again."

# ----------------------------------------------------------------------------------------------------------------------
# Making objects
# ----------------------------------------------------------------------------------------------------------------------


def method(stage: str, name: str, **parameters: Any) -> Any:
    """A method of a stage, its parameters checked: ``method("affinity", "ising", l2=0.01)``.

    Errors: an unknown stage, name or parameter; a value that is out of range or of the wrong type.
    """
    return registry().get(stage, name).build(parameters)


@overload
def subject(model: str, /, **parameters: Any) -> Subject: ...
@overload
def subject(
    model: nn.Module,
    tokenizer: Any = None,
    /,
    *,
    units: str | Iterable[str] = "heads",
    sites: Sequence[Site] = (),
    reads: Vocabulary | Width | None = None,
    label: str = "",
    memory: str = "auto",
) -> HeadSubject | HookedSubject: ...
def subject(model: Any, tokenizer: Any = None, /, **parameters: Any) -> Subject:
    """A subject: ``subject("tiny")`` by name, or ``subject(model, tokenizer)`` for a model that is in memory.

    The units of a causal language model of transformers are its attention heads, or those of other families:
    ``subject(model, units="mlp_neurons")``, ``units=["heads", "mlp_layers"]``. Those of any other torch module are at
    ``sites``: ``subject(module, sites=[Features("hidden", 0, labels, module.hidden)], reads=Width(12, 4))``.
    ``reads``: the vocabulary of a module of token ids, or the widths of one of vectors. ``label``: the name in results.
    ``memory``: how much memory a pass may use (``8GB``). Without a ``tokenizer``, batches of text cannot be made.

    A subject that is loaded by name is kept for the session.

    Errors: an unknown name or parameter; a model in training mode, or one whose attention cannot be intercepted; a
    module without sites.
    """
    if isinstance(model, str):
        cell = cell_of((), {"subject": (model, parameters)})
        with watching() as show:
            loaded = load_subject(cell, _memo(), Line(show=show))
        remember(loaded, cell.stages["subject"])
        return loaded
    from torch import nn

    from harness.engine.in_memory import subject_of

    if not isinstance(model, nn.Module):
        raise HarnessError(
            f"subject: a {type(model).__name__} is not a model.", "Give the name of a subject, or a torch module."
        )
    return subject_of(model, tokenizer, **parameters)


def batch(method: Any, subject: Subject, /, **parameters: Any) -> Batch:
    """Examples for a subject: ``batch("synthetic_induction", subject, n=64, seed=0)``.

    ``method``: a name, or an instance of a class (then without ``parameters``). A ``Batch`` of your own works wherever
    this one does.

    Errors: an unknown name or parameter; a batch that the subject cannot read.
    """
    made_by = cell_of((), {"batch": (method, parameters) if isinstance(method, str) else method}).stages["batch"]
    made = write_batch(made_by, subject.reads, subject.label)
    made.check(subject.reads)
    remember(made, made_by)
    return made


# ----------------------------------------------------------------------------------------------------------------------
# Running cells
# ----------------------------------------------------------------------------------------------------------------------


@overload
def close(subject: Subject, units: Units, batch: Any = ..., /, *words: Words, **choices: Any) -> ClosureResult: ...
@overload
def close(units: str | Iterable[str], /, *words: Words, **choices: Any) -> ClosureResult: ...
def close(*arguments: Any, **choices: Any) -> ClosureResult:
    """The closure test of a group: ``close(subject, "L0H0,L0H7,L1H2", batch, intervention="mean", metric=["loss"])``.

    ``units``: labels, positions in ``subject.units``, or a candidate of a proposal. ``choices``: methods by stage and
    settings by name, as in :func:`run`. ``close("L0H0,L0H7", "batch.n=128")`` takes words of the command line.

    Nothing is kept on disk, unless ``workspace=`` names a folder: the record is then the one of ``harness close``.

    Errors: all errors that make the cell invalid, and those that a method raises.
    """
    places = ("subject", "units", "batch") if is_subject(next(iter(arguments), None)) else ("units",)
    words, choices = _placed(arguments, places, choices)
    if not (units := choices.pop("units", ())):
        raise HarnessError("close needs the units of a group.", 'Example: close(subject, "L0H0,L0H7", batch)')
    task = _Task.of(words, {**choices, "group": _labels(units, choices.get("subject"))}, kept=False)
    if task.workspace is None:
        with watching() as show, _session(task, Line(show=show)) as (memo, progress):
            record = run_cell(task.cell, memo, progress).record
    else:
        record = _records([task])[0]
        if record.status is not Status.OK:
            failed = record.status is Status.FAILED
            trace = f"The traceback is in {task.workspace.folder(task.cell.id)}." if failed else ""
            raise HarnessError(record.reason, trace)
    return ClosureResult(record.closure[0], record)


@overload
def propose(subject: Subject, batch: Any = ..., /, *words: Words, **choices: Any) -> ProposalResult: ...
@overload
def propose(*words: Words, **choices: Any) -> ProposalResult: ...
def propose(*arguments: Any, **choices: Any) -> ProposalResult:
    """Groups of units: ``propose(subject, batch, affinity="pearson", partitioner=("spectral", {"k": [4, 8]}))``.

    ``choices``: as in :func:`run`. ``propose("affinity=pearson")`` takes words of the command line. No record is kept;
    ``workspace=`` names a folder whose cache is used.

    Errors: all errors that make the cell invalid; a group named by hand, for which nothing is proposed.
    """
    places = ("subject", "batch") if is_subject(next(iter(arguments), None)) else ()
    words, choices = _placed(arguments, places, choices)
    task = _Task.of(words, choices, kept=False)
    if task.cell.settings.group:
        raise HarnessError("propose: the group is named by hand, so nothing is proposed.", "Leave out group=...")
    with watching() as show, _session(task, Line(show=show)) as (memo, progress):
        result = run_cell(task.cell, memo, progress, test=False)
    return ProposalResult(result.proposals, result.record)


def run(*configs: Words, **choices: Any) -> RunResult:
    """Propose groups and test the best ones: ``run(subject=subject, batch=batch, affinity="ising", alpha=0.01)``.

    ``configs``: words of the command line (``run("affinity=ising", "batch.n=128")``), or mappings such as
    ``{"affinity": "ising", "batch": {"name": "natural_text", "n": 64}}``. ``choices``: methods by stage and settings by
    name. A method is a name, a name with parameters (``("ising", {"l2": 0.1})``), or an instance of a class; for
    ``metric`` and ``transform``, a list of these.

    The record is kept in ``workspace`` (default ``runs``), as ``harness run`` keeps it, and a finished one is returned
    from there. With ``workspace=None`` nothing is kept.

    Errors: all errors that make the cell invalid. A method that raises gives a result whose status is ``failed``.
    """
    record = _records([_Task.of(configs, choices, kept=True)])[0]
    if record.status is Status.INVALID:
        raise HarnessError(record.reason)
    return RunResult(record)


def sweep(configs: Iterable[Words | Sequence[str]], **common: Any) -> SweepResult:
    """Run several cells: ``sweep([{"affinity": "ising", "seed": seed} for seed in range(3)], batch=batch)``.

    ``configs``: a mapping per cell, or words of the command line, where commas make a grid
    (``["affinity=ising,pearson"]``). ``common``: choices that all cells share. All cells are built before the first one
    runs, so a typo is found at once. A cell that fails is a result with that status, and the other cells continue.
    Records are kept as by :func:`run`.
    """
    tasks = [_Task.of(words, common, kept=True) for words in _grid(configs)]
    return SweepResult(tuple(map(RunResult, _records(tasks))))


def _grid(configs: Iterable[Words | Sequence[str]]) -> Iterator[Sequence[Words]]:
    """The words or the mapping of every cell."""
    for config in configs:
        if isinstance(config, Mapping):
            yield [config]
        else:
            yield from expand([config] if isinstance(config, str) else config, registry())


def _placed(
    arguments: Sequence[Any], places: Sequence[str], choices: Mapping[str, Any]
) -> tuple[Sequence[Words], dict[str, Any]]:
    """The words among the arguments of a call, and its choices: the first arguments have these places."""
    words = arguments[len(places) :]
    if not all(isinstance(word, str | Mapping) for word in words):
        raise not_a_method("subject", arguments[0])
    return words, {**dict(zip(places, arguments, strict=False)), **choices}


def _labels(units: Any, subject: Any) -> list[str]:
    """The labels of a group."""
    if isinstance(units, str):
        return units.split(",")
    if not isinstance(units, Iterable | Candidate):
        raise not_a_method("subject", units)
    members = list(units.members if isinstance(units, Candidate) else units)
    if all(isinstance(member, str) for member in members):
        return members
    if not is_subject(subject):
        raise HarnessError("close: positions of units need a subject.", "Type: close(subject, units, batch)")
    return list(subject.units.names(members))


# ----------------------------------------------------------------------------------------------------------------------
# One Python session
# ----------------------------------------------------------------------------------------------------------------------


@cache
def _memo() -> Memo:
    """What cells of this session share: the subject that was used last, its batches and recordings."""
    return Memo()


@dataclass(frozen=True)
class _Task:
    """A cell to run, the workspace that keeps its record (None: it is not kept), and its subject if it is loaded."""

    cell: Cell
    workspace: Workspace | None
    loaded: Subject | None

    @classmethod
    def of(cls, configs: Sequence[Words], choices: Mapping[str, Any], *, kept: bool) -> _Task:
        """What these configurations describe. ``kept``: the record is kept where no workspace is named."""
        words, chosen = merged(configs, choices)
        cell = cell_of(words, chosen)
        if "workspace" in chosen:
            kept = chosen["workspace"] is not None
        elif any(word.startswith("workspace=") for word in words):
            kept = True
        subject = chosen.get("subject")
        return cls(
            cell, Workspace.at(cell.settings.workspace) if kept else None, subject if is_subject(subject) else None
        )


@contextmanager
def _session(task: _Task, progress: Line) -> Iterator[tuple[Memo, Line]]:
    """Run a cell inside: with the subject of this session, and isolated from other cells."""
    memo, made_by = _memo(), task.cell.stages["subject"]
    memo.disk = Cache() if task.workspace is None else cache_of(task.cell)
    if task.loaded is not None:
        watch_models(task.loaded, STAYS if isinstance(made_by, LoadedSubject) else PUT_BACK)
        memo.get("subject", repr(made_by), lambda: task.loaded, keep=1)
    with isolated(task.cell, memo, progress.warn):
        yield memo, progress


def _records(tasks: Sequence[_Task]) -> list[Record]:
    """Run cells to their records, whatever their status."""
    available, records = plugins.load(), []
    with watching() as show:
        for number, task in enumerate(tasks, 1):
            place = f"cell {number} of {len(tasks)}  " if len(tasks) > 1 else ""
            with (
                _session(task, Line(show=show, prefix=place)) as (memo, progress),
                available.watched_by(AffinityPicture(memo.disk), "affinity picture"),
            ):
                records.append(execute(task.cell, task.workspace, available, memo, progress))
    return records
