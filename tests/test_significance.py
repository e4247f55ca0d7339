"""Intervals, tests and power against scipy and plain recomputation; thresholds against all cuts; slices, causes and actions."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, permutation_test, t
from sklearn.metrics import average_precision_score, precision_recall_curve

import homing
from homing import Evaluating, Evaluation, Model, Splits
from homing.builder import Builder
from homing.data import Dataset, Qrels, Queries
from homing.errors import SettingError
from homing.measures.decision import Decision
from homing.measures.evaluations import Background, Interval
from homing.measures.resampling import draw, means
from homing.measures.significance import (
    detectable,
    holm,
    needed,
    percentile_interval,
    randomisation_p,
    randomisation_p_of_ap,
    resample,
    signs,
)
from homing.measures.thresholds import best_threshold, threshold_for
from homing.measures.thresholds import precision_recall_curve as our_curve
from homing.reporting import phrases
from homing.reporting.header import header
from homing.reporting.language import Phrase
from homing.reporting.sentences import in_both
from homing.terminal import verdict_table
from homing.verdicts.causes import Circumstances, likely_causes
from homing.verdicts.context import Context, Instructions, Tried
from homing.verdicts.differences import JUDGED_ONLY, Difference, judged_alike
from homing.verdicts.slices import slices
from homing.verdicts.verdict import Verdict, compare
from homing.verdicts.wording import sentence


def test_the_interval_by_groups_equals_scipys_of_a_ratio_of_group_sums() -> None:
    generator = np.random.default_rng(0)
    unit = np.sort(generator.integers(0, 60, 300))
    difference = generator.normal(0.02, 0.1, 300) + generator.normal(0, 0.1, 60)[unit]
    sums, counts = np.bincount(unit, difference, 60), np.bincount(unit, minlength=60)
    draws = resample(60, 4000, seed=1)
    ours = percentile_interval(draws @ sums / (draws @ counts), 60)
    theirs = bootstrap(
        (sums, counts), lambda a, b, axis=-1: a.sum(axis=axis) / b.sum(axis=axis), paired=True, vectorized=True, n_resamples=4000,
        method="percentile", confidence_level=1 - 2 * norm.cdf(t.ppf(0.025, 59) * (60 / 59) ** 0.5), rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.004)
    alone = resample(300, 4000, seed=1)
    low, high = percentile_interval(alone @ difference / 300, 300)
    assert high - low < 0.75 * (ours[1] - ours[0])  # queries drawn singly would promise too much


@pytest.mark.parametrize("groups", [6, 10, 20])
def test_an_interval_of_few_groups_holds_the_truth_as_often_as_it_says(groups: int) -> None:
    """The middle 95 % of the resamples of six normal values holds their mean in .86 of the cases, of ten in .89, of twenty in .92."""
    generator = np.random.default_rng(0)
    draws = resample(groups, 1000, seed=1) / groups
    found = [percentile_interval(draws @ generator.normal(size=groups), groups) for _ in range(1000)]
    assert np.mean([low < 0 < high for low, high in found]) == pytest.approx(0.95, abs=0.025)
    assert all(np.isnan(percentile_interval(draws @ np.ones(groups), 5)))


def test_the_randomisation_test_equals_scipys() -> None:
    generator = np.random.default_rng(0)
    difference = generator.normal(0.03, 0.1, 40)
    ours = randomisation_p(signs(40, 20000, seed=0), difference, np.arange(40))
    theirs = permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=20000, rng=np.random.default_rng(1)
    ).pvalue  # fmt: skip
    assert ours == pytest.approx(theirs, abs=0.01)
    unit = np.arange(40) // 4
    sums = np.bincount(unit, difference)
    exact = permutation_test((sums,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert randomisation_p(signs(10, 20000, seed=0), difference, unit) == pytest.approx(exact, abs=0.01)
    assert randomisation_p(signs(1, 1000, seed=0), difference, np.zeros(40, dtype=int)) == 1  # one group can show nothing


def test_the_randomisation_test_of_ap_swaps_whole_groups() -> None:
    """Against sklearn's AP of plainly swapped ranks; and uniform p-values where the two models are alike."""
    generator = np.random.default_rng(0)
    unit, relevant = np.repeat(np.arange(12), 10), generator.random(120) < 0.2
    one, other = (np.round(generator.normal(size=120) + relevant, 1) for _ in range(2))
    swaps = signs(12, 300, seed=3)
    ranks = [np.searchsorted(np.sort(scores), scores) for scores in (one, 5 * other - 3)]
    observed = average_precision_score(relevant, one) - average_precision_score(relevant, other)
    drawn = []
    for swap in swaps:
        a, b = np.where(swap[unit], ranks[1], ranks[0]), np.where(swap[unit], ranks[0], ranks[1])
        drawn.append(average_precision_score(relevant, a) - average_precision_score(relevant, b))
    wanted = (1 + np.sum(np.abs(drawn) >= abs(observed) - 1e-12)) / 301
    assert randomisation_p_of_ap(swaps, one, 5 * other - 3, relevant, unit) == pytest.approx(wanted)
    p_values = []
    for _ in range(120):
        relevant = generator.random(120) < 0.2
        pair = [generator.normal(size=120) + relevant for _ in range(2)]
        p_values.append(randomisation_p_of_ap(swaps[:99], pair[0], pair[1] * 3, relevant, unit))
    assert 0.35 < np.mean(p_values) < 0.65
    assert np.mean(np.array(p_values) <= 0.1) < 0.2


