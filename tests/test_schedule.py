"""The learning rate against transformers', and the pace of a training by epochs and by a clock that is made up here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from transformers import get_cosine_schedule_with_warmup

from homing import Training
from homing.training.schedule import Pace, default_learning_rate, learning_rate

PEAK = 0.3


@pytest.mark.parametrize(("updates", "warmup"), [(25, 0.1), (100, 0.1), (40, 0.0), (7, 0.5)])
def test_the_learning_rate_equals_transformers(updates: int, warmup: float) -> None:
    """After the warm-up it is theirs; in it ours is one step ahead, for theirs begins with an update at rate 0."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    rising = -int(-warmup * updates // 1)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=rising, num_training_steps=updates)
    theirs = []
    for _ in range(updates):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    ours = [learning_rate(update, updates, PEAK, warmup) for update in range(updates)]
    assert ours[rising:] == pytest.approx(theirs[rising:])
    assert ours[:rising] == pytest.approx(theirs[1 : rising + 1])
    assert ours[0] > 0
    assert max(ours) == pytest.approx(PEAK)
    assert ours[-1] < PEAK * (2.5 / (updates - rising)) ** 2


def test_the_default_learning_rate_follows_size_and_tuning() -> None:
    assert default_learning_rate(600_000_000) == pytest.approx(1e-4)
    assert 8e-4 < default_learning_rate(22_700_000) <= 1e-3
    assert default_learning_rate(8_000_000_000) == pytest.approx(5e-5)
    assert default_learning_rate(600_000_000, "full") == pytest.approx(2e-5)
    assert default_learning_rate(22_700_000, "full") == pytest.approx(2e-4, rel=0.02)
    assert default_learning_rate(22_714_000, "full") == 0.000198  # three digits
    assert default_learning_rate(22_700_000, "dora") == default_learning_rate(22_700_000)
    sizes = [10**power for power in range(6, 12)]
    for tuning in ("lora", "full"):
        rates = [default_learning_rate(size, tuning) for size in sizes]
        assert rates == sorted(rates, reverse=True)


def walk(pace: Pace) -> list[int]:
    """Train by epochs without a clock; the updates after which dev was looked at."""
    looked = []
    while not pace.over:
        pace.update += 1
        if pace.look_is_due:
            looked.append(pace.update)
            pace.looked(0.0)
    return looked


def test_pace_by_epochs() -> None:
    pace = Pace.of(100, Training(batch_size=32, epochs=3, evaluations=4))
    assert (pace.updates_an_epoch, pace.updates) == (4, 12)
    assert walk(pace) == [3, 6, 9, 12]
    assert pace.update == 12
    assert pace.epoch == 3.0
    assert Pace.of(1, Training(epochs=0.1)).updates == 1
    assert walk(Pace.of(100, Training(batch_size=32, epochs=0.5, evaluations=6))) == [1, 2]


@given(some.integers(1, 5000), some.integers(1, 64), some.floats(0.05, 8), some.integers(1, 20))
def test_looks_come_at_equal_shares_and_at_the_end(groups: int, batch_size: int, epochs: float, evaluations: int) -> None:
    pace = Pace.of(groups, Training(batch_size=batch_size, epochs=epochs, evaluations=evaluations))
    updates = pace.updates
    assert updates >= 1
    assert updates >= pace.updates_an_epoch * epochs > updates - 1 or updates == 1
    looked = walk(pace)
    assert pace.update == updates
    assert len(looked) == min(evaluations, updates) == pace.evaluations
    assert looked[-1] == updates
    for number, update in enumerate(looked, 1):
        assert abs(update - number * updates / len(looked)) <= 0.5


class Clocked:
    """A training by the clock where the n-th update and the n-th look take so many seconds, as the loop of `homing.train` goes."""

    def __init__(self, settings: Training, update: Callable[[float], float], look: float, *, preparation: float = 0.0, after: int = 0):
        self.settings, self.update_takes, self.look_takes = settings, update, look
        self.pace = Pace.of(1000, settings)
        self.pace.looks_after = after
        self.pace.other_seconds = preparation
        self.pace.looked(look)
        self.rates: list[float] = []
        self.looked: list[float] = []

    def go(self, stop_at: int | None = None) -> Clocked:
        pace = self.pace
        while not pace.over and pace.update != stop_at:
            planned = pace.updates
            assert planned > pace.update
            self.rates.append(learning_rate(pace.update, planned, PEAK, self.settings.warmup))
            pace.update_seconds += self.update_takes(pace.seconds)
            pace.update += 1
            assert pace.updates >= pace.update
            if pace.look_is_due:
                self.looked.append(pace.seconds)
                pace.looked(self.look_takes)
        return self

    @property
    def seconds(self) -> float:
        """Until everything is done, with the looks that come after the updates."""
        return self.pace.seconds + self.pace.looks_after * self.look_takes


BUDGET = 600.0
BY_CLOCK = Training(minutes=BUDGET / 60, evaluations=6)


def slower_from_the_middle(now: float) -> float:
    return 1.3 if now < BUDGET / 2 else 2.6


