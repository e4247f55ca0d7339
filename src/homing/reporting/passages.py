"""Texts of the data as a page can carry them: cut where they are long, and nothing in them that HTML cannot hold."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

CUT, LINES = 320, 10
"""Characters and lines of a text that are shown before it is cut."""


@dataclass(frozen=True)
class Passage:
    """A text as the page shows it: its beginning, and the whole of it where that is more."""

    head: str
    whole: str = ""
    characters: str = ""


def passage(text: str) -> Passage:
    """A text, cut where it is long: after some lines, or at a space if one is near, and never inside what is read as one character."""
    text = printable(text).strip()
    head = "\n".join(text[:CUT].split("\n")[:LINES])
    if len(text) - len(head) < 40 and "\n" not in text[len(head) :].strip():
        return Passage(text)
    end = len(head)
    if end == CUT:
        space = head.rfind(" ", end - 30)
        end = space if space > 0 else end
        while 0 < end < len(text) and (_joins(text[end]) or text[end - 1] == "\u200d"):
            end -= 1
    return Passage(text[:end].rstrip(), text, f"{len(text):,}")


def _joins(character: str) -> bool:
    """Whether this character is read as part of the one before: an accent, a joiner, a skin tone."""
    return character == "\u200d" or unicodedata.category(character) in ("Mn", "Me") or "\U0001f3fb" <= character <= "\U0001f3ff"


_SHOWN_CONTROLS = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_SHOWN_CONTROLS |= (
    {0x7F: 0x2421, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD) | dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
)


def printable(text: str) -> str:
    """The text with what HTML cannot carry made visible: control characters as their pictures, what is no character as U+FFFD."""
    return text.replace("\r\n", "\n").translate(_SHOWN_CONTROLS)
