"""One small study, end to end on a real Ray cluster, and what must not change its results."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.small import ordering_bytes, small_study
from tis_ray.config import load_config
from tis_ray.data import builtin
from tis_ray.distributed import shards as shards_module
from tis_ray.errors import InputError
from tis_ray.report import StudyRecord
from tis_ray.stages.cells import StudyFailedError, train_losses
from tis_ray.study.run import PartsFailedError, StudyResult, run

pytestmark = pytest.mark.ray


def scores_by_id(folder):
    """Return {pool id: scores (M,)} of the one LESS scores artifact in a folder."""
    artifacts = folder / "artifacts"
    (scores,) = artifacts.glob("scores-less-*")
    columns = np.load(scores / "columns.npy")
    matrix = np.concatenate([np.load(p) for p in sorted(scores.glob("scores-*.npy"))], axis=1)
    names = {}
    for path in artifacts.glob("tokens-*/tokens-*.parquet"):
        table = pq.read_table(path, columns=["row", "id"]).to_pydict()
        if any(".pool" in name for name in table["id"]):
            names |= dict(zip(table["row"], table["id"], strict=True))
    return {names[row]: matrix[:, j] for j, row in enumerate(columns.tolist())}


def test_a_study_ends_with_ordering_adapter_metrics_and_report(undisturbed):
    run_dir = undisturbed / "runs" / "small"
    table = pq.read_table(run_dir / "orderings" / "less-round_robin" / "ordering.parquet")
    assert table.column_names[:4] == ["index", "rank", "score", "query"]
    assert table["rank"].to_pylist() == list(range(12))
    assert len(set(table["index"].to_pylist())) == 12
    record = StudyRecord.load(run_dir / "report" / "record.json")
    names = ["zero_shot", "zero_shot (no template)", "random", "less"]
    cells = [cell.to_json() for cell in record.cells]
    assert [c["representation"] for c in cells] == names
    for cell in cells:
        assert 0 < cell["test_loss"] < 10
        assert 0 <= cell["exact_match"] <= 1
        assert 0 <= cell["exact_match_parse_failures"] <= 1
    assert [c["train_rows"] for c in cells] == [0, 0, 12, 12]
    assert [c["optimizer_steps"] for c in cells] == [0, 0, 6, 6]
    assert 'data-figure="budget_test_loss"' in (run_dir / "report" / "index.html").read_text()


def test_zero_shot_is_measured_with_and_without_template_from_one_artifact(undisturbed):
    from tis_ray.data import encode_query_row
    from tis_ray.evaluation import example_losses
    from tis_ray.models.loading import load_model, load_tokenizer
    from tis_ray.settings import ModelConfig

    record = StudyRecord.load(undisturbed / "runs" / "small" / "report" / "record.json")
    template, plain = (cell.to_json() for cell in record.cells[:2])
    assert template["fingerprint"] == plain["fingerprint"]
    assert "no_template" not in template
    folder = undisturbed / "artifacts" / f"cell-{plain['fingerprint']}"
    tokenizer, model = load_tokenizer(ModelConfig()), load_model(ModelConfig())
    for name, cell, rows in (("tulu", template, folder), ("plain", plain, folder / "no_template")):
        test = builtin.test_rows("reverse_word", 6, 0)
        encoded = [encode_query_row(row, tokenizer, 128, name) for row in test]
        losses = example_losses(model, encoded)
        assert cell["test_loss"] == pytest.approx(losses.mean(), abs=1e-6)
        table = pq.read_table(rows / "test_rows.parquet")
        assert table["loss"].to_pylist() == pytest.approx(losses.tolist(), abs=1e-6)
        assert table["id"].to_pylist() == [row["id"] for row in test]
        assert np.mean(table["exact_match"].to_pylist()) == cell["exact_match"]
    assert plain["test_loss"] > template["test_loss"] + 0.1


def test_rows_without_a_number_are_named_before_anything_is_trained(ray_cluster, tmp_path):
    study = small_study(tmp_path, evaluation__metrics=["exact_match", "numeric_match"])
    with pytest.raises(
        InputError, match=r"evaluation.metrics: numeric_match: test row .*no number"
    ):
        run(study)
    assert not list((tmp_path / "artifacts").glob("warmup-*"))


def test_adapters_load_in_plain_transformers_and_peft(undisturbed):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tis_ray.evaluation import example_losses
    from tis_ray.models import builtin as shipped

    record = StudyRecord.load(undisturbed / "runs" / "small" / "report" / "record.json")
    cell = record.cells[-1].to_json()
    folder = undisturbed / "artifacts" / f"cell-{cell['fingerprint']}"
    model = AutoModelForCausalLM.from_pretrained(shipped.PATH)
    model = PeftModel.from_pretrained(model, folder / "adapter")
    (tokens,) = [
        path
        for path in (undisturbed / "artifacts").glob("tokens-*/tokens-*.parquet")
        if ".test" in pq.read_table(path)["id"][0].as_py()
    ]
    loss = example_losses(model, pq.read_table(tokens).to_pylist()).mean()
    assert loss == pytest.approx(cell["test_loss"], abs=1e-5)


def test_a_second_run_does_no_work(copied):
    run(small_study(copied))  # the page of the copy: it names another folder
    before = ordering_bytes(copied)
    page = copied / "runs" / "small" / "report" / "index.html"
    drawn = page.stat().st_mtime_ns
    result = run(small_study(copied))
    lines = (result.run_dir / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    last = [i for i, event in enumerate(events) if event["event"] == "start"][-1]
    stages = [event for event in events[last:] if event["event"] == "stage"]
    assert stages
    assert all(stage["reused"] for stage in stages)
    assert ordering_bytes(copied) == before
    assert (result.report, page.stat().st_mtime_ns) == (page, drawn)
    assert result.record.cells


def test_a_change_draws_the_page_again(copied):
    page = copied / "runs" / "small" / "report" / "index.html"
    drawn = page.stat().st_mtime_ns
    result = run(small_study(copied, overlap__ngram=9))
    assert page.stat().st_mtime_ns > drawn
    assert result.record.config["overlap"]["ngram"] == 9


def test_actors_and_blocks_do_not_change_the_bytes(undisturbed, tmp_path, monkeypatch):
    """One actor and not two, shards in reverse, all in one block: the same ordering, to the last byte."""
    plain = shards_module.ray.data.from_items
    monkeypatch.setattr(
        shards_module.ray.data,
        "from_items",
        lambda items, override_num_blocks: plain(items[::-1], override_num_blocks=1),
    )
    run(small_study(tmp_path, compute__actors=1), until="select")
    assert ordering_bytes(tmp_path) == ordering_bytes(undisturbed)


@pytest.mark.parametrize("batch", [1, 7])
def test_batch_size_and_pool_order_move_scores_by_less_than_1e_6(undisturbed, tmp_path, batch):
    rows = builtin.pool_rows(160, 0)
    order = np.random.default_rng(batch).permutation(len(rows))
    pool = tmp_path / "pool.jsonl"
    pool.write_text("\n".join(json.dumps(rows[i]) for i in order))
    study = small_study(tmp_path, data__pool=str(pool), batch__examples=batch)
    if batch == 7:  # once is enough: the warm-up has batches of its own
        (warmup,) = (undisturbed / "artifacts").glob("warmup-*")
        study["less"]["warmup"]["checkpoints"] = str(warmup)
    run(study, until="select")
    expected, found = scores_by_id(undisturbed), scores_by_id(tmp_path)
    assert expected.keys() == found.keys()
    worst = max(np.abs(expected[name] - found[name]).max() for name in expected)
    assert worst < 1e-6
    # Where the orderings differ, it is between scores that close.
    ids = [
        pq.read_table(f / "runs/small/orderings/less-round_robin/ordering.parquet")[
            "id"
        ].to_pylist()
        for f in (undisturbed, tmp_path)
    ]
    for turn, (a, b) in enumerate(zip(*ids, strict=True)):
        assert abs(expected[a][turn % 4] - expected[b][turn % 4]) < 1e-6


def test_one_ray_train_worker_equals_training_in_the_trial(copied):
    study = small_study(copied, name="one-worker", finetune__workers=1)
    trained = run(study, until="evaluate").cells
    record = StudyRecord.load(copied / "runs" / "small" / "report" / "record.json")
    for mine, theirs in zip(trained, record.cells, strict=True):
        assert mine.metrics == theirs.metrics


def test_unusable_rows_are_quarantined_counted_and_never_selected(ray_cluster, tmp_path):
    rows = builtin.pool_rows(130, 0)
    lines = [json.dumps(row) for row in rows]
    lines[3] = '{"id": "broken"'
    lines[7] = json.dumps({"id": "no-answer", "messages": [{"role": "user", "content": "Hi"}]})
    long = {"role": "user", "content": "word " * 400}
    for line in range(40, 90):  # so many that one shard of 40 has no usable row at all
        answer = {"role": "assistant", "content": "late"}
        lines[line] = json.dumps({"id": f"cut-{line}", "messages": [long, answer]})
    lines[11] = json.dumps({**rows[11], "id": rows[0]["id"]})
    pool = tmp_path / "pool.jsonl"
    pool.write_text("\n".join(lines))
    methods = ["less", "embed"]
    study = small_study(
        tmp_path,
        data__pool=str(pool),
        budget=77,
        representation=methods,
        overlap__test="keep",  # among so few rows, the wording of some looks like repetition
        finetune__epochs=1,
        finetune__batch_size=32,
        evaluation__metrics=[],
    )
    result = run(study, until="report")
    found = {(row["reason"], row["id"]) for row in result.record.quarantined}
    assert found == {
        ("bad_json", ""),
        ("no_assistant_turn", "no-answer"),
        ("duplicate_id", rows[0]["id"]),
        *(("labels_all_masked", f"cut-{line}") for line in range(40, 90)),
    }
    for ordering in result.orderings:
        chosen = ordering.table()["id"].to_pylist()
        assert len(set(chosen)) == 77  # all of them, and only them
        assert not [name for name in chosen if name.startswith("cut")]


def test_a_budget_above_the_usable_pool_is_refused_before_any_model_runs(ray_cluster, tmp_path):
    with pytest.raises(InputError, match="budget: 161 exceeds the pool of 160 usable rows"):
        run(small_study(tmp_path, budget=161))
    assert not list((tmp_path / "artifacts").glob("warmup-*"))


def test_what_is_measured_anew_is_not_trained_anew(copied):
    """Another test set: the same adapters, and the numbers of a study that never had the first one."""
    other = {"data__test__rows": 5, "evaluation__max_new_tokens": 9}
    before = {cell.fingerprint for cell in run(small_study(copied)).cells}
    again = run(small_study(copied, **other), until="evaluate").cells
    assert not before & {cell.fingerprint for cell in again}
    folders = [Path(cell.artifact) for cell in again if cell.train_rows]
    assert len(folders) == 2
    # Training leaves its progress there.
    assert not [folder for folder in folders if (folder / "progress.json").exists()]
    assert all((folder / "adapter" / "adapter_config.json").exists() for folder in folders)
    for note in (copied / "artifacts").glob("trained-*.json"):
        note.unlink()
    for folder in (copied / "artifacts").glob("cell-*"):
        shutil.rmtree(folder)
    fresh = run(small_study(copied, **other), until="evaluate").cells
    assert all((Path(c.artifact) / "progress.json").exists() for c in fresh if c.train_rows)
    for mine, theirs in zip(again, fresh, strict=True):
        assert mine.metrics == theirs.metrics
        assert mine.optimizer_steps == theirs.optimizer_steps
        assert train_losses(mine) == train_losses(theirs)


def test_cells_that_fail_are_named_and_failed_in_mlflow(ray_cluster, tmp_path):
    from mlflow.tracking import MlflowClient

    study = small_study(
        tmp_path, representation="bm25", finetune__learning_rate=1e30, tracking__enabled=True
    )
    with pytest.raises(StudyFailedError, match=r"2 of 4 cells failed .*lower learning_rate"):
        run(study)
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tis-ray"]
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in found.items()} == {
        "small": "FAILED",
        "zero_shot": "FINISHED",
        "zero_shot (no template)": "FINISHED",
        "seed 0 random random 12": "FAILED",
        "seed 0 bm25 round_robin 12": "FAILED",
        "Zero-shot": "FINISHED",
        "Zero-shot, no template": "FINISHED",
        "@12 Random": "FAILED",
        "@12 BM25 + round robin": "FAILED",
    }
    for name in ("seed 0 bm25 round_robin 12", "@12 BM25 + round robin"):
        assert "lower learning_rate" in found[name].data.tags["tis.error"]
    assert found["Zero-shot"].data.metrics["test_loss"] > 0
    assert "test_loss" not in found["@12 Random"].data.metrics


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "postgresql+nothing://h/db"])
def test_a_store_that_cannot_be_used_ends_a_study_before_anything_is_made(
    tmp_path, monkeypatch, uri
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    study = small_study(tmp_path, tracking__enabled=True)
    with pytest.raises(InputError, match=f"tracking.uri {re.escape(uri)}: MLflow cannot use it"):
        run(study)
    assert not (tmp_path / "artifacts").exists()


# ---- several studies -------------------------------------------------------------------------


def with_tasks(folder, **changes):
    """Return a file of two tasks that select by BM25 and train one small subset."""
    study = small_study(
        folder,
        representation="bm25",
        budget=4,
        finetune__epochs=1,
        evaluation__metrics=[],
        **changes,
    )
    sides = {side: study["data"].pop(side) for side in ("query", "test")}
    other = {side: {**source, "skill": "plural"} for side, source in sides.items()}
    return {**study, "tasks": {"first": sides, "second": other}}


def events_of(folder, name):
    path = folder / "runs" / name / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def names_of(folder):
    return {path.name for path in (folder / "artifacts").iterdir()}


def test_all_studies_are_checked_before_the_first_begins(tmp_path):
    study = with_tasks(tmp_path)
    study["tasks"]["second"]["test"] = str(tmp_path / "empty.jsonl")
    with pytest.raises(InputError, match=r"tasks\.second\.test: .*empty\.jsonl: no such file"):
        run(study)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match=r"empty\.jsonl"):
        run(study)
    assert {name.partition("-")[0] for name in names_of(tmp_path)} == {"rows"}
    for name in ("small-first", "small-second"):
        kinds = [event["event"] for event in events_of(tmp_path, name)]
        assert kinds == ["start", "failed"]
    study = small_study(tmp_path, grid={"model.name": ["builtin", str(tmp_path / "no-model")]})
    with pytest.raises(InputError, match="no-model"):
        run(study)


def test_one_task_is_that_study_of_the_file(ray_cluster, tmp_path):
    study = with_tasks(tmp_path)
    whole = run(study, until="select")
    assert list(whole.parts) == ["small-first", "small-second"]
    made = names_of(tmp_path)
    for task in ("first", "second"):
        alone = run({**study, "task": task}, until="select")
        assert alone.run_dir == whole.parts[f"small-{task}"].run_dir
        assert [o.file for o in alone.orderings] == [
            o.file for o in whole.parts[f"small-{task}"].orderings
        ]
        again = run(load_config(alone.run_dir / "config.yaml"), until="select")
        assert again.run_dir == alone.run_dir
    assert names_of(tmp_path) == made
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"small-first", "small-second"}


def test_a_study_that_fails_does_not_stop_the_others(ray_cluster, tmp_path):
    include = {"constraints.include": [["nobody"], []]}
    study = with_tasks(tmp_path, grid=include) | {"task": "second"}
    with pytest.raises(PartsFailedError) as error:
        run(study)
    (name,), (done,) = error.value.failed, error.value.result.parts
    assert str(error.value).startswith(
        f"{name}: constraints.include: 'nobody' is not the id of a pool row"
    )
    assert "\n" not in str(error.value)
    assert events_of(tmp_path, name)[-1]["event"] == "failed"
    assert events_of(tmp_path, done)[-1]["event"] == "done"
    assert error.value.result.run_dir.name == "small-second"
    page = error.value.result.report.read_text()
    assert done in page
    assert name not in page


def steps_that_raise(monkeypatch, error):
    """Let the first study that runs end with an error; return the names of those that began."""
    begun = []

    def steps(checked, until):
        begun.append(checked.part.config.name)
        if len(begun) == 1:
            raise error
        return StudyResult(checked.part.config.run_dir)

    monkeypatch.setattr("tis_ray.study.steps._steps", steps)
    return begun


def test_ctrl_c_stops_all_studies(tmp_path, monkeypatch):
    begun = steps_that_raise(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(with_tasks(tmp_path))
    assert begun == ["small-first"]
    assert events_of(tmp_path, "small-first")[-1]["event"] == "stopped"


def test_the_traceback_of_a_failure_that_nobody_foresaw_is_kept(tmp_path, monkeypatch):
    begun = steps_that_raise(monkeypatch, ZeroDivisionError("no rows\nat all"))
    with pytest.raises(PartsFailedError) as error:
        run(with_tasks(tmp_path), until="select")
    assert begun == ["small-first", "small-second"]
    path = tmp_path / "runs" / "small-first" / "run.log"
    line = str(error.value)
    assert line.startswith(f"small-first: ZeroDivisionError: at all ({__file__}, line ")
    assert line.endswith(f"; traceback in {path}; mend that, then the same command continues")
    assert "\n" not in line
    assert "Traceback" in path.read_text()
