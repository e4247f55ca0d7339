"""Training examples: what other trainers take, a query with its positives and its negatives. Each such format is made from these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from homing.data import Dataset, Mined


class Text(NamedTuple):
    """A text and its id."""

    id: str
    text: str


class Example(NamedTuple):
    """A query, what is relevant to it, and what it is to be told from."""

    query: Text
    positives: list[Text]
    negatives: list[Text]


def examples(data: Dataset | Mined) -> Iterator[Example]:
    """Of judgments, an example a query with all that is judged; of mined rows, an example a row: one positive, the negatives drawn for it.

    A query without a positive is left out: there is nothing that it could teach.
    """
    whole = data.train if isinstance(data, Mined) else data
    queries, documents = whole.queries, whole.corpus

    def named(positions: list[int]) -> list[Text]:
        return [Text(documents.ids[position], documents.texts[position]) for position in positions]

    if isinstance(data, Mined):
        for query, positive, negatives in zip(data.query.tolist(), data.positive.tolist(), data.negative.tolist(), strict=True):
            drawn = [negative for negative in negatives if negative >= 0]
            yield Example(Text(queries.ids[query], queries.texts[query]), named([positive]), named(drawn))
        return
    for query, judged, grades in data.qrels.lists():
        positives, negatives = judged[grades > 0].tolist(), judged[grades <= 0].tolist()
        if positives:
            yield Example(Text(queries.ids[query], queries.texts[query]), named(positives), named(negatives))
