"""A price names every stage, grows with what it counts, and is measured on the study's own rows."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest
import ray
from rich.console import Console

from tests.small import small_study
from tis_ray.analysis import StageCost
from tis_ray.config import parse_config, plan
from tis_ray.data.files.counted import Count
from tis_ray.distributed.connect import Cluster
from tis_ray.models.loading import meta_model
from tis_ray.store import Artifact, write_json
from tis_ray.study.bill import bill, print_bill
from tis_ray.study.driver import driver_rates
from tis_ray.study.price import estimate, kept_price, price, total_price
from tis_ray.study.price_screen import print_price
from tis_ray.study.sample import _size
from tis_ray.study.time_screen import time_screen

COUNTS = {"pool": Count.of(10_000), "query": Count.of(10), "test": Count.of(100)}
FACTS = {
    "encoded": 1000,
    "tokens_per_row": 200.0,
    "spread": 0.1,
    "usable": 1.0,
    "refused": {},
    "cut": 0.25,
    "lost_tokens": 0.1,
    "sample": 64,
    "target_tokens": 50.0,
    "tokenise": 1e-3,
    "screen": 0.0,
    "start": 0.0,
    "load": 0.0,
    "train": 1e-3,
    "finetune": 4e-3,
    "saved": 1e6,
    "feature": {"less": 0.5, "bm25": 1e-4, "embed": 0.01},
    "held": {},
    "width": {"less": 8192, "embed": 384},
    "loss": 0.1,
    "answer": 1.0,
    "flops": 1e10,
    "model": {
        "parameters": 7e9,
        "adapter": 1e7,
        "trained": 1e7,
        "hidden": 4096,
        "layers": 32,
        "vocabulary": 32000,
        "bytes_each": 2,
    },
    "readers": {"less": 7e9},
    "peak_mb": 900.0,
}
CLUSTER = Cluster(cpus=4, gpus=0, threads=2, gpus_per_actor=0, actors=2)


def estimated(tmp_path, facts=FACTS, **changes):
    config = parse_config(small_study(tmp_path, budget=[100, 50], seed=[0, 1], **changes))
    studies = plan(config).values()
    found = total_price([estimate(study, COUNTS, facts, CLUSTER) for study in studies])
    return found, {stage.stage: stage for stage in found.stages}


def test_every_stage_is_rows_times_what_was_measured(tmp_path):
    found, stages = estimated(tmp_path, less__dtype="float16")
    assert list(stages) == [
        "starting", "screen", "tokens", "warm-up", "features less", "scores less", "orderings less",
        "fine-tune", "evaluate",
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
    assert found.seconds == pytest.approx(total / 2 + found.driver_seconds)
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
    times = {n: found[n].seconds / p.seconds for n, p in plain.items() if p.seconds}
    twice = [
        "features less",
        "scores less",
        "orderings less",
    ]  # a sketch for each width, read by three studies
    assert times.pop("starting", None) is None
    assert times == pytest.approx(
        dict.fromkeys(times, 6) | dict.fromkeys(["tokens", "warm-up"], 1) | dict.fromkeys(twice, 2)
    )


def test_tasks_share_what_is_made_of_the_pool_and_are_trained_one_by_one(tmp_path):
    _, plain = estimated(tmp_path)
    sides = {
        skill: {side: {"kind": "builtin", "skill": skill} for side in ("query", "test")}
        for skill in ("plural", "reverse_word")
    }
    study = small_study(tmp_path, budget=[100, 50], seed=[0, 1], tasks=sides)
    study["data"] = {"pool": study["data"]["pool"], "max_length": 128}
    prices = [estimate(one, COUNTS, FACTS, CLUSTER) for one in plan(parse_config(study)).values()]
    found = {s.stage: s.seconds for s in total_price(prices).stages if s.seconds}
    once = ["tokens", "warm-up", "features less"]
    assert {name: found[name] / plain[name].seconds for name in found} == pytest.approx(
        dict.fromkeys(["scores less", "orderings less", "fine-tune", "evaluate"], 2)
        | dict.fromkeys(once, 1)
    )


def test_each_stage_with_a_model_starts_its_own_processes(tmp_path):
    _, plain = estimated(tmp_path, representation=["less", "bm25"])
    slow = {**FACTS, "start": 10.0, "load": 5.0}
    _, found = estimated(tmp_path, slow, representation=["less", "bm25"])
    more = {name: found[name].seconds - plain[name].seconds for name in plain}
    paid = dict.fromkeys(["warm-up", "features less", "fine-tune"], 2 * 15)  # by each of two actors
    assert more == pytest.approx(dict.fromkeys(plain, 0) | paid | {"starting": 2 * 10})


def test_other_hardware_is_operations_by_a_rate_whose_origin_is_said(tmp_path):
    found, stages = estimated(tmp_path, evaluation__metrics=[])
    tokens = stages["warm-up"].tokens + stages["features less"].tokens + stages["fine-tune"].tokens
    flops = 7e9 * (4 * tokens + 2 * stages["evaluate"].tokens)
    one, eight = (each for each in found.hardware if each.device == "H100")
    assert one.hours == pytest.approx(flops / (0.35 * 989e12) / 3600)
    assert (one.low, one.high) == pytest.approx((one.hours * 35 / 45, one.hours * 35 / 25))
    assert eight.hours == pytest.approx(one.hours / 8)
    memory = found.memory
    assert memory.weights == pytest.approx(14)
    assert memory.training == pytest.approx(0.12)
    assert memory.moments == pytest.approx(2 * 8 * 0.01)  # Adam's two of each checkpoint
    assert memory.gpu < 48
    assert one.fits
    text = shown(found)
    assert "on other hardware" in text
    assert "none of these was measured" in text
    assert "assumed" in text
    small = {**FACTS, "model": {**FACTS["model"], "parameters": 1e6}}
    tiny, _ = estimated(tmp_path, small)
    assert tiny.hardware == []
    assert "other hardware: not estimated" in shown(tiny)


def test_money_is_hours_by_the_price_of_an_hour(tmp_path):
    price_of = {"cpu_hour": 0.5, "gpu_hour": 2.5, "storage_gb_month": 0.02, "currency": "EUR"}
    found, _ = estimated(tmp_path, price=price_of)
    told = found.to_json()
    assert told["cost"] == pytest.approx(found.device_hours * 0.5)
    assert told["storage_a_month"] == pytest.approx(found.gigabytes * 0.02)
    assert "EUR" in shown(found)
    assert "price.cpu_hour" not in shown(found)
    without, _ = estimated(tmp_path)
    assert without.to_json()["cost"] is None
    assert "set price.cpu_hour" in shown(without)


def test_a_model_too_large_to_be_measured_is_counted(tmp_path):
    nan = float("nan")
    unknown = dict.fromkeys(["load", "train", "finetune", "loss", "answer", "flops"], nan)
    facts = {**FACTS, **unknown, "sample": 0, "feature": {"less": nan}, "width": {"less": nan}}
    found, _ = estimated(tmp_path, facts)
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["seconds"] is None
    assert told["stages"]["fine-tune"]["tokens"] == 600 * 200 * 2
    assert told["hardware"][0]["hours"] > 0
    assert "too large to be measured here" in shown(found)
    assert "nan" not in shown(found)


def test_gigabytes_and_what_reads_text_are_known_where_the_model_is_too_large(
    tmp_path, monkeypatch
):
    config = parse_config(
        small_study(tmp_path, representation=["less", "rds", "embed", "bm25"], less__dtype="int8")
    )
    run = price(config, start=1.0)
    monkeypatch.setattr("tis_ray.study.sample.MOST_ON_CPU", 0)
    counted = price(config, start=1.0)
    assert (run.sample > 0, counted.sample) == (True, 0)
    sizes = [{stage.stage: stage.gigabytes for stage in each.stages} for each in (run, counted)]
    assert all(
        sizes[0][stage] > 0
        for stage in ("warm-up", "features less", "features rds", "features embed", "scores bm25")
    )
    assert counted.gigabytes == pytest.approx(run.gigabytes)
    assert sizes[1] == pytest.approx(sizes[0])
    unknown = {stage.stage for stage in counted.stages if isnan(stage.seconds)}
    assert unknown == {"warm-up", "features less", "features rds", "fine-tune", "evaluate"}
    assert not any(isnan(stage.seconds) for stage in run.stages)


def test_each_draw_is_one_more_training_of_every_method_and_budget(tmp_path):
    (_, without), (_, drawn) = estimated(tmp_path), estimated(tmp_path, draws=4)
    assert without["fine-tune"].rows == 2 * 2 * 150  # methods, random among them, x seeds x budgets
    assert drawn["fine-tune"].rows == 600 + 4 * 150
    assert (
        drawn["evaluate"].rows - without["evaluate"].rows == 4 * 2 * without["evaluate"].rows / 10
    )


def test_what_the_driver_takes_no_number_of_actors_shortens(tmp_path):
    one, _ = estimated(tmp_path)
    many = replace(one, actors=1000)
    assert one.driver_seconds > 0
    assert many.seconds == pytest.approx(
        (one.seconds - one.driver_seconds) / 500 + one.driver_seconds
    )
    counts = {**COUNTS, "pool": Count.of(10_000_000)}
    large = estimate(parse_config(small_study(tmp_path)), counts, FACTS, CLUSTER)
    rate = driver_rates()["ingest_microseconds"]
    assert large.driver_seconds > 10 * rate  # of 10^7 rows
    assert large.memory.driver > one.memory.driver
    assert "of the time are the driver's own" in shown(large)
    assert "of the time are the driver's own" not in shown(one)


def test_requests_follow_the_shards_and_have_a_price(tmp_path):
    prices = {"price__writes_1000": 0.005, "price__reads_1000": 0.0004}
    small, _ = estimated(tmp_path, artifacts="s3://bucket/artifacts", **prices)
    finer, _ = estimated(tmp_path, artifacts="s3://bucket/artifacts", batch__shard_rows=4, **prices)
    shards = 10_000 / 4 - 10_000 / 40
    a_shard = sum(stage["writes"]["shard"] for stage in driver_rates()["stages"].values())
    assert finer.requests.writes - small.requests.writes == pytest.approx(a_shard * shards, rel=0.1)
    told = small.to_json()["requests"]
    assert told["bucket"]
    assert told["cost"] == pytest.approx(
        (small.requests.writes * 0.005 + small.requests.reads * 0.0004) / 1000
    )
    assert "requests" in shown(small)
    assert "set price.writes_1000" not in shown(small)
    without, _ = estimated(tmp_path, artifacts="s3://bucket/artifacts")
    assert "set price.writes_1000" in shown(without)
    assert "requests" not in shown(estimated(tmp_path)[0])  # on a disk, and small


def test_what_reads_the_whole_pool_in_one_process_has_its_memory_and_no_actors(tmp_path):
    facts = {**FACTS, "held": {"bm25": 2000.0}}
    found, stages = estimated(tmp_path, facts, representation=["bm25"])
    assert stages["scores bm25"].seconds == 0
    assert stages["scores bm25"].driver >= 10_010 * 1e-4
    assert found.memory.words == pytest.approx(10_000 * 2000 / 1e9)
    assert found.memory.driver > found.memory.words
    assert "BM25's words" in shown(found)
    assert "BM25's words" not in shown(estimated(tmp_path)[0])


def test_the_screen_is_priced_by_its_passes_over_the_rows(tmp_path):
    _, stages = estimated(tmp_path, {**FACTS, "screen": 1e-4})
    assert stages["screen"].seconds == pytest.approx(1.0)


def test_the_screen_of_longer_rows_takes_longer(tmp_path):
    def rows(words):
        text = " ".join(f"w{n}" for n in range(words))
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
        return [{"id": f"{n}", "source": "s", "messages": turns} for n in range(50)]

    config = parse_config(small_study(tmp_path))
    few = rows(5)[:2]
    short, long = (
        time_screen(config, {"pool": rows(words), "query": few, "test": few}, "cpu")
        for words in (5, 1000)
    )
    assert 0 < 5 * short < long


def shown(found):
    console = Console(width=130, record=True, file=io.StringIO())
    print_price(found, console)
    return console.export_text()


def test_the_price_of_a_small_study_needs_no_ray_and_leaves_no_rows(tmp_path):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Say {n}."},
                {"role": "assistant", "content": "x " * n},
            ]
        }
        for n in range(1, 200)
    ]
    rows[7]["messages"].pop()
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = parse_config(
        small_study(tmp_path, representation=["less", "bm25"], data__pool={"path": str(pool)})
    )
    told = []
    found = price(config, told.append, start=3.0)
    assert not ray.is_initialized()
    assert 4 <= found.sample <= 64
    assert (found.rows.rows, found.refused) == (198, {"no_assistant_turn": 1})
    assert 0 < found.cut < 1  # by max_length 128
    assert all(stage.wall(1) > 0 for stage in found.stages)
    assert found.memory.words > 0
    assert not (tmp_path / "artifacts").exists()
    assert kept_price(config) == json.loads(json.dumps(found.to_json()))
    assert "less of" in " ".join(told)
    text = shown(found)
    assert "core-hours" in text
    assert "scores bm25" in text
    lines = bill(config, [])
    assert {line.stage for line in lines} >= {"starting", "warm-up", "fine-tune, evaluate"}


def test_the_bill_has_what_a_stage_took_beside_its_estimate(tmp_path):
    config = parse_config(small_study(tmp_path, price={"cpu_hour": 36.0}))
    artifact = Artifact(config.artifact_root, "warmup", {})
    write_json(artifact / "x.json", "y" * 1000)
    artifact.commit()
    cost = {"kind": "warm-up", "reused": False, "rows": 5, "quarantined": 0}
    stages = [
        StageCost(stage="warm-up", artifact=str(artifact.path), seconds=30.0, **cost),
        StageCost(stage="screen", artifact="elsewhere", seconds=2.0, **cost),
    ]
    (unestimated, screen) = bill(config, stages)
    assert (unestimated.expected, unestimated.took) == (None, 30.0)
    assert unestimated.written > 1e-6
    assert screen.written is None
    found, by_stage = estimated(tmp_path)
    write_json(config.run_dir / "price.json", found.to_json())
    lines = {line.stage: line for line in bill(config, stages)}
    assert lines["warm-up"].expected == pytest.approx(by_stage["warm-up"].wall(2))
    both = by_stage["fine-tune"].seconds + by_stage["evaluate"].seconds
    assert lines["fine-tune, evaluate"].expected == pytest.approx(both / 2)
    console = Console(width=130, record=True, file=io.StringIO())
    print_bill(config, stages, console)
    assert (
        "1.20 USD" in console.export_text()
    )  # 30 s of 2 actors with 2 cores each, at 0.01 a second


def test_measuring_a_model_leaves_it_as_it_is(tmp_path: Path) -> None:
    """The model without weights is shared by all that looks at it in a process."""
    config = parse_config(small_study(tmp_path))
    assert _size(config) == _size(config)
    assert not any("lora" in name for name, _ in meta_model(config.model).named_modules())
