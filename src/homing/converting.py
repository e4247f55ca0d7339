"""Convert judgments or mined rows into the format of another program, or from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from homing.data import Dataset, Mined, Qrels, Side, Splits, pair_keys
from homing.errors import SettingError
from homing.formats import beir, candidates, flagembedding, llamaindex, pairs, rows, sentence_transformers, swift, tevatron, trec
from homing.formats.examples import examples
from homing.manifest import replace_directory

EXAMPLES: dict[str, Callable[[Dataset | Mined, Path], None]] = {
    "rows": rows.write, "flagembedding": flagembedding.write, "sentence-transformers": sentence_transformers.write,
    "ms-swift": swift.write, "ms-swift-old": swift.write_old, "tevatron": tevatron.write,
}  # fmt: skip
"""What holds training examples: a query, its positives, its negatives."""
JUDGMENTS: dict[str, Callable[[Dataset, Path], None]] = {
    "candidates": candidates.write,
    "pairs": pairs.write,
    "llamaindex": llamaindex.write,
}
"""What holds judgments, without splits."""
FOLDERS: dict[str, Callable[[Dataset | Splits, Path], None]] = {"beir": beir.write, "trec": trec.write}
"""What holds judgments, in splits or not."""
WITH_COLUMNS = ("candidates", "beir")
"""What holds the columns of queries."""
MARKS = {"beir": (beir.QUERIES,), "trec": (trec.QUERIES,)}
TARGETS = (*JUDGMENTS, *FOLDERS, *EXAMPLES)
_ENDINGS = {"pairs": (".json", ".jsonl", ".parquet", ".csv"), "rows": (".json", ".jsonl", ".parquet", ".csv"), "llamaindex": (".json",)}
_RECORDS = (".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Converted:
    """What was written, and what of the source the format has no place for."""

    path: Path
    counts: dict[str, int]
    left_out: dict[str, int]


def convert(data: Dataset | Splits | Mined, to: str, out: str | Path) -> Converted:
    """Write the data as `to`, a key of `TARGETS`, to `out`: a folder for beir and trec, for the others a file whose name ends in `.jsonl`,
    `.json`, `.parquet` (rows and pairs also `.csv`).

    Of splits, the formats without splits get all judgments, pooled. Of mined rows, a format of judgments gets the positives and those
    negatives that somebody judged: an unjudged document is no judgment. beir and trec have the others beside, in `negatives.run`.

    Raises SettingError for an unknown format, or a name that ends otherwise.
    """
    out = Path(out)
    if to not in TARGETS:
        raise SettingError(f"there is no format {to!r} to write", expected=", ".join(TARGETS), remedy="Give --to one of these.")
    endings = _ENDINGS.get(to, _RECORDS)
    if to in FOLDERS:
        if out.is_file():
            raise SettingError(f"{to} is a folder, and a file stands there", where=str(out), remedy="Give --out another name.")
    elif out.suffix.lower() not in endings or out.is_dir():
        raise SettingError(
            f"--out cannot be written as {to}", got=str(out), expected=f"a file whose name ends in {' or '.join(endings)}",
            remedy="Give --out such a name.",
        )  # fmt: skip
    if to in FOLDERS:
        return _folder(data, to, out)
    if isinstance(data, Splits):
        data = pooled(data)
    if to in EXAMPLES:
        EXAMPLES[to](data, out)
        counts, left = _examples(data, to)
        return Converted(out, counts, left | _columns(data, to))
    judged = judgments(data) if isinstance(data, Mined) else data
    JUDGMENTS[to](judged, out)
    left = {"unjudged negatives": _unjudged(data)} if isinstance(data, Mined) else {}
    if to == "llamaindex":
        left["judgments of not relevant"] = int((judged.qrels.relevance <= 0).sum())
    else:
        left["documents without a judgment"] = len(judged.corpus) - len(np.unique(judged.qrels.document))
    return Converted(out, _counts(judged), left | _columns(data, to))


def _columns(data: Dataset | Splits | Mined, to: str) -> dict[str, int]:
    """The columns of queries that the format has no place for."""
    queries = data.train.queries if isinstance(data, Mined) else data.queries
    return {} if to in WITH_COLUMNS or not queries.columns else {"columns of the queries": len(queries.columns)}


def pooled(splits: Splits) -> Dataset:
    """All judgments of all splits, as one dataset."""
    return splits.train.with_qrels(Qrels.joined(part.qrels for part in splits))


def one_side(splits: Splits, side: Side) -> Dataset:
    """The judgments of one split, with the whole vocabulary."""
    return replace(splits.train, qrels=getattr(splits, side).qrels)


def judgments(mined: Mined) -> Dataset:
    """What the rows hold of judgments: their positives, and the negatives that somebody judged; each as it was judged."""
    row, place = np.nonzero((mined.negative >= 0) & mined.judged)
    query = np.concatenate([mined.query, mined.query[row]])
    document = np.concatenate([mined.positive, mined.negative[row, place]])
    qrels = mined.train.qrels
    held = np.isin(pair_keys(qrels.query, qrels.document), pair_keys(query, document))
    return mined.train.with_qrels(Qrels(qrels.query[held], qrels.document[held], qrels.relevance[held]))


def _folder(data: Dataset | Splits | Mined, to: str, out: Path) -> Converted:
    judged = judgments(data) if isinstance(data, Mined) else data
    with replace_directory(out, *MARKS[to]) as fresh:
        FOLDERS[to](judged, fresh)
        if isinstance(data, Mined) and _unjudged(data):
            trec.write_unjudged(data, fresh / trec.RUN)
    return Converted(out, _counts(pooled(judged) if isinstance(judged, Splits) else judged), _columns(data, to))


def _unjudged(mined: Mined) -> int:
    return int(((mined.negative >= 0) & ~mined.judged).sum())


def _counts(data: Dataset) -> dict[str, int]:
    relevant = int((data.qrels.relevance > 0).sum())
    return {"queries": len(data.qrels.queries), "documents": len(data.corpus), "judgments": len(data.qrels), "relevant": relevant}


def _examples(data: Dataset | Mined, to: str) -> tuple[dict[str, int], dict[str, int]]:
    """How many examples, positives and negatives were written; and what was not."""
    number = positives = negatives = bare = 0
    for each in examples(data):
        number, positives, negatives = number + 1, positives + len(each.positives), negatives + len(each.negatives)
        bare += not each.negatives
    left = {} if isinstance(data, Mined) else {"queries without a positive": len(data.qrels.queries) - number}
    if to == "sentence-transformers" and negatives:
        left["examples without a negative"] = bare
    return {"examples": number, "positives": positives, "negatives": negatives}, left
