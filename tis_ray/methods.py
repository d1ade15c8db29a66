"""Methods by name: ours, those of installed packages, and anybody's by `module:attribute`.

A representation, a selector and a metric are each described by one spec, a `Method` with what its
kind adds. Everything else (config, price, page, recommendation, fingerprints) reads specs, so that a new
method is one file. Where it may come from:

- a module of ours in the kind's own package (`tis_ray.selectors`, ...) that holds a spec;
- an entry point of an installed package, in the group of the same name;
- `module:attribute`, for code that is importable and installed nowhere.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import PydanticUserError, create_model
from pydantic_core import PydanticCustomError

from tis_ray.errors import InputError
from tis_ray.section import Section

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""What a method may be called: its name is part of file names and of table columns."""
RANDOM, ZERO_SHOT = "random", "zero_shot"
"""The baselines, as results name them."""
READY = "given"
"""What stands for the selector of a ready ordering."""


class NoSettings(Section):
    """Of a method without settings."""


@dataclass(frozen=True)
class Code:
    """Where a method that is not ours comes from; part of every fingerprint it has a share in."""

    module: str
    attribute: str
    source: str
    """Hash of the module's source."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """What every kind of method says of itself.

    name: as it stands in configs, file names and tables. label: as people read it.
    version: raised whenever the same input gives another result: then nothing made by the older
        version is used again. summary: one line for `tis-ray methods`.
    Settings: its settings; the model must be importable without torch and Ray.
    section: the config key of the settings, if it is not the name.
    speed_only: settings that change speed and not results, and so no fingerprint.
    """

    name: str
    label: str = ""
    version: int = 1
    summary: str = ""
    Settings: type[Section] = NoSettings
    section: str = ""
    speed_only: frozenset[str] = frozenset()
    code: Code | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise InputError(
                f"method name {self.name!r}: use letters, digits and underscores, a letter first"
            )
        object.__setattr__(self, "label", self.label or self.name.replace("_", " "))
        object.__setattr__(self, "section", self.section or self.name)

    def identity(self, settings: Section) -> dict[str, Any]:
        """Return what decides the method's results, for fingerprints."""
        named: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "settings": settings.model_dump(mode="json", exclude=set(self.speed_only)),
        }
        return named if self.code is None else {**named, "code": vars(self.code)}

    def require_same_code(self) -> None:
        """Raise InputError where this process has imported other code than the one that is named."""
        if self.code is None:
            return
        thing: Any = importlib.import_module(self.code.module)
        for part in self.code.attribute.split("."):
            thing = getattr(thing, part)
        if code_of(self.code.module, self.code.attribute, thing) != self.code:
            raise InputError(
                f"{self.name}: the file of {self.code.module} was changed while it was in use; start "
                "again (in a notebook, restart Python first)"
            )


S = TypeVar("S", bound=Method)


