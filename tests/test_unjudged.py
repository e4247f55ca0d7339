"""Mining from a corpus: what is found, what is left out, where each negative comes from, and that the exam is never looked at."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homing
from homing import unjudged
from homing.batches import LEFT_OUT, MINED, NEGATIVE, POSITIVE, Groups
from homing.builder import Builder
from homing.data import UNSURE, Corpus, Dataset, Mined, Qrels, Queries
from homing.errors import SettingError
from homing.formats.mined import read_mined, save_mined
from homing.mining import mine, resolved
from homing.negatives import redraw
from homing.retrievers import shards
from homing.retrievers.bm25 import BM25
from homing.retrievers.dense import Dense
from homing.retrievers.fused import Fused
from homing.settings import Mining
from homing.texts.near import alike, near_duplicates, sketches
from homing.unjudged import Unjudged

BM25_, DENSE, FUSED = (Mining(retriever=name) for name in ("bm25", "dense", "fused"))  # type: ignore[arg-type]
RANDOM, OF_BM25, OF_LIST = Mined.KINDS.index("random"), Mined.SOURCES.index("bm25"), Mined.SOURCES.index("list")
TOPICS = ("river bank water", "stone wall house", "ship sea storm", "train rail station", "book page ink")


class Letters:
    """An encoder: counts of letters, as a unit vector."""

    name, digest, similarity, dimension = "letters", "letters", "cosine", 26
    prompts: ClassVar[dict[str, str]] = {}

    def digest_of(self, kind: str) -> str:
        return self.digest

    def encode(self, texts: list[str], kind: str, *, progress: str = "") -> np.ndarray:
        counts = np.array([[text.count(chr(97 + letter)) for letter in range(26)] for text in texts], dtype=np.float32).reshape(-1, 26)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def pairs(each: int = 30, judged: int = 0) -> Dataset:
    """Topics of documents; of each topic one query with one positive, and `judged` negatives of the next topic."""
    builder, generator = Builder(), np.random.default_rng(0)
    for number, topic in enumerate(TOPICS):
        documents = [f"{' '.join(generator.permutation(topic.split()))} number{number}x{place}" for place in range(each)]
        for document in documents:
            builder.document(document)
        query = builder.query(f"{topic.split()[0]} number{number}x0")
        builder.judge(query, builder.document(documents[0]), 1)
    dataset = builder.dataset()
    for number in range(len(TOPICS)):
        for place in range(judged):
            builder.judge(number, (number * each + each + place) % len(dataset.corpus), 0)
    return builder.dataset()


def negatives(mined: Mined) -> list[tuple[int, int, str, str, bool, int]]:
    """Every candidate of the pool: query, document, kind, source, whether judged, rank."""
    assert mined.pool is not None
    columns = [getattr(mined.pool, name).tolist() for name in ("query", "document", "kind", "source", "judged", "rank")]
    return [(q, d, Mined.KINDS[k], Mined.SOURCES[s], j, r) for q, d, k, s, j, r in zip(*columns, strict=True)]


def test_pairs_alone_are_mined_from_the_corpus_by_words() -> None:
    data = pairs()
    mined = mine(data)
    assert (mined.negative >= 0).all()
    assert not mined.judged.any()
    assert set(mined.source.ravel().tolist()) == {OF_BM25}
    run = BM25()
    run.fit(data.corpus.texts)
    found = run.search(data.queries.texts, 100)
    for query, document, _, _, _, rank in negatives(mined):
        assert found.document[query, rank - 1] == document
        assert document not in data.qrels.positives[query]
    first = [(kind, rank) for query, _, kind, _, _, rank in negatives(mined) if query == 0]
    assert [kind for kind, _ in first] == ["hard"] * 10 + ["medium"] * (len(first) - 10)
    assert 20 < len(first) < 30
    assert first[0][1] >= 2  # the positive is at rank 1


def test_judged_ones_come_first_and_chance_last() -> None:
    data = pairs(each=4, judged=2)
    mined = mine(data, replace(BM25_, negatives=6, hard=2))
    for row in range(len(mined)):
        sources = mined.source[row].tolist()
        assert sources == sorted(sources)
        assert mined.judged[row].tolist() == [True, True, False, False, False, False]
        assert sources[:3] == [OF_LIST, OF_LIST, OF_BM25]
        assert mined.kind[row, -1] == RANDOM
        assert mined.rank[row, -1] == mined.score[row, -1] == 0
        documents = mined.negative[row].tolist()
        assert len(set(documents)) == 6
        assert not set(documents) & data.qrels.positives[int(mined.query[row])]


def test_the_window_of_ranks_is_kept_to() -> None:
    mined = mine(pairs(), replace(BM25_, first_rank=5, last_rank=16))
    ranks = sorted({rank for *_, source, _, rank in negatives(mined) if source == "bm25"})
    assert ranks == list(range(5, 17))
    kinds = Counter(kind for query, _, kind, _, _, _ in negatives(mined) if query == 0)
    assert kinds == {"hard": 10, "easy": 2}


def test_found_ones_score_below_the_positive() -> None:
    data, encoder = pairs(), Letters()
    for cap, settings in ((0.95, DENSE), (0.8, DENSE), (0.8, FUSED), (50.0, DENSE)):
        mined = mine(data, replace(settings, cap=cap), encoder=encoder)  # type: ignore[arg-type]
        queries, documents = encoder.encode(list(data.queries.texts), "query"), encoder.encode(list(data.corpus.texts), "document")
        scores = queries @ documents.T
        lowest = {query: min(scores[query, list(positives)]) for query, positives in data.qrels.positives.items()}
        over = [scores[q, d] > cap * lowest[q] + 1e-6 for q, d, _, source, _, _ in negatives(mined) if source != "random"]
        assert not any(over)
    assert len(over) > 100  # type: ignore[possibly-undefined]  # nearly all are left with a cap that takes all


def test_a_negative_score_of_the_positive_caps_below_it() -> None:
    class Opposite(Letters):
        def encode(self, texts: list[str], kind: str, *, progress: str = "") -> np.ndarray:
            return super().encode(texts, kind) * (-1 if kind == "query" else 1)

    data = pairs()
    said: list[str] = []
    mined = mine(data, DENSE, encoder=Opposite(), say=said.append)  # type: ignore[arg-type]  # the best found score 0, above any positive
    assert any("most of them by chance" in line and "above 0.95 of a positive (--cap)" in line for line in said)
    assert {source for *_, source, _, _ in negatives(mined)} == {"random"}


def test_what_is_relevant_to_an_equal_query_is_no_negative(tmp_path: Path) -> None:
    builder = Builder()
    documents = [builder.document(f"{word} river bank water number{place}") for place, word in enumerate(("hold", "drain", "flood", "dam"))]
    asked = [builder.query(text) for text in ("river bank water", "River bank: water?", "river bank waters")]
    for query, document, relevance in ((0, 0, 1), (0, 3, 0), (1, 1, 1), (1, 0, 0), (2, 2, 1)):
        builder.judge(asked[query], documents[document], relevance)
    data = builder.dataset()
    said: list[str] = []
    mined = mine(data, BM25_, say=said.append)
    drawn = {query: {d for q, d, *_ in negatives(mined) if q == query} for query in asked}
    assert drawn == {0: {2, 3}, 1: {0, 2, 3}, 2: {0, 1, 3}}  # 1 is relevant to query 1, which is 0; 0 was judged for 1
    assert any(line.startswith("1 documents are no negatives") for line in said)
    save_mined(mined, tmp_path)
    for each in (mined, read_mined(tmp_path, data)):
        batch = Groups(each).batch(np.arange(3), each.negative)
        assert batch.relevance[0].tolist() == [POSITIVE, LEFT_OUT, MINED, NEGATIVE]
        assert batch.relevance[1, :2].tolist() == [NEGATIVE, POSITIVE]
    assert data.changes is None


def test_near_duplicates_of_a_positive_are_left_out() -> None:
    builder = Builder()
    text = "How does the river bank hold the water back when the snow melts in the mountains in spring"
    query = builder.query("river bank water")
    builder.judge(query, builder.document(text), 1)
    same = [builder.document(text.upper() + "!"), builder.document(text + " 2")]
    other = builder.document("the river bank and its water")
    for number in range(20):
        builder.document(f"filler {number}")
    mined = mine(builder.dataset(), replace(BM25_, negatives=15))
    documents = set(mined.negative.ravel().tolist())
    assert not documents & set(same)
    assert other in documents


@given(st.lists(st.text("ab ", min_size=1, max_size=12).filter(str.strip), min_size=2, max_size=9, unique=True), st.floats(0.2, 1))
def test_pairs_are_near_duplicates_as_the_join_says(texts: list[str], threshold: float) -> None:
    every = np.array([(x, y) for x in range(len(texts)) for y in range(x + 1, len(texts))])
    joined = set(map(tuple, near_duplicates(texts, threshold).tolist()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homing.texts.near._PAIRS", 5)
        found = alike(texts, every, threshold)
    assert {tuple(pair) for pair in every[found].tolist()} == joined


def test_a_query_is_no_negative_of_its_own() -> None:
    """In a corpus of questions the query itself is what shares most words with it."""
    builder = Builder()
    for number in range(6):
        query = builder.query(f"how do I mend a bicycle chain of kind {number}")
        builder.document(f"How do I mend a bicycle chain of kind {number}?")
        builder.judge(query, builder.document(f"broken links of model {number}, and their repair"), 1)
    for settings in (replace(BM25_, negatives=8), replace(BM25_, negatives=8, first_rank=40, last_rank=50)):  # the second: by chance alone
        data = builder.dataset()
        mined = mine(data, settings)
        for query, document, *_ in negatives(mined):
            assert data.corpus.texts[document].lower() != data.queries.texts[query].lower() + "?"
        assert (mined.train.qrels.relevance == UNSURE).sum() == 6  # nor in a batch that another query brings it into
        assert (mined.negative >= 0).all()


@pytest.mark.parametrize("relevance", [1, -1])
def test_chance_finds_what_is_left_where_nearly_all_is_judged(relevance: int) -> None:
    builder, free = Builder(), {7, 170, 299}
    query = builder.query("anything")
    for number in range(300):
        document = builder.document(f"{number} {'abcdefghij'[number % 10] * 9} {number * number}")
        if number not in free:
            builder.judge(query, document, relevance if number else 1)
    mined = mine(builder.dataset(), Mining(retriever="list"))
    assert {document for _, document, *_ in negatives(mined)} == free
    other = builder.query("another")
    builder.judge(other, 0, 1)
    both = mine(builder.dataset(), Mining(retriever="list"))
    assert {document for asked, document, *_ in negatives(both) if asked == query} == free
    assert [asked for asked, *_ in negatives(both)] == [query] * 3 + [other] * 3


def test_what_a_person_was_unsure_of_is_not_mined() -> None:
    data = pairs()
    hardest = int(mine(data).negative[0, 0])
    unsure = data.changed(Qrels(*np.array([[0], [hardest], [-1]], dtype=np.int32)))
    for epoch in range(9):
        assert hardest not in redraw(mine(unsure), epoch)[0]


def test_dev_and_test_are_never_looked_at(tmp_path: Path) -> None:
    """A document that is a positive of the exam is mined like any other, and the exam's judgments change nothing."""
    data = pairs(judged=1)
    train = data.with_qrels(data.qrels.of(np.array([0, 1, 2])))
    exam = [data.with_qrels(data.qrels.of(np.array([3, 4]))), data.with_qrels(data.qrels.of(np.array([4])))]
    files = []
    for number, other in enumerate(exam):
        builder = Builder()
        for side, part in (("train", train), ("dev", other)):
            for query, documents, relevance in part.qrels.lists():
                for document, grade in zip(documents.tolist(), relevance.tolist(), strict=True):
                    builder.judge(query, document, grade, side)  # type: ignore[arg-type]
        place = tmp_path / str(number)
        place.mkdir()
        save_mined(mine(data.with_qrels(builder.qrels("train")), replace(BM25_, negatives=40)), place)
        files.append((place / "rows.parquet").read_bytes() + (place / "pool.parquet").read_bytes())
    assert files[0] == files[1]
    mined = read_mined(tmp_path / "0", train)
    assert mined.pool is not None
    exams_positives = {document for documents in exam[0].qrels.positives.values() for document in documents}
    assert exams_positives & set(mined.pool.document.tolist())


