"""What every arm of a comparison is asked: one pool to search and judged pairs to tell apart, the same for all, small enough for a CPU.

All judged relevant documents of the asked queries are in the pool. It is filled up with the candidates of the judged lists (among them the
BM25 negatives of test queries, which makes it harder than a random one), then with drawn documents of the corpus. Lists are drawn up to a
number of tokens, so that one examination of a small model stays below a minute or so on one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homing.data import Dataset, Floats, Splits
from homing.encoders.model import Model
from homing.measures.formulas import average_precision, ndcg, order
from homing.measures.thresholds import best_threshold, f1
from homing.protocols import Encoder


@dataclass(frozen=True)
class Size:
    """At most so much of each; `tokens` is what the pool and the lists together may hold, where the pool alone holds less."""

    pool: int = 2000
    queries: int = 400
    lists: int = 300
    dev_lists: int = 200
    tokens: int = 220_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Judged pairs; shapes (pairs,) all: positions in an examination's queries and documents, and whether it is relevant."""

    query: NDArray[np.intp]
    document: NDArray[np.intp]
    relevant: NDArray[np.bool_]

    def scores(self, queries: NDArray[np.float32], documents: NDArray[np.float32]) -> Floats:
        inner: Floats = np.einsum("pd,pd->p", queries[self.query], documents[self.document], dtype=np.float64)
        return inner


@dataclass(frozen=True, eq=False)
class Examination:
    """Distinct texts, and what is asked of them.

    Shapes: `asked` (asked queries,) and `pool` (pool,): positions in `queries` and `documents`; `grades` (asked queries, pool): judged
    relevance, 0 where there is none. `chosen_on` (dev) chooses the threshold that `judged_on` is called by.
    """

    queries: list[str]
    documents: list[str]
    asked: NDArray[np.intp]
    pool: NDArray[np.intp]
    grades: NDArray[np.int32]
    chosen_on: Pairs
    judged_on: Pairs

    def measure(self, model: Encoder, documents: Encoder | None = None) -> dict[str, float]:
        """nDCG@10 over the pool; AP and F1 at the dev-chosen threshold over the judged pairs; seconds.

        `documents`: the model that encodes the documents, where it is another.
        """
        began = time.perf_counter()
        found = self.judge(model.encode(self.queries, "query"), (documents or model).encode(self.documents, "document"))
        return {**found, "evaluation_seconds": time.perf_counter() - began}

    def judge(self, queries: NDArray[np.float32], documents: NDArray[np.float32]) -> dict[str, float]:
        """The same of embeddings, without the seconds; shapes (queries, dimension) and (documents, dimension)."""
        scores = queries[self.asked] @ documents[self.pool].T
        ranked = order(scores, np.broadcast_to(np.arange(len(self.pool), dtype=np.int32), scores.shape))
        gains = np.take_along_axis(self.grades, ranked, axis=1)
        threshold, _ = best_threshold(self.chosen_on.scores(queries, documents), self.chosen_on.relevant)
        found = self.judged_on.scores(queries, documents)
        called = found >= threshold
        relevant = self.judged_on.relevant
        return {
            "nDCG@10": float(ndcg(gains, -np.sort(-self.grades, axis=1), 10).mean()),
            "AP": float(average_precision(found, relevant)[0]),
            "F1": float(f1((called & relevant).sum(), called.sum(), relevant.sum())),
            "threshold": threshold,
        }


class _Texts:
    """Distinct texts in the order of their coming."""

    def __init__(self) -> None:
        self.place: dict[str, int] = {}

    def add(self, text: str) -> int:
        return self.place.setdefault(text, len(self.place))


