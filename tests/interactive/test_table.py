"""Tables in a notebook: what is shown, and what they become."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tis_ray.errors import InputError
from tis_ray.interactive.table import SHOWN, Table


def _table(**more: object) -> Table:
    arrow = pa.table({"id": ["a", "b"], "score": [0.123456, 2.0], "text": ["<b>&", "x\x1b[31m"]})
    return Table(arrow, "two <rows>", **more)


def test_a_table_is_text_and_html_and_nothing_in_it_acts() -> None:
    table = _table()
    assert repr(table).splitlines()[1].split() == ["id", "score", "text"]
    assert "0.1235" in repr(table)
    assert "\x1b" not in repr(table)
    html = table._repr_html_()
    assert "two &lt;rows&gt;" in html
    assert "&lt;b&gt;&amp;" in html
    assert "\x1b" not in html


def test_texts_are_shown_in_place_of_values_and_values_stay() -> None:
    table = _table(texts={"score": ["low", "high"]}, hidden=["text"])
    assert "low" in repr(table)
    assert "0.12" not in repr(table)
    assert "text" not in repr(table)
    assert table["score"] == [0.123456, 2.0]
    assert table.columns == ["id", "score", "text"]
    with pytest.raises(InputError, match="nothing"):
        table["nothing"]


def test_only_the_first_rows_are_shown_and_their_number_is_said() -> None:
    table = Table(pa.table({"n": list(range(1234))}), "many")
    assert len(table) == 1234
    assert repr(table).splitlines()[-1] == f"1,234 rows, the first {SHOWN} are shown"
    assert len(repr(table).splitlines()) == SHOWN + 3


def test_a_table_becomes_pandas_datasets_and_arrow() -> None:
    table = _table()
    assert table.to_pandas()["score"].tolist() == [0.123456, 2.0]
    assert table.to_dataset()[1]["id"] == "b"
    assert pa.table(table).equals(table.arrow)


def test_an_empty_table_is_shown() -> None:
    table = Table(pa.table({"id": pa.array([], pa.string())}), "none")
    assert repr(table) == "none\nid"
    assert "<th" in table._repr_html_()
