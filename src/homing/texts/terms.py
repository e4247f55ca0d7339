"""Terms of a text, as an index of a whole corpus counts them: stemmed words, jieba's words, character bigrams, by script.

A corpus is cut by one rule, chosen from a sample of it, and every query by the same rule. Within a text each run of characters is cut as
its script asks, so that mixed text works:

- alphabets: lower-cased words, cut to their stems by Snowball (Porter: Snowball, 2001). Latin letters are stemmed as the language of the
  corpus, told by its function words and English where these tell nothing; Cyrillic as Russian, Greek, Arabic, Devanagari (Hindi), Tamil
  and Armenian as themselves. A word of any other script stays whole.
- Han: the words of jieba; in a corpus with kana, which is Japanese, character bigrams.
- kana, Hangul, Thai, Lao, Khmer, Burmese, Tibetan: overlapping character bigrams, for there are no spaces between words, or (Hangul) words
  carry their particles.

Compatibility forms are folded first (NFKC), so that full-width letters are letters. `words.py` is the rule of single lists of candidates,
which is kept equal to a script of jieba and rank_bm25.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from homing.texts.words import KANA, UNSPACED, ascii_words, bigrams, words

_HAN_RANGE = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# What `\\w` leaves out within words: combining marks, and the vowel signs and points of the Arabic, Hebrew and Indic scripts.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"
    "\u0900-\u0963\u0971-\u0983\u09bc-\u09e3\u0a01-\u0a75\u0a81-\u0ae3\u0b01-\u0b63\u0b82-\u0bd7\u0c00-\u0c63\u0c81-\u0ce3\u0d00-\u0d63\u0d81-\u0df3"
)
_RUN = re.compile(
    f"(?P<han>[{_HAN_RANGE}]+)|(?P<unspaced>[{KANA}]+|[{UNSPACED}]+)|(?P<word>(?:[^\\W{_HAN_RANGE}{KANA}{UNSPACED}]|[{_MARKS}])+)"
)
_JAPANESE_RUN = re.compile(
    f"(?P<unspaced>[{_HAN_RANGE}{KANA}]+|[{UNSPACED}]+)|(?P<word>(?:[^\\W{_HAN_RANGE}{KANA}{UNSPACED}]|[{_MARKS}])+)"
)
_HAN, _KANA = re.compile(f"[{_HAN_RANGE}]"), re.compile(f"[{KANA}]")
_KANA_OF_JAPANESE = 0.1  # share of kana among kana and Han, above which a corpus is Japanese: Japanese text has about a half
_LATIN_WORD = re.compile("[a-z\u00df-\u024f]+")
_OF_SENTENCES = 0.08  # share of the 17 to 19 listed words among all words; sentences have a fifth to a third
_SAMPLE = 2000  # texts of a corpus that its rule is chosen from
_SCRIPTS = (
    (0x0370, 0x03FF, "greek"), (0x1F00, 0x1FFF, "greek"), (0x0400, 0x052F, "russian"), (0x0530, 0x058F, "armenian"),
    (0x0600, 0x06FF, "arabic"), (0x0900, 0x097F, "hindi"), (0x0B80, 0x0BFF, "tamil"),
)  # fmt: skip
# Frequent words without a meaning of their own, of two letters or more: commands and code are full of single ones.
FUNCTION_WORDS = {
    "english": "the of and to is that for with it was on are this be as what how which",
    "german": "der die und das ist nicht mit von den zu auf ein eine dem sich wie auch werden",
    "french": "le les et des du une est dans pour qui pas sur au avec ce il ne sont",
    "spanish": "el los las del una que por con para es se como su lo pero más está",
    "portuguese": "os do da dos das uma que não com em para por no na mais como são",
    "italian": "il di che è per una con non del della sono le gli nel alla dei come più",
    "dutch": "het een van en dat niet zijn voor met op te aan bij ook wordt naar ze deze",
    "swedish": "och att det som på är av för den med till inte om ett har kan från var",
    "danish": "og det at på af for ikke med den til er som der har kan fra blev være",
    "norwegian": "og det på av ikke med den til er som har kan fra ble være etter også hvordan",
    "finnish": "ja on ei että se hän oli mutta ovat kun myös joka tai voi ole sen mitä kuin",
    "hungarian": "és az hogy nem egy ez meg van volt csak mint vagy már még lehet azt milyen után",
    "romanian": "și de la nu cu pe care din este sau pentru sunt mai că să fi dar într",
    "turkish": "ve bir bu için ile de da olarak ne daha çok gibi olan değil en var nasıl kadar",
    "polish": "nie na się do że jest to jak dla przez są od ale czy oraz może które także",
    "czech": "se na je že do to pro jak jsou nebo ale který podle také jako při což pokud",
    "indonesian": "yang dan di untuk dengan dari ini pada tidak adalah itu ke dalam akan juga atau oleh apa",
}


@dataclass(frozen=True)
class Rule:
    """How the texts of one corpus, and queries to it, are cut into terms.

    `latin`: Snowball's algorithm for words in Latin letters. `han`: jieba's words, or bigrams (a Japanese corpus).
    """

    latin: str = "english"
    han: Literal["jieba", "bigrams"] = "jieba"

    @property
    def key(self) -> str:
        """Changes whenever a term could."""
        return f"{self.latin}, {self.han}, rjieba {version('rjieba')}, PyStemmer {version('PyStemmer')}, 1"

    def cut(self, text: str) -> list[str]:
        """The terms of a text before stemming, in their order, with repetitions."""
        if text.isascii():
            return ascii_words(text)
        found: list[str] = []
        for run in (_RUN if self.han == "jieba" else _JAPANESE_RUN).finditer(unicodedata.normalize("NFKC", text).lower()):
            if run.lastgroup == "word":
                found.append(run.group())
            elif run.lastgroup == "han":
                found += words(run.group(), chinese=True)
            else:
                found += bigrams(run.group())
        return found

    def stem(self, cut: Sequence[str]) -> list[str]:
        """The stem of each word that `cut` gave; what is not of an alphabet with a stemmer stays as it is."""
        stems = list(cut)
        by_stemmer: dict[str | None, list[int]] = {}
        for place, word in enumerate(cut):
            by_stemmer.setdefault(self._stemmer_of(word), []).append(place)
        for name, places in by_stemmer.items():
            if name is not None:
                for place, stem in zip(places, _stemmer(name).stemWords([cut[place] for place in places]), strict=True):
                    stems[place] = stem
        return stems

    def terms(self, text: str) -> list[str]:
        """The terms of a text, in their order, with repetitions."""
        return self.stem(self.cut(text))

    def _stemmer_of(self, word: str) -> str | None:
        letter = ord(word[0])
        if letter < 0x0250 or 0x1E00 <= letter < 0x1F00:
            return self.latin
        return next((name for first, last, name in _SCRIPTS if first <= letter <= last), None)


def rule_of(texts: Sequence[str]) -> Rule:
    """The rule for a corpus, from texts that lie evenly in it."""
    sample = [texts[place] for place in range(0, len(texts), max(1, len(texts) // _SAMPLE))]
    kana = sum(len(_KANA.findall(text)) for text in sample)
    han = sum(len(_HAN.findall(text)) for text in sample)
    return Rule(_language(sample), "bigrams" if kana > _KANA_OF_JAPANESE * (kana + han) else "jieba")


def _language(texts: Iterable[str]) -> str:
    """The language whose function words are the most frequent; English where that is not the language of sentences (commands, names)."""
    seen = Counter(word for text in texts for word in _LATIN_WORD.findall(text.lower()))
    counts = {language: sum(seen[word] for word in listed.split()) for language, listed in FUNCTION_WORDS.items()}
    found = max(counts, key=counts.__getitem__)
    return found if counts[found] >= _OF_SENTENCES * seen.total() else "english"


@cache
def _stemmer(name: str) -> Any:
    import Stemmer

    return Stemmer.Stemmer(name)
