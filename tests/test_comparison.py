"""Runs and evaluations on disk, reported and compared from the command line, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from homing.cli import main
from homing.data import Dataset, Splits
from homing.errors import FormatError, InputError, SettingError
from homing.formats.evaluation import save_evaluation
from homing.loading import save_dataset
from homing.measures.evaluations import Interval
from homing.reporting import Compared, compare_runs, comparison_page
from homing.reporting.comparison import claim
from homing.runs.finished import finished
from homing.settings import Reporting
from homing.verdicts.verdict import compare
from test_reporting import Page, evaluated, made_up, searched, trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, two evaluations on it, and one on another."""
    folder = tmp_path_factory.mktemp("compared")
    for name, data, seeds in (("dataset", made_up(nasty=False), (2, 3)), ("other", made_up(queries=30, nasty=False), (4,))):
        splits = Splits(data, data, data, by="given", groups=np.arange(len(data.queries), dtype=np.int32), removed=())
        (folder / name).mkdir()
        save_dataset(splits, folder / name)
        for seed in seeds:
            found = [searched(evaluated("base", data, seed=1), 1), searched(evaluated("tuned", data, gap=0.3, seed=seed), seed)]
            save_evaluation(found, compare(found), folder / f"evaluation-{seed}")
    return folder


def homing(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        main([str(each) for each in arguments])
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_report_of_an_evaluation_in_both_forms(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figures = tmp_path / "r.html", tmp_path / "figures"
    given = ["report", folder / "evaluation-2", "--dataset", folder / "dataset", "--out", out, "--figures", figures, "--json"]
    code, printed, told = homing(capsys, *given, "--no-texts", "--language", "zh")
    assert code == 0
    said = json.loads(printed)
    assert said["report"] == str(out)
    assert said["verdict"]["outcome"] in ("gained", "lost", "mixed", "undecided")
    assert said["verdict"]["action"] in ("deploy", "keep the base", "label more")
    assert [model["name"] for model in said["models"]] == ["base", "tuned"]
    assert "written to" in told
    assert "question 17 about the deductible" not in out.read_text(encoding="utf-8")
    assert {"f1.svg", "f1.csv"} <= {path.name for path in figures.iterdir()}
    assert "data" in Page(out).sections


def test_evaluations_compared_for_people_and_for_programs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.html"
    given = ["compare", folder / "evaluation-2", folder / "evaluation-3", "--dataset", folder / "dataset", "--out", out]
    code, printed, _ = homing(capsys, *given)
    assert code == 0
    assert "evaluation-2" in printed
    page = Page(out)
    assert page.sections == ["runs", "curves", "settings", "queries", "reading"]
    assert page.figures == ["f1", "precision-recall"]
    code, printed, told = homing(capsys, *given, "--json")
    said = json.loads(printed)
    assert said["same_test"] is True
    assert {run["run"] for run in said["runs"]} == {"evaluation-2", "evaluation-3"}
    assert [run["from_first"] is None for run in said["runs"] if run["run"] == "evaluation-2"] == [True]
    assert said["runs"][0]["measures"]["nDCG@10"]["value"] >= said["runs"][1]["measures"]["nDCG@10"]["value"]
    assert "written to" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "evaluation-2"], "there is nothing to compare"),
        (["compare", "evaluation-2", "evaluation-2"], "given twice"),
        (["compare", "evaluation-2", "nowhere"], "no evaluation"),
        (["report", "evaluation-4"], "of another dataset"),
    ],
)
def test_what_cannot_be_compared_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    verb, *paths = arguments
    given = [verb, *(folder / path for path in paths), "--dataset", folder / "dataset", "--out", tmp_path / "c.html"]
    code, printed, told = homing(capsys, *given)
    assert code == 2
    assert said in told
    assert printed == ""


