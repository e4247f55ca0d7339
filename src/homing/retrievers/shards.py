"""Finished parts of long work, kept on disk as they come: a directory is there whole or not at all, and work that was killed goes on.

So are searches kept: a shard of queries is searched once for each state of a retriever, whoever asks.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from homing.cache import cache_directory
from homing.data import Run, digest
from homing.progress import BAR
from homing.protocols import Retriever

QUERIES = 1024  # searched between two writes: what a kill can cost


def search_kept(retriever: Retriever, queries: Sequence[str], top_k: int) -> Run:
    """What `retriever.search(queries, top_k)` gives, in shards of queries that are kept in the cache as each is finished.

    They lie under `cache_directory("searches")` by the digests of the retriever, of the queries and `top_k`, and are used again by whoever
    asks the same.
    """
    kept = cache_directory("searches")
    if kept is None or not queries:
        return retriever.search(queries, top_k)
    place, found = kept / digest([retriever.digest, str(top_k)]), list[tuple[NDArray[np.int32], NDArray[np.float32]]]()
    with tqdm(total=len(queries), desc=f"{retriever.name}: queries searched", unit=" queries", **BAR) as bar:
        for first in range(0, len(queries), QUERIES):
            some = queries[first : first + QUERIES]
            shard = place / digest(some)
            if not (shard / "said.json").is_file():
                run = retriever.search(some, top_k)
                if not put(shard, {"document": run.document, "score": run.score}, {"queries": len(some)}):
                    found.append((run.document, run.score))
                    bar.update(len(some))
                    continue
            found.append((mapped(shard, "document"), mapped(shard, "score")))
            bar.update(len(some))
    width = max(document.shape[1] for document, _ in found)
    document = np.full((len(queries), width), -1, dtype=np.int32)
    score = np.zeros((len(queries), width), dtype=np.float32)
    for number, (documents, scores) in enumerate(found):
        rows = slice(number * QUERIES, number * QUERIES + len(documents))
        document[rows, : documents.shape[1]], score[rows, : scores.shape[1]] = documents, scores
    return Run(np.arange(len(queries), dtype=np.int32), document, score)


def put(directory: Path, arrays: dict[str, NDArray[Any]], said: dict[str, Any]) -> bool:
    """Write arrays and said.json as a directory that appears whole; where another process was faster, its directory stays.

    False where the disk is full or may not be written, which costs the keeping alone.
    """
    fresh = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        for name, values in arrays.items():
            np.save(fresh / f"{name}.npy", values)
        (fresh / "said.json").write_text(json.dumps(said), encoding="utf-8")
        os.rename(fresh, directory)
        for left in directory.parent.glob(f".{directory.name}.*"):  # by a process that was killed, or is too late
            shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        if not (directory / "said.json").is_file():
            _say(f"what can be made again is not kept in {directory.parent}: {error.strerror}")
            return False
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
    return True


@cache
def _say(line: str) -> None:
    """Once, not for each shard."""
    print(line, file=sys.stderr)


def mapped(directory: Path, name: str) -> NDArray[Any]:
    """The array of this name that `put` wrote, mapped from disk, its shape and type kept."""
    return np.asarray(np.load(directory / f"{name}.npy", mmap_mode="r"))