def test_draws_are_counted_without_a_copy_in_double_precision() -> None:
    generator = np.random.default_rng(0)
    draws = generator.integers(0, 4, (1000, 20000), dtype=np.uint16)
    values, unit = generator.random((20000, 2)), np.arange(20000)
    tracemalloc.start()
    found = means(values, unit, draws)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < draws.nbytes  # such a copy is four times as large
    assert found[::100] == pytest.approx(draws[::100] @ values / draws[::100].sum(axis=1, keepdims=True))
    assert (means(values[:, :1], unit, draws)[:, 0] == found[:, 0]).all()  # to the bit: equal models differ by nothing


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(p_values: list[float]) -> None:
    adjusted = holm(dict(enumerate(p_values)))
    for level in (0.01, 0.05, 0.2):
        rejected, order = set(), np.argsort(p_values, kind="stable").tolist()
        for place, at in enumerate(order):
            if p_values[at] * (len(p_values) - place) > level:
                break
            rejected.add(at)
        assert {at for at, value in adjusted.items() if value <= level} == rejected


@pytest.mark.parametrize("groups", [6, 8, 10, 20, 60, 5000])
def test_power_is_what_simulation_finds(groups: int) -> None:
    """Of pairs of test sets: the first estimates the error, the second is tested, with the difference that the first promised to show."""
    generator, pairs = np.random.default_rng(0), 20000
    estimated, other = (generator.chisquare(groups - 1, (2, pairs)) / (groups - 1)) ** 0.5  # by the true error
    found = generator.normal(detectable(1.0, groups) * estimated) > t.ppf(0.975, groups - 1) * other
    assert found.mean() == pytest.approx(0.8, abs=0.015)


@pytest.mark.parametrize("groups", [6, 8, 100])
def test_queries_that_are_needed_show_what_they_should(groups: int) -> None:
    error = 0.01
    assert needed(300, error, groups, detectable(error, groups)) == 300
    more = needed(groups, error, groups, 0.01)
    assert detectable(error * (groups / more) ** 0.5, more) <= 0.01 < detectable(error * (groups / (more - 1)) ** 0.5, more - 1)


@pytest.mark.parametrize("groups", [8, 20])
def test_a_test_set_shows_what_it_promises(groups: int) -> None:
    """Interval and test, as *gained* asks for them, of another test set with the difference that a first one promised to show."""
    found = []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        draws = resample(groups, 400, seed) / groups
        error = (draws @ generator.normal(size=groups)).std(ddof=1) * (groups / (groups - 1)) ** 0.5
        other = generator.normal(detectable(error, groups), size=groups)
        swapped = randomisation_p(signs(groups, 400, seed), other, np.arange(groups))
        found.append(percentile_interval(draws @ other, groups)[0] > 0 and swapped < 0.05)
    assert np.mean(found) == pytest.approx(0.75, abs=0.06)  # a little less than the t-test finds


PAIRS = st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.booleans()), min_size=1, max_size=30)


