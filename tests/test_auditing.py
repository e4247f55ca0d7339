"""The audit: planted false negatives come first, near-duplicates before them, agreement of models counts, and nothing else is touched."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from homing.auditing import Scorer, audit
from homing.builder import Builder
from homing.cli import cli, main
from homing.cli.judgments import _then
from homing.cli.verbs import make
from homing.data import UNSURE, Dataset, Qrels, Run, Splits
from homing.encoders.model import Model
from homing.errors import FormatError, JudgmentError, SettingError
from homing.formats import judgments as files
from homing.formats import sheet
from homing.formats.mined import save_mined
from homing.formats.suspects import read, save
from homing.judgments import obey
from homing.loading import save_dataset
from homing.mining import mine
from homing.runs.recipe import Recipe
from homing.settings import Auditing, Encoding, Mining
from homing.suspects import DIFFERENT, EQUAL, NEAR, RIDGE, Suspects, fused, log_odds, resemblance


class Embedded:
    """An encoder whose embeddings are what a dictionary says."""

    similarity, prompts, dimension = "cosine", {"query": "", "document": ""}, 16

    def __init__(self, name: str, of: dict[str, NDArray[np.float32]]) -> None:
        self.name, self.digest, self.of = name, name, of

    def digest_of(self, kind: str) -> str:
        return self.digest

    def encode(self, texts: Sequence[str], kind: str, *, progress: str = "") -> NDArray[np.float32]:
        return np.stack([self.of[text] for text in texts])


def planted(queries: int = 40, candidates: int = 12, *, seed: int = 0, shown: int = 2) -> tuple[Dataset, Embedded, set[tuple[int, int]]]:
    """Lists whose relevant documents lie near their query; in every second list one of them is judged not relevant."""
    draw, builder = np.random.default_rng(seed), Builder()
    of: dict[str, NDArray[np.float32]] = {}
    false: set[tuple[int, int]] = set()

    def near(centre: NDArray[np.float64], noise: float) -> NDArray[np.float32]:
        at = centre + noise * draw.normal(size=16)
        return (at / np.linalg.norm(at)).astype(np.float32)

    for number in range(queries):
        centre = near(np.zeros(16), 1.0)
        text = f"query {number} {'abcdefgh'[number % 8] * 5}"
        of[text] = near(centre.astype(np.float64), 0.1)
        query = builder.query(text)
        for place in range(candidates):
            relevant = place <= shown
            content = f"{draw.integers(10**12)} document {place} of {number} {draw.integers(10**12)}"
            of[content] = near(centre.astype(np.float64), 0.1 if relevant else 0.25 + 0.1 * (place % 3))
            document = builder.document(content)
            hidden = place == shown and number % 2 == 0
            builder.judge(query, document, int(relevant and not hidden))
            if hidden:
                false.add((query, document))
    return builder.dataset(), Embedded("base", of), false


def found(suspects: Suspects, false: set[tuple[int, int]], top: int) -> float:
    """The share of the first `top` that are planted."""
    pairs = list(zip(suspects.query.tolist(), suspects.negative.tolist(), strict=True))[:top]
    return sum(pair in false for pair in pairs) / top


@pytest.mark.parametrize("shown", [1, 2], ids=["one positive is left", "two are left"])
def test_planted_false_negatives_come_first(shown: int) -> None:
    data, base, false = planted(shown=shown)
    suspects = audit(data, [base])
    assert suspects.of == int((data.qrels.relevance == 0).sum())
    assert len(suspects) == min(200, suspects.of)
    assert found(suspects, false, len(false)) > 0.7  # 20 of more than 360
    relevant = data.qrels.positives
    assert all(positive in relevant[query] for query, positive in zip(suspects.query.tolist(), suspects.positive.tolist(), strict=True))
    for number in (0, 7):
        query, negative = int(suspects.query[number]), int(suspects.negative[number])
        one, other = (base.of[texts[place]] for texts, place in ((data.queries.texts, query), (data.corpus.texts, negative)))
        assert suspects.score[number, 0] == pytest.approx(float(one @ other), abs=1e-6)


def test_a_model_that_knows_nothing_does_not_find_them_and_agreement_of_two_does_better() -> None:
    alone, together = [], []
    for seed in range(5):
        data, base, false = planted(queries=60, seed=seed)
        draw = np.random.default_rng(seed)
        one, other, lost = (
            Embedded(name, {text: at + noise * draw.normal(size=16).astype(np.float32) for text, at in base.of.items()})
            for name, noise in (("one", 0.12), ("other", 0.12), ("lost", 100.0))
        )
        alone += [found(audit(data, [model]), false, len(false)) for model in (one, other)]
        together.append(found(audit(data, [one, other]), false, len(false)))
        assert found(audit(data, [lost]), false, len(false)) < 0.2
    assert np.mean(together) > np.mean(alone) + 0.05


def test_a_scorer_of_pairs_counts_as_a_model() -> None:
    data, base, false = planted()
    scorer = Scorer("cross", lambda pairs: np.array([base.of[query] @ base.of[document] for query, document in pairs]))
    suspects = audit(data, [scorer])
    assert suspects.models == ("cross",)
    assert found(suspects, false, len(false)) > 0.3  # chance is .05
    assert audit(data, [base, scorer]).score.shape[1] == 2
    with pytest.raises(SettingError, match="same name"):
        audit(data, [base, Embedded("base", base.of)])


def test_texts_like_a_positive_come_first_without_any_model() -> None:
    builder = Builder()
    query = builder.query("how do I print the last lines of a file")
    for text, relevance in (
        ("Print the last ten lines with: tail file.txt", 1), ("Print the first ten lines with: head of it all", 0),
        ("print the last ten lines with tail file.txt!", 0), ("Print the last ten lines with: tail files.txt", 0),
        ("Something else altogether about ships", 0),
    ):  # fmt: skip
        builder.judge(query, builder.document(text), relevance)
    suspects = audit(builder.dataset(), [])
    assert suspects.negative.tolist() == [2, 3]
    assert suspects.near.tolist() == [EQUAL, NEAR]
    assert suspects.positive.tolist() == [0, 0]
    assert suspects.of == 4


def test_resemblance_looks_at_the_querys_own_positives() -> None:
    builder = Builder()
    one, other = builder.query("one"), builder.query("other")
    same, alike = builder.document("the same text of some length"), builder.document("The same text, of some length")
    for query, document, relevance in ((one, same, 1), (one, alike, 0), (other, alike, 0), (other, builder.document("far away"), 1)):
        builder.judge(query, document, relevance)
    qrels = builder.dataset().qrels
    near, nearest = resemblance(builder.dataset(), qrels.query, qrels.document, qrels.relevance > 0)
    assert near.tolist() == [DIFFERENT, EQUAL, DIFFERENT, DIFFERENT]
    assert nearest.tolist() == [-1, same, -1, -1]


def test_one_query_alone_has_no_others_to_learn_from() -> None:
    data, base, _ = planted(queries=1, candidates=60, shown=30)
    assert len(audit(data, [base])) == 30


def test_resemblance_compares_no_documents_that_no_query_brings_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All with all, a template of 50,000 documents would make a thousand million pairs."""

    def joined(*_: object) -> None:
        raise AssertionError("all documents are compared with all")

    monkeypatch.setattr("homing.texts.near._Index", joined)
    builder = Builder()
    for number in range(50):
        query = builder.query(f"price of {number}")
        for relevance, part in ((1, number), (0, number + 50)):
            builder.judge(query, builder.document(f"The price of the article number {part} is the one on its label, see there"), relevance)
    data = builder.dataset()
    near, _ = resemblance(data, data.qrels.query, data.qrels.document, data.qrels.relevance > 0)
    assert (near == NEAR).sum() == 50


