"""From a finished study to figures and one self-contained HTML page."""

from tis_ray.report.record import StudyRecord
from tis_ray.report.study_page import build_report

__all__ = ["StudyRecord", "build_report"]
