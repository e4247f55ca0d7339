"""Why training brought no gain: likely causes with their evidence, the likeliest first, and the one experiment to do next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """A likely cause of no gain. `weight` ranks it (0 to 1), `evidence` is what was measured, `experiment` what would tell."""

    name: str
    weight: float
    evidence: str
    experiment: str