def test_mined_negatives_are_looked_at_and_what_judges_have_looked_at_is_not() -> None:
    data, base, false = planted()
    hidden = sorted(false)[0]
    unjudged = Qrels(*(column[~((data.qrels.query == hidden[0]) & (data.qrels.document == hidden[1]))] for column in (
        data.qrels.query, data.qrels.document, data.qrels.relevance)))  # fmt: skip
    without = data.with_qrels(unjudged)
    mined = mine(without, Mining(negatives=2, hard=1))
    mined.negative[np.flatnonzero(mined.query == hidden[0])[0], 0] = hidden[1]  # as corpus mining would bring it
    suspects = audit(without, [base], mined=mined)
    place = list(zip(suspects.query.tolist(), suspects.negative.tolist(), strict=True)).index(hidden)
    assert not suspects.judged[place]
    assert suspects.judged.sum() == len(suspects) - 1
    ranked = np.full((2, 12), -1, dtype=np.int32)  # a query without a positive, or a rank past ten, is not looked at
    ranked[0, 0], ranked[0, 11] = hidden[1], next(iter(without.qrels.positives[hidden[0] + 1]))
    run = Run(np.array([hidden[0], len(without.queries)], dtype=np.int32), ranked, np.zeros((2, 12), dtype=np.float32))
    also = audit(without, [base], runs=[run, run])
    assert {(int(q), int(d)) for q, d, j in zip(also.query, also.negative, also.judged, strict=True) if not j} == {hidden}

    query, document = np.array(sorted(false)[:5], dtype=np.int32).T
    after = data.changed(Qrels(query, document, np.array([1, 0, UNSURE, 0, 0])))
    left = audit(after, [base])
    assert not set(sorted(false)[:5]) & set(zip(left.query.tolist(), left.negative.tolist(), strict=True))


