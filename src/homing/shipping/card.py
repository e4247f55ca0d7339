"""A model's card (README.md) and its page about deploying (DEPLOY.md), written from what its directory says and nothing else.

So the two can be written again when more is known: after a merge they say how the weights were made and verified, after an evaluation
what the model is worth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from homing.manifest import replaced
from homing.shipping.deployment import deploy_page
from homing.shipping.facts import Evaluated, Facts, facts_of
from homing.shipping.origin import Origin, Verified, place, write_evaluated

DEPLOYING = "DEPLOY.md"
KINDS = {"lora": "A LoRA", "rslora": "A rank-stabilised LoRA", "dora": "A DoRA"}


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
    for name, text in (("README.md", card(facts)), (DEPLOYING, deploy_page(facts))):
        with replaced(directory / name) as file:
            file.write(text)


def card(facts: Facts) -> str:
    """README.md."""
    origin = facts.origin
    head = {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"}
    if not Path(origin.base).is_absolute():  # the hub takes the name of a model there, and refuses a card that names a directory here
        head["base_model"] = origin.base
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


def _public(model: str) -> str:
    """A model's name without the path of this machine, for a card is made to be published."""
    return Path(model).name if Path(model).is_absolute() else model


def _made(origin: Origin) -> str:
    """Where the weights come from, in a sentence or two."""
    base = _public(origin.base)
    if origin.scale == 0:
        return f"The weights of `{base}` as they are: nothing of what was learned is kept (scale 0, {origin.chosen})."
    share = "" if origin.scale == 1 else f" Of the change that was learned, a share of {origin.scale:g} is kept, {origin.chosen}."
    if origin.tuning == "full":
        return f"`{base}`, all weights trained.{share}"
    return f"{KINDS[origin.tuning]} adapter merged into `{base}`.{share}"


def _verified(verified: Verified, dtype: str) -> str:
    """How the written directory was verified, in a sentence."""
    return (
        f"Each of {verified.tensors:,} tensors was read again and compared; {verified.texts} texts, as queries and as documents, went "
        f"through both layer by layer and embed as with the adapter on its base: {verified.apart(dtype)}."
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
        lines += ["", f"Embeddings cut to their first numbers: {cuts}."]
    return [*lines, ""]


def _use(facts: Facts) -> list[str]:
    if facts.documents is None:
        return [
            'model = SentenceTransformer("path/of/this/directory")',
            'queries, documents = model.encode_query(["..."]), model.encode_document(["..."])',
        ]
    return [
        'queries = SentenceTransformer("path/of/this/directory").encode_query(["..."])',
        f'base = SentenceTransformer("{place(facts.documents["model"])}")',
        f"base.max_seq_length = {facts.documents['max_length']}",
        f'documents = base.encode(["..."], prompt={json.dumps(facts.document_prompt, ensure_ascii=False)})',
    ]


def _index(facts: Facts) -> str:
    length = facts.documents["max_length"] if facts.documents else facts.length
    kept = f"as ever: an index stays as it is where its texts were read up to {length} tokens and under the same prefix."
    if facts.documents is not None:
        return f"It encodes queries alone. Documents are encoded by `{_public(facts.documents['model'])}` {kept}"
    if facts.origin.scale == 0:
        return f"Documents are encoded by the base's own weights {kept}"
    return "An index made with the base does not fit this model: encode the corpus again."
