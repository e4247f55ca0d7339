"""The page's two languages: the same phrases with the same fields, and nothing of the one left in the other."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

import homing
from homing.reporting import phrases, sentences
from homing.reporting.language import Phrase, translated

HAN = re.compile("[\u4e00-\u9fff]")
UNTRANSLATED = {"L2", "Homing: {names}", "{interval}"}


def found(value: Any) -> list[Phrase]:
    """The phrases in a value of the catalogue."""
    if isinstance(value, Phrase):
        return [value]
    if isinstance(value, dict):
        return [phrase for each in value.values() for phrase in found(each)]
    if isinstance(value, tuple):
        return [phrase for each in value for phrase in found(each)]
    return []


CATALOGUE = {name: found(value) for name, value in vars(phrases).items() if name.isupper()}


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_phrase_says_the_same_in_both_languages() -> None:
    assert sum(map(len, CATALOGUE.values())) > 150
    for name, every in CATALOGUE.items():
        for phrase in every:
            assert phrase.zh, name
            assert HAN.search(phrase.zh) or phrase.zh.startswith("Homing"), (name, phrase.zh)
            assert not HAN.search(phrase.en), (name, phrase.en)
            if phrase.en:
                assert fields(phrase.en) == fields(phrase.zh), name


def test_every_phrase_is_used() -> None:
    root = Path(homing.__file__).parent
    used = "\n".join(path.read_text() for path in [*root.glob("*.py"), *root.glob("reporting/*.py"), *root.glob("reporting/template/*.j2")])
    for name in CATALOGUE:
        assert re.search(rf"(?:phrases|t)\.{name}\b", used) or name in {"DRAWN"}, name


@pytest.mark.parametrize(
    "module", ["verdicts/verdict", "verdicts/conclusion", "verdicts/wording", "verdicts/causes", "runs/concluding", "verdicts/slices"]
)
def test_every_sentence_made_elsewhere_has_its_chinese(module: str) -> None:
    """A sentence is a constant or an f-string of some length that begins with a capital and ends with a stop."""
    source = (Path(homing.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    documented = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            forms = ["".join(str(part.value) if isinstance(part, ast.Constant) else field for part in node.values) for field in ("7", "")]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in documented:
            forms = [node.value]
        else:
            continue
        if re.match(r"[A-Z0-9]", forms[0]) and forms[0].endswith(".") and len(forms[0]) > 30 and "\n" not in forms[0]:
            assert any(HAN.search(sentences.in_both(form).zh) for form in forms), forms[0]


def test_a_sentence_keeps_its_figures() -> None:
    said = sentences.in_both("Only 37 test queries: small differences cannot be seen.")
    assert said.zh == "只有 37 条测试查询，看不出小的差异。"
    assert sentences.in_both("Nobody wrote this.") == Phrase("Nobody wrote this.", "Nobody wrote this.")


@pytest.mark.parametrize(
    ("drawn", "chinese"),
    [("threshold", "阈值"), ("threshold 0.543", "阈值 0.543"), ("relevant", "相关"), ("0.25", "0.25"), ("my-model  0.7", "my-model  0.7")],
)
def test_the_words_of_a_chart(drawn: str, chinese: str) -> None:
    assert translated(drawn, phrases.DRAWN) == Phrase(drawn, chinese)


def test_values_are_escaped_and_braces_in_them_left_alone() -> None:
    phrase = Phrase("from {a}", "自 {a}").format(a="<b> {x} {")
    assert str(phrase.markup()) == '<span lang="en">from &lt;b&gt; {x} {</span><span lang="zh-Hans">自 &lt;b&gt; {x} {</span>'
    assert str(Phrase("same", "same").markup()) == "same"