def test_only_so_many_queries_and_so_many_negatives() -> None:
    data, base, _ = planted()
    suspects = audit(data, [base], Auditing(top=7, queries=5))
    assert len(suspects) == 7
    assert suspects.of < 5 * 12
    assert audit(data, [base], Auditing(top=7, queries=5)).negative.tolist() == suspects.negative.tolist()
    positives = data.with_qrels(Qrels(*(column[data.qrels.relevance > 0] for column in (
        data.qrels.query, data.qrels.document, data.qrels.relevance))))  # fmt: skip
    with pytest.raises(JudgmentError, match="no negative"):
        audit(positives, [base])


def test_log_odds_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    evidence = draw.normal(size=(400, 3)) * [1.0, 5.0, 0.1] + [0, 3, 0.5]
    relevant = draw.random(400) < 1 / (1 + np.exp(-(evidence[:, 0] + 0.3 * evidence[:, 1] - 2)))
    known, fold = draw.random(400) < 0.9, draw.integers(0, 4, 400).astype(np.int32)
    ours = log_odds(evidence, relevant, known, fold)
    for each in range(4):
        learned, asked = known & (fold != each), fold == each
        centre, spread = evidence[learned].mean(axis=0), evidence[learned].std(axis=0)
        oracle = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=1000).fit((evidence[learned] - centre) / spread, relevant[learned])
        assert ours[asked] == pytest.approx(oracle.decision_function((evidence[asked] - centre) / spread), abs=1e-5)
    parted = evidence[:, 0] > 0  # separable: the ridge keeps it finite
    assert np.isfinite(log_odds(evidence, parted, np.ones(400, dtype=bool), fold)).all()


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=6, max_size=6), min_size=1, max_size=4))
def test_fusion_is_that_of_reciprocal_ranks(said: list[list[int | None]]) -> None:
    voices = [np.array([np.nan if each is None else float(each) for each in voice]) for voice in said]
    expected = [
        sum(1 / (61 + sum(other is not None and other > voice[thing] for other in voice)) for voice in said if voice[thing] is not None)  # type: ignore[operator]
        for thing in range(6)
    ]
    assert fused(voices) == pytest.approx(expected)


def test_suspects_are_read_back(tmp_path: Path) -> None:
    data, base, _ = planted()
    suspects = audit(data, [base, Embedded("调优", base.of)], Auditing(top=20))
    save(suspects, tmp_path)
    again = read(tmp_path, data)
    assert (again.models, again.side, again.of) == (("base", "调优"), "train", suspects.of)
    for name in ("query", "positive", "negative", "judged", "near", "score", "rival", "beats"):
        assert np.array_equal(getattr(again, name), getattr(suspects, name)), name
    with pytest.raises(FormatError, match="no audit"):
        read(tmp_path / "nowhere", data)
    with pytest.raises(JudgmentError, match="not in the data"):
        read(tmp_path, planted(seed=5)[0])


