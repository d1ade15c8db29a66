"""The notebooks of docs/ run from top to bottom, in a kernel of their own, and what they show is right."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[2] / "docs"


def _executed(name: str, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder of its own. A cell that raises ends the test."""
    notebook = nbformat.read(DOCS / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    with pytest.MonkeyPatch.context() as patch:
        root = str(DOCS.parent)
        patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
        client = NotebookClient(notebook, timeout=280, kernel_name="python3", resources=resources)
        client.execute()
    return notebook


def _shown(notebook: nbformat.NotebookNode, source: str) -> str:
    """Return what a code cell shows as HTML and as text, without what it said before."""
    cell = next(c for c in notebook.cells if c.cell_type == "code" and c.source == source)
    data = [output["data"] for output in cell.outputs if "data" in output]
    return "\n".join(found.get("text/html", "") + found.get("text/plain", "") for found in data)


def _errors(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what the cells wrote to stderr."""
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    return [o["text"] for o in outputs if o.get("name") == "stderr"]


@pytest.mark.slow
@pytest.mark.ray
def test_choose(tmp_path: Path) -> None:
    notebook = _executed("choose", tmp_path)
    assert _errors(notebook) == []
    progress = _shown(notebook, "study.scores()")
    assert "warm-up" in progress
    assert "8 queries × 400 candidates" in progress
    assert "rank 1 of 40" in _shown(notebook, 'study.explain(study.ordering()["id"][0])')
    assert "pulled by query" in _shown(notebook, "rows = study.subset(20)\nrows")
    assert len((tmp_path / "best" / "less-round_robin-20.jsonl").read_text().splitlines()) == 20
    assert (tmp_path / "best-hf" / "README.md").is_file()


@pytest.mark.slow
@pytest.mark.ray
def test_compare(tmp_path: Path) -> None:
    notebook = _executed("compare", tmp_path)
    assert _errors(notebook) == []
    progress = _shown(notebook, "study.run();")
    assert "warm-up" in progress
    assert "less+round_robin" in _shown(notebook, "study.results")
    assert "cannot tell" in _shown(
        notebook, 'study.compare("less+round_robin", "bm25+round_robin")'
    )
    assert "<svg" in _shown(notebook, 'study.figures["budget_test_loss"]')
    assert (tmp_path / "runs" / "compare" / "report" / "index.html").is_file()
