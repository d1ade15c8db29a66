"""The page in a real browser, where one is installed: it draws, fits a phone, and asks for nothing.

To look at it: `TIS_RAY_SCREENSHOTS=folder pytest tests/report/test_browser.py` keeps the pictures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from tests.report.test_preview import EVIL, preview_of
from tis_ray.report import build_report
from tis_ray.report.preview_page import write_preview

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine"),
]
# A page that is wider than the window says so in its title, which the dumped document shows.
PROBE = """<script>
addEventListener("load", () => { document.title =
  `width ${document.documentElement.scrollWidth} of ${innerWidth}`; });
</script>"""


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr"]
    # Every host resolves to nothing: a page that needs the network would show it.
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_the_page_is_drawn(record, tmp_path, width, height):
    page = build_report(record, tmp_path)
    folder = Path(os.environ.get("TIS_RAY_SCREENSHOTS", tmp_path)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"report-{width}.png"
    done = browse(page, f"--window-size={width},{height}", f"--screenshot={picture}")
    assert "CONSOLE" not in done.stderr  # no script error, nothing refused or not found
    pixels = image.imread(picture)[..., :3]
    assert pixels.shape[:2] == (height, width)
    assert len(np.unique((pixels.reshape(-1, 3) * 255).astype(int), axis=0)) > 50


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_a_preview_is_drawn_and_runs_nothing_of_its_rows(tmp_path, width, height):
    page = write_preview([preview_of(EVIL)], tmp_path / "preview.html")
    folder = Path(os.environ.get("TIS_RAY_SCREENSHOTS", tmp_path)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"preview-{width}.png"
    done = browse(page, f"--window-size={width},{height}", f"--screenshot={picture}")
    assert "CONSOLE" not in done.stderr
    assert image.imread(picture).shape[:2] == (height, width)
    assert "<img" not in browse(page, "--dump-dom").stdout


@pytest.mark.parametrize("kind", ["report", "preview"])
def test_nothing_is_wider_than_a_phone(record, tmp_path, kind):
    if kind == "report":
        page = build_report(record, tmp_path)
    else:
        page = write_preview([preview_of(EVIL * 20)], tmp_path / "preview.html")
    # The page's own policy would refuse the probe.
    html = page.read_text().replace("Content-Security-Policy", "X-Was-Policy")
    page.write_text(html.replace("</head>", f"{PROBE}</head>"))
    found = browse(page, "--window-size=500,900", "--dump-dom").stdout
    title = found.partition("<title>")[2].partition("</title>")[0]
    words = title.split()
    assert words[0] == "width"
    assert int(words[1]) <= int(words[3])