TEXT = st.text(st.characters(blacklist_categories=("Cs",)) | st.sampled_from("=+-@'\"\n\r\t ,;，中"), min_size=1, max_size=40)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def one_suspect(query: str, positive: str, negative: str) -> Splits:
    builder = Builder()
    asked = builder.query(query)
    for text, relevance, side in ((positive, 1, "train"), (negative, 0, "train")):
        builder.judge(asked, builder.document(text), relevance, side)  # type: ignore[arg-type]
    exam = builder.query(f"{query} exam"), builder.document(f"{negative} exam")
    for side in ("dev", "test"):
        builder.judge(*exam, 1, side)  # type: ignore[arg-type]
    train, dev, test = (builder.dataset(side) for side in ("train", "dev", "test"))
    return Splits(train, dev, test, "group", np.arange(len(train.queries), dtype=np.int32))


def listed(data: Dataset) -> Suspects:
    nothing = np.zeros(1, dtype=np.int32)
    return Suspects(data, "train", ("m",), nothing, nothing, nothing + 1, nothing == 0, nothing, np.array([[-0.5]]), np.array([[0.1]]), 1)


@given(TEXT, TEXT, TEXT)
def test_a_sheet_holds_no_formula_and_its_marks_find_their_texts(tmp_path_factory: pytest.TempPathFactory, q: str, p: str, n: str) -> None:
    q, p, n = (text.strip() or "x" for text in (q, p, n))
    if p == n:
        return
    path = tmp_path_factory.mktemp("sheet") / "suspects.csv"
    splits = one_suspect(q, p, n)
    sheet.write(listed(splits.train), path)
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert raw.endswith(b"\r\n")
    (row,) = rows_of(path)
    assert not any(cell.lstrip().startswith(("=", "+", "@", "-")) for name, cell in row.items() if not name.startswith("m "))
    marked = {**row, "mark": "1"}
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows([list(reversed(marked)), list(reversed(marked.values()))])
    obeyed, told = obey(files.read(path), splits)
    assert told.counts["relevant"] == 1
    assert obeyed.train.qrels.relevance.tolist() == [1, 1]


def test_long_texts_are_cut_for_the_eye_alone(tmp_path: Path) -> None:
    splits = one_suspect("q", "p", "长" * 50_000)
    sheet.write(listed(splits.train), tmp_path / "s.csv")
    text = (tmp_path / "s.csv").read_text(encoding="utf-8-sig")
    assert max(map(len, text.split(","))) < 32_767
    (tmp_path / "s.csv").write_text(text.replace("\n1,,", "\n1,0,"), encoding="utf-8-sig")
    assert obey(files.read(tmp_path / "s.csv"), splits)[1].counts["not"] == 1


def test_a_run_is_measured_again_under_its_own_conventions(tmp_path: Path) -> None:
    """A prompt that was emptied stays empty: the model's directory may name another."""
    recipe = Recipe("data.json", "some model", encoding=Encoding(query_prompt="", document_prompt="passage: ", max_length=64))
    recipe.write(tmp_path / "recipe.toml")
    _, _, flags = _then(str(tmp_path), "test", "FILE").partition("homing evaluate judged ")
    options = cli.commands["evaluate"].make_context("evaluate", ["judged", *shlex.split(flags)]).params
    assert options["models"] == ("some model", str(tmp_path / "model"))
    assert make(options, "encoding") == recipe.encoding


