"""Numbers as the page writes them: the same in every language."""

from __future__ import annotations

import math
from collections.abc import Callable

from homing.measures.evaluations import Interval

NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A value with so many decimals and a real minus sign; a dash for what is no number."""
    return NONE if value is None or not math.isfinite(value) else f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; what rounds to nothing has none."""
    if not math.isfinite(value):
        return NONE
    return number(0.0, digits) if round(value, digits) == 0 else f"{value:+.{digits}f}".replace("-", "−")


def precise(value: float) -> str:
    """A difference with four decimals, as the verdict's sentence has it."""
    return signed(value, 4)


def between(interval: Interval, write: Callable[[float], str] = number) -> str:
    """`[low, high]`, empty where no interval was computed."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    return f"[{write(interval.low)},\u00a0{write(interval.high)}]"


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, as sentences have it in both languages: no space before the sign."""
    return f"{share:.{digits}%}" if math.isfinite(share) else NONE


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss, or with a decimal where they are few."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"
