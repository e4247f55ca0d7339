"""The verdict in 80 columns in either language, and text laid out where a Chinese character takes two."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.columns import left, right, shortened, width, wrapped
from homing.measures.evaluations import Interval
from homing.reporting import Compared, compare_runs
from homing.reporting.language import Language
from homing.terminal import comparison_table, verdict_table
from homing.verdicts.differences import JUDGED_ONLY
from homing.verdicts.verdict import compare
from test_reporting import evaluated, everything, made_up


def test_a_chinese_character_takes_two_columns_and_an_accent_none() -> None:
    assert width("abc") == 3
    assert width("调优模型") == 8
    assert width("e\u0301") == 1
    assert left("调优", 6) == "调优  "
    assert right("调优", 6) == "  调优"


@given(st.text(alphabet="ab 调优（，。é-", max_size=200), st.integers(10, 60))
def test_wrapped_lines_fit_and_lose_nothing_but_blanks(text: str, columns: int) -> None:
    lines = wrapped(text, columns).split("\n")
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        assert width(line) <= columns or max(map(width, re.findall("（*(?:[ab\u00e9-]+|.)[，。]*", line))) > columns - 2


def test_brackets_stay_with_what_they_hold() -> None:
    assert wrapped("从一二三（+0.1）到", 10) == "从一二三\n  （+0.1）\n  到"


@given(st.text(alphabet="ab/-调优", min_size=1, max_size=60), st.integers(3, 30))
def test_a_shortened_name_fits_and_keeps_both_ends(name: str, columns: int) -> None:
    short = shortened(name, columns)
    assert width(short) <= columns
    if width(name) <= columns:
        assert short == name
    else:
        head, tail = short.split("…")
        assert name.startswith(head)
        assert name.endswith(tail)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_verdict_fits_into_80_columns(language: Language) -> None:
    models, verdict = everything(made_up())
    printed = verdict_table(models, verdict, language)
    assert max(width(line) for line in printed.splitlines()) <= 80
    said = {
        "en": "VERDICT (undecided): These|ACTION: Label more|1. too few queries|Next experiment: Judge twice|It got worse on|p 0.42",
        "zh": "结论（尚无定论）：这些测试查询|建议：先补充标注|1. 可学习的查询太少|下一个实验：把训练查询|变差的部分|种子"
        "|查询 281, base 0.700, tuned 0.600, 差异 −0.100|至今评测过的调优模型数（含本次）：4",
    }
    for words in said[language].split("|"):
        assert words in printed, words


def test_long_and_chinese_names_are_cut_and_aligned() -> None:
    data = made_up(queries=12)
    names = "base", "公司内部的保险条款检索模型第二版调优之后", "a-rather-long/name-of-a-model-on-a-hub-v2"
    models = [evaluated(name, data, seed=seed) for seed, name in enumerate(names)]
    lines = verdict_table(models, compare(models)).splitlines()
    table = [line for line in lines if line.startswith(("test ", "nDCG@10 "))]
    assert max(map(width, lines)) <= 80
    assert all("…" in line or "base" in line or "[" in line for line in table)
    gain = Interval(0.1, 0.05, 0.15)
    differs = replace(compare(models).differences[-1], measures={"nDCG@10": gain, JUDGED_ONLY: gain})
    lines = verdict_table(models, replace(compare(models), differences=(differs,))).splitlines()
    assert len({line.index("+0.1000") for line in lines if line.startswith("  nDCG")}) == 1


def test_runs_compared_in_80_columns() -> None:
    data = made_up()
    runs = []
    for seed, name in enumerate(("runs/保险条款检索调优实验第三次重跑", "runs/b")):
        found = [evaluated("base", data, seed=9), evaluated("tuned", data, seed=seed)]
        runs.append(Compared(name, found, compare(found)))
    printed = comparison_table(compare_runs(runs))
    assert max(width(line) for line in printed.splitlines()) <= 80
    assert printed.count("[") >= 3
    assert "从自身基座" not in comparison_table(compare_runs(runs), "zh")
    assert "与自身基座之差" in comparison_table(compare_runs(runs), "zh")
