"""Words: equal to jieba's own for Chinese, `\\w+` elsewhere."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.texts.words import KANA, UNSPACED, is_chinese, words

ASCII = ("IT", "C++", "c#", "A", "b", "1", "23", "0.5", "0.1MPa", "com.android.settings", "apt-get", "x86_64", "3D", "@", "/", *".-_%+#&")
HAN = ("合同", "的", "解除", "卡拉OK", "T恤", "AT&T", "AA制", "B超", "龥", "乾隆", "皇帝", "李小福", "是", "创新办", "主任")
ODD = ("，", "。", "é", "か", "カナ", "…", "😀", "°", "Ｇ", "－", " ", "\n", "\r\n", "\t", "\u3400", "\u9fd6", "\uf900", "\U00020000")
PIECES = st.sampled_from(ASCII + HAN + ODD)


@pytest.fixture(scope="module")
def jieba() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
    jieba.setLogLevel(logging.ERROR)
    jieba.initialize()
    return jieba


@given(st.lists(PIECES | st.text(max_size=4), max_size=9).map("".join))
def test_equals_jieba_on_mixed_scripts(jieba: Any, text: str) -> None:
    assert words(text, chinese=True) == jieba.lcut(text)


@pytest.mark.parametrize("name", ["zh-cli", "zh-statute", "zh-wiki-cmrc"])
def test_equals_jieba_on_real_texts(jieba: Any, shared: Path, name: str) -> None:
    lines = [line for file in sorted((shared / name).glob("*.jsonl")) for line in file.read_text().splitlines()]
    texts = {json.loads(line)["text"] for line in lines}
    differing = [text for text in sorted(texts)[::5] if words(text, chinese=True) != jieba.lcut(text)]
    assert len(differing) <= 1


def test_a_text_decides_by_itself_where_nobody_else_does() -> None:
    assert words("What IS a-b_c?") == ["what", "is", "a", "b_c"]
    assert words("Git 提交") == ["Git", " ", "提交"]
    assert words("Git 提交", chinese=False) == ["git", "提交"]
    assert words("") == words("", chinese=True) == []


@given(st.text(st.characters(max_codepoint=127)) | st.text())
def test_outside_chinese_words_are_runs_of_word_characters_in_lower_case(text: str) -> None:
    if not re.search(f"[{KANA}{UNSPACED}]", text):
        assert words(text, chinese=False) == re.findall(r"\w+", text.lower())


def test_what_is_written_without_spaces_is_cut_into_bigrams() -> None:
    assert words("パスワードを変える Git2 ", chinese=False) == ["パス", "スワ", "ワー", "ード", "ドを", "変", "える", "git2"]
    assert words("วิธีเปลี่ยน vi") == [*map("".join, pairwise("วิธีเปลี่ยน")), "vi"]  # its vowel signs count, which `\w` leaves out
    assert words("비밀번호를 바꾸는") == ["비밀", "밀번", "번호", "호를", "바꾸", "꾸는"]
    assert words("ລືມ ច្បាប់ မေ့ é") == [*map("".join, pairwise("ລືມ")), *map("".join, pairwise("ច្បាប់")), *map("".join, pairwise("မေ့")), "é"]
    assert words("あ, い") == ["あ", "い"]


@pytest.mark.parametrize("text", ["pathping 强制使用 IPV4", "Git 提交", "\U00020000", "ykman config 通过 USB 或 NFC 启用"])
def test_mostly_han_is_chinese(text: str) -> None:
    assert is_chinese(text)


@pytest.mark.parametrize("text", ["", "カナ, é", "Replace 前 with 後 in all files", "Peking (北京) is the capital of China"])
def test_a_few_han_characters_are_not(text: str) -> None:
    assert not is_chinese(text)


def test_the_dictionary_is_loaded_only_for_chinese() -> None:
    script = (
        "import sys, homing.texts.words as w; w.words('a b'); print('rjieba' in sys.modules); w.words('中'); print('rjieba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split() == ["False", "True"]