def test_what_is_mined_is_mined_and_what_is_judged_is_judged_in_a_batch() -> None:
    data = pairs(judged=2)
    mined = mine(data, replace(BM25_, negatives=4))
    batch = Groups(mined).batch(np.arange(5), mined.negative)
    for row, query in enumerate(batch.queries.tolist()):
        told = dict(zip(batch.documents.tolist(), batch.relevance[row].tolist(), strict=True))
        own = np.flatnonzero(mined.query == query)[0]
        for document, judged in zip(mined.negative[own].tolist(), mined.judged[own].tolist(), strict=True):
            assert told[document] == (NEGATIVE if judged else MINED)
        assert all(told[positive] == POSITIVE for positive in data.qrels.positives[query])


def test_which_retriever_follows_from_the_judgments() -> None:
    assert resolved(pairs(judged=3), Mining()).retriever == "list"
    assert resolved(pairs(judged=2), Mining()).retriever == "bm25"
    assert resolved(pairs(), Mining(), Letters()).retriever == "dense"  # type: ignore[arg-type]
    assert resolved(pairs(), Mining(negatives=0, hard=0)).retriever == "list"
    assert resolved(pairs(judged=9), FUSED) is FUSED
    with pytest.raises(SettingError, match="--retriever dense needs a model"):
        mine(pairs(), DENSE)


