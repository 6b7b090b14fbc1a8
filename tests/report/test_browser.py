"""The page in a real browser: nothing runs over, nothing asks a network, and all of it prints."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.errors import UsageError
from pytest_gpusim.points.page import write_points_page
from pytest_gpusim.published.page import write_published_page
from pytest_gpusim.report.html import write_session_report
from tests.llmservingsim.folder import compare, lone_requests, write_folder
from tests.points.test_page import ROWS, document
from tests.published.test_published import ERRORS
from tests.report.test_report import Written, written

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
# Look at the page in frames of given widths, and say in the title what was found.
PROBE = """<!doctype html><title>waiting</title>
<iframe src="PAGE#c1" width="360" height="900"></iframe>
<iframe src="PAGE" width="1280" height="900"></iframe>
<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map((frame) => {
    const page = frame.contentDocument, root = page.documentElement;
    const small = [...page.querySelectorAll("p, td, th, figcaption")].filter(
      (one) => parseFloat(frame.contentWindow.getComputedStyle(one).fontSize) < 12);
    return {
      over: root.scrollWidth - root.clientWidth,
      small: small.length,
      open: page.getElementById("c1")?.open,
      charts: [...page.querySelectorAll("svg[role=img]")].length,
      asked: frame.contentWindow.performance.getEntriesByType("resource").map((one) => one.name),
      unnamed: [...page.querySelectorAll("[role=img]")].filter((o) => !o.ariaLabel).length,
      headless: [...page.querySelectorAll("table")].filter((t) => !t.caption || !t.tHead).length,
    };
  });
  document.title = JSON.stringify(found);
});
</script>"""


def browse(profile: Path, *arguments: str) -> str:
    command = [
        str(BROWSER),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--allow-file-access-from-files", f"--user-data-dir={profile}", *arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    made: list[Written] = [written(root / "a"), written(root / "b", ttft=200)]
    write_session_report([one.path for one in made], root / "session.html")
    table = root / "points.csv"
    table.write_text("model\n")
    write_points_page(document(*ROWS), table, root / "points.html")
    folder = write_folder(root / "folder", lone_requests(), errors=ERRORS)
    run = compare(folder, root)
    write_published_page({"runs": [run]}, root / "published.html", [UsageError("x" * 200)])
    return root


def looked_at(root: Path, name: str) -> list[dict[str, Any]]:
    """What the probe finds of a page, 360 and 1280 pixels wide."""
    (root / f"probe-{name}").write_text(PROBE.replace("PAGE", name))
    place = f"file://{root}/probe-{name}"
    dumped = browse(root / "p1", "--virtual-time-budget=20000", "--dump-dom", place)
    title = re.search(r"<title>(.*?)</title>", dumped)
    assert title is not None
    found: list[dict[str, Any]] = json.loads(html.unescape(title[1]))
    return found


@pytest.mark.parametrize(("name", "charts"), [("points.html", 8), ("published.html", 15)])
def test_the_other_pages_fit_too(page: Path, name: str, charts: int) -> None:
    for found in looked_at(page, name):
        assert (found["over"], found["small"], found["unnamed"], found["headless"]) == (0, 0, 0, 0)
        assert found["asked"] == []
        assert found["charts"] == charts


def test_the_page_fits_narrow_and_wide(page: Path) -> None:
    narrow, wide = looked_at(page, "session.html")
    for found in (narrow, wide):
        assert (found["over"], found["small"], found["unnamed"], found["headless"]) == (0, 0, 0, 0)
        assert found["asked"] == []
        assert found["charts"] > 20
    assert narrow["open"]  # a link to a comparison unfolds it
    assert not wide["open"]


def test_all_of_it_prints(page: Path) -> None:
    out = page / "printed.pdf"
    browse(
        page / "p2",
        f"--print-to-pdf={out}",
        "--no-pdf-header-footer",
        f"file://{page}/session.html",
    )
    pages = len(re.findall(rb"/Type\s*/Page\b", out.read_bytes()))
    assert pages >= 4  # what is folded on the screen is there
