"""Promises that hold for the whole package: who opens files, and what works without Ray or torch.

Who may import whom is in pyproject.toml, where `lint-imports` reads it.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import tis_ray
from tests.small import small_study

PACKAGE = Path(tis_ray.__file__).parent
OPEN_FILES = ("storage", "store", "data")
"""The rooms that may."""

METHODS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes"),
    *("from_pretrained", "save_pretrained", "load_file", "save_file"),
}
FUNCTIONS = {
    "np": {"load", "loadtxt", "genfromtxt", "fromfile", "memmap", "save", "savez", "savetxt"},
    "json": {"load", "dump"},
    "torch": {"load", "save"},
}
MODULES = {
    *("pyarrow.csv", "pyarrow.dataset", "pyarrow.feather", "pyarrow.fs", "pyarrow.json"),
    *("pyarrow.orc", "pyarrow.parquet"),
    *("bz2", "fsspec", "gzip", "h5py", "pandas", "pickle", "shelve", "sqlite3", "zipfile"),
}
ALLOWED = {
    "methods.py": {"read_bytes": "the source of a user's method, which is part of its name"},
    "evaluation/sandbox_child.py": {"open": "the folder that a generated program is locked into"},
    "distributed/scratch.py": {"pyarrow.fs": "Ray writes files of its own"},
    "distributed/worker_logs.py": {"open": "what Ray has kept of a worker's output on its node"},
    "finished/choices.py": {"memmap": "main memory that may be swapped, in a file without a name"},
    "interactive/scores.py": {"pandas": "a data frame in memory"},
    "interactive/table.py": {"pandas": "the name of what a table becomes"},
    "report/html.py": {"gzip": "a page's data, packed in memory"},
    "report/sheets.py": {"pandas": "a data frame in memory"},
    "models/builtin/train.py": {"save_pretrained": "the script that made the shipped model"},
    "training/checkpoints.py": {
        "load_file": "safetensors maps weights into memory from a folder",
        "save_file": "the same, into a file that appears whole",
    },
    "models/given_adapter.py": {
        "from_pretrained": "PEFT reads an adapter's config from its folder"
    },
    "models/loading.py": {"from_pretrained": "transformers loads models from a folder or a hub"},
    "models/lora.py": {
        "from_pretrained": "PEFT loads adapters from a folder",
        "load_file": "PEFT's format",
        "save_file": "PEFT's format",
        "save_pretrained": "PEFT saves adapters as a folder",
    },
    "study/mlflow_models.py": {"from_pretrained": "PEFT and transformers load what MLflow stores"},
    "models/saving.py": {"save_pretrained": "transformers saves models as a folder"},
}
"""What other rooms do all the same: libraries that take a folder, and files that are no data."""


def opened(source: str) -> Iterator[str]:
    """Yield what in a module opens files by itself: functions, methods and modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            yield from sorted(str(name) for name in names & MODULES)
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in ("open", "load_file", "save_file"):
                yield called.id
            elif isinstance(called, ast.Attribute):
                owner = called.value.id if isinstance(called.value, ast.Name) else ""
                if called.attr in METHODS or called.attr in FUNCTIONS.get(owner, ()):
                    yield called.attr


def modules_outside() -> list[Path]:
    files = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]
    return [path for path in files if path.parts[0] not in OPEN_FILES]


@pytest.mark.parametrize(
    "source",
    [
        "import pyarrow.parquet as pq",
        "from pyarrow import csv",
        "with open(path) as file: pass",
        "with path.open() as file: pass",
        "text = Path(name).read_text()",
        "scores_MN = np.load(path, mmap_mode='r')",
        "told = json.load(file)",
    ],
)
def test_what_opens_a_file_is_recognised(source: str) -> None:
    assert list(opened(source))


def test_what_is_already_in_memory_is_no_file() -> None:
    assert not list(opened("told = json.loads(text)\nread_parquet(path)\nfile.write(text)"))


def test_only_store_and_data_open_files() -> None:
    found = {
        f"{path}: {what}"
        for path in modules_outside()
        for what in opened((PACKAGE / path).read_text())
        if what not in ALLOWED.get(str(path), {})
    }
    assert not found


def test_no_exception_is_left_over() -> None:
    used = {(name, what) for name in ALLOWED for what in opened((PACKAGE / name).read_text())}
    assert {(name, what) for name, whats in ALLOWED.items() for what in whats} <= used


ABSENT = '''
import os
import sys

MISSING = os.environ["MISSING"].split(",")


class Absent:
    """As if these packages were not installed."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent)
'''


@pytest.fixture(scope="session")
def without(tmp_path_factory) -> dict[str, str]:
    """An environment of Python where importing Ray, torch or MLflow raises."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(ABSENT)
    paths = [str(folder), str(PACKAGE.parent)]
    return {**os.environ, "MISSING": "ray,torch,mlflow", "PYTHONPATH": os.pathsep.join(paths)}


def python(environment: dict[str, str], *arguments: object) -> str:
    """Run Python on arguments; return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tis(environment: dict[str, str], *arguments: object) -> str:
    return python(environment, "-m", "tis_ray.cli", *arguments)


