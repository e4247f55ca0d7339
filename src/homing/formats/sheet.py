"""The sheet on which a person marks audited negatives: CSV that spreadsheets open, in Chinese too. `formats.judgments` reads it back."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from homing.data import text_id
from homing.formats.judgments import guarded
from homing.suspects import DIFFERENT, EQUAL, NEAR, Suspects

LONGEST = 30_000  # characters; a cell of Excel holds 32,767
NEARNESS = {DIFFERENT: "", NEAR: "near-duplicate", EQUAL: "equal"}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def write(suspects: Suspects, path: Path) -> None:
    """Write a row a suspect: an empty `mark`, query, positive and negative side by side, the evidence, ids and digests of the texts.

    UTF-8 with a byte order mark and lines that end in \\r\\n, as Excel wants it. No cell is a formula: see `guarded`. A longer text is cut
    for the eye; the digest is that of the whole.
    """
    data = suspects.data
    scores = [f"{name} {what}" for name in suspects.models for what in ("negative", "positive")]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, lineterminator="\r\n")
        table.writerow(
            ["number", "mark", "query", "positive", "negative", "note", "near", "judged", *map(guarded, scores), "split", "query_id",
             "document_id", "query_digest", "document_digest"]
        )  # fmt: skip
        columns = suspects.query.tolist(), suspects.positive.tolist(), suspects.negative.tolist()
        for number, (query, positive, negative) in enumerate(zip(*columns, strict=True)):
            asked, told = data.queries.texts[query], data.corpus.texts[negative]
            both = zip(suspects.score[number].tolist(), suspects.rival[number].tolist(), strict=True)
            table.writerow(
                [number + 1, "", *(_cell(text) for text in (asked, data.corpus.texts[positive], told)), "",
                 NEARNESS[int(suspects.near[number])], "judged" if suspects.judged[number] else "mined",
                 *(f"{score:.4f}" for pair in both for score in pair), suspects.side, guarded(data.queries.ids[query]),
                 guarded(data.corpus.ids[negative]), text_id("q", asked), text_id("d", told)]
            )  # fmt: skip


def _cell(text: str) -> str:
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return guarded(_UNPRINTABLE.sub(" ", cut).replace("\r\n", "\n").replace("\r", "\n"))
