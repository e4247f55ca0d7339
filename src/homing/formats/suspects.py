"""What an audit listed, on disk: the ids of each suspect, and what each model scored; no texts. `formats.sheet` is the same for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from homing.data import Dataset
from homing.errors import FormatError, JudgmentError
from homing.suspects import Suspects

FILE = "suspects.parquet"


def save(suspects: Suspects, directory: Path) -> None:
    """Write suspects.parquet into an existing directory: ids, and for each model the scores of negative and positive; no texts."""
    data = suspects.data
    columns: dict[str, Any] = {
        "query_id": [data.queries.ids[each] for each in suspects.query.tolist()],
        "positive_id": [data.corpus.ids[each] for each in suspects.positive.tolist()],
        "negative_id": [data.corpus.ids[each] for each in suspects.negative.tolist()],
        "judged": suspects.judged,
        "near": suspects.near,
    }
    for number, name in enumerate(suspects.models):
        columns |= {f"{name}: negative": suspects.score[:, number], f"{name}: positive": suspects.rival[:, number]}
    said = {"side": suspects.side, "models": json.dumps(suspects.models, ensure_ascii=False), "of": str(suspects.of)}
    pq.write_table(pa.table(columns).replace_schema_metadata(said), directory / FILE)


def read(directory: Path, data: Dataset) -> Suspects:
    """The suspects that `save` wrote, over the dataset that was audited (any side of it).

    Raises FormatError where there are none, JudgmentError where they are of other data.
    """
    path = directory / FILE
    try:
        table = pq.read_table(path)
        said = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
        models, side = tuple(json.loads(said["models"])), said["side"]
    except (OSError, pa.ArrowInvalid, AttributeError, KeyError, ValueError) as error:
        raise FormatError("there is no audit here", where=str(path), got=str(error), remedy="Make one: homing audit.") from None
    try:
        query = np.array([data.queries.index[each] for each in table["query_id"].to_pylist()], dtype=np.int32)
        positive, negative = (
            np.array([data.corpus.index[each] for each in table[f"{name}_id"].to_pylist()], dtype=np.int32)
            for name in ("positive", "negative")
        )
    except KeyError as error:
        raise JudgmentError(
            f"{error.args[0]!r} of the audit is not in the data", where=str(path), remedy="Give the data that was audited, or audit again."
        ) from None
    score, rival = (
        np.column_stack([table[f"{name}: {what}"].to_numpy() for name in models]) if models else np.zeros((len(query), 0))
        for what in ("negative", "positive")
    )
    return Suspects(
        data, "train" if side == "train" else "dev" if side == "dev" else "test", models, query, positive, negative,
        table["judged"].to_numpy(), table["near"].to_numpy(), score, rival, int(said["of"]),
    )  # fmt: skip
