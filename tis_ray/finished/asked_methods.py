"""A method as people ask for it: `less+round_robin`, as its files are called, or by its representation alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tis_ray.analysis import Method
from tis_ray.config import Config
from tis_ray.config.problems import not_among
from tis_ray.errors import InputError
from tis_ray.methods import READY
from tis_ray.selectors import SELECTORS


def method_names(config: Config) -> list[str]:
    """Return the methods of a study that rank the pool, as they are asked for; nothing has to be made for it."""
    return list(dict.fromkeys(name for _, _, name in _referred(config)))


def asked_method(asked: str, config: Config) -> str | None:
    """Return the name of the study's method that is meant; None if it is none, or could be several.

    asked: the two names, joined by `+`, or by `-` as its files are called; the names by which the config refers
    to methods of a user's own (`votes:by_votes`); or a representation alone, if it has one selector.
    """
    asked = asked.replace(" ", "")
    meant = set()
    for representations, selectors, name in _referred(config):
        pairs = {
            f"{one}{sign}{other}" for one in representations for other in selectors for sign in "+-"
        }
        if asked == name or asked in pairs:
            return name
        if asked in representations:
            meant.add(name)
    return meant.pop() if len(meant) == 1 else None


def require_method(asked: str | None, config: Config, others: Sequence[str] = ()) -> str:
    """Return the same, or one of `others`; the only method if none is asked for. Raises InputError for what is none."""
    names = method_names(config)
    if asked is None:
        if len(names) == 1:
            return names[0]
        raise InputError(f"method: there are {', '.join(names)}; say which")
    if not isinstance(asked, str):
        raise InputError(f"method: found {asked!r}, expected text such as {names[0]!r}")
    if asked in others:
        return asked
    found = asked_method(asked, config)
    if found is None:
        raise InputError(not_among("method", asked, [*names, *others]))
    return found


def _referred(config: Config) -> Iterator[tuple[set[str], set[str], str]]:
    """Yield what each representation and each selector of it may be called, and the name of both together."""
    for reference in config.representation:
        method = config.method(reference)
        ready = method.gives == "ordering"
        for rule in [READY] if ready else config.selectors(method.name):
            selector = rule if ready else SELECTORS.find(rule).name
            yield {reference, method.name}, {rule, selector}, Method(method.name, selector).asked
