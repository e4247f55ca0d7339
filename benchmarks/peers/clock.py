"""One wall clock for every peer, and a schedule that is complete when its time is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Clock:
    """A budget of seconds that began when the clock was made."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds, self._now = seconds, now
        self._began = now()

    @property
    def spent(self) -> float:
        return self._now() - self._began

    @property
    def left(self) -> float:
        return self.seconds - self.spent


class Schedule:
    """Warm-up and half a cosine over what is left of a clock, by time in place of steps: whatever a step takes, it ends at 0.

    `over` says that another step like the last ones would end later than the clock (by more than half of it).
    """

    def __init__(self, clock: Clock, warmup: float = 0.1) -> None:
        self.clock, self.warmup, self.steps = clock, warmup, 0
        self._began, self._whole = clock.spent, max(clock.left, 1e-9)

    @property
    def share(self) -> float:
        """How much of the time is over, from 0 to 1; the step that is about to begin counts by half."""
        spent = self.clock.spent - self._began
        return min(1.0, (spent + 0.5 * self.a_step) / self._whole)

    @property
    def a_step(self) -> float:
        """Seconds a step, so far."""
        return (self.clock.spent - self._began) / self.steps if self.steps else 0.0

    @property
    def factor(self) -> float:
        """What the peak learning rate is multiplied by now; the first step, before anything was measured, has a tenth of the peak."""
        share = self.share
        if share < self.warmup:
            return max(0.1, share / self.warmup)
        return 0.5 * (1.0 + math.cos(math.pi * (share - self.warmup) / (1.0 - self.warmup)))

    @property
    def over(self) -> bool:
        return self.clock.left < 0.5 * self.a_step

    def stepped(self) -> None:
        self.steps += 1
