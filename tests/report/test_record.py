"""The record survives a round trip through JSON, and says what is wrong with a bad file."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.analysis import Cell, Legend, Method, StageCost
from tis_ray.analysis.study_values import POOL, QUERIES, Part
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.lengths_section import length_facts
from tis_ray.report.record import StudyRecord
from tis_ray.report.recorded_texts import LEAST, shared_out

LESS = Method("less", "uot")


def test_json_round_trip_keeps_everything():
    record = StudyRecord(
        name="s",
        config={"budget": [100]},
        cells=[Cell(LESS, 100, 0, {"test_loss": 0.5}, subset={"rows": 100}, train_rows=100)],
        quantiles=[Cell(LESS, 50, 1, {"f1": None}, (1, 3))],
        legend=Legend(
            {"less": "LESS"}, {}, {"mine": MetricDescription("mine", "my own", True, False)}
        ),
        texts={
            "rows": [
                {"index": 3, "id": "r", "source": "", "file": None, "line": None, "text": "ü\u2028"}
            ],
            "queries": [{"query": 0, "id": "q", "text": "t"}],
        },
        answers=[
            {
                "name": "test rows",
                "metric": "exact_match",
                "left_out": 0,
                "rows": [{"id": "t", "prompt": "p", "label": "l"}],
                "methods": [
                    {**LESS.to_json(), "budget": 9, "models": 2, "values": [0.5]}
                    | {"answers": [[["l", 1], ["x", 1]]]}
                ],
            }
        ],
        map={"representation": "less", "pool_xy": [[0.0, 1.0]], "selected": {LESS: [0]}},
        composition={POOL: {"a": 3}, Part(method=LESS, budget=100): {"a": 1}},
        lengths={QUERIES: length_facts(np.array([3, 5]), np.array([1, 2]))},
        agreement={"names": [LESS, Method("random", "random")], "pairs": []},
        stages=[StageCost("less uot", "ordering", "o-1", 1.5, True, 9, 0, needed_by=(LESS,))],
    )
    assert StudyRecord.from_json(record.to_json()) == record


@tries(60)
@given(st.lists(st.integers(0, 3000), max_size=30), st.integers(0, 20_000))
def test_texts_share_the_room_there_is(lengths, most):
    texts = ["x" * length for length in lengths]
    shown = shared_out(texts, most)
    kept = [len(text.partition("…")[0]) for text in shown]
    assert sum(kept) <= max(most, LEAST * len(texts))
    cut = [k for k, length in zip(kept, lengths, strict=True) if k < length]
    if sum(lengths) <= most:
        assert shown == texts
    elif cut:
        assert len(set(cut)) == 1  # to one length
        assert all(k == length for k, length in zip(kept, lengths, strict=True) if length <= cut[0])
    for text, length in zip(shown, lengths, strict=True):
        if "…" in text:
            assert text.endswith(f"… [{length - text.index('…'):,} more characters]")


def test_numpy_becomes_plain_and_nan_becomes_null():
    record = StudyRecord(
        name="s",
        cells=[Cell(LESS, seed=np.int64(1), metrics={"test_loss": np.float32("nan")})],
        map={"pool_xy": np.zeros((2, 2)), "selected": {LESS: np.array([1])}},
    )
    content = json.loads(record.to_json())
    names = {"representation": "less", "selector": "uot"}
    assert content["cells"] == [{**names, "budget": 0, "seed": 1, "test_loss": None}]
    selected = [{**names, "places": [1]}]
    assert content["map"] == {"pool_xy": [[0.0, 0.0], [0.0, 0.0]], "selected": selected}


def test_save_and_load(tmp_path):
    record = StudyRecord(name="ünïcode ✓")
    record.save(tmp_path / "record.json")
    assert StudyRecord.load(tmp_path / "record.json") == record


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "no `name`"),
        ('{"name": "s", "schema_version": 99}', "schema_version is 99"),
        ('{"name": "s", "schema_version": 3}', "`tis-ray run` again"),
        ('{"name": "s", "schema_version": 4, "extra": 1}', "unknown field `extra`"),
    ],
)
def test_a_bad_record_is_named_in_one_line(tmp_path, text, message):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        StudyRecord.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_record_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        StudyRecord.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("test_loss", "0.7", r"`cells.1.test_loss`: should be a valid number; found '0.7'"),
        ("test_loss", True, r"`cells.1.test_loss`: should be a valid number"),
        ("budget", 50.5, r"`cells.1.budget`: should be a valid integer"),
        ("budget", 0, r"`cells.1`: a trained cell needs a `budget` of 1 or more"),
        ("seed", "x", r"`cells.1.seed`: should be a valid integer"),
        ("draw", "1", r"`cells.1.draw`: should be a valid integer"),
        ("train_rows", "9", r"`cells.1.train_rows`: should be a valid integer"),
        ("rows", {"test_loss": [0.5, None]}, r"`cells.1.rows.test_loss"),
        ("representation", None, r"`cells.1.representation`"),
    ],
)
def test_a_cell_edited_into_no_number_is_refused_and_not_left_out(make, field, value, said):
    """Read as it is, a text is a missing value and `true` a loss of 1: another verdict without a word."""
    content = json.loads(make().to_json())
    content["cells"][1][field] = value
    with pytest.raises(InputError, match=f"^r.json: {said}"):
        StudyRecord.from_json(json.dumps(content), "r.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cells", None),
        ("cells", ["x"]),
        ("legend", None),
        ("legend", {"margins": {"test_loss": "a"}}),
        ("legend", {"metrics": {"x": {"a": 1}}}),
        ("stages", [{"stage": "x"}]),
        ("config", None),
        ("created", None),
        ("budget_unit", "bananas"),
    ],
)
def test_other_parts_of_a_verdict_are_checked_too(make, field, value):
    content = json.loads(make().to_json()) | {field: value}
    with pytest.raises(InputError, match=f"^r.json: `{field}"):
        StudyRecord.from_json(json.dumps(content), "r.json")
    with pytest.raises(InputError, match="nested too deeply"):
        StudyRecord.from_json("[" * 100_000)
