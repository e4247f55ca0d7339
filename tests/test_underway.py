"""Requests under way: each is answered once, and whoever leaves early calls the others off and waits for none."""

from __future__ import annotations

from threading import Event

import pytest

from homing.encoders.underway import UnderWay


def fails() -> int:
    raise ValueError("no")


def test_each_is_answered_once_with_its_answer_or_error() -> None:
    stop, answers, errors = Event(), {}, []
    stop.set()
    with UnderWay[str, int](stop) as asked:
        for number in range(5):
            asked.ask(f"{number}", pow, number, 2)
        asked.ask("fails", fails)
        while asked:
            for name, answer in asked.answered():
                if (error := answer.exception()) is None:
                    assert name not in answers
                    answers[name] = answer.result()
                else:
                    errors.append((name, str(error)))
    assert answers == {f"{number}": number**2 for number in range(5)}
    assert errors == [("fails", "no")]
    assert not stop.is_set()


def test_who_leaves_early_calls_the_rest_off_and_keeps_what_came() -> None:
    stop, ended = Event(), Event()
    asked = UnderWay[str, bool](stop)

    def interrupted() -> None:
        with asked:
            asked.ask("at once", bool, 1)
            assert [name for name, _ in asked.answered()] == ["at once"]
            asked.ask("thinks", ended.wait, 100)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stop.is_set()
    assert list(asked.answered(timeout=0)) == []
    ended.set()
    assert [(name, answer.result()) for name, answer in asked.answered()] == [("thinks", True)]
