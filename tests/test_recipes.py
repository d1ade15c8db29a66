"""The recipes of the paper: its numbers, every command in their comments, and a run at toy size."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tis_ray.analysis.study_values import ZERO_SHOT, ZERO_SHOT_PLAIN
from tis_ray.config import Config, load_config, plan

EXAMPLES = Path(__file__).parents[1] / "examples"
PAPER = ["paper-tulu", "paper-dolci"]


def recipe(name: str) -> Path:
    return EXAMPLES / f"{name}.yaml"


def commands(name: str) -> list[list[str]]:
    """The overrides that the comments of a recipe show, a list for each line."""
    lines = [line[1:].strip() for line in recipe(name).read_text().splitlines() if line[:1] == "#"]
    return [
        [word for word in shlex.split(line) if word != "--set"]
        for line in lines
        if line.startswith("--set")
    ]


@pytest.mark.parametrize("name", PAPER)
def test_the_numbers_are_the_papers(name: str) -> None:
    config = load_config(recipe(name))
    assert config.budget == [500, 1000, 2500, 5000, 10_000]
    assert config.seed == [0, 1, 2]
    assert list(config.tasks) == ["bbh", "codex", "gsm8k", "tydiqa", "mmlu_pro"]
    assert config.data.max_length == (2048 if name == "paper-tulu" else 4096)
    tuning = config.finetune
    assert (tuning.method, tuning.epochs, tuning.batch_size) == ("full", 2, 128)
    assert (tuning.learning_rate, tuning.warmup_ratio, tuning.weight_decay) == (2e-5, 0.03, 0.0)
    assert config.model.dtype == "bfloat16"
    warmup, lora = config.less.warmup, config.less.lora
    assert (warmup.epochs, warmup.batch_size, warmup.learning_rate) == (4, 128, 2e-5)
    assert (warmup.warmup_ratio, round(warmup.share * 197_196, -3)) == (0.03, 10_000)
    assert (lora.rank, lora.alpha, lora.dropout) == (128, 512, 0.1)
    sketch = config.less.sketch
    assert (sketch.width, sketch.kind, sketch.shared_seed) == (8192, "rademacher", True)
    assert (config.less.pool_direction, config.less.query_direction) == ("adam", "sgd")
    assert (config.uot.reg, config.uot.reg_m1, config.uot.reg_m2) == (0.01, None, 1e-4)
    knn = config.knn
    assert (knn.neighbours, knn.alpha, knn.scale, knn.ties) == (5000, 0.01, 5.0, "paper")
    assert (knn.density_neighbours, knn.sigma) == (1000, 0.75)


@pytest.mark.parametrize("name", PAPER)
def test_every_command_in_the_comments_is_a_study(name: str) -> None:
    studies = [load_config(recipe(name), overrides) for overrides in commands(name)]
    assert [len(plan(study)) for study in studies] == [5] * 6  # tasks
    assert len({study.name for study in studies}) == len(studies) == 6
    models = [study.model.name for study in studies[:5]]
    assert len(set(models)) == 5
    for study in studies[:5]:
        llama = "llama" in study.model.name.lower()
        attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
        assert study.less.lora.targets == (attention if llama else "all-linear")
    quantiles = studies[5]
    assert quantiles.quantiles is not None
    assert (quantiles.quantiles.bins, quantiles.quantiles.rows) == (10, 500)
    assert (quantiles.budget, quantiles.seed, quantiles.selector) == ([500], [0], ["round_robin"])


def test_the_recipes_differ_in_pool_and_length_alone() -> None:
    def told(name: str) -> dict[str, Any]:
        values = load_config(recipe(name)).model_dump(mode="json")
        return {
            **values,
            "name": None,
            "data": {**values["data"], "pool": None, "max_length": None},
        }

    assert told("paper-tulu") == told("paper-dolci")


def toy(folder: Path) -> Config:
    """The recipe with the built-in model and data, and everything that costs time made small."""
    query, test = (f"{{kind: builtin, skill: reverse_word, rows: {rows}}}" for rows in (4, 6))
    changes = {
        "runs": folder / "runs",
        "artifacts": folder / "artifacts",
        "data.pool": "{kind: builtin, rows: 160}",
        "data.max_length": 128,
        "tasks": f"{{reverse: {{query: {query}, test: {test}}}}}",
        "model": "{name: builtin}",
        "budget": 8,
        "seed": 0,
        "less.lora.rank": 4,
        "less.warmup.batch_size": 16,
        "less.warmup.min_rows": 32,
        "less.sketch.width": 256,
        "embed.model": "minilm",
        "finetune.workers": 0,
        "compute.actors": 2,
        "finetune.shard": "false",
        "finetune.batch_size": 4,
        "tracking.enabled": "false",
    }
    return load_config(recipe("paper-tulu"), [f"{key}={value}" for key, value in changes.items()])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_recipe_at_toy_size_ends_with_a_page(ray_cluster: Any, tmp_path: Path) -> None:
    from tis_ray.study.run import run

    study = run(toy(tmp_path)).parts["paper-tulu-reverse"]
    methods = {(cell.method.representation, cell.method.selector) for cell in study.cells}
    less = {("less", name) for name in ("doubly_greedy", "uot", "knn_uniform", "knn_kde")}
    round_robin = {(name, "round_robin") for name in ("less", "rds", "embed")}
    baselines = {("random", "random"), (ZERO_SHOT, None), (ZERO_SHOT_PLAIN, None)}
    assert methods == less | round_robin | baselines
    assert len(study.cells) == len(methods)
    assert all(0 < cell.metrics["query_loss"] < 20 for cell in study.cells)
    assert not list((tmp_path / "artifacts").glob("cell-*/model"))
    assert study.report.exists()
