"""What a run will take here, before it starts: time from a measured encoding rate, memory from measured activations, disk from counts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from homing.data import Dataset, Qrels, Splits
from homing.encoders.devices import token_budget
from homing.encoders.memory import MARGIN, SYSTEMS, available, for_activations, held, total
from homing.encoders.model import Model
from homing.encoders.tokens import Tokens
from homing.encoders.tuning import FULL_TAKES, default_tuning, tune
from homing.errors import ResourceError
from homing.progress import duration
from homing.settings import Mining, Splitting, Training
from homing.training.fixed import MOST_DOCUMENTS

SAMPLE = 512  # documents, and queries
OUTSIDE = 30_000  # tokens of the set outside the domain that is made here, which evaluation asks every model for
A_WHILE = 1.5  # seconds that the encoding rate is measured for
A_FEW = 2048  # tokens that it is measured on: a few short texts would not tell
A_TEXT = 128  # tokens of the text that activations are measured on, as far as there is one
DISTINCT = 0.85  # distinct texts among the unjudged negatives of a batch: assumed, on the high side
DRAWS = 5  # batches that are drawn to count their documents
BACKWARD = {"full": 3.5, "lora": 2.5}  # a training step in forward passes over the same tokens; measured with MiniLM on two cores
HOLES = 0.25e9  # bytes on a CPU beside what is reckoned: the allocator's holes, and what evaluation makes; measured (docs/log.md)
WORKSPACES = 1.2e9  # likewise on an accelerator, with its kernels; assumed
A_SCORE, A_MARGIN, SHORTER = 40, 40, 10  # bytes that the loss takes for a score; with --margin, and for each shorter embedding; measured
PEAK = 1.1  # what a backward pass takes at its peak, in kept activations
CHECKPOINTS = {"full": 13, "lora": 1}  # of the weights on disk a training leaves: four checkpoints with their moments, and the adapter
WRITTEN = 3  # likewise, while another checkpoint is written beside those


@dataclass(frozen=True)
class Estimate:
    """Seconds, bytes of memory and bytes of disk that a run takes on this machine; rough, by design on the high side."""

    training_seconds: float
    evaluation_seconds: float
    memory: int
    disk: int
    tokens_per_second: float
    trainings: int = 1

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.evaluation_seconds

    def __str__(self) -> str:
        training = f"{self.trainings} trainings" if self.trainings > 1 else "training"
        return (
            f"about {duration(self.seconds)} here ({training} {duration(self.training_seconds)}, evaluation "
            f"{duration(self.evaluation_seconds)}), {self.memory / 1e9:.1f} GB of memory, {self.disk / 1e9:.1f} GB of disk"
        )


def estimate(
    model: Model, data: Dataset | Splits, splitting: Splitting, mining: Mining, training: Training, further: Sequence[float] = (), *,
    outside: int = OUTSIDE,
) -> Estimate:  # fmt: skip
    """Measure the model's encoding rate on a sample of the data (a few seconds) and reckon what a run takes.

    `further`: for each training beside the run's own (another seed, fewer judgments, from the base again), the share of the rows, or of the
    minutes, that it has.
    `outside`: tokens of what is measured outside the domain.
    """
    whole = data.train if isinstance(data, Splits) else data
    sample = _Sample.of(model, whole)
    kind = training.tuning or default_tuning(model.parameters, total(model.device))
    tuning = "full" if kind == "full" else "lora"
    corpus = len(whole.corpus) * sample.document  # tokens
    alone = training.train == "queries"
    share = 1.0 if isinstance(data, Splits) else 1.0 - splitting.dev - splitting.test
    asking = share * len(whole.qrels.positives)  # queries
    batch = min(training.batch_size, max(1, round(asking)))
    documents = float(min(len(whole.corpus), MOST_DOCUMENTS)) if alone else _documents(whole.qrels, batch, mining.negatives)
    a_query = sample.query + (0.0 if alone else documents / batch * sample.document)
    if training.minutes is None:
        updating = asking * training.epochs * a_query / sample.rate * BACKWARD[tuning] * 1.1
    else:
        updating = training.minutes * 60.0
    documents_anew = 0.0 if alone else corpus  # tokens; those of queries alone are encoded once, before the training, and kept
    evaluating = (2 + len(further)) * (documents_anew + len(whole.queries) * sample.query) + 2 * outside  # tokens
    return Estimate(
        (1 + sum(further)) * updating + (corpus / sample.rate if alone else 0.0),
        evaluating / sample.rate,
        _memory(model, whole, replace(training, tuning=kind), sample.documents, int(batch * a_query)) + _loss(training, batch * documents),
        _disk(model, whole, tuning, 1 + len(further), alone=alone),
        sample.rate,
        1 + len(further),
    )


def _documents(qrels: Qrels, batch: int, negatives: int) -> float:
    """Distinct documents of a batch of so many queries: all their positives, and so many negatives for each of these, judged ones where
    a query has enough. The mean of a few draws."""
    asking, random, counts = np.array(sorted(qrels.positives)), np.random.default_rng(0), list[float]()
    for _ in range(DRAWS if len(asking) else 0):
        documents, beside = set[int](), 0
        for query in random.permutation(asking)[:batch].tolist():
            listed = slice(*np.searchsorted(qrels.query, (query, query + 1)))
            document, relevant = qrels.document[listed], qrels.relevance[listed] > 0
            wanted = negatives * int(relevant.sum())
            judged = random.permutation(document[qrels.relevance[listed] == 0])[:wanted]
            documents.update(document[relevant].tolist(), judged.tolist())
            beside += wanted - len(judged) if len(judged) < negatives else 0
        counts.append(len(documents) + DISTINCT * beside)
    return float(np.mean(counts)) if counts else 0.0


@dataclass(frozen=True)
class _Sample:
    """What a sample of the data tells: the tokens a second that the model encodes here, the mean tokens of a document and a query, and
    the documents."""

    rate: float
    document: float
    query: float
    documents: Tokens

    @classmethod
    def of(cls, model: Model, data: Dataset) -> _Sample:
        draw = np.random.default_rng(0)
        seen = 20 * model.max_length  # characters: of a longer text the model sees no more
        sample = [data.corpus.texts[document][:seen] for document in draw.permutation(len(data.corpus))[:SAMPLE].tolist()]
        asked = [data.queries.texts[query] for query in draw.permutation(len(data.queries))[:SAMPLE].tolist()]
        documents, queries = model.tokenize(sample, "document"), model.tokenize(asked, "query")
        enough = max(A_FEW, token_budget(model.device, model.packer is not None))  # a device that is not filled seems slow
        few = model.tokenize(sample[: 1 + int(np.searchsorted(np.cumsum(documents.lengths), enough))], "document")
        model.encode_tokens(few)  # the first pass warms up
        start, measured = time.perf_counter(), 0
        while time.perf_counter() - start < A_WHILE:
            model.encode_tokens(few)
            measured += int(few.lengths.sum())
        rate = measured / (time.perf_counter() - start)
        return cls(rate, float(documents.lengths.mean()), float(queries.lengths.mean()), documents)


def _memory(model: Model, data: Dataset, training: Training, texts: Tokens, batch: int) -> int:
    """Bytes of memory: what this process holds, copies of the weights, activations of a batch of so many tokens as far as they are kept,
    all embeddings."""
    copies = _copies(model, training)
    room = available(model.device) - copies
    activations = 0.0
    if room > 0:  # else the run doesn't fit anyway
        a_token = _bytes_a_token(model, texts, training)
        chunk = token_budget(model.device, model.packer is not None) if model.device.type in SYSTEMS else 0  # else made as small as it must
        activations = min(a_token * batch, max(a_token * max(chunk, model.max_length), for_activations(model.device) * room))
    embeddings = 4 * model.dimension * (len(data.corpus) + len(data.queries))
    beside = HOLES if model.device.type == "cpu" else WORKSPACES
    return int(held(model.device) + copies + PEAK * activations + 3 * embeddings + beside)


def _loss(training: Training, scores: float) -> int:
    """Bytes that the loss of so many scores takes, forward and back."""
    return int(scores * (A_SCORE + (A_MARGIN if training.margin is not None else 0) + SHORTER * len(training.shorter)))


def _copies(model: Model, training: Training) -> int:
    """Bytes of the copies of the weights beside the base's own.

    All weights: what AdamW needs, what a checkpoint or a share of the change is made of, and the base in float32 where it is not that
    already. Of a low rank: the merged model, which is compared with what was written of it.
    """
    if training.tuning != "full":
        return 2 * _weights(model)
    return model.parameters * (FULL_TAKES + 4 + (4 if model.dtype.itemsize < 4 else 0))


def _bytes_a_token(model: Model, texts: Tokens, training: Training) -> float:
    """What the activations of a token take in training, measured on one of the texts; the model is left as it was."""
    middling = np.array([np.abs(texts.lengths - A_TEXT).argmin()])
    tuning = tune(model, training)
    try:
        return tuning.step().weigh(texts, middling)
    finally:
        tuning.detach()


def _disk(model: Model, data: Dataset, tuning: str, trainings: int, *, alone: bool = False) -> int:
    """Bytes of disk: the merged model, the data twice, and the checkpoints of each training, in float32 where all weights learn.

    Where queries learn `alone`, also the documents' embeddings, which lie beside each training.
    """
    texts = sum(len(text.encode()) for text in (*data.corpus.texts, *data.queries.texts))
    learned = 4 * model.parameters if tuning == "full" else _weights(model)
    embeddings = trainings * 4 * model.dimension * len(data.corpus) if alone else 0
    return _weights(model) + 2 * texts + embeddings + (trainings * CHECKPOINTS[tuning] + (WRITTEN if tuning == "full" else 0)) * learned


def _weights(model: Model) -> int:
    """Bytes of the model's weights."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.transformer.parameters())


def demand_room(needed: Estimate, model: Model, directory: Path) -> None:
    """Raises ResourceError where memory or disk cannot hold the run."""
    there, free = held(model.device), available(model.device)
    if (needed.memory - there) * MARGIN > free:
        got = f"{needed.memory / 1e9:.1f} GB needed, {(there + free) / 1e9:.1f} free"
        raise ResourceError(
            "the run doesn't fit into memory", where=str(model.device), got=got,
            remedy="Try a smaller --batch-size or --max-length, or a smaller --model.",
        )  # fmt: skip
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    room = shutil.disk_usage(place).free
    if needed.disk > room * MARGIN:
        raise ResourceError(
            "the run doesn't fit onto the disk", where=str(place), got=f"{needed.disk / 1e9:.1f} GB needed, {room / 1e9:.1f} GB free",
            remedy="Free some room, or give --out on another disk.",
        )  # fmt: skip
