"""The fenced blocks of a page, with what its comments say of how they are tested.

A comment of the form `<!-- test: WORDS -->` stands right before a block, or first of all on a page:

    needs files|selected|finished    the page begins where another has ended (`conftest.py`)
    needs ray, needs time            its commands start Ray; they take more than some 20 seconds
    output                           the block is what the command before it prints; `...` stands for any lines
    parse: REASON                    the command cannot run here: it is only read by the program's own parser
    not here: REASON                 the same, of a block in which other programs are run
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_TEST = re.compile(r"<!-- test: (.*?) -->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what it holds, the file it is, and how it is tested."""

    page: str
    line: int
    language: str
    text: str
    title: str | None = None
    test: str | None = None

    @property
    def name(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def parsed_only(self) -> bool:
        """Whether it cannot run here."""
        return (self.test or "").startswith(("parse:", "not here:"))


@dataclass(frozen=True)
class Page:
    """A page: its blocks in order, and the words that it begins with."""

    path: Path
    needs: frozenset[str]
    blocks: list[Block]

    @property
    def name(self) -> str:
        """Its file's name."""
        return self.path.name


def read_page(path: Path) -> Page:
    """Return a page's blocks. A comment that no block follows is an error."""
    return page_of(path, path.read_text())


def page_of(path: Path, text: str) -> Page:
    """Return the blocks of a page's text."""
    needs, blocks, waiting = frozenset[str](), [], None
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block" and (found := _TEST.search(token.content)):
            assert waiting is None, f"{path.name}: no block follows `{waiting}`"
            if found[1].startswith("needs "):
                needs |= frozenset(found[1].split()[1:])
            else:
                waiting = found[1]
        elif token.type == "fence":
            assert token.map is not None
            language, _, options = token.info.partition(" ")
            title = re.search(r'title="(.*?)"', options)
            at, named = token.map[0] + 1, title[1] if title else None
            blocks.append(Block(path.name, at, language, token.content, named, waiting))
            waiting = None
        elif waiting is not None:
            raise AssertionError(f"{path.name}: no block follows `{waiting}`")
    return Page(path, needs, blocks)


def inline_code(text: str) -> set[str]:
    """Return what stands in `backticks` in the sentences of a page."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inside = (child for token in tokens for child in token.children or ())
    return {child.content for child in inside if child.type == "code_inline"}


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each command line of a block, up to what the shell does with its output."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        ends = [n for n, word in enumerate(words) if word in (">", "|", "&&")]
        if words:
            yield words[: ends[0]] if ends else words
