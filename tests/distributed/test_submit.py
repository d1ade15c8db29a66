"""Jobs: what may be submitted, what a second submission does, and a study on a real cluster."""

from __future__ import annotations

import io
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus
from rich.console import Console

from tis_ray.config import parse_config
from tis_ray.distributed import connect as cluster
from tis_ray.distributed import submit
from tis_ray.distributed.submit import submit_study
from tis_ray.errors import InputError

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STUDY: dict[str, Any] = {
    "name": "job",
    "runs": "/shared/runs",
    "artifacts": "/shared/artifacts",
    "data": {
        "pool": {"kind": "builtin", "rows": 120},
        "query": {"kind": "builtin", "skill": "reverse_word", "rows": 4},
        "test": {"kind": "builtin", "skill": "reverse_word", "rows": 4},
        "max_length": 128,
    },
    "model": {"name": "builtin"},
    "representation": "less",
    "budget": 8,
    "seed": [0],
    "less": {"warmup": {"epochs": 2, "batch_size": 16}, "sketch": {"width": 256}},
    "finetune": {"epochs": 1, "batch_size": 8, "workers": 0},
    "evaluation": {"metrics": []},
    "batch": {"shard_rows": 64},
    "tracking": {"enabled": False},
}


@dataclass
class FakeServer:
    """A job server without a cluster: jobs end as `outcome` when their status is asked."""

    jobs: dict[str, JobStatus] = field(default_factory=dict)
    outcome: JobStatus = JobStatus.SUCCEEDED
    log: tuple[str, ...] = ("one line\n",)
    cut_off: bool = False
    configs: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def get_address(self) -> str:
        return "http://head:8265"

    def list_jobs(self) -> list[Any]:
        return [SimpleNamespace(submission_id=job, status=s) for job, s in self.jobs.items()]

    def submit_job(self, *, submission_id: str, runtime_env: dict[str, Any], **_: Any) -> None:
        assert submission_id not in self.jobs, "a cluster refuses an id that it has seen"
        self.jobs[submission_id] = JobStatus.RUNNING
        self.configs.append((Path(runtime_env["working_dir"]) / "study.yaml").read_text())
        self.variables = runtime_env["env_vars"]

    def get_job_status(self, job: str) -> JobStatus:
        self.jobs[job] = self.outcome
        return self.outcome

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        for lines in self.log:
            yield lines
        if self.cut_off:
            raise RuntimeError("WebSocket connection closed unexpectedly")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setattr(submit, "JobSubmissionClient", lambda address: fake)
    return fake


def send(study: dict[str, Any] = STUDY, follow: bool = True) -> tuple[int, str]:
    """Submit and return the exit code and what was printed."""
    out = io.StringIO()
    code = submit_study(parse_config(study), "http://head:8265", follow, Console(file=out))
    return code, out.getvalue()


def test_the_job_gets_the_resolved_config(server: FakeServer) -> None:
    code, said = send()
    assert code == 0
    assert "one line" in said
    assert "/shared/runs/job" in said
    assert parse_config(yaml.safe_load(server.configs[0])) == parse_config(STUDY)


