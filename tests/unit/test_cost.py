"""The estimated cost of cells against counted FLOPs, published sizes, and general properties of an estimate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.cells.cell import Cell
from harness.data.batch import Batch
from harness.data.contracts import Intervention
from harness.data.recording import Reader, Rows, Source
from harness.data.tokens import Tokens
from harness.engine.flops import Work, closure, forward_pass, with_gradient
from harness.engine.shapes import PUBLISHED, Shapes, of_config, shapes_of
from harness.engine.subject import HeadSubject
from harness.forecast.estimate import budget_of, estimate, shapes_of_cell, work_of
from harness.forecast.machine import GPUS, REFERENCE, Machine, measured
from harness.forecast.steps import Span, Step, total
from harness.registry.config import registry, resolve
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

pytestmark = pytest.mark.unchecked

SHARING_LESS = {"gpt_bigcode", "qwen3_5_hybrid"}  # they share less than others, which only the loaded model tells
CPU, (_, A100, H100) = Machine("here", 16 * 10**9), GPUS


@dataclass(frozen=True)
class SilenceAtTheQuery(Intervention):
    """An ablated head writes zeros at the query."""

    name: ClassVar[str] = "silence_at_the_query"
    positions: ClassVar[str] = "query"

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(())


@dataclass(frozen=True)
class Drops(Reader):
    """Reads first-order effects."""

    source: ClassVar[Source] = "first_order"

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values


def counted(model: torch.nn.Module, work) -> int:
    """FLOPs that torch counts; attention and experts in products that it knows how to count."""
    model.set_experts_implementation("eager")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def even_batch(examples: int, length: int) -> Batch:
    tokens = rng_for(0, "tokens of a test").integers(3, 48, (examples, length))
    anchors = {"first-token": np.zeros((examples, 1), dtype=np.int64)}
    return Tokens("even", tokens, np.full(examples, length - 1), tokens[:, 0], anchors, "any")


def cell(*overrides: str) -> Cell:
    methods = registry()
    return Cell.of(resolve(list(overrides), methods), methods)


@pytest.mark.parametrize("tokens_per_pass", [150, 4096], ids=["many passes", "one pass"])
@pytest.mark.parametrize("at_query", [False, True], ids=["everywhere", "at the query"])
def test_flops_of_a_closure_test_are_those_that_torch_counts(
    architecture, request, silence, every_logit, at_query, tokens_per_pass
):
    if request.node.callspec.params["architecture"] in SHARING_LESS:
        pytest.skip("it shares less of the work")
    model = architecture.build()
    subject = HeadSubject(model, "test", tokens_per_pass=tokens_per_pass)
    rng = rng_for(1, "conditions of a test")
    groups = [tuple(sorted(rng.permutation(16)[:3].tolist())) for _ in range(9)]
    conditions = [(), *groups, (15,), (0,), tuple(range(16)), (0, 1)]
    batch, intervention = even_batch(7, 12), SilenceAtTheQuery() if at_query else silence
    shapes = of_config(model.config.to_dict())
    expected = closure(shapes, 7, 12, conditions, subject.budget, at_query).flops
    found = counted(model, lambda: subject.evaluate(batch, conditions, intervention, every_logit[:1]))
    assert found == pytest.approx(expected, rel=0.02)
    alone = found / closure(shapes, 7, 12, [()], subject.budget).flops
    assert alone < len(conditions), "nothing was shared, so that nothing was put to the test"


def test_flops_of_recordings_are_those_that_torch_counts(architecture, request):
    if request.node.callspec.params["architecture"] == "qwen3_5_hybrid":
        pytest.skip("every second layer of it has no heads")
    model = architecture.build()
    subject, shapes = HeadSubject(model, "test"), of_config(model.config.to_dict())
    batch = even_batch(5, 12)
    plain = counted(model, lambda: subject.record(batch, {}))
    assert plain == pytest.approx(forward_pass(shapes, 5, 12, subject.budget).flops, rel=0.02)
    slopes = counted(model, lambda: subject.record(batch, {"drops": Drops()}))
    assert slopes == pytest.approx(with_gradient(shapes, 5, 12, subject.budget).flops, rel=0.2)


def test_shapes_give_the_number_of_weights(architecture, request):
    if request.node.callspec.params["architecture"] == "qwen3_5_hybrid":
        pytest.skip("every second layer of it has no heads")
    model = architecture.build()
    matrices = {name: p.numel() for name, p in model.named_parameters() if p.ndim > 1 and "wpe" not in name}
    assert of_config(model.config.to_dict()).parameters == sum(matrices.values())


@pytest.mark.parametrize(
    ("name", "published"),
    [  # as their model cards and papers give them, in millions
        ("openai-community/gpt2", 124),
        ("EleutherAI/pythia-160m", 162),
        ("EleutherAI/pythia-410m", 405),
        ("EleutherAI/pythia-1b", 1012),
        ("HuggingFaceTB/SmolLM2-135M", 135),
        ("SimpleStories/SimpleStories-1.25M", 1.25),
        ("Qwen/Qwen3-0.6B", 596),
        ("meta-llama/Llama-3.2-1B", 1236),
        ("allenai/OLMo-1B-0724-hf", 1280),
        ("allenai/OLMoE-1B-7B-0924", 6919),
        ("mistralai/Mixtral-8x7B-v0.1", 46703),
        ("Qwen/Qwen1.5-MoE-A2.7B", 14300),
        ("allenai/FlexOlmo-7x7B-1T", 33300),
        ("meta-llama/Llama-2-7b-hf", 6738),
        ("meta-llama/Llama-3.1-70B", 70554),
    ],
)
def test_published_shapes_give_the_published_number_of_parameters(name, published):
    assert shapes_of(name).parameters / 1e6 == pytest.approx(published, rel=0.01)


def test_every_preset_is_in_the_table():
    folder = Path(__file__).parents[2] / "conf" / "subject"
    paths = [
        line.split()[1] for file in folder.glob("*.yaml") for line in file.read_text().splitlines() if "path:" in line
    ]
    assert paths
    assert all(path.rsplit("/", 1)[-1] in PUBLISHED for path in paths)


def test_a_folder_is_read_and_a_damaged_one_refused(tmp_path):
    config = {
        "hidden_size": 8,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "vocab_size": 11,
        "model_type": "llama",
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"text_config": config}))
    assert shapes_of(str(tmp_path)) == Shapes(3, 8, 2, 2, 4, 32, 11, 2**31)
    file.write_text(json.dumps({"model_type": "clock"}))
    assert shapes_of(str(tmp_path)) is None
    file.write_text("{")
    with pytest.raises(HarnessError, match="cannot be read"):
        shapes_of(str(tmp_path))
    assert shapes_of("nobody/knows-it") is shapes_of("model.gguf") is shapes_of("") is None


# -- time and memory ---------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 9.0), st.floats(0.0, 9.0)), max_size=8))
def test_work_shared_by_cells_is_counted_once(drawn):
    steps = [Step(name, Span(least, least + more), f"{name}{least}{more}", name) for name, least, more in drawn]
    together = total(steps)
    assert total(steps * 2) == together
    assert 0 <= together.least <= together.most <= sum(step.seconds.most for step in steps) + 1e-9
    assert together.most == pytest.approx(sum({step.key: step.seconds.most for step in steps}.values()))


def test_the_total_is_unknown_if_a_step_is_unknown():
    assert total([Step("a", Span(1.0, 1.0), "a", "a"), Step("b", None, "b", "b")]) is None
    assert Span(2.0, 8.0).middle == 4


def test_seconds_are_flops_at_the_rate_of_the_machine():
    shapes = PUBLISHED["Llama-3.2-1B"]
    work = Work(products=10**15)
    assert A100.seconds(work, shapes) == pytest.approx(1e15 / (0.5 * 19.5e12))
    assert A100.seconds(work, shapes, itemsize=2) == pytest.approx(1e15 / (0.5 * 312e12))
    assert CPU.seconds(work, shapes) == pytest.approx(1e15 / measured(2048, 8192))
    assert CPU.slower(shapes) == pytest.approx(REFERENCE / measured(2048, 8192))


def test_several_gpus_hold_a_larger_model_and_are_not_faster():
    shapes = PUBLISHED["Llama-3.1-70B"]
    assert H100.holding(shapes.parameters * 2).count == 3  # 141 GB in 80 GB each, of which 80 %
    assert H100.holding(shapes.parameters * 4).count == 5
    assert H100.holding(10**9) == H100
    assert H100.holding(10**12).seconds(Work(10**15), shapes) == H100.seconds(Work(10**15), shapes)


def test_the_estimate_ranges_from_20_compared_groups_to_all_of_them():
    """Two heads of eight in L0 and one of eight in L1: 28 * 8 groups with this profile, the candidate among them."""
    tiny = cell("subject=tiny", "batch.n=16", "group=[L0H0,L0H7,L1H2]")
    shapes = shapes_of_cell(tiny)
    (soon, _), (everything, work) = work_of(tiny, shapes, budget_of(tiny, shapes, CPU))
    groups, pairs, singles = 28 * 8, 28 + 8 * 8, 16
    others = 4  # the baseline, all units of its sites, all units of the model, all but its own
    assert everything == groups + pairs + singles + others
    assert 20 + 3 < soon < 20 * (1 + 3 + 3) + 7 + 2
    all_at_once = cell("subject=tiny", "batch.n=16", "group=[L0H0,L0H7,L1H2]", "futility=null")
    ((conditions, at_once),) = work_of(all_at_once, shapes, budget_of(tiny, shapes, CPU))
    assert conditions == everything
    assert at_once.flops <= work.flops  # the baseline model beside every round


def test_the_estimate_of_the_former_test_counts_its_controls():
    words = ("subject=tiny", "batch.n=16", "test=disjoint", "selector.min_size=8", "selector.count=1")
    tiny = cell(*words, "controls.n=99")
    shapes = shapes_of_cell(tiny)
    soon_and_all = work_of(tiny, shapes, budget_of(tiny, shapes, CPU))
    # Baseline, candidate, its layers (not all four), and 8 parts, 8 wholes without one, 28 pairs; in the end also
    # everything, and the others.
    own = 3 + 8 + 8 + 28
    assert [conditions for conditions, _ in soon_and_all] == [own + 20, own + 99 + 2]


def test_the_estimate_of_a_group_given_by_hand_uses_its_units():
    early, late = (cell("subject=tiny", f"group=[{units}]") for units in ("L0H0,L0H1", "L3H0,L3H1"))
    shapes = shapes_of_cell(early)
    first, last = (work_of(by_hand, shapes, budget_of(by_hand, shapes, CPU))[-1][1].flops for by_hand in (early, late))
    assert last < 0.5 * first  # conditions that begin in the last layer work there at the query alone
    assert {step.name for step in estimate(early, CPU).steps} == {"subject", "batch", "closure"}


def test_a_subject_without_shapes_is_unknown():
    estimated = estimate(cell("subject=planted", "batch=planted"), CPU)
    assert estimated.seconds is estimated.memory is estimated.weights is None


def test_memory_grows_by_the_weights():
    small, large = (
        estimate(cell("subject=hf", "subject.path=allenai/OLMo-1B-0724-hf", f"subject.dtype={dtype}"), CPU)
        for dtype in ("bfloat16", "float32")
    )
    assert large.weights == 2 * small.weights == 4 * PUBLISHED["OLMo-1B-0724-hf"].parameters
    assert large.memory > large.weights
    assert large.memory - small.memory >= small.weights
