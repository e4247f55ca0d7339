"""How long a training is and how fast it learns: by epochs or by the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from homing.settings import Training

LOOKS_SHARE = 0.5  # of the minutes is for looks at dev at most


def default_learning_rate(parameters: int, tuning: str = "lora") -> float:
    """The peak learning rate for a model of this size: LoRA 1e-4 at 0.6B, all weights 2e-5, more for smaller models.

    LoRA: 1e-4 at 0.6B and about 1e-3 at 23M, a power law between them; all weights: 2e-4 at 23M. Only the rates for MiniLM (23M) were
    tried (docs/log.md). Three digits, as a person would write it in a recipe.
    """
    rate, least, most = (2e-5, 5e-6, 2e-4) if tuning == "full" else (1e-4, 5e-5, 1e-3)
    return float(f"{np.clip(rate * (0.6e9 / parameters) ** 0.7, least, most):.3g}")


def learning_rate(update: int, updates: int, peak: float, warmup: float) -> float:
    """The rate of an update (counted from 0): a linear warm-up over the share `warmup`, then half a cosine down to 0."""
    rising = math.ceil(warmup * updates)
    if update < rising:
        return peak * (update + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (update - rising) / max(1, updates - rising)))


@dataclass
class Pace:
    """Where a training stands: updates and looks at dev done, seconds spent on each and on all else.

    With `Training.minutes`, the number of updates follows from the rate measured so far, so that the schedule is complete when the time
    is over, looks included; without, it follows from the epochs and no clock decides anything. All looks are alike, so that those to
    come are reckoned at the median of those that were: one that the machine held up does not take the time of five.
    """

    updates_an_epoch: int
    settings: Training
    looks_after: int = 0  # looks that come when the updates are over
    update: int = 0
    update_seconds: float = 0.0
    expected_seconds: float = 0.0  # what an update is expected to take, until the first has been made
    look_times: list[float] = field(default_factory=list)  # seconds of each look while training
    other_seconds: float = 0.0  # preparation, looks before the first update, checkpoints
    first_look_seconds: float = 0.0  # what the last of those took: what one takes, until the first of these

    @classmethod
    def of(cls, groups: int, settings: Training) -> Pace:
        return cls(math.ceil(groups / settings.batch_size), settings)

    @property
    def updates(self) -> int:
        """How many updates there will have been, as it stands now; never fewer than 1."""
        if self.settings.minutes is None:
            return max(1, math.ceil(self.updates_an_epoch * self.settings.epochs))
        an_update = self.update_seconds / self.update if self.update else self.expected_seconds
        a_look = median([self.first_look_seconds, *self.look_times])
        left = self.settings.minutes * 60.0 - self.seconds - (self.evaluations - self.looks + self.looks_after) * a_look
        return max(1, self.update + max(0, int(left / max(an_update, 1e-6))))

    @property
    def evaluations(self) -> int:
        """Looks at dev while training: as many as were asked for, but not more than updates, nor than take half of the minutes."""
        if self.settings.minutes is not None:
            affordable = LOOKS_SHARE * self.settings.minutes * 60.0 / max(self.first_look_seconds, 1e-6)
            return max(1, min(self.settings.evaluations, int(affordable)))
        return min(self.settings.evaluations, self.updates)

    @property
    def over(self) -> bool:
        """Whether the updates are done; after the last look they are, though the clock may have a little time left."""
        return self.update >= self.updates or self.looks >= self.evaluations

    @property
    def look_is_due(self) -> bool:
        """Whether dev is to be looked at now: at equal shares of the updates, and at their end."""
        return self.looks < self.evaluations and (self.over or self.update >= round(self.updates * (self.looks + 1) / self.evaluations))

    def looked(self, seconds: float) -> None:
        """A look at dev has taken so long; one before the first update is none of `evaluations`, whatever it looked at."""
        if self.update:
            self.look_times.append(seconds)
        else:
            self.first_look_seconds, self.other_seconds = seconds, self.other_seconds + seconds

    @property
    def looks(self) -> int:
        return len(self.look_times)

    @property
    def epoch(self) -> float:
        return round(self.update / self.updates_an_epoch, 4)

    @property
    def seconds(self) -> float:
        return self.update_seconds + sum(self.look_times) + self.other_seconds
