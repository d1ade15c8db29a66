"""A price names every stage, grows with what it counts, and is measured on the study's own rows."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.small import small_study
from tis_ray.config import parse_config, plan
from tis_ray.distributed.connect import Cluster
from tis_ray.study.price import estimate, price, print_price, total_price

COUNTS = {"pool": 10_000, "query": 10, "test": 100}
FACTS = {
    "sample": 64,
    "tokens_per_row": 200.0,
    "spread": 0.1,
    "target_tokens": 50.0,
    "tokenise": 1e-3,
    "train": 1e-3,
    "finetune": 4e-3,
    "saved": 1e6,
    "feature": {"less": 0.5, "bm25": 1e-4, "embed": 0.01},
    "width": {"less": 8192, "embed": 384},
    "loss": 0.1,
    "answer": 1.0,
    "flops": 1e10,
}


def estimated(tmp_path, **changes):
    config = parse_config(small_study(tmp_path, budget=[100, 50], seed=[0, 1], **changes))
    cluster = Cluster(cpus=4, gpus=0, threads=2, gpus_per_actor=0, actors=2)
    studies = plan(config).values()
    found = total_price([estimate(study, COUNTS, FACTS, cluster) for study in studies])
    return found, {stage.stage: stage for stage in found.stages}


def test_every_stage_is_rows_times_what_was_measured(tmp_path):
    found, stages = estimated(tmp_path, less__dtype="float16")
    assert list(stages) == [
        "tokens", "warm-up", "features less", "scores less", "fine-tune", "evaluate",
    ]  # fmt: skip
    assert stages["tokens"].tokens == 10_000 * 200
    assert stages["warm-up"].rows == 500  # 5% of the pool
    assert stages["warm-up"].seconds == pytest.approx(500 * 200 * 2 * 1e-3)
    features = stages["features less"]
    assert features.rows == 10_010
    assert features.seconds == pytest.approx(10_010 * 2 * 0.5)  # two checkpoints
    assert features.gigabytes == pytest.approx(10_010 * 2 * 8192 * 2e-9)
    assert stages["scores less"].gigabytes == pytest.approx(10 * 10_010 * 4e-9)
    assert stages["fine-tune"].rows == 2 * 2 * 150  # methods x seeds x budgets
    assert stages["fine-tune"].seconds == pytest.approx(600 * 200 * 2 * 4e-3)
    assert stages["fine-tune"].gigabytes == pytest.approx(2 * 2 * 2 * 1e-3)  # and budgets
    assert stages["evaluate"].rows == (2 + 2 * 2 * 2) * 110
    total = sum(stage.seconds for stage in stages.values())
    assert found.seconds == pytest.approx(total / 2)
    assert found.device_hours == pytest.approx(total * 2 / 3600)


def test_answers_to_tasks_are_paid_by_their_length(tmp_path):
    (tmp_path / "t.yaml").write_text(
        "max_new_tokens: 16\nrows: [{prompt: a, answer: b}, {prompt: c, answer: d}]\n"
    )
    seconds = [
        estimated(tmp_path, evaluation=evaluation)[1]["evaluate"].seconds
        for evaluation in (
            {"max_new_tokens": 8},
            {"max_new_tokens": 8, "tasks": [str(tmp_path / "t.yaml")]},
            {"max_new_tokens": 8, "metrics": []},
        )
    ]
    models = 2 + 2 * 2 * 2
    assert seconds[1] - seconds[0] == pytest.approx(models * 2 * 2 * 1.0)  # two rows, twice as long
    assert seconds[0] - seconds[2] == pytest.approx(models * 100 * 1.0)


def test_a_cascade_streaming_and_a_given_warmup_cost_less(tmp_path):
    _, plain = estimated(tmp_path)
    cascade = {"by": "embed", "keep": 0.1, "sample": 50}
    _, cheap = estimated(
        tmp_path,
        less__cascade=cascade,
        less__scoring="stream",
        less__warmup__checkpoints="somewhere",
    )
    assert "warm-up" not in cheap
    assert cheap["features less"].rows == 1000 + 50 + 10
    assert cheap["features less"].gigabytes == 0 < plain["features less"].gigabytes
    assert cheap["features embed"].rows == 10_010
    assert "fine-tune" in cheap


def test_quantiles_a_search_and_the_studies_of_a_grid_are_paid_too(tmp_path):
    _, plain = estimated(tmp_path)
    _, more = estimated(
        tmp_path,
        quantiles={"bins": 10, "rows": 30},
        search={"over": {"learning_rate": [1e-4, 1e-3], "batch_size": [2, 4]}, "trials": 3},
    )
    assert more["fine-tune"].rows == plain["fine-tune"].rows + 10 * 2 * 30  # bins x seeds x rows
    assert more["search"].rows == 3 * 100
    asked = 3 * 2 * 10 * 0.1  # trials x epochs x queries
    assert more["search"].seconds == pytest.approx(300 * 200 * 2 * 4e-3 + asked)


def test_what_the_studies_of_a_grid_have_in_common_is_paid_once(tmp_path):
    _, plain = estimated(tmp_path)
    grid = {"finetune.learning_rate": [1e-4, 1e-3, 1e-2], "less.sketch.width": [512, 1024]}
    _, found = estimated(tmp_path, grid=grid)
    times = {name: found[name].seconds / plain[name].seconds for name in plain}
    twice = ["features less", "scores less"]  # a sketch for each width, read by three studies
    assert times == pytest.approx(
        dict.fromkeys(plain, 6) | dict.fromkeys(["tokens", "warm-up"], 1) | dict.fromkeys(twice, 2)
    )


def test_tasks_share_what_is_made_of_the_pool_and_are_trained_one_by_one(tmp_path):
    _, plain = estimated(tmp_path)
    sides = {
        skill: {side: {"kind": "builtin", "skill": skill} for side in ("query", "test")}
        for skill in ("plural", "reverse_word")
    }
    study = small_study(tmp_path, budget=[100, 50], seed=[0, 1], tasks=sides)
    study["data"] = {"pool": study["data"]["pool"], "max_length": 128}
    cluster = Cluster(cpus=4, gpus=0, threads=2, gpus_per_actor=0, actors=2)
    prices = [estimate(one, COUNTS, FACTS, cluster) for one in plan(parse_config(study)).values()]
    found = {stage.stage: stage.seconds for stage in total_price(prices).stages}
    once = ["tokens", "warm-up", "features less"]
    assert {name: found[name] / plain[name].seconds for name in found} == pytest.approx(
        dict.fromkeys(["scores less", "fine-tune", "evaluate"], 2) | dict.fromkeys(once, 1)
    )


@pytest.mark.ray
def test_the_price_of_a_small_study(ray_cluster, tmp_path):
    found = price(parse_config(small_study(tmp_path, representation=["less", "bm25"])))
    assert found.sample == 64
    assert all(s.seconds > 0 for s in found.stages if s.stage != "scores bm25")
    assert not list((tmp_path / "artifacts").glob("warmup-*"))
    console = Console(width=110, record=True)
    print_price(found, console)
    text = console.export_text()
    assert "core-hours" in text
    assert "total" in text
    assert "features bm25" in text
