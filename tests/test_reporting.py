"""The report, read back by a parser: what it was given is there, escaped, and nothing of it comes from elsewhere."""

from __future__ import annotations

import csv
import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import f1_score

from homing.builder import Builder
from homing.data import Dataset, Run
from homing.errors import InputError
from homing.figures.canvas import TONES
from homing.measures.calibration import fit_platt, reliability
from homing.measures.decision import ChosenOn, Decision, Threshold
from homing.measures.evaluations import Background, Evaluation, Interval, Returned, Speed, Trade
from homing.measures.thresholds import GRID, best_threshold, f1_curve
from homing.reporting import phrases, report
from homing.reporting.header import header
from homing.reporting.page import SHARED
from homing.settings import Reporting
from homing.verdicts.causes import UNREAD, Cause
from homing.verdicts.context import (
    Anew,
    Context,
    Forecast,
    General,
    Instructions,
    LearningCurve,
    Point,
    Reindexing,
    Seeds,
    Shortened,
    Tried,
)
from homing.verdicts.differences import Difference, Power
from homing.verdicts.slices import Slice
from homing.verdicts.verdict import Verdict, compare
from homing.verdicts.wording import KEPT

SENTENCE = "The tuned model finds the right document better: nDCG@10 rises by 0.120 (0.095 to 0.146)."
NASTY = (
    "<script>alert('q')</script> & \"quoted\" </details></main>",
    "医疗保险的免赔额是多少？",
    "emoji 👩🏽‍⚕️ and a bell \x07, a null \x00, a half \ud83d and \u202eright to left",
    "{{ 7 * 7 }} {% raw %} #0068a8 $x_1$",
)


def made_up(*, queries: int = 40, negatives: bool = True, nasty: bool = True, seed: int = 7) -> Dataset:
    """A small data set whose first texts are those that pages break on, where it may be `nasty`."""
    draw = np.random.default_rng(seed)
    builder = Builder()
    long = " ".join(f"word{n}" for n in range(1400))
    code = "\n".join(f"    line_{n} = <b>{n}</b>" for n in range(30))
    for number in range(queries):
        query = builder.query(NASTY[number] if nasty and number < len(NASTY) else f"question {number} about the deductible", f"q{number}")
        for place in range(6):
            text = f"document {number}.{place}: " + (long, code, "一二三四五六七八九十" * 60, "short <i>one</i>")[(number + place) % 4]
            relevance = int(place == 0 or (place == 1 and draw.random() < 0.5))
            if relevance or negatives:
                builder.judge(query, builder.document(text), relevance)
    return builder.dataset()


def evaluated(name: str, data: Dataset, *, gap: float = 0.2, middle: float = 0.5, seed: int = 0) -> Evaluation:
    """What a model might have done on this data: scores drawn around `middle`, `gap` apart, and rankings drawn likewise."""
    draw = np.random.default_rng(seed)
    relevant = data.qrels.relevance > 0
    dev_scores, scores = (np.clip(draw.normal(middle + gap * relevant, 0.12), -1, 1) for _ in range(2))
    queries = data.qrels.queries
    per_query = {
        key: draw.choice([0.0, 0.5, 0.631, 1.0], len(queries)) for key in ("nDCG@10", "R@10", "R@100", "RR@10", "list nDCG", "list RR")
    }
    measures = {key: Interval(float(v.mean()), float(v.mean()) - 0.05, float(v.mean()) + 0.05) for key, v in per_query.items()}
    measures |= {"AP": Interval(0.4321, 0.4011, 0.4654), "ROC AUC": Interval(0.8123, 0.7901, 0.8345)}
    threshold = dev_f1 = None
    if not relevant.all():
        threshold, dev_f1 = best_threshold(dev_scores, relevant)
        f1 = float(f1_curve(scores, relevant, np.array([threshold]))[0])
        measures |= {"F1": Interval(f1, f1 - 0.03, f1 + 0.03), "precision": Interval(0.5011), "recall": Interval(0.6077)}
    prompts = {"query": "Instruct: find <it>\nQuery:", "document": ""} if gap > 0.2 else {}
    curve = (GRID, f1_curve(scores, relevant))
    return Evaluation(
        name, f"digest-{name}", prompts, data, data, dev_scores, scores, queries, per_query, measures, threshold, dev_f1, curve, 1.5
    )


