"""How often a test set has been looked at: each tuned model that was measured on it is counted, by digests alone.

Who chooses among models by one test set fits it little by little (Dwork et al. 2015, The reusable holdout, Science 349). The count is
kept beside the run and in Homing's cache, so that other runs on the same test set add to it; never a text, and no path.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from homing.cache import cache_directory
from homing.data import Dataset
from homing.manifest import write_json

NAME = "looks.json"


def digest_of(test: Dataset) -> str:
    """A digest of the test set: the judged texts and their relevance, in whatever order, over whatever corpus."""
    rows = zip(test.qrels.query.tolist(), test.qrels.document.tolist(), test.qrels.relevance.tolist(), strict=True)
    each = sorted(
        sha256(json.dumps([test.queries.texts[query], test.corpus.texts[document], relevance]).encode()).digest()
        for query, document, relevance in rows
    )
    return sha256(b"".join(each)).hexdigest()[:32]


def look(test: Dataset, model: str, *beside: Path) -> int:
    """Note that this model (by digest) is measured on the test set; how many different ones have been by now.

    `beside`: directories that hold a count, the first of which gets the new one: the run's own, and the one that the test came from. A
    count that cannot be read counts nothing, one that cannot be written to the cache is left out: a full disk is no reason to stop.
    """
    digest = digest_of(test)
    cache = cache_directory("looks")
    kept = [directory / NAME for directory in beside]
    files = [*kept, *([cache / f"{digest}.json"] if cache is not None else [])]
    seen = {model for file in files for model in _read(file).get(digest, ())} | {model}
    for file in (kept[0], *files[len(kept) :]):
        said = {**_read(file), digest: sorted(seen)}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, said)
        except OSError:
            if file == kept[0]:
                raise
    return len(seen)


def _read(file: Path) -> dict[str, list[str]]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return {digest: list(models) for digest, models in said.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