class Methods(Generic[S]):
    """The methods of one kind.

    kind: "selector", as it stands in messages. group: package of ours and group of entry points.
    packages: whether each of ours is a package; modules beside them hold no spec then.
    adapt: makes a spec of something else that `module:attribute` may name, such as a function;
        returns None for what it cannot use.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        spec: type[S],
        adapt: Callable[[Any, str], S | None] = lambda thing, name: None,
        packages: bool = False,
    ) -> None:
        self.kind, self.group, self.spec, self.adapt = kind, group, spec, adapt
        self.packages = packages
        self._others: dict[str, S] = {}

    @cached_property
    def own(self) -> dict[str, S]:
        """Our own methods by name."""
        package = importlib.import_module(self.group)
        specs: dict[str, S] = {}
        for module in pkgutil.iter_modules(package.__path__):
            if self.packages and not module.ispkg:
                continue
            for spec in self._specs(importlib.import_module(f"{self.group}.{module.name}")):
                specs.setdefault(spec.name, spec)
        return specs

    @property
    def installed(self) -> dict[str, importlib.metadata.EntryPoint]:
        """Entry points of installed packages by name."""
        return _installed(self.group, tuple(sys.path))

    @property
    def names(self) -> list[str]:
        """Names that need no module: ours, then those of installed packages."""
        return list(dict.fromkeys([*self.own, *self.installed]))

    def __iter__(self) -> Iterator[S]:
        return (self.find(name) for name in self.names)

    def usable(self) -> Iterator[S]:
        """Yield ours, and those of installed packages that can be imported."""
        for name in self.names:
            with suppress(InputError):  # a broken package is nobody's concern who does not use it
                yield self.find(name)

    def find(self, reference: str) -> S:
        """Return a method by name or by `module:attribute`.

        Raises InputError, with the known names and the nearest, where there is none, where two have
        the name, or where what is there is no method of this kind.
        """
        if reference in self._others:
            self._others[reference].require_same_code()
            return self._others[reference]
        point = self.installed.get(reference)
        if reference in self.own:
            if point is not None:
                raise InputError(
                    f"{self.kind} {reference!r} is ours, and an installed package has an entry point "
                    f"of that name too ({point.value}); uninstall that package, or rename its method"
                )
            return self.own[reference]
        if point is not None:
            spec = self._loaded(point.value, reference)
        elif ":" in reference:
            spec = self._loaded(reference, None)
        else:
            raise InputError(f"{self.kind} {reference!r} is unknown{self.nearest(reference)}")
        self._others[reference] = spec
        return spec

    def checked(self, reference: str) -> str:
        """Return the reference, for validators of config fields, and raise their errors."""
        if ":" not in reference and reference not in self.names:
            context = {"known": self.names, "found": reference, "listed": ", ".join(self.names)}
            raise PydanticCustomError("unknown_method", "expected one of {listed}", context)
        try:
            self.find(reference)
        except InputError as error:
            raise ValueError(str(error)) from None
        return reference

    def nearest(self, reference: str) -> str:
        """Return the advice that goes with an unknown name."""
        close = get_close_matches(reference, self.names, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        return f"{meant}; known: {', '.join(self.names)}, or `module:attribute`"

    def _loaded(self, reference: str, name: str | None) -> S:
        module_name, _, attribute = reference.partition(":")
        if not all(part.isidentifier() for part in f"{module_name}.{attribute}".split(".")):
            raise InputError(
                f"{self.kind} {reference!r}: give a module and what is in it, as Python names them, "
                "such as `my_pkg.rules:by_votes`"
            )
        # A module in the current folder is found without being installed.
        if str(Path.cwd()) not in sys.path and "" not in sys.path:
            sys.path.append(str(Path.cwd()))
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # whatever a module of somebody else's raises
            kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
            raise InputError(
                f"{self.kind} {reference!r}: cannot be imported ({kind}{error})"
            ) from error
        try:
            thing: Any = module
            for part in attribute.split("."):
                thing = getattr(thing, part)
        except AttributeError:
            raise InputError(
                f"{self.kind} {reference!r}: {module_name} has no {attribute!r}"
            ) from None
        spec = thing if isinstance(thing, self.spec) else self.adapt(thing, name or attribute)
        if spec is None:
            raise InputError(
                f"{self.kind} {reference!r}: found a {type(thing).__name__}; expected "
                f"{self.spec.__module__}.{self.spec.__name__} or what docs/extend.md lists"
            )
        if name is not None and spec.name != name:
            raise InputError(
                f"{self.kind} {name!r}: the entry point's method calls itself {spec.name!r}; give "
                "both the same name"
            )
        if spec.name in self.own:
            raise InputError(
                f"{self.kind} {reference!r}: its name {spec.name!r} is one of ours; rename it"
            )
        try:
            return replace(spec, code=code_of(module_name, attribute, thing))
        except InputError as error:
            raise InputError(f"{self.kind} {reference!r}: {error}") from None

    def _specs(self, module: Any) -> list[S]:
        return [value for value in vars(module).values() if isinstance(value, self.spec)]


@functools.cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, importlib.metadata.EntryPoint]:
    """Return the entry points of a group by name."""
    return {point.name: point for point in _entry_points(path).select(group=group)}


@functools.cache
def _entry_points(path: tuple[str, ...]) -> Any:  # of another type from Python 3.12 on
    """Return all entry points on a path, to select of: kept, for the metadata of every package is read."""
    return importlib.metadata.entry_points()


def settings_of(
    function: Callable[..., Any], name: str, provided: Collection[str] = ()
) -> type[Section]:
    """Return a settings model made of a function's keyword-only arguments, but for what it is provided."""
    own = [argument for argument in keyword_only(function) if argument.name not in provided]
    if not own:
        return NoSettings
    fields: dict[str, Any] = {
        a.name: (_annotation(function, a, name), ... if a.default is a.empty else a.default)
        for a in own
    }
    try:
        return create_model(f"{name}_settings", __base__=Section, **fields)
    except (PydanticUserError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{name}: its settings cannot stand in a config: {reason}") from None


def _annotation(function: Callable[..., Any], argument: inspect.Parameter, name: str) -> Any:
    """Return an argument's type; Any where it has none."""
    if not isinstance(argument.annotation, str):
        return Any if argument.annotation is argument.empty else argument.annotation
    try:
        return eval(argument.annotation, _globals_of(function))  # noqa: S307 - its own source
    except NameError as error:
        raise InputError(
            f"{name}: the type of its setting `{argument.name}` is not there at run time ({error}); "
            "import it outside of TYPE_CHECKING"
        ) from None


def _globals_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the names that a function's source sees, also through a partial or an object's call."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__globals__"):
        function = type(function).__call__
    return getattr(function, "__globals__", {})


def keyword_only(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the keyword-only arguments of a function; none where one in C does not list them."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    return [argument for argument in arguments if argument.kind is argument.KEYWORD_ONLY]


def summary_of(thing: object) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def code_of(module_name: str, attribute: str, thing: object) -> Code:
    """Return what names a piece of code: where it is, and a hash of its source.

    The source is that of the named module and, where that only passes on what another module
    defines, of that one too; and of the modules of the same package that define a spec's parts.
    """
    homes = {module_name: None} | dict.fromkeys(_homes(thing, module_name))
    digest = blake2b(digest_size=8)
    for home in homes:
        file = getattr(sys.modules.get(home), "__file__", None)
        if not file or not Path(file).exists():
            raise InputError(
                f"the code of {home} is in no file (a notebook, standard input, a zip), so a changed one "
                "could not be told from it; put it in a module of its own"
            )
        digest.update(Path(file).read_bytes())
    return Code(module_name, attribute, digest.hexdigest())


def _homes(thing: Any, module_name: str) -> Iterator[str]:
    """Yield the modules that define an object, its parts if it is a spec, and its base classes."""
    package = module_name.partition(".")[0]
    for part in [thing, *vars(thing).values()] if isinstance(thing, Method) else [thing]:
        part = inspect.unwrap(part.func if isinstance(part, functools.partial) else part)
        own = part if isinstance(part, type) or inspect.isroutine(part) else type(part)
        for owner in inspect.getmro(own) if isinstance(own, type) else (own,):
            home = str(getattr(owner, "__module__", None))
            if home.partition(".")[0] == package or (owner is thing and home != "builtins"):
                yield home
