"""Why training brought no gain: likely causes with their evidence, the likeliest first, and the one experiment to do next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from homing.data import Dataset, Ints
from homing.measures.evaluations import Evaluation
from homing.measures.formulas import judge
from homing.texts.words import words
from homing.verdicts.context import Instructions

FEW = 500  # training queries
SHORT = "the training was too short"
UNREAD = "the base cannot read the texts"
CHANCE = "to the base, the judgments are chance"
PROMPT = "the run's prompt does not suit the base"
CUT = "positives cut by the length cap"
ANSWERS = "the test asks for documents that training never saw as relevant"
FORGOT = "the learning rate is too high: the base was forgotten"
UNLABELLED = (CHANCE, PROMPT, SHORT, UNREAD, CUT, ANSWERS, FORGOT)  # what costs no labels to mend
ENOUGH = 500  # updates that are no short training, however many queries are left
NOISE = 0.02  # nDCG@10 between two looks at so many queries as these: about one standard error
LOOKED_AT = 50
AGREED = 0.1  # test queries for which two agree on an unjudged document where all was judged: 3 to 11 % of them (docs/log.md)
HANDFUL = 10  # queries that tell nothing yet: no drop, and no share of words
SHARED = 5  # training queries a relevant document, from which the documents look like a fixed set of answers
HUB = 0.02  # a document that is first for a larger share of the queries is no suspect


@dataclass(frozen=True)
class Cause:
    """A likely cause of no gain. `weight` ranks it (0 to 1), `evidence` is what was measured, `experiment` what would tell."""

    name: str
    weight: float
    evidence: str
    experiment: str


@dataclass(frozen=True)
class Circumstances:
    """What is known of the training; what is not is None.

    `train`: its split. `groups`: of all queries, which hang together. `cut`: the share of training positives that are longer than the
    model's length. `max_length`: that length, in tokens. `unknown`: the share of their tokens that the base's vocabulary lacks.
    `learning_rate`: the peak. `looks`: nDCG@10 on dev at each look, the untrained model's first, over `dev` queries at most. `general`: the
    same outside the domain. `scale`: the share of what was learned that dev kept. `minutes`: the time that ended training, after so many
    `epochs` in so many `updates`.
    """

    train: Dataset | None = None
    groups: Ints | None = None
    cut: float | None = None
    unknown: float | None = None
    max_length: int | None = None
    learning_rate: float | None = None
    looks: Sequence[float] = ()
    dev: int = LOOKED_AT
    general: Sequence[float] = ()
    scale: float | None = None
    minutes: float | None = None
    epochs: float | None = None
    updates: int = 0

    @property
    def trained(self) -> bool:
        """Whether any training is known: two models that merely stand side by side have no learning rate to blame."""
        return self.learning_rate is not None or self.scale is not None or len(self.looks) > 0


def likely_causes(
    first: Evaluation, last: Evaluation, told: Circumstances | None = None, tried: Instructions | None = None,
    lexical: Evaluation | None = None,
) -> tuple[Cause, ...]:  # fmt: skip
    """Why `last` may not be better than `first`, the likeliest cause first; only those that the numbers speak for. `tried`: the prompts
    that the base was given on dev. `lexical`: BM25, where that was measured."""
    told = told or Circumstances()
    found = [
        *_ceiling(first),
        *_chance(first),
        *_unjudged(first, last, lexical),
        *_unread(told),  # before the cap: of texts that it cannot read, a longer piece is no clearer
        *_cut(told),
        *_answers(last, told),
        *_unlike(last, told),
        *_short(told),
        *_few(told),
        *_forgetting(first, last, told),
        *_prompt(told, tried),
    ]
    return tuple(sorted((each for each in found if each.weight > 0.05), key=lambda cause: -cause.weight))


def _ceiling(first: Evaluation) -> Iterator[Cause]:
    base = first.measures["nDCG@10"].value
    yield Cause(
        "the base is near the ceiling",
        float(np.clip((base - 0.75) / 0.2, 0, 1)),
        f"{first.name} has nDCG@10 {base:.3f}: {1 - base:.3f} is left to gain, wrong and missing judgments included.",
        "Test on harder queries: those that users asked again, or whose first result they did not take.",
    )


def _chance(first: Evaluation) -> Iterator[Cause]:
    """Scores that tell relevant pairs from others hardly better than a coin does."""
    if "ROC AUC" in first.measures:
        area = first.measures["ROC AUC"].value
        highest = int(first.test.qrels.relevance.max(initial=0))
        grades = f" Grades go up to {highest}, and each from 1 on counts as relevant." if highest > 1 else ""
        mend = "mend them" + (": write 0 for grades that stand for documents that are not relevant." if grades else ".")
        yield Cause(
            CHANCE,
            float(np.clip((0.65 - area) / 0.1, 0, 1)),
            f"{first.name} has ROC AUC {area:.2f} over the judged pairs, and 0.5 is a coin's.{grades}",
            f"Read twenty judged pairs: if they are right, take a base that knows the language and the field; if not, {mend}",
        )


def _unjudged(first: Evaluation, last: Evaluation, lexical: Evaluation | None) -> Iterator[Cause]:
    """Unjudged documents that both models put above every relevant one are likely to be relevant. A base that was kept agrees with itself,
    whatever it finds: there BM25 is the other."""
    other = last
    if np.array_equal(first.test_scores, last.test_scores):
        if lexical is None:
            return
        other = lexical
    if first.found is None or other.found is None:
        return
    tops = []
    for each, run in ((first, first.found), (other, other.found)):
        ranking = judge(run.document[:, :1], each.queries, each.test.qrels, len(each.test.corpus))
        tops.append(np.where(ranking.there & ~ranking.judged, run.document[:, :1], -1)[:, 0])
    same = _agreed(*tops)
    yield Cause(
        "relevant documents that nobody judged",
        float(np.clip(1.5 * (same - AGREED), 0, 1)),
        f"For {same:.0%} of the test queries {first.name} and {other.name} put the same unjudged document first, above every relevant one.",
        "Judge these first places (homing audit RUN --test lists them, the likeliest first; --top says how many), then evaluate again: "
        "no training is needed for it.",
    )


def _agreed(one: Ints, other: Ints) -> float:
    """The share of queries with one document first in both; a document that is first for many of them (a hub) tells nothing of any."""
    documents = one[(one == other) & (one >= 0)]
    often = np.bincount(documents, minlength=1) > max(2, HUB * len(one))
    return float((~often[documents]).sum() / len(one))


def _cut(told: Circumstances) -> Iterator[Cause]:
    if told.cut is not None:
        yield Cause(
            CUT,
            float(np.clip(2 * told.cut, 0, 1)),
            f"{told.cut:.0%} of the training positives are longer than {told.max_length} tokens; what lies beyond was never seen.",
            "Train with a higher --max-length, or split documents into passages.",
        )


def _unread(told: Circumstances) -> Iterator[Cause]:
    if told.unknown is not None:
        yield Cause(
            UNREAD,
            float(np.clip(4 * (told.unknown - 0.05), 0, 1)),
            f"{told.unknown:.0%} of the tokens of the training positives are unknown to its vocabulary.",
            "Take a base that knows the language of these texts.",
        )


def _answers(last: Evaluation, told: Circumstances) -> Iterator[Cause]:
    """Many questions for few answers, and the test asks for others: what was learned is which of its answers a question wants."""
    if told.train is None:
        return
    relevant, wanted = (np.unique(each.document[each.relevance > 0]) for each in (told.train.qrels, last.test.qrels))
    queries = len(told.train.qrels.positives)
    if queries < SHARED * len(relevant) or len(np.intersect1d(relevant, wanted)):
        return
    yield Cause(
        ANSWERS,
        float(np.clip(queries / max(1, len(relevant)) / 10, 0, 1)),
        f"Training had {queries:,} queries with a relevant document, and {len(relevant):,} relevant documents for all of them: none of "
        "these is relevant to a test query.",
        "If the documents are a fixed set, and new questions are asked about them, split with --split-by query.",
    )


def _unlike(last: Evaluation, told: Circumstances) -> Iterator[Cause]:
    """Test queries whose words training has not seen, beyond what the smaller of two parts of training lacks of the larger: parts of whole
    groups, or the phrasings of one question would know each other's words. Where nearly all hang together there is no such part."""
    if told.train is None or not len(told.train.qrels.queries):
        return
    texts = told.train.queries.texts
    seen = [set(words(texts[query])) for query in told.train.qrels.queries.tolist()]
    asked = [set(words(texts[query])) for query in last.queries.tolist()]
    known = set().union(*seen)
    asking = told.train.qrels.queries
    second = np.unique(asking if told.groups is None else told.groups[asking], return_inverse=True)[1] % 2
    fewer = second == (2 * second.sum() <= len(second))
    if fewer.sum() < HANDFUL:
        return
    one = set().union(*(each for each, side in zip(seen, fewer, strict=True) if not side))
    other = [word for each, side in zip(seen, fewer, strict=True) if side for word in each]
    expected = float(np.mean([word not in one for word in other])) if other else 0.0
    new = [word for each in asked for word in each]
    unseen = float(np.mean([word not in known for word in new])) if new else 0.0
    yield Cause(
        "train and test unlike each other",
        float(np.clip(3 * (unseen - expected - 0.05), 0, 1)),  # halves of training differ by as much
        f"{unseen:.0%} of the words of test queries are in no training query; between the halves of training it is {expected:.0%}.",
        "Compare a few training and test queries by eye; judge queries like those of the test, and train on them.",
    )