def test_the_job_writes_the_lines_that_its_sender_asked_for(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    send()
    assert server.variables == {}
    monkeypatch.setenv("TIS_RAY_LOG", "json")
    server.jobs.clear()
    send()
    assert server.variables == {"TIS_RAY_LOG": "json"}


def test_a_new_attempt_has_a_new_id_even_when_an_old_job_was_deleted(server: FakeServer) -> None:
    send()
    send()
    first, second = server.jobs
    assert (first.rpartition("-")[0], second[-2:]) == (second.rpartition("-")[0], "-2")
    del server.jobs[first]
    send()
    assert [job.rpartition("-")[2] for job in server.jobs] == ["2", "3"]


def test_a_running_study_is_followed_and_not_started_twice(server: FakeServer) -> None:
    assert send(follow=False)[0] == 0
    code, said = send()
    assert (code, len(server.jobs)) == (0, 1)
    assert "is already running" in said


def test_another_study_is_another_job(server: FakeServer) -> None:
    send(follow=False)
    send({**STUDY, "budget": 9}, follow=False)
    assert len(server.jobs) == 2


def test_a_lost_log_does_not_decide_the_outcome(server: FakeServer) -> None:
    server.cut_off = True
    code, said = send()
    assert code == 0
    assert "cut off" in said


@pytest.mark.parametrize("outcome", [JobStatus.FAILED, JobStatus.STOPPED])
def test_a_failed_job_is_a_failed_command(server: FakeServer, outcome: JobStatus) -> None:
    server.outcome = outcome
    assert send()[0] == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"runs": "runs"}, "runs: found `runs`"),
        ({"artifacts": "here/artifacts"}, "artifacts: found `here/artifacts`"),
        (
            {"data": {**STUDY["data"], "pool": {"kind": "file", "path": "pool.jsonl"}}},
            "data.pool.path: found `pool.jsonl`",
        ),
        (
            {"overlap": {"also": [{"query": "q.jsonl", "test": "/t.jsonl"}]}},
            "overlap.also.query.path: found `q.jsonl`",
        ),
        ({"representation": {"scores": "x/S.npy"}}, "given.S.scores: found `x/S.npy`"),
        (
            {"less": {"cascade": {"by": "f"}}, "given": {"f": {"features": "/F", "queries": "Q"}}},
            "given.f.queries: found `Q`",
        ),
        ({"representation": {"ordering": "~/o.parquet"}}, "given.o.ordering: found `~/o.parquet`"),
        ({"constraints": {"include": "ids.txt"}}, "constraints.include: found `ids.txt`"),
        ({"constraints": {"exclude": "ids.txt"}}, "constraints.exclude: found `ids.txt`"),
        ({"evaluation": {"tasks": ["task.yaml"]}}, "evaluation.tasks: found `task.yaml`"),
        ({"evaluation": {"lm_eval": ["t.yaml"]}}, "evaluation.lm_eval: found `t.yaml`"),
        ({"less": {"warmup": {"checkpoints": "w"}}}, "less.warmup.checkpoints: found `w`"),
        ({"tracking": {"uri": "sqlite:///m.db"}}, "tracking.uri: found `m.db`"),
        ({"model": {"name": "my-model"}}, "model.name: found `my-model`"),
        ({"less": {"model": {"name": "my-model"}}}, "less.model.name: found `my-model`"),
        (
            {"representation": "embed", "embed": {"model": "my-model"}},
            "embed.model: found `my-model`",
        ),
    ],
)
def test_paths_that_the_job_would_lose_are_refused(
    server: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    named: str,
) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="absolute path") as caught:
        send({**STUDY, **change})
    assert named in str(caught.value)
    assert not server.jobs


def test_hub_models_and_absolute_paths_are_sent(server: FakeServer) -> None:
    given = {"given": {"S": {"scores": "/shared/S.npy"}}, "representation": "S"}
    send({**STUDY, **given, "model": {"name": "org/model"}, "tracking": {"uri": "http://m:5000"}})
    assert len(server.jobs) == 1


