"""LlamaIndex's pairs for fine-tuning and evaluation: one JSON object `{"queries": {id: text}, "corpus": {id: text}, "relevant_docs":
{query id: [document ids]}, "mode": "text"}`. It holds what is relevant alone.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homing.builder import Builder
from homing.data import Dataset, Side
from homing.errors import FormatError, JudgmentError
from homing.formats import files
from homing.formats.fields import id_field, keys, shown, text_field, unreadable
from homing.manifest import replaced

QUERIES, CORPUS, RELEVANT = "queries", "corpus", "relevant_docs"
_BEGINNING = re.compile(rb"""\s*\{\s*"(queries|corpus|relevant_docs|mode)"\s*:""")


def recognises(path: Path) -> bool:
    """Whether the file is an object that begins with one of the format's keys."""
    try:
        with files.opened(path) as file:
            head = file.read(4096).removeprefix(b"\xef\xbb\xbf")
    except (OSError, EOFError, zlib.error):
        return False  # whoever reads it says why
    return _BEGINNING.match(head) is not None


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the file into `into`, its judgments as those of `side`; ids are kept.

    Counts `empty_queries` and `empty_documents` (left out) in the notes. Raises FormatError for what is not of this form, JudgmentError
    for a relevant document that is not in the corpus.
    """
    said = _object(path)
    documents = _add(said[CORPUS], f"{path}, {CORPUS}", into.document, into.notes, "empty_documents")
    queries = _add(said[QUERIES], f"{path}, {QUERIES}", into.query, into.notes, "empty_queries")
    for name, relevant in said[RELEVANT].items():
        where = f"{path}, {RELEVANT}[{shown(name)}]"
        if name not in said[QUERIES] or not isinstance(relevant, list):
            raise FormatError(
                "the query is unknown" if isinstance(relevant, list) else "the relevant documents are no list", where=where,
                got=shown(relevant), expected=f"an id of {QUERIES}, and a list of ids of {CORPUS}", remedy="Correct it.",
            )  # fmt: skip
        for each in relevant:
            if not isinstance(each, str) or each not in said[CORPUS]:
                raise JudgmentError(
                    f"document {shown(each)} is not in the corpus ({len(documents):,} documents)", where=where,
                    remedy="Remove it, or add the document to the corpus.",
                )  # fmt: skip
            if name in queries and each in documents:
                into.judge(queries[name], documents[each], 1, side)


def write(data: Dataset, path: Path) -> None:
    """Write queries that have a relevant document, the whole corpus, and what is relevant. Negatives and grades have no place here."""
    positives = sorted(data.qrels.positives.items())
    value = {
        QUERIES: {data.queries.ids[query]: data.queries.texts[query] for query, _ in positives},
        CORPUS: dict(zip(data.corpus.ids, data.corpus.texts, strict=True)),
        RELEVANT: {data.queries.ids[query]: [data.corpus.ids[document] for document in sorted(found)] for query, found in positives},
        "mode": "text",
    }
    with replaced(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")


def _object(path: Path) -> dict[str, Any]:
    try:
        with files.opened(path) as file:
            said = json.loads(file.read())
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"the JSON cannot be read: {error}", where=str(path), remedy="Correct the JSON there, or write it with a JSON library."
        ) from None
    if not isinstance(said, dict) or not all(isinstance(said.get(key), dict) for key in (QUERIES, CORPUS, RELEVANT)):
        raise FormatError(
            "the file is not LlamaIndex's", where=str(path), got=f"the keys {keys(said)}" if isinstance(said, dict) else shown(said),
            expected=f"{QUERIES}, {CORPUS} and {RELEVANT}, each an object", remedy="Save it with EmbeddingQAFinetuneDataset.save_json.",
        )  # fmt: skip
    return said


def _add(texts: dict[str, Any], where: str, add: Callable[[str, str | None], int], notes: Counter[str], empty: str) -> dict[str, int]:
    """The position of each id that has a text."""
    positions: dict[str, int] = {}
    for name, value in texts.items():
        id_field(name, where)
        text = text_field(value, name, where)
        if text:
            positions[name] = add(text, name)
        notes[empty] += not text
    return positions
