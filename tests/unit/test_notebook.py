"""The harness from Python: objects instead of names, the cells they make, and results that show themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

import harness
from harness import (
    Affinity,
    AffinityMethod,
    Batch,
    Columns,
    Features,
    HarnessError,
    Metric,
    Spins,
    Status,
    Tokens,
    Vectors,
    Verdict,
    Width,
    Workspace,
)
from harness.cells.cell import Cell
from harness.notebook import calls
from harness.notebook.choices import cell_of
from harness.notebook.memory import LoadedSubject, method_of, subject_digest
from harness.notebook.progress import Line
from harness.registry.config import registry, resolve
from harness.util.fingerprint import code_of

pytestmark = pytest.mark.unchecked

WORDS = ("subject=planted", "subject.noise=0.0", "batch=planted", "batch.n=128", "controls.n=39", "reruns=1")
CHOICES: dict[str, Any] = {"controls": ("layer_matched", {"n": 39}), "reruns": 1}


@dataclass(frozen=True)
class Covariance(AffinityMethod):
    """Absolute covariance of spins, plus a matrix."""

    name: ClassVar[str] = "covariance"
    extra: Any = field(default=0)

    def __call__(self, spins: Spins) -> Affinity:
        matrix = np.abs(np.cov(spins.values.T)) + self.extra
        np.fill_diagonal(matrix, 0)
        return Affinity(matrix, spins.units)


@dataclass(frozen=True)
class Constant(Metric):
    """A metric that no ablation changes."""

    name: ClassVar[str] = "constant"
    damage: ClassVar[int] = -1  # type: ignore[assignment]

    def __call__(self, prediction: Any) -> torch.Tensor:
        return torch.zeros(len(prediction.logits))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new folder and a new session, so that a test sees what it writes and loads."""
    monkeypatch.chdir(tmp_path)
    calls._memo.cache_clear()
    yield
    calls._memo.cache_clear()


@pytest.fixture
def planted() -> Any:
    """A planted world, by name."""
    return harness.subject("planted", noise=0.0)


@pytest.fixture
def examples(planted: Any) -> Batch:
    """Examples of the planted world, by name."""
    return harness.batch("planted", planted, n=128)


@pytest.fixture
def build(architectures: Any) -> Callable[[], Any]:
    """A small model of transformers; every call builds an equal one."""
    return architectures["llama_gqa"].build


def from_words(*words: str) -> Cell:
    return Cell.of(resolve(words, registry()), registry())


# ----------------------------------------------------------------------------------------------------------------------
# Choices
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"affinity": "pearson"}, ["affinity=pearson"]),
        ({"affinity": ("ising", {"l2": 0.1})}, ["affinity.l2=0.1"]),
        ({"affinity": {"name": "ising", "l2": 0.1}}, ["affinity.l2=0.1"]),
        ({"affinity": {"l2": 0.1}}, ["affinity.l2=0.1"]),
        ({"affinity.l2": 0.1}, ["affinity.l2=0.1"]),
        ({"affinity": harness.method("affinity", "ising", l2=0.1)}, ["affinity.l2=0.1"]),
        ({"metric": "loss"}, ["metric=[loss]"]),
        ({"metric": ["accuracy", "loss"]}, ["metric=[accuracy,loss]"]),
        ({"metric": [harness.method("metric", "accuracy"), "loss"]}, ["metric=[accuracy,loss]"]),
        ({"metric": {"accuracy": {}, "loss": None}}, ["metric=[accuracy,loss]"]),
        ({"transform": ["standardize"]}, ["transform=[standardize]"]),
        ({"transform": []}, []),
        ({"contrast": ("natural_text", {"n": 9})}, ["batch@contrast=natural_text", "contrast.n=9"]),
        ({"contrast": None}, []),
        ({"partitioner": ("spectral", {"k": (4, 8)})}, ["partitioner.k=[4,8]"]),
        ({"subject": "pythia-160m"}, ["subject=pythia-160m"]),
        (
            {"alpha": 0.01, "group": ["L0H0"], "futility": None},
            ["alpha=0.01", "group=[L0H0]", "futility=null"],
        ),
    ],
)
def test_a_choice_in_any_form_makes_the_cell_of_the_command_line(choices: dict[str, Any], words: list[str]) -> None:
    assert cell_of((), choices).id == from_words(*words).id
    assert cell_of((), choices).command == from_words(*words).command


