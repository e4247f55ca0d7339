"""What text-embeddings-inference reads of a model's directory, as rules that a directory can be held against.

After its router (config.json, 1_Pooling/config.json, sentence_bert_config.json, config_sentence_transformers.json) and its candle backend
(weights, model types) in versions 1.2 to 1.8: every rule is the stricter one of those.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODELS = (
    "bert", "camembert", "roberta", "xlm-roberta", "distilbert", "deberta-v2", "mpnet", "modernbert", "nomic_bert", "new", "gte", "mistral",
    "qwen2", "qwen3", "gemma3_text",
)  # fmt: skip
POSITIVE: dict[str, tuple[str, ...]] = {
    "qwen3": (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "max_position_embeddings", "rms_norm_eps", "rope_theta",
    ),
    "bert": ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings"),
}  # fmt: skip
POOLINGS = ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_lasttoken")


def faults(directory: Path) -> list[str]:
    """Where the directory breaks a rule of the reader, in words; empty where it can be served."""
    found: list[str] = []
    config = _read(directory / "config.json", found)
    if isinstance(config, dict):
        found += _config(config)
    if not (directory / "tokenizer.json").is_file():
        found.append("tokenizer.json is missing: only fast tokenizers are read")
    pooling = _read(directory / "1_Pooling" / "config.json", found)
    if isinstance(pooling, dict):
        for name in POOLINGS[:2]:
            if not isinstance(pooling.get(name), bool):
                found.append(f"1_Pooling/config.json: {name} must be true or false")
        on = [name for name, value in pooling.items() if name.startswith("pooling_mode_") and value is True]
        if len(on) != 1 or on[0] not in POOLINGS:
            found.append(f"1_Pooling/config.json: one of {', '.join(POOLINGS)} must be on, and nothing else; {on} are")
    length = _read(directory / "sentence_bert_config.json", found)
    if isinstance(length, dict) and not _natural(length.get("max_seq_length")):
        found.append("sentence_bert_config.json: max_seq_length must be a whole number above 0")
    settings = _read(directory / "config_sentence_transformers.json", found) or {}
    if settings.get("truncate_dim") is not None:
        found.append("config_sentence_transformers.json: truncate_dim is passed over")
    prompts = settings.get("prompts")
    if prompts is not None and not (isinstance(prompts, dict) and all(isinstance(text, str) for text in prompts.values())):
        found.append("config_sentence_transformers.json: prompts must be texts by their names")
    return found + _weights(directory) + _modules(directory)


def _config(config: dict[str, Any]) -> list[str]:
    found = []
    kind = config.get("model_type")
    architectures = config.get("architectures")
    if not (isinstance(architectures, list) and architectures and all(isinstance(each, str) for each in architectures)):
        found.append("config.json: architectures must be a list of names")
    elif any(each.endswith("Classification") for each in architectures):
        found.append("config.json: architectures name a classifier, which gives no embeddings")
    if kind not in MODELS:
        found.append(f"config.json: model_type {kind!r} is not served")
    if not _natural(config.get("max_position_embeddings", config.get("n_positions"))):
        found.append("config.json: max_position_embeddings must be a whole number above 0")
    if "pad_token_id" in config and not (isinstance(config["pad_token_id"], int) and config["pad_token_id"] >= 0):
        found.append("config.json: pad_token_id must be a token, or not be there")
    for name in POSITIVE.get(str(kind), ()):
        value = config.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            found.append(f"config.json: {name} must be a number above 0")
    if kind == "qwen3":
        if config.get("use_sliding_window") is not False:
            found.append("config.json: use_sliding_window must be false")
        if not isinstance(config.get("eos_token_id"), int):
            found.append("config.json: eos_token_id must be one token")
    return found


def _weights(directory: Path) -> list[str]:
    if (directory / "model.safetensors").is_file():
        return []
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return ["neither model.safetensors nor its index is there"]
    placed = json.loads(index.read_text(encoding="utf-8")).get("weight_map")
    if not isinstance(placed, dict):
        return ["model.safetensors.index.json: there is no weight_map"]
    return [f"{name} is missing" for name in dict.fromkeys(placed.values()) if not (directory / str(name)).is_file()]


def _modules(directory: Path) -> list[str]:
    """Modules that the reader passes over in silence: what they do would be missing from its embeddings."""
    listed = _read(directory / "modules.json", []) or []
    known = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": None, "Dense": None}
    found = []
    for each in listed:
        name = str(each["type"]).rsplit(".", 1)[-1]
        if name not in known:
            found.append(f"modules.json: {name} is passed over")
        elif known[name] is not None and each["path"] != known[name]:
            found.append(f"modules.json: {name} is looked for in {known[name]!r}, not in {each['path']!r}")
    return found


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _read(path: Path, found: list[str]) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found.append(f"{path.name} of {path.parent.name}: {type(error).__name__}")
        return None
