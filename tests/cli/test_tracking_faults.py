"""Tracking stores that hang, refuse, answer nonsense, disappear half-way, were moved or had objects deleted by hand.

The sweep goes on, one sentence says what is wrong, and `harness sync` copies the records later, one run per cell.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.registry.hookspecs import CellFinished
from harness.tracking import limits
from harness.tracking.address import address, unreachable
from harness.tracking.mlflow import EXPERIMENT, PARENT_VARIABLE, Mirror, mirror_of, sweep_run
from harness.util import waiting

Run = Callable[..., Any]
connections: list[socket.socket] = []
"""Those that the last listening socket accepted."""


@contextmanager
def serving(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request with the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server asks for
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """A socket that accepts connections and sends these bytes, or nothing ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_all() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(connection)
                if answer is not None:
                    connection.sendall(answer)
                    connection.close()

        connections.clear()
        threading.Thread(target=answer_all, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def refusing() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


FAULTS = {
    "hangs": (lambda: listening(None), "did not answer in time"),
    "refuses": (refusing, "no server listens there"),
    "noise": (lambda: listening(b"\x00\xff\x01 no HTTP\r\n\r\n"), "not an MLflow server"),
    "closes": (lambda: listening(b""), "connection broke off"),
    "breaks off": (lambda: listening(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"), "connection broke off"),
    "HTML": (lambda: serving(200, b"<html><h1>Welcome</h1></html>"), "not an MLflow server"),
    "empty object": (lambda: serving(200, b"{}"), "not an MLflow server"),
    "nothing": (lambda: serving(200, b""), "not an MLflow server"),
    "a list": (lambda: serving(200, b"[1, 2]"), "not an MLflow server"),
    "404": (lambda: serving(404, b"<html>not found</html>"), "not an MLflow server"),
    "500": (lambda: serving(500, b"oops"), "internal error"),
    "503": (lambda: serving(503, b""), "internal error"),
    "401": (lambda: serving(401, b"who are you?"), "refused the login"),
    "login page": (lambda: serving(403, b"<html>sign in</html>"), "refused the login"),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(waiting, "PATIENCE", 600)  # on a busy machine every step is long
    mirror_of.cache_clear()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_does_not_work_is_reported_once_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_record: Run, fault: str
) -> None:
    workspace, (server, reason) = Workspace(tmp_path), FAULTS[fault]
    record = make_record()
    with server() as uri:
        with sweep_run(uri, workspace, ["a", "b"], "words") as close:
            mirror_of(uri, tmp_path).harness_cell_finished(CellFinished(record, workspace.write(record)))
            close([record], tmp_path / "board.md")
        with pytest.raises(Exception, match=r".") as caught:
            Mirror(uri, tmp_path).copy_missing([record], workspace, None)
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1, said
    assert f"tracking at {uri} does not work: " in said
    assert reason in said
    assert reason in unreachable(uri, caught.value)
    assert f"harness sync workspace={tmp_path} tracking={uri}" in said
    assert not list(tmp_path.glob(".untracked*"))


def test_a_sweep_waits_for_a_server_that_hangs_only_once(harness: Run, planted: Any, tmp_path: Path) -> None:
    with listening(None) as uri:
        answer = harness("sweep", *planted, "batch.n=16,18", f"tracking={uri}")
    assert answer.code == 0, answer.err
    assert answer.err.count("did not answer in time") == 1
    assert len(connections) == 1
    assert len(list(tmp_path.glob("runs/records/*/record.json"))) == 2


def test_processes_of_a_sweep_do_not_try_a_server_that_failed_for_one_of_them(
    workspace: Workspace, make_record: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, record = "0" * 32, make_record()
    monkeypatch.setenv(PARENT_VARIABLE, parent)
    event = CellFinished(record, workspace.write(record))
    with listening(None) as uri:
        for _ in range(2):  # workers: each has its own mirror
            Mirror(uri, workspace.root).harness_cell_finished(event)
    assert len(connections) == 1


# -- the database of a workspace ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, made once: its tables take seconds."""
    root = tmp_path_factory.mktemp("database")
    assert mirror_of(f"sqlite:///{root}/mlflow.db", root).experiment
    return root / "mlflow.db"


@pytest.fixture
def workspace(database: Path, tmp_path: Path) -> Workspace:
    """A workspace with that database: copied, so that every test also tries a copied workspace."""
    (tmp_path / "runs").mkdir()
    shutil.copy(database, tmp_path / "runs" / "mlflow.db")
    return Workspace(tmp_path / "runs")


def sweep(
    workspace: Workspace,
    records: Sequence[Record],
    name: str = "words",
    uri: str = "",
    finished: bool = False,
    meanwhile: Callable[[Mirror], None] = lambda _: None,
) -> Mirror:
    """Mirror the records of a sweep, as its process does. ``finished``: by an earlier sweep, so that none is told."""
    uri = uri or str(address("local", workspace))
    (workspace.root / "boards").mkdir(exist_ok=True)
    board = workspace.root / "boards" / "board.md"
    board.write_text("# Leaderboard")
    with sweep_run(uri, workspace, [record.cell.id for record in records], name) as close:
        for record in () if finished else records:
            mirror_of(uri, workspace.root).harness_cell_finished(CellFinished(record, workspace.write(record)))
        meanwhile(mirror_of(uri, workspace.root))
        close(records, board)
    return mirror_of(uri, workspace.root)


def runs_of(mirror: Mirror) -> list[Any]:
    return list(Mirror(mirror.uri, mirror.root).client.search_runs([mirror.experiment]))


def cells_of(mirror: Mirror) -> list[Any]:
    return [run for run in runs_of(mirror) if "cell" in run.data.tags]


def artifacts_of(mirror: Mirror, run: Any) -> set[str]:
    return {file.path for file in mirror.client.list_artifacts(run.info.run_id)}


class Gone:
    """A client whose server disappears at the n-th call."""

    def __init__(self, client: Any, n: int) -> None:
        self.client, self.left = client, n

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise ConnectionError("Connection aborted")
            return getattr(self.client, name)(*arguments, **named)

        return call


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_store_that_disappears_at_any_call_is_completed_by_sync(
    workspace: Workspace, make_record: Run, capsys: pytest.CaptureFixture[str], every: int
) -> None:
    uri, done = str(address("local", workspace)), False
    n = 1
    while not done:
        records = [make_record(cell=f"{n}-{name}") for name in "ab"]
        mirror_of.cache_clear()
        mirror = mirror_of(uri, workspace.root)
        mirror.client = Gone(mirror.client, n)
        sweep(workspace, records, f"number {n}")
        done = mirror.client.left >= 0
        assert capsys.readouterr().err.count("warning: ") == (not done)
        restored = Mirror(uri, workspace.root)
        restored.copy_missing(records, workspace, None)
        found = [run for run in cells_of(restored) if run.data.tags["cell"].startswith(f"{n}-")]
        assert sorted(run.data.tags["cell"] for run in found) == [f"{n}-a", f"{n}-b"], "a cell is missing or twice"
        for run in found:
            assert run.info.status == "FINISHED"
            assert run.data.metrics["closure.0.target_logit.delta"] == -2.0
            assert run.data.params["partitioner.name"] == "spectral"
            assert {"record.json", "config.yaml", "card.txt"} <= artifacts_of(restored, run)
        assert restored.copy_missing(records, workspace, None) == 0
        n += every
    assert n > 15, "fewer calls than a sweep of two cells makes"


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_artifacts_follow_a_workspace_that_was_moved_or_copied(
    workspace: Workspace, make_record: Run, tmp_path: Path, how: str
) -> None:
    sweep(workspace, [make_record(cell="first")])
    before = sorted(tmp_path.glob("runs/mlartifacts/**/*"))
    (shutil.move if how == "moved" else shutil.copytree)(tmp_path / "runs", tmp_path / "a new place (2)")
    mirror = sweep(Workspace(tmp_path / "a new place (2)"), [make_record(cell="second")])
    runs = cells_of(mirror)
    assert {run.data.tags["cell"] for run in runs} == {"first", "second"}
    for run in runs:
        assert "record.json" in artifacts_of(mirror, run)
        assert "a%20new%20place" in run.info.artifact_uri
    assert sorted(tmp_path.glob("runs/mlartifacts/**/*")) == (before if how == "copied" else [])
    assert (tmp_path / "runs").exists() == (how == "copied"), "the old place was made again"


def test_a_database_that_cannot_be_opened_is_reported_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.db").write_text("no database " * 100)
    for path, reason in (("nowhere/mlflow.db", "cannot be opened"), ("text.db", "not an SQLite database")):
        began = time.monotonic()
        with sweep_run(f"sqlite:///{tmp_path}/{path}", Workspace(tmp_path), ["a"], "words"):
            pass
        assert reason in capsys.readouterr().err
        assert time.monotonic() - began < 30, "MLflow's retries take 100 s"
    assert not (tmp_path / "nowhere").exists()


def test_a_shared_database_whose_folder_of_artifacts_is_gone_is_reported(
    workspace: Workspace, make_record: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{workspace.root}/mlflow.db"
    sweep(workspace, [make_record(cell="first")])
    elsewhere = Workspace(tmp_path / "elsewhere")
    elsewhere.root.mkdir()
    sweep(elsewhere, [make_record(cell="second")], uri=uri)
    assert capsys.readouterr().err == ""
    shutil.rmtree(workspace.root / "mlartifacts")
    mirror_of.cache_clear()
    sweep(elsewhere, [make_record(cell="third")], uri=uri)
    said = capsys.readouterr().err
    assert f"keeps the files of runs in {workspace.root}/mlartifacts, which does not exist here" in said
    assert f"mkdir -p {workspace.root}/mlartifacts" in said
    assert not (workspace.root / "mlartifacts").exists()


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(
    workspace: Workspace, make_record: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = sweep(workspace, [make_record(cell="first")])
    mirror.client.delete_experiment(mirror.experiment)
    sweep(workspace, [make_record(cell="second")])  # deleted while it is in use
    assert "its experiment or run was deleted by hand while it was in use" in capsys.readouterr().err
    mirror_of.cache_clear()
    sweep(workspace, [make_record(cell="second")])
    said = capsys.readouterr().err
    assert f"the experiment {EXPERIMENT} was deleted by hand" in said
    assert f"mlflow experiments restore --experiment-id {mirror.experiment}" in said
    mirror.client.restore_experiment(mirror.experiment)
    mirror_of.cache_clear()
    sweep(workspace, [make_record(cell="second")])
    assert capsys.readouterr().err == ""
    assert sorted(run.data.tags["cell"] for run in cells_of(mirror)) == ["first", "second"]


def delete_parent(mirror: Mirror) -> None:
    (parent,) = [run for run in runs_of(mirror) if "sweep" in run.data.tags]
    mirror.client.delete_run(parent.info.run_id)


@pytest.mark.parametrize("when", ["before", "during"])
def test_cells_of_a_deleted_parent_run_get_a_new_one(
    workspace: Workspace, make_record: Run, capsys: pytest.CaptureFixture[str], when: str
) -> None:
    records = [make_record(cell="first"), make_record(cell="second")]
    if when == "before":
        delete_parent(sweep(workspace, records))
        mirror = sweep(workspace, records, finished=True)
    else:
        mirror = sweep(workspace, records, meanwhile=delete_parent)
    assert capsys.readouterr().err == ""
    (parent,) = [run for run in runs_of(mirror) if "sweep" in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["cell"] for run in cells_of(mirror)} == {"first", "second"}
    assert {run.data.tags["mlflow.parentRunId"] for run in cells_of(mirror)} == {parent.info.run_id}


@pytest.fixture
def strict() -> Iterator[None]:
    """SQLite takes any text; here the columns of MLflow's tables refuse what PostgreSQL refuses: long texts and NUL."""
    from mlflow.store.db.base_sql_model import Base
    from sqlalchemy import event

    def check(mapper: Any, connection: Any, row: Any) -> None:
        for attribute in mapper.column_attrs:
            value, longest = getattr(row, attribute.key), getattr(attribute.columns[0].type, "length", None)
            if isinstance(value, str) and ((longest and len(value) > longest) or "\0" in value):
                raise ValueError(f"value too long for type character varying({longest}): {attribute}")

    for moment in ("before_insert", "before_update"):
        event.listen(Base, moment, check, propagate=True)
    yield
    for moment in ("before_insert", "before_update"):
        event.remove(Base, moment, check)


@pytest.mark.usefixtures("strict")
def test_long_values_are_cut_in_the_store_and_whole_in_the_files_of_the_run(
    workspace: Workspace, make_record: Run, make_effect: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "x" * 9000
    record = make_record(
        cell="long",
        method=long,
        subject=long,
        effects={"a metric (of ours) [50 %]": make_effect(), long: make_effect()},
        affinity={"name": long, "weights of [all]": {"L0.attn/q": 0.5, "": long}},
        batch={"name": "synthetic_induction", "text": long * 9},
    )
    started = {**record.provenance, "batch": {"n": 50, "digest": "d" * 99, "target": "t"}, "command": f"harness {long}"}
    record = replace(record, reason=f"zero \0 and {long}", provenance=started)
    mirror = sweep(workspace, [record], name=" ".join(f"affinity.l2={i}" for i in range(2000)))
    assert capsys.readouterr().err == ""
    (run,) = cells_of(mirror)
    assert run.info.run_name == "x" * 240 + " ... (cut)"
    assert run.data.tags["subject"].endswith(" ... (cut)")
    assert len(run.data.params) == len({"affinity.name", "a", "b", "batch.name", "batch.text", "d", "e", "f"})
    assert any(key.startswith("closure.0.a metric _of ours_ _50 __.delta-") for key in run.data.metrics)
    (parent,) = [run for run in runs_of(mirror) if "sweep" in run.data.tags]
    assert parent.info.run_name.startswith("sweep affinity.l2=0 affinity.l2=1 ")
    whole = Path(mirror.client.download_artifacts(parent.info.run_id, "command.txt"))
    assert whole.read_text().endswith("affinity.l2=1999")
    config = OmegaConf.load(mirror.client.download_artifacts(run.info.run_id, "config.yaml"))
    assert config.affinity.name == long


@pytest.mark.usefixtures("strict")
def test_without_cutting_a_strict_database_would_refuse_the_run(
    workspace: Workspace, make_record: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "text", lambda value, _: value)
    sweep(workspace, [make_record(cell="long", method="x" * 300)])
    assert "character varying(250)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a b", "100 %41", "a#b", "käse", "a'b", "a;b&c", "a=b", "what?", "$HOME"])
def test_a_workspace_of_any_name_has_its_runs_inside(
    database: Path, tmp_path: Path, make_record: Run, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    root = tmp_path / name / "runs"
    root.mkdir(parents=True)
    shutil.copy(database, root / "mlflow.db")
    mirror = sweep(Workspace(root), [make_record(cell="first")])
    assert capsys.readouterr().err == ""
    (run,) = cells_of(mirror)
    assert "record.json" in artifacts_of(mirror, run)
    assert len(list(root.glob("mlartifacts/*/artifacts/record.json"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]
