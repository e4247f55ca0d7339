"""What people and models judged afterwards: whose text each judgment means, what holds where judges disagree, and what changes in the data.

A confirmed document becomes a positive, for relabelling a false negative serves better than dropping it (RLHN, arXiv 2505.16967). A
rejected one is a judged negative from then on, and where a judge is unsure, or judges disagree, the document is neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from homing.data import UNSURE, Dataset, Qrels, Splits, Texts, text_id
from homing.ties import groups_of_given

Mark = Literal["relevant", "not", "unsure"]
RELEVANCE: dict[Mark, int] = {"relevant": 1, "not": 0, "unsure": UNSURE}
SHOWN = 5


@dataclass(frozen=True)
class Judgment:
    """One judge's mark on a pair. The digests (`data.text_id`) say which texts were read; empty where a sheet was written by hand.

    `kind`: people outvote models. `grade`: 0 to 3, where the rubric has grades. `date`: ISO 8601, to order what one judge said twice.
    `split`: the side that was audited. `rubric`: its name and version. `note`: in the judge's words.
    """

    query_id: str
    document_id: str
    mark: Mark
    query_digest: str = ""
    document_digest: str = ""
    judge: str = ""
    kind: Literal["person", "model"] = "person"
    date: str = ""
    split: str = "train"
    rubric: str = ""
    grade: int | None = None
    note: str = ""


def slug(judge: str) -> str:
    """A judge's name as part of a file's: letters and digits of any script, a hyphen for all else."""
    return "".join(character if character.isalnum() else "-" for character in judge).strip("-")


@dataclass(frozen=True)
class Obeyed:
    """What came of judgments: how many pairs were confirmed, rejected and left out, and what was not obeyed, and why.

    `conflicts`: pairs that judges disagree on, as (query id, document id, who said what). `counts` has, beside the three marks:
    `read`, `unknown` (texts that the data doesn't have), `stale` (the id is there, its text has changed), `elsewhere` (the query is not of
    the training split), `positives_kept` (a judged positive that somebody rejects stays one) and `would_leak` (confirmed, but a
    positive of a dev or test query: left out of the negatives and not made a positive).
    """

    counts: Counter[str] = field(default_factory=Counter)
    conflicts: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        counts = self.counts
        lines = [
            f"judgments: {counts['read']:,} read; {counts['relevant']:,} confirmed (now positives), {counts['not']:,} rejected (judged "
            f"negatives), {counts['unsure']:,} left out of the negatives"
        ]
        said = {
            "would_leak": "confirmed, but positives of a dev or test query: left out of the negatives, not made positives",
            "elsewhere": "not obeyed: their queries are not in the training split",
            "unknown": "not obeyed: the data does not have their texts",
            "stale": "not obeyed: a text has changed since it was judged",
            "positives_kept": "not obeyed: they reject what the data itself judges relevant",
        }
        lines += [f"  {counts[name]:,} {words}" for name, words in said.items() if counts[name]]
        if self.conflicts:
            lines.append(f"  {len(self.conflicts):,} that judges disagree on, left out of the negatives:")
            lines += [f"    {query} {document}: {who}" for query, document, who in self.conflicts[:SHOWN]]
            lines += [f"    and {len(self.conflicts) - SHOWN:,} more"] if len(self.conflicts) > SHOWN else []
        return "\n".join(lines)


def obey(judgments: Iterable[Judgment], splits: Splits) -> tuple[Splits, Obeyed]:
    """The splits with the judgments taken over into train; dev and test, the exam, stay as they are.

    A text is known by its digest, wherever its id has gone; by its id alone where there is no digest. Of one judge's marks on a pair the
    latest counts; people outvote models; where the deciding ones disagree the pair is left out of the negatives. A confirmed document
    that is a positive of a dev or test query would tie train to the exam: unless the split lets positives be shared, it is left out
    of the negatives and does not become a positive.
    """
    train = splits.train
    exam: set[int] = set()
    if splits.by != "query":
        for side in (splits.dev, splits.test):
            exam.update(side.qrels.document[side.qrels.relevance > 0].tolist())
    changes, obeyed = _changes(judgments, train, exam)
    return replace(splits, train=train.changed(changes) if len(changes) else train), obeyed


def obey_before_split(judgments: Iterable[Judgment], data: Dataset) -> tuple[Dataset, Obeyed]:
    """The data with the judgments taken over into all of it, before it is split: this changes the exam, so it is for who asks for it.

    The split that follows knows the new positives, so nothing can leak. A pair left out is not judged any more. What changed is counted
    in `notes["changed_by_judges"]`, which a split dataset keeps.
    """
    changes, obeyed = _changes(judgments, data, set())
    return _judged_again(data, changes), obeyed


def obey_after_split(judgments: Iterable[Judgment], splits: Splits) -> tuple[Splits, Obeyed]:
    """The splits with the judgments taken over on every side and each query where it is: a model that was trained on them can be measured
    again. The exam changes, and a confirmed document may be relevant on two sides, so that these count as splits that were given."""
    sides = splits.train, splits.dev, splits.test
    changes, obeyed = _changes(judgments, splits.train.with_qrels(Qrels.joined(each.qrels for each in sides)), set())
    train, dev, test = (_judged_again(each, changes.of(each.qrels.queries)) for each in sides)
    return Splits(train, dev, test, "given", groups_of_given((train, dev, test), "group"), splits.removed), obeyed


def _judged_again(data: Dataset, changes: Qrels) -> Dataset:
    """The data with these judgments; a pair that is left out is not judged any more."""
    qrels = data.qrels.changed(changes)
    kept = qrels.relevance >= 0
    notes = {**data.notes, "changed_by_judges": len(changes)}
    return replace(data, qrels=Qrels(qrels.query[kept], qrels.document[kept], qrels.relevance[kept]), notes=notes)


def _changes(judgments: Iterable[Judgment], data: Dataset, exam: set[int]) -> tuple[Qrels, Obeyed]:
    """What the judgments change in the data; `exam`: documents that must not become a positive here."""
    counts = Counter[str]()
    judged = set(data.qrels.queries.tolist())
    said: dict[tuple[int, int], dict[tuple[str, str], Judgment]] = {}
    finders = _Finder(data.queries, "q"), _Finder(data.corpus, "d")
    for judgment in judgments:
        counts["read"] += 1
        query = finders[0].find(judgment.query_id, judgment.query_digest)
        document = finders[1].find(judgment.document_id, judgment.document_digest)
        if isinstance(query, str) or isinstance(document, str):
            counts["stale" if "stale" in (query, document) else "unknown"] += 1
        elif query not in judged:
            counts["elsewhere"] += 1
        else:
            judge = judgment.kind, judgment.judge
            before = said.setdefault((query, document), {}).get(judge)
            if before is None or before.date <= judgment.date:
                said[query, document][judge] = judgment
    changes: list[tuple[int, int, int]] = []
    conflicts: list[tuple[str, str, str]] = []
    for (query, document), by_judge in said.items():
        mark, agreed = _decided(list(by_judge.values()))
        if not agreed:
            who = ", ".join(f"{name or kind} says {judgment.mark}" for (kind, name), judgment in sorted(by_judge.items()))
            conflicts.append((data.queries.ids[query], data.corpus.ids[document], who))
        if document in data.qrels.positives.get(query, ()):
            counts["positives_kept"] += mark != "relevant"
        elif mark == "relevant" and document in exam:
            counts["would_leak"] += 1
            changes.append((query, document, UNSURE))
        else:
            counts[mark] += 1
            changes.append((query, document, RELEVANCE[mark]))
    columns = np.array(sorted(changes), dtype=np.int32).reshape(-1, 3)
    return Qrels(columns[:, 0], columns[:, 1], columns[:, 2]), Obeyed(counts, tuple(conflicts))


def judgment(
    data: Dataset, query: int, document: int, mark: Mark, *, judge: str, kind: Literal["person", "model"], date: str, split: str = "train",
    rubric: str = "", grade: int | None = None, note: str = "",
) -> Judgment:  # fmt: skip
    """A judgment of this pair of positions, with ids and digests of the texts as they are now."""
    query_text, document_text = data.queries.texts[query], data.corpus.texts[document]
    return Judgment(
        data.queries.ids[query], data.corpus.ids[document], mark, text_id("q", query_text), text_id("d", document_text), judge, kind, date,
        split, rubric, grade, note,
    )  # fmt: skip


def _decided(judgments: Sequence[Judgment]) -> tuple[Mark, bool]:
    """What holds of a pair, and whether its judges agree: people before models; who is unsure leaves it to the others."""
    people = [each for each in judgments if each.kind == "person"]
    marks: set[Mark] = {each.mark for each in people or judgments}
    decided = marks - {"unsure"}
    if len(decided) == 2:
        return "unsure", False
    return (decided or marks).pop(), True


class _Finder:
    """Where a text is, by its digest or its id."""

    def __init__(self, texts: Texts, prefix: str) -> None:
        self._texts = texts
        self._digests = {text_id(prefix, text): place for place, text in enumerate(texts.texts)}

    def find(self, name: str, digest: str) -> int | Literal["stale", "unknown"]:
        if digest:
            return self._digests.get(digest, "stale" if name in self._texts.index else "unknown")
        return self._texts.index.get(name, "unknown")
