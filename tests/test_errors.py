"""Every error: its place in the tree, its words, and its way across a process border."""

from __future__ import annotations

import inspect
import pickle

import pytest

from homing import errors
from homing.errors import HomingError, InputError, JudgmentError, first_line

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", ALL)
def test_survives_pickling_whole(kind: type[HomingError]) -> None:
    error = kind("what", where="where", got="got", expected="expected", remedy="Do this.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("kind", ALL)
def test_says_what_where_got_expected_and_remedy(kind: type[HomingError]) -> None:
    error = kind("the list is empty", where="a.json line 3", got="0", expected="1 or more", remedy="Add one.")
    assert str(error) == "a.json line 3: the list is empty; got 0; expected 1 or more.\nAdd one."


@pytest.mark.parametrize("kind", ALL)
def test_is_drawn_in_the_tree_and_described(kind: type[HomingError]) -> None:
    assert kind.__doc__
    assert kind is HomingError or kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", ALL)
def test_has_the_exit_code_of_its_branch(kind: type[HomingError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, InputError) else 1)
    assert kind is HomingError or issubclass(kind, ValueError if issubclass(kind, InputError) else RuntimeError)


def test_what_alone_is_one_sentence() -> None:
    assert str(JudgmentError("there is no query.")) == "there is no query."
    assert str(JudgmentError("there is no query")) == "there is no query."


@pytest.mark.parametrize(("said", "first"), [("", ""), ("\n", ""), ("\nno\nyes", "no"), ("x" * 300, "x" * 200)])
def test_the_first_line_of_what_another_library_says(said: str, first: str) -> None:
    assert first_line(ValueError(said)) == first
