"""What MLflow holds after a study: no duplicates, honest statuses, nothing lost, nothing slow."""

import dataclasses
import json
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.errors import InputError
from tis_ray.store import Artifact
from tis_ray.study.mlflow_limits import flatten, store_uri
from tis_ray.study.mlflow_tracker import Tracker, open_tracker
from tis_ray.study.no_tracker import NullTracker
from tis_ray.study.tracked_data import DataSet, data_sets

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One database for the module: making its tables takes seconds."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def tracker(store, request):
    return Tracker(f"sqlite:///{store}/mlflow.db", experiment=request.node.name)


def runs_of(tracker, kind):
    return tracker._client.search_runs([tracker.experiment_id], f"tags.`tis.kind` = '{kind}'")


def run_of(tracker, run):
    return tracker._client.get_run(run.run_id)


def test_study_and_cells_form_a_tree(tracker):
    with (
        tracker.study("s", "f0", config={"a": {"b": [1, 2]}}, tags={"device": "cpu"}) as study,
        study.cell("c", "f1", {"budget": 100}) as cell,
    ):
        cell.log_metrics({"test_loss": 0.5, "exact_match": None})
    parent, child = run_of(tracker, study), run_of(tracker, cell)
    assert child.data.tags["mlflow.parentRunId"] == study.run_id
    assert parent.data.params == {"a.b": "[1, 2]"}
    assert parent.data.tags["device"] == "cpu"
    assert parent.data.tags["tis.version"]
    assert (child.data.params, child.data.metrics) == ({"budget": "100"}, {"test_loss": 0.5})
    assert child.info.run_name == "c"
    assert child.data.tags["tis.study_run"] == study.run_id
    assert parent.info.status == child.info.status == "FINISHED"


def test_cells_lie_below_their_method_and_it_below_the_study(tracker):
    for _ in range(2):
        with (
            tracker.study("s", "f0") as study,
            study.method("less @ 100", "less 100", {"budget": 100}) as method,
            method.cell("less 100 s0", "c0") as cell,
        ):
            method.log_metrics({"test_loss": 0.5})
    parents = {run.run_id: run_of(tracker, run).data.tags for run in (study, method, cell)}
    assert parents[method.run_id]["mlflow.parentRunId"] == study.run_id
    assert parents[cell.run_id]["mlflow.parentRunId"] == method.run_id
    assert parents[cell.run_id]["tis.study_run"] == study.run_id
    assert study.finished_cells() == {"c0"}
    assert [len(runs_of(tracker, kind)) for kind in ("study", "method", "cell")] == [1, 1, 1]


def test_a_method_that_lacks_a_cell_has_failed_and_the_study_goes_on(tracker):
    for why in ("out of memory", None):
        with tracker.study("s", "f0") as study, study.method("m", "f1") as method:
            method.why_failed = why
        found = run_of(tracker, method)
        assert found.info.status == ("FAILED" if why else "FINISHED")
        assert found.data.tags.get("tis.error") == why
        assert run_of(tracker, study).info.status == "FINISHED"


def data_set(side, **changes):
    """A data set of 7 rows, from a file of one's own."""
    facts = {"name": "pool.jsonl", "digest": "0123456789abcdef", "rows": 7, "quarantined": 1}
    source = {"source_type": "local", "source": {"uri": "/data/pool.jsonl"}}
    return DataSet(side=side, **{**facts, **source, **changes})


