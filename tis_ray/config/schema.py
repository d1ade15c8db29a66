"""The schema of a study: one cell, or a grid of cells with its baselines.

The sections that belong to no method are in `tis_ray.settings`; each method brings its own. Where a
study field (`representation`, `selector`, `budget`, `seed`) is a list, the study is the product;
zero-shot and random are always part of it. `tasks` and `grid` make several studies of one file:
`tis_ray.config.plan` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from tis_ray.config.problems import problem_line
from tis_ray.methods import Method, NoSettings
from tis_ray.metrics import METRICS
from tis_ray.representations import REPRESENTATIONS, Representation
from tis_ray.representations.given import given_method
from tis_ray.section import as_list
from tis_ray.selectors import SELECTORS
from tis_ray.settings import (
    BatchConfig,
    ComputeConfig,
    ConstraintsConfig,
    DataConfig,
    EvaluationConfig,
    FinetuneConfig,
    ModelConfig,
    OverlapConfig,
    QuantilesConfig,
    SearchConfig,
    Section,
    Seed,
    TaskConfig,
    TrackingConfig,
)
from tis_ray.settings.given import GivenConfig, take_given
from tis_ray.settings.grid import Axes, placed

RANDOM = "random"
RESERVED = (RANDOM, "zero_shot")
"""Names of the baselines."""
NAME, NAME_LENGTH = r"^[A-Za-z0-9][A-Za-z0-9._-]*$", 200
"""What names a folder."""
SelectorName = Annotated[str, AfterValidator(SELECTORS.checked)]


class StudyConfig(Section):
    """A study: one cell, or a grid of cells with its baselines."""

    name: str = Field("study", pattern=NAME, max_length=NAME_LENGTH)
    """Name of the run folder."""
    runs: str = "runs"
    """Folder of the run folders."""
    artifacts: str = "artifacts"
    """Folder of the stages' outputs, shared by all runs. On a cluster: a path every node sees."""
    data: DataConfig
    tasks: dict[Annotated[str, Field(pattern=NAME)], TaskConfig] = {}
    """Several target tasks by name, each with `query` and `test` (leave those of `data` out then). The
    study runs for each, as `<name>-<task>`, and one page compares methods over all tasks."""
    task: str | None = None
    """Run this one of `tasks`; null runs all."""
    grid: Axes = {}
    """Settings with several values, `{finetune.learning_rate: [1.0e-3, 2.0e-3]}`. The study runs for each
    combination, as `<name>-<setting>-<value>`, what they have in common is computed once, and one page
    compares methods over all of them."""
    model: ModelConfig = ModelConfig()
    given: dict[str, GivenConfig] = {}
    """Files that take part as methods, by name; a section in the list of `representation` means the same."""
    representation: Annotated[list[str], BeforeValidator(as_list)] = ["less"]
    """How an example becomes a feature: one name, or a list. `tis-ray methods` lists what is there;
    `module:attribute` is a method of your own; `{scores: S.npy}`, `{features: F.npy, queries: Q.npy}`
    and `{ordering: mine.parquet}` are files that somebody else has made."""
    selector: Annotated[list[SelectorName], BeforeValidator(as_list)] = ["round_robin"]
    """How scores become an ordering: one name, or a list. `subtask` is LESS's original rule, a query's
    subtask being its `source`. `length_matched` draws at random, a subset for each seed, with the
    lengths of the round-robin subset: what of a gain is length."""
    selector_for: dict[str, Annotated[list[SelectorName], BeforeValidator(as_list)]] = {}
    """Other selectors for some representations, `{embed: round_robin}`; empty runs the full cross."""
    budget: Annotated[list[int], BeforeValidator(as_list)]
    """How much to train on: one number, or a list."""
    budget_unit: Literal["examples", "tokens"] = "examples"
    """What budgets count. `tokens` are those the model reads in one epoch, prompts and responses; a
    subset is the longest beginning of its ordering that fits."""
    seed: Annotated[list[Seed], BeforeValidator(as_list)] = [0, 1, 2]
    """Seeds of fine-tuning and of the random baseline: one number, or a list."""
    settings: dict[str, dict[str, Any]] = {}
    """Settings of methods that are not ours, by their names."""
    overlap: OverlapConfig = OverlapConfig()
    constraints: ConstraintsConfig = ConstraintsConfig()
    quantiles: QuantilesConfig | None = None
    """Also run the distance-quantile experiment, for every representation; null does not."""
    finetune: FinetuneConfig = FinetuneConfig()
    search: SearchConfig | None = None
    """Find settings of `finetune` first; null takes them as they are."""
    evaluation: EvaluationConfig = EvaluationConfig()
    batch: BatchConfig = BatchConfig()
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="before")
    @classmethod
    def _first_study(cls, values: Any) -> Any:
        """Fill in what `tasks` and `grid` say of the first study, so that a file of several reads as it."""
        return _with_point(_with_task(values)) if isinstance(values, dict) else values

    @model_validator(mode="before")
    @classmethod
    def _given_methods(cls, values: Any) -> Any:
        return take_given(values) if isinstance(values, dict) else values

    @field_validator("given")
    @classmethod
    def _own_names(cls, given: dict[str, GivenConfig]) -> dict[str, GivenConfig]:
        for name, files in given.items():
            given_method(name, files)
            if name in REPRESENTATIONS.names or name in RESERVED:
                raise ValueError(f"{name!r} is taken; call it something else with `name`")
        return given

    @field_validator("representation", "selector_for")
    @classmethod
    def _known_representations(cls, names: Any, info: ValidationInfo) -> Any:
        given = info.data.get("given", {})
        for name in names:
            if name not in given:
                REPRESENTATIONS.checked(name)
        return names

    @field_validator("representation", "selector", "budget", "seed")
    @classmethod
    def _distinct(cls, values: list[Any]) -> list[Any]:
        if not values:
            raise ValueError("give at least one value")
        if len(set(values)) != len(values):
            raise ValueError("a value is given twice; keep one")
        return values

    @field_validator("budget")
    @classmethod
    def _positive(cls, values: list[int]) -> list[int]:
        if min(values) < 1:
            raise ValueError("budgets start at 1")
        return sorted(values)

    @model_validator(mode="after")
    def _methods(self) -> StudyConfig:
        """Refuse two methods of one name, and settings of none of them."""
        for kind, references, find in (
            ("representation", self.representation, self.method),
            ("selector", self._every_selector(), SELECTORS.find),
            ("evaluation.metrics", self.evaluation.metrics, METRICS.find),
        ):
            first: dict[str, str] = {}
            for reference in dict.fromkeys(references):
                name = find(reference).name
                if name in RESERVED and (kind, name) != ("selector", RANDOM):
                    raise ValueError(
                        f"{kind}: the name of {reference!r}, {name!r}, is a baseline's"
                    )
                if first.setdefault(name, reference) != reference:
                    raise ValueError(
                        f"{kind}: {first[name]!r} and {reference!r} are both called {name!r}; "
                        "rename one"
                    )
        others = [*self.outside()]  # a representation and a selector may share a name
        names = dict.fromkeys(method.name for method in others)
        for name in self.settings:
            if name not in names:
                known = ", ".join(names) or "there is none"
                raise ValueError(
                    f"settings.{name}: is not one of the study's methods from outside ({known}); "
                    "methods of ours have sections of their own"
                )
        for method in others:
            try:
                method.Settings.model_validate(self.settings.get(method.name, {}))
            except ValidationError as error:
                line = problem_line(error, method.Settings)
                raise ValueError(f"settings.{method.name}: {line}") from None
        return self

    def _every_selector(self) -> list[str]:
        return [*self.selector, *(name for names in self.selector_for.values() for name in names)]

    def outside(self) -> Iterator[Method]:
        """Yield the study's methods that are not ours."""
        found: list[Method] = [self.method(name) for name in self.representation]
        found += [SELECTORS.find(name) for name in self._every_selector()]
        found += [METRICS.find(name) for name in self.evaluation.metrics]
        yield from (method for method in found if method.code is not None)

    @model_validator(mode="after")
    def _consistent(self) -> StudyConfig:
        if self.task is not None and self.task not in self.tasks:
            raise ValueError(f"task: found {self.task!r}, but there are no tasks; leave it out")
        for side in ("query", "test"):
            source = getattr(self.data, side)
            if source.kind == "builtin" and source.skill is None:
                raise ValueError(f"data.{side}.skill is missing: name one skill of the generator")
        for field, model in self._trained_models():
            if model.dtype == "float16":
                raise ValueError(
                    f"{field}.dtype: found float16, in which nothing can be trained (gradients below "
                    "6e-8 are zero there); use bfloat16 or float32"
                )
        if self.search is not None and self.finetune.shard:
            raise ValueError(
                "search trains in one process each: leave out finetune.shard, or search"
            )
        if self.search is not None and self.search.rows is None and self.budget_unit == "tokens":
            raise ValueError(
                "search.rows is missing: say how many rows, since budgets count tokens"
            )
        return self

    def _trained_models(self) -> Iterator[tuple[str, ModelConfig]]:
        """Yield each model that something is trained on, and its config key."""
        yield "model", self.model
        for method in REPRESENTATIONS.own.values():
            settings = self.settings_of(method)
            own = method.model(settings)
            if own is not None and method.warmup(settings) is not None:
                yield f"{method.section}.model", own

    def method(self, representation: str) -> Representation:
        """Return one of the study's representations."""
        files = self.given.get(representation)
        return (
            given_method(representation, files) if files else REPRESENTATIONS.find(representation)
        )

    def settings_of(self, method: Method) -> Any:
        """Return a method's settings: its section, or what `settings` says of one of your own."""
        if method.Settings is NoSettings:
            return NoSettings()
        if method.code is not None:
            return method.Settings.model_validate(self.settings.get(method.name, {}))
        section = getattr(self, method.section)
        if type(section) is method.Settings:
            return section
        fields = method.Settings.model_fields
        return method.Settings.model_validate({name: getattr(section, name) for name in fields})

    def selectors(self, representation: str) -> list[str]:
        """Return the selectors of a representation; random is not one, but always in the study."""
        own = (
            found
            for name, found in self.selector_for.items()
            if representation in (name, self.method(name).name)
        )
        chosen = next(own, self.selector)
        return [selector for selector in chosen if selector != "random"]

    @property
    def run_dir(self) -> Path:
        """Absolute path of the run folder."""
        return Path(self.runs).absolute() / self.name

    @property
    def artifact_root(self) -> Path:
        """Absolute path of the artifact folder."""
        return Path(self.artifacts).absolute()