def faster_from_the_middle(now: float) -> float:
    return 2.6 if now < BUDGET / 2 else 1.3


def slow_to_begin_with(now: float) -> float:
    return 20.0 if now < 15 else 0.7


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("look", [0.0, 4.0, 15.0])
@pytest.mark.parametrize("rate", [lambda now: 1.3, slower_from_the_middle, faster_from_the_middle, slow_to_begin_with])
def test_a_training_by_the_clock_uses_the_time_that_it_has(rate: Callable[[float], float], look: float, after: int) -> None:
    found = Clocked(BY_CLOCK, rate, look, preparation=12.0, after=after).go()
    an_update = rate(BUDGET)
    assert BUDGET - 2 * an_update - look <= found.seconds <= BUDGET + an_update + look
    assert len(found.looked) == BY_CLOCK.evaluations == found.pace.looks
    assert found.looked[-1] == pytest.approx(found.pace.seconds - look)  # the last look is at the last weights
    assert found.rates[-1] < 0.001 * PEAK
    assert max(found.rates) == pytest.approx(PEAK, rel=0.02)
    assert found.rates[0] <= PEAK / 10  # nothing is known of the rate yet, and still it warms up


@pytest.mark.parametrize("look", [0.0, 15.0])
def test_looks_by_the_clock_come_at_equal_shares(look: float) -> None:
    found = Clocked(BY_CLOCK, lambda now: 0.5, look).go()
    begun = found.pace.other_seconds
    length = (found.pace.seconds - begun) / BY_CLOCK.evaluations
    shares = [(moment + look - begun) / length for moment in found.looked]
    assert shares == pytest.approx([1, 2, 3, 4, 5, 6], abs=0.05)


@given(some.floats(1, 300), some.floats(0.01, 400), some.floats(0, 400), some.floats(0, 400), some.integers(1, 12), some.integers(0, 3))
def test_whatever_the_times_are_it_ends(
    minutes: float, an_update: float, look: float, preparation: float, evaluations: int, after: int
) -> None:
    """One update at least is made and looked at, and nothing but what is then under way goes beyond the budget."""
    settings = Training(minutes=minutes / 60, evaluations=evaluations)
    found = Clocked(settings, lambda now: an_update, look, preparation=preparation, after=after).go()
    assert found.pace.update >= 1
    assert 1 <= found.pace.looks <= evaluations
    assert found.looked[-1] == pytest.approx(found.pace.seconds - look)
    if found.pace.update > 1:
        assert found.seconds <= minutes + an_update + look


def test_looks_that_are_dear_become_fewer_and_not_the_updates() -> None:
    found = Clocked(Training(minutes=1, evaluations=6), lambda now: 0.5, 10.0).go()
    assert found.pace.looks == 3
    assert found.seconds <= 60.0 + 0.5
    assert found.pace.update > 30


def test_nothing_is_updated_after_the_last_look() -> None:
    """The last look takes less than those before: there is time for more updates, which nobody would look at."""
    found = Clocked(BY_CLOCK, lambda now: 0.5, 15.0)
    while found.pace.looks < 5:
        found.go(stop_at=found.pace.update + 1)
    found.look_takes = 1.0
    found.go()
    assert found.pace.looks == 6
    assert found.looked[-1] == pytest.approx(found.pace.seconds - 1.0)
    assert found.pace.seconds < BUDGET - 10


def test_a_look_that_is_held_up_does_not_take_the_time_of_all_to_come() -> None:
    found = Clocked(BY_CLOCK, lambda now: 0.5, 4.0, after=3)
    while found.pace.looks < 2:
        found.go(stop_at=found.pace.update + 1)
    found.look_takes = 64.0
    while found.pace.looks < 3:
        found.go(stop_at=found.pace.update + 1)
    found.look_takes = 4.0
    found.go()
    assert BUDGET - 5 <= found.seconds <= BUDGET + 5
    assert found.rates[-1] < 0.001 * PEAK
    assert found.pace.looks == BY_CLOCK.evaluations


def test_a_pace_goes_on_from_what_was_saved() -> None:
    whole = Clocked(BY_CLOCK, slower_from_the_middle, 4.0, preparation=12.0, after=3).go()
    begun = Clocked(BY_CLOCK, slower_from_the_middle, 4.0, preparation=12.0, after=3).go(stop_at=150)
    saved = {name: value for name, value in asdict(begun.pace).items() if name not in ("settings", "updates_an_epoch")}
    resumed = Clocked(BY_CLOCK, slower_from_the_middle, 4.0)
    for name, value in saved.items():
        setattr(resumed.pace, name, value)
    resumed.go()
    assert 0 < len(resumed.rates) < len(whole.rates)
    assert begun.rates + resumed.rates == whole.rates
    assert begun.looked + resumed.looked == whole.looked
    assert resumed.pace == whole.pace


def test_a_clock_that_stands_still_divides_by_nothing() -> None:
    pace = Pace.of(100, BY_CLOCK)
    pace.update = 1
    assert pace.updates > 1
