"""Tables in files have the digits of the page, whatever is in their texts."""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from tests.report.conftest import HOSTILE
from tis_ray.errors import InputError
from tis_ray.report.figures import drawings
from tis_ray.report.files import write_files
from tis_ray.report.formatting import probability
from tis_ray.report.ranks_section import rank_lines
from tis_ray.report.sheets import Sheet, sheet
from tis_ray.report.study_page import write_study_files
from tis_ray.report.study_sheets import all_sheets, plain_sheets

TABLE = Sheet(
    "t",
    "A & B",
    "50% of x_1.",
    ("Name", "Rows", "Change, %"),
    [(HOSTILE, 1234, "−0.045"), ('a "b", c', 5, "+1.0")],
    frozenset({"Change, %"}),
)


def test_csv_is_read_back_with_plain_numbers():
    head, *rows = csv.reader(io.StringIO(TABLE.csv()))
    assert head == ["Name", "Rows", "Change, %"]
    assert rows == [[HOSTILE, "1234", "-0.045"], ['a "b", c', "5", "+1.0"]]


def test_the_page_has_separators_and_sets_numbers_to_the_right():
    first = TABLE.on_page()[0]
    assert first == [(HOSTILE, False), ("1,234", True), ("−0.045", True)]


def test_latex_escapes_what_would_be_read_as_commands():
    text = TABLE.latex()
    assert r"\caption{A \& B. 50\% of x\_1.}" in text
    assert r"\label{tab:t}" in text
    assert r"\begin{tabular}{lrr}" in text
    assert r"\$x\_1\$ \&" in text
    assert "1,234 & $-$0.045" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_latex_writes_signs_as_they_are_and_no_height_of_a_row():
    """Its usual font has other signs in the places of < > |, and a row's end may take a height in brackets."""
    rows = [("[/x]", "< 0.001"), ("[y]", "a | b > c")]
    text = Sheet("t", "p < 0.05", "", ("Name", "p"), rows).latex()
    assert r"\caption{p $<$ 0.05." in text
    assert "& $<$ 0.001" in text
    assert r"a \textbar{} b $>$ c" in text
    assert not re.search(r"\\\\\s*\[", text)


def test_the_tables_say_what_their_differences_are(make):
    """Nothing is paired by seed; a verdict stands beside the p that was corrected for many."""
    record = make()
    rows = record.table()
    (table,) = (t for t in all_sheets(record, rows, [], []) if t.name == "results_test_loss")
    assert "Mean [95% interval] over seeds. Differences: mean less that of random" in table.note
    for cell in record.cells:
        cell.rows["test_loss"] = [cell.metrics["test_loss"] + shift for shift in (-0.1, 0.0, 0.1)]
    rows = record.table()
    (table,) = (t for t in all_sheets(record, rows, [], []) if t.name == "results_test_loss")
    assert "over seeds and test rows" in table.note
    lines = list(csv.DictReader(io.StringIO(table.csv())))
    shown = [line["Corrected p against random"] for line in lines]
    versus = [row.metrics["test_loss"].vs_random for row in rows]
    assert shown == [probability(each.p_holm) if each else "" for each in versus]
    assert any(shown)
    for drawing in drawings(record, rows).values():
        assert "paired" not in drawing.caption


def test_a_table_for_paper_has_mean_and_interval_in_one_column(record):
    rows = record.table()
    (table,) = (t for t in all_sheets(record, rows, [], []) if t.name == "results_test_loss")
    (row,) = (r for r in rows if r.label == "LESS + round robin" and r.budget == 500)
    value = row.metrics["test_loss"].value
    cell = f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
    assert f"LESS + round robin & 500 & {cell} &" in table.latex()
    assert f"LESS + round robin,500,3,{value.mean:.3f},{value.low:.3f}," in table.csv()


def test_every_table_of_a_full_record_is_a_file_of_its_own(record, tmp_path):
    rows = record.table()
    tables = all_sheets(record, rows, record.pairs(), rank_lines({}, record.legend))
    names = [table.name for table in tables]
    assert len(set(names)) == len(names)
    assert set(plain_sheets(record, rows)) < set(names)
    assert {"cells", "values", "pairs_test_loss", "bill_exact_match", "distances_LESS"} <= set(
        names
    )
    assert write_files(tmp_path / "to", [], tables) == 2 * len(names)
    with (tmp_path / "to/tables/cells.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(record.cells)
    assert [float(line["test_loss"]) for line in lines] == pytest.approx(
        [cell.metrics["test_loss"] for cell in record.cells], rel=1e-6
    )


def test_a_file_where_a_folder_belongs_is_refused(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match=r"--to: .*x is a file"):
        write_files(tmp_path / "x" / "y", [], [TABLE])


def test_rows_by_key_keep_the_order_of_the_heads():
    found = sheet("n", "T", "", {"b": "B", "a": "A"}, [{"a": 1, "b": "x", "c": "left out"}], ("a",))
    assert (found.columns, found.rows) == (["B", "A"], [["x", 1]])


def test_every_table_of_a_study_is_written_whatever_it_has(make, tmp_path):
    """Methods that met, so that there are ranks; draws, so that there are two questions."""
    record = make(methods=[("less", "round_robin"), ("less", "uot"), ("embed", "round_robin")])
    drawn = [
        replace(cell, draw=draw, seed=0)
        for cell in record.cells
        if not cell.method.is_baseline and cell.seed == 0
        for draw in range(3)
    ]
    record = replace(record, cells=[*record.cells, *drawn])
    assert write_study_files(record, tmp_path) > 40
    tables = {path.stem for path in (tmp_path / "tables").glob("*.csv")}
    assert {"doubt", "values", "cells", "ranks_1", "pairs_test_loss", "results_test_loss"} <= tables
    assert {path.stem for path in (tmp_path / "tables").glob("*.tex")} == tables
    head = (tmp_path / "tables" / "results_test_loss.csv").read_text().splitlines()[0]
    assert "Minus random, method" in head
    (tmp_path / "tables" / "hostile.tex").write_text(TABLE.latex())
    assert_typeset(tmp_path / "tables")


def assert_typeset(folder):
    """LaTeX itself reads every table, with no package but booktabs."""
    if not (latex := shutil.which("pdflatex")):
        return
    names = sorted(path.stem for path in folder.glob("*.tex"))
    inputs = "".join(f"\\input{{{name}}}\\clearpage\n" for name in names)
    head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (folder / "all.tex").write_text(f"{head}{inputs}\\end{{document}}\n")
    done = subprocess.run(
        [latex, "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
