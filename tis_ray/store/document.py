"""Reading YAML text that may hold anything: plain values, or one line that says what is wrong."""

from __future__ import annotations

import yaml
from yaml.constructor import ConstructorError

DEEPEST = 100
"""Sections and lists inside each other."""
MOST_NODES = 100_000
"""Values a document may have, those that `*alias` repeats included."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice (YAML would keep the last), and values that cannot be read."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next value, unless it lies too deep for the code that reads it."""
        self.depth += 1
        if self.depth > DEEPEST:
            problem = f"more than {DEEPEST} sections or lists inside each other"
            raise ConstructorError(None, None, problem, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[object, object]:
        """Return the mapping, or raise at the second of two equal keys."""
        first: dict[str, yaml.Mark] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                mark = first.setdefault(key.value, key.start_mark)
                if mark is not key.start_mark:
                    problem = (
                        f"`{key.value}` is given twice, first in line {mark.line + 1}; keep one"
                    )
                    raise ConstructorError(None, None, problem, key.start_mark)
        mapping: dict[object, object] = super().construct_mapping(node, deep)  # type: ignore[arg-type]
        return mapping

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return a whole number; YAML reads `010` as 8 and `1:30` as 90, which nobody means."""
        value = super().construct_yaml_int(node)
        digits = node.value.lstrip("+-")
        if ":" in digits or (len(digits) > 1 and digits[0] == "0" and digits[1:].isdigit()):
            raise ValueError(f"YAML takes it for {value}")
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Return a number; YAML reads `1:30.5` as 90.5."""
        value = super().construct_yaml_float(node)
        if ":" in node.value:
            raise ValueError(f"YAML takes it for {value}")
        return value

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """Return a value; what Python cannot make of it is an error with a line, too."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"{_short(node)} cannot be read as {kind} ({error}); put text in quotes"
            raise ConstructorError(None, None, problem, node.start_mark) from None


for _tag in ("int", "float"):  # the base class names its own functions, not those of a subclass
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", getattr(_Loader, f"construct_yaml_{_tag}"))


def read_document(text: str) -> object:
    """Return what YAML text says.

    Raises ValueError with one line, `line 3: not valid YAML: ...`.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {}, set())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "somewhere"
        problem = getattr(error, "problem", None) or "syntax error"
        raise ValueError(f"{where}: not valid YAML: {problem}") from None


def _count(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """Return how many values a node stands for; raise where that is too many, or has no end."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in above:
        raise ConstructorError(None, None, "a value contains itself", node.start_mark)
    above.add(id(node))
    total = 1
    if not isinstance(node, yaml.ScalarNode):
        for item in node.value:
            for inner in item if isinstance(item, tuple) else (item,):
                total += _count(inner, known, above)
    if total > MOST_NODES:
        problem = f"more than {MOST_NODES:,} values, with those that aliases repeat"
        raise ConstructorError(None, None, problem, node.start_mark)
    above.discard(id(node))
    known[id(node)] = total
    return total


def _short(node: yaml.Node) -> str:
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else "a list or section"
    return f"`{text}`" if len(text) <= 40 else f"`{text[:36]}...`"
