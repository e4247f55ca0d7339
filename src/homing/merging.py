"""Merge an adapter into its base's weights, as a directory that other software serves; nothing is handed over unverified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from homing.encoders import adapter as adapters
from homing.encoders.adapter import Adapter
from homing.encoders.model import Model
from homing.encoders.pair import Pair, open_model, write_document_model
from homing.errors import MergeError, ModelError
from homing.manifest import replace_directory, write_json

PROBES = (
    "how do I reset my password",
    "Ice floats because it is less dense than the water around it.",
    "保证期间是确定保证人承担保证责任的期间，不发生中止、中断和延长。",
    "find . -name '*.py' -mtime -1 | xargs grep -l TODO",
)
POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip


def merge(
    base: Model, adapter: Adapter, *, out: str | Path = "runs/model", texts: Sequence[str] = (), scale: float | None = None
) -> Model | Pair:
    """Merge `adapter` into a copy of `base` and write it to `out`; returns the written model, loaded from there.

    W + scale (W' - W) for the base's weights W and the learned W', in float32, saved in the number format of the base's own weights;
    for a LoRA that is W + scale (alpha / r) B A. `scale` is by default the adapter's own; 0 keeps the base, weight for weight.

    `texts` (a few real ones; some made-up ones are added) are embedded by the base, by the adapter on the base, by the merged weights and
    by the directory loaded afresh: merged and reloaded must equal the adapter (1e-5 for float32; 1e-2 cosine distance for a
    half-precision directory) and, at any scale but 0, differ from the base.

    An adapter of queries alone gives a query encoder; `homing.json` in its directory names the base that its documents keep.

    Raises ModelError for an adapter of another base, SettingError for a scale outside of 0 to 1, MergeError where the verification
    fails; `out` is then left as it was.
    """
    out = Path(out)
    scale = adapter.scale if scale is None else scale
    _same_conventions(base, adapter)
    probes = [*PROBES, *texts]
    stored = _stored_dtype(base.path)
    work = Model(base.source, device=base.device, dtype=torch.float32, **_keywords(base))
    before = _embed(work, probes)
    tuning = adapters.load(work, adapter, scale)
    wanted = _embed(work, probes)
    if not np.isfinite(wanted).all():
        raise MergeError("the adapter's embeddings are not finite", where=str(adapter.path), remedy="Train with a smaller --learning-rate.")
    if scale == 0:
        tuning.detach()
    else:
        tuning.merge()
    _demand_equal(wanted, _embed(work, probes), torch.float32, "the merged weights")
    if scale and float(np.abs(wanted - before).max()) <= 1e-6:
        raise MergeError(
            "the adapter changes nothing: merged, it would equal the base", where=str(adapter.path),
            remedy="Train longer or with a larger --learning-rate; the base itself is what there is to deploy.",
        )  # fmt: skip
    with replace_directory(out) as fresh:
        work.transformer[0].model.to(stored)
        _write(work, base, fresh, _origin(base, adapter.tuning, scale), adapter.side)
        reloaded = Model(fresh, device=base.device, dtype=torch.float32)
        if (reloaded.prompts, reloaded.pooling, reloaded.max_length) != (base.prompts, base.pooling, base.max_length):
            raise MergeError(
                "the written directory says other conventions than the base", where=str(out),
                got=f"{reloaded.prompts}, {reloaded.pooling}, {reloaded.max_length}",
                expected=f"{base.prompts}, {base.pooling}, {base.max_length}",
            )  # fmt: skip
        _demand_equal(wanted, _embed(reloaded, probes), stored, "the written directory, loaded afresh,")
        del reloaded
        if adapter.side == "queries":
            write_document_model(fresh, base)
    return open_model(out, documents=base, device=base.device, dtype=base.dtype, name=f"{base.name}, tuned")


def _same_conventions(base: Model, adapter: Adapter) -> None:
    said = adapter.conventions
    now = {"prompts": dict(base.prompts), "pooling": base.pooling, "max_length": base.max_length}
    for name, remedy in (
        ("prompts", "Give --query-prompt, --document-prompt or --instruction as in training."),
        ("pooling", "Give --pooling as in training."),
        ("max_length", "Give --max-length as in training."),
    ):
        if name in said and said[name] != now[name]:
            raise ModelError(
                f"the adapter was trained under another {name.replace('_', ' ')}", where=str(adapter.path),
                got=repr(now[name]), expected=repr(said[name]), remedy=remedy,
            )  # fmt: skip


def _keywords(base: Model) -> dict[str, Any]:
    said = (base.path / "modules.json").is_file()
    return {
        "query_prompt": base.prompts["query"],
        "document_prompt": base.prompts["document"],
        "pooling": None if said else base.pooling,
        "max_length": base.max_length,
    }


def _embed(model: Model, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate([model.encode(texts, "query"), model.encode(texts, "document")])


def _demand_equal(wanted: NDArray[np.float32], got: NDArray[np.float32], dtype: torch.dtype, what: str) -> None:
    if dtype == torch.float32:
        distance, allowed = float(np.abs(wanted - got).max()), 1e-5
    else:
        norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(got, axis=1)
        distance, allowed = float((1.0 - (wanted * got).sum(axis=1) / norms).max()), 1e-2
    if not distance <= allowed:
        raise MergeError(
            f"{what} do not reproduce the adapter's embeddings", got=f"a distance of {distance:.2e}", expected=f"at most {allowed:g}",
            remedy="Nothing was written. Please report this with the model's name and the versions in manifest.json.",
        )  # fmt: skip


def _stored_dtype(path: Path) -> torch.dtype:
    """The number format that the directory's weights are in."""
    from safetensors import safe_open

    for file in sorted(path.rglob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 (a safetensors handle is no dict)
                kind = handle.get_slice(name).get_dtype()
                if kind in ("F32", "BF16", "F16"):
                    return {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}[kind]
    return torch.float32


def _write(model: Model, base: Model, directory: Path, origin: str, side: str) -> None:
    """sentence-transformers' layout, in the long form that older readers (TEI, vLLM) parse too."""
    transformer = model.transformer
    transformer.prompts = {**transformer.prompts, **model.prompts}
    transformer.save_pretrained(str(directory), create_model_card=False)
    modules = json.loads((directory / "modules.json").read_text(encoding="utf-8"))
    for module in modules:
        name = module["type"].rsplit(".", 1)[-1]
        if module["type"].startswith("sentence_transformers."):
            module["type"] = f"sentence_transformers.models.{name}"
        if name == "Pooling":
            pooling = directory / module["path"] / "config.json"
            modes = model.pooling.split("+")
            write_json(
                pooling,
                {
                    "word_embedding_dimension": int(transformer[0].get_embedding_dimension()),
                    **{flag: mode in modes for mode, flag in POOLING_FLAGS.items()},
                    "include_prompt": True,
                },
            )
        elif name == "Normalize":
            (directory / module["path"]).mkdir(exist_ok=True)
    write_json(directory / "modules.json", modules)
    body = directory / modules[0]["path"]
    own = base.path / modules[0]["path"] if (base.path / "modules.json").is_file() else base.path
    lower = False
    if (own / "sentence_bert_config.json").is_file():
        lower = bool(json.loads((own / "sentence_bert_config.json").read_text(encoding="utf-8")).get("do_lower_case", False))
    write_json(body / "sentence_bert_config.json", {"max_seq_length": model.max_length, "do_lower_case": lower})
    for name in ("config.json", *TOKENIZER_FILES):
        if (own / name).is_file():
            shutil.copyfile(own / name, body / name)
    (directory / "README.md").write_text(_card(model, base, origin, side), encoding="utf-8")


def _origin(base: Model, tuning: str, scale: float) -> str:
    """Where the weights come from, in a sentence."""
    if scale == 0:
        return f"The weights of `{base.source}` as they are: nothing of what was learned is kept (scale 0)."
    share = "" if scale == 1 else f" Of the change that was learned, a share of {scale:g} is kept."
    if tuning == "full":
        return f"`{base.source}`, all weights trained.{share}"
    name = {"lora": "A LoRA", "rslora": "A rank-stabilised LoRA", "dora": "A DoRA"}[tuning]
    return f"{name} adapter merged into `{base.source}`.{share}"


def _card(model: Model, base: Model, origin: str, side: str) -> str:
    use = """    model = SentenceTransformer("path/of/this/directory")
    queries, documents = model.encode_query(["..."]), model.encode_document(["..."])

An index made with the base does not fit this model: encode the corpus again."""
    if side == "queries":
        use = f"""    queries = SentenceTransformer("path/of/this/directory").encode_query(["..."])
    documents = SentenceTransformer("{base.source}").encode_document(["..."])

It encodes queries alone. Documents are encoded by `{base.source}` as ever: an index made with it stays as it is."""
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {base.source}
tags: [sentence-transformers, feature-extraction, homing]
---
# {base.name}, tuned with Homing

{origin} Served as it stands by sentence-transformers, vLLM and text-embeddings-inference.

| | |
|---|---|
| put before each query | `{json.dumps(model.prompts["query"], ensure_ascii=False)}` |
| put before each document | `{json.dumps(model.prompts["document"], ensure_ascii=False)}` |
| pooling | {model.pooling} |
| tokens a text | {model.max_length} |
| dimension | {model.dimension} |
| similarity | {model.similarity} |

    from sentence_transformers import SentenceTransformer

{use}
"""