def test_packages_are_really_absent(without) -> None:
    trial = (
        "import importlib, sys\nfor name in sys.argv[1:]:\n    try: importlib.import_module(name)\n"
    )
    trial += "    except ModuleNotFoundError: print(name)"
    missing = without["MISSING"].split(",")
    assert python(without, "-c", trial, *missing, "json").split() == missing


def test_rooms_are_imported_without_ray_and_torch(without) -> None:
    rooms = [
        "config",
        "methods",
        "metrics",
        "paper",
        "report",
        "representations",
        "selectors",
        "settings",
        "store",
    ]
    python(without, "-c", "import " + ", ".join(f"tis_ray.{room}" for room in rooms))


def test_help_without_ray_and_torch(without) -> None:
    assert "status" in tis(without, "--help")


def test_methods_are_listed_without_ray_and_torch(without) -> None:
    told = tis(without, "methods")
    assert {"less", "bm25", "round_robin", "exact_match"} <= set(told.split())


def test_a_matrix_is_ranked_without_ray_and_torch(without, tmp_path) -> None:
    np.save(tmp_path / "S.npy", np.eye(3, 20, dtype=np.float32))
    given = ("--scores", tmp_path / "S.npy", "--selector", "round_robin", "--budget", 3)
    tis(without, "select", *given, "--out", tmp_path)
    assert pq.read_table(tmp_path / "ordering.parquet")["index"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("verb", ["run", "featurize", "select", "finetune", "evaluate", "submit"])
def test_what_needs_ray_says_so_in_one_line(without, tmp_path, verb) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(small_study(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-m", "tis_ray.cli", *verb.split(), "--config", tmp_path / "study.yaml"],
        env={**without, "MISSING": "ray"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    *before, line = done.stderr.splitlines()
    assert line.startswith("failed: ray cannot be imported (No module named 'ray")
    assert line.endswith("; `tis-ray doctor` says what is missing")
    # A study says its name before it loads anything, and once in a while that it does.
    assert all(said.strip().startswith("small: ") for said in before)


def test_a_dry_run_needs_ray_installed(without, tmp_path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(small_study(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-m", "tis_ray.cli", "run", "--dry-run", "-c", tmp_path / "study.yaml"],
        env={**without, "MISSING": "ray"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("failed: ray cannot be imported")


@pytest.fixture
def finished(copied) -> Path:
    """The config of a finished study that may be changed."""
    path = copied / "small.yaml"
    path.write_text(yaml.safe_dump(small_study(copied)))
    return path


@pytest.mark.ray
class TestFinishedStudy:
    """What a run left is asked about where neither Ray nor torch is."""

    def test_status(self, without, finished) -> None:
        told = tis(without, "status", "--config", finished)
        assert "small: start " in told
        page = finished.parent / "runs" / "small" / "report" / "index.html"
        assert told.splitlines()[-1].endswith(f" s; page: {page}")

    def test_explain_the_orderings(self, without, finished) -> None:
        tis(without, "explain", "--config", finished)
        folder = finished.parent / "runs" / "small" / "explain"
        table = pq.read_table(folder / "less-round_robin.parquet")
        assert {"margin", "checkpoint_2", "nearest_id"} <= set(table.column_names)

    def test_explain_a_row(self, without, finished) -> None:
        ordering = finished.parent / "runs/small/orderings/less-round_robin/ordering.parquet"
        first = pq.read_table(ordering)["id"][0].as_py()
        told = tis(without, "explain", "--config", finished, first)
        assert "less-round_robin: rank 1 of 12" in told
        assert "near-duplicate(s)" in told

    def test_report(self, without, finished) -> None:
        page = finished.parent / "runs" / "small" / "report" / "index.html"
        drawn = page.read_bytes()
        page.unlink()
        tis(without, "report", "--config", finished)
        assert page.read_bytes() == drawn

    def test_analyze(self, without, finished, tmp_path) -> None:
        out = tmp_path / "analysis"
        tis(without, "analyze", finished.parent / "runs" / "small", "--out", out)
        assert json.loads((out / "tables.json").read_text())


QUIET = """
import importlib, logging, os, pkgutil, sys
import bm25s, mlflow, peft, ray, ray.data, ray.train, ray.tune, torch, transformers
import ray.train.torch, ray.job_submission, ray.tune.schedulers

def levels():
    loggers = {name: logging.getLogger(name) for name in logging.root.manager.loggerDict}
    return {name: logger.level for name, logger in {"": logging.root, **loggers}.items()}

before, environment = levels(), dict(os.environ)
import tis_ray
for module in pkgutil.walk_packages(tis_ray.__path__, "tis_ray."):
    importlib.import_module(module.name)
after = levels()
known = [name for name in after if name in before or name.partition(".")[0] == "tis_ray"]
print([name for name in known if after[name] != before.get(name, 0)])
print([name for name in {*os.environ, *environment} if os.environ.get(name) != environment.get(name)])
print(len([name for name in sys.modules if name.startswith("tis_ray.")]))
"""


def test_importing_a_module_sets_no_logger_and_no_variable() -> None:
    """What a program that embeds the library has set stays as it is."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TOKENIZERS"))}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    loggers, variables, modules = python(environment, "-c", QUIET).splitlines()
    assert (loggers, variables) == ("[]", "[]")
    assert int(modules) > 150