def _short(told: Circumstances) -> Iterator[Cause]:
    """A time budget that ended before each query was seen once."""
    if told.minutes is not None and told.epochs is not None:
        yield Cause(
            SHORT,
            float(np.clip(1 - told.epochs, 0, 1)) * float(np.clip(1 - told.updates / ENOUGH, 0, 1)),
            f"In the time of --minutes {told.minutes:g} it saw {told.epochs:.0%} of its queries; updates: {told.updates:,}.",
            "Train with more --minutes, or on a faster machine.",
        )


def _few(told: Circumstances) -> Iterator[Cause]:
    if told.train is not None:
        queries = len(told.train.qrels.positives)
        yield Cause(
            "too few queries to learn from",
            float(np.clip(1 - queries / FEW, 0, 1)) * 0.9,
            f"Training had {queries:,} queries with a relevant document.",
            "Judge twice as many training queries; --learning-curve tells beforehand what that would bring.",
        )


def _forgetting(first: Evaluation, last: Evaluation, told: Circumstances) -> Iterator[Cause]:
    """A dev curve that falls below where it began, a loss outside the domain, or a test that got worse, each by more than noise."""
    if not told.trained:
        return
    rate = "" if told.learning_rate is None else f" (peak {told.learning_rate:g})"
    fell = _drop(told.looks, _noise(told.dev))
    outside = _drop(told.general, NOISE)
    gain = last.per_query["nDCG@10"] - first.per_query["nDCG@10"]
    error = float(gain.std() / len(gain) ** 0.5)
    worse = _drop([each.measures["nDCG@10"].value for each in (first, last)], max(error, _noise(len(last.queries))))
    if told.scale == 0:
        worse = 0.0  # the weights are the base's: nothing of them is forgotten
    evidence = []
    if fell:
        evidence.append(f"nDCG@10 on dev went from {told.looks[0]:.3f} untrained to {told.looks[-1]:.3f} at the end")
    if outside:
        evidence.append(f"outside the domain from {told.general[0]:.3f} to {told.general[-1]:.3f}")
    if worse:
        evidence.append(f"on test from {first.measures['nDCG@10'].value:.3f} to {last.measures['nDCG@10'].value:.3f}")
    refused = told.scale == 0 and (not told.looks or _drop(told.looks, NOISE / 4) > 0)  # by a little, and dev kept nothing
    if refused:
        evidence.append("dev kept nothing of what was learned")
    if evidence:
        yield Cause(
            FORGOT,
            float(np.clip(12 * max(fell, worse) + 6 * outside + (0.3 if refused else 0.0), 0, 1)),
            "; ".join(evidence) + ".",
            f"Train with a third of the learning rate{rate}, all else equal.",
        )


