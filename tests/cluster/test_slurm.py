"""The SLURM script: what it would run, by programs that only take notes; and Ray as it really starts it, on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.scripts.scripts import cli as ray_cli

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sh"
NOTE = """#!{python}
import json, os, sys
from pathlib import Path
me = Path(sys.argv[0]).name
token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "/none"))
note = dict(program=me, words=sys.argv[1:], mode=os.environ.get("RAY_AUTH_MODE"), ray=os.environ.get("RAY_ADDRESS"),
    token=str(token), readable=oct(token.stat().st_mode & 0o777) if token.exists() else None)
with open(os.environ["NOTES"], "a") as notes:
    notes.write(json.dumps(note) + "\\n")
{then}
"""
THEN = {
    "srun": "",
    "ray": "",
    "python": "sys.stdin.read()",
    "hostname": "print('10.0.0.7 172.17.0.1')",
    "scontrol": "print('n1', 'n2', 'n3', sep='\\n') if 'show' in sys.argv else None",
    "tis-ray": """import time
while open(os.environ["NOTES"]).read().count('"srun"') < 2:
    time.sleep(0.1)
""",
}
"""What the programs do, beside taking notes: the study lasts until both of srun's have begun."""


@dataclass
class Slurm:
    """A job's environment, in which each program takes a note of how it was called."""

    folder: Path

    def program(self, name: str, then: str) -> None:
        """Make a program that takes its note and then does something."""
        path = self.folder / "bin" / name
        path.write_text(NOTE.format(python=sys.executable, then=then))
        path.chmod(0o755)

    def start(self, *words: str, **changes: str) -> subprocess.Popen[str]:
        """Run the script as SLURM does: from a copy of it, in the folder of sbatch."""
        copy = self.folder / "slurm_script"
        copy.write_bytes(SCRIPT.read_bytes())
        environment = {
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "NOTES": str(self.folder / "notes"),
            "SLURM_JOB_ID": "12345",
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_CPUS_PER_TASK": "16",
            **changes,
        }
        return subprocess.Popen(
            ["bash", str(copy), *words],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def notes(self, program: str) -> list[dict[str, str]]:
        """Return the notes of a program."""
        path = self.folder / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [note for note in map(json.loads, lines) if note["program"] == program]

    def started(self) -> list[list[str]]:
        """Return the `ray start` commands that srun was given."""
        words = [note["words"] for note in self.notes("srun")]
        return [list(one[one.index("start") :]) for one in words]


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    (tmp_path / "bin").mkdir()
    made = Slurm(tmp_path)
    for name, then in THEN.items():
        made.program(name, then)
    return made


def options(words: list[str]) -> dict[str, object]:
    """Parse a `ray start` command by Ray's own parser, which refuses an unknown option."""
    parsed: dict[str, object] = ray_cli.commands["start"].make_context("start", words[1:]).params
    return parsed


def test_it_is_a_script_without_an_error() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", SCRIPT.read_text(), re.MULTILINE))
    assert asked["ntasks-per-node"] == "1"
    assert asked["signal"] == "B:TERM@120"
    assert "requeue" in asked


def test_a_head_without_work_and_a_worker_on_every_node(slurm: Slurm) -> None:
    process = slurm.start("run", "--config", "study.yaml", "--set", "seed=[0, 1]")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    head, worker = (options(words) for words in slurm.started())
    assert head["head"]
    assert (head["num_cpus"], head["num_gpus"]) == (0, 0)
    assert head["node_ip_address"] == "10.0.0.7"
    assert not worker["head"]
    assert worker["num_cpus"] == 16
    assert worker["address"] == f"10.0.0.7:{head['port']}"
    assert head["temp_dir"] != worker["temp_dir"]  # they share the first node
    assert head["block"]
    assert worker["block"]
    for note, nodes in zip(slurm.notes("srun"), ("1", "3"), strict=True):
        assert "--overlap" in note["words"]
        assert note["words"][note["words"].index("--nodes") + 1] == nodes


def test_the_study_joins_them_and_its_words_stay_as_they_are(slurm: Slurm) -> None:
    words = ["run", "--config", "a study.yaml", "--set", "seed=[0, 1]"]
    process = slurm.start(*words)
    process.communicate(timeout=60)
    (study,) = slurm.notes("tis-ray")
    assert study["words"] == words
    assert study["ray"] == "10.0.0.7:22345"
    (waited,) = slurm.notes("python")
    assert waited["words"] == ["-", "3"]


def test_its_token_is_its_own_and_nobody_elses_and_is_gone_afterwards(slurm: Slurm) -> None:
    slurm.start("run").communicate(timeout=60)
    notes = slurm.notes("tis-ray") + slurm.notes("srun")
    assert {note["mode"] for note in notes} == {"token"}
    assert {note["readable"] for note in notes} == {"0o600"}
    assert not [word for note in notes for word in note["words"] if "token" in word]
    assert not Path(notes[0]["token"]).exists()


def test_a_failed_study_is_a_failed_job(slurm: Slurm) -> None:
    slurm.program("tis-ray", "sys.exit(2)")
    process = slurm.start("run")
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert not slurm.notes("scontrol")[1:]


def test_when_its_time_is_up_the_study_stops_and_the_job_queues_again(slurm: Slurm) -> None:
    told = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (open(os.environ['NOTES'] + '.told', 'w'), sys.exit(143))); time.sleep(60)"
    slurm.program("tis-ray", told)
    process = slurm.start("run")
    wait_until(lambda: bool(slurm.notes("tis-ray")))
    time.sleep(1)
    process.send_signal(signal.SIGTERM)  # SLURM's, to the script alone
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143, out
    assert (slurm.folder / "notes.told").exists()
    assert slurm.notes("scontrol")[-1]["words"] == ["requeue", "12345"]


def test_without_its_environment_it_says_so(slurm: Slurm) -> None:
    (slurm.folder / "bin" / "tis-ray").unlink()
    process = slurm.start("run")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "activate its environment" in out
    assert not slurm.notes("srun")


def wait_until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ray_starts_so_and_a_process_with_the_token_sees_a_worker(slurm: Slurm) -> None:
    """Head and worker are really started, both on this machine, as on the first node of a job."""
    bin_folder = Path(sys.executable).parent
    for name in ("ray", "python", "hostname"):
        (slurm.folder / "bin" / name).unlink()
    slurm.program("hostname", "print('127.0.0.1')")
    slurm.program("scontrol", "print('n1')")
    slurm.program(
        "srun", "words = sys.argv[1:]; words = words[words.index('ray'):]; os.execvp('ray', words)"
    )
    look = "import ray; ray.init(logging_level='ERROR'); print('sees', [node['Resources'].get('CPU', 0) for node in ray.nodes()])"
    slurm.program("tis-ray", look)
    ports = {"SLURM_JOB_ID": str(os.getpid() % 10000 + 50000), "SLURM_CPUS_PER_TASK": "2"}
    path = f"{slurm.folder / 'bin'}:{bin_folder}:/usr/bin:/bin"
    process = slurm.start("run", PATH=path, **ports)
    try:
        out, _ = process.communicate(timeout=390)
    finally:
        for folder in Path("/tmp").glob(f"ray-{ports['SLURM_JOB_ID']}*"):
            shutil.rmtree(folder, ignore_errors=True)
    assert process.returncode == 0, out
    (seen,) = re.findall(r"^sees (.*)$", out, re.MULTILINE)
    assert sorted(json.loads(seen)) == [0, 2.0]
    (note, *_) = slurm.notes("tis-ray")
    assert not Path(note["token"]).exists()
