"""The picture of the README: the result of the quickstart, as its page draws it.

make demo && python -m website.picture runs/quickstart docs/images/quickstart.svg
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tis_ray as tis

FIGURE = "budget_test_loss"


def picture(run: Path) -> str:
    """Return the figure of a finished study as an SVG on white paper, which a dark page shows as well."""
    svg = tis.Study(run).figures[FIGURE].svg
    paper = r'<svg width="480" \1><rect width="100%" height="100%" fill="#fff"/>'
    return re.sub(r"<svg ([^>]*)>", paper, svg, count=1)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(picture(Path(sys.argv[1])))