def _with_task(values: dict[str, Any]) -> dict[str, Any]:
    """Return raw values with `data.query` and `data.test` of the task that runs, or of the first."""
    tasks, data = values.get("tasks"), values.get("data")
    if not tasks or not isinstance(tasks, dict) or not isinstance(data, dict):
        return values  # the schema's own error is better
    task = values.get("task")
    if task is not None and task not in [*tasks]:
        raise ValueError(f"task: {task!r} is not one of tasks ({', '.join(map(str, tasks))})")
    chosen = next(iter(tasks.values())) if task is None else tasks[task]
    if not isinstance(chosen, dict):
        return values
    for side in ("query", "test"):
        own = [sides.get(side) for sides in tasks.values() if isinstance(sides, dict)]
        if side in data and data[side] not in own:
            raise ValueError(f"data.{side}: each of `tasks` has its own; leave this one out")
    sides = {side: chosen[side] for side in ("query", "test") if side in chosen}
    return {**values, "data": {**data, **sides}}


def _with_point(values: dict[str, Any]) -> dict[str, Any]:
    """Return raw values with the first value of each axis of `grid` in its place."""
    grid = values.get("grid")
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        return values  # the schema's own error is better
    for key, axis in grid.items():
        section, _, setting = str(key).partition(".")
        if not setting or section in ("tasks", "grid"):
            raise ValueError(
                f"`grid.{key}`: give a setting of a section, such as `finetune.learning_rate`"
            )
        if any(value in axis[:place] for place, value in enumerate(axis)):
            raise ValueError(f"`grid.{key}`: a value is given twice; keep one")
    try:
        return placed(values, {str(key): axis[0] for key, axis in grid.items()})
    except ValueError as error:
        raise ValueError(f"grid: {error}") from None


def _method_sections() -> dict[str, Any]:
    """Return a config section for each of our methods that has settings.

    Methods that share a section have settings of which one's hold all the others'.
    """
    sections: dict[str, type[Section]] = {}
    for method in [*REPRESENTATIONS.own.values(), *SELECTORS.own.values()]:
        if method.Settings is not NoSettings:
            known = sections.get(method.section)
            if known is None or issubclass(method.Settings, known):
                sections[method.section] = method.Settings
    return {name: (section, section()) for name, section in sections.items()}


if TYPE_CHECKING:
    Config = StudyConfig
else:
    Config = create_model("Config", __base__=StudyConfig, __module__=__name__, **_method_sections())
