"""Deal queries to train, dev and test so that no side knows another's: whole groups, each by a hash of its content.

A group is what hangs together through a shared positive document or through nearly equal queries. Its value is the smallest of the seeded
hashes of its queries' texts, and small values are test, the next ones dev, the rest train. A smallest value only falls when queries
join, so that yesterday's test queries are test queries of tomorrow's larger file too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from homing.arguments import demand
from homing.data import SIDES, Corpus, Dataset, Ints, Qrels, Queries, Side, Splits, Texts, spaced, text_id
from homing.errors import SplitError
from homing.settings import Splitting
from homing.texts.near import MOST
from homing.texts.shingles import normal_form
from homing.ties import Ties, groups_of_given

_TRAIN, _DEV, _TEST, _REMOVED = range(4)
_MOST = 1.4  # dev and test together may hold this many times the queries that were wanted
_LEAST = 0.5  # each of them must hold this share of what was wanted, and no group may be larger than that
_MOST_REMOVED = 0.5  # of all queries


def split(data: Dataset, settings: Splitting | None = None, *, seed: int | None = None) -> Splits:
    """Train, dev and test over the same corpus and queries; `seed`, where given, stands for the settings' own.

    Every query with a judgment gets a side, with all of its judgments. No query, no near-duplicate of it and (unless `settings.by` is
    "query") no positive document is on two sides. A group larger than half of a side goes to train whole; queries that had to be
    taken out for the sake of dev and test are counted in `removed`, and their judgments are on no side. The outcome depends on
    the texts, the judgments and the seed, not on their order.

    Raises SplitError where dev and test cannot be filled without removing more than half of the queries or emptying train.
    """
    demand(Dataset, data=data)
    demand(Splitting | None, settings=settings)
    settings = settings or Splitting()
    settings = settings if seed is None else replace(settings, seed=seed)
    links = Ties.of(data, settings.by)
    relevant = np.isin(links.queries, data.qrels.query[data.qrels.relevance > 0])
    texts = [data.queries.texts[query] for query in links.queries.tolist()]
    value = np.array([_hash(text, settings.seed) for text in texts])

    side = _deal(links.groups(np.ones(len(texts), dtype=bool)), value, settings)
    order = np.lexsort((texts, value, links.degree))
    for wanted, share in ((_TEST, settings.test), (_DEV, settings.dev)):
        least = max(1, math.ceil(_LEAST * share * relevant.sum()))
        have = _top_up(side, wanted, least, links, relevant, order)
        if have < least or (side == _REMOVED).sum() > _MOST_REMOVED * len(side):
            raise _too_dense(side, relevant, links, settings.by, f"{SIDES[wanted]} cannot be filled: {have} of at least {least:,} queries")
    if not relevant[side == _TRAIN].any():
        raise _too_dense(side, relevant, links, settings.by, "train is left without a query that has a relevant document")

    sides = {name: data.with_qrels(data.qrels.of(links.queries[side == code])) for code, name in enumerate(SIDES)}
    return Splits(**sides, by=settings.by, groups=_groups(len(data.queries), links, side), removed=_removed(links, side))


def freeze(given: Dataset | Splits, old: Splits, settings: Splitting | None = None) -> Splits:
    """The test side of `old` as it was, and train and dev without what would leak into it.

    The corpus is that of `given` and the documents of `old` that it lacks: nothing that the old test was searched in is gone. Test keeps
    its queries, judgments and groups; judgments of its queries that are new are left out (`notes["newer_judgments_of_test"]`).
    `notes["foreign_test"]` counts its queries where `old` has no text in common with `given` at all. Queries of `given` that are
    near-duplicates of a test query, or share a positive with one (unless `settings.by` is "query"), stand in `removed`. What is left of a
    dataset is dealt to train and dev: what was on one of these sides stays there as far as its group allows (a group with a train query is
    train), and a new group goes by its hash. Splits keep their own train and dev.

    Raises SplitError where train is left without a query that has a relevant document, or dev with less than half of its share.
    """
    settings = settings or Splitting()
    parts = (given.train, given.dev) if isinstance(given, Splits) else (given,)
    data, sides = _joined(parts[0], old)
    test, own = sides["test"], Qrels.joined(part.qrels for part in parts)
    links = Ties.of(data.with_qrels(Qrels.joined([own, test])), settings.by)
    relevant = np.isin(links.queries, own.query[own.relevance > 0])
    frozen = np.isin(links.queries, test.queries)
    side = np.select([frozen, links.tied_to(frozen)], [_TEST, _REMOVED], _TRAIN)
    if isinstance(given, Splits):
        side[(side == _TRAIN) & np.isin(links.queries, given.dev.qrels.queries)] = _DEV
    else:
        was: dict[Side, NDArray[np.bool_]] = {name: np.isin(links.queries, sides[name].queries) for name in SIDES[:2]}
        _fill_dev(side, links, relevant, data.queries, was, settings)
    if not relevant[side == _TRAIN].any():
        raise _too_dense(side, relevant, links, settings.by, "train is left without a query that has a relevant document")
    data.notes["newer_judgments_of_test"] = int(np.isin(own.query, test.queries).sum()) - len(_pairs(own) & _pairs(test))
    ours = parts[0]
    apart = len(data.queries) + len(data.corpus) == len(ours.queries) + len(ours.corpus) + len(old.test.queries) + len(old.test.corpus)
    data.notes["foreign_test"] = len(np.unique(test.query)) if apart else 0
    groups = _groups(len(data.queries), links, side)
    groups[test.queries] = groups.max() + 1 + _of_old(data.queries, test.queries, old)
    return Splits(
        train=data.with_qrels(own.of(links.queries[side == _TRAIN])),
        dev=data.with_qrels(own.of(links.queries[side == _DEV])),
        test=data.with_qrels(test),
        by="given" if isinstance(given, Splits) else settings.by,
        groups=np.unique(groups, return_inverse=True)[1].astype(np.int32),
        removed=_removed(links, side),
    )


def deal_dev(train: Dataset, test: Dataset, settings: Splitting | None = None) -> Splits:
    """Train and dev dealt from `train`, beside a test that is taken as it is; `settings.dev` is dev's share of `train`.

    `train` and `test` are of one corpus and one set of queries. Train and dev share no query, no near-duplicate and (unless
    `settings.by` is "query") no positive; as in `split`, queries that had to be taken out for that stand in `removed`. Test has no say in
    it: what it shares with the other two is left as it is, for `checking.leaks` to name. `notes["dev_from_train"]` counts dev's queries.

    Raises SplitError where half of the queries would have to be removed, or dev has less than half of its share.
    """
    settings = settings or Splitting()
    links = Ties.of(train, settings.by)
    relevant = np.isin(links.queries, train.qrels.query[train.qrels.relevance > 0])
    side = np.full(len(links.queries), _TRAIN)
    none = np.zeros(len(side), dtype=bool)
    _fill_dev(side, links, relevant, train.queries, {"train": none, "dev": none}, settings)
    if (side == _REMOVED).sum() > _MOST_REMOVED * len(side) or not relevant[side == _TRAIN].any():
        raise _too_dense(side, relevant, links, settings.by, "too little is left of train beside a dev that shares nothing with it")
    train.notes["dev_from_train"] = int((side == _DEV).sum())
    rest, dev = (train.with_qrels(train.qrels.of(links.queries[side == code])) for code in (_TRAIN, _DEV))
    sides = (rest, dev, train.with_qrels(test.qrels))
    return Splits(*sides, by="given", groups=groups_of_given(sides, settings.by), removed=_removed(links, side))


def _fill_dev(
    side: NDArray[np.int64], links: Ties, relevant: NDArray[np.bool_], queries: Queries, was: dict[Side, NDArray[np.bool_]],
    settings: Splitting,
) -> None:  # fmt: skip
    """Deal dev from the train queries, in place, and remove what would leak. Raises SplitError where that leaves half of its share."""
    texts = [queries.texts[query] for query in links.queries.tolist()]
    value = np.array([_hash(text, settings.seed) for text in texts])
    least = max(1, math.ceil(_LEAST * settings.dev * relevant[side == _TRAIN].sum()))
    _deal_dev(side, links.groups(side == _TRAIN), value, was, settings)
    have = _top_up(side, _DEV, least, links, relevant, np.lexsort((texts, value, links.degree)))
    if have < least:
        raise _too_dense(side, relevant, links, settings.by, f"dev cannot be filled: {have} of at least {least:,} queries")


def _joined(data: Dataset, old: Splits) -> tuple[Dataset, dict[Side, Qrels]]:
    """The texts of both, those of `data` first and in their places; and the judgments of each side of `old` over them."""
    queries, query = _with(data.queries, old.test.queries, "q")
    corpus, document = _with(data.corpus, old.test.corpus, "d")
    sides = {name: Qrels(query[part.qrels.query], document[part.qrels.document], part.qrels.relevance)
             for name, part in zip(SIDES, old, strict=True)}  # fmt: skip
    columns = _columns(data.queries, old.test.queries, query, len(queries[0]))
    return Dataset(Corpus(*corpus), Queries(*queries, columns, data.queries.values), data.qrels, dict(data.notes)), sides


def _columns(ours: Queries, theirs: Queries, place: Ints, queries: int) -> dict[str, tuple[str, ...]]:
    """The columns of both; `place`: where each of their queries stands among all. What a query has in `ours` stays."""
    found = {}
    for name in sorted({*ours.columns, *theirs.columns}):
        own = ours.columns.get(name, ("",) * len(ours))
        values = [*own, *[""] * (queries - len(own))]
        for at, value in zip(place.tolist(), theirs.columns.get(name, ()), strict=False):
            values[at] = values[at] or value
        found[name] = tuple(values)
    return found


def _with(ours: Texts, theirs: Texts, prefix: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], Ints]:
    """Ids and texts of both, and where each text of `theirs` stands in them; an id that is taken gives way to one made of the text.

    Of texts that differ in white space alone, theirs stays.
    """
    place = {spaced(text): position for position, text in enumerate(ours.texts)}
    ids, texts, taken = list(ours.ids), list(ours.texts), set(ours.ids)
    for name, text in zip(theirs.ids, theirs.texts, strict=True):
        if (key := spaced(text)) in place:
            texts[place[key]] = text
        else:
            place[key] = len(texts)
            ids.append(text_id(prefix, text) if name in taken else name)
            texts.append(text)
            taken.add(ids[-1])
    return (tuple(ids), tuple(texts)), np.array([place[spaced(text)] for text in theirs.texts], dtype=np.int32)


def _pairs(qrels: Qrels) -> set[tuple[int, int]]:
    return set(zip(qrels.query.tolist(), qrels.document.tolist(), strict=True))


def _of_old(queries: Queries, asked: Ints, old: Splits) -> NDArray[np.int64]:
    """The groups that these queries had in `old`."""
    place = {text: position for position, text in enumerate(old.test.queries.texts)}
    return old.groups[[place[queries.texts[query]] for query in asked.tolist()]].astype(np.int64)


def _deal_dev(
    side: NDArray[np.int64], group: NDArray[np.int64], value: NDArray[np.float64], was: dict[Side, NDArray[np.bool_]], settings: Splitting
) -> None:
    """Move to dev, in place, what belongs there of the train queries: whole groups that were dev, and new ones by their hashes."""
    free = side == _TRAIN
    dealt = np.zeros(len(side), dtype=bool)
    dealt[free] = _deal(np.unique(group[free], return_inverse=True)[1], value[free], settings) == _DEV
    train, dev = (np.bincount(group, was[name])[group] > 0 for name in ("train", "dev"))
    side[free & np.where(train | dev, dev & ~train, dealt)] = _DEV


def _groups(queries: int, links: Ties, side: NDArray[np.int64]) -> Ints:
    """The group of each query of the dataset, shape (queries,); one without a judgment is a group of its own."""
    groups = np.arange(queries) + len(links.queries)
    groups[links.queries] = links.groups(side != _REMOVED)
    return np.unique(groups, return_inverse=True)[1].astype(np.int32)


def _removed(links: Ties, side: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(links.queries[side == _REMOVED].tolist())


def _hash(text: str, seed: int) -> float:
    """A number in [0, 1) of the text's normal form and the seed, the same on every machine."""
    raw = blake2b(normal_form(text).encode("utf-8", "surrogatepass"), digest_size=8, key=str(seed).encode()).digest()
    return float(int.from_bytes(raw, "big") >> 11) / 2.0**53


