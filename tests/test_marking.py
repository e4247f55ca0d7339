"""The marking page in a real browser: keys mark, marks outlive a reload, what is saved is what mining reads."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homing.builder import Builder
from homing.data import UNSURE, Splits
from homing.formats import judgments as files
from homing.judgments import obey
from homing.marking import marking_page
from homing.suspects import EQUAL, NEAR, Suspects
from test_browser import DARK, FRAME, LIGHT, browse, pytestmark

__all__ = ["pytestmark"]

NASTY = '</script><script>alert(1)</script> \u2028 <b>&amp; 中文 "quotes" `${x}`'
PRESS = "for (const key of {keys}) document.body.dispatchEvent(new KeyboardEvent('keydown', {{key, bubbles: true}}));"
TELL = """
const made = URL.createObjectURL; let blob;
URL.createObjectURL = (given) => { blob = given; return made.call(URL, given); };
HTMLAnchorElement.prototype.click = function () { document.documentElement.dataset.file = this.download; };
document.getElementById("save").click();
blob?.text().then((text) => { document.documentElement.dataset.saved = text; });
document.documentElement.dataset.seen = JSON.stringify({
  count: document.getElementById("count").textContent,
  visible: [...document.querySelectorAll(".card:not([hidden])")].map((card) => card.dataset.mark ?? ""),
  here: document.querySelector(".card.here")?.id,
  language: document.documentElement.lang,
  title: document.getElementById("title").textContent,
  told: document.getElementById("told").textContent,
});
"""
MEASURE = """
const box = (e) => e.getBoundingClientRect();
parent.document.documentElement.dataset.measured = JSON.stringify({
  width: innerWidth,
  page: document.documentElement.scrollWidth,
  wide: [...document.querySelectorAll("body *")].filter((e) => box(e).right > innerWidth + 1).map((e) => e.tagName + "." + e.className),
  small: [...document.querySelectorAll("button.primary, .choices button, select")].filter((e) => box(e).height < 38).length,
  sides: [...document.querySelectorAll(".side")].slice(0, 2).map((e) => Math.round(box(e).left)),
  colours: [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor],
});
"""


def made_splits(items: int = 6) -> Splits:
    builder = Builder()
    for number in range(items):
        query = builder.query(f"query {number} {NASTY if number == 0 else ''}")
        builder.judge(query, builder.document(f"positive {number} {'long ' * 300 if number == 1 else ''}"), 1, "train")
        builder.judge(query, builder.document(f"negative {number} {NASTY if number == 0 else ''}"), 0, "train")
    for side in ("dev", "test"):
        builder.judge(builder.query(f"of {side}"), builder.document(f"answer of {side}"), 1, side)  # type: ignore[arg-type]
    train, dev, test = (builder.dataset(side) for side in ("train", "dev", "test"))
    return Splits(train, dev, test, "group", np.arange(len(train.queries), dtype=np.int32))


def made_page(folder: Path, splits: Splits, items: int = 6) -> Path:
    query = np.arange(items, dtype=np.int32)
    near = np.array([0, NEAR, EQUAL, 0, 0, 0], dtype=np.int32)
    score = np.linspace(0.9, 0.4, items)[:, None] * [1.0, 0.9]
    suspects = Suspects(
        splits.train, "train", ("base", "tuned"), query, 2 * query, 2 * query + 1, query >= 0, near, score, np.full((items, 2), 0.6), 99
    )
    return marking_page(suspects, folder / "suspects.html")


def visited(page: Path, folder: Path, script: str, *flags: str, language: str = "en") -> dict[str, Any]:
    """What the page shows and saves after the script; the same folder is the same browser."""
    if "</script>x" not in (text := page.read_text(encoding="utf-8")):
        page = page.with_name("visited.html")
        page.write_text(text.replace("</body>", f"<script>{script}\n{TELL}</script></body>"), encoding="utf-8")
    dom = browse(page, folder / "profile", "--dump-dom", f"--lang={language}", "--virtual-time-budget=2000", *flags)
    seen = re.search(r'data-seen="([^"]*)"', dom)
    assert seen is not None
    saved = re.search(r'data-saved="([^"]*)"', dom)
    file = re.search(r'data-file="([^"]*)"', dom)
    return {
        **json.loads(unescape(seen[1])), "saved": unescape(saved[1]) if saved else "", "file": unescape(file[1]) if file else "",
        "scripts": dom.count("<script"),
    }  # fmt: skip


def press(keys: str) -> str:
    return PRESS.format(keys=json.dumps(list(keys)))


def test_keys_mark_marks_are_kept_and_what_is_saved_is_obeyed(tmp_path: Path) -> None:
    splits = made_splits()
    page = made_page(tmp_path, splits)
    seen = visited(page, tmp_path, press("1") + press("0u") + press("jk0") + press("kk11"))
    # 1 on the first, 0 on the second, u on the third; down and up; 0 on the fourth; up two, to the third: 1 over u, then 1 on the next
    assert seen["visible"] == ["relevant", "not", "relevant", "relevant", "", ""]
    assert seen["count"] == "4 of 6 marked"
    assert seen["here"] == "item-4"
    assert seen["scripts"] == 3  # the texts made no element of their own
    named = "const name = document.getElementById('judge'); name.value = '李 雷'; name.oninput({target: name});"
    again = visited(page, tmp_path, named + press("jj1kkku"))  # takes the third mark back, and is unsure about the first
    assert again["visible"] == ["unsure", "not", "", "relevant", "", ""]
    assert again["file"] == "judgments-李-雷.jsonl"
    (tmp_path / "saved.jsonl").write_text(again["saved"], encoding="utf-8")
    judgments = files.read(tmp_path / "saved.jsonl")
    assert {each.judge for each in judgments} == {"李 雷"}
    assert all(each.date.startswith("20") and each.kind == "person" for each in judgments)
    obeyed, told = obey(judgments, splits)
    marks = {"relevant": 1, "not": 0, "unsure": UNSURE, "": 0}
    expected = [marks[mark] for mark in again["visible"]]
    assert obeyed.train.qrels.relevance[1::2].tolist() == expected
    assert told.counts["read"] == sum(bool(mark) for mark in again["visible"])


def test_a_mark_is_taken_back_filters_hide_and_saved_marks_are_loaded(tmp_path: Path) -> None:
    splits = made_splits()
    page = made_page(tmp_path, splits)
    choose = "const f = document.getElementById('filter'); f.value = '{}'; f.onchange({{target: f}});"
    assert visited(page, tmp_path / "a", press("1k1"))["visible"] == [""] * 6
    seen = visited(page, tmp_path / "b", press("10u") + choose.format("not"))
    assert seen["visible"] == ["not"]
    saved = seen["saved"]
    load = f"load(new File([{json.dumps(saved)}], 'saved.jsonl')).then(() => {{ document.documentElement.dataset.then = 1; }});"
    visited(page, tmp_path / "c", load)
    assert visited(page, tmp_path / "c", "")["visible"] == ["relevant", "not", "unsure", "", "", ""]


def test_it_speaks_chinese(tmp_path: Path) -> None:
    page = made_page(tmp_path, made_splits())
    seen = visited(page, tmp_path, "document.getElementById('language').click();")
    assert seen["language"] == "zh-CN"
    assert "负例" in seen["title"]
    english, chinese = (re.findall(r"^    (\w+):", part, flags=re.MULTILINE) for part in _script().split("\n  zh: {"))
    assert chinese == english


def _script() -> str:
    text = (Path(__file__).resolve().parents[1] / "src/homing/template/marking.js").read_text(encoding="utf-8")
    return text[: text.index("const SIDES")]


def test_same_suspects_same_bytes_and_no_network(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one, other = made_page(tmp_path / "one", made_splits()), made_page(tmp_path / "other", made_splits())
    assert one.read_bytes() == other.read_bytes()
    text = one.read_text(encoding="utf-8")
    assert not re.search(r"https?://|src=|@import", text.split('id="data"')[0])
    assert "default-src 'none'" in text


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_it_fits_a_phone_and_a_desktop_light_and_dark(tmp_path: Path, width: int, scheme: int) -> None:
    page = made_page(tmp_path, made_splits())
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    framed = FRAME.format(width=width, page=escape(source.replace("</body>", f"<script>{MEASURE}</script></body>")))
    measured = tmp_path / "measured.html"
    measured.write_text(framed, encoding="utf-8")
    dom = browse(measured, tmp_path / "profile", "--window-size=1300,1000", "--dump-dom", scheme=scheme)
    found = re.search(r'data-measured="([^"]*)"', dom)
    assert found is not None
    sizes = json.loads(unescape(found[1]))
    assert (sizes["width"], sizes["wide"], sizes["small"]) == (width, [], 0)
    assert sizes["page"] <= width
    assert (sizes["sides"][0] < sizes["sides"][1]) == (width > 640)  # side by side where there is room
    text, background = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in sizes["colours"]]
    assert (text > background) == (scheme == DARK)
