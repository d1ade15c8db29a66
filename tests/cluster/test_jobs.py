"""The entry points of `jobs/`: each is a verb of the program, and runs by itself as `ray job submit` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tis_ray.cli import app

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.py"))
STUDY = """\
data:
  pool: {kind: builtin, rows: 50}
  query: {kind: builtin, skill: reverse_word, rows: 4}
model: {name: builtin}
representation: [less]
selector: [round_robin]
budget: [10]
"""


def run(job: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a job's file from elsewhere, with the package found as a job's working folder is."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, job, *words],
        cwd="/",
        env=environment,
        text=True,
        capture_output=True,
        timeout=200,
    )


def test_there_is_one_for_each_verb_that_runs_on_a_cluster() -> None:
    program: Any = typer.main.get_command(app)
    verbs = {job.stem for job in JOBS} - {"sweep"}
    assert verbs == {"run", "featurize", "select", "finetune", "evaluate", "report"}
    assert verbs <= {*program.commands}
    for job in JOBS:
        assert len(job.read_text().splitlines()) <= 40


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job.stem))
def test_it_is_the_verb_of_its_name(job: Path, tmp_path: Path) -> None:
    """Also where a library has the name of one of these files, as `select` and `evaluate` do."""
    shown = run(job, "--help")
    assert shown.returncode == 0, shown.stderr
    program: Any = typer.main.get_command(app)
    verb = "run" if job.stem == "sweep" else job.stem
    assert program.commands[verb].help.splitlines()[0].split(",")[0] in shown.stdout
    over = ("--over", "seed=[0,1]") if job.stem == "sweep" else ()
    missing = run(job, "--config", tmp_path / "none.yaml", *over)
    assert missing.returncode == 2
    assert "none.yaml" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_a_sweep_is_a_grid(tmp_path: Path) -> None:
    """What varies within a study and what makes several goes where a file would have it."""
    (tmp_path / "study.yaml").write_text(STUDY)
    sweep = ROOT / "jobs" / "sweep.py"
    axes = ("--over", "finetune.learning_rate=[1.0e-3,wrong]", "--over", "seed=[0,1]")
    done = run(sweep, "--config", tmp_path / "study.yaml", *axes, "--set", "data.test=null")
    assert done.returncode == 2
    assert "grid.finetune.learning_rate" in done.stderr
    done = run(sweep, "--config", tmp_path / "study.yaml", "--over", "seed=[0,wrong]")
    assert done.returncode == 2
    assert "`seed" in done.stderr


def test_a_sweep_in_which_nothing_varies_says_so(tmp_path: Path) -> None:
    done = run(ROOT / "jobs" / "sweep.py", "--config", tmp_path / "study.yaml")
    assert done.returncode == 2
    assert (
        done.stderr == "error: nothing varies; give --over KEY=[VALUE,VALUE], or use jobs/run.py\n"
    )
