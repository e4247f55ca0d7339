"""What is known of a shipped model: what its directory says, and what an evaluation found. Card and deployment page are made of this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homing import conventions
from homing.encoders.safety import body, modules, read_json
from homing.errors import ModelError
from homing.measures.decision import Decision
from homing.shipping.layout import LENGTH, POOLING_FLAGS, SETTINGS
from homing.shipping.origin import Origin, read_evaluated
from homing.verdicts.context import Context

MEASURES = ("nDCG@10", "R@10", "RR@10", "AP", "F1")


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found, as the card tells it: names to plain figures, from what evaluation/metrics.json holds.

    `notes` are the verdict's, and what is forgotten outside the domain. `bare` are measures of queries that were sent without their
    prompt, `dimensions` those of embeddings cut to so many numbers; both empty where that was not measured. `data` are digests of what it
    was trained and measured on, by name.
    """

    sentence: str
    outcome: str
    notes: Sequence[str]
    base: Mapping[str, float]
    tuned: Mapping[str, float]
    test_queries: int
    documents: int
    bare: Mapping[str, float]
    dimensions: Mapping[str, Mapping[str, float]]
    data: Mapping[str, str]

    @classmethod
    def of(cls, summary: Mapping[str, Any], data: Mapping[str, str]) -> Evaluated:
        """From the summary of an evaluation: its first model is the base, its last one this model."""

        def figures(measures: Mapping[str, Any]) -> dict[str, float]:
            return {name: float(measures[name]["value"]) for name in MEASURES if name in measures and measures[name]["value"] is not None}

        models = [each for each in summary["models"] if each.get("kind", "model") == "model"]
        tuned, verdict, context = models[-1], summary["verdict"], Context.of(summary["context"])
        notes = (*verdict["notes"], *(f"Outside the domain: {each}." for each in context.general))
        cut = {str(each.dimension): {"nDCG@10": each.tuned.value} for each in context.shortened}
        return cls(
            verdict["sentence"], verdict["outcome"], notes, figures(models[0]["measures"]), figures(tuned["measures"]),
            int(summary["counts"]["test_queries"]), int(summary["counts"]["documents"]), figures(tuned.get("bare") or {}), cut, dict(data),
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """What `homing.json` holds."""
        return {
            **{name: getattr(self, name) for name in ("sentence", "outcome", "test_queries", "documents")},
            "notes": list(self.notes),
            **{name: dict(getattr(self, name)) for name in ("base", "tuned", "bare", "dimensions", "data")},
        }


@dataclass(frozen=True)
class Facts:
    """What a written directory says of its model. `documents`: whose embeddings documents keep, for a model of queries alone.

    `whole`: numbers an embedding before it is cut to `dimension`, which the directory's truncate_dim asks for. `normalised`: whether
    embeddings come at length 1.
    """

    directory: Path
    origin: Origin
    query_prompt: str
    document_prompt: str
    pooling: str
    length: int
    dimension: int
    whole: int
    similarity: str
    normalised: bool
    model_type: str
    bytes: int
    decision: Decision | None
    evaluated: Evaluated | None
    documents: dict[str, Any] | None


def facts_of(directory: Path) -> Facts:
    """What a written directory says of its model. Raises ModelError where Homing did not write it."""
    origin = Origin.read(directory)
    if origin is None:
        raise ModelError(
            "the directory is not a merged model", where=str(directory), expected=conventions.FILE, remedy="Merge one: homing merge."
        )
    settings = read_json(directory / SETTINGS)
    pooling = next(directory / str(each["path"]) for each in modules(directory) if str(each["type"]).endswith(".Pooling"))
    pools = read_json(pooling / "config.json")
    modes = [mode for mode, flag in POOLING_FLAGS.items() if pools[flag]]
    whole = _dimension(directory, len(modes) * int(pools["word_embedding_dimension"]))
    config = read_json(body(directory) / "config.json")
    evaluated = read_evaluated(directory)
    size = sum(file.stat().st_size for file in body(directory).glob("*.safetensors"))
    return Facts(
        directory=directory,
        origin=origin,
        query_prompt=settings["prompts"]["query"],
        document_prompt=settings["prompts"]["document"],
        pooling="+".join(modes),
        length=int(read_json(directory / LENGTH)["max_seq_length"]),
        dimension=min(whole, settings.get("truncate_dim") or whole),
        whole=whole,
        similarity=settings["similarity_fn_name"],
        normalised=str(modules(directory)[-1]["type"]).endswith(".Normalize") and not settings.get("truncate_dim"),
        model_type=str(config.get("model_type", "")),
        bytes=size,
        decision=Decision.read(directory),
        evaluated=None if evaluated is None else Evaluated(**evaluated),
        documents=conventions.read(directory).get("documents"),
    )


def _dimension(directory: Path, pooled: int) -> int:
    """Numbers an embedding: what pooling gives, or the last dense layer after it."""
    dense = [directory / str(each["path"]) for each in modules(directory) if str(each["type"]).endswith(".Dense")]
    return int(read_json(dense[-1] / "config.json")["out_features"]) if dense else pooled
