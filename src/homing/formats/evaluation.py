"""An evaluation's directory: metrics.json, and per pair, per query and per result what the figures were made of, as Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from homing.data import Dataset, Ints, Run, Splits
from homing.errors import FormatError
from homing.manifest import replace_directory, write_json
from homing.measures.calibration import Reliability
from homing.measures.decision import Decision
from homing.measures.evaluations import Background, Evaluation, Interval, Returned, Speed, Trade
from homing.measures.thresholds import GRID, f1_of_all
from homing.settings import Evaluating
from homing.verdicts.causes import Cause
from homing.verdicts.context import Context

if TYPE_CHECKING:
    from homing.verdicts.differences import Difference
    from homing.verdicts.verdict import Verdict

METRICS, RUNS = "metrics.json", "runs.parquet"


def _plain(value: Any) -> Any:
    """The value as JSON has it: None for what is no number."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(each) for each in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _difference(each: Difference) -> dict[str, Any]:
    return {
        "model": each.name, "against": each.against, **{name: asdict(value) for name, value in each.measures.items()},
        "of_seeds": {name: asdict(value) for name, value in each.of_seeds.items()} or None,
        "p_values": each.p_values, "adjusted_p_values": each.adjusted, "f1_at_the_other_threshold": each.borrowed,
    }  # fmt: skip


def _model(each: Evaluation) -> dict[str, Any]:
    decides = each.threshold is not None
    return {
        "name": each.name,
        "kind": each.kind,
        "digest": each.digest,
        "prompts": each.prompts,
        "threshold": each.threshold,
        "dev_f1": each.dev_f1,
        "test_best": None if each.test_best is None else {"threshold": each.test_best[0], "f1": each.test_best[1]},
        "decision": None if each.decision is None else each.decision.plain(),
        "measures": {name: asdict(value) for name, value in each.measures.items()},
        "bare": {name: asdict(value) for name, value in each.bare.items()},
        "f1_at": each.f1_at,
        "f1_curve": {"threshold": each.curve[0], "f1": each.curve[1]} if decides else None,
        "reliability": None if each.reliability is None else asdict(each.reliability),
        "trades": [asdict(trade) for trade in each.trades],
        "returned": {name: asdict(returned) for name, returned in each.returned.items()},
        "background": None if each.background is None else asdict(each.background),
        "encoding_seconds": round(each.seconds, 2),
        "speed": None if each.speed is None else asdict(each.speed),
        "cost": each.cost,
    }


def summary(evaluations: Sequence[Evaluation], verdict: Verdict) -> dict[str, Any]:
    """What metrics.json holds: plain numbers, None for what there isn't. No text of a query or document is in it."""
    test, relevant = evaluations[0].test, evaluations[0].relevant
    whole = {
        "verdict": {
            "outcome": verdict.outcome,
            "action": verdict.action,
            "chosen": verdict.chosen,
            "sentence": verdict.sentence,
            "notes": verdict.notes,
            "ranked": verdict.ranked,
            "untrained": None if verdict.untrained is None else _difference(verdict.untrained),
            "deployed": None if verdict.deployed is None else _difference(verdict.deployed),
            "power": None if verdict.power is None else asdict(verdict.power),
            "causes": [asdict(cause) for cause in verdict.causes],
            "slices": [
                {
                    "by": each.by, "label": each.label, "queries": len(each.queries), "measure": each.measure, "before": each.before,
                    "after": each.after, "difference": asdict(each.difference), "worse": each.worse, "better": each.better,
                }
                for each in verdict.slices
            ],
        },
        "differences": [_difference(each) for each in verdict.differences],
        "context": verdict.context.plain(),
        "counts": {
            "documents": len(test.corpus),
            "test_queries": len(evaluations[0].queries),
            "test_groups": None if evaluations[0].groups is None else len(np.unique(evaluations[0].groups)),
            "test_pairs": len(test.qrels),
            "dev_pairs": len(evaluations[0].dev.qrels),
            "relevant_share": float(relevant.mean()),
            "f1_of_calling_everything_relevant": f1_of_all(relevant),
        },
        "models": [_model(each) for each in evaluations],
    }  # fmt: skip
    plain: dict[str, Any] = _plain(whole)
    return plain


