"""The report in a real browser: headless Chromium loads it, draws it, and has nothing to complain about."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from homing.reporting import Compared, compare_runs, comparison_page, report
from homing.settings import Reporting
from homing.verdicts.verdict import compare
from test_reporting import SENTENCE, evaluated, everything, judged, made_up, trained

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
POLICY = r'<meta http-equiv="Content-Security-Policy"[^>]*>'
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


USE = """
<script>
addEventListener("load", () => {
  const all = query => [...document.querySelectorAll(query)], shows = e => getComputedStyle(e).display !== "none";
  const search = document.querySelector("#search"), found = {};
  const type = text => {
    search.value = text;
    search.dispatchEvent(new Event("input"));
    const entries = all("#queries .mover").filter(shows).map(e => e.querySelector(".query").textContent);
    return [entries, document.querySelector(".shown").textContent];
  };
  found.all = type("").flat().length - 1;
  found.chinese = type("免赔额");
  found.words = type("QUOTED alert");
  found.nothing = type("no such word");
  type("");
  found.links = all("nav a").map(link => {
    link.click();
    const target = document.querySelector(link.getAttribute("href"));
    return target !== null && Math.abs(target.getBoundingClientRect().top) < innerHeight;
  });
  const heading = () => all("#ranking h2 span").filter(shows).map(e => e.textContent);
  const word = () => all('[data-figure="f1"] tspan').filter(shows).map(e => e.textContent);
  found.english = [heading(), document.title.slice(0, 7), document.documentElement.lang, word().includes("threshold")];
  document.querySelector('label[for="language-zh"]').click();
  found.switched = [heading(), document.title.slice(0, 7), document.documentElement.lang, word().includes("阈值")];
  document.documentElement.dataset.used = JSON.stringify(found);
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two models and a training."""
    folder = tmp_path_factory.mktemp("browser")
    data = made_up()
    models = evaluated("sentence-transformers/all-MiniLM-L6-v2", data, seed=1), evaluated("调优模型", data, gap=0.35, middle=0.2, seed=2)
    return report(*models, out=folder / "report.html", training=trained(folder), verdict=judged(*models))


@pytest.fixture(scope="module")
def pages(page: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """That report, one with all parts in Chinese, and a comparison of three runs."""
    folder = tmp_path_factory.mktemp("pages")
    data = made_up()
    models, verdict = everything(data)
    whole = report(*models, out=folder / "whole.html", training=trained(folder), verdict=verdict, settings=Reporting("zh"))
    runs = []
    for number, name in enumerate(("runs/insurance", "runs/insurance-with-a-rather-long-name", "runs/保险")):
        found = [evaluated("base", data, seed=1), evaluated("tuned", data, gap=0.3, seed=number + 2)]
        recipe = {"training.rank": str(8 * (number + 1)), "model": "base"}
        runs.append(Compared(name, found, compare(found), recipe, trained(folder / str(number), 60), 100.0 * number))
    return {"report": page, "whole": whole, "compare": comparison_page(compare_runs(runs), folder / "compare.html")}


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
    assert '<p class="search">' in dom  # its own script ran: it shows what needs it


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize(("name", "charts", "scheme"), [("report", 10, LIGHT), ("whole", 12, DARK), ("compare", 4, LIGHT)])
def test_the_page_fits_its_window_and_its_charts_have_colours(
    pages: dict[str, Path], tmp_path: Path, width: int, name: str, charts: int, scheme: int
) -> None:
    source = re.sub(POLICY, "", pages[name].read_text(encoding="utf-8"))
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
    assert len(sizes["charts"]) == charts
    assert all(across > 200 and down > 80 for _, across, down in sizes["charts"])
    assert sizes["unpainted"] == 0
    text, background, label = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in sizes["colours"]]
    assert (text > background) == (scheme == DARK)
    assert (label > background) == (scheme == DARK)


def test_its_search_its_links_and_its_languages_work(page: Path, tmp_path: Path) -> None:
    source = re.sub(POLICY, "", page.read_text(encoding="utf-8"))
    used = tmp_path / "used.html"
    used.write_text(source.replace("</body>", USE + "</body>"), encoding="utf-8")
    dom = browse(used, tmp_path / "profile", "--window-size=1200,900", "--dump-dom")
    found = re.search(r'data-used="([^"]*)"', dom)
    assert found is not None
    said = json.loads(unescape(found[1]))
    assert said["all"] > 20
    assert said["chinese"] == [["医疗保险的免赔额是多少？"], "1"]
    assert said["words"] == [["<script>alert('q')</script> & \"quoted\" </details></main>"], "1"]
    assert said["nothing"] == [[], "0"]
    assert said["links"] == [True] * 7
    assert said["english"] == [["Does the right document come first?"], "Homing:", "en", True]
    assert said["switched"] == [["正确的文档排在前面吗？"], "Homing：", "zh-Hans", True]


@pytest.mark.parametrize("name", ["whole", "compare"])
def test_it_prints(pages: dict[str, Path], tmp_path: Path, name: str) -> None:
    paper = tmp_path / "page.pdf"
    browse(pages[name], tmp_path / "profile", f"--print-to-pdf={paper}", "--no-pdf-header-footer", scheme=DARK)
    written = paper.read_bytes()
    assert written.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", written)) > 1


def test_a_picture_of_it_is_not_blank(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "report.png"
    browse(page, tmp_path / "profile", "--window-size=1200,2000", f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000
