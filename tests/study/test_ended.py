"""A start that finds all done says so at once, and nothing that would be made anew is taken for done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.small import small_study
from tis_ray.config import load_config, parse_config, parts
from tis_ray.finished.status import Runs, statuses
from tis_ray.study.ended import Ended, Inputs
from tis_ray.study.result import StudyResult
from tis_ray.study.run import run

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
MINE = '''
"""A selector of a user's own."""

from tis_ray.selectors import Selector
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study of files, none of which has been run, and what such a run might leave."""
    monkeypatch.chdir(tmp_path)
    for name in ("pool", "query", "test"):
        rows = [{"prompt": f"{name} {i}", "completion": "yes"} for i in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "ids.txt").write_text("a\n")
    artifact = tmp_path / "artifacts" / "screen-1"
    artifact.mkdir(parents=True)
    for name in ("_SUCCESS", "manifest.json"):
        (artifact / name).write_text("")
    page = tmp_path / "runs" / "tiny" / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html>")
    return tmp_path


STUDY: dict[str, Any] = {
    "name": "tiny",
    "model": {"name": "./model"},
    "data": {"pool": "pool.jsonl", "query": "query.jsonl", "test": "test.jsonl"},
    "constraints": {"include": "ids.txt"},
    "budget": 4,
    "tracking": {"enabled": True},
}


def inputs(**changes: Any) -> Inputs:
    (part,) = parts(parse_config({**STUDY, **changes}))
    return Inputs.of(part)


def ended(**changes: Any) -> bool:
    """Whether a study is known to have ended with all as it is now."""
    return Ended.found(inputs(**changes), "evaluate", None) is not None


@pytest.fixture
def kept(folder: Path) -> Path:
    """The same folder once the study has ended."""
    (folder / "runs" / "mlflow.db").write_text("")
    result = StudyResult(folder / "runs" / "tiny", made=[folder / "artifacts" / "screen-1"])
    Ended.keep(inputs(), "evaluate", result, None)
    assert ended()
    return folder


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("x")


def same_size_and_time(path: Path) -> None:
    """Change a file as a careful tool would that keeps its time."""
    state, text = path.stat(), path.read_text()
    path.write_text(text.replace("yes", "yex"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pool.jsonl", append),
        ("pool.jsonl", same_size_and_time),
        ("query.jsonl", Path.unlink),
        ("model/config.json", append),
        ("model/adapter.safetensors", append),
        ("ids.txt", append),
        ("artifacts/screen-1/_SUCCESS", Path.unlink),
        ("artifacts/screen-1/manifest.json", append),
        ("artifacts/screen-1", shutil.rmtree),
        ("runs/tiny/report/index.html", Path.unlink),
        ("runs/tiny/ended/evaluate.json", append),
        ("runs/mlflow.db", Path.unlink),
    ],
)
def test_what_is_touched_is_looked_at_again(
    kept: Path, name: str, change: Callable[[Path], object]
) -> None:
    change(kept / name)
    assert not ended()


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": 5},
        {"tracking": {"enabled": False}},
        {"data": {**STUDY["data"], "template": "chat"}},
    ],
)
def test_another_config_has_not_ended(kept: Path, changes: dict[str, Any]) -> None:
    assert not ended(**changes)


def test_where_it_runs_is_nothing_that_it_is_made_from(kept: Path) -> None:
    assert ended(compute={"actors": 1})


def test_another_version_or_environment_has_not_ended(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tis_ray.study.ended.__version__", "0.0.0")
        assert not ended()
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", "/elsewhere")
        assert not ended()
    assert ended()


def test_changed_code_of_a_plugin_is_looked_at_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "mine.py").write_text(MINE)
    __import__("mine")
    try:
        Ended.keep(inputs(), "evaluate", StudyResult(folder / "runs" / "tiny"), None)
        (folder / "runs" / "mlflow.db").write_text("")
        Ended.keep(inputs(), "evaluate", StudyResult(folder / "runs" / "tiny"), None)
        assert ended()
        append(folder / "mine.py")
        assert not ended()
    finally:
        del sys.modules["mine"]


def test_inputs_that_change_during_a_run_are_not_taken_for_what_it_was_made_from(
    folder: Path,
) -> None:
    before = inputs()
    append(folder / "pool.jsonl")
    Ended.keep(before, "evaluate", StudyResult(folder / "runs" / "tiny"), None)
    assert not before.record("evaluate").exists()


@pytest.mark.ray
class TestFinishedStudy:
    """The program, on a study that has really ended."""

    @pytest.fixture
    def study(self, copied: Path) -> Path:
        config = copied / "study.yaml"
        config.write_text(yaml.safe_dump(small_study(copied)))
        run(small_study(copied))  # the copy's folders are new: its steps look once
        return config

    @pytest.mark.parametrize("verb", ["run", "select"])  # which is less than what is there
    def test_a_run_that_finds_all_done_loads_neither_torch_nor_ray(
        self, study: Path, verb: str
    ) -> None:
        program = (
            "import sys; sys.modules['torch'] = sys.modules['ray'] = None\n"
            f"sys.argv = ['tis-ray', {verb!r}, '-c', {str(study)!r}]\n"
            "from tis_ray.cli import main; main()"
        )
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            cwd=Path.cwd(),
            timeout=60,
        )
        assert time.monotonic() - began < 60  # 2.5 on a free machine
        assert "done before; nothing has changed since" in done.stderr, done.stderr
        assert ("LESS" if verb == "run" else "less-round_robin: ") in done.stderr
        assert done.returncode == 0
        (status,) = statuses(Runs.of(load_config(study)))
        assert (status.state, status.until) == ("done", "report")

    def test_what_is_read_of_it_in_python_starts_no_ray(self, study: Path) -> None:
        program = (
            "import sys; sys.modules['ray'] = None\n"
            f"import tis_ray; study = tis_ray.Study({str(study)!r})\n"
            "print(len(study.cells), len(study.ordering()), len(study.subset(4)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.split()[1:] == ["12", "4"], done.stderr

    def test_it_returns_what_the_run_returned_that_made_it(self, study: Path) -> None:
        config = yaml.safe_load(study.read_text())
        again = run(config)
        folder = again.run_dir
        assert (folder / "ended" / "report.json").exists()
        shutil.rmtree(folder / "ended")
        whole = run(config)
        assert [cell.to_json() for cell in again.cells] == [c.to_json() for c in whole.cells]
        assert [o.table() for o in again.orderings] == [o.table() for o in whole.orderings]
        assert [o.name for o in again.orderings] == [o.name for o in whole.orderings]
        assert again.record == whole.record
        assert [s.stage for s in again.stages] == [s.stage for s in whole.stages]

    def test_what_is_gone_is_made_again(self, study: Path) -> None:
        config = yaml.safe_load(study.read_text())
        (ordering,) = run(config).orderings
        (ordering.artifact / "_SUCCESS").unlink()
        ordering.file.unlink()
        run(config)
        assert ordering.file.exists()