def save_evaluation(evaluations: Sequence[Evaluation], verdict: Verdict, directory: Path, settings: Evaluating | None = None) -> None:
    """Write an evaluation into `directory`, which appears whole or not at all.

    metrics.json (with the settings that it was made under); scores.parquet (each judged pair, a score column each model that scores
    pairs); per_query.parquet (a column each measure of each model); runs.parquet (what each model found for each test query).
    """
    with replace_directory(directory, METRICS) as fresh:
        write_json(fresh / METRICS, {**summary(evaluations, verdict), "evaluating": asdict(settings or Evaluating())})
        scores = _pairs(evaluations[0].dev, evaluations[0].test)
        for each in evaluations:
            if each.has_scores:
                scores = scores.append_column(each.name, pa.array(np.concatenate([each.dev_scores, each.test_scores])))
        pq.write_table(scores, fresh / "scores.parquet")
        test = evaluations[0].test
        rows: dict[str, Any] = {"query_id": [test.queries.ids[query] for query in evaluations[0].queries.tolist()]}
        rows.update({f"{each.name}: {name}": values for each in evaluations for name, values in each.per_query.items()})
        pq.write_table(pa.table(rows), fresh / "per_query.parquet")
        if runs := [_run(each) for each in evaluations if each.found is not None]:
            pq.write_table(pa.concat_tables(runs), fresh / RUNS)


def _pairs(dev: Dataset, test: Dataset) -> pa.Table:
    """The judged pairs of dev and test, in their order, with what was judged."""
    sides = (("dev", dev), ("test", test))
    return pa.table(
        {
            "split": [side for side, data in sides for _ in range(len(data.qrels))],
            "query_id": [data.queries.ids[query] for _, data in sides for query in data.qrels.query.tolist()],
            "document_id": [data.corpus.ids[document] for _, data in sides for document in data.qrels.document.tolist()],
            "relevance": np.concatenate([data.qrels.relevance for _, data in sides]),
        }
    )


def _run(evaluation: Evaluation) -> pa.Table:
    run, test = evaluation.found, evaluation.test
    assert run is not None
    row, column = np.nonzero(run.document >= 0)
    query_ids, document_ids = np.array(test.queries.ids, dtype=object), np.array(test.corpus.ids, dtype=object)
    return pa.table(
        {
            "model": pa.array([evaluation.name] * len(row), pa.string()).dictionary_encode(),
            "query_id": pa.array(query_ids[run.query[row]], pa.string()).dictionary_encode(),
            "document_id": pa.array(document_ids[run.document[row, column]], pa.string()).dictionary_encode(),
            "rank": column.astype(np.int32) + 1,
            "score": run.score[row, column],
        }
    )


def read_summary(directory: Path) -> dict[str, Any]:
    """What metrics.json holds."""
    return dict(json.loads((directory / METRICS).read_text(encoding="utf-8")))


def read_settings(directory: Path) -> Evaluating:
    """The settings that an evaluation was made under."""
    known = {each.name for each in fields(Evaluating)}
    return Evaluating(**{name: value for name, value in read_summary(directory).get("evaluating", {}).items() if name in known})


def read_causes(directory: Path) -> tuple[Cause, ...]:
    """The causes of no gain that were found when the training's circumstances were at hand."""
    return tuple(Cause(**each) for each in read_summary(directory)["verdict"].get("causes", ()))


def read_context(directory: Path) -> Context:
    """What `save_evaluation` kept of the verdict's context."""
    return Context.of(read_summary(directory).get("context", {}))