def judged(*evaluations: Evaluation, outcome: str = "gained") -> Verdict:
    first, *others = evaluations
    numbers = {"nDCG@10": Interval(0.12, 0.095, 0.146), "AP": Interval(0.0312, -0.0044, 0.0671), "F1": Interval(-0.0211, -0.04, -0.002)}
    return Verdict(outcome, SENTENCE, tuple(Difference(e.name, first.name, numbers) for e in others), ("Measured on <40> queries.",))  # type: ignore[arg-type]


def trained(folder: Path, steps: int = 120) -> Path:
    """A record of a training with an evaluation every 20 steps, one step run twice, and a last line cut off."""
    draw = np.random.default_rng(3)
    lines = []
    for step in [*range(1, steps + 1), steps]:
        fade = step / steps
        record = {
            "step": step,
            "epoch": 3 * fade,
            "loss": 2.2 - 1.4 * fade + draw.normal(0, 0.12),
            "learning_rate": 1e-4 * min(10 * fade, 1.1 - fade),
        }
        lines.append(record | {"grad_norm": 1 + draw.random(), "positive_score": 0.5 + 0.1 * fade, "negative_score": 0.4 - 0.2 * fade})
        if step % 20 == 0:
            dev = {"step": step, "epoch": 3 * fade, "dev_loss": 2 - fade, "dev_nDCG@10": 0.5 + 0.13 * np.sin(2.4 * fade)}
            lines.append(dev | {"dev_positive_score": 0.5 + 0.08 * fade, "dev_negative_score": 0.42 - 0.16 * fade})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 12', encoding="utf-8")
    return folder


class Page(HTMLParser):
    """The page as a browser's parser takes it apart: the tags with their attributes, and the text that one language shows."""

    VOID = frozenset({"meta", "link", "br", "wbr", "input"})

    def __init__(self, path: Path, language: str = "en") -> None:
        super().__init__()
        self.hidden = {"en": "zh-Hans", "zh": "en"}[language]
        self.depth: list[bool] = [False]
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
            self.depth.append(self.depth[-1] or (tag not in ("html", "label") and dict(attributes).get("lang") == self.hidden))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.depth.pop()

    def handle_data(self, data: str) -> None:
        if not self.depth[-1] and self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", "".join(self.words))

    @property
    def figures(self) -> list[str]:
        return [attributes["data-figure"] or "" for tag, attributes in self.tags if tag == "svg"]

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] or "" for tag, attributes in self.tags if tag == "section" and "id" in attributes]


@pytest.fixture(scope="module")
def pair() -> tuple[Evaluation, Evaluation]:
    data = made_up()
    return evaluated("models/base <b>", data, seed=1), evaluated("调优模型", data, gap=0.35, middle=0.2, seed=2)


