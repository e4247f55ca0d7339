"""Words of a text, as BM25 counts them: jieba's where a text is Chinese, lower-cased `\\w+` words elsewhere, and of what is written without
spaces overlapping character bigrams, for there `\\w+` takes a sentence for a word (kana, Thai, Lao, Khmer, Burmese, Tibetan; Hangul, whose
words carry their particles).

Query and documents that are matched must be cut by one rule, or "Git" would not meet "git". So it is the list of candidates, not each
text and not the whole data set, that is taken as Chinese or not (see `retrievers.bm25`); within such a list jieba cuts the texts
without a Han character too, as a script does that runs jieba over everything.

Chinese is cut by rjieba, a binding of jieba-rs, some fifteen times as fast as jieba 0.42.1 and made equal to its `lcut` here: white space
and punctuation are words of their own, case is kept. jieba-rs differs in two ways: it leaves runs of ASCII whole that jieba cuts again
(`com.android.settings`, `0.1MPa`, `apt-get`), unless they are in the dictionary (`C++`, `AT&T`), and it takes Han characters beyond
jieba's own range into words, each of which jieba leaves alone. With both mended, 1 of 36,191 Chinese texts is cut in another way (`常在`,
which is in no dictionary), and none of 60,000 random mixtures of scripts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise

KANA = "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
UNSPACED = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0f40-\u0fbc\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u1100-\u11ff\uac00-\ud7ff"
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(f"[{KANA}{UNSPACED}]")
_RUN = re.compile(f"(?P<unspaced>[{KANA}]+|[{UNSPACED}]+)|[^\\W{KANA}{UNSPACED}]+")
_ASCII = bytes(ord(character.lower()) if re.match(r"\w", character := chr(code), re.ASCII) else ord(" ") for code in range(256))
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_OTHER_WORD = re.compile("[^\\W\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_JOINED = "-+#&._%"  # what jieba-rs leaves inside a run of ASCII
_ASCII_WORD = re.compile(r"([a-zA-Z0-9]+(?:\.\d+)?%?)")  # jieba.finalseg.re_skip
_BEYOND = "\u3400-\u4dbf\u9fd6-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"  # Han for jieba-rs, not for jieba's re_han_default
_BEYOND_JIEBA = re.compile(f"([{_BEYOND}])")
_CUT_OTHERWISE = re.compile(f"[{_JOINED}{_BEYOND}]")  # without any of these jieba-rs cuts as jieba does
_KNOWN = 1 << 14  # words whose mending is remembered


def is_chinese(text: str) -> bool:
    """Whether a text has a Han character, and no more words of other scripts than Han characters.

    `git 提交更改` is Chinese; an English sentence that quotes two Han characters is not.
    """
    return not text.isascii() and _HAN.search(text) is not None and len(_HAN.findall(text)) >= len(_OTHER_WORD.findall(text))


def words(text: str, chinese: bool | None = None) -> list[str]:
    """The words of a text in their order, with repetitions.

    `chinese`: whether jieba cuts it; None decides by the text alone, for a text that is matched against nothing else.
    """
    if not (is_chinese(text) if chinese is None else chinese):
        return ascii_words(text) if text.isascii() else _spaced(text.lower())
    if not _CUT_OTHERWISE.search(text):
        return _jieba()[0](text)
    return [word for part in _BEYOND_JIEBA.split(text) for word in ([part] if _BEYOND_JIEBA.match(part) else _jieba_words(part))]


def ascii_words(text: str) -> list[str]:
    """The lower-cased `\\w+` words of an ASCII text, several times as fast as by a regular expression."""
    return text.encode().translate(_ASCII).decode().split()


def bigrams(characters: str) -> list[str]:
    """The overlapping pairs of characters of a run; of a single one, itself."""
    return [one + other for one, other in pairwise(characters)] or [characters]


def _spaced(text: str) -> list[str]:
    """The `\\w+` words of a text in lower case, with the bigrams of what is written without spaces."""
    if not _UNSPACED.search(text):
        return _WORD.findall(text)
    runs = ((run.group(), run.lastgroup) for run in _RUN.finditer(text))
    return [word for run, unspaced in runs for word in (bigrams(run) if unspaced else [run])]


def _jieba_words(text: str) -> list[str]:
    found: list[str] = []
    for word in _jieba()[0](text):
        if len(word) == 1 or word.isalnum():
            found.append(word)
        else:
            found += _mended(word)
    return found


@lru_cache(_KNOWN)
def _mended(word: str) -> tuple[str, ...]:
    """The words that jieba cuts a word of jieba-rs into."""
    if not any(character in _JOINED for character in word) or _jieba()[1](word):
        return (word,)
    return tuple(filter(None, _ASCII_WORD.split(word)))


@cache
def _jieba() -> tuple[Callable[[str], list[str]], Callable[[str], bool]]:
    """jieba-rs, loaded on first use: its dictionary takes a good part of a second."""
    import rjieba

    return rjieba.cut, rjieba.has_word