def read_evaluation(directory: Path, splits: Splits) -> list[Evaluation]:
    """The evaluations that `save_evaluation` wrote, over the dataset that they were made on.

    Raises FormatError where the directory holds none, or one of another dataset.
    """
    try:
        said = json.loads((directory / METRICS).read_text(encoding="utf-8"))
        scores, rows = pq.read_table(directory / "scores.parquet"), pq.read_table(directory / "per_query.parquet")
        runs = pq.read_table(directory / RUNS) if (directory / RUNS).is_file() else None
    except (OSError, ValueError) as error:
        raise FormatError(
            "the directory holds no evaluation", where=str(directory), got=str(error), remedy="Make one: homing evaluate."
        ) from None
    pairs, dev = _pairs(splits.dev, splits.test), len(splits.dev.qrels)
    if not scores.select(pairs.column_names).equals(pairs) or said["counts"]["documents"] != len(splits.test.corpus):
        raise FormatError("the evaluation is of another dataset", where=str(directory), remedy="Give the dataset that it was made on.")
    queries = np.array([splits.test.queries.index[name] for name in rows["query_id"].to_pylist()], dtype=np.int32)
    found = {} if runs is None else _runs(runs, splits.test, queries)
    evaluations = []
    for model in said["models"]:
        known = model["name"] in scores.column_names
        column = scores[model["name"]].to_numpy() if known else np.full(len(pairs), np.nan)
        grid = model["f1_curve"] or {"threshold": GRID.tolist(), "f1": [0.0] * len(GRID)}
        prefix = f"{model['name']}: "
        evaluations.append(
            Evaluation(
                name=model["name"],
                digest=model["digest"],
                prompts=model["prompts"],
                dev=splits.dev,
                test=splits.test,
                dev_scores=column[:dev],
                test_scores=column[dev:],
                queries=queries,
                per_query={name.removeprefix(prefix): rows[name].to_numpy() for name in rows.column_names if name.startswith(prefix)},
                measures={name: Interval.of(value) for name, value in model["measures"].items()},
                threshold=model["threshold"],
                dev_f1=model["dev_f1"],
                curve=(np.array(grid["threshold"]), np.array(grid["f1"])),
                seconds=model["encoding_seconds"],
                groups=splits.groups[splits.test.qrels.queries],
                found=found.get(model["name"]),
                **_chosen(model),
            )
        )
    return evaluations


def _chosen(model: Mapping[str, Any]) -> dict[str, Any]:
    """What `_model` says beyond scores and measures."""
    best, decision, bins, background, speed = (model.get(name) for name in ("test_best", "decision", "reliability", "background", "speed"))
    return {
        "kind": model.get("kind", "model"),
        "test_best": None if best is None else (best["threshold"], best["f1"]),
        "decision": None if decision is None else Decision.of(decision),
        "bare": {name: Interval.of(value) for name, value in model.get("bare", {}).items()},
        "reliability": None if bins is None else Reliability(
            np.array(bins["promised"]), np.array(bins["came"]), np.array(bins["pairs"]),
            bins["error"], bins["brier"], bins["brier_of_share"],
        ),
        "trades": tuple(
            Trade(trade["wanted"], trade["level"], trade["threshold"], _number(trade["precision"]), _number(trade["recall"]))
            for trade in model.get("trades", ())
        ),
        "returned": {name: Returned(**each) for name, each in model.get("returned", {}).items()},
        "background": None if background is None else Background(**{**background, "f1": Interval.of(background["f1"])}),
        "speed": None if speed is None else Speed(**speed),
        "cost": model.get("cost", {}),
    }  # fmt: skip


def _runs(table: pa.Table, test: Dataset, queries: Ints) -> dict[str, Run]:
    """What each model found, by its name; rows are `queries`."""
    row_of, place = {test.queries.ids[query]: row for row, query in enumerate(queries.tolist())}, test.corpus.index
    coded = {name: table[name].combine_chunks() for name in ("model", "query_id", "document_id")}
    codes, words = ({name: getattr(each, part) for name, each in coded.items()} for part in ("indices", "dictionary"))
    row = np.array([row_of[name] for name in words["query_id"].to_pylist()])[codes["query_id"].to_numpy()]
    document = np.array([place[name] for name in words["document_id"].to_pylist()], dtype=np.int32)[codes["document_id"].to_numpy()]
    column, score, model = table["rank"].to_numpy() - 1, table["score"].to_numpy(), codes["model"].to_numpy()
    found = {}
    for code, name in enumerate(words["model"].to_pylist()):
        mine = model == code
        shape = (len(queries), int(column[mine].max()) + 1)
        run = Run(queries, np.full(shape, -1, dtype=np.int32), np.full(shape, -np.inf, dtype=np.float32))
        run.document[row[mine], column[mine]], run.score[row[mine], column[mine]] = document[mine], score[mine]
        found[name] = run
    return found
