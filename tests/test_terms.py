"""Terms: each script cut as it asks, in mixed text as well, queries and corpus by one rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from homing.texts.terms import FUNCTION_WORDS, Rule, rule_of
from homing.texts.words import words

SCRIPTS = {
    "English, stemmed": ("Running dogs, houses_2", ["run", "dog", "houses_2"]),
    "full-width letters": ("Ｇｉｔ ＡＢＣ", ["git", "abc"]),
    "Cyrillic": ("кошками, собаки", ["кошк", "собак"]),
    "Han": ("劳动者可以解除合同", words("劳动者可以解除合同", chinese=True)),
    "mixed": ("用git提交更改", ["用", "git", "提交", "更改"]),
    "kana": ("カタカナ", ["カタ", "タカ", "カナ"]),
    "Hangul": ("한국어를 말", ["한국", "국어", "어를", "말"]),
    "Thai, vowel signs kept": ("สวัสดี", ["สว", "วั", "ัส", "สด", "ดี"]),
    "Khmer": ("ភាសា", ["ភា", "ាស", "សា"]),
    "Hindi, one word": ("हिन्दी", ["हिन्द"]),
    "vocalised Arabic, one word": ("كِتَاب", None),
    "nothing but punctuation": ("?! …", []),
    "no text": ("", []),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_is_cut_as_it_asks(name: str) -> None:
    text, expected = SCRIPTS[name]
    terms = Rule().terms(text)
    assert terms == expected if expected is not None else len(terms) == 1


def test_a_japanese_corpus_is_cut_into_bigrams_throughout() -> None:
    rule = rule_of(["東京都に住んでいます。", "これは日本語の文です。"])
    assert rule.han == "bigrams"
    assert rule.terms("東京都") == ["東京", "京都"]
    assert rule.terms("犬") == ["犬"]
    assert rule_of(["劳动者可以解除合同", "カ行"]).han == "jieba"


@pytest.mark.parametrize("language", sorted(FUNCTION_WORDS))
def test_the_function_words_tell_the_language(language: str) -> None:
    sentence = " ".join(word for listed in FUNCTION_WORDS[language].split() for word in (listed, "xyz", "zyx"))
    assert rule_of([sentence]).latin == language
    assert language in Stemmer.algorithms()


def test_commands_are_no_sentences() -> None:
    assert rule_of(["find . -name '*.py' -exec sed -n 1p {} +", "ls -la do"] * 3 + ["tar xzf a.tgz"] * 9).latin == "english"


def test_german_words_are_stemmed_as_german() -> None:
    assert rule_of(["Wie werden die Häuser gebaut und verkauft?"]).terms("Häuser") == ["haus"]


@given(st.text())
def test_any_text_is_cut_and_equal_stems_stay_equal(text: str) -> None:
    rule = Rule()
    cut = rule.cut(text)
    assert all(cut)
    assert rule.stem(cut) == rule.terms(text)
    assert [rule.stem([word])[0] for word in cut] == rule.stem(cut)


def test_an_ascii_text_is_cut_as_any_other() -> None:
    """The short way for ASCII gives what the way for all scripts gives."""
    text = "Find the file_names -of- 3 users' DIRS; x=1"
    assert Rule().cut(text) == Rule().cut(text + " é")[:-1]


def test_real_corpora_are_known(shared: Path) -> None:
    for name in ("en-medical", "en-bash", "zh-statute", "zh-cli"):
        texts = [json.loads(line)["text"] for line in (shared / name / "corpus.jsonl").read_text().splitlines()]
        assert rule_of(texts) == Rule("english", "jieba")