@pytest.fixture(scope="module")
def whole(pair: tuple[Evaluation, Evaluation], tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report with all of its parts."""
    folder = tmp_path_factory.mktemp("report")
    out = report(*pair, out=folder / "new" / "report.html", training=trained(folder / "training"), verdict=judged(*pair))
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    return Page(out)


def test_nothing_is_loaded_from_elsewhere(whole: Page) -> None:
    for tag, attributes in whole.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert value == "data:," or (value or "").startswith("#"), (tag, name, value)
    assert "http://" not in whole.source
    assert "https://" not in whole.source
    assert not {"iframe", "object", "embed", "img", "form"} & {tag for tag, _ in whole.tags}
    assert [attributes for tag, attributes in whole.tags if tag == "script"] == [{}]
    assert "@import" not in whole.source
    assert set(re.findall(r"url\((.)", whole.source)) == {"#"}
    (policy,) = [attributes["content"] or "" for tag, attributes in whole.tags if "http-equiv" in attributes]
    script = whole.source[whole.source.index("<script>") + 8 : whole.source.rindex("</script>")]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"


def test_measures_say_what_they_are(whole: Page) -> None:
    for name in ("nDCG@10", "R@10", "R@100", "RR@10", "AP", "ROC AUC"):
        assert phrases.MEASURE_NOTES[name].en in whole.text
        assert phrases.MEASURE_NOTES[name].zh in whole.source


def test_names_notes_and_prompts_are_shown_as_they_are(whole: Page) -> None:
    assert "models/base <b>" in whole.text
    assert "调优模型" in whole.text
    assert "Measured on <40> queries." in whole.text
    assert '"Instruct: find <it>\\nQuery:"' in whole.text
    assert "no prompt, neither for queries nor for documents" in whole.text


def test_every_nasty_text_is_escaped(tmp_path: Path) -> None:
    data = made_up(queries=4)
    first, last = evaluated("a", data), evaluated("b", data, seed=1)
    first.per_query["nDCG@10"] = np.zeros(4)
    last.per_query["nDCG@10"] = np.ones(4)
    page = Page(report(first, last, out=tmp_path / "r.html", verdict=judged(first, last)))
    for text in NASTY[0], NASTY[1], NASTY[3]:
        assert text in page.text
    assert "a bell ␇, a null ␀, a half � and" in page.text
    assert "👩🏽‍⚕️" in page.text
    assert "line_29 = <b>29</b>" in page.text
    assert "word1399" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", page.source)
    assert [tag for tag, _ in page.tags if tag == "summary"]
    assert "4 gained nDCG@10, 0 lost, 0 stayed" in page.text
    assert "No query lost." in page.text


def test_the_verdict_is_the_one_given(whole: Page) -> None:
    assert SENTENCE in whole.text
    assert "+0.120" in whole.text
    assert "[+0.095,\u00a0+0.146]" in whole.text
    assert "[−0.004,\u00a0+0.067]" in whole.text
    assert "−0.021" in whole.text
    classes = [attributes.get("class") or "" for tag, attributes in whole.tags if tag == "div"]
    assert [name for name in classes if name.startswith("tile ")] == ["tile gain", "tile open", "tile loss"]


def test_the_table_holds_every_measure(whole: Page, pair: tuple[Evaluation, Evaluation]) -> None:
    for evaluation in pair:
        for measure, interval in evaluation.measures.items():
            assert measure in whole.text
            assert f"{interval.value:.3f}" in whole.text
            if np.isfinite(interval.low):
                assert f"[{interval.low:.3f},\u00a0{interval.high:.3f}]".replace("-", "−") in whole.text
        relevant = evaluation.test.qrels.relevance > 0
        for value in f1_curve(evaluation.test_scores, relevant, np.array([0.4, 0.5, 0.6, 0.7])):
            assert f"{value:.3f}" in whole.text
        assert f"{evaluation.threshold:.3f}" in whole.text
    share = float(relevant.mean())
    assert f"all called relevant: {2 * share / (1 + share):.3f} ({100 * share:.1f}% are)" in whole.text
    assert phrases.CLOSED_POOL.en in whole.text
    assert "Lower scores are not worse scores" in whole.text


def test_every_figure_is_there(whole: Page) -> None:
    assert whole.figures == ["f1", "precision-recall", "scores-0", "scores-1", *(f"training-{n}" for n in range(6))]
    assert whole.sections == ["ranking", "deciding", "queries", "suspects", "training", "reading", "made"]
    for title in ("Training loss", "Loss on dev", "nDCG@10 on dev", "Learning rate", "Gradient norm"):
        assert title in whole.text
    ids = [attributes["id"] for _, attributes in whole.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    drawn = "".join(re.findall(r"<svg.*?</svg>", whole.source, re.DOTALL))
    used = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', drawn))
    assert {a or b for a, b in used} <= set(ids)
    assert set(re.findall(r"var\((--[\w-]+)\)", drawn)) <= set(re.findall(r"^ *(--[\w-]+):", whole.source, re.MULTILINE))
    assert not re.search(r"(?:fill|stroke): #", drawn)


@pytest.mark.parametrize("general", [True, False])
def test_the_shares_that_dev_chose_from(pair: tuple[Evaluation, Evaluation], tmp_path: Path, general: bool) -> None:
    training = trained(tmp_path / "training")
    scales = [
        {"scale": scale, "dev_nDCG@10": 0.5 + 0.1 * scale, "dev_AP": 0.4, "general_nDCG@10": 0.8123 - 0.2 * scale if general else None}
        for scale in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    (training / "scales.json").write_text(json.dumps({"chosen": 0.5, "queries": 80, "scales": scales}))
    page = Page(report(*pair, out=tmp_path / "r.html", training=training, verdict=judged(*pair)))
    assert page.figures[-1] == "training-scales"
    assert "share kept" in page.text
    assert "0.550" in page.text
    assert ("0.712" in page.text) == general


def test_the_same_values_make_the_same_bytes(pair: tuple[Evaluation, Evaluation], tmp_path: Path) -> None:
    training = trained(tmp_path / "training")
    written = [report(*pair, out=tmp_path / f"{n}.html", training=training, verdict=judged(*pair)).read_bytes() for n in range(2)]
    assert written[0] == written[1]


def test_what_is_deployed_and_forgot_says_so_at_once() -> None:
    models, verdict = everything(made_up())
    for action, said in (("deploy", 1), ("keep the base", 0)):
        remarks = header(models, replace(verdict, action=action, chosen="tuned")).remarks
        assert sum("Outside the domain it is worse" in each.en for each in remarks) == said


def test_what_costs_no_labels_comes_before_them() -> None:
    models, verdict = everything(made_up())
    unread = Cause(UNREAD, 0.9, "46% of the tokens.", "Take a base that knows the language of these texts.")
    for causes, action, said in (
        ((unread, *verdict.causes), "label more", 1),
        ((*verdict.causes, unread), "label more", 0),
        ((unread, *verdict.causes), "keep the base", 0),
    ):
        remarks = header(models, replace(verdict, action=action, causes=causes)).remarks
        assert sum("Before you label" in each.en and "knows the language" in each.en and "基座模型" in each.zh for each in remarks) == said


def test_that_dev_kept_the_base_stands_at_the_top() -> None:
    evaluations, verdict = everything(made_up())
    for models, at_the_top in ((evaluations, True), (evaluations[:1], False)):
        head = header(models, replace(verdict, notes=(KEPT, *verdict.notes)))
        assert (KEPT in [each.en for each in head.remarks]) == at_the_top
        assert (KEPT in [each.en for each in head.notes]) != at_the_top


def test_a_verdict_is_made_where_none_is_given(pair: tuple[Evaluation, Evaluation], tmp_path: Path) -> None:
    page = Page(report(*pair, out=tmp_path / "r.html"))
    verdict = compare(pair)
    assert verdict.sentence.rpartition(": ")[0].replace(" -", " −") in page.text
    assert page.text.lower().count(f" {verdict.sentence.rpartition(': ')[2]}") == 1  # what to do is said once
    assert f"{verdict.differences[0].measures['AP'].value:+.3f}" in page.text


def test_a_single_model(pair: tuple[Evaluation, Evaluation], tmp_path: Path) -> None:
    page = Page(report(pair[0], out=str(tmp_path / "r.html"), verdict=judged(pair[0], outcome="undecided")))
    assert page.sections == ["ranking", "deciding", "suspects", "reading", "made"]
    assert page.figures == ["f1", "precision-recall", "scores-0"]


def test_six_models_and_more_keep_their_tones(tmp_path: Path) -> None:
    data = made_up(queries=12)
    models = [evaluated(f"hub/model-with-a-rather-long-name-{n}", data, seed=n) for n in range(8)]
    page = Page(report(*models, out=tmp_path / "r.html", verdict=judged(*models)))
    assert page.figures == ["f1", "precision-recall", *(f"scores-{n}" for n in range(8))]
    assert page.text.count("model-with-a-rather-long-name-7") >= 4


def test_without_judged_negatives_there_is_no_threshold(tmp_path: Path) -> None:
    data = made_up(negatives=False)
    models = evaluated("a", data), evaluated("b", data, seed=1)
    page = Page(report(*models, out=tmp_path / "r.html", verdict=judged(*models)))
    assert page.figures == ["scores-0", "scores-1"]
    assert "There is no F1 against a threshold" in page.text
    assert "F1 at it" not in page.text
    assert "No candidate of this query is judged not relevant." in page.text


@pytest.mark.parametrize("left", ["empty", "foreign"])
def test_a_training_that_left_nothing(pair: tuple[Evaluation, Evaluation], tmp_path: Path, left: str) -> None:
    (tmp_path / "metrics.jsonl").write_text("" if left == "empty" else '[1]\n{"loss": 3}\n{"step": "x"}\n\n', encoding="utf-8")
    page = Page(report(*pair, out=tmp_path / "r.html", training=tmp_path / "metrics.jsonl", verdict=judged(*pair)))
    assert "training" not in page.sections


def test_values_that_are_not_numbers(pair: tuple[Evaluation, Evaluation], tmp_path: Path) -> None:
    data = made_up(queries=5)
    broken = evaluated("a", data)
    broken.test_scores[:] = np.nan
    broken.measures["AP"] = Interval(float("nan"))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": Infinity}\n{"step": 3, "loss": 2.0}\n')
    page = Page(report(broken, evaluated("b", data, seed=1), out=tmp_path / "r.html", training=tmp_path, verdict=judged(broken)))
    assert "nan" not in page.text
    assert page.figures == ["f1", "precision-recall", "scores-0", "scores-1", "training-0"]


def test_what_cannot_be_written_is_said(pair: tuple[Evaluation, Evaluation], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to report"):
        report(out=tmp_path / "r.html")
    with pytest.raises(InputError, match="a directory stands"):
        report(*pair, out=tmp_path, verdict=judged(*pair))
    with pytest.raises(InputError, match="absent: there is no such file"):
        report(*pair, out=tmp_path / "r.html", training=tmp_path / "absent", verdict=judged(*pair))


def searched(evaluation: Evaluation, seed: int) -> Evaluation:
    """The same with a retrieval behind it."""
    draw, queries = np.random.default_rng(seed), evaluation.queries
    documents = len(evaluation.test.corpus)
    ranked = np.stack([draw.permutation(documents)[:20] for _ in queries]).astype(np.int32)
    score = -np.sort(-draw.random((len(queries), 20)), axis=1).astype(np.float32)
    return replace(evaluation, found=Run(queries, ranked, score))


def everything(data: Dataset) -> tuple[list[Evaluation], Verdict]:
    """Evaluations and a verdict in which there is something of all that a report can show."""
    relevant = data.qrels.relevance > 0
    models = []
    for number, name in enumerate(("base", "tuned")):
        e = searched(evaluated(name, data, gap=0.2 + 0.1 * number, seed=number), number)
        platt = fit_platt(e.dev_scores, relevant)
        threshold = Threshold.of(0.5, 0.6, ChosenOn("dev", 40, 240, 0.25, "d"), normalised=True)
        retrieval = Threshold.of(0.6, 0.5, ChosenOn("dev", 40, 4000, 0.01, "d"), normalised=True, top_k=100)
        models.append(
            replace(
                e,
                groups=np.arange(len(e.queries), dtype=np.int32),
                decision=Decision(threshold, retrieval, platt, None),
                test_best=best_threshold(e.test_scores, relevant),
                reliability=reliability(platt.probability(e.test_scores), relevant),
                trades=(Trade("precision", 0.9, 0.7, 0.88, 0.31), Trade("recall", 0.9, 0.3, 0.42, 0.91)),
                returned={"list": Returned(0.5, 12.5, 9.0, 30.0, 0.05), "retrieval": Returned(0.6, 3.2, 2.0, 8.0, 0.2)},
                background=Background(10, 0.12, 0.66, 0.61, number == 1, Interval(0.64, 0.6, 0.68)),
                bare={"nDCG@10": Interval(0.4, 0.35, 0.45), "nDCG@10 lost": Interval(-0.1, -0.15, -0.05)},
                speed=Speed(240, 2.0, 40, 0.5, 384, kept=number == 0),
                cost={"requests": 12.0, "tokens": 34567.0},
            )
        )
        models[-1].measures.update(
            {name: Interval(0.5, 0.4, 0.6) for name in ("list F1", "retrieval F1", "retrieval precision", "retrieval recall")}
        )
    words = replace(searched(evaluated("BM25", data, seed=5), 5), kind="bm25", prompts={"query": "", "document": ""})
    nothing = np.full(len(relevant), np.nan)
    fused = replace(
        searched(evaluated("tuned + BM25", data, seed=6), 6), kind="fused", test_scores=nothing, dev_scores=nothing, threshold=None
    )
    gain = {"nDCG@10": Interval(-0.02, -0.05, 0.01), "AP": Interval(0.01, -0.02, 0.04), "F1": Interval(0.1, 0.05, 0.15)}
    other = {name: Interval(value.value + 0.01, value.low, value.high) for name, value in gain.items()}
    seeds = Seeds((42, 43, 44), {"nDCG@10": (0.5, 0.51, 0.49)}, {"nDCG@10": 0.01}, {"nDCG@10": Interval(0.02, -0.01, 0.05)})
    points = tuple(
        Point(share, int(400 * share), {"nDCG@10": Interval(0.4 + 0.1 * share, 0.35, 0.55), "AP": Interval(0.3)})
        for share in (0.25, 0.5, 1.0)
    )
    forecasts = (Forecast("nDCG@10", 2.0, Interval(0.03, 0.01, 0.05), True), Forecast("AP", 2.0, Interval(0.01, -0.02, 0.04), False))
    context = Context(
        Instructions(80, 240, (Tried("Query: ", 0.4), Tried("", 0.35), Tried("Find it: ", 0.45)), "Find it: "),
        seeds,
        LearningCurve(points, forecasts),
        (General("standard-library", 281, 900, {"base": 0.7, "tuned": 0.6}, Interval(-0.1, -0.14, -0.06)),),
        Reindexing(52_311, 4_000_000, 2_000.0),
        looks=4,
        shortened=(Shortened(32, Interval(0.2, 0.1, 0.3), Interval(0.456, 0.4, 0.5), Interval(-0.047, -0.06, -0.03)),),
        anew=Anew({"nDCG@10": 0.52, "AP": 0.31}, {"nDCG@10": Interval(-0.02, -0.04, -0.005), "AP": Interval(0.01, -0.02, 0.04)}),
    )
    causes = (
        Cause(
            "too few queries to learn from",
            0.8,
            "Training had 37 queries with a relevant document.",
            "Judge twice as many training queries; --learning-curve tells beforehand what that would bring.",
        ),
        Cause(
            "the learning rate is too high: the base was forgotten",
            0.5,
            "nDCG@10 on dev went from 0.500 untrained to 0.400 at the end; dev kept nothing of what was learned.",
            "Train with a third of the learning rate (peak 0.0001), all else equal.",
        ),
    )
    some = models[0].queries[:20]
    slices = (
        Slice("query length", "up to 31 characters", some, "nDCG@10", 0.6, 0.4, Interval(-0.2, -0.3, -0.1), worse=True),
        Slice("query length", "above 31 characters", models[0].queries[20:], "nDCG@10", 0.4, 0.5, Interval(0.1, 0.02, 0.2)),
        Slice("branch office", "ACME Ltd", some, "nDCG@10", 0.5, 0.5, Interval(0.0, -0.1, 0.1)),
    )
    notes = (
        "Only 40 test queries: small differences cannot be seen.",
        "At base's threshold (0.5000) tuned would have F1 0.1000 instead of 0.5000: a new model needs its new threshold. "
        "Lower scores are no worse scores.",
    )
    first, last = models
    verdict = Verdict(
        "undecided",
        "These test queries do not show that tuned is better than base: nDCG@10 0.5000 to 0.4800; 40 test queries: label more.",
        (
            Difference("tuned", "base", gain, {"nDCG@10": 0.21, "AP": 0.4}, {"nDCG@10": 0.42, "AP": 0.8}, 0.31),
            Difference("BM25", "base", {"nDCG@10": Interval(-0.1, -0.2, -0.05)}),
        ),
        notes,
        "label more",
        Difference("tuned", "base + BM25", {"nDCG@10": Interval(-0.03, -0.06, -0.01)}),
        Difference("tuned", "deployed", other),
        causes,
        Power("nDCG@10", 40, 38, 0.08, 0.02, 640),
        slices,
        True,
        context,
    )
    return [first, last, words, fused], verdict


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A report in which there is everything, once with texts in English and once without in Chinese."""
    folder = tmp_path_factory.mktemp("full")
    data = made_up()
    models, verdict = everything(data)
    checked = {
        "sides": {side: {"queries": 40, "judgments": 240, "positives": 61} for side in ("train", "dev", "test")},
        "leaks": [{"first": "train", "second": "test", "queries": 0, "near_queries": 3, "positives": 0, "contradicted": 0}],
        "by": "group", "removed": 2, "notes": {"equal_documents": 7}, "near_duplicates": 3, "max_length": 128,
        "lengths": {"document": {"cut": 0.25, "unknown": 0.04}, "query": {"cut": 0.0, "unknown": 0.538}},
    }  # fmt: skip
    run = folder / "run"
    trained(run / "training", 40)
    manifest = {
        "stages": {"train": {"seconds": 4000.0, "peak_memory_bytes": 2e9}},
        "versions": {"torch": "2.13"},
        "digests": {"model": "9f9f"},
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "recipe.toml").write_text(
        'data = "/home/ada/secret/data.json"\nmodel = "/models/base"\ncorpus = "/home/ada/more.txt"\nstart = "/home/ada/old/adapter"\n'
        'judgments = ["/home/ada/marked.csv"]\n\n[training]\nrank = 16\n\n[evaluating]\nslice_by = "branch office"\n'
    )
    paths = []
    for name, settings in (("en", Reporting()), ("zh", Reporting("zh", texts=False))):
        figures = folder / "figures" if name == "en" else None
        paths.append(
            report(*models, out=folder / f"{name}.html", run=str(run), checked=checked, verdict=verdict, settings=settings, figures=figures)
        )
    return paths[0], paths[1]


def test_all_that_an_evaluation_and_a_verdict_carry_is_shown(full: tuple[Path, Path]) -> None:
    page = Page(full[0])
    assert page.sections == [
        "causes", "ranking", "deciding", "beside", "slices", "queries", "suspects", "training", "data", "reading", "made",
    ]  # fmt: skip
    for said in (
        "Label more before you decide.",
        "(--worthwhile) as surely, 640 test queries are needed instead of 40",
        "tuned against deployed, the model in use now",
        "tuned against base + BM25, the best that needs no training",
        "Training had 37 queries",
        "Next experiment",
        "0.420",
        "L2 ≤ 1.000",
        "F1 with each query’s background taken off",
        "dev says it helps",
        "Over the retrieved top 100",
        "12.5",
        "20% get none",
        "precision 0.9 wanted: recall",
        "at 0.700; precision 0.880 on test",
        "expected calibration error",
        "standard-library",
        "2 times the judgments would bring +0.030 in nDCG@10",
        "cannot be told from these points",
        "seed 43",
        '"Find it: "',
        "ACME Ltd",
        "worse",
        "tuned ranks first",
        "The 5 queries of this part that lost most",
        "train and test share 0 queries, 3 near-duplicate",
        "25.0",
        "the model’s vocabulary lacks",
        "53.8",
        "1:06:40",
        "rank",
        "/home/ada/secret/data.json",
        "measured so far, this one included: 4",
        "embeddings kept from before",
        "34,567",
        "against its own prompt",
        "Beginning anew is better here",
        "Shorter embeddings",
        "0.456",
        "−0.047",
        "0.520",
    ):
        assert said in page.text, said
    assert [name for name in page.figures if not name.startswith("training")] == [
        "f1", "precision-recall", "reliability", "scores-0", "scores-1", "learning-curve",
    ]  # fmt: skip
    targets = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert targets == {f"#{name}" for name in page.sections}


def test_the_chinese_page_has_no_english_sentence(full: tuple[Path, Path]) -> None:
    page = Page(full[1], "zh")
    left = set(re.findall(r"[A-Za-z]+(?: [a-z]+){2,}", page.text.split(phrases.RECIPE.zh)[0]))
    assert left == set()
    aria = [value for _, attributes in page.tags for name, value in attributes.items() if name == "aria-label" and value]
    assert all(re.search("[\u4e00-\u9fff]", value) or value == "English" for value in aria)
    assert '<html lang="zh-Hans"' in page.source


def test_no_text_of_the_data_leaves_with_a_report_without_texts(full: tuple[Path, Path]) -> None:
    data = made_up()
    source = unescape(full[1].read_text(encoding="utf-8"))
    whole = unescape(full[0].read_text(encoding="utf-8"))
    texts = [text for texts in (data.queries, data.corpus) for text in texts.texts]
    assert sum(text in whole for text in texts) > 50
    assert [text for text in texts if text in source or text[:24] in source] == []
    for name in (*data.queries.ids, *data.corpus.ids):
        assert not re.search(rf"\b{re.escape(name)}\b", source), name
    for left in ("ACME", "branch office", "/home/ada", "secret"):
        assert left not in source
    assert re.search(r"queries\.jsonl:\d+", source)
    assert "取值 1" in source


def test_on_paper_a_list_has_twenty_entries_and_says_so(tmp_path: Path) -> None:
    data = made_up(queries=120)
    report(evaluated("base", data, seed=1), evaluated("tuned", data, seed=2), out=tmp_path / "report.html")
    lists = re.split("<h[23]>", (tmp_path / "report.html").read_text())
    found = [re.findall(r'<details class="mover( late)?"', each) for each in lists]
    assert max(map(len, found)) > 20
    for entries, said in zip(found, lists, strict=True):
        assert entries == [""] * min(20, len(entries)) + [" late"] * max(0, len(entries) - 20)
        assert ("The first 20 are on paper" in said) == (len(entries) > 20)


def test_both_pages_have_the_colours_of_the_charts() -> None:
    light = (SHARED / "base.css").read_text().split("@media")[0]
    said = dict(re.findall(r"--([\w-]+): (#\w+);", light))
    assert {name: colour for name, colour in said.items() if name in TONES} == {
        name: TONES[name] for name in ("ink", "muted", "rule", "relevant")
    }


def test_figures_are_files_with_the_numbers_behind_them(full: tuple[Path, Path]) -> None:
    folder = full[0].parent / "figures"
    drawings, tables = sorted(folder.glob("*.svg")), sorted(folder.glob("*.csv"))
    assert [path.stem for path in drawings] == [path.stem for path in tables]
    assert {"f1", "precision-recall", "reliability", "scores-0", "training-0"} <= {path.stem for path in drawings}
    for path in drawings:
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in path.read_text()
        assert "阈值" not in path.read_text()
    with (folder / "f1.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["point"] for row in rows} == {"curve", "chosen", "best", "borrowed"}
    data = made_up()
    scores, relevant = everything(data)[0][0].test_scores, data.qrels.relevance > 0
    curve = [row for row in rows if row["model"] == "base" and row["point"] == "curve"]
    for row in curve[::10]:
        assert float(row["F1"]) == pytest.approx(f1_score(relevant, scores >= float(row["threshold"]), zero_division=0.0))


def test_a_report_of_a_training_or_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name in ("training", "run"):
        with pytest.raises(InputError, match=r"gone: there is no such file or directory.\nCheck the path"):
            report(evaluated("a", made_up()), out=tmp_path / "report.html", **{name: tmp_path / "gone"})  # type: ignore[arg-type]
    assert not (tmp_path / "report.html").exists()
