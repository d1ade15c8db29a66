"""`Study`: a study as a Python object. What is asked for is read; what is missing is made first.

It is the same study that `tis-ray run` runs, with the same folders: what one has made the other finds.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from contextlib import chdir
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from rich.console import Console

from tis_ray.analysis import Cell, Method, TableRow, summarise
from tis_ray.analysis.study_values import ZERO_SHOT_PLAIN
from tis_ray.config import (
    Config,
    load_config,
    load_run,
    parse_config,
    parts,
    together,
)
from tis_ray.config.problems import not_among
from tis_ray.errors import InputError
from tis_ray.finished.asked_methods import asked_method, method_names, require_method
from tis_ray.finished.explain import explain_row
from tis_ray.finished.explain_screen import print_explained
from tis_ray.finished.lineage import trace
from tis_ray.finished.status import Runs, status_lines
from tis_ray.finished.subset import Ordered, require_budget
from tis_ray.interactive.figures import Figures
from tis_ray.interactive.preview import PreviewPage
from tis_ray.interactive.printed import PRE, Printed
from tis_ray.interactive.progress import console_here
from tis_ray.interactive.results import cell_table, compared_table, result_table
from tis_ray.interactive.scores import ScoreTable
from tis_ray.interactive.subset import SubsetTable
from tis_ray.interactive.table import Table
from tis_ray.log.run_log import RUN_LOG
from tis_ray.methods import RANDOM, ZERO_SHOT
from tis_ray.report.figures import drawings
from tis_ray.storage import AnyPlace, Place, followed, place
from tis_ray.store.feature_store import SPACE
from tis_ray.study.labels import legend_of
from tis_ray.study.preview import previews
from tis_ray.study.result import MEASURED, STEPS

if TYPE_CHECKING:
    from tis_ray.stages.ordering_artifact import StudyOrdering
    from tis_ray.study.run import StudyResult, Until

SEED = "-seed-"
BASELINES = (ZERO_SHOT, ZERO_SHOT_PLAIN, RANDOM)


class _ByName(dict[str, "Study"]):
    """Studies by name; one that is not there is refused with those that are."""

    def __missing__(self, name: str) -> Study:
        raise InputError(not_among("studies", name, list(self)))


class Study:
    """A study, or all studies of a file with several tasks or a grid.

    config: a YAML file, the folder of a run of one study, a mapping of the same content, or a `Config`.
    changes: fields to set, by their dotted names: `Study("study.yaml", budget=500, **{"less.seed": 1})`.

    Relative paths start at the folder in which the study is opened; of a run's folder, where it was run.
    Two studies of one name share a run folder, and each gives its own results all the same.
    Raises InputError for a config that is not valid.
    """

    def __init__(self, config: AnyPlace | Mapping[str, Any] | Config, **changes: Any) -> None:
        self.config, self._home = _read(config, changes)
        self._results: dict[Until, StudyResult] = {}
        self._whole: Study | None = None

    @property
    def name(self) -> str:
        """The study's name, which is its run folder's."""
        return self.config.name

    @property
    def run_dir(self) -> Place:
        """The folder of the run; of several studies, that of the page over all of them."""
        with chdir(self._home):
            return together(self.config) or self.config.run_dir

    @cached_property
    def studies(self) -> dict[str, Study]:
        """The studies of a file by name: one for each task and each point of the grid, or this one."""
        if together(self.config) is None:
            return {self.name: self}
        return _ByName({part.config.name: self._part(part.config) for part in parts(self.config)})

    # ---- what it does ----

    def preview(self, rows: int = 3) -> PreviewPage:
        """Return what the model will see of some rows of each side. Computes nothing else."""
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 0:
            raise InputError(f"preview: found {rows!r} rows, expected a whole number")
        with chdir(self._home):
            return PreviewPage(list(previews(self.config, rows)))

    def run(self, until: Until = "report") -> Study:
        """Run all that is missing up to a step, with progress; return the study itself.

        Whether anything has changed since is looked at again, each time. Raises what `tis_ray.run` raises.
        """
        _require_step("run", until)
        self._results.clear()
        self._result(until)
        return self

    def price(self, until: Until = "report") -> Printed:
        """Return what a run up to a step would cost, stage by stage: some rows are measured."""
        _require_step("price", until)
        from tis_ray.study.price import price
        from tis_ray.study.price_screen import print_price

        with chdir(self._home):
            found = price(self.config, until=until)
        return Printed(lambda console: print_price(found, console))

    def explain(self, example: str, near: float | None = None) -> Printed:
        """Return why a pool row was chosen, or was not: its rank, its query, what the two share.

        example: its id, the id that its own file gives it, or `FILE:LINE`. near: see `tis-ray explain`.
        """
        self._result("select")
        with chdir(self._home):
            found = list(explain_row(self.config, str(example), near))

        def print_on(console: Console) -> None:
            for each in found:
                print_explained(each, console, several=len(found) > 1)

        return Printed(print_on)

    def status(self) -> str:
        """Return what is done, running or failed."""
        return "\n".join(self._status())

    def _status(self) -> list[str]:
        with chdir(self._home):
            return list(status_lines(Runs.of(self.config)))

    # ---- what is selected ----

    def scores(self, representation: str | None = None) -> ScoreTable:
        """Return the scores of a representation. The name may be left out where there is one."""
        study = self._single("scores")
        names = [m.name for m in self.config.representations() if m.gives != "ordering"]
        name = _chosen(representation, names, "representation")
        made = [o for o in study._result("select").orderings if o.representation == name]
        return ScoreTable(trace(made[0].artifact.path, made[0].name), f"scores {name}")

    def ordering(self, method: str | None = None) -> Table:
        """Return the pool ranked by a method such as "less+round_robin", from rank 1."""
        table = self._ordering(method).table()
        place = table.column_names.index("rank")
        ranked = table.set_column(place, "rank", pc.add(table["rank"], 1))
        return Table(ranked, f"ordering {method or self.methods[0]}", hidden=["index", "query"])

    def subset(self, budget: int | None = None, method: str | None = None) -> SubsetTable:
        """Return the rows that a method selects, as they came, with why each was chosen.

        budget: one of the study's, or any smaller one; the largest by default. Raises InputError for a larger
        one, and where the pool has changed since it was read.
        """
        study = self._single("subset")
        if budget is not None:  # before anything is made for it
            require_budget(budget, max(study.config.budget), study.config.budget_unit, study.name)
        made = self._ordering(method)
        ordered = Ordered(made.name, made.artifact.path, study.config.budget_unit)
        choice = ordered.choice(max(ordered.budgets) if budget is None else budget)
        return SubsetTable(choice, study.config, self._home)

    @property
    def methods(self) -> list[str]:
        """The methods that rank the pool, as they are asked for."""
        return method_names(self._single("methods").config)

    def _ordering(self, method: str | None) -> StudyOrdering:
        study = self._single("ordering")
        # A selector that draws has an ordering for each seed.
        asked, _, seed = method.partition(SEED) if isinstance(method, str) else (method, "", "")
        name = require_method(None if asked == "" else asked, study.config)
        orderings = study._result("select").orderings
        own = {
            name if each.seed is None else f"{name}{SEED}{each.seed}": each
            for each in orderings
            if Method(each.representation, each.selector).asked == name
        }
        named = f"{name}{SEED}{seed}" if seed else name
        return own[_chosen(named if seed or name in own else None, list(own), "method")]

    # ---- what comes of it ----

    @property
    def cells(self) -> Table:
        """Every cell: a training run with its metrics; zero-shot and random too."""
        return cell_table(self._cells(), f"cells of {self.name}")

    @property
    def results(self) -> Table:
        """The mean of each metric for each method and budget, with its interval, and against random."""
        rows = {name: self._rows(cells) for name, cells in self._cells().items()}
        return result_table(rows, f"results of {self.name}")

    def compare(self, left: str, right: str) -> Table:
        """Return how two methods differ at each budget and metric, by pairs, with interval and verdict.

        The question is about the methods where the study made draws, about their subsets otherwise; where
        a file has several studies, they are the pairs. Methods are named "less+round_robin", "random" or
        "zero_shot".
        """
        # A grid may vary the methods: a study that has one says its name.
        configs = [study.config for study in self.studies.values()]
        left, right = (_of_any(name, configs) for name in (left, right))
        if left == right:
            raise InputError(f"compare: both are {left}; name two methods")
        cells = self._cells()
        known = {c.method.asked: c.method for own in cells.values() for c in own}
        ours, theirs = (known[_chosen(name, list(known), "method")] for name in (left, right))
        apart = self.config.draws_apart
        return compared_table(cells, ours, theirs, legend_of(self.config), apart=apart)

    @property
    def figures(self) -> Figures:
        """The figures of the report."""
        record = self._single("figures")._result("report").record
        assert record is not None
        return Figures(drawings(record, record.table()))

    @property
    def page(self) -> Place:
        """The report."""
        return _at(self._home, self._result("report").report)

    def __repr__(self) -> str:
        return self.status()

    def _repr_html_(self) -> str:
        return f"{PRE}{html.escape(self.status())}</pre>"

    # ---- how ----

    def _result(self, until: Until) -> StudyResult:
        """Return what a run up to a step gave; one that went further has that too.

        A study of several selects by itself; results are made with those of the others, for their page.
        """
        for step in STEPS[STEPS.index(until) :]:
            for found in (self._whole, self):
                result = None if found is None else found._results.get(step)
                if result is not None and _is_there(result, self._home):
                    return result.parts[self.name] if found is not self else result
        if self._whole is not None and until in MEASURED:
            return self._whole._result(until).parts[self.name]
        from tis_ray.study.run import run

        self._results.pop(until, None)
        try:
            with chdir(self._home), console_here(self.run_dir / RUN_LOG) as console:
                self._results[until] = run(self.config, until, console)
        except KeyboardInterrupt:
            pass
        if until not in self._results:  # out here the frames of Ray, a screen of them, are gone
            raise KeyboardInterrupt("stopped; asked again, it goes on where it was")
        return self._results[until]

    def _part(self, config: Config) -> Study:
        part = Study(config)
        part._whole, part._home = self, self._home
        return part

    def _single(self, asked: str) -> Study:
        """Return this study. Raises InputError where the file has several."""
        if len(self.studies) > 1:
            names = list(self.studies)
            raise InputError(
                f"{asked}: {self.name} has {len(names)} studies; ask one of them, "
                f"`study.studies[{names[0]!r}].{asked}`"
            )
        return next(iter(self.studies.values()))

    def _cells(self) -> dict[str, list[Cell]]:
        result = self._result("evaluate")
        return {name: part.cells for name, part in (result.parts or {self.name: result}).items()}

    def _rows(self, cells: list[Cell]) -> list[TableRow]:
        config = self.config
        return summarise(
            cells, legend_of(config), budget_unit=config.budget_unit, apart=config.draws_apart
        )


def _read(
    config: AnyPlace | Mapping[str, Any] | Config, changes: Mapping[str, Any]
) -> tuple[Config, Path]:
    """Return the config, and the folder at which its relative paths start."""
    if isinstance(config, Mapping | Config):
        return parse_config(config, changes=changes), Path.cwd()
    try:
        path = place(config)
    except TypeError:
        raise InputError(
            f"Study: found {type(config).__name__}; give a YAML file, the folder of a run, or a mapping"
        ) from None
    if not path.is_dir():
        return load_config(path, changes=changes), Path.cwd()
    left, home = load_run(path)
    return parse_config(left, changes=changes), home


def _is_there(result: StudyResult, home: Path) -> bool:
    """Whether what a result rests on is there still, and its run folder has it and not another study's."""
    for study in result.studies:
        if not all(_is_whole(_at(home, made)) for made in study.made):
            return False
        for each in study.orderings:
            link = _at(home, study.run_dir) / "orderings" / each.name
            if followed(link) != followed(each.artifact.path):
                return False
    return True


def _is_whole(folder: Place) -> bool:
    """Whether a folder is an artifact that was ended, or a store of features, which is never at an end."""
    return (folder / "_SUCCESS").exists() or (folder / SPACE).exists()


def _require_step(asked: str, until: object) -> None:
    if until not in STEPS:
        raise InputError(not_among(asked, until, list(STEPS)))


def _of_any(name: str, configs: Sequence[Config]) -> str:
    """Return the method, or baseline, that is meant in the first study that has one of this name."""
    for config in configs:
        if isinstance(name, str) and (found := asked_method(name, config)) is not None:
            return found
    return require_method(name, configs[0], BASELINES)


def _chosen(name: str | None, names: list[str], what: str) -> str:
    """Return the one that is asked for, or the only one. Raises InputError for another."""
    if name is None and len(names) == 1:
        return names[0]
    if name is None:
        raise InputError(f"{what}: there are {', '.join(names)}; say which")
    if name not in names:
        raise InputError(not_among(what, name, names))
    return name


def _at(home: Path, named: Place) -> Place:
    """Return a place that may be told from where the study was run."""
    return home / named if isinstance(named, Path) else named
