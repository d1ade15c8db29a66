"""What MLflow holds after a real study: its methods with what page and terminal say of them, its winner, its bill."""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import fmean

import pytest

from tests.small import small_study
from tis_ray.analysis import Cell, Method, summarise
from tis_ray.analysis.winners import leading_metric, winners
from tis_ray.report import StudyRecord
from tis_ray.report.formatting import metrics_of
from tis_ray.report.gains_section import method_costs
from tis_ray.study.run import run
from tis_ray.study.tracked_numbers import NO_WINNER, method_numbers, method_tags, winner_numbers

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def folder(ray_cluster, tmp_path_factory):
    """A study with draws, all of whose models are recorded; run twice."""
    folder = tmp_path_factory.mktemp("tracked")
    study = small_study(
        folder,
        representation="bm25",
        budget=[6, 12],
        seed=[0, 1, 2],
        draws=2,
        finetune__epochs=1,
        tracking={"enabled": True, "models": True},
        price={"cpu_hour": 3600.0},
    )
    run(study)
    (folder / "runs" / "small" / "ended" / "report.json").unlink(missing_ok=True)
    run(study)
    return folder


@pytest.fixture(scope="module")
def client(folder):
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")


@pytest.fixture(scope="module")
def tracked(client):
    """The runs, by kind."""
    experiment = client.get_experiment_by_name("tis-ray")
    found = defaultdict(list)
    for each in client.search_runs([experiment.experiment_id], max_results=1000):
        assert each.info.status == "FINISHED"
        found[each.data.tags["tis.kind"]].append(each)
    return found


@pytest.fixture(scope="module")
def record(folder):
    return StudyRecord.load(folder / "runs" / "small" / "report" / "record.json")


def children(tracked, run):
    runs = [*tracked["method"], *tracked["cell"]]
    return [each for each in runs if each.data.tags["mlflow.parentRunId"] == run.info.run_id]


def near(value):
    """A record keeps six digits of each row's value; None is a number that is missing."""
    return None if value is None else pytest.approx(value, abs=1e-4)


def test_each_method_and_budget_is_a_run_with_its_seeds_and_draws_below(tracked):
    (study,) = tracked["study"]
    methods = {each.info.run_name: each for each in children(tracked, study)}
    # The newest comes first on MLflow's page.
    shown = sorted(methods, key=lambda name: -methods[name].info.start_time)
    random, bm25 = ["@6 Random", "@12 Random"], ["@6 BM25 + round robin", "@12 BM25 + round robin"]
    assert shown == ["Zero-shot", "Zero-shot, no template", *random, *bm25]
    assert [len(children(tracked, methods[name])) for name in shown] == [1, 1, 3, 3, 5, 5]
    draws = [each.data.params.get("draw") for each in children(tracked, methods[bm25[0]])]
    assert sorted(draw for draw in draws if draw) == ["0", "1"]
    assert len(tracked["cell"]) == 18
    for name in shown:  # MLflow opens a study by itself where what is below it has this tag
        assert methods[name].data.tags["mlflow.runType"] == "evaluation"


def test_a_methods_metrics_are_those_of_the_table(tracked, record):
    rows = {(row.method.representation, row.budget): row for row in record.table()}
    costs = method_costs(record)
    assert len(tracked["method"]) == len(rows)
    for each in tracked["method"]:
        params, metrics = each.data.params, each.data.metrics
        row = rows[params["representation"], int(params["budget"])]
        seeds = [c for c in children(tracked, each) if "draw" not in c.data.params]
        for name, summary in row.metrics.items():
            assert metrics[name] == pytest.approx(fmean(c.data.metrics[name] for c in seeds))
            assert metrics[name] == pytest.approx(summary.value.mean)
            if not row.method.is_zero_shot:
                assert metrics[f"mean/{name}"] == metrics[name]
            assert metrics.get(f"range/{name}.low") == near(summary.value.low)
            for section, versus in (
                ("vs_random", summary.vs_random),
                ("vs_random_redrawn", summary.method_vs_random),
                ("vs_zero_shot", summary.vs_zero_shot),
            ):
                found = metrics.get(f"{section}/{name}")
                assert found == near(versus.difference if versus else None)
                assert metrics.get(f"{section}/{name}.p_holm") == near(versus and versus.p_holm)
            if summary.vs_random:
                assert each.data.tags[f"verdict.{name}"] == summary.vs_random.verdict
        cost = costs.get(row.method)
        found = metrics.get("spent/seconds_beyond_random")
        assert found == near(cost.seconds if cost else None)
    assert any("spent/seconds_beyond_random" in each.data.metrics for each in tracked["method"])


