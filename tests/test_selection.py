"""Looks at dev against pytrec_eval, scikit-learn and plain loops; the choice of a scale against the rule written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import assume, given
from hypothesis import strategies as some
from numpy.typing import NDArray
from scipy.stats import sem
from sklearn.metrics import average_precision_score

import homing
from homing import Model, Training
from homing.data import Corpus, Dataset, Qrels, Queries
from homing.encoders.tokens import Tokens
from homing.errors import JudgmentError
from homing.protocols import Kind
from homing.training.selection import (
    DEAREST,
    FEWEST_LISTS,
    FEWEST_TO_CHOOSE,
    STAND_INS,
    DevLists,
    Look,
    best_scale,
    plan_looks,
    tokens_a_list,
)
from tiny import made_data

TEMPERATURE = 0.05


class Told:
    """A stand-in for a model: the embedding of the text "17" is row 17 of a table, as it is, of any length."""

    def __init__(self, table: NDArray[np.float32]) -> None:
        self.table = table
        self.transformer = self
        self.encoded = 0

    def named_modules(self) -> list[tuple[str, Told]]:
        return []

    def eval(self) -> None:
        pass

    def tokenize(self, texts: list[str], kind: Kind) -> Tokens:
        return Tokens(np.array([int(text) for text in texts], dtype=np.int32), np.arange(len(texts) + 1))

    def encode_tokens(self, tokens: Tokens) -> NDArray[np.float32]:
        self.encoded += len(tokens)
        return self.table[tokens.ids]


def dataset(lists: list[list[int]], shared: int = 0) -> Dataset:
    """Queries with lists of relevances; the first `shared` documents are those of all lists. Texts are numbers, queries first."""
    columns: list[tuple[int, int, int]] = []
    documents = shared
    for query, relevances in enumerate(lists):
        for place, relevance in enumerate(relevances):
            document = place if place < shared else documents
            documents += place >= shared
            columns.append((query, document, relevance))
    qrels = Qrels(*np.array(columns, dtype=np.int32).T)
    corpus = Corpus(tuple(f"d{n:04}" for n in range(documents)), tuple(str(len(lists) + n) for n in range(documents)))
    return Dataset(corpus, Queries(tuple(f"q{n}" for n in range(len(lists))), tuple(str(n) for n in range(len(lists)))), qrels)


def by_loops(dev: Dataset, table: NDArray[np.float32], temperature: float) -> dict[str, float]:
    """The figures of a look at all lists, pair by pair. The loss in the form log(1 + sum e^((n - p) / t)), by its largest exponent."""
    queries, documents = table[: len(dev.queries)].astype(np.float64), table[len(dev.queries) :].astype(np.float64)
    losses, scores, relevances = [], [], []
    run: dict[str, dict[str, float]] = {}
    answered = set(dev.qrels.positives)
    judged = np.unique(np.concatenate([listed for query, listed, _ in dev.qrels.lists() if query in answered]))
    for query, listed, relevance in dev.qrels.lists():
        if query not in answered:
            continue
        own = {int(document): float(queries[query] @ documents[document]) for document in listed}
        grades = dict(zip(listed.tolist(), relevance.tolist(), strict=True))
        for document, grade in grades.items():
            scores.append(own[document])
            relevances.append(grade > 0)
            if grade > 0:
                others = [
                    (own[d] - own[document]) / temperature for d, r in zip(listed.tolist(), relevance.tolist(), strict=True) if r == 0
                ]
                top = max([0.0, *others])
                losses.append(top + math.log(math.exp(-top) + sum(math.exp(each - top) for each in others)))
        run[dev.queries.ids[query]] = {dev.corpus.ids[d]: float(queries[query] @ documents[d]) for d in judged.tolist()}
    qrels = {
        dev.queries.ids[query]: {dev.corpus.ids[d]: r for d, r in zip(listed.tolist(), relevance.tolist(), strict=True)}
        for query, listed, relevance in dev.qrels.lists()
        if query in answered
    }
    measured = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    hit = np.array(relevances)
    return {
        "loss": float(np.mean(losses)),
        "nDCG@10": float(np.mean([each["ndcg_cut_10"] for each in measured.values()])),
        "AP": float(average_precision_score(hit, scores)),
        "positive_score": float(np.mean(np.array(scores)[hit])),
        "negative_score": float(np.mean(np.array(scores)[~hit])),
    }


def drawn_lists(random: np.random.Generator, queries: int, longest: int) -> list[list[int]]:
    lists = [random.choice([0, 0, 0, 1, 2], random.integers(1, longest + 1)).tolist() for _ in range(queries)]
    lists[0] = [1, 0, *lists[0]]
    return lists


@pytest.mark.parametrize("length", [1.0, 30.0])
@pytest.mark.parametrize("seed", range(6))
def test_a_look_is_what_others_compute(seed: int, length: float) -> None:
    """Cosines, and inner products of hundreds: over a temperature of 0.05 their exponents are beyond every float."""
    random = np.random.default_rng(seed)
    dev = dataset(drawn_lists(random, 30, 14), shared=2)
    table = random.normal(size=(len(dev.queries) + len(dev.corpus), 8)).astype(np.float32)
    table = length * table / np.linalg.norm(table, axis=1, keepdims=True)
    lists = DevLists(Told(table), dev, 1000, TEMPERATURE, seed)  # type: ignore[arg-type]
    look = lists.look()
    assert len(lists) == len(look.per_query) == len(dev.qrels.positives)
    assert look.figures == pytest.approx(by_loops(dev, table, TEMPERATURE), rel=1e-5)
    assert all(math.isfinite(value) for value in look.figures.values())


def test_a_look_of_a_model(tiny_model: Path, tmp_path: Path) -> None:
    """The same with a real model, its prompts, and documents that stay fixed."""
    dev = homing.load(made_data(tmp_path, 12, 6))
    model = Model(tiny_model, max_length=48)
    queries, documents = model.encode(dev.queries.texts, "query"), model.encode(dev.corpus.texts, "document")
    look = DevLists(model, dev, 50, TEMPERATURE, 0).look()
    assert look.figures == pytest.approx(by_loops(dev, np.concatenate([queries, documents]), TEMPERATURE), rel=1e-4)
    lists = DevLists(model, dev, 50, TEMPERATURE, 0, documents)
    fixed = lists.look()
    assert lists.tokens == len(model.tokenize(dev.queries.texts, "query").ids)
    assert fixed.figures == pytest.approx(look.figures, rel=1e-4)
    assert np.allclose(fixed.per_query, look.per_query)
    other = DevLists(model, dev, 50, TEMPERATURE, 0, documents[::-1].copy()).look()
    assert other.figures["loss"] != pytest.approx(look.figures["loss"], rel=1e-2)  # the fixed ones are really those that count


def test_a_look_leaves_the_model_in_its_mode(tiny_model: Path, tmp_path: Path) -> None:
    model = Model(tiny_model, max_length=48)
    body = model.transformer[0].model
    body.layers[0].train()
    before = [module.training for module in model.transformer.modules()]
    assert True in before
    assert False in before
    DevLists(model, homing.load(made_data(tmp_path, 4, 4)), 50, TEMPERATURE, 0).look()
    assert [module.training for module in model.transformer.modules()] == before


def test_a_sample_is_drawn_by_the_seed_and_has_all_its_lists() -> None:
    random = np.random.default_rng(0)
    dev = dataset([[1, 0, 0]] * 120 + [[0, 0]] * 30)
    table = random.normal(size=(len(dev.queries) + len(dev.corpus), 4)).astype(np.float32)
    told = Told(table)
    few = DevLists(told, dev, 50, TEMPERATURE, 1)  # type: ignore[arg-type]
    assert len(few) == 50
    assert len(few.documents) == 3 * 50
    assert few.tokens == 4 * 50
    few.look()
    assert told.encoded == 4 * 50
    assert len(DevLists(told, dev, 70, TEMPERATURE, 1)) == 70  # type: ignore[arg-type]
    assert len(DevLists(told, dev, 1000, TEMPERATURE, 1)) == 120  # type: ignore[arg-type]
    again, other = (DevLists(told, dev, 50, TEMPERATURE, seed) for seed in (1, 2))  # type: ignore[arg-type]
    assert np.array_equal(again.documents, few.documents)
    assert not np.array_equal(other.documents, few.documents)


def test_a_query_that_stands_in_the_corpus_is_not_ranked_for_itself() -> None:
    corpus, queries = Corpus(("d0", "d1", "d2"), ("0", "2", "3")), Queries(("q0", "q1"), ("0", "1"))
    table = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.4, 0], [0, 0.8, 0]], dtype=np.float32)
    told = {}
    for judged in (0, 1):  # whether the first query's own text is judged for it: then it counts as it is
        pairs = [(0, 1, 1), (1, 0, 0), (1, 2, 1), *[(0, 0, 0)] * judged]
        data = Dataset(corpus, queries, Qrels(*np.array(pairs, dtype=np.int32).T))
        told[judged] = DevLists(Told(table), data, 2, TEMPERATURE, 0).look().per_query.tolist()  # type: ignore[arg-type]
    assert sorted(told[0]) == [1.0, 1.0]
    assert min(told[1]) < 1.0


def test_dev_without_a_relevant_document_is_an_error() -> None:
    with pytest.raises(JudgmentError, match="no query with a relevant"):
        DevLists(Told(np.eye(4, dtype=np.float32)), dataset([[0, 0], [0]]), 50, TEMPERATURE, 0)  # type: ignore[arg-type]


def test_looks_compete_by_ndcg_then_by_loss() -> None:
    def look(ndcg: float, loss: float) -> Look:
        return Look({"nDCG@10": ndcg, "loss": loss}, np.zeros(1))

    assert look(0.5, 9.0).rank > look(0.4, 1.0).rank
    assert look(0.5, 1.0).rank > look(0.5, 2.0).rank


SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)


def look_of(per_query: Sequence[float] | NDArray[np.float64], ap: float = 0.5) -> Look:
    values = np.array(per_query, dtype=np.float64)
    return Look({"nDCG@10": float(values.mean()), "AP": ap}, values)


def test_a_scale_by_hand() -> None:
    """0.25 gains 0.025 with a standard error of 0.075, which is no gain; AP chooses between the others, whose nDCG@10 is nearly equal."""
    base = np.array([0.5, 0.5, 0.7, 0.7])
    looks = {
        0.0: look_of(base),
        0.25: look_of(base + np.array([-0.1, 0.1, -0.1, 0.2]), ap=0.9),
        0.5: look_of(base + 0.1, ap=0.6),
        1.0: look_of(base + 0.09, ap=0.7),
    }
    assert best_scale(looks) == 1.0
    assert best_scale({**looks, 1.0: look_of(base + 0.09, ap=0.605)}) == 0.5
    assert best_scale({0.0: looks[0.0], 0.25: looks[0.25]}) == 0.0
    assert best_scale({0.0: look_of([0.3]), 1.0: look_of([0.4])}) == 1.0  # one query has no error
    assert best_scale({0.0: look_of([0.4]), 1.0: look_of([0.3])}) == 0.0


per_query = some.lists(some.floats(0, 1).map(lambda value: round(value, 4)), min_size=2, max_size=40)


@given(per_query)
def test_equal_scales_keep_the_base(values: list[float]) -> None:
    assert best_scale({scale: look_of(values) for scale in reversed(SCALES)}) == 0.0


@given(per_query, some.integers(0, 2**31))
def test_equal_gains_take_the_smallest_scale(values: list[float], seed: int) -> None:
    gained = np.array(values) + 0.1 + np.random.default_rng(seed).normal(0, 0.01, len(values))
    assert best_scale({0.0: look_of(values), **{scale: look_of(gained) for scale in reversed(SCALES[1:])}}) == 0.25


@given(per_query, some.sampled_from(SCALES[1:]), some.integers(0, 2**31))
def test_a_clearly_better_scale_is_taken(values: list[float], winner: float, seed: int) -> None:
    """The queries differ far more from one another than the scales do: only the paired difference shows it."""
    random = np.random.default_rng(seed)
    found = {scale: 10 * np.array(values) + random.normal(0, 0.001, len(values)) for scale in SCALES}
    found[winner] = found[winner] + 0.1
    assert best_scale({scale: look_of(each) for scale, each in found.items()}) == winner


@given(some.lists(some.tuples(*[some.floats(0, 1)] * 5), min_size=2, max_size=30), some.tuples(*[some.floats(0, 1)] * 5))
def test_the_rule_of_the_scale(values: list[tuple[float, ...]], ap: tuple[float, ...]) -> None:
    """The same in plain Python, with scipy's standard error of the mean."""
    best, most = 0.0, -math.inf
    for place in range(1, 5):
        gains = [row[place] - row[0] for row in values]
        gain, error = sum(gains) / len(gains), float(sem(gains))
        assume(abs(gain - error) > 1e-9)
        total = sum(row[place] for row in values) / len(values) + ap[place]
        assume(abs(total - most) > 1e-9)
        if gain > error and total > most:
            best, most = SCALES[place], total
    table = np.array(values).T
    assert best_scale({scale: look_of(table[place], ap[place]) for place, scale in enumerate(SCALES)}) == best


