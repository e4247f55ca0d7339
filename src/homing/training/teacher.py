"""Teachers to distil from: what a better model says of the training split, asked before training starts and kept on disk.

A teacher is another embedding model, or the scores of query and document pairs from anywhere: a cross-encoder, a file.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray

from homing.data import Dataset, Ints, Mined, keyed_pairs, pair_keys
from homing.data import digest as digest_texts
from homing.encoders.answers import answers
from homing.encoders.devices import default_device, on_device, return_unused_memory
from homing.encoders.opening import is_address, open_encoder
from homing.encoders.safety import architectures, read_object, refuse_unsafe
from homing.errors import FormatError, ModelError, SettingError, TrainingError
from homing.formats import scores as score_files
from homing.progress import Say
from homing.protocols import Encoder, Kind
from homing.training.crossencoder import score_pairs
from homing.training.objective import Taught

TEXTS_A_SHARD = 1024
ROUNDING = 0.01  # a cosine in half precision may be so much above 1


@final
class EncoderTeacher:
    """A bi-encoder: its embeddings of the texts that training touches, and their inner products.

    The texts of `mined` are embedded by `encoder` when the teacher is made, and kept under `directory`; what lies there from an earlier
    call, finished or killed, is not asked again. The encoder itself is not kept.

    `fixed_documents`: for a training whose documents keep the base's embeddings. Then every document of the corpus can be asked about,
    and `teach` gives scores alone: queries that were pulled towards the teacher's embeddings would leave the fixed documents behind.

    Inner products are cosines where the encoder normalises. Where it does not, they are divided by one number, the product of the
    largest norm of a query and of a document, which brings them into the range of cosines and keeps every ranking.

    Raises ModelError where an embedding is not finite.
    """

    def __init__(self, encoder: Encoder, mined: Mined, directory: Path, *, fixed_documents: bool = False) -> None:
        data = mined.train
        queries = np.unique(mined.query)
        documents: NDArray[np.integer] = np.arange(len(data.corpus)) if fixed_documents else np.unique(pairs(mined)[1])
        texts: dict[Kind, list[str]] = {
            "query": [data.queries.texts[query] for query in queries.tolist()],
            "document": [data.corpus.texts[document] for document in documents.tolist()],
        }
        self.digest = digest_texts([encoder.digest, str(fixed_documents), str(len(queries)), *texts["query"], *texts["document"]])
        self._queries, self._documents = (_embeddings(encoder, texts[kind], kind, directory) for kind in texts)
        self._query_place, self._document_place = _places(queries, len(data.queries)), _places(documents, len(data.corpus))
        self._scale = max(1.0, _largest_norm(self._queries) * _largest_norm(self._documents))
        self._fixed_documents = fixed_documents

    def teach(self, queries: Ints, documents: Ints, device: torch.device) -> Taught:
        """Scores of all pairs, and unless documents are fixed the embeddings. Raises TrainingError for a text that was not asked about."""
        wanted, found = (
            on_device(_rows(embeddings, places[asked]), device)
            for embeddings, places, asked in (
                (self._queries, self._query_place, queries), (self._documents, self._document_place, documents),
            )
        )  # fmt: skip
        scores = wanted @ found.T / self._scale
        return Taught(scores) if self._fixed_documents else Taught(scores, wanted, found)


@final
class ScoreTeacher:
    """Scores of pairs of a query and a document, from whatever gave them; NaN for every other pair.

    Shapes: `query`, `document`, `score` (pairs,): positions in the training split, each pair once, and finite scores.

    Scores between -1 and 1 (cosines, probabilities) are used as they are: they go through the softmax at the temperature of a student
    whose scores are cosines. Scores beyond (a reranker's logits, marks from 0 to 10) are divided by one number, the median over queries
    of the distance from the lowest to the highest score. So a typical query spans 1, as it would after a min-max normalisation of each
    query (as in JaColBERTv2.5, arXiv 2407.20750); but a query whose candidates the teacher finds alike is not stretched to the same
    certainty. An offset needs no correction, since the softmax does not see it.

    Raises FormatError where no query has two different scores: nothing can be learned from that.
    """

    def __init__(self, query: Ints, document: Ints, score: NDArray[np.floating], *, where: str = "") -> None:
        order = np.lexsort((document, query))
        self._query, self._document = (np.ascontiguousarray(column[order], dtype=np.int32) for column in (query, document))
        score = np.asarray(score, dtype=np.float64)[order]
        spreads = _spreads(self._query, score)
        if not (spreads > 0).any():
            raise FormatError(
                "the teacher tells no query's candidates apart", where=where, got=f"{len(score):,} scores",
                expected="at least one query with two different scores", remedy="Give scores of several candidates a query.",
            )  # fmt: skip
        scale = 1.0 if np.abs(score).max() <= 1.0 + ROUNDING else float(np.median(spreads[spreads > 0]))
        self._score = (score / scale).astype(np.float32)

    @property
    def digest(self) -> str:
        """Changes with any pair or score."""
        return sha256(b"".join(column.tobytes() for column in (self._query, self._document, self._score))).hexdigest()[:32]

    def teach(self, queries: Ints, documents: Ints, device: torch.device) -> Taught:
        """The scores that are known, NaN elsewhere."""
        order = np.argsort(documents, kind="stable")
        ascending = documents[order]
        scores = np.full((len(queries), len(documents)), np.nan, dtype=np.float32)
        first, last = np.searchsorted(self._query, queries, "left"), np.searchsorted(self._query, queries, "right")
        for row, (start, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            known = self._document[start:end]
            place = np.minimum(np.searchsorted(ascending, known), len(documents) - 1)
            there = ascending[place] == known
            scores[row, order[place[there]]] = self._score[start:end][there]
        return Taught(on_device(scores, device))


Teachers = EncoderTeacher | ScoreTeacher


def open_teacher(
    source: str | Path, mined: Mined, directory: Path, *, fixed_documents: bool = False, say: Say = lambda line: None
) -> Teachers:
    """The teacher that `source` is: the directory of a bi-encoder or of a cross-encoder, a server's address, or a file of scores.

    A model is asked here, about the rows and the pool of `mined`; its answers are kept under `directory`, and a killed call goes on.
    `fixed_documents`: see `EncoderTeacher`. Raises the errors of `kind_of`, `read_scores`, `ask_cross_encoder` and `Model`.
    """
    kind = kind_of(source)
    teacher: Teachers
    if kind == "scores":
        teacher = read_scores(source, mined, say=say)
    elif kind == "cross-encoder":
        teacher = ask_cross_encoder(source, mined, directory)
    else:
        encoder = open_encoder(source, name="teacher", keep=False, say=say)
        teacher = EncoderTeacher(encoder, mined, directory, fixed_documents=fixed_documents)
    gc.collect()  # the model that answered makes room for the one that learns
    return_unused_memory(default_device())
    return teacher


def kind_of(source: str | Path) -> Literal["scores", "encoder", "cross-encoder"]:
    """What a path holds, from its configuration files alone; a server's address is that of an encoder.

    Raises SettingError where it doesn't exist, ModelError for a directory that is neither a bi-encoder's nor a cross-encoder's.
    """
    if is_address(source):
        return "encoder"
    source = Path(source)
    if source.is_file():
        return "scores"
    if not source.is_dir():
        raise SettingError(
            "the teacher is neither a file nor a directory", where=str(source),
            remedy="Give a model's directory (hf download NAME --local-dir DIR makes one), a server's address, or a file of scores.",
        )  # fmt: skip
    if read_object(source / "config_sentence_transformers.json").get("model_type") == "CrossEncoder":
        return "cross-encoder"
    if (source / "modules.json").is_file():
        return "encoder"
    if any(name.endswith("ForSequenceClassification") for name in architectures(source)):
        return "cross-encoder"
    raise ModelError(
        "the directory is no teacher", where=str(source),
        expected="modules.json (an embedding model), or an architecture in config.json that ends in ForSequenceClassification",
        remedy="Give a sentence-transformers directory, or a file of the model's scores.",
    )  # fmt: skip


def demand_teacher(source: str | Path, data: Dataset, *, ask: bool = True) -> None:
    """Raise before any work is done what `open_teacher` would raise after it, as far as the data's texts and judged queries tell.

    A file of scores is read to its end, a model's directory looked through without its weights, a server asked for one embedding of a
    made-up text (unless `ask` is false). Raises the errors of `kind_of`, `read_scores`, `Model` and `Endpoint`.
    """
    kind = kind_of(source)
    if kind == "scores":
        judged, found = set(data.qrels.queries.tolist()), _Found(data)
        if not sum(query in judged for query, _, _ in found.pairs(Path(source))):
            raise _none_scored(source, 0, found.unknown)
    elif is_address(source):
        if ask:
            _ = open_encoder(source, name="teacher", keep=False).dimension
    elif kind == "encoder":
        open_encoder(source, name="teacher", keep=False, device="meta")
    else:
        refuse_unsafe(Path(source))


class _Found:
    """The pairs of a file of scores whose texts or ids the data has, by their positions in it; `unknown` counts the others."""

    def __init__(self, data: Dataset) -> None:
        self.unknown = 0
        self._known: dict[str, dict[str, int]] = {
            "query_id": data.queries.index,
            "query": {text: place for place, text in enumerate(data.queries.texts)},
            "document_id": data.corpus.index,
            "content": {text: place for place, text in enumerate(data.corpus.texts)},
        }

    def pairs(self, path: Path) -> Iterator[tuple[int, int, float]]:
        """Query, document and score, in the file's order."""
        for said in score_files.read(path):
            query, document = self._known[said.query_column].get(said.query), self._known[said.document_column].get(said.document)
            if query is None or document is None:
                self.unknown += 1
            else:
                yield query, document, said.score


def _none_scored(path: str | Path, pairs: int, unknown: int) -> FormatError:
    return FormatError(
        "the file scores no candidate of a training query", where=str(path),
        got=f"{pairs:,} pairs of training queries, {unknown:,} pairs of texts that the data doesn't have",
        remedy="Score the data's own queries and documents, by their ids or their texts.",
    )  # fmt: skip


def pairs(mined: Mined) -> tuple[Ints, Ints]:
    """Every query with each of its candidates in rows and pool, once, by query and document; shapes (pairs,) and (pairs,)."""
    row, column = np.nonzero(mined.negative >= 0)
    query, document = [mined.query, mined.query[row]], [mined.positive, mined.negative[row, column]]
    if mined.pool is not None:
        trained = np.isin(mined.pool.query, mined.query)
        query, document = [*query, mined.pool.query[trained]], [*document, mined.pool.document[trained]]
    return keyed_pairs(np.unique(pair_keys(np.concatenate(query), np.concatenate(document))))


def read_scores(path: str | Path, mined: Mined, *, say: Say = lambda line: None) -> ScoreTeacher:
    """The teacher in a file of scores (`homing.formats.scores`), whose queries and documents are known by their ids or their texts.

    A pair that occurs again has its last score. Pairs of queries that are not trained on are left out, and those of unknown texts
    counted; `say` hears how much of the training is covered. Raises FormatError for a file that cannot be read, and where no candidate
    of the training is scored.
    """
    path, known = Path(path), _Found(mined.train)
    trained = set(np.unique(mined.query).tolist())
    repeated, found = 0, dict[int, float]()
    for query, document, score in known.pairs(path):
        if query in trained:
            pair = query << 32 | document
            repeated += pair in found
            found[pair] = score
    scored = np.fromiter(found, dtype=np.int64, count=len(found))
    queries, documents = pairs(mined)
    covered = np.isin(pair_keys(queries, documents), scored)
    if not covered.any():
        raise _none_scored(path, len(found), known.unknown)
    also = "".join(
        f", {count:,} pairs {what}"
        for count, what in ((known.unknown, "of texts that the data doesn't have"), (repeated, "that occur again"))
        if count
    )
    say(
        f"teacher: scores of {int(covered.sum()):,} of the {len(covered):,} candidates in training, "
        f"for {len(np.unique(queries[covered])):,} of {len(trained):,} queries{also}"
    )
    scores = np.fromiter(found.values(), dtype=np.float64, count=len(found))
    return ScoreTeacher(*keyed_pairs(scored), scores, where=str(path))


def ask_cross_encoder(path: str | Path, mined: Mined, directory: Path) -> ScoreTeacher:
    """What `score_pairs` says of each query with each of its candidates in rows and pool. Raises what that raises."""
    data = mined.train
    queries, documents = pairs(mined)
    asked = [
        (data.queries.texts[query], data.corpus.texts[document])
        for query, document in zip(queries.tolist(), documents.tolist(), strict=True)
    ]
    return ScoreTeacher(queries, documents, score_pairs(path, asked, directory), where=str(path))


def _embeddings(encoder: Encoder, texts: list[str], kind: Kind, directory: Path) -> NDArray[np.float32]:
    """Embeddings of texts, shape (texts, dimension), mapped from the file that keeps them."""
    file = directory / f"{kind}-{digest_texts([encoder.digest, *texts])}.npy"

    def ask(shard: slice) -> NDArray[np.float32]:
        return encoder.encode(texts[shard], kind)

    return answers(file, len(texts), TEXTS_A_SHARD, ask, progress=f"teacher: {kind} texts", unit="text", where=encoder.name)


def _places(asked: NDArray[np.integer], size: int) -> NDArray[np.int64]:
    """The row of each position among those asked, -1 for one that was not; shape (size,)."""
    places = np.full(size, -1, dtype=np.int64)
    places[asked] = np.arange(len(asked))
    return places


def _rows(embeddings: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    if len(places) and places.min() < 0:
        raise TrainingError("the teacher was not asked about a text of the batch", remedy="Make it from the rows that are trained on.")
    return np.array(embeddings[places])


def _largest_norm(embeddings: NDArray[np.float32]) -> float:
    blocks = (embeddings[start : start + (1 << 16)] for start in range(0, len(embeddings), 1 << 16))
    return max(float(np.linalg.norm(block, axis=1).max()) for block in blocks)


def _spreads(query: Ints, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Highest less lowest score of each query, shape (queries,); `query` ascends."""
    if not len(query):
        return np.zeros(0)
    first = np.unique(query, return_index=True)[1]
    spreads: NDArray[np.float64] = np.maximum.reduceat(score, first) - np.minimum.reduceat(score, first)
    return spreads
