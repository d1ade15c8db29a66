"""Drawing the pages of finished studies again, from what they left; their tables and figures as files."""

from __future__ import annotations

from collections.abc import Iterator

from tis_ray.config import Config, plan, together
from tis_ray.errors import InputError
from tis_ray.report import StudyRecord, build_report
from tis_ray.report.analyze import analyze
from tis_ray.report.files import require_folder
from tis_ray.report.study_page import write_study_files
from tis_ray.report.study_results import RECORD, is_study
from tis_ray.storage import Place


def redrawn(config: Config, to: Place | None = None) -> Iterator[Place]:
    """Yield the page of each finished study of a file, then the page over all of them.

    to: a folder for tables and figures as files; of several studies each has a folder in it, and what is
    over all of them stands in `together`. Raises InputError where none is finished.
    """
    folders = [study.run_dir for study in plan(config).values()]
    finished = [folder for folder in folders if is_study(folder)]
    if not finished:
        raise InputError(
            f"{folders[0] / 'report'}: no record.json to draw; run `tis-ray run` first"
        )
    require_folder(to)
    page = together(config)
    for folder in finished:
        record = StudyRecord.load(folder / RECORD)
        if to is not None:
            write_study_files(record, to if page is None else to / folder.name)
        yield build_report(record, folder / "report")
    if page is not None:
        yield analyze(finished, page / "report", to and to / "together")