def examine(
    search: Dataset, judged: Dataset, dev: Dataset, tokens: Callable[[Sequence[str]], NDArray[np.integer]], size: Size, seed: int = 0
) -> Examination:
    """An examination over the queries of `search`, the lists of `judged`, and a threshold from the lists of `dev`.

    `search` holds the complete judgments and the whole corpus, the two others candidate lists; they share texts, not positions. `tokens`
    gives the tokens of texts, shape (texts,). Everything is drawn by the seed.
    """
    generator = np.random.default_rng(seed)
    able = np.array(sorted(search.qrels.positives))
    taken = generator.permutation(able)[: size.queries]
    queries, documents = _Texts(), _Texts()
    asked = [queries.add(search.queries.texts[query]) for query in taken.tolist()]
    for query in taken.tolist():
        for document in sorted(search.qrels.positives[query]):
            documents.add(search.corpus.texts[document])

    drawn = generator.permutation(len(search.corpus))
    a_document = float(tokens([search.corpus.texts[document] for document in drawn[:200].tolist()]).mean())
    room = size.tokens / a_document
    sides = {"judged": (judged, size.lists), "dev": (dev, size.dev_lists)}
    lists = {name: list(data.qrels.lists()) for name, (data, _) in sides.items()}
    turns = {name: iter(generator.permutation(len(lists[name]))[:most].tolist()) for name, (_, most) in sides.items()}
    pairs: dict[str, list[tuple[int, int, bool]]] = {name: [] for name in sides}
    going = ["judged", "judged", "judged", "dev", "dev"]  # in turn, as 300 and 200 are
    while going and len(documents.place) < room:
        name = going.pop(0)
        number = next(turns[name], None)
        if number is None:
            going = [other for other in going if other != name]
            continue
        going.append(name)
        data = sides[name][0]
        query, candidates, relevance = lists[name][number]
        place = queries.add(data.queries.texts[query])
        for document, grade in zip(candidates.tolist(), relevance.tolist(), strict=True):
            pairs[name].append((place, documents.add(data.corpus.texts[document]), grade > 0))

    for document in drawn.tolist():
        if len(documents.place) >= size.pool:
            break
        documents.add(search.corpus.texts[document])
    pool = generator.permutation(min(size.pool, len(documents.place)))
    column = {place: number for number, place in enumerate(pool.tolist())}
    grades = np.zeros((len(taken), len(pool)), dtype=np.int32)
    row_of = {query: row for row, query in enumerate(taken.tolist())}
    of = search.qrels.of(taken)
    for query, document, grade in zip(of.query.tolist(), of.document.tolist(), of.relevance.tolist(), strict=True):
        if grade > 0:
            grades[row_of[query], column[documents.place[search.corpus.texts[document]]]] = grade
    return Examination(
        list(queries.place), list(documents.place), np.array(asked), pool, grades, _pairs(pairs["dev"]), _pairs(pairs["judged"])
    )


def _pairs(found: list[tuple[int, int, bool]]) -> Pairs:
    columns = np.array(found, dtype=np.intp).reshape(-1, 3)
    return Pairs(columns[:, 0], columns[:, 1], columns[:, 2].astype(bool))


@dataclass(frozen=True, eq=False)
class Held:
    """A data set as it lies in a folder: complete judgments (BEIR) and candidate lists over other vocabularies of the same texts."""

    complete: Splits
    lists: Splits

    @classmethod
    def read(cls, folder: Path) -> Held:
        from homing.loading import load_splits

        complete = load_splits(folder)
        lists = load_splits(folder / "train.json", folder / "dev.json", folder / "test.json")
        if not isinstance(complete, Splits) or not isinstance(lists, Splits):
            raise SystemExit(f"{folder} holds no qrels for train, dev and test")
        return cls(complete, lists)

    def examination(self, model: Model, side: str, size: Size) -> Examination:
        """On test, or (to tune on) on dev alone."""

        def tokens(texts: Sequence[str]) -> NDArray[np.integer]:
            return model.tokenize(texts, "document").lengths

        if side == "test":
            return examine(self.complete.test, self.lists.test, self.lists.dev, tokens, size)
        return examine(self.complete.dev, self.lists.dev, self.lists.dev, tokens, size)
