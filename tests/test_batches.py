"""Batches against dictionaries: what a document is to a query, which groups a batch holds, how chunks keep their budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray

from homing.batches import LEFT_OUT, MINED, NEGATIVE, POSITIVE, UNJUDGED, WIDE, Batch, Groups, chunks, epoch_batches, judge
from homing.data import Corpus, Dataset, Mined, Qrels, Queries
from homing.training.fixed import against

QUERIES, DOCUMENTS = 6, 10
Judged = dict[tuple[int, int], int]


@some.composite
def judgments(draw: some.DrawFn) -> Judged:
    """Relevance by query and document, in any order, with at least one positive; some queries have none."""
    pairs = some.tuples(some.integers(0, QUERIES - 1), some.integers(0, DOCUMENTS - 1))
    found = draw(some.dictionaries(pairs, some.sampled_from([0, 0, 1, 2]), min_size=1, max_size=40))
    if not any(found.values()):
        found[next(iter(found))] = 1
    return found


def rows(judged: Judged, random: np.random.Generator, negatives: int = 3) -> Mined:
    """A row a positive in any order, with up to so many distinct negatives, judged and unjudged ones, never a positive of the query."""
    columns = np.array([(query, document, relevance) for (query, document), relevance in judged.items()], dtype=np.int32)
    corpus = Corpus(tuple(f"d{n}" for n in range(DOCUMENTS)), tuple(f"document {n}" for n in range(DOCUMENTS)))
    queries = Queries(tuple(f"q{n}" for n in range(QUERIES)), tuple(f"query {n}" for n in range(QUERIES)))
    train = Dataset(corpus, queries, Qrels(*columns.T))
    pairs = random.permutation([pair for pair, relevance in judged.items() if relevance > 0]).astype(np.int32)
    negative = np.full((len(pairs), negatives), -1, dtype=np.int32)
    for row, (query, _) in enumerate(pairs.tolist()):
        free = [document for document in range(DOCUMENTS) if judged.get((query, document), 0) <= 0]
        drawn = random.permutation(free)[: random.integers(0, negatives + 1)]
        negative[row, : len(drawn)] = drawn
    shape = negative.shape
    columns_of = (
        negative,
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
        np.zeros(shape),
        np.zeros(shape, bool),
        np.zeros(shape, np.int32),
    )
    return Mined(train, pairs[:, 0].copy(), pairs[:, 1].copy(), *columns_of)


def expected(mined: Mined, judged: Judged, chosen: set[int], negative: NDArray[np.int32]) -> dict[str, Any]:
    """The batch of these queries, said with sets and dictionaries."""
    own = [(query, row) for row, query in enumerate(mined.query.tolist()) if query in chosen]
    drawn = {(query, document) for query, row in own for document in negative[row].tolist() if document >= 0}
    documents = {int(mined.positive[row]) for _, row in own} | {document for _, document in drawn}
    relation = {}
    for query in chosen:
        for document in documents:
            pair = query, document
            if pair in judged:
                relation[pair] = POSITIVE if judged[pair] > 0 else NEGATIVE
            else:
                relation[pair] = MINED if pair in drawn else UNJUDGED
    return {"queries": sorted(chosen), "documents": sorted(documents), "relation": relation}


def told(batch: Batch) -> dict[str, Any]:
    queries, documents = batch.queries.tolist(), batch.documents.tolist()
    relation = {(q, d): int(batch.relevance[row, column]) for row, q in enumerate(queries) for column, d in enumerate(documents)}
    return {"queries": queries, "documents": documents, "relation": relation}


@given(judgments(), some.integers(0, 2**32 - 1), some.data())
def test_a_batch_holds_every_relation_of_its_queries_and_documents(judged: Judged, seed: int, data: some.DataObject) -> None:
    random = np.random.default_rng(seed)
    mined = rows(judged, random)
    groups = Groups(mined)
    answered = sorted({query for (query, _), relevance in judged.items() if relevance > 0})
    assert groups.queries.tolist() == answered
    assert len(groups) == len(answered)
    chosen = data.draw(some.lists(some.sampled_from(range(len(answered))), min_size=1, unique=True))
    batch = groups.batch(np.array(chosen), mined.negative)
    found = told(batch)
    assert found == expected(mined, judged, {answered[group] for group in chosen}, mined.negative)
    assert batch.relevance.dtype == np.int8
    assert batch.relevance.shape == (len(batch.queries), len(batch.documents))
    assert len(set(found["documents"])) == len(found["documents"])


@given(judgments(), some.integers(0, 2**32 - 1))
def test_the_draw_of_an_epoch_decides_and_not_that_of_the_rows(judged: Judged, seed: int) -> None:
    mined = rows(judged, np.random.default_rng(seed))
    another = np.full_like(mined.negative, -1)
    another[:, :1] = mined.negative[:, :1]
    groups = Groups(mined)
    everything = np.arange(len(groups))
    answered = set(groups.queries.tolist())
    assert told(groups.batch(everything, another)) == expected(mined, judged, answered, another)
    assert told(groups.batch(everything, another[:, :0])) == expected(mined, judged, answered, another[:, :0])


def test_a_judgment_that_another_query_brought_in() -> None:
    """Query 0 answers with 0 and draws 3; query 1 answers with 3 and draws 0, which is judged for neither of the drawers."""
    judged = {(0, 0): 1, (0, 4): 0, (1, 3): 2, (1, 4): 1, (1, 5): 0}
    mined = rows(judged, np.random.default_rng(0), negatives=2)
    at = {pair: row for row, pair in enumerate(zip(mined.query.tolist(), mined.positive.tolist(), strict=True))}
    negative = np.full((3, 2), -1, dtype=np.int32)
    negative[at[0, 0]] = 3, 4
    negative[at[1, 3]] = 0, -1
    batch = Groups(mined).batch(np.array([1, 0]), negative)
    assert batch.queries.tolist() == [0, 1]
    assert batch.documents.tolist() == [0, 3, 4]
    assert batch.relevance.tolist() == [[POSITIVE, MINED, NEGATIVE], [MINED, POSITIVE, POSITIVE]]


@given(judgments(), some.lists(some.integers(0, DOCUMENTS - 1), min_size=1, unique=True))
def test_judging_a_matrix_leaves_the_unjudged_alone(judged: Judged, documents: list[int]) -> None:
    mined = rows(judged, np.random.default_rng(0))
    relevance = np.full((QUERIES, len(documents)), MINED, dtype=np.int8)
    judge(relevance, mined, np.arange(QUERIES, dtype=np.int32), np.array(sorted(documents), dtype=np.int32))
    for query in range(QUERIES):
        for column, document in enumerate(sorted(documents)):
            said = judged.get((query, document))
            assert relevance[query, column] == (MINED if said is None else POSITIVE if said > 0 else NEGATIVE)


@given(judgments(), some.integers(0, 2**32 - 1))
def test_tokens_of_a_group(judged: Judged, seed: int) -> None:
    random = np.random.default_rng(seed)
    mined = rows(judged, random)
    of_query, of_document = random.integers(1, 50, QUERIES), random.integers(1, 50, DOCUMENTS)
    groups = Groups(mined)
    naive = {query: int(of_query[query]) for query in groups.queries.tolist()}
    for row, query in enumerate(mined.query.tolist()):
        naive[query] += int(of_document[mined.positive[row]]) + sum(int(of_document[n]) for n in mined.negative[row].tolist() if n >= 0)
    assert dict(zip(groups.queries.tolist(), groups.tokens(of_query, of_document).tolist(), strict=True)) == naive


weights = some.lists(some.one_of(some.integers(1, 30), some.integers(1, 5000)), min_size=1, max_size=60)


@given(weights, some.integers(1, 70), some.integers(0, 50), some.integers(0, 2**31))
def test_an_epoch_holds_every_group_once_in_balanced_batches(tokens: list[int], batches: int, epoch: int, seed: int) -> None:
    """A cut is at most half a group from its equal share, so a batch exceeds the share by at most the heaviest group."""
    found = epoch_batches(np.array(tokens), batches, epoch, seed)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(tokens)))
    assert len(found) == min(batches, len(tokens))
    assert all(len(batch) for batch in found)
    heaviest = max(sum(tokens[group] for group in batch.tolist()) for batch in found)
    assert heaviest <= sum(tokens) / len(found) + max(tokens)
    if max(tokens) <= sum(tokens) / len(found):  # no group is so heavy that cuts must make way for one another
        upto = np.cumsum([sum(tokens[group] for group in batch.tolist()) for batch in found])
        assert np.abs(upto - sum(tokens) * np.arange(1, len(found) + 1) / len(found)).max() <= max(tokens) / 2 + 1e-6
    again = epoch_batches(np.array(tokens), batches, epoch, seed)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


@pytest.mark.parametrize("place", [0, 17, 39])
def test_one_giant_group_leaves_the_other_batches_their_groups(place: int) -> None:
    tokens = np.full(40, 10)
    tokens[place] = 100_000
    for epoch in range(20):
        found = epoch_batches(tokens, 8, epoch, 1)
        assert len(found) == 8
        assert all(len(batch) for batch in found)
        assert sorted(np.concatenate(found).tolist()) == list(range(40))


def test_equal_groups_make_equal_batches() -> None:
    assert [len(batch) for batch in epoch_batches(np.full(96, 7), 12, 0, 0)] == [8] * 12


def test_epochs_and_seeds_differ() -> None:
    tokens = np.arange(1, 41)
    orders = {
        tuple(np.concatenate(epoch_batches(tokens, 5, epoch, seed)).tolist()) for epoch, seed in [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]
    }
    assert len(orders) == 5
    partners = [frozenset(epoch_batches(tokens, 5, epoch, 0)[0].tolist()) for epoch in range(10)]
    assert len(set(partners)) == 10  # not only the order of the batches: who meets whom


@given(some.lists(some.integers(1, 300), max_size=60), some.integers(1, 600), some.booleans())  # no text is without a token
def test_chunks_keep_their_budget_cover_all_and_begin_with_the_longest(lengths: list[int], budget: int, padded: bool) -> None:
    found = list(chunks(np.array(lengths, dtype=np.int64), budget, padded))
    assert sorted(position for chunk in found for position in chunk.tolist()) == list(range(len(lengths)))
    assert all(len(chunk) for chunk in found)
    widths = [[lengths[position] for position in chunk.tolist()] for chunk in found]
    flat = [length for width in widths for length in width]
    assert flat == sorted(flat, reverse=True)

    def tokens(width: list[int]) -> int:
        return max(width) * len(width) if padded else sum(width)

    assert all(tokens(width) <= budget or len(width) == 1 for width in widths)
    for place, width in enumerate(widths[:-1]):  # none had room for the next text too
        assert tokens([*width, widths[place + 1][0]]) > budget or (len(width) + 1) * max(width) > WIDE * budget


def test_a_long_text_is_not_the_width_of_very_many_short_ones() -> None:
    """What pools the texts of a chunk pads them."""
    found = list(chunks(np.array([8192, *[10] * 2000]), 16384, padded=False))
    assert [len(chunk) for chunk in found] == [64, 1638, 299]


def test_of_a_large_corpus_a_sample_and_the_batchs_own_documents_stand_against_it(mined: Mined, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where documents are fixed; each is to each query what it is in the batch, or what the training split says of it."""
    monkeypatch.setattr("homing.training.fixed.MOST_DOCUMENTS", 12)
    batch = Groups(mined).batch(np.arange(2), mined.negative)
    qrels = mined.train.qrels
    said = {
        (query, document): grade
        for query, document, grade in zip(qrels.query.tolist(), qrels.document.tolist(), qrels.relevance.tolist(), strict=True)
    }
    drawn = [against(batch, mined, 0, update) for update in (3, 3, 4)]
    for documents, relevance in drawn:
        assert set(batch.documents.tolist()) <= set(documents.tolist())
        assert 12 <= len(documents) <= 12 + len(batch.documents)
        assert (np.diff(documents) > 0).all()
        for row, query in enumerate(batch.queries.tolist()):
            place = np.searchsorted(documents, batch.documents)
            assert (relevance[row, place] == batch.relevance[row]).all()
            for column, document in enumerate(documents.tolist()):
                grade = said.get((query, document))
                if grade is not None:
                    assert relevance[row, column] == (POSITIVE if grade > 0 else LEFT_OUT if grade < 0 else NEGATIVE)
    assert drawn[0][0].tolist() == drawn[1][0].tolist() != drawn[2][0].tolist()
