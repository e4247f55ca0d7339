"""A model's directory but for its weights, in sentence-transformers' layout in the long form that older readers (TEI, vLLM) parse too.

The transformer lies at the directory's root, where those readers look, whatever its place in the base's directory.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from homing.conventions import FILE
from homing.encoders.model import Model
from homing.encoders.safety import body, modules, read_object
from homing.errors import ModelError
from homing.manifest import write_json

POOLING_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
BODY_FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
    "merges.txt", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "chat_template.jinja", "preprocessor_config.json",
)  # fmt: skip
CONVENTION_FILES = (
    "modules.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    FILE,
)
SETTINGS = "config_sentence_transformers.json"
LENGTH = "sentence_bert_config.json"


def write_layout(base: Model, directory: Path) -> None:
    """Write everything but the weights and the card: modules, pooling, prompts, length, tokenizer and configuration of `base`."""
    own = body(base.path)
    for name in BODY_FILES:
        if (own / name).is_file():
            shutil.copyfile(own / name, directory / name)
    write_json(directory / "config.json", _for_older_readers(read_object(directory / "config.json"), base))
    _name_padding(base, directory)
    if base.trust_remote_code:
        for file in own.glob("*.py"):
            shutil.copyfile(file, directory / file.name)
    write_json(directory / "modules.json", _modules(base, directory))
    lower = bool(getattr(base.transformer[0], "do_lower_case", False))
    write_json(directory / LENGTH, {"max_seq_length": base.max_length, "do_lower_case": lower})
    said = read_object(base.path / SETTINGS)
    write_json(
        directory / SETTINGS,
        {
            "default_prompt_name": None,
            **said,
            "prompts": {**base.transformer.prompts, **base.prompts},
            "similarity_fn_name": base.similarity,
        },
    )


def _for_older_readers(said: dict[str, Any], base: Model) -> dict[str, Any]:
    """A configuration with what transformers 5 no longer writes and others still look for.

    Without `rope_theta` they take another one, and give other embeddings without a word; a padding token of null is no number to them.
    """
    rope = said.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        scaled = {name: value for name, value in rope.items() if name != "rope_theta"}
        said = {"rope_theta": rope["rope_theta"], "rope_scaling": None if scaled == {"rope_type": "default"} else scaled, **said}
    unset = type(base.transformer[0].model.config)().pad_token_id is None
    return {name: value for name, value in said.items() if name != "pad_token_id" or value is not None or not unset}


def _name_padding(base: Model, directory: Path) -> None:
    """Name the padding token where the base's files name none: sentence-transformers encodes nothing without one."""
    file = directory / "tokenizer_config.json"
    if not any(read_object(each).get("pad_token") for each in (file, directory / "special_tokens_map.json")):
        write_json(file, {**read_object(file), "pad_token": str(base.transformer.tokenizer.pad_token)})


def _modules(base: Model, directory: Path) -> list[dict[str, Any]]:
    """What modules.json shall say; each module's own directory is written."""
    listed = modules(base.path)
    if not (base.path / "modules.json").is_file():
        listed = [*listed, {"type": "Pooling", "path": ""}, {"type": "Normalize", "path": ""}]
    found = []
    for index, each in enumerate(listed):
        kind = str(each["type"])
        name = kind.rsplit(".", 1)[-1]
        place = f"{index}_{name}" if index else ""
        if index:
            _copy_module(base.path / str(each["path"]) if each["path"] else None, directory / place)
            if name == "Pooling":
                write_json(directory / place / "config.json", pooling_config(base))
        own = kind.startswith("sentence_transformers.") or "." not in kind
        found.append({"idx": index, "name": str(index), "path": place, "type": f"sentence_transformers.models.{name}" if own else kind})
    return found


def pooling_config(model: Model) -> dict[str, Any]:
    """1_Pooling/config.json in its long form. Raises ModelError for a pooling that this form has no flag for."""
    modes = model.pooling.split("+")
    if unknown := set(modes) - POOLING_FLAGS.keys():
        raise ModelError(
            "the pooling cannot be written for other readers",
            where=str(model.path),
            got=sorted(unknown)[0],
            expected=", ".join(POOLING_FLAGS),
        )
    return {
        "word_embedding_dimension": int(model.transformer[0].get_embedding_dimension()),
        **{flag: mode in modes for mode, flag in POOLING_FLAGS.items()},
        "include_prompt": True,
    }


def _copy_module(source: Path | None, target: Path) -> None:
    """A module's own files; weights only as safetensors."""
    target.mkdir(parents=True)
    for file in source.iterdir() if source is not None and source.is_dir() else ():
        if file.is_file() and file.suffix in (".json", ".safetensors", ".txt"):
            shutil.copyfile(file, target / file.name)