@given(
    some.floats(0, 1e5), some.floats(0, 200), some.integers(1, 300), some.integers(1, 12), some.sampled_from([None, 0.5]),
    some.sampled_from([None, 1.0]),
)  # fmt: skip
def test_looks_cost_what_they_may(
    affordable: float, always: float, there: int, asked: int, scale: float | None, minutes: float | None
) -> None:
    plan = plan_looks(affordable, always, there, Training(evaluations=asked, scale=scale, minutes=minutes))
    looks = plan.evaluations + 1 + (3 if plan.choose else 0)
    assert 1 <= plan.evaluations <= asked
    assert plan.lists * looks <= max(affordable, always * looks, looks)  # no fewer than one list a look
    cost = min(plan.lists, there) * looks
    assert cost <= max(DEAREST * affordable, 2 * always, 2) or minutes is None  # a slow machine is left some time
    assert plan.evaluations == 1 or plan.lists >= FEWEST_LISTS
    if plan.choose:
        assert scale is None
        assert plan.lists >= FEWEST_TO_CHOOSE
    if affordable >= FEWEST_LISTS * (asked + 4):
        assert plan.evaluations == asked
        assert plan.choose == (scale is None)


def test_lists_that_dev_does_not_have_cost_no_time() -> None:
    """Queries alone, a minute on one core: 745 lists a look would be free, and dev has 24."""
    assert [plan_looks(490, 745, there, Training(minutes=1)).choose for there in (24, 500)] == [True, False]


