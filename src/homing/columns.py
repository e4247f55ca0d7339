"""Text laid out for a terminal, where a Chinese character takes two columns and an accent none."""

from __future__ import annotations

import re
import unicodedata

WIDTH = 80
_CLOSING = "，。；：！？、）》」』】”’%…"
"""What never begins a line: it stays with what is before it."""
_OPENING = "（《「『【“‘"
"""What never ends a line."""
_WORD = r"[^\s\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff]+"
_PARTS = re.compile(rf"\s+|[{_OPENING}]*(?:{_WORD}|.)[{_CLOSING}]*", re.DOTALL)


def width(text: str) -> int:
    """The columns that a text takes."""
    return sum(
        0 if unicodedata.category(each) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def left(text: str, columns: int) -> str:
    """The text with blanks after it, up to so many columns."""
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    """The text with blanks before it, up to so many columns."""
    return " " * (columns - width(text)) + text


def shortened(text: str, columns: int) -> str:
    """The text in at most so many columns: its beginning and its end, with a mark between."""
    if width(text) <= columns:
        return text
    head, tail = "", ""
    for each in text:
        if width(head + each) > (columns - 1) // 2:
            break
        head += each
    for each in reversed(text):
        if width(head + each + tail) > columns - 1:
            break
        tail = each + tail
    return f"{head}…{tail}"


def wrapped(text: str, columns: int = WIDTH, indent: str = "  ") -> str:
    """The text in lines of at most so many columns, all but the first indented, which keeps its own; broken at blanks, and before or after
    any Chinese character, but not between punctuation and what that holds to. A word that is longer than a line stands alone."""
    lines, line = list[str](), ""
    for part in _PARTS.findall(text):
        if part.isspace():
            line += " " if line.strip() else "" if lines else part[: len(indent)]
        elif width(line + part) <= columns or not line.strip():
            line += part
        else:
            lines.append(line.rstrip())
            line = indent + part
    return "\n".join([*lines, line.rstrip()])
