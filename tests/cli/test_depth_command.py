"""`harness depth`: mass against effect, from the models of a sweep to tables and a picture; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main

SMALL = ("subject=depth_routes", "tracking=none")


def test_arms_and_seeds_are_measured_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("subject.arm=trained,wrapped", "subject.seed=0,1", "batch.n=16", "metric=[loss]", "out=o")
    assert main(["depth", *SMALL, *words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(model["arm"], model["seed"]) for model in data["models"]] == [
        ("trained", 0), ("trained", 1), ("wrapped", 0), ("wrapped", 1),
    ]  # fmt: skip
    assert [len(model["units"]) for model in data["models"]] == [28, 28, 17, 17]
    for model in data["models"]:
        mass = [sum(u["mass"] for u in model["units"] if u["unit"].split("<-")[0] == "L3.mlp")]
        assert mass == pytest.approx([1.0], abs=1e-5)
    assert {row["pairs"] for row in data["differences"]} == {"2"}
    assert {file.name for file in Path("o").iterdir()} == {"depth.md", "depth.json", "depth.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", *SMALL, "subject.path=tiny", "batch=random_repeat"), "has no depth routers: its layers add to one"),
        (("close", "L0.mlp<-embedding,L0.mlp<-current", *SMALL), "cannot be ablated together"),
        (("depth", "subject=tiny", "batch.n=32"), "its units are not sources of depth routers.\n"),
        (("run", *SMALL, "subject.arm=learned"), "subject.arm='learned': must be 'trained', 'uniform'"),
    ],
)
def test_what_has_no_depth_routes_is_refused(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words]) == 2
    assert message in capsys.readouterr().err
