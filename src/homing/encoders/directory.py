"""What a model's directory says without being loaded: where it is, its prompts, a digest of its weights. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from homing.conventions import FILE
from homing.digests import remembered, update
from homing.encoders.adapter import ADAPTERS
from homing.encoders.safety import OTHER_WEIGHTS, PICKLES, modules
from homing.errors import ModelError, first_line
from homing.protocols import Kind
from homing.settings import Encoding

DEFAULT_MAX_LENGTH = 1024  # tokens a text, where nobody says more and the model has no fewer
PROMPT_NAMES: dict[Kind, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}
NOT_WEIGHTS_OR_CONVENTIONS = {"README.md", "DEPLOY.md", "manifest.json", ".gitattributes", FILE}


def prompts(own: Mapping[str, str], default: str | None, encoding: Encoding) -> dict[Kind, str]:
    """The prompt of each kind: as `encoding` says, else as the directory's own prompts do (`default` names one of them), else empty."""
    fallback = own.get(default or "") or ""
    said: dict[Kind, str] = {kind: next((own[name] for name in names if own.get(name)), fallback) for kind, names in PROMPT_NAMES.items()}
    if encoding.instruction is not None:
        said["query"] = f"Instruct: {encoding.instruction}\nQuery:"
    if encoding.query_prompt is not None:
        said["query"] = encoding.query_prompt
    if encoding.document_prompt is not None:
        said["document"] = encoding.document_prompt
    return said


def weights_digest(path: Path) -> str:
    """A digest of what decides an embedding: the directory's own files, and those of the directories that its modules are in.

    What else lies below it, as a run that was started there or an ONNX copy, is none of the model's.
    """
    try:
        within = {Path(each["path"]).parts[:1] for each in modules(path)}
    except ModelError:  # a modules.json that is damaged has a digest of its own
        within = set()
    names = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file() and file.name not in NOT_WEIGHTS_OR_CONVENTIONS]
    names = [name for name in names if len(name.parts) == 1 or name.parts[:1] in within]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]

    def digest() -> str:
        state = sha256()
        for name in names:
            state.update(f"{name.as_posix()}\0{(path / name).stat().st_size}\0".encode())
            update(state, path / name)
        return state.hexdigest()[:32]

    return remembered("weights", [path / name for name in names], digest)


def directory_of(path: str | Path) -> Path:
    """The model's directory: as given, or the hub's snapshot under a name like `Qwen/Qwen3-Embedding-0.6B`.

    Raises ModelError where there is none, the hub cannot be reached, or what is there is no model.
    """
    directory = Path(path).expanduser()
    if directory.is_file():
        raise ModelError("a file is no model", where=str(path), remedy="Give a model's directory, or a hub name like OWNER/NAME.")
    if not directory.is_dir():
        name = str(path)
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise ModelError("there is no such model directory", where=name, remedy="Give a directory, or a hub name like OWNER/NAME.")
        from huggingface_hub import snapshot_download

        try:
            directory = Path(snapshot_download(name, ignore_patterns=[*OTHER_WEIGHTS, *PICKLES, "onnx/*", "openvino/*"]))
        except Exception as error:
            raise ModelError(
                "the model is neither a directory here nor reachable on the hub",
                where=name,
                got=f"{type(error).__name__}: {first_line(error)}",
                remedy="Give the path of a model directory, or set HF_ENDPOINT to a mirror that can be reached.",
            ) from None
    if not (directory / "config.json").is_file() and not (directory / "modules.json").is_file():
        remedy = "Give the directory that holds modules.json."
        if any((directory / mark).is_file() for mark in ADAPTERS):
            remedy = "This is an adapter: merge it into its base first (homing merge)."
        elif (directory / "model" / "modules.json").is_file():
            remedy = f"This is a run: give its model, {directory / 'model'}."
        raise ModelError("the directory holds no model", where=str(directory), expected="config.json and modules.json", remedy=remedy)
    return directory.resolve()