def test_the_configuration_of_a_cell_makes_the_same_cell() -> None:
    cell = from_words("affinity=pearson", "metric=[loss,accuracy]", "transform=[standardize]", "batch@contrast=planted")
    assert cell_of((), cell.config).id == cell.id


def test_a_class_of_the_user_has_an_identity_with_its_parameters_and_no_command() -> None:
    cell = cell_of((), {"affinity": Covariance()})
    assert cell.describe("affinity") == "covariance"
    assert cell.id == cell_of((), {"affinity": Covariance()}).id
    assert cell.id != cell_of((), {"affinity": Covariance(extra=1)}).id
    assert cell.command == "# run from Python, with objects in memory: affinity covariance"


def test_an_array_is_a_parameter_by_its_content() -> None:
    first, second, other = (cell_of((), {"affinity": Covariance(np.full(3, n))}) for n in (1, 1, 2))
    assert first.id == second.id != other.id
    json.dumps(first.config)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"afinity": "ising"}, "afinity"),
        ({"affinity": "isng"}, "ising"),
        ({"affinity": ("ising", {"lambda": 1})}, "lambda"),
        ({"affinity": Covariance}, r"Covariance is a class[^$]*Covariance\(\)"),
        ({"affinity": 3}, "int is not a method"),
        ({"affinity": Covariance(extra=len)}, "affinity.extra"),
        ({"metric": [Constant(), Constant()]}, "same name"),
        ({"subject": torch.nn.Linear(2, 2)}, r"Linear is not a subject[^$]*harness\.subject"),
        ({"affinity": Constant()}, "not a method|asks|argument"),
    ],
)
def test_a_wrong_choice_is_a_sentence(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        cell_of((), choices)


def test_parameters_of_an_instance_are_checked() -> None:
    ising = type(harness.method("affinity", "ising"))
    with pytest.raises(HarnessError, match=r"affinity\.l2=-1"):
        cell_of((), {"affinity": ising(l2=-1.0)})


def test_a_class_that_was_typed_into_a_session_is_digested_by_what_it_computes() -> None:
    def typed(body: str, at: int = 1) -> type:
        names: dict[str, Any] = {"__name__": "__main__"}
        text = (
            "\n" * at
            + f"class Mine:\n    name = 'mine'\n    def __call__(self, x):\n        return [{body} for y in x]\n"
        )
        exec(compile(text, f"<cell {at}>", "exec"), names)
        cls: type = names["Mine"]
        return cls

    assert code_of(typed("y + 1")) == code_of(typed("y + 1", at=7))
    assert len({code_of(typed(body)) for body in ("y + 1", "y + 2", "y - 1", "len(y)")}) == 4


# ----------------------------------------------------------------------------------------------------------------------
# Objects in memory
# ----------------------------------------------------------------------------------------------------------------------


def test_objects_made_by_name_make_the_record_of_the_command_line(
    planted: Any, examples: Batch, tmp_path: Path
) -> None:
    by_objects = harness.run(subject=planted, batch=examples, workspace=tmp_path / "a", **CHOICES)
    by_words = harness.run(*WORDS, f"workspace={tmp_path / 'b'}")
    assert by_objects.id == by_words.id
    for result, name in ((by_objects, "a"), (by_words, "b")):
        assert Workspace.at(tmp_path / name).find(result.id) == result.record
    assert by_objects.record.closure == by_words.record.closure
    group = planted.units.names(planted.groups["serial"][0])
    closed = harness.close(planted, group, examples, workspace=tmp_path / "a", **CHOICES)
    cell = from_words(*WORDS, f"group=[{','.join(group)}]")
    assert Workspace.at(tmp_path / "a").find(cell.id) == closed.record


def test_equal_models_are_one_subject_and_a_changed_weight_makes_another(build: Callable[[], Any]) -> None:
    first, second = harness.subject(build()), harness.subject(build(), label="another name")
    ids = [cell_of((), {"subject": subject}).id for subject in (first, second)]
    assert ids[0] == ids[1]
    with torch.no_grad():
        second.model.lm_head.weight.data[3, 5] += 1e-3  # .data: torch's own version counter does not see it
    assert cell_of((), {"subject": second}).id != ids[0]
    assert cell_of((), {"subject": second}).describe("subject").startswith("another name(digest=")


def test_the_digest_reads_every_dtype(build: Callable[[], Any]) -> None:
    digests = {subject_digest(harness.subject(build().to(dtype))) for dtype in (torch.float32, torch.bfloat16)}
    assert len(digests) == 2


def test_a_subject_by_name_whose_weights_changed_is_no_longer_that_of_the_name() -> None:
    tiny = harness.subject("tiny")
    assert type(method_of(tiny)).__name__ == "Tiny"
    weight = next(tiny.model.parameters())
    kept = weight.data.clone()
    weight.data.zero_()
    assert isinstance(method_of(tiny), LoadedSubject)
    weight.data.copy_(kept)
    assert type(method_of(tiny)).__name__ == "Tiny"


def test_a_subject_is_loaded_once_in_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = type(harness.method("subject", "planted"))
    load, loads = cls.__call__, []
    monkeypatch.setattr(cls, "__call__", lambda self: loads.append(self) or load(self))
    subject = harness.subject("planted", noise=0.0)
    batch = harness.batch("planted", subject, n=32)
    harness.propose(subject, batch, reruns=1)
    harness.propose(*WORDS)
    harness.close(subject, [0, 1], batch, controls=("uniform", {"n": 9}))
    assert len(loads) == 1


def test_a_model_in_memory_gives_the_numbers_of_the_same_model_on_disk(saved: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(saved)
    subject = harness.subject(model)
    assert subject.label == "llama-mini"
    batch = Tokens(
        "mine",
        np.random.default_rng(0).integers(3, 48, (12, 9)),
        np.full(12, 8),
        np.arange(12),
        {"self": np.full((12, 1), 8)},
        "random",
    )
    choices: dict[str, Any] = {"controls": ("uniform", {"n": 9}), "intervention": "mean", "metric": ["loss"]}
    here = harness.close(subject, "L0H0,L2H1", batch, **choices)
    there = harness.close("L0H0,L2H1", subject=("hf", {"path": str(saved)}), batch=batch, **choices)
    assert here.report == there.report
    positions = harness.close(subject, subject.units.find(["L0H0", "L2H1"]), batch, **choices)
    assert positions.report == here.report


def test_a_tokenizer_reads_text_without_special_tokens(saved: Path, build: Callable[[], Any]) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(saved)
    assert harness.subject(build(), tokenizer).reads.encode("the cat sat") == [1, 2, 3]
    assert harness.subject(build()).reads.encode is None


def test_what_cannot_be_a_subject_is_a_sentence(build: Callable[[], Any]) -> None:
    with pytest.raises(HarnessError, match=r"training mode[^$]*model\.eval\(\)"):
        harness.subject(build().train())
    with pytest.raises(HarnessError, match=r"Linear is not a model of transformers[^$]*sites="):
        harness.subject(torch.nn.Linear(2, 2))
    with pytest.raises(HarnessError, match="needs the units"):
        harness.close(harness.subject(build()))
    with pytest.raises(HarnessError, match="Linear is not a subject"):
        harness.close(torch.nn.Linear(2, 2), [0, 1])
    with pytest.raises(HarnessError, match="need a subject"):
        harness.close([0, 1], "batch.n=4")


def test_a_method_that_changes_a_model_in_memory_is_reported(build: Callable[[], Any]) -> None:
    subject = harness.subject(build())

    @dataclass(frozen=True)
    class Careless(Metric):
        """It leaves a hook in the model."""

        name: ClassVar[str] = "careless"
        damage: ClassVar[int] = -1  # type: ignore[assignment]

        def __call__(self, prediction: Any) -> torch.Tensor:
            subject.model.register_forward_hook(lambda *_: None)
            return prediction.logits[:, 0]

    batch = Tokens("mine", np.ones((4, 5), dtype=int), np.full(4, 4), np.arange(4), {}, "random")
    with pytest.warns(UserWarning, match=r"changed the model[^$]*stays changed"):
        harness.close(subject, "L0H0", batch, metric=[Careless()], controls=("uniform", {"n": 3}))


def test_nothing_is_written_without_a_workspace(planted: Any, examples: Batch, tmp_path: Path) -> None:
    harness.close(planted, [0, 1], examples, **CHOICES)
    harness.propose(planted, examples, reruns=1)
    result = harness.run(subject=planted, batch=examples, workspace=None, **CHOICES)
    assert result.status is Status.OK
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_method_is_raised_as_it_is_or_kept_in_the_record(planted: Any, examples: Batch) -> None:
    @dataclass(frozen=True)
    class Broken(AffinityMethod):
        """It fails."""

        name: ClassVar[str] = "broken"

        def __call__(self, spins: Spins) -> Affinity:
            raise ZeroDivisionError("by nothing")

    with pytest.raises(ZeroDivisionError, match="by nothing"):
        harness.propose(planted, examples, affinity=Broken())
    swept = harness.sweep([{"affinity": Broken()}, {"affinity": "pearson"}], subject=planted, batch=examples, reruns=1)
    assert [result.status for result in swept] == [Status.FAILED, Status.OK]
    assert swept[0].reason == "ZeroDivisionError: by nothing"
    with pytest.raises(HarnessError, match="tested nothing: ZeroDivisionError"):
        swept[0].plot()


@pytest.fixture
def classifier() -> torch.nn.Module:
    """Three inputs, four hidden neurons, two outputs; the second neuron carries the whole answer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    with torch.no_grad():
        model[2].weight[:] = torch.tensor([[0.0, 4.0, 0.1, 0.0], [0.0, -4.0, 0.0, 0.1]])
    return model.eval()


def neurons(module: torch.nn.Module, site: type = Features) -> list[Any]:
    return [site("hidden", 0, [f"hidden:{i}" for i in range(4)], module)]


def test_any_module_with_sites_is_a_subject_and_its_batch_is_the_users(classifier: torch.nn.Module) -> None:
    subject = harness.subject(classifier, sites=neurons(classifier[1]), reads=Width(3, 2), label="classifier")
    inputs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    batch = Vectors("mine", inputs, np.arange(40) % 2, "class")
    report = harness.close(subject, ["hidden:1"], batch, controls=("uniform", {"n": 3}), metric="target_logit").report
    with torch.no_grad():
        hidden = classifier[:2](torch.from_numpy(inputs))
        without = hidden * torch.tensor([1.0, 0.0, 1.0, 1.0])
        change = classifier[2](without) - classifier[2](hidden)
    expected = float(change[torch.arange(40), torch.arange(40) % 2].mean())
    assert report.effects["target_logit"].delta == pytest.approx(expected, abs=1e-5)
    with pytest.raises(HarnessError, match="numbers per example"):
        harness.close(subject, ["hidden:1"], Vectors("wide", inputs[:, [0, 1, 2, 2]], np.zeros(40, dtype=int), "class"))


def test_a_site_of_another_kind_or_place_is_another_subject(classifier: torch.nn.Module) -> None:
    def digest_of(sites: list[Any]) -> str:
        return subject_digest(harness.subject(classifier, sites=sites, reads=Width(3, 2)))

    at_output, at_input = neurons(classifier[1]), neurons(classifier[2], Columns)
    assert digest_of(at_output) == digest_of(neurons(classifier[1]))
    assert len({digest_of(sites) for sites in (at_output, at_input, neurons(classifier[0]))}) == 3


# ----------------------------------------------------------------------------------------------------------------------
# Results
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(planted: Any, examples: Batch) -> harness.ClosureResult:
    """The test of a planted circuit."""
    return harness.close(planted, planted.units.names(planted.groups["serial"][0]), examples, **CHOICES)


def test_a_frame_holds_the_numbers_of_the_report(closed: harness.ClosureResult) -> None:
    assert closed.verdict is Verdict.PASS
    frame = closed.to_frame()
    assert list(frame.index) == list(closed.report.effects)
    for name, effect in closed.report.effects.items():
        row = frame.loc[name]
        assert row["effect"] == effect.delta == pytest.approx(row["ablated"] - row["baseline"])
        assert (row["low"], row["high"]) == effect.interval
        controls = sorted(effect.controls)
        assert row["controls_low"] == pytest.approx(np.quantile(controls, 0.05))
        assert row["controls_high"] == pytest.approx(np.quantile(controls, 0.95))
        assert row["p_corrected"] == effect.p_adjusted


def test_a_figure_shows_the_effect_where_it_is(closed: harness.ClosureResult) -> None:
    from matplotlib import pyplot

    axes = closed.plot()
    try:
        assert len(axes) == len(closed.effects)
        assert pyplot.gcf() is axes[0].figure  # pyplot knows it, so a notebook shows it
        primary = next(iter(closed.effects.values()))
        diamond = next(line for line in axes[0].lines if line.get_marker() == "D")
        assert list(diamond.get_xdata()) == [primary.delta]
        assert sorted(axes[0].collections[0].get_offsets()[:, 0]) == pytest.approx(sorted(primary.controls))
    finally:
        pyplot.close("all")


def test_the_element_of_a_notebook_is_the_card_and_a_figure_and_loads_nothing(closed: harness.ClosureResult) -> None:
    html = closed._repr_html_()
    assert html.index("chip pass") < html.index(closed.units[0]) < html.index("<svg")
    assert closed.reason in html.replace("&#39;", "'")
    assert not re.search(r"""(src|href)=["']?(https?:)?//|<script""", html)
    assert str(closed) == repr(closed) == closed.card
    assert closed.card.splitlines()[1].startswith("PASS")


def test_a_proposal_is_a_table_of_units(planted: Any, examples: Batch) -> None:
    proposal = harness.propose(planted, examples, reruns=1)
    frame = proposal.to_frame()
    assert list(frame.index) == list(planted.units.labels)
    assert list(frame["group"]) == list(proposal.partition.labels)
    first = proposal.candidates[0].members
    assert [planted.units.labels[unit] for unit in first] == list(frame.index[frame["candidate"] == 1])
    axes = proposal.plot()
    shown = axes.images[0].get_array()
    order = [
        unit
        for group in sorted(proposal.partition.groups(), key=lambda g: (tuple(g) != first, -len(g), g))
        for unit in group
    ]
    assert np.allclose(shown, proposal.affinity.matrix[np.ix_(order, order)])
    assert "<svg" in proposal._repr_html_()
    assert harness.close(planted, proposal.candidates[0], examples, **CHOICES).units == tuple(
        planted.units.names(first)
    )


def test_a_sweep_is_a_sequence_a_table_and_an_element(planted: Any, examples: Batch, tmp_path: Path) -> None:
    names = ["pearson", "cosine"]
    results = harness.sweep([{"affinity": name} for name in names], subject=planted, batch=examples, **CHOICES)
    assert len(results) == 2
    assert [result.id for result in results] == [
        harness.run(*WORDS, f"affinity={name}", f"workspace={tmp_path / 'runs'}").id for name in names
    ]
    words = harness.sweep([[*WORDS, "affinity=pearson,cosine"]])
    assert words == results
    assert isinstance(results[:1], harness.SweepResult)
    frame = results.to_frame()
    tests = sum(len(closure.effects) for result in results for closure in result.closure)
    assert len(frame) == tests
    assert set(frame["cell"]) == {result.id for result in results}
    html = results._repr_html_()
    assert all(result.id in html for result in results)
    assert len(str(results).splitlines()) == 2


def test_a_name_in_a_result_cannot_break_the_page(closed: harness.ClosureResult) -> None:
    from dataclasses import replace

    cell = replace(closed.record.cell, subject="<script>alert(1)</script>")
    assert "<script" not in replace(closed, record=replace(closed.record, cell=cell))._repr_html_()


# ----------------------------------------------------------------------------------------------------------------------
# Progress
# ----------------------------------------------------------------------------------------------------------------------


def test_the_line_shows_the_step_and_its_share_and_times_are_kept() -> None:
    shown: list[str] = []
    progress = Line(prefix="cell 2 of 3  ", show=shown.append)
    with progress.step("closure", "30 groups", total=4) as tick:
        tick(4)
    assert shown[0] == "cell 2 of 3  closure: 30 groups  0 %"
    assert progress.seconds["closure"] > 0
    with pytest.warns(UserWarning, match="careful"):
        progress.warn("careful")


def test_nothing_is_printed_where_nobody_watches(
    planted: Any, examples: Batch, capfd: pytest.CaptureFixture[str]
) -> None:
    harness.propose(planted, examples, reruns=1)
    assert capfd.readouterr() == ("", "")
