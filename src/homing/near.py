"""Near-duplicate texts: every pair whose character shingles overlap enough, found exactly.

Two texts are compared as sets of character shingles of their normal form, by Jaccard similarity (shared / all distinct). A shingle is
three characters long, two where it begins with a Han character, kana or Hangul: such a character carries about as much as half a short
word does in an alphabet, and words there are mostly two characters long, so that with three one changed word of a short question would
touch most of its shingles. The rule looks at the character and not at the text, so that mixed text works and all texts stay comparable.

Joined exactly and without comparing all with all, by prefix filtering (Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search,
WWW 2007) with the length and position filters of PPJoin (Xiao et al.: Efficient Similarity Joins for Near Duplicate Detection, WWW 2008):
with shingles ordered rarest first, two similar texts share one among their first few.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from homing.data import Ints

# Chosen on five data sets of questions and commands: above it are one-word rewordings, spellings and changed numbers, and the groups
# that near-duplicates chain up to stay small (at most 8 of 5,168 templated medical questions, 40 of 11,300 shell tasks). At 0.8 template
# siblings about two short subjects join ("... being done for Coma?", "... for Syncope?"), and those groups grow to 46 and 71; 0.9 misses
# half of what 0.85 finds.
THRESHOLD = 0.85
MOST = 5_000_000  # pairs that are kept; beyond, those that connect: one template in 10,000 texts makes more
_PAIRS = 1 << 14  # given pairs compared together
_CHARACTERS = 1 << 16  # of texts cut together for sketches: what a processor's cache holds
_SHARES = (1 / 8, 1)  # of all shingles, in the sketches that are compared one after the other
_CHUNK = 1 << 18  # candidate pairs looked at together; bounds the memory to a few 100 MB
_FOLDED = re.compile(r"[\W_]+")
_ASCII_FOLDED = bytes(ord(character.lower()) if (character := chr(code)).isalnum() and code < 128 else ord(" ") for code in range(256))
_TWO_CHARACTERS = ((0x1100, 0x11FF), (0x2E80, 0x9FFF), (0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def normal_form(text: str) -> str:
    """The text as near-duplicates are compared: NFKC, case-folded, each run of punctuation and white space one space.

    A text of nothing but punctuation keeps it, without the white space.
    """
    if text.isascii() and (form := b" ".join(text.encode().translate(_ASCII_FOLDED).split())):
        return form.decode()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("\0", " ")
    return _FOLDED.sub(" ", folded).strip() or re.sub(r"\s+", "", folded)


def near_duplicates(texts: Sequence[str], threshold: float = THRESHOLD) -> Ints:
    """All pairs of texts whose shingle sets have a Jaccard similarity of at least `threshold` (above 0, at most 1).

    Returns positions in `texts`, shape (pairs, 2), the smaller first, sorted. Texts of equal normal form are pairs at any threshold.
    """
    return join(texts, threshold, most=None).pairs


@dataclass(frozen=True, eq=False)
class Near:
    """Near-duplicates among texts: all pairs of them, or, where they are too many, enough to connect what hangs together (`complete`: no).

    Shapes: `pairs` (pairs, 2), positions of the texts, the smaller first, sorted; `group` (texts,), what each text is connected to through
    any number of others, numbered from 0, the same whether complete or not.
    """

    pairs: Ints
    group: Ints
    complete: bool

    @property
    def largest(self) -> int:
        """Texts in the largest group."""
        return int(np.bincount(self.group).max(initial=0))


def join(texts: Sequence[str], threshold: float = THRESHOLD, most: int | None = MOST) -> Near:
    """The pairs of `near_duplicates`; beyond `most`, only such as connect texts that those found before don't.

    A template makes as many pairs as its texts squared, of which grouping needs one less than there are texts: pairs within a group that
    is known are no longer compared, so that memory and time grow with the texts and not with the pairs.
    """
    position: dict[str, int] = {}
    form = np.array([position.setdefault(normal_form(text), len(position)) for text in texts], dtype=np.int64)
    of_forms, complete = _similar(list(position), threshold, most)
    count = np.bincount(form, minlength=len(position))
    expanded = int((count[of_forms[:, 0]] * count[of_forms[:, 1]]).sum() + (count * (count - 1) // 2).sum())
    if complete and (most is None or expanded <= most):
        pairs = _expand(of_forms, form, len(position))
    else:
        complete, first = False, np.unique(form, return_index=True)[1]
        again = np.flatnonzero(first[form] != np.arange(len(form)))
        pairs = np.concatenate((np.sort(first[of_forms], axis=1), np.stack((first[form[again]], again), axis=1)))
    found: Ints = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].astype(np.int32)
    return Near(found, _connected(found, len(texts)).astype(np.int32), complete)


def _connected(pairs: NDArray[np.integer], texts: int) -> NDArray[np.int64]:
    """The connected group of each text, shape (texts,)."""
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(texts, texts))
    label: NDArray[np.int64] = connected_components(graph, directed=False)[1]
    return label


def alike(texts: Sequence[str], pairs: NDArray[np.integer], threshold: float = THRESHOLD) -> NDArray[np.bool_]:
    """Whether each of these pairs of texts are near-duplicates, as `near_duplicates` means it; `pairs` (pairs, 2), positions in `texts`.

    For pairs that are known beforehand: their cost and memory grow with their number, and with that of their distinct texts. Sketches
    tell first which pairs may be: a share of all shingles, the same for all texts, whose similarity is that of the sets within sampling
    error (Broder: On the resemblance and containment of documents, 1997; Irber et al.: FracMinHash, 2022). What is left is compared
    exactly. A pair at the very threshold is missed by its sketch once in 30,000.
    """
    maybe = np.arange(len(pairs))
    for share in _SHARES:
        distinct, place = np.unique(pairs[maybe], return_inverse=True)
        maybe = maybe[_perhaps([texts[text] for text in distinct.tolist()], place.reshape(-1, 2), threshold, share)]
    distinct, place = np.unique(pairs[maybe], return_inverse=True)
    known: dict[str, int] = {}
    form = np.array([known.setdefault(normal_form(texts[text]), len(known)) for text in distinct.tolist()], dtype=np.int64)
    one, other = form[place.reshape(-1, 2)].T
    owner, shingle = _shingles(list(known))
    shared, union = _shared(_sets(owner, shingle, len(known)), np.stack((one, other), axis=1), 0)
    found = np.zeros(len(pairs), dtype=bool)
    found[maybe] = (one == other) | (shared / np.maximum(union, 1) >= threshold)
    return found


def _perhaps(texts: list[str], pairs: NDArray[np.int64], threshold: float, share: float) -> NDArray[np.bool_]:
    """Whether the sketches of these pairs of texts leave it possible that they are alike, shape (pairs,)."""
    least = threshold - 0.02  # two shingles may have one number
    shared, union = _shared(_sketches(texts, share), pairs, least if share == 1 else 0)
    beyond = 4 * np.sqrt(threshold * (1 - threshold) * union) + 2 if share < 1 else 0
    maybe: NDArray[np.bool_] = union - shared <= (1 - least) * union + beyond
    return maybe


def _sketches(texts: list[str], share: float) -> csr_array:
    """This share of the shingles of each text, chosen by what they are, as sets of numbers of 30 bits, which few shingles share."""
    entries, first, characters, block = [np.empty(0, dtype=np.int64)], 0, 0, list[str]()
    for text in texts:
        block.append(normal_form(text))
        characters += len(block[-1])
        if characters >= _CHARACTERS or first + len(block) == len(texts):
            owner, code = _codes(block)
            number = code.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            number = (number ^ (number >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(34)
            chosen = number < np.uint64(int(share * (1 << 30)))
            entries.append(_distinct((owner[chosen] + first) << 30 | number[chosen].astype(np.int64)))
            first, characters, block = first + len(block), 0, []
    entry = np.concatenate(entries)
    return _sets(entry >> 30, entry & ((1 << 30) - 1), len(texts))


def _sets(owner: NDArray[np.int64], shingle: NDArray[np.int64], texts: int) -> csr_array:
    start = np.append(0, np.cumsum(np.bincount(owner, minlength=texts)))
    return csr_array((np.ones(len(owner), dtype=np.int32), shingle, start), shape=(texts, int(shingle.max(initial=0)) + 1))


def _shared(sets: csr_array, pairs: NDArray[np.integer], least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many elements these pairs of rows share and how many their unions hold, shapes (pairs,).

    Pairs whose sizes alone keep their similarity below `least` are said to share none.
    """
    size, shared = np.diff(sets.indptr), np.zeros(len(pairs), dtype=np.int64)
    of_pairs = size[pairs]
    possible = np.flatnonzero(of_pairs.min(axis=1) >= least * of_pairs.max(axis=1))
    for start in range(0, len(possible), _PAIRS):
        some = possible[start : start + _PAIRS]
        shared[some] = sets[pairs[some, 0]].multiply(sets[pairs[some, 1]]).sum(axis=1)
    return shared, of_pairs.sum(axis=1) - shared


