"""The files in `examples/extend`, as somebody outside the package would use them."""

from __future__ import annotations

import json
import re
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tis_ray as tis
from examples.extend.agreement import Agreement
from examples.extend.histogram import Histogram, HistogramSettings
from examples.extend.rouge import ROUGE_L
from examples.extend.votes import by_votes
from examples.extend.words import WORDS
from tests.small import small_study
from tis_ray.representations import Build
from tis_ray.selectors import find_selector
from tis_ray.selectors.protocol import Layout, answer_locally, drive
from tis_ray.settings import BatchConfig, ModelConfig

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "examples" / "extend").glob("*.py"))
PAGE = ROOT / "docs" / "extend.md"


def test_the_page_quotes_these_files_and_no_others() -> None:
    page = PAGE.read_text()
    quoted = re.findall(r"```python title=[^\n]*\n(\"\"\".*?)```", page, re.DOTALL)
    texts = {path.read_text() for path in FILES}
    assert quoted
    assert set(quoted) <= texts
    for path in FILES:
        assert f"(../examples/extend/{path.name})" in page


def test_votes_rank_before_means() -> None:
    scores_MN = np.array([[9, 1, 5, 0], [0, 7, 6, 1], [0, 1, 4, 8]], dtype=np.float32)
    # With two votes a query row 2 has three, row 3 one; row 0 one, row 1 one: their means decide.
    assert tis.select(scores_MN, by_votes, budget=4, top=2).indices.tolist() == [2, 0, 1, 3]
    assert tis.select(scores_MN, by_votes, budget=2, top=1).indices.tolist() == [0, 1]


@pytest.mark.parametrize("cuts", [[], [20], [1, 7, 8, 33]])
@pytest.mark.parametrize("dissenters", [0, 2, 99])
def test_agreement_does_not_depend_on_shards(cuts: list[int], dissenters: int) -> None:
    scores_MN = np.random.default_rng(0).integers(0, 6, (5, 40)).astype(np.float32)
    bounds = [0, *cuts, 40]
    shards = [Agreement(scores_MN[:, a:b], a) for a, b in pairwise(bounds)]
    layout = Layout(5, tuple(int(size) for size in np.diff(bounds)))
    rounds = find_selector(Agreement).rounds(layout, 12, {"dissenters": dissenters})
    ordering = drive(rounds, answer_locally(shards))
    worth_N = np.sort(scores_MN, axis=0)[min(dissenters, 4)]
    assert ordering.indices.tolist() == np.argsort(-worth_N, kind="stable")[:12].tolist()
    assert np.array_equal(ordering.scores, worth_N[ordering.indices])
    assert np.array_equal(scores_MN[ordering.queries, ordering.indices], ordering.scores)


def test_histograms_are_unit_vectors_of_the_width_that_was_set() -> None:
    settings = HistogramSettings(width=4)
    made = Histogram(Build(settings, ModelConfig(), BatchConfig(), "cpu"))
    rows = [{"input_ids": [0, 4, 1]}, {"input_ids": [7]}]
    expected = np.array([[[2, 1, 0, 0]], [[0, 0, 0, 3]]]) / 3
    np.testing.assert_allclose(made.features(rows, "pool").values_ECK ** 2, expected, rtol=1e-6)


def test_words_in_common() -> None:
    def row(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}]}

    scorer = WORDS.scorer(None, [row("A b"), row("c"), row("b c d")], [row("a B"), row("d")])
    expected = np.array([[1, 0, 1 / 4], [0, 0, 1 / 3]], dtype=np.float32)
    assert np.array_equal(scorer.scores(0, 3), expected)
    assert np.array_equal(scorer.scores(1, 3), expected[:, 1:])


def test_rouge_is_the_longest_common_subsequence() -> None:
    score = ROUGE_L.score
    assert score("police killed the gunman", ["police kill the gunman"]).value == 0.75
    assert score("the gunman kill police", ["police kill the gunman"]).value == 0.5
    assert score("a b", ["x", "a b c d"]).value == pytest.approx(2 / 3)
    assert score("", ["a"]).read is None


@pytest.mark.ray
@pytest.mark.slow
def test_they_run_in_a_study_by_where_they_are(ray_cluster: Any, tmp_path: Path) -> None:
    own = "examples.extend"
    study = small_study(
        tmp_path,
        representation=[f"{own}.histogram:Histogram", f"{own}.words:WORDS"],
        selector=[f"{own}.votes:by_votes", f"{own}.agreement:Agreement"],
        settings={
            "by_votes": {"top": 20},
            "agreement": {"dissenters": 1},
            "histogram": {"width": 256},
        },
        finetune__epochs=1,
        evaluation__metrics=[f"{own}.rouge:ROUGE_L"],
    )
    tis.run(study)
    report = tmp_path / "runs" / "small" / "report"
    cells = json.loads((report / "record.json").read_text())["cells"]
    methods = {(cell["representation"], cell["selector"]) for cell in cells}
    assert methods >= set(product(("histogram", "words"), ("by_votes", "agreement")))
    assert all(0 <= cell["rouge_l"] <= 1 for cell in cells if cell["selector"])
    assert "ROUGE-L" in (report / "index.html").read_text()
