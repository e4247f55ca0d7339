"""Texts that occur again."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from homing.encoders.repeated import each_once


@given(st.lists(st.text("ab", max_size=2)))
def test_every_text_is_there_once_and_each_finds_its_own(texts: list[str]) -> None:
    distinct, rows = each_once(texts)
    assert sorted(distinct) == sorted(set(texts))
    assert np.array(distinct, dtype=object)[rows].tolist() == texts
    assert isinstance(rows, slice) is (len(distinct) == len(texts))
