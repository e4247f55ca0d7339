"""What a comparison of a server with a model came to: distances, findings with their remedies, and both as a page of a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from homing.columns import wrapped
from homing.protocols import Kind

Sent = Literal["with prompts", "bare", "with task"]


@dataclass(frozen=True)
class Finding:
    """What a server does otherwise, on which sides and ways of sending, and what to do about it. `fails`: embeddings are wrong by it."""

    what: str
    remedy: str
    kinds: tuple[Kind, ...]
    fails: bool = True
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True)
class Compared:
    """One side under one way of sending: cosine distances of the server's embeddings from the local ones, over `texts` texts."""

    kind: Kind
    sent: Sent
    texts: int
    median: float
    worst: float
    shortest: float
    longest: float


@dataclass(frozen=True)
class Verification:
    """What a comparison came to. `flips` of `rankings`: queries whose documents come in another order, top 1 in `first`."""

    model: str
    endpoint: str
    compared: tuple[Compared, ...]
    findings: tuple[Finding, ...]
    flips: int
    first: int
    rankings: int

    @property
    def equal(self) -> bool:
        """Whether the server serves the local model."""
        return not any(each.fails for each in self.findings)

    def plain(self) -> dict[str, Any]:
        """What --json prints."""
        return json.loads(json.dumps({"equal": self.equal, **self.__dict__}, default=lambda each: each.__dict__))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        lines = [
            f"{self.model} at {self.endpoint}: {'equal' if self.equal else 'DIFFERS'}", "",
            f"{'side':10}{'sent':14}{'texts':>6}{'distance, median':>18}{'worst':>10}{'length':>16}",
        ]  # fmt: skip
        for each in self.compared:
            lengths = f"{each.shortest:.3g} to {each.longest:.3g}"
            lines.append(f"{each.kind:10}{each.sent:14}{each.texts:>6}{each.median:>18.1e}{each.worst:>10.1e}{lengths:>16}")
        lines.append(
            f"\nrankings: {self.flips} of {self.rankings} queries have their documents in another order, {self.first} another first one"
        )
        for found in self.findings:
            sides = " and ".join({"query": "queries", "document": "documents"}[kind] for kind in found.kinds)
            what = f"{'!' if found.fails else 'note:'} {sides}: {found.what}"
            lines += ["", wrapped(what), wrapped(f"  {found.remedy}")]
        return "\n".join(lines)


def joined(findings: Sequence[Finding], ways: set[Sent]) -> tuple[Finding, ...]:
    """Equal findings of both sides and of several ways of sending as one; one that not all ways have says which have it."""
    found: dict[tuple[str, str, bool], list[Finding]] = {}
    for each in findings:
        found.setdefault((each.what, each.remedy, each.fails), []).append(each)
    joined = []
    for (what, remedy, fails), same in found.items():
        kinds = tuple(dict.fromkeys(kind for each in same for kind in each.kinds))
        sent = tuple(dict.fromkeys(way for each in same for way in each.sent))
        where = "" if set(sent) == ways else f" (sent {' and '.join(sent)})"
        joined.append(Finding(what + where, remedy, kinds, fails, sent))
    return tuple(joined)