def test_without_judged_negatives_what_bm25_finds_stands_in(tmp_path: Path, tiny_model: Path) -> None:
    model = Model(tiny_model)
    whole = homing.load(made_data(tmp_path, 8, 6))
    pairs = whole.with_qrels(Qrels(*(getattr(whole.qrels, name)[whole.qrels.relevance > 0] for name in ("query", "document", "relevance"))))
    lists = DevLists(model, pairs, 50, TEMPERATURE, 0)
    for data, there in ((pairs, lists), (whole, DevLists(model, whole, 50, TEMPERATURE, 0))):  # what a look costs is known beforehand
        assert there.tokens / len(there) == pytest.approx(tokens_a_list(model, data, 0, fixed=False), rel=0.1)
    assert tokens_a_list(model, pairs, 0, fixed=True) == pytest.approx(len(lists._queries.ids) / len(lists))
    assert lists.candidates.shape[1] == STAND_INS + 2
    for row, (_, candidates, relevance) in zip(lists.candidates, pairs.qrels.lists(), strict=False):
        assert len(set(row.tolist())) == len(row)
        assert len(candidates) == 2
        assert (relevance > 0).all()
    assert ((lists.relevance > 0).sum(axis=1) == 2).all()
    look = lists.look()
    assert all(np.isfinite(value) for value in look.figures.values())
    assert 0 < look.figures["AP"] < 1
    again = DevLists(model, pairs, 50, TEMPERATURE, 0)
    assert np.array_equal(again.candidates, lists.candidates)
    alone = pairs.with_qrels(pairs.qrels.of(pairs.qrels.queries[:1]))
    alone = replace(alone, corpus=Corpus(whole.corpus.ids[:1], whole.corpus.texts[:1]), qrels=Qrels(*np.array([[0], [0], [1]], np.int32)))
    look = DevLists(model, alone, 5, TEMPERATURE, 0).look()  # no other document at all
    assert all(np.isfinite(value) for value in look.figures.values())
    assert "negative_score" not in look.figures
