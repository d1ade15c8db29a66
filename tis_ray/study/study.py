"""One study: each of its steps, from screening to the report, as a cached property.

A step is done when it is first used, and kept; it uses the steps that it needs. What its stage has
made before, in this run or another, is found by fingerprint and used as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from tis_ray.analysis import Cell
from tis_ray.analysis.recorded import RepresentationDistances
from tis_ray.config import Config, Part
from tis_ray.errors import InputError
from tis_ray.finished.subset import Ordered, subsets
from tis_ray.finished.subset_files import write_original
from tis_ray.log import RunLog, peak_mb
from tis_ray.models.loading import model_identity
from tis_ray.report import StudyRecord, build_report
from tis_ray.report.study_results import RECORD
from tis_ray.settings import ModelConfig
from tis_ray.stages.cell_evaluation import check_evaluation
from tis_ray.stages.cells import CellPlan, plan_cells, sweep
from tis_ray.stages.context import Context
from tis_ray.stages.feature_recipe import reading_model
from tis_ray.stages.ingest import ingest, is_large, nodes_without_pool
from tis_ray.stages.ordering_artifact import StudyOrdering
from tis_ray.stages.quantile_cells import plan_quantiles
from tis_ray.stages.rank_pool import order_all, order_draws
from tis_ray.stages.rows_to_scores import Represented, Representer
from tis_ray.stages.screen import Screen, screen_pool, target_rows
from tis_ray.stages.search import RESULTS, search
from tis_ray.stages.subset_distances import measure_subsets
from tis_ray.stages.tokens import prepare_side, read_side
from tis_ray.storage import Place, listed, point, pointers, remove_pointer
from tis_ray.store import Artifact, fingerprint, read_ids, read_json
from tis_ray.store.sides import Side, SideName
from tis_ray.study.checks import check_apart, check_encoding, check_models
from tis_ray.study.gather import study_record
from tis_ray.study.mlflow_tracker import git_commit
from tis_ray.study.run import command, keep_config
from tis_ray.version import __version__

SUBSETS_VERSION = 1
"""Of `subsets-*`."""
Rows = dict[SideName, Artifact]
"""What was read, by side."""


def checked_rows(config: Config, log: RunLog, trained: bool = True) -> Rows:
    """Read the rows of a study; `trained` says whether it goes on to train and measure models.

    A large pool is left to the workers (`with_pool`). Raises InputError for all that is known to be missing or
    broken before anything is started.
    """
    left = {"pool"} if is_large(config.data.pool) else set()
    rows: Rows = {side: read_side(config, side) for side in config.data.sides if side not in left}
    check_apart(rows, log)
    target_rows(config, rows)
    for field in ("include", "exclude"):
        read_ids(getattr(config.constraints, field), f"constraints.{field}")
    for model in models_of(config):
        model_identity(model)
    check_models(config, trained)
    check_encoding(config, rows, models_of(config), log)
    if trained:
        check_evaluation(config, rows["test"], log)
    return rows


def with_pool(context: Context, rows: Rows) -> Rows:
    """Return the rows of a study with those of its pool, which workers read if it is large and all nodes see it.

    Errors are those of `checked_rows`.
    """
    if "pool" in rows:
        return rows
    config, log = context.config, context.log
    if blind := nodes_without_pool(config.data.pool):
        said = f"data.pool: node {blind[0]} does not see its files, so that this process reads it alone"
        log.say((f"{said}; give a folder that all nodes see, or a bucket", "yellow"))
    pool: Rows = {"pool": read_side(config, "pool") if blind else ingest(context)}
    check_encoding(config, pool, models_of(config), log)
    return {**pool, **rows}


def models_of(config: Config) -> list[ModelConfig]:
    """Return the language models of a study: the one that is trained, and those that read the rows."""
    models = [config.model, *(reading_model(method, config) for method in config.representations())]
    return [model for place, model in enumerate(models) if model not in models[:place]]


@dataclass
class Study(Context):
    """A study that runs; `part` says which part of its file it is."""

    part: Part
    rows: Rows
    ended: Callable[[list[Cell]], None] = lambda cells: None
    """Called with cells that have ended, once for each, while others are still trained."""

    # ---- what is selected ----

    @cached_property
    def screen(self) -> Screen:
        """What the pool shares with query and test rows."""
        return screen_pool(self, self.rows)

    @cached_property
    def pool(self) -> Side:
        """The candidates as tokens."""
        pool = prepare_side(self, "pool", self.rows["pool"], dropped=self.screen.dropped())
        most = max(self.config.budget)
        if self.config.budget_unit == "examples" and most > pool.usable:
            raise InputError(
                f"budget: {most} exceeds the pool of {pool.usable} usable rows; "
                "lower the budget or enlarge the pool"
            )
        return pool

    @cached_property
    def query(self) -> Side:
        """The queries as tokens."""
        return prepare_side(self, "query", self.rows["query"])

    @cached_property
    def test(self) -> Side:
        """The test rows as tokens."""
        return prepare_side(self, "test", self.rows["test"])

    @cached_property
    def sides(self) -> dict[SideName, Side]:
        """All that there are, pool first."""
        sides: dict[SideName, Side] = {"pool": self.pool, "query": self.query}
        return {**sides, "test": self.test} if "test" in self.rows else sides

    @cached_property
    def features(self) -> list[Represented]:
        """Each representation's features, not scored yet."""
        return self._represented(scored=False)

    @cached_property
    def represented(self) -> list[Represented]:
        """Each representation with its scores, and its features where they are kept."""
        return self._represented(scored=True)

    def _represented(self, scored: bool) -> list[Represented]:
        sides: dict[SideName, Side] = {"pool": self.pool, "query": self.query}
        representer = Representer(self, self.rows, sides, self.screen.dropped())
        represented = [representer.represent(name, scored) for name in self.config.representation]
        features = {e.name: e.features.artifact.path for e in represented if e.features is not None}
        self._link_all("features", features)
        if scored:
            scores = {e.name: e.scores.path for e in represented if e.scores is not None}
            self._link_all("scores", scores)
        return represented

    @cached_property
    def orderings(self) -> list[StudyOrdering]:
        """The pool ranked, for each representation and selector."""
        orderings = [
            ordering
            for represented in self.represented
            for ordering in order_all(represented, self, self.pool, self.query)
        ]
        self._link_all("orderings", {each.name: each.artifact.path for each in orderings})
        keep_config(self.config)
        return orderings

    @cached_property
    def drawn(self) -> list[StudyOrdering]:
        """The orderings of the study's draws; none where it makes none."""
        if self.config.draws is None:
            return []
        return [
            ordering
            for represented in self.represented
            for ordering in order_draws(represented, self, self.pool, self.query)
        ]

    @cached_property
    def subsets(self) -> list[Place]:
        """The selected rows as they came: a file for each ordering and budget, in the run's `subsets`."""
        sides = {side: self.rows[side].fingerprint for side in ("pool", "query")}
        orderings = {each.name: each.artifact.fingerprint for each in self.orderings}
        artifact = Artifact(
            self.root, "subsets", {**sides, "orderings": orderings}, SUBSETS_VERSION
        )
        files = artifact / "files"
        reused = artifact.complete
        if not reused:
            clock = artifact.clock()
            unit = self.config.budget_unit
            ordered = [Ordered(each.name, each.artifact.path, unit) for each in self.orderings]
            choices = [each.choice(budget) for each in ordered for budget in each.budgets]
            for subset in subsets(choices, self.config.data.pool):
                write_original(subset, files / f"{subset.choice.name}{subset.originals.kind}")
            rows = sum(choice.table.num_rows for choice in choices)
            artifact.commit(rows=rows, seconds=clock.seconds, peak_mb=peak_mb())
        self.log.made("subsets", "subsets", artifact, reused)
        self._link("", "subsets", files)
        return listed(files, "*")

    # ---- what comes of it ----

    @cached_property
    def search(self) -> Artifact | None:
        """The search for settings of fine-tuning; None without one."""
        return self._searched[1]

    @cached_property
    def tuned(self) -> Context:
        """The context of the cells: its config has the settings of fine-tuning that the search chose."""
        return self._searched[0]

    @cached_property
    def _searched(self) -> tuple[Context, Artifact | None]:
        if self.config.search is None:
            return self, None
        finetune, artifact = search(self, self.config.search, self.pool, self.query)
        config = self.config.model_copy(update={"finetune": finetune})
        return Context(config, self.cluster, self.log), artifact

    @cached_property
    def plans(self) -> list[CellPlan]:
        """The cells, with those of zero-shot and random."""
        return plan_cells(self.tuned.config, self.pool, self.orderings, self.drawn)

    @cached_property
    def cells(self) -> list[Cell]:
        """The result of each cell. Raises StudyFailedError where some failed twice."""
        return self._swept[: len(self.plans)]

    @cached_property
    def quantiles(self) -> list[Cell]:
        """The results of the distance-quantile experiment."""
        return self._swept[len(self.plans) :]

    @cached_property
    def _swept(self) -> list[Cell]:
        plans, settings = [*self.plans], self.config.quantiles
        if settings is not None:
            plans += plan_quantiles(self.tuned, settings, self.represented, self.pool)
        return sweep(plans, self.tuned, self.pool, self.query, self.test, self.ended)

    @cached_property
    def distances(self) -> list[RepresentationDistances]:
        """How far subsets lie from the queries."""
        plans = [plan for plan in self.plans if plan.draw is None]
        return measure_subsets(self.represented, plans, self.pool, self.tuned)

    @cached_property
    def record(self) -> StudyRecord:
        """What the report draws; the page is drawn again if any of it has changed."""
        path = self.config.run_dir / RECORD
        record = self._kept_record(path)
        changed = record is None
        if record is None:
            record = self._new_record()
        place = self.part.task, self.part.setting
        if changed or (record.task, record.setting) != place:
            record.task, record.setting = place
            record.save(path)
            build_report(record, path.parent)
        return record

    def _kept_record(self, path: Place) -> StudyRecord | None:
        """Return the record of an earlier run that was made from the same, if its page is there too."""
        try:
            record = StudyRecord.load(path)
        except InputError:
            return None
        drawn = (path.parent / "index.html").exists()
        return record if drawn and record.made_from == self._record_key else None

    def _new_record(self) -> StudyRecord:
        record = study_record(self, command())
        record.made_from = self._record_key
        if self.search is not None:
            record.search = read_json(self.search / RESULTS)
        return record

    @cached_property
    def _record_key(self) -> str:
        return fingerprint(
            {
                "config": self.tuned.config.model_dump(mode="json", exclude={"compute"}),
                "cells": [cell.with_rows() for cell in (*self.cells, *self.quantiles)],
                "orderings": [ordering.artifact.fingerprint for ordering in self.orderings],
                "distances": self.distances,
                "screen": self.screen.artifact.fingerprint,
                "search": self.search.fingerprint if self.search else None,
                "code": [__version__, git_commit()],
            }
        )

    def _link_all(self, folder: str, made: Mapping[str, Place]) -> None:
        """Let a folder of the run point to what was made, and to nothing of an earlier config."""
        for name, path in made.items():
            self._link(folder, name, path)
        for known in pointers(self.config.run_dir / folder):
            if known.name not in made:
                remove_pointer(known)

    def _link(self, folder: str, name: str, made: Place) -> None:
        """Let the run folder point to what was made; a link of an earlier config is replaced."""
        point(self.config.run_dir / folder / name, made)
