"""Near-duplicate texts: every pair whose character shingles overlap enough, found exactly.

Two texts are compared as sets of shingles (`homing.texts.shingles`), by Jaccard similarity: shared / all distinct.

Joined exactly and without comparing all with all, by prefix filtering (Bayardo, Ma, Srikant: Scaling Up All Pairs Similarity Search,
WWW 2007) with the length and position filters of PPJoin (Xiao et al.: Efficient Similarity Joins for Near Duplicate Detection, WWW 2008):
with shingles ordered rarest first, two similar texts share one among their first few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from homing.data import Ints
from homing.texts.shingles import codes, distinct, normal_form, sets, shingles

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


def equal(ones: Sequence[str], others: Sequence[str]) -> tuple[Ints, Ints]:
    """The pairs of a text of one side and one of the other that have one normal form: positions on either side, shapes (pairs,).

    Of `others`, those more than twice as long as any of `ones` are not looked at: passages beside questions.
    """
    forms: dict[str, list[int]] = {}
    for place, text in enumerate(ones):
        forms.setdefault(normal_form(text), []).append(place)
    longest = 2 * max(map(len, ones), default=0)
    pairs = [(one, other) for other, text in enumerate(others) if len(text) <= longest for one in forms.get(normal_form(text), ())]
    one, other = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    return one, other


def _connected(pairs: NDArray[np.integer], texts: int) -> NDArray[np.int64]:
    """The connected group of each text, shape (texts,)."""
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(texts, texts))
    label: NDArray[np.int64] = connected_components(graph, directed=False)[1]
    return label


def alike(
    texts: Sequence[str], pairs: NDArray[np.integer], threshold: float = THRESHOLD, first: csr_array | None = None
) -> NDArray[np.bool_]:
    """Whether each of these pairs of texts are near-duplicates, as `near_duplicates` means it; shape (pairs,).

    `pairs`: positions in `texts`, shape (pairs, 2). `first`: `sketches(texts)`, where they are there already.

    For pairs that are known beforehand: their cost and memory grow with their number, and with that of their distinct texts. Sketches
    tell first which pairs may be: a share of all shingles, the same for all texts, whose similarity is that of the sets within sampling
    error (Broder: On the resemblance and containment of documents, 1997; Irber et al.: FracMinHash, 2022). What is left is compared
    exactly. A pair at the very threshold is missed by its sketch once in 30,000.
    """
    maybe = np.arange(len(pairs))
    for share in _SHARES:
        each, place = np.unique(pairs[maybe], return_inverse=True)
        made = first if share == _SHARES[0] else None
        held = _sketches([texts[text] for text in each.tolist()], share) if made is None else made[each]
        maybe = maybe[_perhaps(held, place.reshape(-1, 2), threshold, share)]
    each, place = np.unique(pairs[maybe], return_inverse=True)
    forms: dict[str, int] = {}
    form = np.array([forms.setdefault(normal_form(texts[text]), len(forms)) for text in each.tolist()], dtype=np.int64)
    one, other = form[place.reshape(-1, 2)].T
    shared, union = _shared(sets(*shingles(list(forms)), len(forms)), np.stack((one, other), axis=1), 0)
    found = np.zeros(len(pairs), dtype=bool)
    found[maybe] = (one == other) | (shared / np.maximum(union, 1) >= threshold)
    return found


def sketches(texts: Sequence[str]) -> csr_array:
    """The first sketch of each text, a row, for `alike`: for who compares a text many times. Rows of several calls fit together."""
    return _sketches(texts, _SHARES[0])


def _perhaps(held: csr_array, pairs: NDArray[np.int64], threshold: float, share: float) -> NDArray[np.bool_]:
    """Whether the sketches of these pairs of texts leave it possible that they are alike, shape (pairs,)."""
    least = threshold - 0.02  # two shingles may have one number
    shared, union = _shared(held, pairs, least if share == 1 else 0)
    beyond = 4 * np.sqrt(threshold * (1 - threshold) * union) + 2 if share < 1 else 0
    maybe: NDArray[np.bool_] = union - shared <= (1 - least) * union + beyond
    return maybe


def _sketches(texts: Sequence[str], share: float) -> csr_array:
    """This share of the shingles of each text, chosen by what they are, as sets of numbers of 30 bits, which few shingles share."""
    entries, first, characters, block = [np.empty(0, dtype=np.int64)], 0, 0, list[str]()
    for text in texts:
        block.append(normal_form(text))
        characters += len(block[-1])
        if characters >= _CHARACTERS or first + len(block) == len(texts):
            owner, code = codes(block)
            number = code.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            number = (number ^ (number >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(34)
            chosen = number < np.uint64(int(share * (1 << 30)))
            entries.append(distinct((owner[chosen] + first) << 30 | number[chosen].astype(np.int64)))
            first, characters, block = first + len(block), 0, []
    entry = np.concatenate(entries)
    return sets(entry >> 30, entry & ((1 << 30) - 1), len(texts), 1 << 30)


def _shared(held: csr_array, pairs: NDArray[np.integer], least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many elements these pairs of rows share and how many their unions hold, shapes (pairs,).

    Pairs whose sizes alone keep their similarity below `least` are said to share none.
    """
    size, shared = np.diff(held.indptr), np.zeros(len(pairs), dtype=np.int64)
    of_pairs = size[pairs]
    possible = np.flatnonzero(of_pairs.min(axis=1) >= least * of_pairs.max(axis=1))
    for start in range(0, len(possible), _PAIRS):
        some = possible[start : start + _PAIRS]
        shared[some] = held[pairs[some, 0]].multiply(held[pairs[some, 1]]).sum(axis=1)
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
    """Pairs of different normal forms at or above the threshold, shape (pairs, 2), in no order; and whether these are all, or beyond `most`
    those that connect."""
    if len(forms) < 2:
        return np.zeros((0, 2), dtype=np.int64), True
    index = _Index(forms, threshold)
    bound = _Bound(index, most)
    for probes in index.chunks():
        one, other = index.candidates(probes[~bound.settles(probes)])
        apart = bound.apart(index.text[one], index.text[other])
        bound.add(index.similar(one[apart], other[apart]))
    pair = distinct(np.concatenate(bound.found))
    return index.by_size[np.stack(np.divmod(pair, len(forms)), axis=1)], bound.complete


