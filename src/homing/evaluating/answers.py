"""What a model, BM25, or both fused answer to the exam: a score for each judged pair, a ranking for each query."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homing.data import Floats, Run, digest
from homing.evaluating.exam import Exam
from homing.measures.evaluations import Row, Speed, fusion
from homing.protocols import Encoder
from homing.retrievers.bm25 import BM25
from homing.retrievers.dense import inner_products, search_embeddings
from homing.retrievers.fused import fuse


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model, BM25 or a fusion answered.

    Shapes: `dev_scores` and `test_scores` (judgments,), NaN where pairs have no score of their own; `run` has a row for each of the exam's
    `asked`; `embedded`: of `asked` and of the corpus, (texts, dimension).
    """

    name: str
    kind: Row
    digest: str
    prompts: dict[str, str]
    dev_scores: Floats
    test_scores: Floats
    run: Run
    seconds: float
    normalised: bool = False
    embedded: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    speed: Speed | None = None
    cost: Mapping[str, float] | None = None


def encoded_by(model: Encoder, exam: Exam, kept: dict[str, NDArray[np.float32]]) -> Answers:
    """What an encoder answers; `kept` holds documents' embeddings by the digest of that side, for the models that share it."""
    start, encoded = time.perf_counter(), getattr(model, "encoded", None)
    side = model.digest_of("document")
    if side not in kept:
        kept[side] = model.encode(exam.test.corpus.texts, "document", progress=f"{model.name}: documents")
    documents, between = kept[side], time.perf_counter()
    embedded = model.encode(exam.texts(), "query", progress=f"{model.name}: queries")
    end = time.perf_counter()

    sides = (exam.dev, exam.test)
    dev, test = (inner_products(embedded, exam.rows(each), documents, each.qrels.document, np.float64) for each in sides)
    texts = len(exam.test.corpus) + len(exam.asked)
    speed = Speed(
        len(exam.test.corpus), round(between - start, 3), len(exam.asked), round(end - between, 3), model.dimension,
        kept=encoded is not None and model.encoded - encoded < texts,  # type: ignore[attr-defined]
    )  # fmt: skip
    deep = exam.depth + exam.itself.spare
    run = exam.itself.without(search_embeddings(embedded, documents, deep, exam.ties, progress=f"{model.name}: search"), exam.depth)
    return Answers(
        model.name, "model", model.digest, {str(kind): prompt for kind, prompt in model.prompts.items()},
        dev, test, run, end - start,
        model.similarity == "cosine", (embedded, documents), speed, getattr(model, "cost", None),
    )  # fmt: skip


def by_words(exam: Exam) -> Answers:
    """What BM25 answers."""
    start = time.perf_counter()
    retriever = BM25()
    retriever.fit(exam.test.corpus.texts)
    texts = exam.texts()
    dev, test = (retriever.score(texts, exam.rows(data), data.qrels.document).astype(np.float64) for data in (exam.dev, exam.test))
    run = exam.itself.without(retriever.search(texts, exam.depth + exam.itself.spare), exam.depth)
    return Answers("BM25", "bm25", retriever.digest, {"query": "", "document": ""}, dev, test, run, time.perf_counter() - start)


def fused_with(model: Answers, words: Answers, exam: Exam) -> Answers:
    """A model's ranking and BM25's, fused by reciprocal ranks: no pair has a score of its own."""
    nothing = np.full(len(exam.dev.qrels), np.nan), np.full(len(exam.test.qrels), np.nan)
    return Answers(
        fusion(model.name), "fused", digest([model.digest, words.digest]), model.prompts, *nothing,
        fuse([model.run, words.run], exam.depth), 0.0,
    )  # fmt: skip
