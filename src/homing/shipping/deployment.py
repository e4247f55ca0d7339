"""How a model is deployed: the lines for servers, and what software that uses them needs to be told (DEPLOY.md)."""

from __future__ import annotations

import json
from pathlib import Path

from homing.measures.decision import Threshold
from homing.shipping.facts import Facts
from homing.shipping.layout import SETTINGS
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
    side = ""
    if facts.documents is not None:
        side = (
            f"\n\n**This directory encodes queries alone.** Documents are encoded by `{facts.documents['model']}` (digest "
            f"`{facts.documents['digest']}`), so that two servers stand behind one index: that one for documents, this one for queries."
        )
    return f"""| what any of them needs to be told | |
|---|---|
| dimension | {facts.dimension} |
| tokens a text, prompt included | {facts.length} |
| embeddings | {scale} |
| distance | {distance} |
| query prefix, as JSON: every blank and line break counts | `{_quoted(facts.query_prompt)}` |
| document prefix, as JSON | `{_quoted(facts.document_prompt)}` |{cut}{side}"""


def _servers(facts: Facts) -> str:
    share = min(0.9, max(0.1, round(facts.bytes / GPU * 1.2 + 0.1, 1)))
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
    other, where = "", ""
    if facts.documents is not None:
        other, where = " --documents URL", f" URL is the server of `{facts.documents['model']}`."
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
vllm serve . --served-model-name tuned --runner pooling --convert embed --max-model-len {facts.length} --gpu-memory-utilization {share:g} \\
  --port 8080
```

`--dtype float32` gives what was verified to the last digits.{bare} A text longer than {facts.length} tokens
is an error there unless the request says `"truncate_prompt_tokens": {facts.length}`; `homing verify` tells whether its end token survives
that.

{tei}

After a start, and after every upgrade, `homing verify` sends texts and says whether pooling, prompt, end token, length and weights are
those of this directory.{listed}{where}

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
