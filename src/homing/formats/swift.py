"""ms-swift's data for embedding models, which it has in two forms, both JSONL.

Since version 3.10 a query, each positive and each negative are messages: `{"messages": [{"role": "user", "content": …}],
"positive_messages": [[…]], "negative_messages": [[…], …]}`, where data for rerankers has the documents as an assistant's. Before:
`{"query": …, "response": …, "rejected_response": [texts]}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from homing.builder import Builder
from homing.data import Dataset, Mined, Side
from homing.errors import FormatError
from homing.formats.examples import examples
from homing.formats.fields import Record, columns, keys, relevance_field, shown, text_field
from homing.formats.records import records
from homing.formats.writing import write_records

MESSAGES, POSITIVE, NEGATIVE = "messages", "positive_messages", "negative_messages"
QUERY, RESPONSE, REJECTED = "query", "response", "rejected_response"


def recognises(record: dict[str, Any]) -> bool:
    """Whether the record has the keys of one of the two forms."""
    return {MESSAGES, POSITIVE} <= record.keys() or {QUERY, RESPONSE} <= record.keys()


def read(path: Path, into: Builder, side: Side | None = None) -> None:
    """Read the file into `into`, its judgments as those of `side`; the text of messages is that of their last user turn, of a document's
    the last that is no system prompt.

    Counts `records_without_positive`, `empty_documents` and `empty_queries` in the notes. A record's `label`, where it has one, is the
    relevance of its positives. Raises FormatError at the first record that is wrong.
    """
    for record in records(path, into.notes):
        if not recognises(record.value):
            raise FormatError(
                f"{MESSAGES!r} or {QUERY!r} is missing", where=record.where, got=f"the keys {keys(record.value)}",
                expected=f"{MESSAGES} and {POSITIVE}, or {QUERY} and {RESPONSE}", remedy="Give each record these keys.",
            )  # fmt: skip
        text, positives, negatives = _new(record) if MESSAGES in record.value and POSITIVE in record.value else _old(record)
        into.notes.update(["empty_documents"] * sum(not each for each in positives + negatives))
        if not text:
            into.notes["empty_queries"] += 1
            continue
        query = into.query(text)
        into.describe(query, columns(record, (QUERY, RESPONSE, REJECTED, "label")))
        label = record.value.get("label")
        relevance = 1 if label is None else relevance_field(label, "label", record.where, into.notes)
        for texts, grade in ((positives, relevance), (negatives, 0)):
            for each in filter(None, texts):
                into.judge(query, into.document(each), grade, side)
        if not any(positives):
            into.notes["records_without_positive"] += 1


def write(data: Dataset | Mined, path: Path) -> None:
    """Write the examples as messages, a positive a record."""

    def turns(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    values = (
        {MESSAGES: turns(query), POSITIVE: [turns(positive)], NEGATIVE: [turns(negative) for negative in negatives]}
        for query, positive, negatives in _triples(data)
    )
    write_records(path, values)


def write_old(data: Dataset | Mined, path: Path) -> None:
    """Write the examples in the older form, a positive a record."""
    write_records(path, ({QUERY: query, RESPONSE: positive, REJECTED: negatives} for query, positive, negatives in _triples(data)))


def _triples(data: Dataset | Mined) -> Iterator[tuple[str, str, list[str]]]:
    for each in examples(data):
        for positive in each.positives:
            yield each.query.text, positive.text, [text.text for text in each.negatives]


def _old(record: Record) -> tuple[str, list[str], list[str]]:
    value = record.value
    rejected = value.get(REJECTED)
    texts = [] if rejected is None else rejected if isinstance(rejected, list) else [rejected]
    return (
        text_field(value[QUERY], QUERY, record.where),
        [text_field(value[RESPONSE], RESPONSE, record.where)],
        [text_field(text, REJECTED, record.where) for text in texts],
    )


def _new(record: Record) -> tuple[str, list[str], list[str]]:
    positives, negatives = ([_turn(each, name, record.where) for each in _listed(record, name)] for name in (POSITIVE, NEGATIVE))
    return _turn(record.value[MESSAGES], MESSAGES, record.where, ("user",)), positives, negatives


def _listed(record: Record, name: str) -> list[Any]:
    value = record.value.get(name) or []
    if not isinstance(value, list):
        raise FormatError(
            f"{name!r} has the wrong type", where=record.where, got=shown(value), expected="a list of lists of messages",
            remedy=f"Make {name!r} a list with a list of messages for each text.",
        )  # fmt: skip
    return value


def _turn(messages: object, name: str, where: str, roles: tuple[str, ...] = ("user", "assistant")) -> str:
    """The text of the last turn of these roles."""
    turns = messages if isinstance(messages, list) else []
    said = [each["content"] for each in turns if isinstance(each, dict) and each.get("role") in roles and "content" in each]
    if not said:
        raise FormatError(
            f"{name!r} holds no message of {' or '.join(roles)}", where=where, got=shown(messages),
            expected='[{"role": "user", "content": …}]', remedy="Give each text as a message.",
        )  # fmt: skip
    return text_field(said[-1], name, where)
