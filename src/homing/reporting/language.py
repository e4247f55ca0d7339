"""Both languages of a page: a phrase holds both, the reader's switch shows one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
TAGS: Mapping[Language, str] = {"en": "en", "zh": "zh-Hans"}
"""What stands in `lang=`: it also chooses the shapes of Chinese characters."""


class Phrase(NamedTuple):
    """The same words in both languages, with the same `{fields}`."""

    en: str
    zh: str

    def format(self, **values: object) -> Phrase:
        """The phrase with its fields filled in."""
        return Phrase(self.en.format(**values), self.zh.format(**values))

    def with_phrase(self, name: str, phrase: Phrase) -> Phrase:
        """The phrase with one field filled by another phrase, each language by its own; the other fields stay fields."""
        field = f"{{{name}}}"
        return Phrase(self.en.replace(field, phrase.en), self.zh.replace(field, phrase.zh))

    def markup(self, element: str = "span", **values: object) -> Markup:
        """Both languages as mark-up, of which a page shows one; once where they are equal. Values are escaped unless they are mark-up."""
        found = [Markup(escape(text)).format(**values) if values else escape(text) for text in (self.en, self.zh)]
        if found[0] == found[1]:
            return found[0]
        return Markup("").join(
            Markup('<{0} lang="{1}">{2}</{0}>').format(element, TAGS[language], text)
            for language, text in zip(LANGUAGES, found, strict=True)
        )

    def __str__(self) -> str:
        return self.en


_TRAILING = re.compile(r"^(?P<word>.*?)(?P<rest>\s*[−\d.,:()]*)$", re.DOTALL)


def translated(text: str, words: Mapping[str, str]) -> Phrase:
    """A label of a chart in both languages: the words of the table, with the number that may follow; itself where the table lacks it."""
    found = _TRAILING.match(text)
    word = found["word"].strip() if found else text
    if word not in words:
        return Phrase(text, text)
    return Phrase(text, text.replace(word, words[word], 1))