def test_mlflow_finds_data_sets_by_digest_schema_and_source(tracker):
    from mlflow.data import get_source
    from mlflow.types import Schema

    hub = {"path": "org/name", "config_name": None, "data_dir": None, "data_files": None}
    sets = [
        data_set("pool"),
        data_set(
            "query", source_type="hugging_face", source={**hub, "split": "train", "revision": "v1"}
        ),
        data_set("test", source_type="code", source={"tags": {"skill": "reverse_word"}}),
    ]
    sets = [dataclasses.replace(each, name=each.side) for each in sets]
    for _ in range(2):
        with tracker.study("s", "f0") as study:
            study.log_datasets(sets)
    found = {i.dataset.name: i for i in run_of(tracker, study).inputs.dataset_inputs}
    assert len(found) == len(run_of(tracker, study).inputs.dataset_inputs) == 3
    assert {name: each.tags[0].value for name, each in found.items()} == {s: s for s in found}
    pool = found["pool"].dataset
    assert (pool.digest, json.loads(pool.profile)["num_rows"]) == ("0123456789abcdef", 7)
    columns = {c["name"]: c["type"] for c in json.loads(pool.schema)["mlflow_colspec"]}
    assert (columns["id"], columns["messages"]) == ("string", "array")
    Schema.from_json(json.dumps(json.loads(pool.schema)["mlflow_colspec"]))
    assert get_source(pool).uri == "/data/pool.jsonl"
    assert get_source(found["query"].dataset).revision == "v1"
    assert get_source(found["test"].dataset).to_dict() == {"tags": {"skill": "reverse_word"}}


@pytest.mark.parametrize(
    ("sources", "name", "kind", "uri"),
    [
        ({"query": "{}/q.jsonl", "test": "{}/t.jsonl"}, "t.jsonl", "local", "{}/t.jsonl"),
        (
            {"query": {"path": "{}/q.jsonl", "holdout": 0.5}},
            "q.jsonl (held out)",
            "local",
            "{}/q.jsonl",
        ),
        ({"query": "s3://b/q.jsonl", "test": "s3://b/t.jsonl"}, "t.jsonl", "s3", "s3://b/t.jsonl"),
    ],
)
def test_a_data_set_says_where_its_rows_came_from(tmp_path, sources, name, kind, uri):
    sources = json.loads(json.dumps(sources).replace("{}", str(tmp_path)))
    study = small_study(tmp_path)
    study["data"] = {"pool": study["data"]["pool"], **sources}
    rows = Artifact(tmp_path, "rows", {"some": "rows"})
    rows.commit(rows=3, quarantined=2, seconds=0.0)
    (found,) = data_sets(parse_config(study), {"test": rows})
    assert (found.name, found.source_type) == (name, kind)
    assert found.source == {"uri": uri.replace("{}", str(tmp_path))}
    assert (found.digest, found.rows, found.quarantined) == (rows.fingerprint, 3, 2)


def test_a_rerun_reopens_and_adds_nothing_twice(tracker):
    for _ in range(2):
        with tracker.study("s", "f0", config={"x": 1}) as study, study.cell("c", "f1") as cell:
            assert run_of(tracker, cell).info.status == "RUNNING"
            cell.log_metrics({"loss": math.nan, "top": math.inf})
            cell.log_series("train_loss", {1: 2.0, 2: 1.0})
    assert len(runs_of(tracker, "study")) == len(runs_of(tracker, "cell")) == 1
    for name, count in (("loss", 1), ("top", 1), ("train_loss", 2)):
        assert len(tracker._client.get_metric_history(cell.run_id, name)) == count
    assert run_of(tracker, cell).info.status == "FINISHED"


def test_a_second_tracker_on_the_same_store_reopens_too(tracker, store, request):
    with tracker.study("s", "f0") as first:
        pass
    other = Tracker(f"sqlite:///{store}/mlflow.db", experiment=request.node.name)
    with other.study("s", "f0") as second:
        pass
    assert first.run_id == second.run_id


def test_the_same_cell_in_two_studies_is_a_child_of_each(tracker):
    for fingerprint in ("f0", "f1"):
        with tracker.study("s", fingerprint) as study, study.cell("c", "same"):
            pass
    assert len(runs_of(tracker, "cell")) == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")],
)
def test_status_is_honest(tracker, error, status):
    with (
        pytest.raises(type(error)),
        tracker.study("s", "f0") as study,
        study.cell("c", "f1") as cell,
    ):
        raise error
    assert run_of(tracker, study).info.status == run_of(tracker, cell).info.status == status


