"""Compare models: every judged pair scored, every test query searched in the whole corpus; each distinct text encoded once a model."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homing.context import Context
from homing.data import Dataset, Floats, Ints, Splits
from homing.errors import FormatError, JudgmentError, SettingError
from homing.manifest import replace_directory, write_json
from homing.measures import ndcg, order, recall, reciprocal_rank, roc_auc
from homing.protocols import Encoder
from homing.retrievers.dense import search_embeddings
from homing.settings import Evaluating
from homing.significance import resample
from homing.thresholds import GRID, NAMED, best_threshold, f1_curve, f1_of_all
from homing.verdicts import Evaluation, Interval, Verdict, interval, samples

LIST_MEASURES = ("list nDCG", "list RR")
CORPUS_MEASURES = ("nDCG@10", "R@10", "R@100", "RR@10")


def evaluate(models: Sequence[Encoder], dev: Dataset, test: Dataset, settings: Evaluating | None = None) -> list[Evaluation]:
    """Score every judged pair of dev and test, and search the whole corpus for every test query, with each model.

    The threshold is chosen on dev and applied on test. Raises JudgmentError where test has no relevant document, SettingError where
    two models have one name (a model's name is its column).
    """
    settings = settings or Evaluating()
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise SettingError("two models have the same name", got=", ".join(names), remedy="Give one of them another: Model(..., name=...).")
    queries = np.array(sorted(test.qrels.positives), dtype=np.int32)
    if not len(queries):
        raise JudgmentError("test has no query with a relevant document", remedy="Give more judgments, or a larger --test-share.")
    draws = resample(len(test.qrels.queries), settings.resamples, settings.seed)
    kept: dict[str, NDArray[np.float32]] = {}  # two models may have their documents in common
    return [_evaluate(model, dev, test, queries, draws, settings, kept) for model in models]


def _evaluate(
    model: Encoder, dev: Dataset, test: Dataset, queries: Ints, draws: Floats, settings: Evaluating,
    kept: dict[str, NDArray[np.float32]],
) -> Evaluation:  # fmt: skip
    start = time.perf_counter()
    side = model.digest_of("document")
    if side not in kept:
        kept[side] = model.encode(test.corpus.texts, "document", progress=f"{model.name}: documents")
    documents = kept[side]
    asked = np.unique(np.concatenate([dev.qrels.queries, test.qrels.queries]))
    embedded = model.encode([test.queries.texts[query] for query in asked.tolist()], "query", progress=f"{model.name}: queries")
    seconds = time.perf_counter() - start

    def scores(data: Dataset) -> Floats:
        rows = np.searchsorted(asked, data.qrels.query)
        inner: Floats = np.einsum("pd,pd->p", embedded[rows], documents[data.qrels.document], dtype=np.float64)
        return inner

    dev_scores, test_scores = scores(dev), scores(test)
    ties = _ties(test)
    run = search_embeddings(embedded[np.searchsorted(asked, queries)], documents, settings.top_k, ties)
    per_query = {**_corpus_measures(run.document, test, queries), **_list_measures(test_scores, test, queries, ties)}
    threshold, dev_f1 = _threshold(dev, test, dev_scores)
    relevant = test.qrels.relevance > 0
    curve = f1_curve(test_scores, relevant) if threshold is not None else np.zeros_like(GRID)
    bare = Evaluation(
        model.name, model.digest, {str(kind): prompt for kind, prompt in model.prompts.items()}, dev, test, dev_scores, test_scores,
        queries, per_query, {}, threshold, dev_f1, (GRID, curve), seconds,
    )  # fmt: skip
    bare.measures.update({name: interval(value, values) for name, (value, values) in samples(bare, draws).items()})
    if not relevant.all():
        bare.measures["ROC AUC"] = Interval(roc_auc(test_scores, relevant))
    return bare


def _ties(data: Dataset) -> Ints:
    """The rank of each document's id in ascending order: of equal scores the higher id comes first, as in trec_eval."""
    ties = np.empty(len(data.corpus), dtype=np.int32)
    ties[np.argsort(np.array(data.corpus.ids), kind="stable")] = np.arange(len(data.corpus), dtype=np.int32)
    return ties


def _padded_lists(data: Dataset, queries: Ints, values: Sequence[NDArray[Any]], fills: Sequence[float]) -> list[NDArray[Any]]:
    """Columns of the qrels as (queries, longest list), one row each of `queries`."""
    qrels = data.qrels.of(queries)
    keep = np.isin(data.qrels.query, queries)
    row = np.searchsorted(queries, qrels.query)
    column = np.arange(len(row)) - np.searchsorted(row, row)
    shape = (len(queries), int(column.max()) + 1)
    padded = []
    for value, fill in zip(values, fills, strict=True):
        out = np.full(shape, fill, dtype=value.dtype)
        out[row, column] = value[keep]
        padded.append(out)
    return padded


def _corpus_measures(found: Ints, data: Dataset, queries: Ints) -> dict[str, Floats]:
    """Measures of the search over the whole corpus; `found` (queries, top k)."""
    judged = {(query, document): grade for query, document, grade in zip(
        data.qrels.query.tolist(), data.qrels.document.tolist(), data.qrels.relevance.tolist(), strict=True) if grade > 0}  # fmt: skip
    gains = np.array(
        [[judged.get((query, document), 0) for document in row] for query, row in zip(queries.tolist(), found.tolist(), strict=True)]
    )
    (relevance,) = _padded_lists(data, queries, [data.qrels.relevance], [0])
    ideal = -np.sort(-relevance, axis=1)
    relevant = (relevance > 0).sum(axis=1)
    return {
        "nDCG@10": ndcg(gains, ideal, 10),
        "R@10": recall(gains, relevant, 10),
        "R@100": recall(gains, relevant, 100),
        "RR@10": reciprocal_rank(gains, 10),
    }


def _list_measures(scores: Floats, data: Dataset, queries: Ints, ties: Ints) -> dict[str, Floats]:
    """Measures over each query's own judged list."""
    padded, relevance, tied = _padded_lists(data, queries, [scores, data.qrels.relevance, ties[data.qrels.document]], [-np.inf, 0, 0])
    gains = np.take_along_axis(relevance, order(padded, tied), axis=1)
    return {"list nDCG": ndcg(gains, -np.sort(-relevance, axis=1), relevance.shape[1]), "list RR": reciprocal_rank(gains)}


def _threshold(dev: Dataset, test: Dataset, scores: Floats) -> tuple[float | None, float | None]:
    relevant = dev.qrels.relevance > 0
    if relevant.all() or not relevant.any() or (test.qrels.relevance > 0).all():
        return None, None
    return best_threshold(scores, relevant)


def _plain(value: Interval) -> dict[str, float | None]:
    return {name: figure if math.isfinite(figure) else None for name, figure in asdict(value).items()}


def summary(evaluations: Sequence[Evaluation], verdict: Verdict) -> dict[str, Any]:
    """What evaluation/metrics.json holds: plain numbers, None for what there isn't."""
    test = evaluations[0].test
    relevant = test.qrels.relevance > 0
    return {
        "verdict": {"outcome": verdict.outcome, "sentence": verdict.sentence, "notes": list(verdict.notes)},
        "differences": [
            {"model": each.name, "against": each.against, **{name: _plain(value) for name, value in each.measures.items()}}
            for each in verdict.differences
        ],
        "context": verdict.context.plain(),
        "counts": {
            "documents": len(test.corpus),
            "test_queries": len(evaluations[0].queries),
            "test_pairs": len(test.qrels),
            "dev_pairs": len(evaluations[0].dev.qrels),
            "relevant_share": float(relevant.mean()),
            "f1_of_calling_everything_relevant": f1_of_all(relevant),
        },
        "models": [
            {
                "name": each.name,
                "digest": each.digest,
                "prompts": each.prompts,
                "threshold": each.threshold,
                "dev_f1": each.dev_f1,
                "measures": {name: _plain(value) for name, value in each.measures.items()},
                "f1_at": {str(at): float(each.curve[1][np.searchsorted(each.curve[0], at)]) for at in NAMED}
                if each.threshold is not None
                else {},
                "f1_curve": {"threshold": each.curve[0].tolist(), "f1": each.curve[1].tolist()} if each.threshold is not None else None,
                "encoding_seconds": round(each.seconds, 2),
            }
            for each in evaluations
        ],
    }


def save_evaluation(evaluations: Sequence[Evaluation], verdict: Verdict, directory: Path) -> None:
    """metrics.json, scores.parquet (a score column a model) and per_query.parquet, in `directory`, which appears whole or not at all."""
    with replace_directory(directory) as fresh:
        write_json(fresh / "metrics.json", summary(evaluations, verdict))
        parts = []
        for side in ("dev", "test"):
            data = getattr(evaluations[0], side)
            columns: dict[str, Any] = {
                "split": [side] * len(data.qrels),
                "query_id": [data.queries.ids[query] for query in data.qrels.query.tolist()],
                "document_id": [data.corpus.ids[document] for document in data.qrels.document.tolist()],
                "relevance": data.qrels.relevance,
            }
            columns.update({each.name: getattr(each, f"{side}_scores") for each in evaluations})
            parts.append(pa.table(columns))
        pq.write_table(pa.concat_tables(parts), fresh / "scores.parquet")
        test = evaluations[0].test
        rows: dict[str, Any] = {"query_id": [test.queries.ids[query] for query in evaluations[0].queries.tolist()]}
        rows.update({f"{each.name}: {name}": values for each in evaluations for name, values in each.per_query.items()})
        pq.write_table(pa.table(rows), fresh / "per_query.parquet")


def read_context(directory: Path) -> Context:
    """What `save_evaluation` kept of the verdict's context."""
    return Context.of(json.loads((directory / "metrics.json").read_text(encoding="utf-8")).get("context", {}))


def read_evaluation(directory: Path, splits: Splits) -> list[Evaluation]:
    """The evaluations that `save_evaluation` wrote, over the dataset that they were made on.

    Raises FormatError where the directory holds none, or one of another dataset.
    """
    try:
        said = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
        scores, rows = pq.read_table(directory / "scores.parquet"), pq.read_table(directory / "per_query.parquet")
    except (OSError, ValueError) as error:
        raise FormatError(
            "the directory holds no evaluation", where=str(directory), got=str(error), remedy="Make one: homing evaluate."
        ) from None
    splits_column = np.array(scores["split"].to_pylist())
    evaluations = []
    for model in said["models"]:
        column = scores[model["name"]].to_numpy()
        dev_scores, test_scores = column[splits_column == "dev"], column[splits_column == "test"]
        if len(dev_scores) != len(splits.dev.qrels) or len(test_scores) != len(splits.test.qrels):
            raise FormatError("the evaluation is of another dataset", where=str(directory), remedy="Give the dataset that it was made on.")
        queries = np.array([splits.test.queries.index[name] for name in rows["query_id"].to_pylist()], dtype=np.int32)
        grid = model["f1_curve"] or {"threshold": GRID.tolist(), "f1": [0.0] * len(GRID)}
        evaluations.append(
            Evaluation(
                name=model["name"],
                digest=model["digest"],
                prompts=model["prompts"],
                dev=splits.dev,
                test=splits.test,
                dev_scores=dev_scores,
                test_scores=test_scores,
                queries=queries,
                per_query={name: rows[f"{model['name']}: {name}"].to_numpy() for name in (*CORPUS_MEASURES, *LIST_MEASURES)},
                measures={
                    name: Interval(**{key: float("nan") if figure is None else figure for key, figure in value.items()})
                    for name, value in model["measures"].items()
                },
                threshold=model["threshold"],
                dev_f1=model["dev_f1"],
                curve=(np.array(grid["threshold"]), np.array(grid["f1"])),
                seconds=model["encoding_seconds"],
            )
        )
    return evaluations
