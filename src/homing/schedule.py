"""How long a training is and how fast it learns: by epochs or by the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from homing.settings import Training


def default_learning_rate(parameters: int, tuning: str = "lora") -> float:
    """The peak learning rate for a model of this size: LoRA 1e-4 at 0.6B, all weights 2e-5, more for smaller models.

    LoRA: 1e-4 at 0.6B and about 1e-3 at 23M, a power law between them; all weights: 2e-4 at 23M. Only the rates for MiniLM (23M) were
    tried (docs/log.md).
    """
    if tuning == "full":
        return float(np.clip(2e-5 * (0.6e9 / parameters) ** 0.7, 5e-6, 2e-4))
    return float(np.clip(1e-4 * (0.6e9 / parameters) ** 0.7, 5e-5, 1e-3))


def learning_rate(update: int, updates: int, peak: float, warmup: float) -> float:
    """The rate of an update (counted from 0): a linear warm-up over the share `warmup`, then half a cosine down to 0."""
    rising = math.ceil(warmup * updates)
    if update < rising:
        return peak * (update + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (update - rising) / max(1, updates - rising)))


@dataclass
class Pace:
    """Where a training stands: updates and looks at dev done, seconds spent on each.

    With `Training.minutes`, the number of updates follows from the rate measured so far, so that the schedule is complete when the time
    is over, looks included; without, it follows from the epochs and no clock decides anything.
    """

    updates_an_epoch: int
    settings: Training
    looks_after: int = 0  # looks that come when the updates are over
    update: int = 0
    looks: int = 0
    update_seconds: float = 0.0
    look_seconds: float = 0.0
    other_seconds: float = 0.0  # preparation, the look at the base

    @classmethod
    def of(cls, groups: int, settings: Training) -> Pace:
        return cls(math.ceil(groups / settings.batch_size), settings)

    @property
    def updates(self) -> int:
        """How many updates there will have been, as it stands now; never fewer than 1."""
        if self.settings.minutes is None:
            return max(1, math.ceil(self.updates_an_epoch * self.settings.epochs))
        if not self.update:
            return 1
        left = self.settings.minutes * 60.0 - self.other_seconds - self.update_seconds - self.look_seconds
        if self.looks:
            left -= (self.evaluations - self.looks + self.looks_after) * self.look_seconds / self.looks
        return self.update + max(0, int(left / (self.update_seconds / self.update)))

    @property
    def evaluations(self) -> int:
        """Looks at dev while training: as many as were asked for, but not more than updates."""
        if self.settings.minutes is not None:
            return self.settings.evaluations
        return min(self.settings.evaluations, self.updates)

    @property
    def over(self) -> bool:
        return self.update >= self.updates

    @property
    def look_is_due(self) -> bool:
        """Whether dev is to be looked at now: at equal shares of the updates, and at their end."""
        return self.looks < self.evaluations and (self.over or self.update >= round(self.updates * (self.looks + 1) / self.evaluations))

    @property
    def epoch(self) -> float:
        return round(self.update / self.updates_an_epoch, 4)

    @property
    def seconds(self) -> float:
        return self.update_seconds + self.look_seconds + self.other_seconds