def test_a_study_whose_process_was_killed_becomes_killed(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    lines = [
        "import os, signal, sys",
        "from tis_ray.study.mlflow_tracker import Tracker",
        "with Tracker(sys.argv[1]).study('lost', 'f1') as study, study.method('with it', 'm'):",
        "    os.kill(os.getpid(), signal.SIGKILL)",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines), uri], check=False)
    assert done.returncode == -signal.SIGKILL
    tracker = Tracker(uri)
    lost = tracker._client.search_runs([tracker.experiment_id])
    assert [run.info.status for run in lost] == ["RUNNING", "RUNNING"]
    with tracker.study("mine", "f2"), Tracker(uri).study("beside it", "f3"):
        found = {
            run.info.run_name: run.info.status
            for run in tracker._client.search_runs([tracker.experiment_id])
        }
    killed = {"lost": "KILLED", "with it": "KILLED"}
    assert found == {**killed, "mine": "RUNNING", "beside it": "RUNNING"}


def test_finished_cells_are_those_that_ended_well(tracker):
    with tracker.study("s", "f") as study:
        with study.cell("one", "c1"):
            pass
        with pytest.raises(ValueError), study.cell("two", "c2"):
            raise ValueError("no")
        assert study.finished_cells() == {"c1"}
    with tracker.study("t", "g") as other:
        assert other.finished_cells() == set()


def test_success_after_failure_clears_the_error(tracker):
    with pytest.raises(RuntimeError), tracker.study("s", "f0") as study:
        raise RuntimeError("boom")
    assert run_of(tracker, study).data.tags["tis.error"] == "RuntimeError: boom"
    with tracker.study("s", "f0"):
        pass
    assert "tis.error" not in run_of(tracker, study).data.tags


def test_changed_params_of_a_reopened_run_become_tags(tracker):
    for device in ("cpu", "cuda"):
        with tracker.study("s", "f0", config={"device": device, device: 1}) as study:
            pass
    data = run_of(tracker, study).data
    assert data.params == {"device": "cpu", "cpu": "1", "cuda": "1"}
    assert data.tags["changed.device"] == "cuda"


def test_long_values_odd_names_and_many_entries_fit(tracker):
    with tracker.study("s", "f0", config={f"p{i}": i for i in range(250)}) as study:
        study.log_params({"long": "x" * 9000, "odd[0]*": None, "/a/../b": True, "": 1})
        study.set_tags({"long": "y" * 9000} | {f"t{i}": i for i in range(150)})
        study.log_series("train_loss", {step: 1 / step for step in range(1, 2501)})
        study.log_series("odd[0]", {0: 1.0})
    data = run_of(tracker, study).data
    assert len(data.params["long"]) == 6000
    assert (data.params["odd_0__"], data.params["p249"]) == ("null", "249")
    assert len(data.params) == 254
    assert data.tags["t149"] == "149"
    assert len(tracker._client.get_metric_history(study.run_id, "train_loss")) == 2500
    assert "odd_0_" in data.metrics


