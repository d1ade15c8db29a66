"""The pages on clusters: the files that they name exist. `tests/docs` reads their commands by the programs' parsers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs/cluster.md", ROOT / "cluster/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_files_that_the_pages_name_exist(page: Path) -> None:
    named = re.findall(r"`((?:cluster|examples|tests|kuberay|docker)/[^` ]*)`", page.read_text())
    named += re.findall(r"(?:-f|--config) ((?:cluster|examples)/\S+)", page.read_text())
    base = ROOT if page.parent.name == "docs" else page.parent
    assert named
    for name in named:
        assert (base / name).exists() or (ROOT / name).exists(), name
