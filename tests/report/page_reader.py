"""Reads a page as a browser would: its tags, attributes and visible text."""

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
