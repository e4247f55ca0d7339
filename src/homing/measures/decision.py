"""What a model's directory says about deciding: thresholds and calibration, with what they were chosen on, in `homing.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homing import conventions
from homing.data import Floats
from homing.errors import FormatError
from homing.measures.calibration import Calibration


@dataclass(frozen=True)
class ChosenOn:
    """The pairs that a threshold was chosen on: a threshold holds for pairs like these, a share of which is relevant."""

    split: str
    queries: int
    pairs: int
    relevant_share: float
    dataset: str


@dataclass(frozen=True)
class Threshold:
    """A pair is called relevant at this score or above (at this L2 distance or below).

    `inner_product` is the score that evaluation uses. `cosine` and `l2` are the same cut where embeddings have length 1, None where they
    don't. `f1` is what it reached on the pairs it was chosen on. `top_k`: how many a query had, for a threshold of a retrieval's best.
    """

    inner_product: float
    f1: float
    chosen_on: ChosenOn
    cosine: float | None = None
    l2: float | None = None
    top_k: int | None = None

    @classmethod
    def of(cls, score: float, f1: float, chosen_on: ChosenOn, *, normalised: bool, top_k: int | None = None) -> Threshold:
        """The threshold at a score, with its other faces where embeddings are normalised: l2 = sqrt(2 - 2 cosine)."""
        if not normalised:
            return cls(score, f1, chosen_on, top_k=top_k)
        return cls(score, f1, chosen_on, score, float(np.sqrt(max(0.0, 2 - 2 * score))), top_k)


@dataclass(frozen=True)
class Offset:
    """A query's background, the mean score of its `neighbours` nearest documents, is taken off its scores before `threshold`."""

    neighbours: int
    threshold: float
    f1: float


@dataclass(frozen=True)
class Decision:
    """Is this document relevant? `list`: for candidates like the judged ones; `retrieval`: for the top k of a search over the corpus.

    The two differ because the share of relevant pairs does. `calibration` turns a score into a probability, for pairs like the judged
    ones. `offset`, where there is one, decided better on dev than `list`, and needs the corpus beside the pair.
    """

    list: Threshold | None = None
    retrieval: Threshold | None = None
    calibration: Calibration | None = None
    offset: Offset | None = None

    def relevant(self, scores: ArrayLike, kind: Literal["list", "retrieval"] = "list") -> NDArray[np.bool_]:
        """Whether pairs of these inner products (or cosines) are called relevant; shape in, shape out.

        Raises FormatError where no threshold of that kind was chosen.
        """
        threshold = self.list if kind == "list" else self.retrieval
        if threshold is None:
            raise FormatError(f"no threshold was chosen for a {kind}", remedy="Evaluate on data with judged non-relevant documents.")
        return np.asarray(np.asarray(scores) >= threshold.inner_product)

    def probability(self, scores: ArrayLike) -> Floats:
        """The chance that pairs of these scores are relevant, among pairs like the judged ones; shape in, shape out.

        Raises FormatError where nothing was calibrated.
        """
        if self.calibration is None:
            raise FormatError("there is no calibration", remedy="Evaluate on data with judged non-relevant documents.")
        return self.calibration.probability(scores)

    def plain(self) -> dict[str, Any]:
        """What `homing.json` holds under `decision`."""
        return {
            "list": None if self.list is None else {name: each for name, each in asdict(self.list).items() if name != "top_k"},
            "retrieval": None if self.retrieval is None else asdict(self.retrieval),
            "calibration": None if self.calibration is None else {"method": "platt", **asdict(self.calibration)},
            "offset": None if self.offset is None else asdict(self.offset),
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Decision:
        """A decision from what `plain` gave. Raises KeyError, TypeError or ValueError for anything else."""

        def threshold(said: Mapping[str, Any] | None) -> Threshold | None:
            return None if said is None else Threshold(**{**said, "chosen_on": ChosenOn(**said["chosen_on"])})

        calibration, offset = plain.get("calibration"), plain.get("offset")
        return cls(
            threshold(plain.get("list")),
            threshold(plain.get("retrieval")),
            None if calibration is None else Calibration(float(calibration["slope"]), float(calibration["intercept"])),
            None if offset is None else Offset(**offset),
        )

    def write(self, directory: Path) -> None:
        """Put the decision into the directory's `homing.json`, beside whatever else that says; the file is whole at any moment."""
        conventions.put(directory, decision=self.plain())

    @classmethod
    def read(cls, directory: Path) -> Decision | None:
        """The decision of a model's directory, None where it says nothing. Raises FormatError where it cannot be read."""
        try:
            said = conventions.read(directory).get("decision")
            return None if said is None else cls.of(said)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                "the decision cannot be read",
                where=str(directory / conventions.FILE),
                got=f"{type(error).__name__}: {error}",
                remedy="Evaluate the model again.",
            ) from None