def _expand(pairs: NDArray[np.int64], form: NDArray[np.int64], forms: int) -> NDArray[np.int64]:
    """Pairs of texts, from pairs of normal forms: each text of the one with each of the other, and within one form all with all."""
    order = np.argsort(form, kind="stable")
    count = np.bincount(form, minlength=forms)
    start = np.cumsum(count) - count
    repeated = np.flatnonzero(count > 1)
    left, right = np.concatenate((pairs, np.stack((repeated, repeated), axis=1))).T
    width = count[left] * count[right]
    cell = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
    columns = np.repeat(count[right], width)
    one = order[np.repeat(start[left], width) + cell // columns]
    other = order[np.repeat(start[right], width) + cell % columns]
    once = (one < other) | np.repeat(left != right, width)
    expanded: NDArray[np.int64] = np.stack((np.minimum(one, other), np.maximum(one, other)), axis=1)[once]
    return expanded


def _similar(forms: list[str], threshold: float, most: int | None) -> tuple[NDArray[np.int64], bool]:
    """Pairs of different normal forms at or above the threshold, shape (pairs, 2), in no order; and whether these are all, or from `most`
    on those that connect."""
    if len(forms) < 2:
        return np.zeros((0, 2), dtype=np.int64), True
    owner, shingle = _shingles(forms)
    by_size = np.argsort(np.bincount(owner, minlength=len(forms)), kind="stable")
    rank = np.empty_like(by_size)
    rank[by_size] = np.arange(len(forms))
    rarity = np.argsort(np.argsort(np.bincount(shingle), kind="stable"))
    vocabulary = len(rarity)
    entry = np.sort(rank[owner] * vocabulary + rarity[shingle])  # by text, small ones first, and within a text rarest shingle first
    text, token = entry // vocabulary, entry % vocabulary

    size = np.bincount(text, minlength=len(forms))
    start = np.append(0, np.cumsum(size))
    place = np.arange(len(entry)) - start[text]
    sets = csr_array((np.ones(len(entry), dtype=np.int32), token, start), shape=(len(forms), vocabulary))

    least = np.ceil(threshold * size - 1e-9).astype(np.int64)  # the smallest set that a text of this size can be similar to
    alike = np.ceil(2 * threshold / (1 + threshold) * size - 1e-9).astype(np.int64)  # what it shares with one of its own size
    probing = np.flatnonzero(place <= (size - least)[text])
    indexed = np.flatnonzero(place <= (size - alike)[text])
    indexed = indexed[np.argsort(token[indexed], kind="stable")]
    key = token[indexed] * len(forms) + text[indexed]
    shortest = np.searchsorted(size, least)  # the first text long enough for each text
    low = np.searchsorted(key, token[probing] * len(forms) + shortest[text[probing]])
    high = np.searchsorted(key, token[probing] * len(forms) + text[probing])
    total = np.append(0, np.cumsum(high - low))

    found: list[NDArray[np.int64]] = []
    groups: _Groups | None = None
    done = pairs = 0
    while done < len(probing):
        end = max(done + 1, int(np.searchsorted(total, total[done] + _CHUNK)) - 1)
        some = np.arange(done, end)
        if groups is not None:
            some = some[~groups.within(text[probing[some]], low[some], high[some])]
        width = (high - low)[some]
        one = np.repeat(probing[some], width)
        other = indexed[np.arange(width.sum()) + np.repeat(low[some] - np.cumsum(width) + width, width)]
        x, y = text[one], text[other]
        if groups is not None:
            apart = groups.label[x] != groups.label[y]
            one, other, x, y = one[apart], other[apart], x[apart], y[apart]
        both = size[x] + size[y]
        possible = np.minimum(size[x] - place[one], size[y] - place[other])  # shared at most, if this is the first shared shingle
        keep = possible >= threshold / (1 + threshold) * both - 1e-9
        pair = _distinct(x[keep] * len(forms) + y[keep])
        x, y = pair // len(forms), pair % len(forms)
        shared = sets[x].multiply(sets[y]).sum(axis=1)
        found.append(pair[shared / (size[x] + size[y] - shared) >= threshold])
        pairs += len(found[-1])
        if most is not None and pairs > most and len(found[-1]):
            known = found[-1] if groups is not None else np.concatenate(found)
            label = np.arange(len(forms)) if groups is None else groups.label
            ends = np.stack((label[known // len(forms)], label[known % len(forms)]), axis=1)
            if groups is not None:  # of what connects two groups one pair is enough
                ends, once = np.unique(ends, axis=0, return_index=True)
                found[-1] = known[once]
            groups = _Groups(_connected(ends, len(forms))[label], text[indexed])
        done = end
    pair = _distinct(np.concatenate(found))
    return np.stack((by_size[pair // len(forms)], by_size[pair % len(forms)]), axis=1), groups is None


class _Groups:
    """What is connected so far: `label`, a number a text; and what stretches of the index hold of one group alone."""

    def __init__(self, label: NDArray[np.int64], indexed: NDArray[np.int64]) -> None:
        self.label, self.indexed = label, label[indexed]
        self.changes = np.append(0, np.cumsum(self.indexed[1:] != self.indexed[:-1]))

    def within(self, text: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether all that the index holds from `low` to `high` is of the text's own group; shapes (probes,)."""
        last = len(self.indexed) - 1
        first, end = np.minimum(low, last), np.clip(high - 1, 0, last)
        own: NDArray[np.bool_] = (self.changes[first] == self.changes[end]) & (self.indexed[first] == self.label[text])
        return own | (high <= low)


def _shingles(forms: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct shingles of each text, as columns: the text's position, and the shingle's number from 0."""
    owner, code = _codes(forms)
    shingles, number = np.unique(code, return_inverse=True)
    entry = _distinct(owner * max(1, len(shingles)) + number)
    return entry // max(1, len(shingles)), entry % max(1, len(shingles))


def _codes(forms: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The shingles of each text in their order, as columns: the text's position, and the shingle's characters in one number."""
    # A space at either end makes beginnings and ends of words alike inside and at the edge; no normal form holds a zero character.
    codes = np.frombuffer("".join(f" {form} \0" for form in forms).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    end = codes == 0
    owner = np.cumsum(end) - end
    wide = np.zeros(len(codes), dtype=bool)
    for first, last in _TWO_CHARACTERS if codes.max(initial=0) >= _TWO_CHARACTERS[0][0] else ():
        wide |= (codes >= first) & (codes <= last)
    second, third = np.append(codes[1:], 0), np.append(codes[2:], (0, 0))[: len(codes)]
    third[wide] = 0
    whole = ~end & (second > 0) & ((third > 0) | wide)
    return owner[whole], (codes | second << 21 | third << 42)[whole]


def _distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values sorted, each once; by sorting, for `np.unique` hashes, which is several times slower on many different values."""
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values