@given(PAIRS, st.integers(0, 3), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_thresholds_are_the_best_of_all_cuts(pairs: list[tuple[float, bool]], missed: int, level: float) -> None:
    scores, relevant = np.array([score for score, _ in pairs]), np.array([label for _, label in pairs])
    cuts = {at: (relevant[scores >= at].sum(), (scores >= at).sum()) for at in scores}
    if relevant.any():
        best = max(2 * hits / (called + relevant.sum() + missed) for hits, called in cuts.values())
        assert best_threshold(scores, relevant, missed)[1] == pytest.approx(best)
    total = max(relevant.sum(), 1)
    for wanted, index in (("precision", 0), ("recall", 1)):
        points = [(hits / called, hits / total) for hits, called in cuts.values()]
        reached = [point[1 - index] for point in points if point[index] >= level]
        found = threshold_for(scores, relevant, wanted, level)
        assert (found is None) == (not reached)
        if found is not None:
            hits, called = relevant[scores >= found].sum(), (scores >= found).sum()
            assert (hits / called, hits / total)[1 - index] == pytest.approx(max(reached))
    if relevant.any():
        precision, recall, _ = our_curve(scores, relevant)
        theirs = precision_recall_curve(relevant, scores)
        assert precision.tolist() == pytest.approx(theirs[0][:-1][::-1].tolist())
        assert recall.tolist() == pytest.approx(theirs[1][:-1][::-1].tolist())


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    from tiny import made_data

    made = homing.split(homing.load(made_data(tmp_path_factory.mktemp("made"), queries=160)))
    query, document, relevance = made.dev.qrels.query, made.dev.qrels.document, made.dev.qrels.relevance
    fruitless = Qrels(query, document, np.where(query == query[0], 0, relevance).astype(np.int32))  # the first query has no positive
    return replace(made, dev=made.dev.with_qrels(fruitless))


@pytest.fixture(scope="module")
def found(splits: Splits, tiny_model: Path) -> list[Evaluation]:
    settings = Evaluating(resamples=300, measures="P(rel=1)@5 AP R@7")
    found = homing.evaluate([Model(tiny_model, name="base")], splits.dev, splits.test, settings, groups=splits.groups)
    found[0].measures["ROC AUC"] = Interval(0.9)  # to a model of random weights, the judgments are chance
    return found


def _moved(evaluation: Evaluation, name: str, ndcg: np.ndarray | float, scores: float = 0.0) -> Evaluation:
    per_query = {**evaluation.per_query, "nDCG@10": evaluation.per_query["nDCG@10"] + ndcg}
    measures = {**evaluation.measures, "nDCG@10": Interval(float(per_query["nDCG@10"].mean()))}
    test_scores = evaluation.test_scores + scores * evaluation.relevant
    return replace(evaluation, name=name, per_query=per_query, measures=measures, test_scores=test_scores)


def test_bm25_and_fusions_are_rows_and_what_is_asked_for_is_measured(found: list[Evaluation]) -> None:
    assert len(repr(found)) < 500  # what a notebook prints
    assert [(each.name, each.kind) for each in found] == [("base", "model"), ("BM25", "bm25"), ("base + BM25", "fused")]
    for each in found:
        assert {"nDCG@10", "Judged@10", "P@5", "AP@100", "R@7"} <= set(each.measures)
    assert found[0].has_scores
    assert found[1].has_scores
    assert not found[2].has_scores


def test_what_dev_chooses(found: list[Evaluation], splits: Splits) -> None:
    base = found[0]
    decision = base.decision
    assert isinstance(decision, Decision)
    assert decision.list is not None
    assert decision.list.cosine == base.threshold
    assert decision.list.chosen_on.pairs == len(splits.dev.qrels)
    assert decision.retrieval is not None
    assert decision.retrieval.top_k == 100
    assert decision.list.chosen_on.queries == len(splits.dev.qrels.queries)
    assert decision.retrieval.chosen_on.queries == len(splits.dev.qrels.queries) - 1  # one has nothing to be found
    assert decision.retrieval.chosen_on.relevant_share < decision.list.chosen_on.relevant_share
    assert base.test_best is not None
    assert base.test_best[1] >= base.measures["F1"].value - 1e-12
    assert base.returned["list"].mean >= 0
    assert (base.reliability is None) == (decision.calibration is None)
    assert all(trade.recall >= 0 for trade in base.trades)


def test_a_probability_where_relevant_pairs_score_higher_and_none_where_lower() -> None:
    def judged(relevant_has_the_words: int) -> tuple[Dataset, Dataset]:
        builder = Builder()
        for number in range(40):
            query, side = builder.query(f"alpha{number} beta{number}"), "dev" if number < 20 else "test"
            for has_the_words, text in ((1, f"alpha{number} beta{number} found"), (0, f"gamma{number} delta{number} other")):
                builder.judge(query, builder.document(text), int(has_the_words == relevant_has_the_words), side)
        return builder.dataset("dev"), builder.dataset("test")

    for relevant_has_the_words in (1, 0):
        dev, test = judged(relevant_has_the_words)
        (words,) = homing.evaluate([], dev, test, Evaluating(resamples=100))
        assert (words.reliability is not None) == bool(relevant_has_the_words)
        if words.reliability is not None:
            assert words.reliability.pairs.sum() == len(test.qrels)


def test_lists_that_nothing_could_order_wrongly_are_not_measured() -> None:
    def judged(grades: tuple[int, ...]) -> Dataset:
        builder = Builder()
        for number in range(12):
            for grade in grades:
                builder.judge(builder.query(f"alpha{number}"), builder.document(f"alpha{number} of grade{grade}"), grade)
        return builder.dataset()

    for grades, ordered in (((1,), False), ((1, 2), True), ((0, 1), True)):
        (words,) = homing.evaluate([], judged(grades), judged(grades), Evaluating(resamples=100))
        assert ({"list nDCG", "list RR", JUDGED_ONLY} <= set(words.measures)) == ordered
        assert ({"list nDCG", "list RR", JUDGED_ONLY} & set(words.measures) != set()) == ordered


def test_columns_are_a_mapping_with_a_value_for_each_query_of_the_data() -> None:
    builder = Builder()
    for number in range(12):
        builder.judge(builder.query(f"alpha{number}"), builder.document(f"alpha{number} of all"), 1)
    data = builder.dataset()
    (words,) = homing.evaluate([], data, data, Evaluating(resamples=100))
    both = [words, replace(words, name="other")]
    assert compare(both, resamples=100, columns={"topic": ["a"] * 6 + ["b"] * 6}).slices
    with pytest.raises(SettingError, match="'topic' has not one value a query; got 11 values; expected 12"):
        compare(both, resamples=100, columns={"topic": ["a"] * 11})
    with pytest.raises(SettingError, match="columns is not what belongs there"):
        compare(both, resamples=100, columns="topic")  # type: ignore[arg-type]


def test_groups_are_drawn_together(splits: Splits, found: list[Evaluation]) -> None:
    base = found[0]
    alone = replace(base, groups=None)
    assert draw(base, 100, 0).shape[1] == len(np.unique(splits.groups[splits.test.qrels.queries]))
    assert draw(alone, 100, 0).shape[1] == len(splits.test.qrels.queries)
    for groups in (None, np.arange(len(splits.test.qrels.queries), dtype=np.int32)):
        said = compare([replace(base, groups=groups), _moved(replace(base, groups=groups), "tuned", 0.2, 3.0)], resamples=200).notes
        assert any("The intervals resample test queries;" in note for note in said)  # each is a group of its own
    together = replace(base, groups=np.zeros(len(splits.test.qrels.queries), dtype=np.int32))
    verdict = compare([together, _moved(together, "tuned", 0.2, 3.0)], resamples=200)
    assert (verdict.outcome, verdict.action, verdict.power) == ("undecided", "label more", None)  # one group is one observation
    assert any("only 1. No difference can be shown" in note for note in verdict.notes)
    assert not any("intervals resample" in note for note in verdict.notes)
    assert all(np.isnan(each.low) for difference in verdict.differences for each in difference.measures.values())
    assert "nan" not in verdict_table([together, _moved(together, "tuned", 0.2, 3.0)], verdict)
    assert verdict.causes[0].name == "the test is too small to show a gain"
    assert "no relevant document: 1." in verdict.causes[0].evidence
    hurried = Circumstances(minutes=1, epochs=0.1, updates=2)
    together = replace(together, measures={**base.measures, "nDCG@10": Interval(0.4)})
    causes = compare([together, _moved(together, "tuned", 0.2, 3.0)], resamples=200, circumstances=hurried).causes
    assert [cause.name for cause in causes[:2]] == ["the training was too short", "the test is too small to show a gain"]
    unread = compare([together, _moved(together, "tuned", 0.2, 3.0)], resamples=200, circumstances=replace(hurried, unknown=0.6)).causes
    assert (unread[0].name, unread[2].name) == ("the base cannot read the texts", "the test is too small to show a gain")
    assert "60%" in unread[0].evidence
    long = compare([together, _moved(together, "tuned", 0.2, 3.0)], resamples=200, circumstances=replace(hurried, cut=0.9, max_length=64))
    assert long.causes[0].name == "positives cut by the length cap"
    assert any("higher --max-length" in remark.en for remark in header([together, _moved(together, "tuned", 0.2, 3.0)], long).remarks)
    coin = replace(together, measures={**together.measures, "ROC AUC": Interval(0.5)})
    chance = compare([coin, _moved(coin, "tuned", 0.2, 3.0)], resamples=200)
    assert chance.causes[0].name == "to the base, the judgments are chance"
    asked = [remark.en for remark in header([coin, _moved(coin, "tuned", 0.2, 3.0)], chance).remarks]
    assert asked[1:] == [chance.causes[1].experiment]  # which labels, where the action wants more
    assert asked[0].endswith(chance.causes[0].experiment)  # after what needs none


def test_a_query_without_a_relevant_document_is_no_part_of_the_ranking(found: list[Evaluation]) -> None:
    """Three queries that are ranked show nothing, whatever is judged beside them."""
    base = replace(found[0], groups=np.arange(len(found[0].test.qrels.queries), dtype=np.int32))
    ranked = base.queries[:3]
    few = replace(base, queries=ranked, per_query={name: values[:3] for name, values in base.per_query.items()}, found=None)
    verdict = compare([few, replace(few, name="tuned")], resamples=200)
    assert (verdict.outcome, verdict.action) == ("undecided", "label more")
    assert "no relevant document: 3." in verdict.causes[0].evidence


def test_actions(found: list[Evaluation]) -> None:
    base = found[0]
    noise = np.random.default_rng(0).normal(0, 0.3, len(base.queries))
    better = compare([base, _moved(base, "tuned", 0.1, 3.0)], resamples=200)
    assert (better.outcome, better.action, better.chosen, better.causes) == ("gained", "deploy", "tuned", ())
    worse = compare([base, _moved(base, "tuned", -0.1, -3.0)], resamples=200)
    assert (worse.outcome, worse.action) == ("lost", "keep the base")
    blamed = "the learning rate is too high: the base was forgotten"
    assert blamed not in [cause.name for cause in worse.causes]  # of two models side by side no training is known
    known = compare([base, _moved(base, "tuned", -0.1, -3.0)], resamples=200, circumstances=Circumstances(learning_rate=1e-3))
    assert blamed in [cause.name for cause in known.causes]
    # a share of 0 alone may mean that nothing was left to gain
    for looks, forgot in (((1.0, 1.0), False), ((0.8508, 0.8506), False), ((0.9, 0.89), True)):
        same = compare([base, _moved(base, "tuned", 0.0)], resamples=200, circumstances=Circumstances(scale=0.0, looks=looks))
        assert (blamed in [cause.name for cause in same.causes]) == forgot
    unclear = compare([base, _moved(base, "tuned", noise - noise.mean())], resamples=200)
    assert (unclear.outcome, unclear.action) == ("undecided", "label more")
    assert unclear.power is not None
    assert unclear.power.detectable > unclear.power.worthwhile
    assert unclear.power.needed > unclear.power.queries
    assert "label more" in unclear.sentence
    assert not any("small differences" in note or "in four of five draws" in note for note in unclear.notes)  # the head says it
    remarks = [remark.en for remark in header([base, _moved(base, "tuned", 0.0)], unclear).remarks]
    assert sum(f"a difference in nDCG@10 of {unclear.power.detectable:.3f}" in remark for remark in remarks) == 1
    assert f"{unclear.power.detectable:.3f} or more" in unclear.causes[0].evidence  # the experiment is what the action says
    assert f"about {unclear.power.needed:,} in all" in unclear.causes[0].experiment
    words = replace(_moved(base, "BM25", 0.5), kind="bm25")
    behind = compare([base, _moved(base, "tuned", noise - noise.mean()), words], resamples=200)  # labels would not bring it before BM25
    assert (behind.outcome, behind.action, behind.chosen) == ("undecided", "keep the base", "BM25")
    assert all("too small" not in cause.name for cause in behind.causes)
    said = [remark.en for remark in header([base, _moved(base, "tuned", 0.0), words], behind).remarks]
    assert len(said) == 1
    assert "are needed" not in said[0]
    fused = replace(_moved(base, "base + BM25", 0.3), kind="fused", test_scores=base.test_scores * np.nan)
    beaten = compare([base, _moved(base, "tuned", 0.1, 3.0), fused], resamples=200)
    assert (beaten.outcome, beaten.action) == ("gained", "keep the base")
    assert beaten.untrained is not None
    assert beaten.untrained.against == "base + BM25"
    assert "the best that needs no training" in beaten.sentence
    assert (beaten.chosen, [cause.name for cause in beaten.causes]) == ("base + BM25", ["it does worse than base + BM25"])
    head = header([base, _moved(base, "tuned", 0.1, 3.0), fused], beaten)
    assert head.action == phrases.USE_UNTRAINED.format(chosen="base + BM25")
    assert "the sum of 1 / (60 + rank)" in head.remarks[0].en
    assert in_both(beaten.causes[0].evidence).zh.startswith("与 base + BM25 相比，nDCG@10 ")
    models = [base, _moved(base, "tuned", 0.1 + (noise - noise.mean()) / 3, 3.0), replace(fused, per_query=_moved(base, "", 0.1).per_query)]
    held = compare(models, resamples=200)
    assert (held.outcome, held.action) == ("gained", "label more")
    assert held.causes[0].name == "it is not shown to be better than base + BM25"
    assert [remark.en for remark in header(models, held).remarks] == [
        held.causes[0].experiment
    ]  # what would tell it from that, not from base
    assert "八成把握" in in_both(held.causes[0].evidence).zh
    trained = replace(_moved(base, "tuned + BM25", 0.4), kind="fused", test_scores=base.test_scores * np.nan)
    assert compare([base, _moved(base, "tuned", 0.1, 3.0), trained], resamples=200).untrained is None  # it needs training as well
    both = compare([base, _moved(base, "tuned", 0.1, 3.0), trained], resamples=200)
    assert (both.chosen, both.notes[0][:33]) == ("tuned", "tuned + BM25 is better still: nDC")
    assert "更好" in in_both(both.notes[0]).zh
    verdict = compare([base, _moved(base, "tuned", 0.1, 3.0), words, replace(fused, per_query=base.per_query), trained], resamples=200)
    assert (verdict.outcome, verdict.action) == ("gained", "keep the base")  # fused with BM25 it beats the base so, and not BM25 alone
    note = next(note for note in verdict.notes if note.startswith("BM25, which needs no training"))
    assert "不需要训练" in in_both(note).zh
    for gain in (0.4, 0.3):  # as good as the two together, or a little less
        words = replace(_moved(base, "BM25", gain), kind="bm25")
        models = [base, _moved(base, "tuned", 0.1, 3.0), words, replace(fused, per_query=base.per_query), trained]
        verdict = compare(models, resamples=200)
        assert verdict.chosen == ("BM25" if gain == 0.4 else "tuned + BM25")
    assert (verdict.outcome, verdict.action, verdict.chosen) == ("gained", "deploy", "tuned + BM25")  # alone it is worse than BM25
    assert verdict.sentence.endswith("deploy tuned + BM25.")
    assert header(models, verdict).action == Phrase("Deploy tuned + BM25.", "部署 tuned + BM25。")


def _judged_apart(evaluation: Evaluation, alone: np.ndarray | float | None) -> Evaluation:
    """The evaluation with a higher Judged@10, and nDCG@10 over judged documents alone moved by `alone` (taken out, where None)."""
    per_query = dict(evaluation.per_query)
    own = per_query.pop(JUDGED_ONLY)
    if alone is not None:
        per_query[JUDGED_ONLY] = own + alone
    measures = {**evaluation.measures, "Judged@10": Interval(evaluation.measures["Judged@10"].value + 0.06)}
    return replace(evaluation, per_query=per_query, measures=measures)


@pytest.mark.parametrize(("gain", "alone", "outcome"), [(0.1, 0.05, "gained"), (-0.1, -0.05, "lost")])
def test_where_different_shares_are_judged_ndcg_decides_if_it_says_the_same_without_the_unjudged(
    found: list[Evaluation], gain: float, alone: float, outcome: str
) -> None:
    base = found[0]
    verdict = compare([base, _judged_apart(_moved(base, "tuned", gain, 30 * gain), alone)], resamples=200)
    assert (verdict.outcome, verdict.ranked) == (outcome, True)
    difference = verdict.differences[0]
    assert difference.measures[JUDGED_ONLY].value == pytest.approx(alone)
    assert difference.adjusted[JUDGED_ONLY] < 0.05
    note = next(note for note in verdict.notes if "Judged@10" in note)
    assert note.endswith(f"over judged documents alone nDCG@10 differs by {alone:+.4f} [{alone:+.4f}, {alone:+.4f}]: it says the same.")
    assert "结论相同" in in_both(note).zh
    assert JUDGED_ONLY not in compare([base, _moved(base, "tuned", 0.1, 3.0)], resamples=200).differences[0].measures
    fused = replace(found[2], per_query={**found[2].per_query, JUDGED_ONLY: base.per_query[JUDGED_ONLY]})  # --measures named it
    assert JUDGED_ONLY not in compare([base, _judged_apart(fused, alone)], resamples=200).differences[0].measures


@pytest.mark.parametrize("alone", [-0.05, 0.0, "noise", None])
def test_no_ranking_verdict_where_it_says_another_thing(found: list[Evaluation], alone: float | str | None) -> None:
    base = found[0]
    noise = np.random.default_rng(0).normal(0, 0.3, len(base.queries))
    by = noise - noise.mean() if alone == "noise" else alone
    verdict = compare([base, _judged_apart(_moved(base, "tuned", 0.1, 3.0), by)], resamples=200)  # type: ignore[arg-type]
    assert not verdict.ranked
    assert (verdict.outcome, verdict.action) == ("undecided", "label more")
    note = next(note for note in verdict.notes if "Judged@10" in note)
    assert note.endswith("Judge the first ten of both.")
    assert ("judged documents alone" in note) == (alone is not None)
    assert "不能给它们排名" in in_both(note).zh
    assert verdict.causes[0].name == "what the two models find is judged to different shares"
    assert ("judged documents alone" in verdict.causes[0].evidence) == (alone is not None)
    assert "不能判定" in in_both(verdict.causes[0].evidence).zh


def test_a_larger_share_of_fewer_documents_is_judged_alike(found: list[Evaluation]) -> None:
    def judged(share: float, documents: int) -> Evaluation:
        run = found[0].found
        assert run is not None
        cut = replace(run, document=np.where(np.arange(run.document.shape[1]) < documents, np.abs(run.document), -1))
        per_query = found[0].per_query | {"Judged@10": np.full(len(found[0].queries), share)}
        return replace(found[0], found=cut, per_query=per_query, measures=found[0].measures | {"Judged@10": Interval(share)})

    assert judged_alike(judged(0.1, 10), judged(0.5, 2))
    assert judged_alike(judged(0.5, 10), judged(0.5, 2))
    assert not judged_alike(judged(0.3, 10), judged(0.5, 2))
    assert not judged_alike(judged(0.1, 10), judged(0.5, 10))


def test_a_gain_over_judged_documents_alone_is_held_to_its_test_too(found: list[Evaluation]) -> None:
    """An interval above zero is not enough to say the same; and a small test is not what is told first."""
    base = found[0]
    alone = np.where(np.arange(len(base.queries)) < 5, 0.3, 0.0)  # above zero, yet of 5 signs one in 16 draws is as far
    verdict = compare([base, _judged_apart(_moved(base, "tuned", 0.1, 3.0), alone)], resamples=2000)
    assert not verdict.ranked
    assert verdict.differences[0].measures[JUDGED_ONLY].low > 0
    assert verdict.differences[0].adjusted[JUDGED_ONLY] > 0.05
    assert not any("it says the same" in note for note in verdict.notes)
    assert (verdict.outcome, verdict.action) == ("undecided", "label more")
    assert verdict.causes[0].name == "what the two models find is judged to different shares"
    assert "Judge the first ten documents" in verdict.causes[0].experiment


def test_what_is_clear_in_neither_reading_is_for_want_of_queries(found: list[Evaluation]) -> None:
    """Unjudged documents decide nothing where nDCG@10 shows no difference with them and none without."""
    base = found[0]
    noise = np.random.default_rng(0).normal(0, 0.3, len(base.queries))
    verdict = compare([base, _judged_apart(_moved(base, "tuned", noise - noise.mean()), noise - noise.mean())], resamples=200)
    assert (verdict.outcome, verdict.action, verdict.ranked) == ("undecided", "label more", False)
    assert verdict.causes[0].name == "the test is too small to show a gain"
    assert not any("different shares" in cause.name for cause in verdict.causes)
    assert not any("unjudged" in remark.en for remark in header([base, _moved(base, "tuned", 0.0)], verdict).remarks)
    clear = compare([base, _judged_apart(_moved(base, "tuned", 0.1, 3.0), -0.05)], resamples=200)
    assert any("unjudged" in remark.en for remark in header([base, _moved(base, "tuned", 0.0)], clear).remarks)


def test_an_interval_above_zero_that_the_test_does_not_bear_out_says_so(found: list[Evaluation]) -> None:
    base, tuned = found[0], _moved(found[0], "tuned", 0.06)
    measures = {"nDCG@10": Interval(0.06, 0.005, 0.115), "AP": Interval(0.02, -0.01, 0.05)}
    doubtful, clear, open_ = (Difference("tuned", "base", measures, {}, {"nDCG@10": p, "AP": 0.3}) for p in (0.07, 0.04, 0.07))
    open_ = replace(open_, measures=measures | {"nDCG@10": Interval(0.06, -0.001, 0.12)})
    for difference, told in ((doubtful, True), (clear, False), (open_, False)):
        said = sentence("undecided", "label more", "base", base, tuned, difference, None, None, Context())
        head = header([base, tuned], Verdict("undecided", said, (difference,)))
        assert head.evidence is not None
        assert (", p 0.070)" in said) == ("，p 0.070）" in head.evidence.zh) == told
        assert said.count(", p ") == told
        (shown,) = head.differences
        assert shown.tiles[0].sign == ("gain" if difference is clear else "open")  # green is what is clear


def test_lost_in_ap_is_lost_whatever_is_judged(found: list[Evaluation]) -> None:
    base = found[0]
    assert compare([base, _judged_apart(_moved(base, "tuned", 0.1, -3.0), -0.05)], resamples=200).outcome == "lost"
    assert compare([base, _judged_apart(_moved(base, "tuned", 0.1, -3.0), 0.05)], resamples=200).outcome == "mixed"


def test_a_rival_judged_apart_counts_if_both_readings_agree(found: list[Evaluation]) -> None:
    base, bm25 = found[0], found[1]
    tuned = _judged_apart(_moved(base, "tuned", 0.1, 3.0), 0.1)
    best = base.per_query["nDCG@10"] + 0.2
    rival = replace(bm25, per_query={**bm25.per_query, "nDCG@10": best, JUDGED_ONLY: base.per_query[JUDGED_ONLY] + 0.2})
    rival.measures["nDCG@10"] = Interval(float(best.mean()))
    rival.measures["Judged@10"] = Interval(base.measures["Judged@10"].value)
    assert compare([base, rival, tuned], resamples=200).action == "keep the base"  # it is better in both readings
    rival.per_query[JUDGED_ONLY] = base.per_query[JUDGED_ONLY] - 0.2
    left_out = compare([base, rival, tuned], resamples=200)
    assert left_out.action == "deploy"  # nothing can be said of it
    level = replace(rival, test_scores=tuned.test_scores)  # in AP too
    for alone, action in ((tuned.per_query[JUDGED_ONLY] - 0.2, "deploy"), (tuned.per_query[JUDGED_ONLY] + 0.0, "label more")):
        level.per_query[JUDGED_ONLY] = alone
        assert compare([base, level, tuned], resamples=200).action == action  # it is ahead in one reading, or in none
    assert not any("needs no training, does better" in note for note in left_out.notes)
    better = replace(rival, test_scores=tuned.relevant * 1.0)
    modest = replace(tuned, test_scores=base.test_scores + 0.1 * tuned.relevant)
    verdict = compare([base, better, modest], resamples=200)
    assert (verdict.outcome, verdict.action) == ("gained", "keep the base")  # judged pairs alone say that it is better
    assert any("needs no training, does better" in note for note in verdict.notes)


def test_the_model_in_use_is_to_be_beaten_by_what_ranks_the_two(found: list[Evaluation]) -> None:
    """Its unjudged documents decide nothing: neither by nDCG@10 with them, nor, where AP is level, at all."""
    base = found[0]
    tuned = _judged_apart(_moved(base, "tuned", 0.3, 3.0), 0.3)
    base.measures["Judged@10"], level = tuned.measures["Judged@10"], base.measures["Judged@10"]
    for alone, kept in ((0.1, "tuned"), (0.4, "deployed")):
        used = _judged_apart(_moved(base, "deployed", 0.1, 3.0), alone)
        used.measures["Judged@10"] = level
        verdict = compare([base, used, tuned], resamples=200)
        assert (verdict.outcome, verdict.chosen) == ("gained", kept)
    noise = np.random.default_rng(0).normal(0, 0.3, len(base.queries))
    going_on = _moved(base, "deployed", 0.2 + noise - noise.mean(), 3.0)
    stayed = compare([base, going_on, replace(going_on, name="tuned")], resamples=200)
    assert (stayed.outcome, stayed.action, stayed.chosen) == ("gained", "keep the base", "deployed")
    assert "it is the same model" in stayed.notes[0]
    base.measures["Judged@10"] = level


def test_two_evaluations_of_one_name_are_told_apart_before_they_are_taken_for_equal(found: list[Evaluation]) -> None:
    with pytest.raises(SettingError, match="same name"):
        compare([found[0], _moved(found[0], found[0].name, 0.3)])


def test_several_models_are_adjusted_for(found: list[Evaluation]) -> None:
    base = found[0]
    noise = np.random.default_rng(1).normal(0, 0.2, len(base.queries))
    models = [base, *(_moved(base, f"m{at}", noise * (at - 2)) for at in range(5))]
    verdict = compare(models, resamples=200)
    for each in verdict.differences:
        assert each.adjusted["nDCG@10"] >= each.p_values["nDCG@10"]
    assert verdict.notes[0].startswith(
        "The verdict is on m4, the model given last. The table and the differences to base have m0, m1, m2, m3"
    )
    assert "the model given last" not in compare([base, replace(models[1], name="deployed"), models[2]], resamples=100).notes[0]


def test_the_old_threshold_on_a_new_scale_is_shown(found: list[Evaluation]) -> None:
    base = found[0]
    assert base.threshold is not None
    lower = replace(base, name="tuned", test_scores=base.test_scores - 1.0, threshold=base.threshold - 1.0)
    lower = replace(lower, background=Background(10, 0.1, 0.7, 0.6, True, Interval(0.64)))
    verdict = compare([base, lower], resamples=200)
    plain = f"F1 0.6400 on test instead of {base.measures['F1'].value:.4f}; on dev it gains +0.1000."
    assert any(note.endswith(plain) and "而不是" in in_both(note).zh for note in verdict.notes)
    difference = verdict.differences[0]
    assert difference.borrowed == 0
    assert difference.measures["F1"].value == pytest.approx(0)


def test_slices_tell_where_it_got_worse(found: list[Evaluation]) -> None:
    base = found[0]
    lengths = np.array([len(base.test.queries.texts[query]) for query in base.queries])
    long = lengths > np.quantile(lengths, 2 / 3)
    draws = draw(base, 300, 0)
    column = ["long" if len(text) > np.quantile(lengths, 2 / 3) else "short" for text in base.test.queries.texts]
    cut = slices(base, _moved(base, "tuned", np.where(long, -0.3, 0.1)), draws, {"size": column})
    worse = {(each.by, each.label) for each in cut if each.worse}
    assert ("size", "long") in worse
    assert {by for by, _ in worse} >= {"query length", "size"}
    assert ("size", "short") not in worse
    assert ("size", "short") in {(each.by, each.label) for each in cut if each.better}
    of_one = replace(base, groups=np.where(np.isin(base.test.qrels.queries, base.queries[long]), 0, base.groups))
    cut_again = slices(of_one, _moved(of_one, "tuned", np.where(long, -0.3, 0.1)), draw(of_one, 300, 0), {"size": column})
    long_alone = next(each for each in cut_again if each.label == "long")
    assert np.isnan(long_alone.difference.low)  # its one group would come out as sure to the last digit
    assert not long_alone.worse
    few = slices(base, _moved(base, "tuned", np.where(np.arange(len(base.queries)) < 4, 0.3, 0.0)), draws, {"size": column})
    assert any(each.difference.low >= 0 for each in few)
    assert not any(each.better or each.worse for each in few)  # of 4 signs one in 8 draws is as far
    for each in cut:
        assert each.after - each.before == pytest.approx(each.difference.value)
        assert each.difference.low <= each.difference.value + 1e-9


def test_causes_are_ranked_by_their_evidence(found: list[Evaluation], splits: Splits) -> None:
    base = replace(found[0], measures={**found[0].measures, "ROC AUC": Interval(0.9)})  # a model that knows something
    ceiling = replace(base, measures={**base.measures, "nDCG@10": Interval(0.97)})
    assert likely_causes(ceiling, ceiling)[0].name == "the base is near the ceiling"
    forgot = Circumstances(looks=[0.8, 0.6], learning_rate=0.01)
    named = next(cause for cause in likely_causes(base, base, forgot) if "learning rate" in cause.name)
    assert named.weight == 1
    assert "0.01" in named.experiment
    assert not any("learning rate" in cause.name for cause in likely_causes(base, base, Circumstances(looks=[0.8, 0.797], general=[0.5])))
    handful = replace(forgot, looks=[1.0, 0.75], dev=2)  # one of two queries has another document second
    assert not any("learning rate" in cause.name for cause in likely_causes(base, base, handful))
    assert not any("learning rate" in cause.name for cause in likely_causes(base, base, replace(forgot, looks=[0.8, 0.77], dev=12)))
    swings = 0.3 * (1 - 2 * (np.arange(len(base.queries)) % 2))
    for spread, blamed in (
        (0.0, True),
        (swings - swings.mean(), False),
    ):  # what single queries swing by is more than the drop of their mean
        causes = likely_causes(base, _moved(base, "tuned", spread - 0.04), Circumstances(learning_rate=1e-3))
        assert any("learning rate" in cause.name for cause in causes) == blamed
    tried = Instructions(40, 90, (Tried("query: ", 0.60), Tried("", 0.64)), "")  # the base does better without the run's prompt
    kept = likely_causes(base, _moved(base, "tuned", -0.04), Circumstances(scale=0.0, learning_rate=1e-3), tried)
    assert kept[0].name == "the run's prompt does not suit the base"
    assert kept[0].experiment.endswith('--query-prompt ""')
    assert "0.640" in in_both(kept[0].evidence).zh
    assert not any("learning rate" in cause.name and "on test" in cause.evidence for cause in kept)  # nothing was learned that could forget
    assert not likely_causes(base, base, Circumstances(), replace(tried, chosen="query: "))
    cut = Circumstances(cut=0.6, max_length=64)
    assert any("length cap" in cause.name and "60%" in cause.evidence for cause in likely_causes(base, base, cut))
    assert likely_causes(base, base, replace(cut, unknown=0.7))[0].name == "the base cannot read the texts"  # whatever the cap cuts
    queries = np.arange(len(base.queries))
    assert base.found is not None
    first = np.setdiff1d(np.arange(len(base.test.corpus)), base.test.qrels.document)[queries % 40][:, None]
    agreed = replace(base, found=replace(base.found, document=np.hstack([first, base.found.document])))
    both = agreed, replace(agreed, test_scores=agreed.test_scores + 0.01)
    assert likely_causes(*both)[0].name == "relevant documents that nobody judged"
    others = np.where(queries[:, None] % 12, np.roll(first, 1, axis=0), first)  # a twelfth agrees, as where all was judged
    seldom = replace(both[1], found=replace(base.found, document=np.hstack([others, base.found.document])))
    assert not any("nobody judged" in cause.name for cause in likely_causes(agreed, seldom))
    assert not any("nobody judged" in cause.name for cause in likely_causes(agreed, agreed))  # the base, kept, agrees with itself
    asked_too = likely_causes(agreed, agreed, lexical=replace(agreed, name="BM25", kind="bm25"))[0]
    assert asked_too.name == "relevant documents that nobody judged"
    assert in_both(asked_too.evidence).zh.startswith("有 100% 的测试查询，base 和 BM25 都把")
    chance = replace(base, measures={**base.measures, "ROC AUC": Interval(0.51)})
    assert likely_causes(chance, chance)[0].name == "to the base, the judgments are chance"
    assert "Grades" not in likely_causes(chance, chance)[0].evidence
    qrels = base.test.qrels
    stars = replace(chance, test=base.test.with_qrels(replace(qrels, relevance=qrels.relevance * 3)))
    assert "Grades go up to 3" in (graded := likely_causes(stars, stars)[0]).evidence
    assert "1 级及以上都按相关计" in in_both(graded.evidence).zh
    assert "改写为 0" in in_both(graded.experiment).zh
    hub = replace(base, found=replace(base.found, document=np.hstack([first * 0 + first[0], base.found.document])))
    assert not any("nobody judged" in cause.name for cause in likely_causes(hub, replace(hub, test_scores=both[1].test_scores)))
    few = {cause.name: cause for cause in likely_causes(base, base, Circumstances(train=splits.train))}
    assert "too few queries to learn from" in few
    hurried = Circumstances(train=splits.train, minutes=1, epochs=0.08, updates=1)
    assert next(each.name for each in likely_causes(base, base, hurried) if "too" in each.name) == "the training was too short"
    for enough in (replace(hurried, epochs=1.5), replace(hurried, updates=900), replace(hurried, minutes=None)):
        assert "the training was too short" not in {cause.name for cause in likely_causes(base, base, enough)}
    phrasings = np.arange(len(splits.queries)) // 3  # three of each question, which share its words
    texts = tuple(f"alpha{question} beta{question} v{place % 3}" for place, question in enumerate(phrasings.tolist()))
    asking = np.flatnonzero(~np.isin(phrasings, phrasings[base.queries])).astype(np.int32)
    rest = Dataset(splits.train.corpus, Queries(splits.queries.ids, texts), Qrels(asking, asking * 0, asking * 0 + 1))
    together = np.zeros(len(phrasings), dtype=np.int32)  # no part of training tells what it lacks of another
    for groups, told in ((None, True), (phrasings.astype(np.int32), False), (together, False)):
        named = {cause.name for cause in likely_causes(base, base, Circumstances(train=rest, groups=groups))}
        assert ("train and test unlike each other" in named) == told
    relevant, asking = qrels.document[qrels.relevance > 0], np.setdiff1d(np.arange(len(splits.queries)), base.queries).astype(np.int32)
    other = np.setdiff1d(np.arange(len(base.test.corpus)), relevant)[0]
    for answer, told in ((other, True), (relevant[0], False)):  # one answer to all of training's questions
        rest = base.test.with_qrels(Qrels(asking, asking * 0 + np.int32(answer), asking * 0 + 1))
        found_so = {cause.name: cause for cause in likely_causes(base, base, Circumstances(train=rest))}
        assert ("the test asks for documents that training never saw as relevant" in found_so) == told
    weights = [cause.weight for cause in likely_causes(base, base, replace(forgot, cut=0.6, max_length=64))]
    assert weights == sorted(weights, reverse=True)
