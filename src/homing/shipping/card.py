"""A model's card (README.md) and its page about deploying (DEPLOY.md), written from what its directory says and nothing else.

So the two can be written again when more is known: after a merge they say how the weights were made and verified, after an evaluation
what the model is worth.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homing.decision import Decision
from homing.encoders.directory import CONVENTIONS
from homing.encoders.safety import body, modules, read_json
from homing.errors import ModelError
from homing.shipping.deployment import Facts, deploy_page
from homing.shipping.layout import LENGTH, POOLING_FLAGS, SETTINGS
from homing.shipping.origin import Origin, Verified, read_evaluated, write_evaluated

MEASURES = ("nDCG@10", "R@10", "RR@10", "AP", "F1")
KINDS = {"lora": "A LoRA", "rslora": "A rank-stabilised LoRA", "dora": "A DoRA"}


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found, as the card tells it: names to plain figures, from what evaluation/metrics.json holds.

    `bare` are measures of queries that were sent without their prompt, `dimensions` those of embeddings cut to so many numbers; both empty
    where that was not measured. `data` are digests of what it was trained and measured on, by name.
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
        """From the summary of an evaluation: its first model is the base, its last one this model, at its whole dimension."""

        def figures(measures: Mapping[str, Any]) -> dict[str, float]:
            return {name: float(measures[name]["value"]) for name in MEASURES if name in measures and measures[name]["value"] is not None}

        models = {each["name"]: each for each in summary["models"] if each.get("kind", "model") == "model"}
        whole = [each for name, each in models.items() if not _cut(name, models)]
        tuned, verdict = whole[-1], summary["verdict"]
        cut = {each: figures(models[f"{tuned['name']}@{each}"]["measures"]) for name in models if (each := _cut(name, [tuned["name"]]))}
        return cls(
            verdict["sentence"], verdict["outcome"], tuple(verdict["notes"]), figures(whole[0]["measures"]), figures(tuned["measures"]),
            int(summary["counts"]["test_queries"]), int(summary["counts"]["documents"]), figures(tuned.get("bare") or {}), cut, dict(data),
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """What `homing.json` holds."""
        return {
            **{name: getattr(self, name) for name in ("sentence", "outcome", "test_queries", "documents")},
            "notes": list(self.notes),
            **{name: dict(getattr(self, name)) for name in ("base", "tuned", "bare", "dimensions", "data")},
        }


def _cut(name: str, models: Iterable[str]) -> str:
    """How many numbers a row of an evaluation is cut to, where it is another one's with fewer; else nothing."""
    model, _, size = name.rpartition("@")
    return size if size.isdigit() and model in models else ""


def complete(directory: Path, summary: Mapping[str, Any], data: Mapping[str, str]) -> None:
    """Keep an evaluation's verdict with the model that it is about, and write card and deployment page again.

    `summary` is what evaluation/metrics.json holds, `data` the digests of what it was trained and measured on, by name. The thresholds of
    the pages are those of the directory's decision.
    """
    found = Evaluated.of(summary, data)
    write_evaluated(directory, found.plain(), sorted((int(each) for each in found.dimensions), reverse=True))
    write_card(directory)


def write_card(directory: Path) -> None:
    """Write README.md and DEPLOY.md from what the directory says. Raises ModelError where it is not one that Homing wrote."""
    facts = facts_of(directory)
    for name, text in (("README.md", card(facts)), ("DEPLOY.md", deploy_page(facts))):
        temporary = directory / f".{name}.partial"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, directory / name)


def facts_of(directory: Path) -> Facts:
    """What a written directory says of its model. Raises ModelError where Homing did not write it."""
    origin = Origin.read(directory)
    if origin is None:
        raise ModelError(
            "the directory is not a merged model", where=str(directory), expected=CONVENTIONS, remedy="Merge one: homing merge."
        )
    settings = read_json(directory / SETTINGS)
    pooling = next(directory / str(each["path"]) for each in modules(directory) if str(each["type"]).endswith(".Pooling"))
    pools = read_json(pooling / "config.json")
    config = read_json(body(directory) / "config.json")
    evaluated = read_evaluated(directory)
    said = read_json(directory / CONVENTIONS)
    size = sum(file.stat().st_size for file in body(directory).glob("*.safetensors"))
    return Facts(
        directory=directory,
        origin=origin,
        query_prompt=settings["prompts"]["query"],
        document_prompt=settings["prompts"]["document"],
        pooling="+".join(mode for mode, flag in POOLING_FLAGS.items() if pools[flag]),
        length=int(read_json(directory / LENGTH)["max_seq_length"]),
        dimension=_dimension(directory, int(pools["word_embedding_dimension"])),
        similarity=settings["similarity_fn_name"],
        normalised=any(str(each["type"]).endswith(".Normalize") for each in modules(directory)),
        model_type=str(config.get("model_type", "")),
        bytes=size,
        decision=Decision.read(directory),
        evaluated=None if evaluated is None else Evaluated(**evaluated),
        documents=said.get("documents"),
    )