def test_inside_a_job_relative_results_are_refused_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(cluster.IN_JOB, "{}")
    with pytest.raises(InputError, match="artifacts: found `artifacts`"):
        cluster.connect(parse_config({**STUDY, "artifacts": "artifacts"}))


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ConnectionError("Failed to connect"), "no job server answers"),
        (AuthenticationError("Authentication required"), "RAY_AUTH_TOKEN_PATH"),
    ],
)
def test_an_unreachable_or_closed_server_is_bad_input_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    def refuse(address: str) -> None:
        raise error

    monkeypatch.setattr(submit, "JobSubmissionClient", refuse)
    with pytest.raises(InputError, match=advice) as caught:
        send()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("resources", "threads", "gpus_per_actor", "room"),
    [
        ({"CPU": 6.0}, 4, 0.0, 1),  # the other 2 CPUs cannot be joined with another node's
        ({"CPU": 8.0, "GPU": 1.0}, 2, 0.5, 2),
        ({"CPU": 8.0}, 1, 1.0, 0),
        ({}, 1, 0.0, 0),  # a head that was started with --num-cpus 0
    ],
)
def test_an_actor_has_to_fit_on_one_node(
    resources: dict[str, float], threads: int, gpus_per_actor: float, room: int
) -> None:
    assert cluster._room(resources, threads, gpus_per_actor) == room


# The rest needs a cluster with token authentication: its own processes, its own ports.


@dataclass
class RealCluster:
    """A head without CPUs and one worker, as `cluster/kuberay/rayjob.yaml` lays them out."""

    address: str
    token: str
    environment: dict[str, str]
    """Of who may use the cluster."""

    def get(self, path: str, token: str | None) -> Any:
        """Ask the head's HTTP server; raises HTTPError."""
        request = urllib.request.Request(self.address + path)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def worker_cpus(self) -> float:
        nodes = self.get("/api/v0/nodes", self.token)["data"]["result"]["result"]
        return sum(n["resources_total"].get("CPU", 0) for n in nodes if n["state"] == "ALIVE")


def environment(**changes: str) -> dict[str, str]:
    """Return this environment with the virtual environment's commands first on the PATH."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **changes}


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


@contextmanager
def ray_node(log: Path, env: dict[str, str], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ray start --block`; at the end stop it and all that it started, and nothing else."""
    command = [str(BIN / "ray"), "start", "--block"]
    command += ["--min-worker-port", "0", "--max-worker-port", "0"]  # any free ports
    command += ["--object-store-memory", str(100 * 2**20), "--disable-usage-stats", *options]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        family = []
        if process.poll() is None:
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
            process.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for leftover in alive:
            with suppress(psutil.NoSuchProcess):
                leftover.kill()
        process.wait(timeout=10)


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 150
) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if ready():
                return
        except (OSError, ValueError):  # not up yet; HTTP errors are OSErrors
            pass
        time.sleep(1)
    pytest.fail(f"the Ray node did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def real_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    env = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(folder / "token"))
    gcs, dashboard, client, *ports = free_ports(9)

    def agents(three: list[str]) -> list[str]:
        names = "--dashboard-agent-listen-port", "--metrics-export-port", "--runtime-env-agent-port"
        return [word for pair in zip(names, three, strict=True) for word in pair]

    with ExitStack() as stack:
        # Each node has its own folder, as on two machines: when a node unpacks a job's files it
        # replaces the folder. Ray's sockets lie there too, and their paths must be short.
        head_dir, worker_dir = (
            stack.enter_context(tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True))
            for _ in range(2)
        )
        head_options = ["--head", "--port", gcs, "--temp-dir", head_dir, "--num-cpus", "0"]
        head_options += ["--dashboard-host", "127.0.0.1", "--dashboard-port", dashboard]
        head_options += ["--ray-client-server-port", client, *agents(ports[:3])]
        worker_options = ["--address", f"127.0.0.1:{gcs}", "--temp-dir", worker_dir]
        worker_options += ["--num-cpus", "2", *agents(ports[3:])]
        ready = RealCluster(f"http://127.0.0.1:{dashboard}", token, env)
        head_log, worker_log = folder / "head.log", folder / "worker.log"
        head = stack.enter_context(ray_node(head_log, env, *head_options))
        wait_until(lambda: ready.get("/api/jobs/", token) == [], head, head_log)
        worker = stack.enter_context(ray_node(worker_log, env, *worker_options))
        wait_until(lambda: ready.worker_cpus() == 2, worker, worker_log)
        yield ready


