"""Drawing the pages of finished studies again, from what they left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tis_ray.config import Config, plan, together
from tis_ray.errors import InputError
from tis_ray.report import StudyRecord, build_report
from tis_ray.report.analyze import analyze
from tis_ray.report.study_results import RECORD, is_study


def redrawn(config: Config) -> Iterator[Path]:
    """Yield the page of each finished study of a file, then the page over all of them.

    Raises InputError where none is finished.
    """
    folders = [study.run_dir for study in plan(config).values()]
    finished = [folder for folder in folders if is_study(folder)]
    if not finished:
        raise InputError(
            f"{folders[0] / 'report'}: no record.json to draw; run `tis-ray run` first"
        )
    for folder in finished:
        yield build_report(StudyRecord.load(folder / RECORD), folder / "report")
    if (page := together(config)) is not None:
        yield analyze(finished, page / "report")