def test_lists_can_be_ranked_by_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pairs(judged=12)
    for settings in (BM25_, DENSE, FUSED):
        mined = mine(data, settings, encoder=Letters())  # type: ignore[arg-type]
        assert mined.pool is not None
        of_list = [(d, r, k) for q, d, k, s, _, r in negatives(mined) if q == 0 and s == "list"]
        retriever = {"bm25": BM25(), "dense": Dense(Letters())}.get(str(settings.retriever))  # type: ignore[arg-type]
        if retriever is not None:
            retriever.fit(data.corpus.texts)
            _, documents, _ = next(data.qrels.lists())
            scores = retriever.score(data.queries.texts[:1], np.zeros(len(documents), int), documents)
            ranking = documents[np.argsort(-scores, kind="stable")].tolist()
            assert sorted((r, d) for d, r, _ in of_list) == [(r, d) for r, d in enumerate(ranking, 1) if d not in data.qrels.positives[0]]
        assert {k for _, r, k in of_list if r <= 10} == {"hard"}


def test_a_search_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path))
    monkeypatch.setattr(shards, "QUERIES", 2)
    data = pairs()
    whole = mine(data, BM25_)
    searched: list[list[str]] = []
    search = BM25.search

    def counting(self: BM25, queries: list[str], top_k: int) -> homing.data.Run:
        if len(searched) == 1 and not (tmp_path / "go").exists():
            raise KeyboardInterrupt
        searched.append(list(queries))
        return search(self, queries, top_k)

    monkeypatch.setattr(BM25, "search", counting)
    again = mine(data, BM25_)
    assert searched == []  # kept from the first time
    for place in (tmp_path / "searches").iterdir():
        for shard in place.iterdir():
            for file in shard.iterdir():
                file.unlink()
            shard.rmdir()
    with pytest.raises(KeyboardInterrupt):
        mine(data, BM25_)
    (tmp_path / "go").touch()
    resumed = mine(data, BM25_)
    assert [len(queries) for queries in searched] == [2, 2, 1]
    for other in (again, resumed):
        assert np.array_equal(other.negative, whole.negative)
        assert np.array_equal(other.score, whole.score)


