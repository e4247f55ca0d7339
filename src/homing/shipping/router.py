"""Queries and documents of two models in one directory: sentence-transformers' Router, which takes the side that a call names.

Only sentence-transformers reads it, and the documents' weights are written a second time: it serves where one process encodes both.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from homing import conventions
from homing.encoders.directory import weights_digest
from homing.encoders.safety import INDEX, body, modules, read_object, shards
from homing.errors import ModelError
from homing.manifest import demand_disk, replace_directory, write_json
from homing.shipping.layout import BODY_FILES, LENGTH, SETTINGS

ROUTER = "router_config.json"


def write_router(queries: Path, documents: Path, out: Path) -> Path:
    """Write the Router of a directory that encodes queries alone and of the model that its documents keep; returns `out`.

    `encode_query` and `encode_document` then give what `homing.open_model(queries)` gives. Raises ModelError where `queries` names no
    documents' model, or `documents` is not the one that it names.
    """
    said = conventions.read(queries).get("documents")
    if said is None:
        raise ModelError("the directory encodes both sides itself", where=str(queries), remedy="A router is for queries-only training.")
    if weights_digest(documents) != said["digest"]:
        raise ModelError(
            "the documents' model is not the one that the query encoder was trained beside", where=str(documents),
            got=f"digest {weights_digest(documents)}", expected=said["digest"], remedy=f"Give {said['model']} as it was then.",
        )  # fmt: skip
    sources = [body(source) / name for source in (queries, documents) for name in shards(body(source))]
    demand_disk(out, sum(file.stat().st_size for file in sources))
    with replace_directory(out, ROUTER) as fresh:
        structure: dict[str, list[str]] = {}
        types: dict[str, str] = {}
        settings: dict[str, dict[str, Any]] = {}
        for side, source in (("query", queries), ("document", documents)):
            structure[side] = []
            for index, each in enumerate(modules(source)):
                name = f"{side}_{index}_{str(each['type']).rsplit('.', 1)[-1]}"
                types[name] = str(each["type"])
                structure[side].append(name)
                _copy(source / str(each["path"]), fresh / name, whole=index > 0)
            settings[side] = read_object(source / SETTINGS)
            length = fresh / structure[side][0] / LENGTH
            known = read_object(length)
            write_json(length, {"do_lower_case": False, **known, "max_seq_length": _length(said, known, side)})
        own = settings["query"]
        write_json(
            fresh / ROUTER,
            {"types": types, "structure": structure, "parameters": {"default_route": "document", "allow_empty_key": True}},
        )
        write_json(fresh / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}])
        write_json(fresh / SETTINGS, {**own, "prompts": {**settings["document"].get("prompts", {}), **own["prompts"]}})
    return out


def _length(said: dict[str, Any], known: dict[str, Any], side: str) -> Any:
    return said["max_length"] if side == "document" else known["max_seq_length"]


def _copy(source: Path, target: Path, *, whole: bool) -> None:
    """A module's files: of a transformer those that a reader needs, its weights among them."""
    target.mkdir(parents=True)
    names = [*BODY_FILES, LENGTH]
    if not whole:
        names += [*shards(source), INDEX]
    else:
        names = [file.name for file in source.iterdir() if file.suffix in (".json", ".safetensors")] if source.is_dir() else []
    for name in names:
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