class _Index:
    """Texts as sets of shingles, and of each text's first few the texts that have it among theirs: two similar texts meet there.

    Texts are numbered by the size of their sets, small ones first; `by_size` (texts,) are their positions among the forms. The shingles
    of all texts are columns (shingles of all texts,), a text after the other and the rarest of a text first: `text`, `shingle`, and
    `place` within its text. `probing` are those that similar texts are looked for by, `indexed` (sorted by shingle, then text) those that
    they are found by, both as positions in the columns. The candidates of probe i are `indexed[low[i]:high[i]]`: texts numbered before.
    """

    def __init__(self, forms: list[str], threshold: float) -> None:
        self.threshold, texts = threshold, len(forms)
        owner, number = shingles(forms)
        self.by_size = np.argsort(np.bincount(owner, minlength=texts), kind="stable")
        rank = np.empty_like(self.by_size)
        rank[self.by_size] = np.arange(texts)
        rarity = np.argsort(np.argsort(np.bincount(number), kind="stable"))
        entry = np.sort(rank[owner] * len(rarity) + rarity[number])
        self.text, self.shingle = np.divmod(entry, len(rarity))
        self.sets = sets(self.text, self.shingle, texts)
        self.size = np.diff(self.sets.indptr).astype(np.int64)
        self.place = np.arange(len(entry)) - self.sets.indptr[self.text]

        smallest = np.ceil(threshold * self.size - 1e-9).astype(np.int64)  # set that a text of this size can be similar to
        shared = np.ceil(2 * threshold / (1 + threshold) * self.size - 1e-9).astype(np.int64)  # with one of its own size
        self.probing = np.flatnonzero(self.place <= (self.size - smallest)[self.text])
        indexed = np.flatnonzero(self.place <= (self.size - shared)[self.text])
        self.indexed = indexed[np.argsort(self.shingle[indexed], kind="stable")]
        key = self.shingle[self.indexed] * texts + self.text[self.indexed]
        text, shingle = self.text[self.probing], self.shingle[self.probing] * texts
        self.low = np.searchsorted(key, shingle + np.searchsorted(self.size, smallest)[text])
        self.high = np.searchsorted(key, shingle + text)

    def __len__(self) -> int:
        return len(self.size)

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """The probes in their order, as many at a time as have about `_CHUNK` candidates together."""
        total = np.append(0, np.cumsum(self.high - self.low))
        done = 0
        while done < len(self.probing):
            end = max(done + 1, int(np.searchsorted(total, total[done] + _CHUNK)) - 1)
            yield np.arange(done, end)
            done = end

    def candidates(self, probes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The probes' shingles, each as often as it has candidates, and these, as positions in the columns; shapes (candidates,)."""
        width = (self.high - self.low)[probes]
        place = np.arange(width.sum()) + np.repeat(self.low[probes] - np.cumsum(width) + width, width)
        return np.repeat(self.probing[probes], width), self.indexed[place]

    def similar(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the texts that share these shingles the similar ones, each pair once: one * texts + other, sorted; shape (pairs,)."""
        x, y = self.text[one], self.text[other]
        possible = np.minimum(self.size[x] - self.place[one], self.size[y] - self.place[other])  # if this is the first that they share
        keep = possible >= self.threshold / (1 + self.threshold) * (self.size[x] + self.size[y]) - 1e-9
        pair = distinct(x[keep] * len(self) + y[keep])
        x, y = np.divmod(pair, len(self))
        shared = self.sets[x].multiply(self.sets[y]).sum(axis=1)
        similar: NDArray[np.int64] = pair[shared / (self.size[x] + self.size[y] - shared) >= self.threshold]
        return similar


class _Bound:
    """Takes the pairs that are found, all of them up to `most`; beyond that only such as connect what those before don't.

    `found` are the pairs as `_Index.similar` gives them, `complete` whether they are all. `label` (texts,) tells what is connected: each
    text alone, until the bound is reached.
    """

    def __init__(self, index: _Index, most: int | None) -> None:
        self.index, self.most = index, most
        self.found: list[NDArray[np.int64]] = []
        self.complete = True
        self._connect(np.arange(len(index)))

    def _connect(self, label: NDArray[np.int64]) -> None:
        self.label = label
        self._indexed = label[self.index.text[self.index.indexed]]
        self._changes = np.append(0, np.cumsum(self._indexed[1:] != self._indexed[:-1]))

    def settles(self, probes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a probe need not be looked at, since all of its candidates are connected with it; shape (probes,)."""
        low, high, last = self.index.low[probes], self.index.high[probes], len(self._indexed) - 1
        first, end = np.minimum(low, last), np.clip(high - 1, 0, last)
        own = self._indexed[first] == self.label[self.index.text[self.index.probing[probes]]]
        settled: NDArray[np.bool_] = (own & (self._changes[first] == self._changes[end])) | (high <= low)
        return settled

    def apart(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether these pairs of texts are still to be compared; shape (pairs,)."""
        found: NDArray[np.bool_] = self.label[one] != self.label[other]
        return found

    def add(self, pair: NDArray[np.int64]) -> None:
        """Take pairs that were found."""
        self.found.append(pair)
        if self.complete:
            if self.most is None or sum(map(len, self.found)) <= self.most:
                return
            self.found = [distinct(np.concatenate(self.found))]
            if len(self.found[0]) <= self.most:
                return
        known = self.found[-1]
        if len(known):
            ends, once = np.unique(self.label[np.stack(np.divmod(known, len(self.index)), axis=1)], axis=0, return_index=True)
            self.found[-1] = known[once]  # of what connects two groups one pair is enough
            self.complete = False
            self._connect(_connected(ends, len(self.index))[self.label])