def _dimension(directory: Path, pooled: int) -> int:
    """Numbers an embedding: what pooling gives, or the last dense layer after it."""
    dense = [directory / str(each["path"]) for each in modules(directory) if str(each["type"]).endswith(".Dense")]
    return int(read_json(dense[-1] / "config.json")["out_features"]) if dense else pooled


def card(facts: Facts) -> str:
    """README.md."""
    origin = facts.origin
    head = {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity", "base_model": origin.base}
    if origin.licence:
        head["license"] = origin.licence
    lines = ["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items())]
    lines += ["tags: [sentence-transformers, feature-extraction, homing]", "---"]
    lines += [f"# {Path(origin.base).name}, tuned with Homing", "", f"{_made(origin)} {_verified(origin.verified, origin.dtype)}", ""]
    if facts.evaluated is not None:
        lines += _verdict(facts.evaluated)
    lines += [
        "## Use", "", "| | |", "|---|---|",
        f"| put before each query | `{json.dumps(facts.query_prompt, ensure_ascii=False)}` |",
        f"| put before each document | `{json.dumps(facts.document_prompt, ensure_ascii=False)}` |",
        f"| pooling | {facts.pooling} |",
        f"| tokens a text | {facts.length} |",
        f"| dimension | {facts.dimension} |",
        f"| similarity | {facts.similarity} |",
        f"| number format | {origin.dtype} |",
        f"| licence of the base | {origin.licence or 'its directory names none: see the base'} |",
        f"| digest of the base | `{origin.base_digest}` |",
        f"| digest of what was learned | `{origin.adapter_digest}` |",
        *(f"| digest of the {name} | `{digest}` |" for name, digest in (facts.evaluated.data if facts.evaluated else {}).items()),
        "", "```python", "from sentence_transformers import SentenceTransformer", "", *_use(facts), "```", "", _index(facts), "",
        "[DEPLOY.md](DEPLOY.md) has the lines for servers and what other software needs to be told.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _made(origin: Origin) -> str:
    """Where the weights come from, in a sentence or two."""
    if origin.scale == 0:
        return f"The weights of `{origin.base}` as they are: nothing of what was learned is kept (scale 0, {origin.chosen})."
    share = "" if origin.scale == 1 else f" Of the change that was learned, a share of {origin.scale:g} is kept, {origin.chosen}."
    if origin.tuning == "full":
        return f"`{origin.base}`, all weights trained.{share}"
    return f"{KINDS[origin.tuning]} adapter merged into `{origin.base}`.{share}"


def _verified(verified: Verified, dtype: str) -> str:
    """How the written directory was verified, in a sentence."""
    unit = "at most {:.1e} apart in a number" if dtype == "float32" else "at most {:.1e} apart in cosine"
    way = "the directory loaded afresh" if verified.way == "whole" else "layer by layer"
    flips = "" if dtype == "float32" else f", {verified.flips:,} of {verified.pairs:,} pairs of documents ranked the other way round"
    return (
        f"Each of {verified.tensors:,} tensors was read again and compared; {verified.texts} texts, as queries and as documents, embedded "
        f"alike ({way}) as with the adapter on its base: {unit.format(verified.distance)}{flips}."
    )


def _verdict(evaluated: Evaluated) -> list[str]:
    lines = ["## Verdict", "", f"**{evaluated.outcome.capitalize()}.** {evaluated.sentence}", ""]
    names = [name for name in evaluated.tuned if name in evaluated.base]
    lines += ["| test | base | this model |", "|---|---|---|"]
    lines += [f"| {name} | {evaluated.base[name]:.4f} | {evaluated.tuned[name]:.4f} |" for name in names]
    lines += ["", f"Measured on {evaluated.test_queries:,} test queries over {evaluated.documents:,} documents.", ""]
    lines += [f"- {note}" for note in evaluated.notes]
    if evaluated.dimensions:
        cuts = "; ".join(
            f"{size} numbers {', '.join(f'{name} {value:.4f}' for name, value in measures.items())}"
            for size, measures in evaluated.dimensions.items()
        )
        lines += ["", f"Cut to its first numbers an embedding still serves: {cuts}."]
    return [*lines, ""]


def _use(facts: Facts) -> list[str]:
    if facts.documents is None:
        return [
            'model = SentenceTransformer("path/of/this/directory")',
            'queries, documents = model.encode_query(["..."]), model.encode_document(["..."])',
        ]
    return [
        'queries = SentenceTransformer("path/of/this/directory").encode_query(["..."])',
        f'documents = SentenceTransformer("{facts.documents["model"]}").encode_document(["..."])',
    ]


def _index(facts: Facts) -> str:
    if facts.documents is None:
        return "An index made with the base does not fit this model: encode the corpus again."
    other = facts.documents["model"]
    return f"It encodes queries alone. Documents are encoded by `{other}` as ever: an index made with it stays as it is."
