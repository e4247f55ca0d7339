"""The report in a real browser: headless Chromium loads it, draws it, and has nothing to complain about."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from homing.reporting import report
from test_reporting import SENTENCE, evaluated, judged, made_up, trained

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path; Debian's package is called chromium"),
    pytest.mark.timeout(180),
]
FLAGS = """
--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr
"""
LIGHT, DARK = 1, 0
MEASURE = """
<script>
const box = e => e.getBoundingClientRect(), all = query => [...document.querySelectorAll(query)];
const style = getComputedStyle(document.body);
parent.document.documentElement.dataset.measured = JSON.stringify({
  width: innerWidth,
  page: document.documentElement.scrollWidth,
  wide: all("body *").filter(e => box(e).right > innerWidth + 1 && !e.closest(".scroll")).map(e => e.tagName + "." + e.className),
  charts: all("svg").map(e => [e.dataset.figure, box(e).width, box(e).height]),
  unpainted: all("svg path[style], svg use[style]").filter(e => {
    const drawn = getComputedStyle(e);
    return drawn.fill === "none" && drawn.stroke === "none" && e.closest("defs") === null;
  }).length,
  colours: [style.color, style.backgroundColor, getComputedStyle(document.querySelector("svg text")).fill],
});
</script>
"""
FRAME = (
    '<!doctype html><html style="color-scheme: light dark"><iframe width="{width}" height="900" style="border: 0" srcdoc="{page}"></iframe>'
)
"""A window of any width: one of its own cannot be narrower than 500 pixels."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all of its parts."""
    folder = tmp_path_factory.mktemp("browser")
    data = made_up()
    models = evaluated("sentence-transformers/all-MiniLM-L6-v2", data, seed=1), evaluated("调优模型", data, gap=0.35, middle=0.2, seed=2)
    details = {"recipe": "rank = 16", "input": "9f" * 64}
    return report(*models, out=folder / "report.html", training=trained(folder), details=details, verdict=judged(*models))


def browse(page: Path, profile: Path, *flags: str, scheme: int = LIGHT) -> str:
    """What Chromium writes to its output for this page; fails where the page's console is not silent."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        *FLAGS.split(),
        f"--user-data-dir={profile}",
        f"--blink-settings=preferredColorScheme={scheme}",
        *flags,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    complaints = [line for line in done.stderr.decode(errors="replace").splitlines() if ":CONSOLE" in line]
    assert complaints == []
    return done.stdout.decode()


def test_the_page_is_drawn_without_a_word_on_the_console(page: Path, tmp_path: Path) -> None:
    dom = browse(page, tmp_path / "profile", "--dump-dom")
    assert all(part in unescape(dom) for part in SENTENCE.split(": "))
    assert re.findall(r'<section id="(\w+)"', dom) == ["ranking", "deciding", "queries", "suspects", "training", "reading", "made"]
    assert dom.count("<svg") == 10
    assert dom.count("<main>") == dom.count("</main>") == 1


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_page_fits_its_window_and_its_charts_have_colours(page: Path, tmp_path: Path, width: int, scheme: int) -> None:
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    measured = tmp_path / "measured.html"
    framed = FRAME.format(width=width, page=escape(source.replace("</body>", MEASURE + "</body>")))
    measured.write_text(framed, encoding="utf-8")
    dom = browse(measured, tmp_path / "profile", "--window-size=1300,1000", "--dump-dom", scheme=scheme)
    found = re.search(r'data-measured="([^"]*)"', dom)
    assert found is not None
    sizes = json.loads(unescape(found[1]))
    assert sizes["width"] == width
    assert sizes["page"] <= width
    assert sizes["wide"] == []
    assert len(sizes["charts"]) == 10
    assert all(across > 200 and down > 80 for _, across, down in sizes["charts"])
    assert sizes["unpainted"] == 0
    text, background, label = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in sizes["colours"]]
    assert (text > background) == (scheme == DARK)
    assert (label > background) == (scheme == DARK)


def test_a_picture_of_it_is_not_blank(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "report.png"
    browse(page, tmp_path / "profile", "--window-size=1200,2000", f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000