def _prompt(told: Circumstances, tried: Instructions | None) -> Iterator[Cause]:
    """The base is compared under the prompt that suits it best on dev, and was trained under another: of a model that holds the base's
    weights, all the difference is the prompt's."""
    if tried is not None and tried.chosen != tried.own:
        own, best = tried.tried[0], next(each for each in tried.tried if each.prompt == tried.chosen)
        yield Cause(
            PROMPT,
            1.0 if told.scale == 0 else float(np.clip(10 * (best.ndcg - own.ndcg), 0, 1)),
            f"On dev the base has nDCG@10 {best.ndcg:.3f} with the prompt {best.prompt!r}, and {own.ndcg:.3f} with the run's own.",
            f"Train with that prompt: --query-prompt {json.dumps(best.prompt, ensure_ascii=False)}",
        )


def _noise(queries: int) -> float:
    """What nDCG@10 over so many queries may move by without meaning: few of them move it more, and a handful tells nothing."""
    return NOISE * max(1.0, (LOOKED_AT / queries) ** 0.5) if queries >= HANDFUL else 1.0


def _drop(measured: Sequence[float], noise: float) -> float:
    """How far the last is below the first; 0 where that is noise."""
    drop = measured[0] - measured[-1] if measured else 0.0
    return drop if drop > noise else 0.0
