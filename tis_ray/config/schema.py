"""The schema of a study: one cell, or a grid of cells with its baselines.

The sections that belong to no method are in `tis_ray.settings`; each method brings its own. Where a
study field (`representation`, `selector`, `budget`, `seed`) is a list, the study is the product;
zero-shot and random are always part of it. `tasks` and `grid` make several studies of one file:
`tis_ray.config.plan` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from tis_ray.config.first_study import with_point, with_task
from tis_ray.config.inline_files import with_named_files
from tis_ray.config.used_methods import check_methods
from tis_ray.methods import RANDOM, ZERO_SHOT, Method, NoSettings
from tis_ray.metrics import METRICS
from tis_ray.representations import REPRESENTATIONS, Representation
from tis_ray.representations.given import given_method
from tis_ray.section import as_list, distinct, not_empty
from tis_ray.selectors import SELECTORS
from tis_ray.settings import (
    AnySource,
    BatchConfig,
    BuiltinSource,
    ComputeConfig,
    ConstraintsConfig,
    DataConfig,
    DrawsConfig,
    EvaluationConfig,
    FinetuneConfig,
    ListSource,
    ModelConfig,
    OverlapConfig,
    PriceConfig,
    QuantilesConfig,
    SearchConfig,
    Section,
    Seed,
    TaskConfig,
    TrackingConfig,
    as_draws,
)
from tis_ray.settings.given import GivenConfig
from tis_ray.settings.grid import Axes
from tis_ray.storage import Place, place

NAME, NAME_LENGTH = r"^[A-Za-z0-9][A-Za-z0-9._-]*$", 200
"""What names a folder."""
T = TypeVar("T")
SomeOf = Annotated[
    list[T], BeforeValidator(as_list), AfterValidator(not_empty), AfterValidator(distinct)
]
"""One value or a list of them."""
Selectors = SomeOf[Annotated[str, AfterValidator(SELECTORS.checked)]]
Names = TypeVar("Names", list[str], dict[str, list[str]])


class StudyConfig(Section):
    """A study: one cell, or a grid of cells with its baselines."""

    # What is read is `Config` below, which has sections that this one lacks.
    model_config = ConfigDict(defer_build=True)

    name: str = Field("study", pattern=NAME, max_length=NAME_LENGTH)
    """Name of the run folder."""
    runs: str = "runs"
    """Folder of the run folders: a path, or a URI such as `s3://bucket/runs`."""
    artifacts: str = "artifacts"
    """Folder of the stages' outputs, shared by all runs: a path, or a URI such as `s3://bucket/artifacts`.
    On a cluster every node has to see it."""
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
    representation: SomeOf[str] = ["less"]
    """How an example becomes a feature: one name, or a list. `tis-ray methods` lists what is there;
    `module:attribute` is a method of your own; `{scores: S.npy}`, `{features: F.npy, queries: Q.npy}`
    and `{ordering: mine.parquet}` are files that somebody else has made."""
    selector: Selectors = ["round_robin"]
    """How scores become an ordering: one name, or a list. `subtask` is LESS's original rule, a query's
    subtask being its `source`. `length_matched` draws at random, a subset for each seed, with the
    lengths of the round-robin subset: what of a gain is length."""
    selector_for: dict[str, Selectors] = {}
    """Other selectors for some representations, `{embed: round_robin}`; empty runs the full cross."""
    budget: SomeOf[int]
    """How much to train on: one number, or a list."""
    budget_unit: Literal["examples", "tokens"] = "examples"
    """What budgets count. `tokens` are those the model reads in one epoch, prompts and responses; a
    subset is the longest beginning of its ordering that fits."""
    seed: SomeOf[Seed] = [0, 1, 2]
    """Seeds of fine-tuning and of the random baseline: one number, or a list."""
    draws: Annotated[DrawsConfig | None, BeforeValidator(as_draws)] = None
    """Also select anew so many times, to ask whether the *method* is better than random and not this one
    subset alone: a number, or a section. Null or 0 does not ask."""
    margins: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Differences that do not matter, by metric: methods that differ by less are called alike. 0.02 is
    taken for shares (2 points) and losses."""
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
    price: PriceConfig = PriceConfig()

    @model_validator(mode="before")
    @classmethod
    def _first_study(cls, values: object) -> object:
        """Fill in what `tasks` and `grid` say of the first study, so that a file of several reads as it."""
        return with_point(with_task(values)) if isinstance(values, dict) else values

    @model_validator(mode="before")
    @classmethod
    def _named_files(cls, values: object) -> object:
        return with_named_files(values) if isinstance(values, dict) else values

    @field_validator("given")
    @classmethod
    def _own_names(cls, given: dict[str, GivenConfig]) -> dict[str, GivenConfig]:
        for name, files in given.items():
            given_method(name, files)
            if name in REPRESENTATIONS.names or name in (RANDOM, ZERO_SHOT):
                raise ValueError(f"{name!r} is taken; call it something else with `name`")
        return given

    @field_validator("representation", "selector_for")
    @classmethod
    def _known_representations(cls, names: Names, info: ValidationInfo) -> Names:
        given = info.data.get("given", {})
        for name in names:
            if name not in given:
                REPRESENTATIONS.checked(name)
        return names

    @field_validator("budget")
    @classmethod
    def _positive(cls, values: list[int]) -> list[int]:
        if min(values) < 1:
            raise ValueError("budgets start at 1")
        return sorted(values)

    @model_validator(mode="after")
    def _methods(self) -> StudyConfig:
        check_methods(self)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> StudyConfig:
        if self.task is not None and self.task not in self.tasks:
            raise ValueError(f"task: found {self.task!r}, but there are no tasks; leave it out")
        for field, source in self.sources():
            _require_skill(source, field)
        for field, model in self.trained_models():
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

    def sources(self) -> Iterator[tuple[str, AnySource]]:
        """Yield every source of rows, and its config key."""
        yield "data.pool", self.data.pool
        own: list[tuple[str, TaskConfig | DataConfig]] = [("data", self.data)]
        tasks = [(f"tasks.{name}", task) for name, task in self.tasks.items()]
        others = [("overlap.also", task) for task in self.overlap.also]
        for key, task in (*(tasks or own), *others):
            yield f"{key}.query", task.query
            if task.test is not None:
                yield f"{key}.test", task.test

    def trained_models(self) -> Iterator[tuple[str, ModelConfig]]:
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

    def representations(self) -> list[Representation]:
        """Return all that are used, each after the cheap one of its cascade, if it has one."""
        used: dict[str, Representation] = {}
        for method in map(self.method, self.representation):
            cascade = method.cascade(self.settings_of(method))
            if cascade is not None:
                cheap = self.method(cascade.by)
                used.setdefault(cheap.name, cheap)
            used.setdefault(method.name, method)
        return list(used.values())

    def outside(self) -> Iterator[Method]:
        """Yield the study's methods that are not ours."""
        named = [name for names in self.selector_for.values() for name in names]
        selectors = map(SELECTORS.find, [*self.selector, *named])
        metrics = map(METRICS.find, self.evaluation.metrics)
        for method in (*self.representations(), *selectors, *metrics):
            if method.code is not None:
                yield method

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

    @property
    def draws_apart(self) -> bool:
        """Whether the study makes draws of which no two share anything that varies."""
        return self.draws is not None and self.draws.apart

    def selectors(self, representation: str) -> list[str]:
        """Return the selectors of a representation; random is not one, but always in the study."""
        own = (
            selectors
            for name, selectors in self.selector_for.items()
            if representation in (name, self.method(name).name)
        )
        chosen = next(own, self.selector)
        return [selector for selector in chosen if selector != RANDOM]

    @property
    def run_dir(self) -> Place:
        """The run folder: its absolute path, or its URI."""
        return place(self.runs).absolute() / self.name

    @property
    def artifact_root(self) -> Place:
        """The artifact folder: its absolute path, or its URI."""
        return place(self.artifacts).absolute()


def _require_skill(source: AnySource, field: str) -> None:
    """Raise ValueError unless a source of the generator is of one skill, or of none if it is the pool."""
    if isinstance(source, ListSource):
        for one in source.sources:
            _require_skill(one, field)
    if not isinstance(source, BuiltinSource):
        return
    if field == "data.pool":
        if source.skill is not None:
            raise ValueError(f"{field}.skill: the pool mixes all skills; leave it out")
    elif source.skill is None:
        raise ValueError(f"{field}.skill is missing: name one skill of the generator")


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