def test_comparisons_with_positives_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pairs()
    whole = mine(data, BM25_)
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path))
    monkeypatch.setattr(unjudged, "_COMPARED", 16)
    compared: list[int] = []

    def counting(texts: list[str], pairs: np.ndarray, **given: Any) -> np.ndarray:
        if len(compared) == 2 and not (tmp_path / "go").exists():
            raise KeyboardInterrupt
        compared.append(len(pairs))
        return alike(texts, pairs, **given)

    monkeypatch.setattr(unjudged, "alike", counting)
    with pytest.raises(KeyboardInterrupt):
        mine(data, BM25_)
    (tmp_path / "go").touch()
    resumed = mine(data, BM25_)
    assert np.array_equal(resumed.negative, whole.negative)
    done = len(compared)
    assert done > 4
    assert np.array_equal(mine(data, BM25_).negative, whole.negative)
    assert len(compared) == done  # all were kept


def test_a_text_is_sketched_once_however_often_it_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder()
    texts = [f"{'abcdefghij'[number % 10] * 9} {number * number} of {number % 7}" for number in range(100)]
    documents = [builder.document(text) for text in texts]
    for number in range(40):
        builder.judge(builder.query(f"query {number}"), documents[number % 20], 1)
    data, sketched = builder.dataset(), Counter[str]()

    def counting(texts: list[str]) -> Any:
        sketched.update(texts)
        return sketches(texts)

    monkeypatch.setattr(unjudged, "_COMPARED", 64)
    monkeypatch.setattr(unjudged, "sketches", counting)
    asked, told = (np.array(each, dtype=np.int32).ravel() for each in np.meshgrid(range(40), range(20, 100)))
    assert not unjudged._like_a_positive(data, asked, told).any()
    assert set(sketched) == set(texts)
    assert sketched.total() < 2 * len(texts)  # a document that two shards share twice


