"""Experiment presets: each gives its documented cells under its documented protocol."""

from __future__ import annotations

import pytest

from harness.board.references import REFERENCES
from harness.cells.cell import Cell
from harness.registry.config import expand, registry, resolve, resolve_all


@pytest.mark.parametrize(
    ("experiment", "cells"),
    [
        ("quickstart", 4),
        ("methods", 27),
        ("baselines", 3),
        ("reference", 1),
        ("grid", 81),
        ("robustness", 24),
        ("moe_routes", 8),
        ("moe_experts", 3),
        ("known", 27),
        ("language", 135),
        ("toy_experts", 2),
        ("trajectory", 9),
        ("screen", 30),
        ("depth_routing", 18),
        ("curve", 3),
        ("probe_circuits", 4),
        ("paper_claims", 16),
        ("paper_rankings", 16),
        ("spd_mechanisms", 30),
        ("spd_language", 3),
        ("spd_penalty", 5),
    ],
)
def test_a_grid_has_the_number_of_cells_it_documents(experiment: str, cells: int) -> None:
    methods = registry()
    configs = resolve_all(expand([f"experiment={experiment}"], methods), methods)
    grid = [Cell.of(config, methods) for config in configs]
    assert len({cell.id for cell in grid}) == len(grid) == cells


def test_every_reference_row_of_a_board_is_a_cell_of_an_experiment() -> None:
    methods = registry()
    grids = [expand([f"experiment={experiment}"], methods) for experiment in ("baselines", "reference")]
    configs = [resolve(words, methods) for grid in grids for words in grid]
    assert [sum(reference.matches(config) for config in configs) for reference in REFERENCES] == [1] * len(REFERENCES)
    assert len(configs) == len(REFERENCES)


# Subject, batch, numbers of groups, sizes, and where controls come from: the closure paper, section 4 and its scripts.
PAPER = {
    1: ("allenai/OLMo-1B-0724-hf", "synthetic_induction", [10], (4, 12), "layers"),
    2: ("EleutherAI/pythia-1b", "synthetic_induction", [6], (4, 30), "layers"),
    3: ("allenai/OLMo-1B-0724-hf", "natural_text", [4, 6, 8, 10, 12], (4, 12), "model"),
    4: ("EleutherAI/pythia-1b", "natural_text", [4, 6, 8, 10, 12], (4, 12), "model"),
    5: ("allenai/OLMoE-1B-7B-0924", "natural_text", [4], (5, 30), "model"),
}


@pytest.mark.parametrize("test", PAPER)
def test_the_papers_tests_are_as_published(test: int) -> None:
    path, batch, k, sizes, pool = PAPER[test]
    config = resolve([f"experiment=paper_{test}"], registry())
    assert config["subject"]["path"] == path
    assert (config["batch"]["name"], config["batch"]["n"]) == (batch, 2000)
    assert config["partitioner"]["k"] == k
    assert (config["selector"]["min_size"], config["selector"]["max_size"]) == sizes
    assert (config["selector"]["name"], config["selector"]["count"]) == ("paper_score", 1)
    assert (config["partitioner"]["name"], config["chooser"]["name"]) == ("spectral", "labels")
    assert {key: config["controls"][key] for key in ("name", "n", "pool")} == {"name": "uniform", "n": 5, "pool": pool}
    assert (config["split"], config["ddof"], config["affinity"]["l2"]) == ("none", 0, 1e-3)
    routed = {"name": "kmeans", "reads": "router", "k": 4, "smallest": 80, "seed": 0}
    assert (config["stratifier"] == routed, config["scope"] == "stratum") == (test == 5, test == 5)
    if batch == "natural_text":
        assert (config["batch"]["target"], config["batch"]["windows"], config["batch"]["seed"]) == (
            "repeat",
            "first",
            None,
        )
