"""The site is built without a warning, and no link of it, of the sources or of a message leads nowhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.blocks import DOCS, ROOT
from website.hooks import MADE, TAKEN, source_of, target_of

GENERATED = {f"docs/{name}" for name in MADE}
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")


class Links(HTMLParser):
    """What a page of the site leads to, loads, and can be led to in."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.targets.append(found["href"])
        if tag in ("img", "script", "source") and found.get("src"):
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") != "canonical" and found.get("href"):
            self.loaded.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_link_of_the_site_leads_to_a_page_and_a_place_in_it(site: Path) -> None:
    pages = {path: Links(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 35
    broken, checked = [], 0

    def anchors(target: Path) -> set[str]:
        return pages[target].anchors if target in pages else set()

    for path, page in pages.items():
        for link in page.targets + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            checked += 1
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif parts.fragment and unquote(parts.fragment) not in anchors(target):
                broken.append(f"{path.relative_to(site)}: {link} has no such place")
    assert checked > 1000
    assert broken == []


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        for loaded in Links(path).loaded:
            assert not urlsplit(loaded).netloc, f"{path.relative_to(site)}: {loaded}"


def test_formulas_are_drawn(site: Path) -> None:
    page = (site / "mathematics" / "index.html").read_text()
    assert page.count("<math") > 30
    assert 'class="arithmatex"' not in page


@pytest.mark.parametrize(
    "path", [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in TAKEN)], ids=lambda p: p.name
)
def test_links_of_the_sources_lead_to_files_of_a_checkout(path: Path) -> None:
    for link in LINK.findall(path.read_text()):
        target = (path.parent / link).resolve().relative_to(ROOT.resolve()).as_posix()
        assert (ROOT / target).exists() or target in GENERATED, f"{path.name}: {link}"


def test_pages_that_the_code_names_exist() -> None:
    """Messages and docstrings send people to pages; the sources of messages are all files of ours."""
    named = {
        (path.relative_to(ROOT).as_posix(), page)
        for folder in ("tis_ray", "examples", "cluster", "benchmarks", ".github", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".yml", ".md") and path != Path(__file__)
        for page in re.findall(r"\bdocs/[\w-]+\.(?:md|ipynb)", path.read_text())
    }
    assert any(path.startswith("tis_ray/") for path, _ in named)
    assert [each for each in sorted(named) if not (ROOT / each[1]).is_file()] == []


def test_a_link_of_a_page_that_stands_elsewhere_is_found_from_there() -> None:
    assert source_of("index.md") == "README.md"
    assert target_of("index.md", "docs/start.md") == "docs/start.md"
    assert target_of("cluster-files.md", "../docs/cluster.md") == "docs/cluster.md"
    assert target_of("price.md", "../examples/study.yaml") == "examples/study.yaml"
