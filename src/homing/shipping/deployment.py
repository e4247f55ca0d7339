"""How a model is deployed: the lines for servers, and what software that uses them needs to be told (DEPLOY.md)."""

from __future__ import annotations

import json
from pathlib import Path

from homing import conventions
from homing.measures.decision import Threshold
from homing.shipping.facts import Facts
from homing.shipping.layout import SETTINGS
from homing.shipping.origin import place
from homing.shipping.tei import faults

GPU = 24 * 2**30  # bytes of the card that the line for vLLM is reckoned for


def deploy_page(facts: Facts) -> str:
    """DEPLOY.md."""
    parts = [_told(facts), _servers(facts), _clients(facts), _thresholds(facts), _ids()]
    return f"# Deploying {Path(facts.origin.base).name}, tuned\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _told(facts: Facts) -> str:
    scale, distance = "not normalised: their length counts", facts.similarity.replace("dot", "inner product")
    if facts.normalised:
        scale, distance = "length 1", "cosine (or inner product, which is the same here)"
    elif facts.similarity == "cosine":
        scale, distance = "not of length 1 from sentence-transformers", "cosine (inner product and L2 once they are brought to length 1)"
    cut = ""
    if facts.whole > facts.dimension:
        cut = (
            f"\n\n`truncate_dim` in {SETTINGS} cuts embeddings to their first {facts.dimension} numbers. sentence-transformers and "
            f"`homing serve` do that; vLLM and text-embeddings-inference give all {facts.whole}: keep the first {facts.dimension} of them."
        )
    short = ""
    if sizes := _sizes(facts):
        short = (
            f"\n| shorter embeddings that were measured | {', '.join(map(str, sizes))}: a request to `homing serve` or vLLM says "
            f'`"dimensions": {sizes[-1]}`; elsewhere keep the first numbers and bring them to length 1. `homing verify` asks for them '
            f"with `?dimensions={sizes[-1]}` behind the address |"
        )
    side = ""
    if facts.documents is not None:
        where = place(facts.documents["model"])
        side = (
            f"\n\n**This directory encodes queries alone.** Documents are encoded by `{where}` (digest `{facts.documents['digest']}`), so "
            "that two servers stand behind one index: that one for documents, this one for queries. `homing serve` serves both."
        )
        if where != facts.documents["model"]:
            side += (
                f" The model was a directory where this was made, not one of a hub: put its place here for `{where}`, and in "
                f"{conventions.FILE} as `model` under `documents`, where `homing serve` and `homing verify` look for it."
            )
    return f"""| what any of them needs to be told | |
|---|---|
| dimension | {facts.dimension} |
| tokens a text, prompt included | {facts.length} |
| embeddings | {scale} |
| distance | {distance} |
| query prefix, as JSON: every blank and line break counts | `{_quoted(facts.query_prompt)}` |
| document prefix, as JSON | `{_quoted(facts.document_prompt)}` |{short}{cut}{side}"""


def _sizes(facts: Facts) -> list[int]:
    """The numbers that an embedding may be cut to, most first: those that were measured."""
    return [] if facts.evaluated is None else sorted(map(int, facts.evaluated.dimensions), reverse=True)


def _vllm(facts: Facts, model: str, name: str, length: int, port: int) -> str:
    """The line that starts vLLM with this directory, or with its documents' model. Without the last option it refuses `dimensions`."""
    share = min(0.9, max(0.1, round(facts.bytes / GPU * 1.2 + 0.1, 1)))
    cut = ""
    if sizes := _sizes(facts):
        allowed = sorted({facts.whole, facts.dimension, *sizes}, reverse=True)
        cut = f" \\\n  --hf-overrides '{json.dumps({'matryoshka_dimensions': allowed})}'"
    return (
        f"vllm serve {model} --served-model-name {name} --runner pooling --convert embed --max-model-len {length} "
        f"--gpu-memory-utilization {share:g} \\\n  --port {port}{cut}"
    )


