"""The report, read back by a parser: what it was given is there, escaped, and nothing of it comes from elsewhere."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from homing.data import Builder, Dataset
from homing.errors import InputError
from homing.reporting import phrases, report
from homing.thresholds import GRID, best_threshold, f1_curve
from homing.verdicts import Difference, Evaluation, Interval, Verdict, compare

SENTENCE = "The tuned model finds the right document better: nDCG@10 rises by 0.120 (0.095 to 0.146)."
NASTY = (
    "<script>alert('q')</script> & \"quoted\" </details></main>",
    "医疗保险的免赔额是多少？",
    "emoji 👩🏽‍⚕️ and a bell \x07, a null \x00, a half \ud83d and \u202eright to left",
    "{{ 7 * 7 }} {% raw %} #0068a8 $x_1$",
)


def made_up(*, queries: int = 40, negatives: bool = True, seed: int = 7) -> Dataset:
    """A small data set whose first texts are those that pages break on."""
    draw = np.random.default_rng(seed)
    builder = Builder()
    long = " ".join(f"word{n}" for n in range(1400))
    code = "\n".join(f"    line_{n} = <b>{n}</b>" for n in range(30))
    for number in range(queries):
        query = builder.query(NASTY[number] if number < len(NASTY) else f"question {number} about the deductible", f"q{number}")
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
    details = {"recipe": "rank = 16\nseed = 42", "torch": "2.13.0", "input <digest>": "9f" * 32}
    out = report(*pair, out=folder / "new" / "report.html", training=trained(folder / "training"), details=details, verdict=judged(*pair))
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


def test_names_notes_prompts_and_details_are_shown_as_they_are(whole: Page) -> None:
    assert "models/base <b>" in whole.text
    assert "调优模型" in whole.text
    assert "input <digest>" in whole.text
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
    assert f"all called relevant: {2 * share / (1 + share):.3f} ({100 * share:.1f}\u00a0% are)" in whole.text
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


def test_a_verdict_is_made_where_none_is_given(pair: tuple[Evaluation, Evaluation], tmp_path: Path) -> None:
    page = Page(report(*pair, out=tmp_path / "r.html"))
    verdict = compare(pair)
    assert verdict.sentence in page.text
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


@pytest.mark.parametrize("left", ["absent", "empty", "foreign"])
def test_a_training_that_left_nothing(pair: tuple[Evaluation, Evaluation], tmp_path: Path, left: str) -> None:
    if left != "absent":
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
