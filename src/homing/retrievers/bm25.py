"""BM25 Okapi over each query's own list of candidates, all lists at once.

The formula, its constants and its floor for frequent words are those of rank_bm25.BM25Okapi (Trotman, Puurula, Burgess: Improvements to
BM25 and Language Models Examined, ADCS 2014), with the statistics (document frequency, mean length, mean IDF) of each list alone.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from tqdm import tqdm

from homing.data import Dataset, Floats, Ints
from homing.words import is_chinese, words

K1, B, EPSILON = 1.5, 0.75, 0.25
_LISTS = 4096  # scored together; bounds the memory


def score_lists(data: Dataset) -> Floats:
    """The BM25 score of each judgment's document for its query, over the documents judged for that query; shape (judgments,).

    A list is cut into words as Chinese where its query or more than half of its documents are Chinese. Each distinct text is
    cut once (once a rule, where both rules need it).
    """
    lists, row = np.unique(data.qrels.query, return_inverse=True)
    chinese = _chinese(data, lists, row)
    texts, document = np.unique(data.qrels.document * np.int64(2) + chinese[row], return_inverse=True)
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
    counts = csr_array((np.ones(len(numbers)), np.asarray(numbers), np.asarray(starts)), shape=(len(length), len(vocabulary)))
    counts.sum_duplicates()  # in place, in the two arrays as well
    return counts, length


def _score(
    asked: csr_array, contained: csr_array, present: csr_array, length: Floats, query: NDArray[Any], document: NDArray[Any]
) -> Floats:
    """The scores of some whole lists; `query` counts from 0 in the rows of `asked`, and is sorted."""
    lists = asked.shape[0]
    size = np.bincount(query, minlength=lists)
    starts = np.append(0, np.cumsum(size))
    mean_length = np.bincount(query, length[document], lists) / np.maximum(size, 1)

    frequency = csr_array((np.ones(len(document)), document, starts), shape=(lists, contained.shape[0])) @ present  # of documents
    frequency.sort_indices()
    held = np.repeat(np.arange(lists), np.diff(frequency.indptr))
    idf: Floats = np.log(size[held] - frequency.data + 0.5) - np.log(frequency.data + 0.5)
    mean_idf = np.bincount(held, idf, lists) / np.maximum(np.diff(frequency.indptr), 1)
    weight = csr_array((np.where(idf < 0, EPSILON * mean_idf[held], idf), frequency.indices, frequency.indptr), shape=frequency.shape)

    # One cell for each word of a query with each document of its list.
    pairs = asked.tocoo()
    width = size[pairs.row]
    pair = np.repeat(np.arange(pairs.nnz), width)
    cell = np.arange(len(pair)) - np.repeat(np.cumsum(width) - width, width) + np.repeat(starts[pairs.row], width)
    gain = pairs.data * weight[pairs.row, pairs.col]
    count = contained[document[cell], pairs.col[pair]]
    norm = K1 * (1 - B + B * length[document] / np.where(mean_length > 0, mean_length, 1)[query])
    gains: Floats = gain[pair] * count * (K1 + 1) / (count + norm[cell])
    scores: Floats = np.bincount(cell, gains, len(document)).astype(np.float64)
    return scores
