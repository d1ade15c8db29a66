"""Pages are drawn again from records alone, with their tables and figures as files."""

from pathlib import Path

import pytest

from tests.report.conftest import make_record
from tests.small import small_study
from tis_ray.config import parse_config
from tis_ray.errors import InputError
from tis_ray.finished.redraw import redrawn


def recorded(folder: Path, *names: str) -> None:
    for name in names:
        record = make_record(budgets=(100,), seeds=(0, 1))
        record.name = name
        record.save(folder / "runs" / name / "report" / "record.json")


def test_one_study_has_its_files_in_the_folder_itself(tmp_path: Path) -> None:
    recorded(tmp_path, "small")
    (page,) = redrawn(parse_config(small_study(tmp_path)), tmp_path / "to")
    assert page == tmp_path / "runs/small/report/index.html"
    assert {path.name for path in (tmp_path / "to").iterdir()} == {"tables", "figures"}
    assert (tmp_path / "to/figures/budget_test_loss.pdf").exists()


def test_of_several_studies_each_has_a_folder_and_what_is_over_all_another(tmp_path: Path) -> None:
    study = small_study(tmp_path, grid={"finetune.epochs": [1, 2]})
    names = ["small-finetune.epochs-1", "small-finetune.epochs-2"]
    recorded(tmp_path, *names)
    pages = list(redrawn(parse_config(study), tmp_path / "to"))
    assert len(pages) == 3
    assert {path.name for path in (tmp_path / "to").iterdir()} == {*names, "together"}
    assert (tmp_path / "to/together/tables/results_test_loss.csv").exists()


def test_without_a_folder_no_files_are_written(tmp_path: Path) -> None:
    recorded(tmp_path, "small")
    (page,) = redrawn(parse_config(small_study(tmp_path)))
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "record.json"}


def test_what_cannot_be_drawn_or_written_is_said_first(tmp_path: Path) -> None:
    config = parse_config(small_study(tmp_path))
    with pytest.raises(InputError, match=r"no record\.json to draw"):
        list(redrawn(config))
    recorded(tmp_path, "small")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give a folder"):
        list(redrawn(config, tmp_path / "file"))
    assert not (tmp_path / "runs/small/report/index.html").exists()
