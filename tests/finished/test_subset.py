"""The selected rows in the user's hand: as they came, in every form, for any budget; without Ray."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.data.forms.dialogues import ROWS
from tests.small import small_study
from tis_ray.cli import app
from tis_ray.cli.rows import FormName
from tis_ray.config import Config, config_yaml, parse_config
from tis_ray.errors import InputError
from tis_ray.finished.make_subset import NAMES, choose, make_subset, orderings, subset_of
from tis_ray.finished.subset import NOTE
from tis_ray.selectors.constraints import Filled
from tis_ray.stages.cells import plan_cells
from tis_ray.stages.ordering_artifact import StudyOrdering, ordering_table
from tis_ray.stages.tokens import Tokenise, read_side
from tis_ray.store import Artifact, write_text
from tis_ray.store.sides import Side, SideName

POOL = [
    {
        "messages": [{"role": "user", "content": f"ask {n}"}, {"role": "assistant", "content": "yes " * n}],
        "licence": "mit" if n % 3 else None,
        "score": n / 2,
    }
    for n in range(1, 9)
]  # fmt: skip
QUERIES = [
    {"id": name, "messages": [{"role": "user", "content": name}, {"role": "assistant", "content": "no"}]}
    for name in ("q-a", "q-b")
]  # fmt: skip
BEST = [6, 2, 0, 7, 4]
"""Rows of the pool, from 0, best first."""


def lines(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(path)


def selected(folder: Path, pool: str, **changes: Any) -> Config:
    """Return a study of which rows are read, encoded and ranked, as a run leaves them."""
    query = lines(folder / "q.jsonl", QUERIES)
    study = small_study(folder, data__pool={"path": pool}, data__query={"path": query}, **changes)
    del study["data"]["test"]
    config = parse_config(study | {"budget": [2, 5]})
    sides = {name: _side(config, name) for name in ("pool", "query")}  # type: ignore[arg-type]
    for selector, seed in (("round_robin", None), ("length_matched", 0), ("length_matched", 1)):
        made = Artifact(config.artifact_root, f"ordering-less-{selector}", {"seed": seed})
        ordering = StudyOrdering("less", selector, made, seed)
        pulled = [place % 2 for place in range(5)] if seed is None else [-1] * 5
        names = [["q-a", "q-b"][query] if query >= 0 else None for query in pulled]
        scores = [1 - place / 10 if seed is None else None for place in range(5)]
        rows = sides["pool"].usable
        best = np.array(BEST if rows > 7 else range(rows))
        kept = len(best[:5])
        table = ordering_table(
            sides["pool"], best[:5], scores[:kept], np.array(pulled[:kept]), names[:kept], selector
        )
        filled = [Filled(2, 2, 2, 0, 0), Filled(5, kept, 5, 0, 0)]
        ordering.commit(table, filled, sides["pool"], sides["query"], seconds=0.1)
        link = config.run_dir / "orderings" / ordering.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(made.path, link.parent))
    write_text(config.run_dir / "config.yaml", config_yaml(config))
    return config


def _side(config: Config, name: SideName) -> Side:
    rows = read_side(config, name)
    shards = int(rows.manifest().details["shards"])
    tokens = Artifact(config.artifact_root, "tokens", {"rows": rows.fingerprint})
    data = config.data
    encode = Tokenise(rows.path, tokens.path, name, config.model, data.template, data.max_length)
    for shard in range(shards):
        encode(shard)
    tokens.commit(rows=rows.manifest().rows)
    return Side(name, rows, tokens, shards)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return selected(tmp_path, lines(tmp_path / "pool.jsonl", POOL))


def test_each_row_comes_as_it_is_with_why_it_was_chosen(config: Config, tmp_path: Path) -> None:
    choice = choose(config.run_dir, config, "less+round_robin", 5)
    made = make_subset(choice, config, tmp_path / "out", "original")
    assert made.files == [tmp_path / "out" / "less-round_robin-5.jsonl"]
    rows = [json.loads(line) for line in made.files[0].read_text().splitlines()]
    notes = [row.pop("tis_ray") for row in rows]
    assert rows == [POOL[row] for row in BEST]
    assert [note["rank"] for note in notes] == [1, 2, 3, 4, 5]
    assert [note["index"] for note in notes] == BEST
    assert [(note["file"], note["line"]) for note in notes] == [("pool.jsonl", n + 1) for n in BEST]
    assert notes[1]["score"] == 0.9
    assert notes[1]["query"] == {
        "id": "q-b",
        "text": "user: q-b\nassistant: no",
        "file": "q.jsonl",
        "line": 2,
    }
    assert notes[1]["why"] == "rank 2: pulled by query q-b (q.jsonl, line 2) with score 0.9"


def test_a_row_that_no_query_pulled_says_so(config: Config) -> None:
    choice = choose(config.run_dir, config, "less+length_matched", 2, seed=1)
    assert choice.name == "less-length_matched-seed-1-2"
    assert [(note["query"], note["score"]) for note in choice.notes()] == [(None, None)] * 2
    assert "pulled by no query" in choice.notes()[0]["why"]


@pytest.mark.parametrize("budget", [1, 2, 3, 5])
def test_any_budget_up_to_the_studys_largest_is_a_beginning(config: Config, budget: int) -> None:
    table = choose(config.run_dir, config, "less-round_robin", budget).table
    assert table["index"].to_pylist() == BEST[:budget]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("less+round_robin", 6), "budget: found 6, but less-round_robin ranks rows for at most 5"),
        (("less+round_robin", None), "--budget is missing; give one of 2, 5, or a smaller one"),
        (("bm25", 2), "--method: found bm25; give one of less-length_matched-seed-0, "),
        ((None, 2), "--method: found none; give one of"),
        (("less", 2), "--method: found less; give one of"),
        (
            ("less+length_matched", 2),
            "--method: found less\\+length_matched; give --seed too, or one of",
        ),
        (("less+length_matched", 2, 7), "found less\\+length_matched with seed 7; give one of"),
    ],
)
def test_what_the_study_has_not_is_said_with_what_it_has(
    config: Config, asked: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        choose(config.run_dir, config, *asked)


def test_a_budget_in_tokens_takes_the_rows_that_fit(tmp_path: Path) -> None:
    config = selected(tmp_path, lines(tmp_path / "pool.jsonl", POOL), budget_unit="tokens")
    ordered = orderings(config.run_dir, config)["less-round_robin"]
    tokens = pq.read_table(
        next(ordered.rows_of("pool").parent.glob("tokens-*/tokens-00000.parquet"))
    )
    lengths = dict(
        zip(tokens["row"].to_pylist(), map(len, tokens["input_ids"].to_pylist()), strict=True)
    )
    two = lengths[BEST[0]] + lengths[BEST[1]]
    ordered.budgets[1000] = 5  # the study's largest
    for budget, rows in ((two - 1, 1), (two, 2), (two + 1, 2), (999, 5)):
        choice = ordered.choice(budget)
        assert choice.table.num_rows == rows
    assert choice.name == "less-round_robin-999-tokens"
    with pytest.raises(InputError, match="1 row at least"):
        ordered.choice(1)


def test_a_pool_that_has_changed_gives_no_rows(config: Config, tmp_path: Path) -> None:
    lines(tmp_path / "pool.jsonl", POOL[1:])
    with pytest.raises(InputError, match="has changed since its rows were read"):
        make_subset(
            choose(config.run_dir, config, "less+round_robin", 2),
            config,
            tmp_path / "out",
            "original",
        )
    assert not (tmp_path / "out").exists()


def test_a_column_of_that_name_is_never_written_over(tmp_path: Path) -> None:
    pool = [{**row, "tis_ray": {"rank": n}} for n, row in enumerate(POOL)]
    config = selected(tmp_path, lines(tmp_path / "pool.jsonl", pool))
    subset = subset_of(choose(config.run_dir, config, "less+round_robin", 2), config)
    assert subset.column == "tis_ray_2"
    assert subset.table()["tis_ray"].to_pylist() == [{"rank": row} for row in BEST[:2]]


def test_a_table_keeps_its_types_and_gains_one_column(tmp_path: Path) -> None:
    schema = pa.schema([("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))), ("licence", pa.large_string()), ("score", pa.float16())])  # fmt: skip
    pool = pa.Table.from_pylist(
        [{**row, "score": np.float16(row["score"])} for row in POOL], schema
    )
    pq.write_table(pool, tmp_path / "pool.parquet")
    config = selected(tmp_path, str(tmp_path / "pool.parquet"))
    choice = choose(config.run_dir, config, "less+round_robin", 5)
    (file,) = make_subset(choice, config, tmp_path / "out", "original").files
    table = pq.read_table(file)
    assert file.name == "less-round_robin-5.parquet"
    assert table.schema.equals(schema.append(pa.field("tis_ray", NOTE)))
    assert table.drop_columns("tis_ray").equals(pool.take(BEST))
    (other,) = make_subset(choice, config, tmp_path / "rows.jsonl", "original").files
    first = json.loads(other.read_text().splitlines()[0])
    assert first["messages"] == POOL[BEST[0]]["messages"]


def test_csv_stays_csv_with_the_reason_as_text(tmp_path: Path) -> None:
    text = "question,answer\n" + "\n".join(f'"ask, {n}",{n}.50' for n in range(1, 9))
    (tmp_path / "pool.csv").write_text(text)
    config = selected(tmp_path, str(tmp_path / "pool.csv"))
    choice = choose(config.run_dir, config, "less+round_robin", 2)
    (file,) = make_subset(choice, config, tmp_path / "out", "original").files
    import csv

    with file.open(newline="") as opened:
        rows = [*csv.DictReader(opened)]
    assert [row["question"] for row in rows] == ["ask, 7", "ask, 3"]
    assert [row["answer"] for row in rows] == ["7.50", "3.50"]
    assert json.loads(rows[0]["tis_ray"])["rank"] == 1


def test_a_data_set_folder_is_loaded_and_its_card_says_what_it_is(
    config: Config, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    choice = choose(config.run_dir, config, "less+round_robin", 5)
    for overwrite in (False, True):
        make_subset(choice, config, tmp_path / "hub", "hf", overwrite)
    found = datasets.load_from_disk(str(tmp_path / "hub"))
    assert [row["score"] for row in found] == [POOL[row]["score"] for row in BEST]
    assert found[0]["tis_ray"]["query"]["id"] == "q-a"
    card = (tmp_path / "hub" / "README.md").read_text()
    for said in ("| method | less-round_robin |", "| budget | 5 examples", "| model | builtin |", choice.ordered.fingerprint, "| mit | 4 |", "| none | 1 |", "| pool | 5 |"):  # fmt: skip
        assert said in card
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else than a data set"):
        make_subset(choice, config, tmp_path / "other", "hf", overwrite=True)


@pytest.mark.parametrize("form", NAMES)
def test_nothing_that_is_there_is_lost(config: Config, tmp_path: Path, form: str) -> None:
    choice = choose(config.run_dir, config, "less+round_robin", 5)
    pool = tmp_path / "pool.jsonl"
    before = pool.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is read by the study"):
            make_subset(choice, config, pool, form, overwrite)
    (tmp_path / "mine.jsonl").write_text("mine")
    with pytest.raises(InputError, match="is there already; give another name, or overwrite it"):
        make_subset(choice, config, tmp_path / "mine.jsonl", form)
    with pytest.raises(InputError, match=r"mine.jsonl: is a file, so there can be no"):
        make_subset(choice, config, tmp_path / "mine.jsonl" / "x.jsonl", form)
    assert (pool.read_bytes(), (tmp_path / "mine.jsonl").read_text()) == (before, "mine")
    (tmp_path / "link.jsonl").symlink_to(config.artifact_root / "subsets-x.jsonl")
    with pytest.raises(InputError, match="is an artifact of a study"):
        make_subset(choice, config, tmp_path / "link.jsonl", form, overwrite=True)


def test_lists_are_json_text_in_csv(config: Config, tmp_path: Path) -> None:
    choice = choose(config.run_dir, config, "less+round_robin", 2)
    make_subset(choice, config, tmp_path / "best.csv", "original")
    with (tmp_path / "best.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [json.loads(row["messages"])[0]["content"] for row in found] == ["ask 7", "ask 3"]


def test_an_unknown_form_is_named_with_those_that_there_are(config: Config, tmp_path: Path) -> None:
    choice = choose(config.run_dir, config, "less+round_robin", 2)
    with pytest.raises(InputError, match=r"form: found 'trll', .*did you mean `trl`"):
        make_subset(choice, config, tmp_path / "x", "trll")
    with pytest.raises(InputError, match=r"budget: found 2.5, expected a whole number"):
        choice.ordered.choice(2.5)  # type: ignore[arg-type]


def test_a_trainers_file_has_its_stanza_beside_it(config: Config, tmp_path: Path) -> None:
    choice = choose(config.run_dir, config, "less+round_robin", 2)
    made = make_subset(choice, config, tmp_path / "out", "llamafactory")
    names = [
        "less-round_robin-2.jsonl",
        "dataset_info.json",
        "less-round_robin-2.jinja",
        "less-round_robin-2.llamafactory.yaml",
    ]
    assert [file.name for file in made.files] == names
    make_subset(choice, config, tmp_path / "out" / "other.jsonl", "llamafactory")
    assert [*json.loads((tmp_path / "out/dataset_info.json").read_text())] == [
        "less-round_robin-2",
        "other",
    ]
    for form in ("messages", "trl", "axolotl"):
        rows = [json.loads(line) for line in make_subset(choice, config, tmp_path / form, form).files[0].read_text().splitlines()]  # fmt: skip
        asked = [(row.get("messages") or row["prompt"])[0]["content"] for row in rows]
        assert asked == ["ask 7", "ask 3"]
    for form, said in (("trl", "chat_template_path"), ("axolotl", "chat_template_jinja")):
        made = make_subset(choice, config, tmp_path / f"told-{form}", form)
        template, stanza = made.files[1:]
        assert "{% generation %}" in template.read_text()
        assert f"{said}" in stanza.read_text()
        assert str(template) in stanza.read_text()


def test_a_row_that_the_form_cannot_say_stops_it_by_name(tmp_path: Path) -> None:
    rows = [*ROWS["part"], *POOL[:1]]
    config = selected(tmp_path, lines(tmp_path / "pool.jsonl", rows))
    choice = choose(config.run_dir, config, "less+round_robin", 5)
    message = r"--form trl: 1 of 2 rows have no such form; the first is rank 1 \(pool.jsonl, line 1\): a part"
    with pytest.raises(InputError, match=message):
        make_subset(choice, config, tmp_path / "out", "trl")
    assert not (tmp_path / "out").exists()
    make_subset(choice, config, tmp_path / "out", "axolotl")


def test_the_verb_takes_a_run_folder_or_a_config(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(config_yaml(config))
    asked = ["--method", "less+round_robin", "--budget", "3", "--form", "trl", "--to"]
    run = str(config.run_dir)
    for number, where in enumerate(([run], ["--config", str(file)], ["--config", run])):
        to = tmp_path / f"out{number}"
        said = CliRunner().invoke(app, ["subset", *where, *asked, str(to)])
        assert said.exit_code == 0, said.output
        assert "SFTTrainer" in said.output
        assert len((to / "less-round_robin-3.jsonl").read_text().splitlines()) == 3


def test_the_verb_offers_the_forms_that_there_are() -> None:
    assert [form.value for form in FormName] == [*NAMES]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "give either a run folder"),
        (["nowhere"], "not the folder of a study"),
        (["nowhere", "--to", "-"], "not to standard output"),
        (["nowhere", "--to", ""], "--to: is empty"),
    ],
)
def test_what_is_no_study_or_no_target_is_said(asked: list[str], message: str) -> None:
    said = CliRunner().invoke(app, ["subset", "--to", "out", *asked])
    assert isinstance(said.exception, InputError)
    assert message in str(said.exception)


def test_a_run_folder_is_read_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths start where the study was run, those of the command where the command is."""
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    lines(Path("pool.jsonl"), POOL)
    config = selected(Path(), "pool.jsonl", runs="runs", artifacts="artifacts")
    assert config.runs == "runs"
    monkeypatch.chdir(tmp_path / "elsewhere")
    asked = ["--method", "less+round_robin", "--budget", "3", "--to", "mine.jsonl"]
    said = CliRunner().invoke(app, ["subset", "../home/runs/small", *asked])
    assert said.exit_code == 0, said.output
    assert len((tmp_path / "elsewhere" / "mine.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("seed", [0, 3])
def test_random_is_what_the_cells_of_that_seed_train(tmp_path: Path, seed: int) -> None:
    pool = lines(tmp_path / "pool.jsonl", POOL)
    config = selected(tmp_path, pool, seed=[0, 3], constraints={"cap": {"pool": 5}})
    side = _side(config, "pool")
    cells = [cell for cell in plan_cells(config, side, []) if cell.representation == "random"]
    for cell in cells:
        if cell.seed == seed:
            choice = choose(config.run_dir, config, "random", cell.budget, seed)
            expected = cell.positions.tolist()
            assert choice.table["index"].to_pylist() == expected
            made = make_subset(choice, config, tmp_path / "out", "original")
            rows = [json.loads(line) for line in made.files[0].read_text().splitlines()]
            assert [row.pop("tis_ray")["index"] for row in rows] == expected
            assert rows == [POOL[row] for row in expected]
    assert len(cells) == 4
