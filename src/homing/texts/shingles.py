"""Texts as sets of character shingles of their normal form: what near-duplicates are compared by.

A shingle is three characters long, two where it begins with a Han character, kana or Hangul: such a character carries about as much as
half a short word does in an alphabet, and words there are mostly two characters long, so that with three one changed word of a short
question would touch most of its shingles. The rule looks at the character and not at the text, so that mixed text works and all texts
stay comparable.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

# Vowel signs are marks, which `\w` leaves out. In Indic scripts, Thai, Lao, Burmese and Khmer they tell words apart and stay, unlike these
# scripts' own punctuation; Arabic's and Hebrew's points, which most writers leave out, go, as do accents that no letter has taken in.
_VOWELS = "\u0900-\u0dff\u0e00-\u0eff\u0f71-\u0fbc\u1000-\u109f\u1780-\u17d3"
_PUNCTUATION = "_\u0964\u0965\u0df4\u0e3f\u0e4f\u0e5a\u0e5b\u104a-\u104f"
_FOLDED = re.compile(f"(?:[^\\w{_VOWELS}]|[{_PUNCTUATION}])+")
_POINTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]")
_ASCII_FOLDED = bytes(ord(character.lower()) if (character := chr(code)).isalnum() and code < 128 else ord(" ") for code in range(256))
_TWO_CHARACTERS = ((0x1100, 0x11FF), (0x2E80, 0x9FFF), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_UNSPACED = "".join(f"{chr(low)}-{chr(high)}" for low, high in _TWO_CHARACTERS) + "\u0e01-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3"
_BESIDE_UNSPACED = re.compile(f"(?<=[{_UNSPACED}]) | (?=[{_UNSPACED}])")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")  # soft hyphen, zero width, direction, byte order mark


def normal_form(text: str) -> str:
    """The text as near-duplicates are compared: NFKC, case-folded, each run of punctuation and white space one space.

    Beside a Han character, kana, Hangul, Thai, Lao, Burmese or Khmer it is none: writers put spaces there as they like ("安装 Python 环境",
    "安装Python环境"), and one would touch three shingles of a dozen. A text of nothing but punctuation keeps it, without the white space.
    """
    if text.isascii() and (form := b" ".join(text.encode().translate(_ASCII_FOLDED).split())):
        return form.decode()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).casefold()).replace("\0", " ")
    return _BESIDE_UNSPACED.sub("", _FOLDED.sub(" ", _POINTS.sub("", folded)).strip()) or re.sub(r"\s+", "", folded)


def shingles(forms: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct shingles of each text, as columns: the text's position, and the shingle's number from 0.

    Shapes: (distinct shingles of all texts,) both.
    """
    owner, code = codes(forms)
    known, number = np.unique(code, return_inverse=True)
    entry = distinct(owner * max(1, len(known)) + number)
    return entry // max(1, len(known)), entry % max(1, len(known))


def codes(forms: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All shingles of each text in their order, as columns: the text's position, and the shingle's characters in one number.

    Shapes: (shingles of all texts,) both.
    """
    # A space at either end makes beginnings and ends of words alike inside and at the edge; no normal form holds a zero character.
    first = np.frombuffer("".join(f" {form} \0" for form in forms).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    end = first == 0
    owner = np.cumsum(end) - end
    wide = np.zeros(len(first), dtype=bool)
    for low, high in _TWO_CHARACTERS if first.max(initial=0) >= _TWO_CHARACTERS[0][0] else ():
        wide |= (first >= low) & (first <= high)
    second, third = np.append(first[1:], 0), np.append(first[2:], (0, 0))[: len(first)]
    third[wide] = 0
    whole = ~end & (second > 0) & ((third > 0) | wide)
    return owner[whole], (first | second << 21 | third << 42)[whole]


def sets(owner: NDArray[np.int64], shingle: NDArray[np.int64], texts: int, shingles: int | None = None) -> csr_array:
    """The shingles of each text as a row of ones, shape (texts, shingles), from columns that are sorted by text."""
    start = np.append(0, np.cumsum(np.bincount(owner, minlength=texts)))
    return csr_array((np.ones(len(owner), dtype=np.int32), shingle, start), shape=(texts, shingles or int(shingle.max(initial=0)) + 1))


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values sorted, each once, shape (different values,).

    By sorting, for `np.unique` hashes, which is several times slower on many different values.
    """
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values