def test_from_the_command_line_and_back_into_mining(tmp_path: Path, minilm: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    builder = Builder()
    topics = ("print the last lines of a file", "count the words of a text", "find files that are large", "sort lines by number")
    for number, topic in enumerate(topics):
        query = builder.query(f"How do I {topic}?")
        for side, relevance, text in (
            ("train", 1, f"To {topic}, use tool {number}."), ("train", 0, f"Use tool {number}: it will {topic}."),
            ("train", 0, f"Ships of class {number} sail the northern sea."), ("train", 0, f"Bread number {number} takes an hour."),
        ):  # fmt: skip
            builder.judge(query, builder.document(text), relevance, side)  # type: ignore[arg-type]
    for side in ("dev", "test"):
        exam = builder.query(f"what is in {side}?")
        builder.judge(exam, builder.document(f"the answer of {side}"), 1, side)  # type: ignore[arg-type]
        builder.judge(exam, builder.document(f"the answer of {side}, in other words"), 0, side)  # type: ignore[arg-type]
    train, dev, test = (builder.dataset(side) for side in ("train", "dev", "test"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").mkdir()
    save_dataset(Splits(train, dev, test, "group", np.arange(len(train.queries), dtype=np.int32)), tmp_path / "dataset")
    mined = mine(train, Mining(retriever="list"))
    (tmp_path / "mined").mkdir()
    save_mined(mined, tmp_path / "mined")
    main(["audit", "dataset", "--model", str(minilm), "--mined", "mined", "--top", "6"])
    told = capsys.readouterr().out
    assert "6 of 12 negatives of train listed" in told
    assert "all are with --top 12" in told
    rows = rows_of(tmp_path / "audit" / "suspects.csv")
    assert {row["negative"] for row in rows[:4]} == {f"Use tool {number}: it will {topic}." for number, topic in enumerate(topics)}
    assert json.loads((tmp_path / "audit" / "audit.json").read_text(encoding="utf-8"))["split"] == "train"
    assert (tmp_path / "audit" / "suspects.html").stat().st_size > 10_000

    for row, mark in zip(rows, ["1", "1", "0", "u", "", ""], strict=True):
        row["mark"] = mark
    with (tmp_path / "marked.csv").open("w", encoding="gb18030", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        table.writeheader()
        table.writerows(rows)
    main(["mine", "dataset", "--judgments", "marked.csv", "--retriever", "list", "--out", "again"])
    assert "2 confirmed (now positives), 1 rejected (judged negatives), 1 left out" in capsys.readouterr().out
    main(["audit", "dataset", "--model", str(minilm), "--judgments", "marked.csv", "--mined", "again", "--out", "later"])
    later = rows_of(tmp_path / "later" / "suspects.csv")
    marked, listed = ({(row["query_digest"], row["document_digest"]) for row in some} for some in (rows[:4], later))
    assert listed
    assert not listed & marked

    main(["audit", "dataset", "--test", "--model", str(minilm), "--out", "exam"])
    assert "test is the exam" in capsys.readouterr().out
    assert json.loads((tmp_path / "exam" / "audit.json").read_text(encoding="utf-8"))["changes_the_exam"] is True
    with pytest.raises(SystemExit) as exit:
        main(["audit", "dataset", "--dev", "--mined", "mined"])
    assert exit.value.code == 2

    (tmp_path / "marked.csv").rename(tmp_path / "audit" / "suspects.csv")
    with pytest.raises(SystemExit) as exit:
        main(["audit", "dataset", "--out", "audit"])
    assert exit.value.code == 1
    assert "4 marked rows" in capsys.readouterr().err
    assert len(files.read(tmp_path / "audit" / "suspects.csv")) == 4, "a person's work is not written over"


def test_real_embeddings_find_planted_negatives(minilm: Path, shared: Path) -> None:
    import homing

    data = homing.load(shared / "en-bash" / "dev.json")
    several = [query for query, positives in sorted(data.qrels.positives.items()) if len(positives) > 1][:16]
    hidden = {query: min(data.qrels.positives[query]) for query in several}
    qrels = data.qrels.of(np.array(several))
    relevance = np.where([hidden[q] == d for q, d in zip(qrels.query.tolist(), qrels.document.tolist(), strict=True)], 0, qrels.relevance)
    suspects = audit(data.with_qrels(Qrels(qrels.query, qrels.document, relevance)), [Model(minilm, max_length=64)])
    assert found(suspects, set(hidden.items()), 8) > 0.6  # chance is .05
