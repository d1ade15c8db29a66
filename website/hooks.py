"""What MkDocs calls: pages that are made when the site is built, and links that lead out of `docs/`.

The home page is the README. Files of the repository that pages link to become files of the site, so
that every link of the sources works in a checkout and on the site.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

import jupytext
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website.columns import columns_page
from website.commands import commands_page
from website.methods import methods_page
from website.settings import settings_page

ROOT = Path(__file__).parents[1]
MADE: dict[str, Callable[[], str]] = {
    "reference/columns.md": columns_page,
    "reference/commands.md": commands_page,
    "reference/methods.md": methods_page,
    "reference/settings.md": settings_page,
}
"""Pages that are read off the code."""
TAKEN = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "cluster/README.md": "cluster-files.md",
}
"""Pages that stand elsewhere in the repository, by their path there."""
NOTEBOOKS = ("choose", "compare")
_BLOCK = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and the files of the repository that pages link to."""
    texts = {name: make() for name, make in MADE.items()}
    texts |= {name: (ROOT / path).read_text() for path, name in TAKEN.items()}
    for name in NOTEBOOKS:
        texts[f"{name}.md"] = _notebook(ROOT / "docs" / f"{name}.ipynb")
    for name, text in texts.items():
        files.append(File.generated(config, name, content=text))
    for page in list(files.documentation_pages()):
        for path in _outside(page.src_uri, texts.get(page.src_uri) or page.content_string):
            if files.get_file_from_path(f"files/{path}.txt") is None:
                text = (ROOT / path).read_text()
                files.append(File.generated(config, f"files/{path}.txt", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to files of the repository lead to the site's own copies; leave out what is said to the tests."""
    markdown = re.sub(r"^<!-- test: .*? -->\n", "", markdown, flags=re.DOTALL | re.MULTILINE)
    return _LINK.sub(lambda link: _led(page.file.src_uri, link), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Write formulas as MathML, which browsers draw by themselves: no script, nothing fetched."""
    html = _BLOCK.sub(lambda found: convert(unescape(found[1]), display="block"), html)
    return _INLINE.sub(lambda found: convert(unescape(found[1])), html)


def source_of(page: str) -> str:
    """Return the path in the repository that a page's links start from."""
    taken = {name: path for path, name in TAKEN.items()}
    return taken.get(page, f"docs/{page}")


def target_of(page: str, link: str) -> str:
    """Return the path in the repository that a link of a page leads to."""
    return normpath(f"{Path(source_of(page)).parent.as_posix()}/{link}")


def _led(page: str, link: re.Match[str]) -> str:
    before, path, after = link.groups()
    if path == page.replace(".md", ".ipynb"):
        return link[0]  # a notebook's page leads to the notebook
    target = target_of(page, path)
    if target in TAKEN:
        place = TAKEN[target]
    elif target.startswith("docs/"):
        place = target.removeprefix("docs/")
        if place.removesuffix(".ipynb") in NOTEBOOKS:
            place = place.replace(".ipynb", ".md")
    elif (ROOT / target).is_dir():
        return link[0]  # the build refuses it: a folder is no page
    else:
        place = f"files/{target}.txt"
    return f"{before}{relpath(place, Path(page).parent.as_posix() or '.')}{after}"


def _outside(page: str, text: str) -> list[str]:
    """Return the files of the repository that a page links to and that are no pages."""
    targets = [target_of(page, path) for _, path, _ in _LINK.findall(text)]
    return [
        target
        for target in targets
        if target not in TAKEN and not target.startswith("docs/") and (ROOT / target).is_file()
    ]


def _notebook(path: Path) -> str:
    """Return a notebook as a page: its cells as text and code, with a link to the notebook itself."""
    notebook = jupytext.read(path)
    options = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "-all"}
    notebook.metadata.setdefault("jupytext", {}).update(options)
    text = re.sub(r"\A---\n.*?\n---\n+", "", jupytext.writes(notebook, "md"), flags=re.DOTALL)
    title, _, rest = text.partition("\n")
    return f"{title}\n\n[This page as a notebook]({path.name})\n{rest}"