def _deal(group: NDArray[np.int64], value: NDArray[np.float64], settings: Splitting) -> NDArray[np.int64]:
    """The side of each query, shape (judged,).

    A group of many queries has a small smallest value, so that plain thresholds would favour test and dev. They are halved until both
    together hold no more than 1.4 times what is wanted: coarsely, so that growing data seldom moves them.
    """
    size = np.bincount(group)
    smallest = np.full(len(size), np.inf)
    np.minimum.at(smallest, group, value)
    fits_test = size <= max(1.0, _LEAST * settings.test * len(group))
    fits_dev = size <= max(1.0, _LEAST * settings.dev * len(group))
    for halvings in range(64):
        scale = 0.5**halvings
        test = smallest < scale * settings.test
        dev = ~test & (smallest < scale * (settings.test + settings.dev))
        side = np.select([test & fits_test, dev & fits_dev], [_TEST, _DEV], _TRAIN)
        if size[side != _TRAIN].sum() <= _MOST * (settings.test + settings.dev) * len(group):
            break
    return side[group]


def _top_up(side: NDArray[np.int64], wanted: int, least: float, links: Ties, relevant: NDArray[np.bool_], order: NDArray[np.int64]) -> int:
    """Fill one side in place until `least` of its queries have a positive, or too many are removed; how many it has then.

    Train queries come in the given order, the fewest ties first; those tied to them that stay behind in train are removed.
    """
    have = int(relevant[side == wanted].sum())
    for query in order.tolist():
        if have >= least or (side == _REMOVED).sum() > _MOST_REMOVED * len(side):
            break
        tied = links.neighbours(query)
        if side[query] in (_TRAIN, _REMOVED) and relevant[query] and np.isin(side[tied], (wanted, _TRAIN, _REMOVED)).all():
            side[query] = wanted
            side[tied[side[tied] == _TRAIN]] = _REMOVED
            have += 1
    return have


def _too_dense(side: NDArray[np.int64], relevant: NDArray[np.bool_], links: Ties, by: str, what: str) -> SplitError:
    if relevant.sum() < 3:
        remedy = "Give at least 3 queries that have a relevant document, one for each side."
    elif links.crowded:
        remedy = (
            f"More than {MOST:,} pairs of queries are near-duplicates, as a template's are. A model that saw one has seen them all: "
            "give one or a few of each template, or --dev and --test files of your own."
        )
    elif by == "group" and (links.holders.sum(axis=1) > 1).any():
        remedy = (
            "Too many queries share their relevant documents or are near-duplicates. Use --split-by query to let sides share documents."
        )
    else:
        remedy = "Too many queries are near-duplicates of one another. Give more varied queries, or --dev and --test files of your own."
    return SplitError(
        what,
        got=f"{len(side):,} queries, {relevant.sum():,} of them with a relevant document, {(side == _REMOVED).sum():,} removed",
        expected="no query, near-duplicate or positive on two sides, and at most half of the queries removed for it",
        remedy=remedy,
    )