def test_files_and_folders_are_kept(tracker, tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1\n")
    (tmp_path / "adapter" / "deep").mkdir(parents=True)
    (tmp_path / "adapter" / "deep" / "w.bin").write_bytes(b"w")
    with tracker.study("s", "f0") as study:
        study.log_artifact(tmp_path / "config.yaml")
        study.log_artifact(tmp_path / "config.yaml", "report")
        study.log_artifact(tmp_path / "adapter")
    names = {file.path for file in tracker._client.list_artifacts(study.run_id)}
    assert names == {"config.yaml", "report", "adapter"}
    copy = tracker._client.download_artifacts(study.run_id, "adapter/deep/w.bin")
    assert Path(copy).read_bytes() == b"w"


def test_a_relative_database_stays_where_it_was_named(store, tmp_path, monkeypatch):
    monkeypatch.chdir(store)
    tracker = Tracker("sqlite:///mlflow.db", experiment="relative")
    monkeypatch.chdir(tmp_path)
    with tracker.study("s", "f0") as study:
        study.log_artifact(__file__)
    assert tracker.uri == f"sqlite:///{store}/mlflow.db"
    assert list(tmp_path.iterdir()) == []
    assert run_of(tracker, study).info.artifact_uri.startswith((store / "mlruns").as_uri())


def test_the_default_database_lies_beside_the_artifacts(tmp_path):
    tracker = Tracker(artifact_root=tmp_path / "mlruns")
    assert tracker.uri == f"sqlite:///{tmp_path}/mlflow.db"
    with tracker.study("s", "f0") as study:
        study.log_artifact(__file__)
    assert (tmp_path / "mlruns").is_dir()


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("", "is empty"),
        ("file:///data/x", "MLflow cannot use it .*filesystem tracking backend"),
        ("nonsense://h/db", "MLflow cannot use it"),
        ("postgresql+nothing://tis:secret@h/db", r"tis:\*\*\*@h/db: MLflow cannot use it"),
    ],
)
def test_stores_that_cannot_work_are_named_without_their_password(uri, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    with pytest.raises(InputError, match=f"(?s)tracking.uri .*{why}.*give a server") as error:
        Tracker(uri)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    assert time.monotonic() - start < 20


def test_the_environment_names_the_store_where_the_config_does_not(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert store_uri(None, tmp_path) == "http://there:5000"
    assert store_uri("http://here:5000", tmp_path) == "http://here:5000"


def test_a_file_that_is_no_database_is_named(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to have a header" * 10)
    with pytest.raises(InputError, match="MLflow cannot use it"):
        Tracker(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_deleted_experiment_is_named(tracker, store, request):
    tracker._client.delete_experiment(tracker.experiment_id)
    with pytest.raises(InputError, match="was deleted in MLflow"):
        Tracker(f"sqlite:///{store}/mlflow.db", experiment=request.node.name)


def test_a_lost_store_warns_and_the_study_goes_on(tracker, monkeypatch, caplog):
    def lost(*args, **kwargs):
        raise ConnectionError("server is gone")

    with tracker.study("s", "f0") as study:
        for name in ("log_batch", "search_runs", "set_terminated", "log_artifact"):
            monkeypatch.setattr(tracker._client, name, lost)
        with caplog.at_level(logging.WARNING), study.cell("c", "f1", {"a": 1}) as cell:
            cell.log_metrics({"loss": 1.0})
        study.log_metrics({"loss": 1.0})
        study.log_artifact(__file__)
    assert caplog.text.count("was not recorded: server is gone") >= 3


def test_off_has_the_same_interface_and_does_nothing():
    tracker = open_tracker(enabled=False, uri="nonsense://")
    assert type(tracker) is NullTracker
    with tracker.study("s", "f", config={}, tags={}) as study, study.cell("c", "g", {}, {}) as cell:
        cell.log_params({"a": 1})
        cell.log_metrics({"a": 1.0})
        cell.log_series("a", {1: 1.0})
        cell.set_tags({"a": 1})
        cell.log_artifact("/nowhere")
        study.log_datasets([])
        cell.log_model("c", "/nowhere")
        with study.method("m", "h") as method:
            assert method.run_id is None
    assert cell.run_id is None


def test_off_swallows_no_error():
    with pytest.raises(RuntimeError, match="boom"), NullTracker().study("s", "f"):
        raise RuntimeError("boom")


def test_imports_stay_light(tmp_path):
    script = f"""
import sys
import tis_ray.study.mlflow_tracker as tracking
with tracking.open_tracker(enabled=False).study("s", "f"):
    pass
assert not any(m in sys.modules for m in ("mlflow", "ray", "torch")), "tracking off"
tracking.Tracker("sqlite:///{tmp_path}/mlflow.db")
assert not any(m in sys.modules for m in ("ray", "torch")), "tracking on"
import os
import signal
assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""  # no news about tables, no alembic lines


def test_flatten_keeps_lists_and_empty_sections():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [{"e": 1}]}) == {
        "a.b": 1,
        "a.c": {},
        "d": [{"e": 1}],
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real tracking server on a free port of this machine."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(20)


@pytest.mark.slow
def test_a_real_server_holds_the_same(server, tmp_path):
    (tmp_path / "ordering.parquet").write_bytes(b"PAR1")
    for _ in range(2):
        # Where a study's own files lie is nothing to a server: it keeps what it is sent.
        tracker = Tracker(server + "/", experiment="remote", artifact_root=tmp_path / "mlruns")
        with (
            tracker.study("s", "f0", config={"a": 1}) as study,
            study.method("m", "f2") as method,
            method.cell("c", "f1") as cell,
        ):
            study.log_datasets([data_set("pool")])
            cell.log_series("loss", {1: 1.0, 2: math.nan})
            cell.log_artifact(tmp_path / "ordering.parquet")
    assert len(runs_of(tracker, "cell")) == 1
    assert len(tracker._client.get_metric_history(cell.run_id, "loss")) == 2
    assert run_of(tracker, cell).info.status == "FINISHED"
    copy = tracker._client.download_artifacts(cell.run_id, "ordering.parquet")
    assert Path(copy).read_bytes() == b"PAR1"
    assert not (tmp_path / "mlruns").exists()
    assert len(run_of(tracker, study).inputs.dataset_inputs) == 1


@pytest.mark.slow
def test_a_server_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"tracking\.uri http://127\.0\.0\.1:9: MLflow cannot use"):
        Tracker("http://127.0.0.1:9")


@pytest.fixture
def postgres(tmp_path):
    """A real Postgres of this test alone; skipped where its programs or its driver are missing."""
    pytest.importorskip("psycopg2")
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no Postgres on this machine")
    folder = Path(tempfile.mkdtemp(prefix="tis-pg-"))  # the path of its socket must be short
    user: list[str] = []
    if os.geteuid() == 0:  # Postgres refuses root
        if shutil.which("setpriv") is None:
            pytest.skip("root cannot run Postgres, and there is no setpriv")
        shutil.chown(folder, "nobody")
        user = ["setpriv", "--reuid", "nobody", "--clear-groups"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = folder / "db", folder / "log"

    def call(*command: object) -> None:
        subprocess.run(
            [*user, *map(str, command)], check=True, cwd=folder, stdout=subprocess.DEVNULL
        )

    call("initdb", "-D", data, "-U", "tis", "--auth=trust")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    call("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
    try:
        yield (
            f"postgresql+psycopg2://tis:secret@127.0.0.1:{port}/postgres",
            lambda: call("pg_ctl", "-D", data, "-m", "immediate", "stop"),
        )
    finally:
        if (data / "postmaster.pid").exists():
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_postgres_holds_the_same_and_a_study_outlives_it(postgres, tmp_path, caplog):
    uri, stop = postgres
    for _ in range(2):
        tracker = Tracker(uri, artifact_root=tmp_path / "mlruns")
        with tracker.study("s", "f0", config={"a": 1}) as study, study.method("m", "f1") as method:
            study.log_datasets([data_set("pool")])
            with method.cell("c", "f2") as cell:
                cell.log_series("loss", {1: 1.0, 2: math.nan})
                cell.log_artifact(__file__)
    assert [len(runs_of(tracker, kind)) for kind in ("study", "method", "cell")] == [1, 1, 1]
    assert len(tracker._client.get_metric_history(cell.run_id, "loss")) == 2
    assert len(run_of(tracker, study).inputs.dataset_inputs) == 1
    assert list((tmp_path / "mlruns").rglob(Path(__file__).name))
    with tracker.study("s", "f0") as study:
        stop()
        with caplog.at_level(logging.WARNING), study.method("n", "f3") as lost:
            lost.log_metrics({"loss": 1.0})
        study.log_metrics({"loss": 1.0})
    assert "was not recorded" in caplog.text
