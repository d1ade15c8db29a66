"""Reads a page as a browser would: its tags, attributes and visible text, and the data that it carries."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser

VOID = {"meta", "br", "input", "link", "img"}


class Page(HTMLParser):
    """Reads a page; fails on unbalanced tags."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, key, value or "") for key, value in attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, key, value or "") for key, value in attrs)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.text.append(data)


def data_of(html, name):
    """Return what the page's script reads from the element of this id."""
    (text,) = re.findall(
        rf'<script type="application/octet-stream" id="{name}">([^<]*)</script>', html
    )
    return json.loads(gzip.decompress(base64.b64decode(text)))


def part_of(html, anchor):
    """Return the HTML of one section or fold, up to the next one."""
    (found,) = re.findall(
        rf'<(?:section|details class="fold") id="{anchor}">.*?(?=<section id=|<details class="fold"|</main>)',
        html,
        re.DOTALL,
    )
    return found


def words_of(html):
    """Return the visible text with single spaces."""
    return " ".join("".join(Part(html).text).split())


class Part(HTMLParser):
    """Reads a piece of a page, whose tags need not be balanced."""

    def __init__(self, html):
        super().__init__()
        self.text, self.hidden = [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.hidden = tag in ("script", "style")
        if tag in ("td", "th", "p", "li", "div", "br", "span", "option", "tr", "caption"):
            self.text.append(" ")

    def handle_endtag(self, tag):
        self.hidden = False
        if tag == "span":
            self.text.append(" ")

    def handle_data(self, data):
        if not self.hidden:
            self.text.append(data)