def test_an_evaluation_alone_asks_for_its_dataset(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = homing(capsys, "report", folder / "evaluation-2")
    assert code == 2
    assert "--dataset" in told


def compared(name: str, data: Dataset, seed: int, **more: object) -> Compared:
    found = [evaluated("base", data, seed=1), evaluated("tuned", data, gap=0.3, seed=seed)]
    return replace(Compared(name, found, compare(found)), **more)  # type: ignore[arg-type]


def test_a_run_is_the_best_where_interval_and_test_and_both_readings_say_so() -> None:
    data = made_up()
    first = compared("a", data, 2)
    base, tuned = first.evaluations
    queries = np.arange(len(tuned.queries))

    def beside(gain: np.ndarray, judged: float) -> str:
        per_query = {**tuned.per_query, "nDCG@10": tuned.per_query["nDCG@10"] + gain}
        measures = {**tuned.measures, "nDCG@10": Interval(float(per_query["nDCG@10"].mean())), "Judged@10": Interval(judged)}
        better = replace(tuned, per_query=per_query, measures=measures)
        level = replace(tuned, measures={**tuned.measures, "Judged@10": Interval(0.5)})
        runs = [replace(first, evaluations=[base, level]), replace(first, name="b", evaluations=[base, better])]
        found = compare_runs(runs)
        assert claim(found).zh != claim(found).en
        return claim(found).en

    assert beside(queries * 0 + 0.1, 0.5).startswith("b finds the right document best: nDCG@10 0.100 over a")
    assert ", p 0.0" in beside(np.where(queries < 5, 0.3, 0.0), 0.5)  # of 5 signs one draw in 16 is as far: no run is the best
    assert "judged to different shares" in beside(queries * 0 + 0.1, 0.6)
    assert "a and b are level in nDCG@10" in beside(queries * 0.0, 0.5)


def test_different_test_sets_are_not_paired(tmp_path: Path) -> None:
    found = compare_runs([compared("a", made_up(), 2), compared("b", made_up(queries=20), 3)])
    assert found.together is None
    page = Page(comparison_page(found, tmp_path / "c.html"))
    assert "measured on different test sets" in page.text
    assert page.sections == ["runs", "settings", "reading"]
    assert "from a" not in page.text
    assert "Ranked by" not in page.text
    turned = compare_runs([compared("b", made_up(queries=20), 3), compared("a", made_up(), 2)])
    assert [[run["run"] for run in each.plain()["runs"]] for each in (found, turned)] == [["a", "b"], ["b", "a"]]  # as given


def test_what_was_set_differently_and_how_training_went(tmp_path: Path) -> None:
    data = made_up()
    shared = {"model": "base", "training.epochs": "3"}
    runs = [
        compared("a", data, 2, recipe={**shared, "training.rank": "8"}, training=trained(tmp_path / "a", 40), seconds=61.0),
        compared("b", data, 3, recipe={**shared, "training.rank": "32"}, training=trained(tmp_path / "b", 60), seconds=3700.0),
    ]
    page = Page(comparison_page(compare_runs(runs), tmp_path / "c.html", Reporting("zh"), tmp_path / "figures"), "zh")
    assert "training.rank" in page.text
    assert "training.epochs" not in page.text
    assert "1:01 min" in page.text
    assert "1:01:40" in page.text
    assert page.figures == ["f1", "precision-recall", "training-ndcg", "training-loss"]
    assert (tmp_path / "figures" / "training-loss.csv").is_file()


def test_fewer_than_two_and_equal_names(tmp_path: Path) -> None:
    data = made_up(queries=12)
    with pytest.raises(InputError, match="nothing to compare"):
        compare_runs([compared("a", data, 2)])
    with pytest.raises(SettingError, match="same name"):
        compare_runs([compared("a", data, 2), compared("a", data, 3)])


def test_a_run_that_is_not_evaluated_yet_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"holds no evaluation.*\nGive a run's directory"):
        finished(tmp_path)
    (tmp_path / "recipe.toml").touch()
    with pytest.raises(FormatError, match=r"not come to it yet: go on with homing run .*recipe\.toml"):
        finished(tmp_path)
