"""Look at data before anything costs time: how much there is, what is suspicious in it, what leaks, what a tokenizer makes of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from homing.arguments import demand
from homing.checks import HIGH, Check, Leak, Lengths, Part, Spread, keeping
from homing.data import SIDES, Dataset, Qrels, Side, Splits, pair_keys
from homing.errors import SettingError
from homing.formats.fields import IRRELEVANT, RELEVANT, simplified
from homing.protocols import Kind
from homing.texts.near import Near, equal, join

_TAGS = re.compile(r"</(?:div|p|span|td|li|a|b|i|em|strong|h[1-6]|script|style)\s*>", re.IGNORECASE)


class Tokenizer(Protocol):
    """What `check` asks of a model."""

    @property
    def max_length(self) -> int:
        """Tokens that the model reads of a text; what is longer is cut."""
        ...

    def token_counts(
        self, texts: Sequence[str], kind: Kind, *, progress: str = ""
    ) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
        """Tokens a text before any cut, prompt and special tokens included, and those that it does not know; shapes (texts,)."""
        ...


_GIVE_THE_MODEL = "Give the model: homing.check(data, homing.Model(path))."


def check(data: Dataset | Splits, tokenizer: Tokenizer | None = None, *, max_length: int | None = None, by: str | None = None) -> Check:
    """Count what is in the data and what is suspicious about it; nothing is changed, and nothing here is an error.

    Of splits, all sides are counted together and leaks between them are looked for. With a tokenizer the queries that have a judgment
    and all documents are measured, against `max_length` tokens (None: the tokenizer's own). `by`: how data will be split that is not yet.

    Raises SettingError for a `max_length` below 1 or without a tokenizer, for a tokenizer that counts nothing (transformers' own know no
    prompts), and for another `by` than "group" and "query".
    """
    demand(Dataset | Splits, data=data)
    if tokenizer is not None and not callable(getattr(type(tokenizer), "token_counts", None)):
        raise SettingError(
            "tokenizer is not what belongs there", got=type(tokenizer).__name__, expected="what counts tokens under prompts",
            remedy=_GIVE_THE_MODEL,
        )  # fmt: skip
    if max_length is not None and (not isinstance(max_length, int) or max_length < 1):
        raise SettingError("max_length is out of range", got=repr(max_length), expected="tokens a text, 1 or more")
    if max_length is not None and tokenizer is None:
        raise SettingError("max_length is given, and nothing that counts tokens", remedy=_GIVE_THE_MODEL)
    if by not in (None, "group", "query"):
        raise SettingError("by is none of the ways to split", got=repr(by), expected="group or query")
    whole = data.train if isinstance(data, Splits) else data
    parts: dict[Side, Dataset] = dict(zip(SIDES, data, strict=True)) if isinstance(data, Splits) else {}
    removed = len(data.removed) if isinstance(data, Splits) else 0
    qrels = _pooled([part.qrels for part in parts.values()]) if parts else whole.qrels
    near = join(whole.queries.texts)

    judged = np.bincount(qrels.query, minlength=len(whole.queries))
    positives = np.bincount(qrels.query, qrels.relevance > 0, minlength=len(whole.queries)).astype(np.int64)
    present, negatives = judged > 0, judged - positives
    asking = np.bincount(qrels.document[qrels.relevance > 0], minlength=1)
    longest = (max_length or tokenizer.max_length) if tokenizer else None
    return Check(
        queries=len(whole.queries),
        documents=len(whole.corpus),
        judgments=len(qrels),
        positives=_spread(positives[present]),
        negatives=_spread(negatives[present]),
        without_candidates=int((~present).sum()) - removed,
        without_positive=int((present & (positives == 0)).sum()),
        without_negative=int((present & (negatives == 0)).sum()),
        near_duplicates=len(near.pairs),
        template=0 if near.complete else near.largest,
        answers=int((asking > 0).sum()),
        widest=int(asking.max()),
        itself=_itself(whole, qrels),
        grades=dict(zip(*(each.tolist() for each in np.unique(qrels.relevance, return_counts=True)), strict=True)),
        marked_up=sum(_TAGS.search(text) is not None for text in whole.corpus.texts),
        removed=removed,
        notes={name: count for name, count in whole.notes.items() if count},
        sides={side: _part(part.qrels) for side, part in parts.items()},
        leaks=leaks(data, near) if isinstance(data, Splits) else (),
        lengths=_lengths(whole, qrels, tokenizer, longest) if tokenizer and longest else {},
        max_length=longest,
        by=data.by if isinstance(data, Splits) else by,
        columns={name: len(set(values) - {""}) for name, values in whole.queries.columns.items()},
        like_labels=()
        if negatives.any()
        else tuple(name for name, values in (whole.queries.values or whole.queries.columns).items() if _says(values)),
    )


def leaks(splits: Splits, near: Near | None = None) -> tuple[Leak, ...]:
    """What each two sides share; `near`: near-duplicate queries, where they are known.

    Where not all pairs of these are known, each query of a group counts as near all of it.
    """
    near = join(splits.queries.texts) if near is None else near
    parts: dict[Side, Dataset] = dict(zip(SIDES, splits, strict=True))
    return tuple(_leak(parts, first, second, near) for first, second in combinations(parts, 2))


def kept_by(splits: Splits) -> str | None:
    """What keeps the queries that the split left out, in words, where they are many of those that were to learn from."""
    removed = len(splits.removed)
    return keeping(splits.by, removed, removed + len(splits.train.qrels.queries) + len(splits.dev.qrels.queries))


def _says(values: Collection[str]) -> bool:
    """Whether a column holds yes and no, in the words that labels have or as grades from 0, and nothing else."""
    said = {simplified(value).lower() for value in values} - {""}
    yes, no = {*RELEVANT, *map(str, range(1, HIGH + 1))}, {*IRRELEVANT, "0"}
    return said <= yes | no and bool(said & yes) and bool(said & no)


def _pooled(parts: list[Qrels]) -> Qrels:
    """The judgments of all parts, a pair that several hold once and with its highest relevance."""
    both = Qrels.joined(parts)
    highest = np.argsort(-both.relevance, kind="stable")
    first = highest[np.unique(pair_keys(both.query, both.document)[highest], return_index=True)[1]]
    return Qrels(both.query[first], both.document[first], both.relevance[first])


def _itself(data: Dataset, qrels: Qrels) -> int:
    """How many queries have a relevant document that is their own text, but for case and punctuation."""
    query, document = equal(data.queries.texts, data.corpus.texts)
    wanted = qrels.relevance > 0
    found = np.isin(pair_keys(query, document), pair_keys(qrels.query[wanted], qrels.document[wanted]))
    return len(np.unique(query[found]))


def _spread(counts: NDArray[np.int64]) -> Spread:
    if not len(counts):
        return Spread(0.0, 0, 0.0, 0)
    return Spread(float(counts.mean()), int(counts.min()), float(np.median(counts)), int(counts.max()))


def _part(qrels: Qrels) -> Part:
    return Part(len(qrels.queries), len(qrels), int((qrels.relevance > 0).sum()))


def _leak(parts: Mapping[Side, Dataset], first: Side, second: Side, near: Near) -> Leak:
    one, other = parts[first].qrels, parts[second].qrels
    if near.complete:
        in_one, in_other = np.isin(near.pairs, one.queries), np.isin(near.pairs, other.queries)
        near_queries = np.concatenate((near.pairs[in_one[:, 0] & in_other[:, 1], 1], near.pairs[in_one[:, 1] & in_other[:, 0], 0]))
    else:
        alone = np.setdiff1d(other.queries, one.queries)
        near_queries = alone[np.isin(near.group[alone], near.group[one.queries])]
    relevant, wanted = one.document[one.relevance > 0], other.document[other.relevance > 0]
    rejected = np.setdiff1d(one.document[one.relevance == 0], relevant)
    return Leak(
        first,
        second,
        queries=len(np.intersect1d(one.queries, other.queries)),
        near_queries=len(np.unique(near_queries)),
        positives=len(np.intersect1d(relevant, wanted)),
        contradicted=len(np.intersect1d(rejected, wanted)),
    )


def _lengths(data: Dataset, qrels: Qrels, tokenizer: Tokenizer, longest: int) -> dict[Kind, Lengths]:
    queries = [data.queries.texts[query] for query in qrels.queries.tolist()]
    texts: dict[Kind, Sequence[str]] = {"query": queries, "document": data.corpus.texts}
    return {kind: _measured(of, kind, tokenizer, longest) for kind, of in texts.items() if of}


def _measured(texts: Sequence[str], kind: Kind, tokenizer: Tokenizer, longest: int) -> Lengths:
    counts, unknown = tokenizer.token_counts(texts, kind, progress=f"tokens of {'queries' if kind == 'query' else 'documents'}")
    own = counts.sum() - len(texts) * tokenizer.token_counts([""], kind)[0].sum()  # without prompts and special tokens
    return Lengths(
        texts=len(texts),
        median=float(np.median(counts)),
        p95=float(np.percentile(counts, 95)),
        most=int(counts.max()),
        cut=float((counts > longest).mean()),
        unknown=float(unknown.sum() / max(1, own)),
    )
