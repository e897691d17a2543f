"""Groups from precomputed couplings: published ones, synthetic ones, and invalid ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

# As users run it: where the checks of types look whether a subject can do what a subject does, this one refuses.

Run = Callable[..., Any]
KS = (4, 6, 8, 10, 12)


def command(matrix: Path | str, labels: Path | str, *more: str) -> tuple[str, ...]:
    """The overrides of the reference command."""
    subject = ("subject=precomputed", "affinity=precomputed", f"affinity.path={matrix}", "affinity.transform=abs")
    return (
        *subject,
        "labels=file",
        f"labels.path={labels}",
        "partitioner=spectral",
        "partitioner.k=[4,6,8,10,12]",
        "chooser=labels",
        "selector=paper_candidate",
        *more,
    )


def purity(truth: list[str], groups: list[int]) -> float:
    """Share of units whose class is the most common one of their group."""
    members = {g: [c for c, group in zip(truth, groups, strict=True) if group == g] for g in set(groups)}
    return sum(max(map(found.count, set(found))) for found in members.values()) / len(truth)


# ----------------------------------------------------------------------------------------------------------------------
# The published couplings and labels of OLMo-1B
# ----------------------------------------------------------------------------------------------------------------------


def test_the_published_partitions_and_their_agreement_are_reproduced(harness: Run, reference: Path) -> None:
    published = json.loads((reference / "results.json").read_text())
    answer = harness("propose", *command(reference / "J.npy", reference / "labels.json"), "--json")
    assert answer.code == 0, answer.err
    record = answer.data
    assert [partition["k"] for partition in record["partitions"]] == list(KS)
    for partition in record["partitions"]:
        k = str(partition["k"])
        assert partition["labels"] == published["cluster_results"][k]
        for measure in ("ari", "nmi", "purity"):
            expected = published["metrics_by_k"][k][measure]
            assert partition["agreement"][measure] == pytest.approx(expected, abs=5e-5), (k, measure)
    chosen = [partition["k"] for partition in record["partitions"] if partition["chosen"]]
    assert chosen == [6]  # the best agreement; the paper's candidate is one of ten
    assert record["units"][:2] == ["L0H0", "L0H1"]
    assert record["units"][-1] == "L15H15"


def test_the_published_candidate_is_the_one_of_ten_groups(harness: Run, reference: Path) -> None:
    words = command(reference / "J.npy", reference / "labels.json", "chooser=fixed", "chooser.k=10", "reruns=0")
    answer = harness("propose", *words, "--json")
    assert answer.code == 0, answer.err
    (candidate,) = answer.data["candidates"]
    assert candidate["units"] == ["L0H0", "L0H1", "L0H2", "L0H10", "L0H13"]
    assert candidate["isolation"] == pytest.approx(5.74, abs=0.005)
    assert candidate["purity"] == 1.0


# ----------------------------------------------------------------------------------------------------------------------
# Couplings and labels that nobody has seen: 16 layers of 8 heads
# ----------------------------------------------------------------------------------------------------------------------

LAYERS, HEADS = 16, 8
CLASSES = ("gatekeeper", "copycat", "echo", "unclassified")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Signed couplings with six planted blocks, and labels of a third of the heads, in the published form."""
    rng = np.random.default_rng(11)
    n = LAYERS * HEADS
    block = rng.integers(0, 6, n)
    noise = rng.normal(0, 0.1, (n, n))
    sign = np.where(rng.random((n, n)) < 0.5, -1.0, 1.0)
    upper = np.triu(np.where(block[:, None] == block, 0.25, 0.05) * sign + noise, 1)
    np.save(tmp_path / "couplings.npy", (upper + upper.T).astype(np.float32))
    ranked = rng.permutation(n)[: n // 3].tolist()
    names = [CLASSES[(block[i] + (rng.random() < 0.3)) % 4] for i in ranked]
    file = {
        "model": "made/up",
        "classifications": [
            {"rank": rank, "layer": i // HEADS, "head": i % HEADS, "classification": name}
            for rank, (i, name) in enumerate(zip(ranked, names, strict=True), 1)
        ],
        "all_head_selectivity": {f"L{i // HEADS}_H{i % HEADS}": {"echo": float(i)} for i in range(n)},
    }
    (tmp_path / "classes.json").write_text(json.dumps(file))
    return tmp_path / "couplings.npy", tmp_path / "classes.json"


@pytest.mark.parametrize("unclassified", ["class", "drop"])
def test_partitions_and_agreement_of_other_couplings_are_those_of_scikit_learn(
    harness: Run, files: tuple[Path, Path], unclassified: str
) -> None:
    answer = harness("propose", *command(*files, f"labels.unclassified={unclassified}", "reruns=0"), "--json")
    assert answer.code == 0, answer.err
    record = answer.data
    assert len(record["units"]) == LAYERS * HEADS
    assert record["units"][HEADS] == "L1H0"  # 16 x 8, not 8 x 16: the labels name heads of layer 15
    heads = json.loads(files[1].read_text())["classifications"]
    judged = [h for h in heads if unclassified == "class" or h["classification"] != "unclassified"]
    truth = [h["classification"] for h in judged]
    strength = np.abs(np.load(files[0]).astype(np.float64)) + 1e-12
    for k, partition in zip(KS, record["partitions"], strict=True):
        clustering = SpectralClustering(k, affinity="precomputed", assign_labels="kmeans", n_init=10, random_state=0)
        labels = clustering.fit_predict(strength).tolist()
        assert partition["labels"] == labels
        groups = [labels[h["layer"] * HEADS + h["head"]] for h in judged]
        assert partition["agreement"]["ari"] == pytest.approx(adjusted_rand_score(truth, groups), abs=1e-12)
        assert partition["agreement"]["nmi"] == pytest.approx(normalized_mutual_info_score(truth, groups), abs=1e-12)
        assert partition["agreement"]["purity"] == pytest.approx(purity(truth, groups), abs=1e-12)


def test_relative_paths_start_at_the_current_folder(harness: Run, files: tuple[Path, Path]) -> None:
    """The files of this test are in the current folder."""
    words = command("couplings.npy", "classes.json", "reruns=0")
    assert harness("propose", *words, "--json").data["partitions"][0]["k"] == 4
    assert "couplings" in harness("propose", *words).out


def test_groups_are_found_and_chosen_without_any_labels(harness: Run, files: tuple[Path, Path]) -> None:
    unlabelled = ("subject.units=16x8", "labels=none", "chooser=modularity", "selector=size_range")
    words = ("subject=precomputed", "affinity=precomputed", f"affinity.path={files[0]}", "affinity.transform=abs")
    sizes = ("partitioner.k=[4,6,8,10,12]", "selector.max_size=128")
    answer = harness("propose", *words, *unlabelled, *sizes, "reruns=2", "--json")
    assert answer.code == 0, answer.err
    record = answer.data
    assert record["cell"]["supervised"] == []
    assert set(record["classes"]) == {None}
    assert [partition["k"] for partition in record["partitions"] if partition["chosen"]] == [6]  # as planted
    assert len(record["candidates"]) == 6
    assert all(partition["agreement"] is None for partition in record["partitions"])
    assert all(partition["stability"]["resamples"] is None for partition in record["partitions"])


# ----------------------------------------------------------------------------------------------------------------------
# What cannot be grouped, or tested
# ----------------------------------------------------------------------------------------------------------------------


def spoiled(files: tuple[Path, Path], how: str) -> Path:
    matrix = np.load(files[0])
    if how == "nan":
        matrix[3, 5] = matrix[5, 3] = np.nan
    elif how == "asymmetric":
        matrix[3, 5] += 1.0
    path = files[0].with_name(f"{how}.npy")
    np.save(path, matrix[:, :100] if how == "flat" else matrix)
    return path


@pytest.mark.parametrize(
    ("how", "says"), [("nan", "NaN"), ("asymmetric", "not symmetric"), ("flat", "shapes: (128, 100)")]
)
def test_a_matrix_that_is_not_an_affinity_is_refused(
    harness: Run, files: tuple[Path, Path], how: str, says: str
) -> None:
    answer = harness("propose", *command(spoiled(files, how), files[1]))
    assert answer.code == 2
    assert says in answer.err
    assert how in answer.err  # the file
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["subject.units=16x16"], ["128", "256"]),
        (["subject.units=nowhere.json"], ["subject.units=nowhere.json", "does not exist"]),
        (["labels.path=nowhere.json"], ["labels.path=nowhere.json", "does not exist"]),
        (["labels.path=''", "subject.units=16x8"], ["labels.path="]),
        (["affinity.path=nowhere.npy"], ["affinity.path=nowhere.npy", "does not exist"]),
        (["labels=none", "~labels.path"], ["8x16, 16x8", "subject.units="]),
        (["subject.units=8x16"], ["is not a unit of this subject"]),
        (["affinity.transform=signed"], ["non-negative", "affinity.transform=abs"]),
        (["labels=survey", "~labels.path", "subject.units=16x8"], ["no model", "labels=file"]),
        (["affinity=ising", "~affinity.path", "~affinity.transform", "subject.units=16x8"], ["no model"]),
        (["chooser=stability", "reruns=0"], ["needs reruns", "reruns=5"]),
        (["chooser=fixed", "chooser.k=7"], ["chooser.k=7: there is no partition", "[4, 6, 8, 10, 12]"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_inputs_that_do_not_fit_together_are_refused(
    harness: Run, files: tuple[Path, Path], changes: list[str], says: list[str]
) -> None:
    dropped = {change[1:] for change in changes if change.startswith("~")}
    replaced = {change.partition("=")[0] for change in changes} | dropped
    words = [word for word in command(*files, "reruns=0") if word.partition("=")[0] not in replaced]
    answer = harness("propose", *words, *(change for change in changes if not change.startswith("~")))
    assert answer.code == 2, answer.out
    assert all(text in answer.err for text in says), answer.err
    assert "Traceback" not in answer.err


def test_nothing_is_tested_without_a_model(harness: Run, files: tuple[Path, Path]) -> None:
    answer = harness("run", *command(*files, "reruns=0", "tracking=none"))
    assert answer.code == 2
    assert "has no model, so it can be neither recorded nor ablated" in answer.err
    assert "harness propose" in answer.err
    closing = harness("close", "L0H0,L1H0", *command(*files, "tracking=none"))
    assert closing.code == 2
    assert "has no model, so it can be neither recorded nor ablated" in closing.err


def test_changed_file_contents_make_a_different_cell(harness: Run, files: tuple[Path, Path]) -> None:
    words = command(*files)
    (before,) = harness("plan", *words, "--json").data
    np.save(files[0], 2 * np.load(files[0]))
    (matrix,) = harness("plan", *words, "--json").data
    files[1].write_text(files[1].read_text().replace("gatekeeper", "doorkeeper"))
    (labels,) = harness("plan", *words, "--json").data
    assert len({before["cell"], matrix["cell"], labels["cell"]}) == 3
