"""BM25 Okapi over a whole corpus, and over each query's own list of candidates, all lists at once.

The formula and its constants are those of rank_bm25.BM25Okapi (Trotman, Puurula, Burgess: Improvements to BM25 and Language Models
Examined, ADCS 2014). A list has statistics (document frequency, mean length, mean IDF) of its own alone, and rank_bm25's floor for words
that half of its candidates hold: in a list of twenty those are many. In a corpus they are the few that tell nothing, and weigh nothing.
"""

from __future__ import annotations

import shutil
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from tqdm import tqdm

from homing.cache import cache_directory
from homing.data import Dataset, Floats, Ints, Run, digest
from homing.errors import NotFittedError
from homing.progress import BAR
from homing.retrievers.postings import Postings, build
from homing.texts.terms import Rule, rule_of
from homing.texts.words import is_chinese, words

K1, B, EPSILON = 1.5, 0.75, 0.25
_LISTS = 4096  # scored together; bounds the memory
_BLOCK = 1024  # documents whose best score is looked at as one, at most


class BM25:
    """A `Retriever` by words over a corpus.

    `rule` says how texts are cut; None chooses it from the corpus (`terms.rule_of`). An index is kept in the cache under the digest of
    its documents, the rule and the parameters, is mapped from there by the next process that fits the same, and goes on from the
    shards of documents that a killed process finished.
    """

    name = "BM25"

    def __init__(self, rule: Rule | None = None, *, k1: float = K1, b: float = B) -> None:
        self.rule, self.k1, self.b = rule, k1, b
        self._fitted: tuple[Postings, Rule, str] | None = None

    def fit(self, documents: Sequence[str]) -> None:
        """Index these documents, in place of any before."""
        rule = self.rule or rule_of(documents)
        name, kept = digest([digest(documents), rule.key, f"{self.k1} {self.b}"]), cache_directory("bm25")
        if kept is None:
            postings = build(documents, rule, self.k1, self.b)
        elif (kept / name / "said.json").is_file():
            postings = Postings.read(kept / name)
        else:
            postings = build(documents, rule, self.k1, self.b, kept / f"{name}.partial")
            if postings.save(kept / name):
                postings = Postings.read(kept / name)
        if kept is not None:  # also what a process left that was killed after it had saved the whole
            shutil.rmtree(kept / f"{name}.partial", ignore_errors=True)
        self._fitted = postings, rule, name

    @property
    def digest(self) -> str:
        """Changes whenever a result could: with the documents, the rule and the parameters. Raises NotFittedError before `fit`."""
        return self._demand()[2]

    def search(self, queries: Sequence[str], top_k: int) -> Run:
        """The best `top_k` documents of each query that share a term with it; of equal scores the earlier document comes first.

        Raises NotFittedError before `fit`.
        """
        postings, _, _ = self._demand()
        columns = min(top_k, postings.documents)
        document = np.full((len(queries), columns), -1, dtype=np.int32)
        score = np.zeros((len(queries), columns), dtype=np.float32)
        scores = np.zeros(postings.documents, dtype=np.float32)
        for row, asked in enumerate(tqdm(self._asked(queries), "BM25: queries", len(queries), unit=" queries", **BAR)):
            scores[:] = 0
            for term, count in asked.items():
                some = slice(postings.start[term], postings.start[term + 1])
                np.add.at(scores, postings.document[some], postings.weight[some] * np.float32(count))
            found = _best(scores, columns)
            document[row, : len(found)], score[row, : len(found)] = found, scores[found]
        return Run(np.arange(len(queries), dtype=np.int32), document, score)

    def score(self, queries: Sequence[str], query: NDArray[Any], document: NDArray[Any]) -> NDArray[np.float32]:
        """The scores of given pairs: that of `queries[query[i]]` and document `document[i]` at i; shape (pairs,).

        Raises NotFittedError before `fit`.
        """
        postings, _, _ = self._demand()
        scores = np.zeros(len(query), dtype=np.float32)
        by_query = np.argsort(query, kind="stable")
        ends = np.searchsorted(query[by_query], np.arange(len(queries) + 1))
        for number, asked in enumerate(self._asked(queries)):
            pairs = by_query[ends[number] : ends[number + 1]]
            wanted = document[pairs]
            for term, count in asked.items() if len(pairs) else ():
                some = slice(postings.start[term], postings.start[term + 1])
                holders = postings.document[some]
                place = np.minimum(np.searchsorted(holders, wanted), max(0, len(holders) - 1))
                if len(holders):
                    scores[pairs] += np.where(holders[place] == wanted, postings.weight[some][place] * np.float32(count), np.float32(0))
        return scores

    def _asked(self, queries: Sequence[str]) -> Iterable[Counter[int]]:
        """Of each query the terms that the corpus knows, with their number of times."""
        postings, rule, _ = self._demand()
        for query in queries:
            yield Counter(postings.terms[term] for term in rule.terms(query) if term in postings.terms)

    def _demand(self) -> tuple[Postings, Rule, str]:
        if self._fitted is None:
            raise NotFittedError("there is nothing to search", where=self.name, remedy="Call fit(documents) first.")
        return self._fitted


