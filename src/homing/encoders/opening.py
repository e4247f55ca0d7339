"""One door to every encoder: a text says where its embeddings come from.

    models/qwen3, Qwen/Qwen3-Embedding-0.6B      a directory, or a hub name
    runs/mine/adapter                            an adapter on its base, not merged
    http://127.0.0.1:8000/v1#MODEL               an OpenAI-compatible server; without #MODEL the only one that it has
    https://host/v1?key=NAME&price=0.02#MODEL    NAME: the environment variable of the key; price of a million tokens
    vllm:models/qwen3                            vLLM in this process
    ...@256                                      the first 256 numbers of any of these

An address takes `key`, `price`, `dimensions` (sent to the server), `query_prompt` and `document_prompt`, coded as addresses code them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from homing.encoders.adapter import ADAPTERS
from homing.encoders.endpoint import Endpoint, of_each_kind, to_stderr
from homing.encoders.kept import Kept
from homing.encoders.safety import read_object
from homing.encoders.truncated import Truncated
from homing.errors import ModelError, SettingError
from homing.progress import Say
from homing.protocols import Encoder

if TYPE_CHECKING:
    from homing.encoders.model import Model
    from homing.encoders.pair import Pair

CUT = re.compile(r"(.+)@(\d+)")
OF_AN_ADDRESS = ("key", "price", "dimensions", "query_prompt", "document_prompt")


def open_encoder(spec: str | Path, *, name: str | None = None, keep: bool = True, say: Say = to_stderr, **encoding: Any) -> Encoder:
    """The encoder that `spec` names, its embeddings kept on disk (`Kept`) unless `keep` is false.

    `encoding`: the keywords of `Encoding`, and `device` and `dtype` for a local model. Length and pooling are a server's own. Raises
    SettingError for a spec that says what cannot be, and the errors of `Model`, `Endpoint` and `VLLM`.
    """
    (encoder,) = open_encoders([spec], names=[name] if name else None, keep=keep, say=say, **encoding)
    return encoder


def open_encoders(
    specs: Sequence[str | Path], *, names: Sequence[str] | None = None, keep: bool = True, say: Say = to_stderr,
    **encoding: Any,
) -> list[Encoder]:  # fmt: skip
    """The encoders that these specs name, each under a name of its own; one that is asked for at several lengths is opened once.

    Raises SettingError for a spec that is given twice, and what `open_encoder` raises.
    """
    whole = [str(spec) for spec in specs]
    if len(set(whole)) < len(whole):
        raise SettingError("one model is given twice", got=", ".join(map(_shown, whole)), remedy="Name each model once.")
    opened: dict[str, Encoder] = {}
    found: list[Encoder] = []
    for spec, name in zip(whole, names or _names(whole), strict=True):
        place, dimension = _cut(spec)
        if place not in opened:
            encoder = _open(place, name if dimension is None else None, say, encoding)
            opened[place] = Kept(encoder, say=say) if keep else encoder
        found.append(opened[place] if dimension is None else Truncated(opened[place], dimension, name))
    return found


def is_address(spec: str | Path) -> bool:
    """Whether this names a server."""
    return urlsplit(str(spec)).scheme in ("http", "https")


def _cut(spec: str) -> tuple[str, int | None]:
    match = CUT.fullmatch(spec)
    return (spec, None) if match is None or Path(spec).exists() else (match[1], int(match[2]))


def _open(place: str, name: str | None, say: Say, encoding: dict[str, Any]) -> Encoder:
    if is_address(place):
        return open_endpoint(place, name, say, **encoding)
    if place.startswith("vllm:"):
        from homing.encoders.vllm import VLLM

        said = {key: encoding.get(key) for key in ("query_prompt", "document_prompt", "instruction", "max_length")}
        return VLLM(place.removeprefix("vllm:"), name=name, **said)
    return open_local(place, name=name, **encoding)


def open_local(place: str | Path, *, name: str | None = None, **encoding: Any) -> Model | Pair:
    """The model of a directory or a hub name, or an adapter on its base, not merged; a pair where queries alone were trained.

    Raises what `open_model` and `open_adapter` raise.
    """
    from homing.encoders.pair import open_model

    path = Path(place).expanduser()
    if any((path / file).is_file() for file in ADAPTERS) and not (path / "modules.json").is_file():
        return open_adapter(path, name=name, **encoding)
    return open_model(place, name=name, **encoding)


def open_endpoint(place: str, name: str | None = None, say: Say = to_stderr, **encoding: Any) -> Endpoint:
    """The server at an address, for who needs no encoder but a server. Raises SettingError and EndpointError."""
    if not is_address(place):
        raise SettingError("this is no address", where=place, expected="like http://127.0.0.1:8000/v1, or with #MODEL behind it")
    address = urlsplit(place)
    said: dict[str, Any] = dict(parse_qsl(address.query, keep_blank_values=True))
    unknown = sorted(set(said) - set(OF_AN_ADDRESS))
    if unknown:
        raise SettingError(
            "the address says what is not known", where=_shown(place), got=", ".join(unknown), expected=", ".join(OF_AN_ADDRESS),
            remedy="A key is given by the name of its environment variable: ?key=NAME.",
        )  # fmt: skip
    for option, kind in (("price", float), ("dimensions", int)):
        try:
            said |= {option: kind(said[option])} if option in said else {}
        except ValueError:
            raise SettingError(f"{option} is no number", where=_shown(place), got=said[option], expected="a number") from None
    given = {key: encoding.get(key) for key in ("query_prompt", "document_prompt", "instruction") if encoding.get(key) is not None}
    if "query_prompt" in said:
        given.pop("instruction", None)
    url = address._replace(query="", fragment="").geturl()
    return Endpoint(url, address.fragment or None, name=name, say=say, **{**given, **said})


def open_sides(queries: str, documents: str | None = None) -> tuple[Endpoint, Endpoint | None]:
    """The server that embeds queries, and the one that embeds documents where that is another.

    One address is both where homing serve has a query encoder and its base behind it. Raises as `open_endpoint` does.
    """
    if documents is None and is_address(queries):
        address, _, name = queries.partition("#")
        each = of_each_kind(open_endpoint(f"{address}#any").client.models())
        if each and name in ("", each["query"].removesuffix(":query")):
            queries, documents = f"{address}#{each['query']}", f"{address}#{each['document']}"
    return open_endpoint(queries), None if documents is None else open_endpoint(documents)


def open_adapter(path: str | Path, *, base: str | Path | None = None, name: str | None = None, **encoding: Any) -> Model | Pair:
    """A saved adapter on its base, not merged: under the conventions that it was trained with, unless others are given.

    `base`: by default the one that the adapter names. Raises ModelError where it names none, or for another than it was trained on.
    """
    from homing.encoders.adapter import Adapter
    from homing.encoders.directory import directory_of
    from homing.encoders.model import Model
    from homing.encoders.pair import Pair
    from homing.encoders.tuning import load

    trained = Adapter(Path(path))
    said = trained.conventions
    source = str(base or said.get("base") or _base_of_peft(trained.path))
    own: dict[str, Any] = {"max_length": said.get("max_length"), "document_prompt": said.get("prompts", {}).get("document")}
    if encoding.get("instruction") is None:
        own["query_prompt"] = said.get("prompts", {}).get("query")
    try:
        directory = directory_of(source)
    except ModelError as error:
        if base is not None:
            raise
        raise ModelError(
            "the adapter's base is not where it was at the training", where=str(trained.path), got=source,
            remedy=f"Put it there, or merge: homing merge {trained.path} --model BASE --out model.",
        ) from error  # fmt: skip
    if not (directory / "modules.json").is_file():
        own["pooling"] = said.get("pooling")
    keywords = {**own, **{key: value for key, value in encoding.items() if value is not None}}
    model = Model(source, name=name or trained.path.absolute().name, **keywords)
    load(model, trained)
    return Pair(model, Model(source, **keywords), name) if trained.side == "queries" else model


def _base_of_peft(path: Path) -> str:
    base = read_object(path / "adapter_config.json").get("base_model_name_or_path")
    if not base:
        raise ModelError(
            "the adapter doesn't say which base it belongs to",
            where=str(path),
            remedy=f"Merge it: homing merge {path} --model BASE --out model.",
        )
    return str(base)


def _names(specs: Sequence[str]) -> list[str]:
    """The shortest ends of the specs that tell them apart: of paths, or of the name behind an address."""
    parts = [_parts(spec) for spec in specs]
    depth = next((depth for depth in range(1, 1000) if len({part[-depth:] for part in parts}) == len(parts)), 1000)
    return ["/".join(part[-depth:]) for part in parts]


def _parts(spec: str) -> tuple[str, ...]:
    if is_address(spec):
        address, (_, dimension) = urlsplit(spec), _cut(spec)
        end = address.fragment or (f"{address.hostname}@{dimension}" if dimension else str(address.hostname))
        return (str(address.netloc), *end.split("/"))
    if spec.startswith("vllm:"):
        path = Path(spec.removeprefix("vllm:")).absolute().parts
        return (*path[:-1], f"{path[-1]} (vLLM)")
    return Path(spec).absolute().parts


def _shown(spec: str) -> str:
    """A spec for a message: an address without what stands behind its question mark, where somebody may have put a key."""
    return urlsplit(spec)._replace(query="").geturl() if is_address(spec) else spec
