"""Judged candidates: `{"query": …, KEY: [{"content": …, "is_relevant": …}, …], …}`, as JSON, JSONL or Parquet.

Every key that holds a list of objects is a list of candidates; the judgments of all of them are the query's. A candidate's text and label
may have any name that they have in `pairs`, and its text stands after its `title`, where it has one; a label is true or false, a whole
number, one of these as a string, or a word like yes and no.
Other keys are columns of the query.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from homing.builder import Builder
from homing.data import Dataset, Side
from homing.errors import FormatError
from homing.formats import headers
from homing.formats.fields import Record, columns, keys, relevance_field, shown, text_field, titled
from homing.formats.pairs import DOCUMENT, LABEL
from homing.formats.records import records
from homing.formats.writing import write_records


def recognises(record: dict[str, Any]) -> bool:
    """Whether the record has a query and a list of objects."""
    return "query" in record and any(isinstance(value, list) and _objects(value) for value in record.values())


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the file into `into`, its judgments as those of `side`.

    Counts in the notes: `records_without_candidates`, `records_without_positive`, `ignored_lists` (a list without an object beside
    real candidates), `empty_documents` and `empty_queries` (left out, the latter with their candidates), `negative_grades`. Raises
    FormatError at the first record that is wrong.
    """
    for record in records(path, into.notes):
        judged: list[tuple[str, int]] = []
        for key, candidates in _candidates(record).items():
            if candidates and not _objects(candidates):
                into.notes["ignored_lists"] += 1
                continue
            for number, candidate in enumerate(candidates, 1):
                where = f"{record.where}, {key}[{number}]"
                text, label, said = _candidate(candidate, where)
                judged.append((text, relevance_field(said, label, where, into.notes)))
        _add(text_field(record.value["query"], "query", record.where), columns(record, ("query",)), judged, into, side)


def _add(text: str, said: dict[str, str], judged: list[tuple[str, int]], into: Builder, side: Side | None) -> None:
    """Add a query and its candidates, and count what is suspicious about them."""
    into.notes.update(["empty_documents"] * sum(not candidate for candidate, _ in judged))
    judged = [(candidate, grade) for candidate, grade in judged if candidate]
    if not text:
        into.notes["empty_queries"] += 1
        return
    query = into.query(text)
    into.describe(query, said)
    for candidate, grade in judged:
        into.judge(query, into.document(candidate), grade, side)
    if not judged:
        into.notes["records_without_candidates"] += 1
    if not any(grade > 0 for _, grade in judged):
        into.notes["records_without_positive"] += 1


def write(data: Dataset, path: Path) -> None:
    """Write the judged queries with their candidates in list order, as JSON, JSONL or Parquet by the file's name.

    Labels are true and false, or numbers where there are grades of 2 and more. What the queries' columns say stands in `metadata`. The
    ids of queries and documents, and texts without a judgment, have no place in this format.
    """
    texts, documents = data.queries.texts, data.corpus.texts
    graded = bool((data.qrels.relevance > 1).any())
    columns = data.queries.columns
    values = (
        {
            "query": texts[query],
            **({"metadata": {name: said[query] or None for name, said in columns.items()}} if columns else {}),
            "candidates": [
                {"content": documents[document], "is_relevant": grade if graded else bool(grade)}
                for document, grade in zip(judged.tolist(), grades.tolist(), strict=True)
            ],
        }
        for query, judged, grades in data.qrels.lists()
    )
    write_records(path, values)


def _objects(values: list[Any]) -> bool:
    return any(isinstance(value, dict) for value in values)


def _candidates(record: Record) -> dict[str, list[Any]]:
    """The lists of a record, by their keys. Raises FormatError where it has no query, or no list that candidates could be in."""
    if "query" not in record.value:
        raise FormatError(
            "'query' is missing", where=record.where, got=f"the keys {keys(record.value)}", expected="'query' and lists of candidates",
            remedy="Give each record its query.",
        )  # fmt: skip
    lists = {key: value for key, value in record.value.items() if isinstance(value, list)}
    if not any(not value or _objects(value) for value in lists.values()):
        raise FormatError(
            "there is no list of candidates",
            where=record.where,
            got=f"the keys {keys(record.value)}",
            expected='a key with a list of {"content": …, "is_relevant": …}',
            remedy=_otherwise(record.value),
        )
    return lists


def _otherwise(value: dict[str, Any]) -> str:
    """What to do about a record without a list of candidates, by what it has instead."""
    objects = {key: list(each.values()) for key, each in value.items() if isinstance(each, dict)}
    if apart := next((key for key, parts in objects.items() if any(isinstance(part, list) for part in parts)), None):
        return f"Write {apart!r} as a list with an object a candidate, its text and its label together."
    if texts := {key: each for key, each in value.items() if isinstance(each, list)}:
        return f"Call a list of texts 'positive' where they answer the query, 'negative' where they don't ({keys(texts)})."
    return "Add the list, empty where the query has no candidate."


def _candidate(candidate: object, where: str) -> tuple[str, str, object]:
    """The text of a candidate, perhaps empty, and the name and the value of its label."""
    if not isinstance(candidate, dict):
        raise FormatError(
            "a candidate is not an object",
            where=where,
            got=shown(candidate),
            expected='{"content": …, "is_relevant": …}',
            remedy="Give each candidate its text and its label.",
        )
    if (names := headers.keys(tuple(candidate))) is not None:
        candidate = {names[name]: value for name, value in candidate.items()}
    text, label = (next((name for name in names if name in candidate), None) for names in (DOCUMENT, LABEL))
    if text is None or label is None:
        raise FormatError(
            "'content' is missing" if text is None else "'is_relevant' is missing",
            where=where,
            got=f"the keys {keys(candidate)}",
            expected="'content', and 'is_relevant' or 'label'",
            remedy="Give each candidate its text and its label.",
        )
    return titled(candidate, text_field(candidate[text], text, where), where), label, candidate[label]
