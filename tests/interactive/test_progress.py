"""Progress in a notebook, in a real kernel: one output, in which work in progress gives way to what has ended."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tis_ray.interactive.printed import PRE
from tis_ray.interactive.progress import console_here, in_notebook

CELL = """
import os
from pathlib import Path
from tis_ray.interactive.progress import console_here

with console_here(Path("run.log")) as console:
    console.print("screen <b>", markup=False)
    console.print("    2 refused, see quarantine.parquet")
    console.print("  features: 1 of 3 shards")
    console.print("  features: 2 of 3 shards")
    console.print("features done")
    os.write(2, b"a line of C++ code")
    console.print("  scores: 1 of 3 shards")
"""


def test_a_notebook_keeps_one_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, kernel_name="python3", resources=resources, timeout=60).execute()
    (shown,) = [output for output in notebook.cells[0].outputs if "data" in output]
    assert shown["data"]["text/html"] == (
        f"{PRE}screen &lt;b&gt;\n    2 refused, see quarantine.parquet\nfeatures done</pre>"
    )
    assert (tmp_path / "run.log").read_text() == "a line of C++ code"


def test_elsewhere_progress_goes_to_stderr(tmp_path: Path) -> None:
    assert not in_notebook()
    with console_here(tmp_path / "run.log") as console:
        assert console.stderr
    assert not (tmp_path / "run.log").exists()