def _servers(facts: Facts) -> str:
    told = {"query": facts.query_prompt, "document": facts.document_prompt}
    prefixed = [kind for kind, prompt in told.items() if prompt]
    sides = " and ".join({"query": "queries", "document": "documents"}[kind] for kind in prefixed)
    named = " or ".join(f'`"prompt_name": "{kind}"`' for kind in prefixed)
    bare = f" vLLM puts no prompt before a text: send {sides} with their prefix." if sides else ""
    by_itself = f"It puts no prompt before a text by itself: send {sides} with their prefix, or with {named} in `/embed`. " if sides else ""
    tei = f"""text-embeddings-inference (its reading rules were checked against this directory; a GPU takes the image of its generation):

```bash
docker run -p 8081:80 -v "$PWD:/model" ghcr.io/huggingface/text-embeddings-inference:cpu-latest --model-id /model --dtype float32
```

{by_itself}A GPU's default there is float16; `--dtype float32` keeps what was verified."""
    other, second = "", ""
    if facts.documents is not None:
        other = " --documents http://127.0.0.1:8082/v1"
        line = _vllm(facts, place(facts.documents["model"]), "documents", facts.documents["max_length"], 8082)
        second = f"\n\nThe documents' model, beside it:\n\n```bash\n{line}\n```"
    listed = " text-embeddings-inference lists no models, so that its address needs a name; any will do."
    asked = ["8080/v1", "8081/v1#model"]
    if found := faults(facts.directory):
        listed, asked = "", asked[:1]
        tei = f"text-embeddings-inference does not read this directory: {'; '.join(found)}."
    verify = "\n".join(f"homing verify . --endpoint http://127.0.0.1:{each}{other}" for each in asked)
    return f"""## Servers

```bash
homing serve .
homing verify . --endpoint http://127.0.0.1:8000/v1
```

vLLM, on a GPU of {GPU // 2**30} GiB that other models may share: without `--gpu-memory-utilization` it takes nine tenths of the card,
whatever the model needs ({facts.bytes / 2**30:.2f} GiB of weights here):

```bash
{_vllm(facts, ".", "tuned", facts.length, 8080)}
```{second}

`--dtype float32` gives what was verified to the last digits.{bare} A text longer than {facts.length} tokens
is an error there unless the request says `"truncate_prompt_tokens": {facts.length}`: vLLM 0.32 then cut a Qwen3's text where the model
does, end token and all. `homing verify` doesn't say that, and notes the error.

{tei}

After a start, and after every upgrade, `homing verify` sends texts and says whether pooling, prompt, end token, length and weights are
those of this directory.{listed}

```bash
{verify}
```"""


def _clients(facts: Facts) -> str:
    prefix = facts.query_prompt
    bare = "The prompt for queries is empty: there is nothing to lose."
    if prefix:
        bare = f"Queries without their prefix are other embeddings.{_loss(facts)}"
    xinference = json.dumps(
        {
            "version": 2, "model_name": "tuned", "dimensions": facts.dimension, "max_tokens": facts.length, "language": ["en", "zh"],
            "model_specs": [{"model_format": "pytorch", "model_uri": "file:///path/of/this/directory", "quantization": "none"}],
        }
    )  # fmt: skip
    metric = "COSINE" if facts.normalised or facts.similarity == "cosine" else "IP"
    put = """

Where a client sends queries bare, `homing serve` puts the prompt before them for requests that say `"task": "query"` or that ask for the
model as `NAME:query`. A client that can say neither needs a model that was trained without a prompt."""
    if not (prefix or facts.document_prompt):
        put = ""

    def sent(how: str) -> str:
        return f" {how} |" if put else ""

    return f"""## Software that uses them

{bare}

| | what to tell it |{sent("queries")}
|---|---|{sent("---")}
| Xinference | a custom embedding model: `{xinference}` |{sent("bare: as the client sends them")}
| RAGFlow | provider "OpenAI-API-Compatible", the server's address, max tokens {facts.length}; similarity threshold below |{sent("bare: it has no field for a prefix")}
| Dify | provider "OpenAI-API-compatible", model type Text Embedding, context size {facts.length}; query prefix `{_quoted(prefix)}`, document prefix `{_quoted(facts.document_prompt)}` |{sent("with the prefix, where its field is filled in")}
| Milvus | a FLOAT_VECTOR field of dim {facts.dimension}, metric_type {metric} |{sent("as you embed them: put the prefix before the text yourself")}{put}"""  # noqa: E501


def _loss(facts: Facts) -> str:
    """What bare queries cost, where that was measured."""
    if facts.evaluated is None or not facts.evaluated.bare:
        return " What that costs was not measured here."
    told = ", ".join(
        f"{name} {facts.evaluated.tuned[name]:.4f} with it, {value:.4f} without ({value - facts.evaluated.tuned[name]:+.4f})"
        for name, value in facts.evaluated.bare.items()
        if name in facts.evaluated.tuned
    )
    return f" Measured on {facts.evaluated.test_queries:,} test queries: {told}."


def _thresholds(facts: Facts) -> str:
    decision = facts.decision
    rows = [] if decision is None else [("a list of candidates", decision.list), ("the best of a search", decision.retrieval)]
    told = [_threshold(name, each) for name, each in rows if each is not None]
    if not told:
        return ""
    return "\n".join(
        [
            "## Thresholds",
            "",
            "Chosen on dev, for pairs like those: another share of relevant pairs wants another threshold.",
            "",
            "| is relevant, in | cosine at least | inner product at least | L2 distance at most | F1 on dev | chosen on |",
            "|---|---|---|---|---|---|",
            *told,
        ]
    )


def _threshold(name: str, each: Threshold) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    on = each.chosen_on
    top = f", the best {each.top_k}" if each.top_k else ""
    return (
        f"| {name}{top} | {shown(each.cosine)} | {shown(each.inner_product)} | {shown(each.l2)} | {each.f1:.3f} | "
        f"{on.pairs:,} pairs of {on.queries:,} queries, {on.relevant_share:.1%} relevant |"
    )


def _ids() -> str:
    return """## An index and its model

Embeddings of two models do not fit into one index, and nothing in a vector says whose it is. Keep beside the index the fingerprint that
`homing serve` tells in `/v1/models` and in every answer, or `base_digest`, `adapter_digest` and `scale` of `homing.json`."""
