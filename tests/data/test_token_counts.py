"""Counts of encoded rows: lengths before the cut, what was lost, what was left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.test_mask_cases import EOT, turns, with_template
from tests.data.tokenizers import KINDS
from tis_ray.data import EncodedRow, TokenCounts, UnusableError, encode_row
from tis_ray.data.token_counts import bins_between
from tis_ray.settings import TemplateConfig


@given(st.lists(st.integers(1, 5000), min_size=1))
def test_each_row_is_in_the_bin_of_its_length(lengths: list[int]) -> None:
    counts = TokenCounts()
    for length in lengths:
        counts.add(EncodedRow([0] * min(length, 100), [0] * min(length, 100), length))
    bins = bins_between(min(counts.lengths), max(counts.lengths))
    assert [counts.lengths.get(end, 0) for _, end in bins] == [
        sum(first <= length <= end for length in lengths) for first, end in bins
    ]
    assert sum(counts.lengths.values()) == counts.rows == len(lengths)
    assert counts.tokens == sum(lengths)
    assert counts.cut_rows == sum(length > 100 for length in lengths)
    assert counts.lost_tokens == sum(max(0, length - 100) for length in lengths)


def test_bins_follow_each_other() -> None:
    assert bins_between(16, 64) == [(1, 16), (17, 24), (25, 32), (33, 48), (49, 64)]
    assert bins_between(48, 48) == [(33, 48)]


def test_counts_of_shards_add_up_and_outlive_a_file() -> None:
    one, other = TokenCounts(), TokenCounts()
    one.add(EncodedRow([1], [1], 40, ["name", "name", "tools"]))
    other.add(EncodedRow([1, 2], [1, 2], 2, ["name"]))
    both = TokenCounts.from_json(json.loads(json.dumps((one + other).to_json())))
    assert both == one + other
    assert (both.rows, both.tokens, both.cut_rows, both.lost_tokens) == (2, 42, 1, 39)
    assert both.left_out == {"name": 2, "tools": 1}  # rows, not turns


LONG = turns(
    "s:be brief", "u:" + "question " * 20, "a:yes", "u:" + "more " * 30, "a:" + "no " * 200
)
THINKING: Any = [{**turn, "reasoning_content": "hm"} for turn in turns("u:a", "a:b", "u:after")]


@pytest.mark.parametrize("side", ["pool", "query"])
@pytest.mark.parametrize("template", ["tulu", "chat", "chatml"])
def test_a_row_says_how_long_it_is_however_it_is_cut(side: Any, template: Any) -> None:
    tokenizer = with_template("byte_level", EOT)
    row: Any = {"id": "x", "source": "x", "messages": LONG}
    whole = encode_row(row, side, tokenizer, 10**6, TemplateConfig(name=template))
    cut = encode_row(row, side, tokenizer, 260, TemplateConfig(name=template))
    assert whole.tokens == len(whole.input_ids) == cut.tokens > len(cut.input_ids)


def test_what_the_template_does_not_write_is_named() -> None:
    tokenizer = with_template("byte_level", EOT)
    row: Any = {"id": "x", "source": "x", "messages": THINKING, "tools": [{}]}
    for side in ("pool", "query"):
        left_out = encode_row(row, side, tokenizer, 512, TemplateConfig()).left_out
        assert {"reasoning_content", "tools"} <= {*left_out}
        assert ("turns after the answer" in left_out) == (side == "query")
        chat = encode_row(row, side, tokenizer, 512, TemplateConfig(name="chat")).left_out
        assert "tools" in chat
    row = {"id": "x", "source": "x", "messages": LONG}
    dropping = TemplateConfig(name="chat", system="drop")
    assert encode_row(row, "pool", tokenizer, 512, dropping).left_out == ["system"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_row_without_a_label_left_is_unusable(kind: str) -> None:
    tokenizer = with_template(kind, EOT)
    row: Any = {"id": "x", "source": "x", "messages": LONG[1:3]}
    with pytest.raises(UnusableError, match="no response token within 8 tokens"):
        encode_row(row, "pool", tokenizer, 8, TemplateConfig(name="chat"))
