"""Which methods a study uses, and whether all that its config says of methods is used and fits.

Nothing is silent: a file, a selector or a setting that no method of the study takes is refused, and
so is a method that cannot do what the config wants of it, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tis_ray.config.problems import not_among, problem_line
from tis_ray.errors import InputError
from tis_ray.methods import RANDOM, READY, ZERO_SHOT, Method
from tis_ray.metrics import METRICS
from tis_ray.metrics.description import LOSSES
from tis_ray.representations import Representation
from tis_ray.selectors import BASELINE, SELECTORS

if TYPE_CHECKING:
    from tis_ray.config.schema import StudyConfig


def check_methods(config: StudyConfig) -> None:
    """Raise InputError, naming the key, for methods that cannot be told apart, are not used, or do not fit."""
    compared = [config.method(name) for name in config.representation]
    selectors = _selectors(config)
    baselines = (RANDOM, ZERO_SHOT)
    _require_names("representation", config.representation, config.method, baselines)
    _require_names("selector", selectors, SELECTORS.find, (ZERO_SHOT, READY))
    _require_names("evaluation.metrics", config.evaluation.metrics, METRICS.find, baselines)
    _require_labels("representation", compared)
    _require_labels("selector", [SELECTORS.find(name) for name in selectors])
    _require_valid_settings(config, compared)
    for method in compared:
        _require_cheap_one(config, method)
    rules = map(SELECTORS.find, selectors)
    used = [*config.representations(), *rules, *map(METRICS.find, config.evaluation.metrics)]
    _require_valid_settings(config, used)
    _require_used(config, used)
    _require_used_selectors(config, compared)
    _require_measured_margins(config)
    for method in compared:
        _require_fitting(config, method)


def _selectors(config: StudyConfig) -> list[str]:
    """Return every selector that the config names, each once."""
    others = (name for names in config.selector_for.values() for name in names)
    return list(dict.fromkeys([*config.selector, *others]))


def _require_names(
    kind: str, references: list[str], find: Callable[[str], Method], taken: Collection[str]
) -> None:
    """Refuse two methods of one name, and names that results use for something else."""
    first: dict[str, str] = {}
    for reference in references:
        name = find(reference).name
        if name in taken:
            raise InputError(f"{kind}: {reference!r}: the name {name!r} is taken; rename it")
        if first.setdefault(name, reference) != reference:
            raise InputError(
                f"{kind}: {first[name]!r} and {reference!r} are both called {name!r}; rename one"
            )


def _require_labels(kind: str, methods: Iterable[Method]) -> None:
    """Refuse two methods that people could not tell apart, or one that looks like a baseline."""
    names: dict[str, str] = {"random": RANDOM, "zero-shot": ZERO_SHOT}
    for method in methods:
        other = names.setdefault(method.label.casefold(), method.name)
        if other != method.name:
            raise InputError(
                f"{kind}: {method.name!r} and {other!r} are both labelled {method.label!r}; change a label"
            )


def _require_valid_settings(config: StudyConfig, methods: Iterable[Method]) -> None:
    """Refuse settings that a method from outside does not take."""
    for method in methods:
        if method.code is None:
            continue
        try:
            method.Settings.model_validate(config.settings.get(method.name, {}))
        except ValidationError as error:
            line = problem_line(error, method.Settings)
            raise InputError(f"settings.{method.name}: {line}") from None


def _require_measured_margins(config: StudyConfig) -> None:
    """Refuse the margin of a metric that is not measured; those of tasks name theirs themselves."""
    if config.evaluation.tasks or config.evaluation.lm_eval:
        return
    known = [*LOSSES, *(METRICS.find(name).name for name in config.evaluation.metrics)]
    for name in config.margins:
        if name not in known:
            raise InputError(not_among(f"margins.{name}: metric", name, known))


def _require_used(config: StudyConfig, used: list[Method]) -> None:
    """Refuse files and settings of methods that the study does not use."""
    for name in config.given:
        if name not in config.representation and config.method(name) not in used:
            known = ", ".join(config.representation)
            raise InputError(
                f"given.{name}: not used; `representation` has {known}; add it there, or leave it out"
            )
    others = [method.name for method in used if method.code is not None]
    for name in config.settings:
        if name not in others:
            known = ", ".join(dict.fromkeys(others)) or "none"
            raise InputError(
                f"settings.{name}: not used; methods of this study from outside the package: {known}; "
                "ours have sections of their own"
            )


def _require_cheap_one(config: StudyConfig, method: Representation) -> None:
    """Refuse a cascade by something that does not score the whole pool."""
    cascade = method.cascade(config.settings_of(method))
    if cascade is None:
        return
    field = f"{cascade.field}.by"
    try:
        cheap = config.method(cascade.by)
    except InputError as error:
        raise InputError(f"{field}: {error}") from None
    _require_valid_settings(config, [cheap])
    if cheap.gives == "ordering" or cheap.cascade(config.settings_of(cheap)) is not None:
        raise InputError(
            f"{field}: {cascade.by} does not score the whole pool; give a cheap representation "
            "that does"
        )


def _require_used_selectors(config: StudyConfig, compared: list[Representation]) -> None:
    """Refuse selectors of representations that the study has not, and those of none."""
    ranked = {method.name: method.gives != "ordering" for method in compared}
    first: dict[str, str] = {}
    for reference in config.selector_for:
        name = config.method(reference).name
        if name not in ranked:
            known = ", ".join(config.representation)
            raise InputError(
                f"selector_for.{reference}: not used; `representation` has {known}; add it there, or "
                "leave it out"
            )
        if not ranked[name]:
            raise InputError(
                f"selector_for.{reference}: a ready ordering needs no selector; leave it out"
            )
        if first.setdefault(name, reference) != reference:
            raise InputError(
                f"selector_for: {first[name]!r} and {reference!r} are one representation; keep one"
            )
    needs_one = [name for name, by_selector in ranked.items() if by_selector and name not in first]
    if not needs_one and config.selector not in ([BASELINE], [RANDOM]):
        raise InputError(
            f"selector: {', '.join(config.selector)}: not used, since every representation has its "
            "own in `selector_for` or is a ready ordering; leave it out"
        )


def _require_fitting(config: StudyConfig, method: Representation) -> None:
    """Refuse what needs features where a representation keeps none."""
    for field in _features_needed_by(config, method):
        if method.gives == "ordering":
            raise InputError(
                f"{field} compares features, and {method.name} is a ready ordering without any; drop "
                "one of the two"
            )
        if method.gives != "vectors" or method.scoring(config.settings_of(method)) != "store":
            raise InputError(
                f"{field} compares pool rows with each other and needs their features; "
                f"{method.name} keeps none (set {method.name}.scoring to `store` if it has that, or "
                f"drop {field})"
            )


def _features_needed_by(config: StudyConfig, method: Representation) -> Iterator[str]:
    """Yield the fields that compare the features of a representation's pool rows."""
    if config.constraints.radius is not None:
        yield "constraints.radius"
    if method.gives != "ordering":
        for selector in map(SELECTORS.find, config.selectors(method.name)):
            if "features" in selector.parameters:
                yield f"selector: {selector.name}"