def _best(scores: NDArray[np.float32], top_k: int) -> NDArray[np.int64]:
    """The positions of the `top_k` highest scores above 0, best first; of equal ones the earlier first.

    The k-th best of the maxima of blocks is at most the k-th best score, so that few scores are left to be sorted.
    """
    block = min(_BLOCK, len(scores) // (4 * top_k) if top_k else 0)
    least = np.float32(0)
    if block > 1:
        maxima = np.maximum.reduceat(scores, np.arange(0, len(scores), block))
        least = np.partition(maxima, len(maxima) - top_k)[len(maxima) - top_k]
    found = np.flatnonzero(scores >= least) if least > 0 else np.flatnonzero(scores > 0)
    return found[np.argsort(-scores[found], kind="stable")[:top_k]]


def score_lists(data: Dataset) -> Floats:
    """The BM25 score of each judgment's document for its query, over the documents judged for that query; shape (judgments,).

    A list is cut into words as Chinese where its query or more than half of its documents are Chinese. Each distinct text is
    cut once (once a rule, where both rules need it).
    """
    lists, row = np.unique(data.qrels.query, return_inverse=True)
    chinese = _chinese(data, lists, row)
    text = data.qrels.document * np.int64(2) + chinese[row]
    needed = np.zeros(2 * len(data.corpus), dtype=bool)
    needed[text] = True
    texts, document = np.flatnonzero(needed), (np.cumsum(needed) - 1)[text]
    questions = ((data.queries.texts[query], rule) for query, rule in zip(lists.tolist(), chinese.tolist(), strict=True))
    answers = ((data.corpus.texts[text >> 1], bool(text & 1)) for text in texts.tolist())
    progress = tqdm(chain(questions, answers), "Words", len(lists) + len(texts), unit=" texts", delay=3, leave=False, disable=None)
    cut = (words(text, rule) for text, rule in progress)
    return okapi([next(cut) for _ in range(len(lists))], cut, row, document)


def _chinese(data: Dataset, lists: Ints, row: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each list is Chinese; shape (lists,)."""
    chinese = np.array([is_chinese(data.queries.texts[query]) for query in lists.tolist()], dtype=bool)
    unsure = ~chinese[row]
    documents, place = np.unique(data.qrels.document[unsure], return_inverse=True)
    answers = np.array([is_chinese(data.corpus.texts[document]) for document in documents.tolist()], dtype=np.float64)
    chinese |= np.bincount(row[unsure], answers[place], len(lists)) > 0.5 * np.bincount(row, minlength=len(lists))
    return chinese


def okapi(queries: Iterable[list[str]], documents: Iterable[list[str]], query: NDArray[Any], document: NDArray[Any]) -> Floats:
    """The scores behind `score_lists`, from words: that of `documents[document[i]]` for `queries[query[i]]` at i; shape (pairs,).

    `query` and `document`, shape (pairs,), are positions; `query` ascends, and the pairs of one query are its list.
    """
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__
    contained, length = _counts(documents, vocabulary)
    asked, _ = _counts(queries, vocabulary)
    contained.resize((contained.shape[0], len(vocabulary)))
    present = csr_array((np.ones(contained.nnz), contained.indices, contained.indptr), shape=contained.shape)

    scores = np.zeros(len(query))
    for first in range(0, asked.shape[0], _LISTS):
        start, end = np.searchsorted(query, (first, first + _LISTS))
        scores[start:end] = _score(asked[first : first + _LISTS], contained, present, length, query[start:end] - first, document[start:end])
    return scores


def _counts(texts: Iterable[list[str]], vocabulary: defaultdict[str, int]) -> tuple[csr_array, Floats]:
    """How often each text holds each word, shape (texts, words), and how many words it has, shape (texts,)."""
    starts, numbers = array("q", [0]), array("i")
    for text in texts:
        numbers.extend(map(vocabulary.__getitem__, text))
        starts.append(len(numbers))
    length = np.diff(starts).astype(np.float64)
    each = csr_array((np.ones(len(numbers)), np.asarray(numbers), np.asarray(starts)), shape=(len(length), len(vocabulary)))
    counts = each.tocsc().tocsr()  # sorts the words of each text, faster than comparing them
    counts.has_sorted_indices = True
    counts.sum_duplicates()
    return counts, length


def _score(
    asked: csr_array, contained: csr_array, present: csr_array, length: Floats, query: NDArray[Any], document: NDArray[Any]
) -> Floats:
    """The scores of some whole lists; `query` counts from 0 in the rows of `asked`, and is sorted."""
    lists = asked.shape[0]
    size = np.bincount(query, minlength=lists)
    starts = np.append(0, np.cumsum(size))
    mean_length = np.bincount(query, length[document], lists) / np.maximum(size, 1)

    # How many documents of a list hold each of its words: their mean IDF is all that is needed of the words that its query lacks.
    held = csr_array((np.ones(len(document)), document, starts), shape=(lists, contained.shape[0])) @ present
    of_list = np.repeat(np.arange(lists), np.diff(held.indptr))
    mean_idf = np.bincount(of_list, _idf(size[of_list], held.data), lists) / np.maximum(np.diff(held.indptr), 1)

    # One cell for each word of a query with each document of its list.
    pairs = asked.tocoo()
    width = size[pairs.row]
    pair = np.repeat(np.arange(pairs.nnz), width)
    cell = np.arange(len(pair)) - np.repeat(np.cumsum(width) - width, width) + np.repeat(starts[pairs.row], width)
    count = contained[document[cell], pairs.col[pair]]
    frequency = np.bincount(pair, count > 0, pairs.nnz)  # of documents
    idf = _idf(width, frequency)
    gain = pairs.data * np.where(idf < 0, EPSILON * mean_idf[pairs.row], idf)
    norm = K1 * (1 - B + B * length[document] / np.where(mean_length > 0, mean_length, 1)[query])
    gains: Floats = gain[pair] * count * (K1 + 1) / (count + norm[cell])
    scores: Floats = np.bincount(cell, gains, len(document)).astype(np.float64)
    return scores


def _idf(documents: NDArray[Any], frequency: NDArray[Any]) -> Floats:
    """The inverse document frequency of words that so many of so many documents hold, negative where half of them do."""
    idf: Floats = np.log(documents - frequency + 0.5) - np.log(frequency + 0.5)
    return idf
