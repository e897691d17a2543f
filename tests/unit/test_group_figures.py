"""What groups are like at a checkpoint: selectivity and participation ratio against other implementations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.subjects.tiny import subject as tiny
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t
from transformers import AutoModelForCausalLM

from harness.cells.cell import Cell
from harness.cells.group_figures import PARTS, group_figures, jackknife
from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.data.tokens import Tokens
from harness.pipeline import propose
from harness.registry.config import registry, resolve
from harness.util.cache import Memo

WORDS = ("experiment=trajectory", "subject.checkpoint=800", "batch.n=64", "tracking=none")


def gathered(*words: str) -> Inputs:
    cell = Cell.of(resolve([*WORDS, *words], registry()), registry())
    return Inputs.gather(cell, Memo(), Progress(quiet=True), test=False)


def eager(folder: Path, batch: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Attention rows [examples, heads, keys] and inputs of the output projection [examples, heads, width] at the
    query: by transformers, with hooks, one example at a time."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    seen: dict[int, torch.Tensor] = {}
    for layer, block in enumerate(model.model.layers):
        block.self_attn.o_proj.register_forward_hook(
            lambda _, inputs, __, layer=layer: seen.__setitem__(layer, inputs[0])
        )
    attention, outputs = [], []
    for tokens, query in zip(batch.tokens, batch.query.tolist(), strict=True):
        with torch.no_grad():
            found = model(torch.tensor(tokens[None, : query + 1]), output_attentions=True)
        attention.append(np.concatenate([layer[0, :, query].numpy() for layer in found.attentions]))
        width = attention[-1].shape[1]
        attention[-1] = np.pad(attention[-1], ((0, 0), (0, batch.tokens.shape[1] - width)))
        heads = [seen[layer][0, query].numpy().reshape(8, -1) for layer in sorted(seen)]
        outputs.append(np.concatenate(heads))
    return np.stack(attention).astype(np.float64), np.stack(outputs).astype(np.float64)


def test_selectivity_and_participation_ratio_are_those_of_the_model_at_this_step() -> None:
    inputs = gathered()
    proposal = propose(inputs)
    proposal.run()
    found = group_figures(inputs, proposal)["groups"]
    batch = inputs.proposal_half
    assert isinstance(batch, Tokens)
    attention, outputs = eager(tiny.WEIGHTS / "checkpoints" / "step-000800", batch)
    places = dict(batch.anchors)
    ratios = {}
    for name, columns in places.items():
        on_target = np.mean([attention[i][:, columns[i]].mean(axis=1) for i in range(len(batch))], axis=0)
        others = []
        for i in range(len(batch)):
            targets = {int(place) for each in places.values() for place in each[i]}
            free = [place for place in range(int(batch.query[i]) + 1) if place not in targets]
            others.append(attention[i][:, free].mean(axis=1))
        ratios[name] = on_target / np.maximum(np.mean(others, axis=0), 1e-8)
    richness = []
    for head in range(32):
        energy = np.clip(np.linalg.eigvalsh(outputs[:, head].T @ outputs[:, head]), 0, None)
        share = energy[energy > 0] / energy.sum()
        richness.append(np.exp(-(share * np.log(share)).sum()))
    assert len(found) == len(proposal.candidates) >= 3
    for candidate in proposal.candidates:
        group = found[" ".join(inputs.subject.units.names(candidate.members))]
        assert group["signal"] == "participation_ratio"
        assert group["score"][0] == pytest.approx(np.mean([richness[unit] for unit in candidate.members]), rel=1e-3)
        for name, ratio in ratios.items():
            value, low, high = group["selectivity"][name]
            assert value == pytest.approx(ratio[list(candidate.members)].mean(), rel=1e-3)
            assert 0 <= low <= value <= high


@given(st.integers(PARTS, 60), st.integers(0, 1000))
def test_the_interval_of_a_geometric_mean_is_that_of_students_t(n: int, seed: int) -> None:
    """The logarithm of a geometric mean is a mean, of which the delete-one jackknife gives the usual standard error."""
    logs = np.random.default_rng(seed).normal(size=PARTS)

    def geometric(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"it": np.exp(logs[rows].mean(keepdims=True))}

    values, intervals = jackknife(geometric, PARTS)
    half = t.ppf(0.975, PARTS - 1) * logs.std(ddof=1) / np.sqrt(PARTS)
    assert values["it"] == pytest.approx(np.exp(logs.mean()))
    assert np.log(intervals["it"][0]) == pytest.approx([logs.mean() - half, logs.mean() + half])
    _, same = jackknife(lambda rows: {"it": np.ones(3) * len(rows) / len(rows)}, n)
    np.testing.assert_array_equal(same["it"], np.ones((3, 2)))


def test_a_figure_of_zero_has_no_width() -> None:
    values, intervals = jackknife(lambda _: {"it": np.zeros(2)}, 20)
    assert values["it"].tolist() == [0, 0]
    assert intervals["it"].tolist() == [[0, 0], [0, 0]]


def test_other_labels_and_groups_named_by_hand_are_not_followed() -> None:
    for words in (("labels=survey",), ("group=[L0H1]",)):
        inputs = gathered(*words)
        assert not inputs.cell.followed
        assert group_figures(inputs, propose(inputs)) == {}
    assert "signal" in gathered().cell.used  # its score is in the record, so that it belongs to the cell's identity
    assert "signal" not in gathered("labels=survey").cell.used