def test_the_queries_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    class Counting(Letters):
        def encode(self, texts: list[str], kind: str, *, progress: str = "") -> np.ndarray:
            encoded.append(kind)
            return super().encode(texts, kind)

    monkeypatch.setenv("HOMING_CACHE", "off")
    mine(pairs(judged=3), DENSE, encoder=Counting())  # type: ignore[arg-type]
    assert encoded == ["document", "query"]


def test_a_cache_that_is_off_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pairs()
    kept = mine(data, FUSED, encoder=Letters())  # type: ignore[arg-type]
    monkeypatch.setenv("HOMING_CACHE", "off")
    assert np.array_equal(mine(data, FUSED, encoder=Letters()).negative, kept.negative)  # type: ignore[arg-type]
    fused = Fused(BM25(), Dense(Letters()))  # type: ignore[arg-type]
    fused.fit(data.corpus.texts)
    assert fused.search(data.queries.texts, 3).document.shape == (5, 3)


def test_more_than_there_is(tmp_path: Path) -> None:
    """A corpus with fewer documents than a row wants: all of them, each once, and rows that end short."""
    builder = Builder()
    builder.judge(builder.query("a"), builder.document("a b"), 1)
    builder.document("a c")
    builder.document("d e")
    mined = mine(builder.dataset(), Mining(negatives=8))
    assert sorted(mined.negative[0].tolist()) == [1, 2]
    save_mined(mined, tmp_path)
    assert np.array_equal(read_mined(tmp_path, mined.train).negative, mined.negative)


def nearly_all_judged(queries: int = 200, documents: int = 1500, free: int = 2) -> Dataset:
    """Queries that have a judgment on all but `free` documents, which are others for each query."""
    texts = tuple(f"{number} {'abcdefghij'[number % 10] * 9} {number * number}" for number in range(documents))
    query, document = np.divmod(np.arange(queries * documents, dtype=np.int64), documents)
    judged = (document - query) % documents >= free
    qrels = Qrels(query[judged], document[judged], (document[judged] == (query[judged] - 1) % documents).astype(int))
    names = tuple(map(str, range(queries)))
    return Dataset(Corpus(tuple(map(str, range(documents))), texts), Queries(names, tuple(f"query {name}" for name in names)), qrels)


def allocated(work: Callable[[], Any]) -> tuple[Any, int]:
    """What the work gives, and the bytes that it held at most beyond what there was."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_chance_looks_at_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many queries of which nearly all is judged: as many pairs at a time as are allowed, and the same documents as with all at once."""
    data, nothing = nearly_all_judged(), Unjudged(*[np.empty(0, dtype=np.int32)] * 4, np.empty(0), np.empty(0, dtype=np.int32))
    every = np.arange(len(data.queries), dtype=np.int32)
    found = {}
    for bound in (1 << 12, 1 << 40):
        monkeypatch.setattr(unjudged, "_LOOKED_AT", bound)
        found[bound] = allocated(lambda: unjudged.by_chance(data, every, nothing, 3, 42))
    (some, held), (whole, unbounded) = found.values()
    assert sorted(zip(some.query.tolist(), some.document.tolist(), strict=True)) == [(q, q + place) for q in range(200) for place in (0, 1)]
    assert np.array_equal(some.document, whole.document)
    assert held < 48 * len(data.qrels) < unbounded


def test_what_is_compared_with_positives_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder()
    query = builder.query("a query of many positives")
    documents = [builder.document(f"{number} {'abcdefghij'[number % 10] * 9} {number * number}") for number in range(900)]
    for document in documents[:300]:
        builder.judge(query, document, 1)
    builder.document(f"9 {'j' * 9} 81!")  # but for the punctuation a positive
    data = builder.dataset()
    asked, told = np.zeros(601, dtype=np.int32), np.arange(300, 901, dtype=np.int32)
    found = {}
    for bound in (1 << 12, 1 << 40):
        monkeypatch.setattr(unjudged, "_COMPARED", bound)
        found[bound] = allocated(lambda: unjudged._like_a_positive(data, asked, told))
    (some, held), (whole, unbounded) = found.values()
    assert np.array_equal(some, whole)
    assert np.flatnonzero(some).tolist() == [600]
    assert held < unbounded / 4