def test_the_first_charts_have_the_better_zero_shot_alone(tracked, record):
    zero_shots = [row for row in record.table() if row.method.is_zero_shot]
    runs = {each.data.params["representation"]: each.data.metrics for each in tracked["method"]}
    for metric in metrics_of(zero_shots):
        means = {r.method.representation: r.metrics[metric.name].value.mean for r in zero_shots}
        assert len(means) == 2
        shown = {each for each in means if f"mean/{metric.name}" in runs[each]}
        best = (min if metric.lower_is_better else max)(means.values())
        assert len(shown) == 1
        assert means[shown.pop()] == best


def test_a_cells_name_begins_with_what_tells_it_from_the_others(tracked):
    names = {each.info.run_name for each in tracked["cell"]}
    assert {"zero_shot", "seed 0 random random 6", "draw 1 seed 1 bm25 round_robin 12"} <= names


def test_the_study_names_the_winner_of_page_and_terminal_and_the_bill(tracked, record):
    (study,) = tracked["study"]
    rows = record.table()
    metric = leading_metric(rows)
    won = winners(rows, metric)
    name = f"{won[0].label} @ {won[0].budget}" if won else "none"
    assert study.data.tags["tis.winner"] == name
    assert study.data.tags["tis.winner_metric"] == metric.name
    assert study.data.tags["mlflow.note.content"]
    bill = {k: v for k, v in study.data.metrics.items() if k.startswith("study_bill/")}
    stages = [v for k, v in bill.items() if k.endswith(" seconds") and "/all " not in k]
    assert bill["study_bill/all seconds"] > 0
    assert bill["study_bill/all seconds"] == pytest.approx(sum(stages))
    assert bill["study_bill/all gigabytes"] > 0
    assert not [
        name for name in bill if name.endswith("USD")
    ]  # no dry run said what the machine is


@pytest.mark.parametrize(
    ("losses", "winner", "wins"),
    [((0.1, 0.11, 0.12), "less + round robin @ 10", "yes"), ((0.5, 0.6, 0.7), NO_WINNER, "no")],
)
def test_the_winner_is_named_and_none_where_there_is_none(losses, winner, wins):
    methods = {Method("random", "random"): (0.6, 0.61, 0.59), Method("less", "round_robin"): losses}
    rows = summarise(
        Cell(method, 10, seed, {"test_loss": loss})
        for method, values in methods.items()
        for seed, loss in enumerate(values)
    )
    numbers, tags = winner_numbers(rows)
    assert tags["tis.winner"] == winner
    assert method_tags(rows[-1], rows)["tis.wins"] == wins
    assert "tis.wins" not in method_tags(rows[0], rows)
    if wins == "no":
        assert numbers == {}
        return
    assert numbers == {
        "study_winner/test_loss": pytest.approx(0.11),
        "study_winner/gain": pytest.approx(0.49),
        "study_winner/budget": 10,
    }
    found = method_numbers(rows[-1], rows, [], None)
    assert (found["vs_random/test_loss"], found["vs_random/test_loss.verdict"]) == (near(-0.49), 1)


def test_data_sets_stand_at_the_study_and_each_method(tracked):
    for each in (*tracked["study"], *tracked["method"]):
        inputs = each.inputs.dataset_inputs
        found = {i.tags[0].value: json.loads(i.dataset.profile)["num_rows"] for i in inputs}
        assert found == {"pool": 160, "query": 4, "test": 6}


def test_a_recorded_model_loads_in_mlflow_and_in_peft(client, tracked):
    import mlflow
    import mlflow.transformers
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tis_ray.models import builtin as shipped

    trained = [each for each in tracked["cell"] if int(each.data.params["budget"])]
    models = [each.outputs.model_outputs for each in trained]
    assert [len(each) for each in models] == [1] * 16
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        reference = f"models:/{models[0][0].model_id}"
        pipeline = mlflow.transformers.load_model(reference)
        folder = mlflow.artifacts.download_artifacts(reference)
    finally:
        mlflow.set_tracking_uri(None)
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(shipped.PATH), f"{folder}/peft"
    )
    tokens = pipeline.tokenizer("Reverse the word: stone", return_tensors="pt")
    ours = adapted(**tokens).logits
    assert ours.allclose(pipeline.model(**tokens).logits, atol=1e-5)
    with adapted.disable_adapter():
        assert not ours.allclose(adapted(**tokens).logits, atol=1e-5)