def run_command(env: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=ROOT,
        env=env,
        text=True,
        timeout=400,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, with its results in a folder that all of this machine's nodes see."""
    folder = tmp_path_factory.mktemp("study")
    study = {**STUDY, "runs": str(folder / "runs"), "artifacts": str(folder / "artifacts")}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_the_token_nothing_is_accepted(
    real_cluster: RealCluster, study_file: Path, tmp_path: Path
) -> None:
    for token, status in ((None, 401), ("0" * 64, 403)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            real_cluster.get("/api/jobs/", token)
        assert refused.value.code == status
    outsider = environment(RAY_AUTH_MODE="disabled", HOME=str(tmp_path))
    address = ("--address", real_cluster.address)
    by_ray = run_command(outsider, BIN / "ray", "job", "submit", *address, "--", "echo", "hello")
    assert by_ray.returncode != 0
    assert "Authentication required" in by_ray.stdout
    ours = run_command(outsider, BIN / "tis-ray", "submit", "--config", study_file, *address)
    assert ours.returncode == 2, ours.stdout
    assert "RAY_AUTH_TOKEN_PATH" in ours.stdout
    assert "Traceback" not in ours.stdout
    assert real_cluster.get("/api/jobs/", real_cluster.token) == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_entry_point_of_jobs_runs_as_a_job(real_cluster: RealCluster) -> None:
    """One whose name is a library's, too: Ray puts the checkout on its path, and not the folder that it is in."""
    for job, words in (("select.py", "Rank the pool"), ("evaluate.py", "Print the losses")):
        done = run_command(
            real_cluster.environment,
            *(BIN / "ray", "job", "submit", "--address", real_cluster.address),
            *("--working-dir", ROOT, "--", sys.executable, f"jobs/{job}", "--help"),
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert words in done.stdout


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_ends_in_the_bytes_of_a_local_run_and_a_second_one_reuses_them(
    real_cluster: RealCluster, study_file: Path, tmp_path: Path
) -> None:
    address = ("--address", real_cluster.address)
    by_ray = run_command(
        real_cluster.environment,
        *(BIN / "ray", "job", "submit", *address, "--working-dir", ROOT, "--"),
        *(sys.executable, "-m", "tis_ray.cli", "run", "--config", study_file),
    )
    assert by_ray.returncode == 0, by_ray.stdout[-5000:]
    run_dir = study_file.parent / "runs" / "job"
    ordering = run_dir / "orderings" / "less-round_robin" / "ordering.parquet"
    written = ordering.stat().st_mtime_ns
    assert (run_dir / "report" / "index.html").exists()

    ours = run_command(
        real_cluster.environment, BIN / "tis-ray", "submit", "--config", study_file, *address
    )
    assert ours.returncode == 0, ours.stdout[-5000:]
    jobs = real_cluster.get("/api/jobs/", real_cluster.token)
    named = [job for job in jobs if job["submission_id"].startswith("tis-")]
    assert [(job["status"], job["metadata"]["study"]) for job in named] == [("SUCCEEDED", "job")]
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    starts = [i for i, event in enumerate(events) if event["event"] == "start"]
    stages = [event for event in events[starts[1] :] if event["event"] == "stage"]
    assert len(starts) == 2
    assert stages
    assert all(stage["reused"] for stage in stages)
    assert ordering.stat().st_mtime_ns == written

    local = run_command(
        environment(RAY_AUTH_MODE="disabled"),
        *(BIN / "tis-ray", "select", "--config", study_file),
        *("--set", f"runs={tmp_path}/runs", "--set", f"artifacts={tmp_path}/artifacts"),
        *("--set", "compute.actors=1"),  # the job had two
    )
    assert local.returncode == 0, local.stdout[-5000:]
    here = tmp_path / "runs" / "job" / "orderings" / "less-round_robin" / "ordering.parquet"
    assert here.read_bytes() == ordering.read_bytes()
