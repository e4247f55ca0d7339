"""What is served: a model or a pair, the names it answers to, the fingerprints of its embeddings, and how it decides."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from homing import conventions
from homing.data import Floats
from homing.encoders.model import Model
from homing.encoders.pair import Pair
from homing.errors import SettingError
from homing.measures.decision import Decision, Threshold
from homing.protocols import Kind
from homing.serving.refusals import invalid, unknown_model

KINDS: tuple[Kind, ...] = ("query", "document")
SIDES: dict[str, Kind | None] = {"": None, "query": "query", "document": "document"}
FINGERPRINT = 16  # hexadecimal digits
MORE = re.compile("(?:@([^:]*))?(?::(.*))?")  # behind the name, which may hold either sign itself

PREVALENCES: tuple[Literal["list", "retrieval"], ...] = ("list", "retrieval")
NO_DECISION = "The model's directory says no threshold and no calibration, so there are scores alone; a run of homing writes both."


@dataclass(frozen=True, eq=False)
class Decided:
    """Scores with what they mean, all (pairs,); None where the model's directory doesn't say. `how`: by which threshold, for the answer."""

    scores: NDArray[np.float32]
    probability: Floats | None
    relevant: NDArray[np.bool_] | None
    how: dict[str, Any]

    def pairs(self, score: str) -> list[dict[str, Any]]:
        """A dictionary a pair, its score under this name."""
        return [
            {
                score: float(self.scores[pair]),
                "probability": None if self.probability is None else float(self.probability[pair]),
                "relevant": None if self.relevant is None else bool(self.relevant[pair]),
            }
            for pair in range(len(self.scores))
        ]


class Served:
    """One encoder under its name. NAME takes texts as they come; NAME:query and NAME:document put the prompt of their kind before them.

    A fingerprint changes with the weights, the prompt, pooling, length or number format. Each kind has its own, so that an index of
    documents stays valid where only the query's side changed.
    """

    def __init__(self, encoder: Model | Pair, name: str = "", dimensions: str = "") -> None:
        self.encoder, self.name = encoder, name or encoder.name
        self.queries, self.documents = (encoder.queries, encoder.documents) if isinstance(encoder, Pair) else (encoder, encoder)
        self.pair = self.queries is not self.documents
        self.fingerprint = encoder.digest[:FINGERPRINT]
        self.fingerprints = {kind: encoder.digest_of(kind)[:FINGERPRINT] for kind in KINDS}
        plain = self.queries.change == ""  # an adapter on its base, whose directory speaks of the base alone
        self.decision = Decision.read(self.queries.path) if plain else None
        self.dimensions = self._dimensions(dimensions, named=plain)
        self.created = int(time.time())

    def _dimensions(self, asked: str, *, named: bool) -> list[int]:
        """The lengths an embedding may have, longest first: its own, and those asked for or (`named`) that the directory names."""
        whole, said = self.encoder.dimension, conventions.read(self.queries.path).get("dimensions") if named else None
        shorter = [int(part) for part in asked.split(",") if part.strip()] or [int(each) for each in said or ()]
        if any(not 0 < each <= whole for each in shorter):
            raise SettingError("--dimensions is out of range", got=str(shorter), expected=f"1 to {whole}, the model's own")
        return sorted({whole, *shorter}, reverse=True)

    def model(self, kind: Kind | None) -> Model:
        return self.documents if kind == "document" else self.queries

    def prompt(self, kind: Kind | None) -> str:
        return "" if kind is None else self.encoder.prompts[kind]

    def side(self, name: object) -> Kind | None:
        """The side that a request's `model` names, None for none. Raises Refusal for a model of another name or fingerprint."""
        if name is not None and not isinstance(name, str):
            raise invalid("'model' is to be a string.", "model", "invalid_type")
        asked = name or self.name
        more = MORE.fullmatch(asked.removeprefix(self.name)) if asked.startswith(self.name) else None
        printed, side = more.groups("") if more else ("", "")
        if more is None or side not in SIDES:
            known = ", ".join(each["id"] for each in self.listed())
            raise unknown_model(f"There is no model of that name here, but {known}.")
        if printed and printed not in (self.fingerprint, *self.fingerprints.values()):
            now = f"{self.name}@{self.fingerprint}"
            raise unknown_model(f"The model here is {now}, another than the one asked for: embeddings of the two don't compare.")
        return SIDES[side]

    def kind(self, name: object, task: object) -> Kind | None:
        """Whose prompt goes before the texts, None for none: from the request's `model` and `task`.

        Raises Refusal as `side` does, and where a pair is not told which side is meant.
        """
        side = self.side(name)
        if task is None:
            task = ""
        if not isinstance(task, str) or task not in SIDES:
            raise invalid("'task' is to be 'query' or 'document'; leave it out for texts as they come.", "task")
        if side and task and side != task:
            raise invalid("'model' and 'task' name different sides.", "task")
        kind = side or SIDES[task]
        if kind is None and self.pair:
            message = f"Queries and documents have a model each here: say 'task', or ask {self.name}:query or {self.name}:document."
            raise invalid(message, "task", "task_missing")
        return kind

    def shortened(self, embeddings: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
        """The first numbers of each embedding (texts, dimension), of length 1 again where the model's similarity is the cosine."""
        if dimensions == embeddings.shape[1]:
            return embeddings
        short = np.ascontiguousarray(embeddings[:, :dimensions])
        if self.encoder.similarity == "cosine":
            short /= np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12)
        return short

    def decided(self, scores: NDArray[np.float32], prevalence: Literal["list", "retrieval"]) -> Decided:
        """Probabilities and decisions by scores (pairs,), at the threshold of this prevalence, or of the other where there is no such.

        The share of relevant pairs differs between judged lists and the best of a search, and so does the threshold.
        """
        decision = self.decision or Decision()
        kinds = (prevalence, *(each for each in PREVALENCES if each != prevalence))
        kind = next((each for each in kinds if getattr(decision, each) is not None), None)
        chosen: Threshold | None = None if kind is None else getattr(decision, kind)
        probability = None if decision.calibration is None else decision.probability(scores)
        relevant = None if kind is None else decision.relevant(scores, kind)
        how = {"threshold": None if chosen is None else chosen.inner_product, "threshold_of": kind, "fingerprint": self.fingerprint}
        if chosen is None and probability is None:
            how["note"] = NO_DECISION
        return Decided(scores, probability, relevant, how)

    def listed(self) -> list[dict[str, Any]]:
        """What /v1/models says, a dictionary a name."""
        kinds: tuple[Kind | None, ...] = KINDS if self.pair else (None, *KINDS)
        return [self.described(kind) for kind in kinds]

    def described(self, kind: Kind | None) -> dict[str, Any]:
        """One name of /v1/models."""
        model = self.model(kind)
        return {
            "id": self.name if kind is None else f"{self.name}:{kind}",
            "object": "model",
            "created": self.created,
            "owned_by": "homing",
            "fingerprint": self.fingerprint if kind is None else self.fingerprints[kind],
            "prompt": self.prompt(kind),
            "prompts": dict(self.encoder.prompts),
            "dimension": self.encoder.dimension,
            "dimensions": self.dimensions,
            "max_model_len": model.max_length,
            "similarity": self.encoder.similarity,
            "decision": None if self.decision is None else self.decision.plain(),
        }
