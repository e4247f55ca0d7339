"""Bars, and what is said beside them."""

from __future__ import annotations

import pytest
from tqdm import tqdm

from homing.progress import BAR, Lines, beside_bars


def test_a_log_has_each_state_of_a_bar_as_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with tqdm(total=2, desc="training", **{**BAR, "file": Lines(), "delay": 0, "mininterval": 0, "miniters": 1}) as bar:
        bar.update()
        list(tqdm(range(1), desc="looking", **{**BAR, "file": Lines(), "delay": 0, "mininterval": 0, "miniters": 1}))
        beside_bars(print)("update 1")
        bar.update()
    printed, logged = capsys.readouterr()
    assert printed == "update 1\n"
    lines = logged.split("\n")
    assert [line.split(":")[0] for line in lines] == ["training", "training", "looking", "looking", "training", ""]
    assert all(line == line.strip() and line.isprintable() for line in lines)


def test_what_is_said_beside_a_bar_begins_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with tqdm(total=2, desc="training", **{**BAR, "file": None, "delay": 0, "mininterval": 0, "miniters": 1}) as bar:
        beside_bars(lambda line: bar.fp.write(f"{line}\n"))("update 1")
    assert "\rupdate 1\n" in capsys.readouterr().err
