"""What a model's directory may ask of this machine: its weights are data and no program, its paths stay inside it, its code stays unrun.

A pickle (pytorch_model.bin, *.pt, *.pth, *.ckpt) can run any code while it is loaded, so that none is ever loaded; safetensors hold
numbers alone. Code that comes with a model runs only where the user says so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from homing.errors import ModelError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
OTHER_WEIGHTS = ("*.gguf", "*.onnx", "*.h5", "*.msgpack")  # made from a model's own, for other programs
NOT_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
NEEDED = {"Pooling": ("config.json",), "Dense": ("config.json", WEIGHTS)}
OF_SAFETENSORS = "; from the hub, a revision that has safetensors: pickles (pytorch_model.bin) are not fetched"
OWN_MODULES = "sentence_transformers."
_POINTER = b"version https://git-lfs"
_NUMBERS = ("F64", "F32", "BF16", "F16")  # formats of weights that can be trained and merged into, as safetensors names them
_LONGEST_HEAD = 100_000_000  # bytes, safetensors' own limit


def read_json(path: Path) -> Any:
    """The JSON of a file of a model's directory. Raises ModelError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            "the file cannot be read as JSON", where=str(path), got=str(error)[:200], remedy="Download the model again."
        ) from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file of a model's directory, empty where there is no such file or no object in it. Raises as `read_json`."""
    said = read_json(path) if path.is_file() else None
    return said if isinstance(said, dict) else {}


def architectures(directory: Path) -> list[str]:
    """The classes that the configuration says the weights are of. Raises as `read_json`."""
    return [str(name) for name in read_object(directory / "config.json").get("architectures") or ()]


def inside(directory: Path, name: object, where: Path) -> Path:
    """The path that `name`, said by the file `where`, means in the directory. Raises ModelError where it would leave the directory.

    The name alone is looked at: a hub's cache keeps its files as links to elsewhere, and those are meant.
    """
    if (
        not isinstance(name, str)
        or ".." in PurePosixPath(name).parts + PureWindowsPath(name).parts
        or PurePosixPath(name).is_absolute()
        or PureWindowsPath(name).anchor
    ):
        raise ModelError(
            "a path leaves the model's directory", where=str(where), got=repr(name), expected="a path inside it",
            remedy="Don't use this model: no sound one says that.",
        )  # fmt: skip
    return directory / name


def modules(directory: Path) -> list[dict[str, Any]]:
    """What modules.json says, its paths looked at; for a directory without one, a transformer at its root. Raises ModelError."""
    file = directory / "modules.json"
    if not file.is_file():
        return [{"idx": 0, "name": "0", "path": "", "type": f"{OWN_MODULES}models.Transformer"}]
    said = read_json(file)
    if not isinstance(said, list) or not said or not all(isinstance(each, dict) and {"path", "type"} <= each.keys() for each in said):
        raise ModelError("modules.json is no list of modules", where=str(file), expected="a path and a type each")
    for each in said:
        inside(directory, each["path"], file)
    return said


def body(directory: Path) -> Path:
    """Where the transformer's own files are: config.json, tokenizer, weights."""
    return directory / str(modules(directory)[0]["path"])


def shards(directory: Path) -> list[str]:
    """The names of the files that hold the weights of a body, as its index orders them. Raises ModelError for pickles, or for none."""
    if (directory / WEIGHTS).is_file():
        return [WEIGHTS]
    if not (directory / INDEX).is_file():
        _refuse_pickles(directory)
        if (directory / "adapter_model.safetensors").is_file():
            raise ModelError(
                "the directory holds an adapter, and not the weights that it is of", where=str(directory), got="adapter_model.safetensors",
                expected=WEIGHTS, remedy="Merge it: PeftModel.from_pretrained(BASE, DIRECTORY).merge_and_unload(), saved in their place.",
            )  # fmt: skip
        others = sorted(file.name for pattern in OTHER_WEIGHTS for file in directory.rglob(pattern))
        raise ModelError(
            f"the directory holds no weights{' that are read here' if others else ''}", where=str(directory), got=", ".join(others[:3]),
            expected=WEIGHTS,
            remedy="Take the model's original directory, which these were made from." if others else
            f"Download the model again{OF_SAFETENSORS}.",
        )  # fmt: skip
    index = read_json(directory / INDEX)
    placed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise ModelError("the index of the weights names none", where=str(directory / INDEX), expected="weight_map")
    names = list(dict.fromkeys(placed.values()))
    for name in names:
        file = inside(directory, name, directory / INDEX)
        if file.suffix != ".safetensors":
            raise ModelError("the index names a file that is not safetensors", where=str(directory / INDEX), got=str(name))
        if not file.is_file():
            raise ModelError(
                "a file of the weights is missing", where=str(directory), expected=str(name), remedy="Download the model again."
            )
    return [str(name) for name in names]


def no_transformer(directory: Path, got: str) -> ModelError:
    """The error for a pipeline that begins with something else."""
    return ModelError(
        "the model's first module is not sentence-transformers' Transformer", where=str(directory), got=got,
        remedy="Give a model of one transformer for both sides; of a Router that Homing wrote, the directory that it was made of.",
    )  # fmt: skip


def refuse_unsafe(directory: Path, *, trust_remote_code: bool = False) -> None:
    """Look at a model's directory before anything in it is loaded.

    Raises ModelError for weights that are pickles or quantised, for files that are missing or were never fetched, for a path that leaves
    the directory, and, unless `trust_remote_code`, for code that comes with the model; with it the code's repository is named on the
    standard error.
    """
    listed = modules(directory)
    first = str(listed[0]["type"])
    if first.startswith(OWN_MODULES) and not first.endswith(".Transformer"):
        raise no_transformer(directory, first.rsplit(".", 1)[-1])
    _refuse_pointers(body(directory))
    _refuse_quantised(body(directory))
    if first.endswith("Transformer"):
        for name in shards(body(directory)):
            _refuse_narrow(body(directory) / name)
    for each in listed[1:]:
        own = directory / str(each["path"])
        needed = NEEDED.get(str(each["type"]).rsplit(".", 1)[-1], ())
        if own != directory and own.is_dir() and not any(own.glob("*.safetensors")):
            _refuse_pickles(own)
        for name in needed:
            if not (own / name).is_file():
                raise ModelError(
                    "a file of the model is missing", where=str(directory), expected=f"{each['path']}/{name}",
                    remedy=f"Download the model again{OF_SAFETENSORS if name == WEIGHTS else ''}.",
                )  # fmt: skip
    foreign = dict.fromkeys(_foreign(directory, listed))
    if not foreign:
        return
    named = ", ".join(foreign)
    if not trust_remote_code:
        raise ModelError(
            "the model brings code of its own", where=str(directory), got=named,
            remedy="Read that code. If you trust it, give --trust-remote-code (trust_remote_code=True): it then runs as you."
            + _without_its_code(directory),
        )  # fmt: skip
    print(f"warning: running code that comes with the model: {named}", file=sys.stderr)


def _without_its_code(directory: Path) -> str:
    """What else there is to do where transformers has code for this kind of model."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    said = read_object(body(directory) / "config.json")
    if not said.get("auto_map") or said.get("model_type") not in MODEL_MAPPING_NAMES:
        return ""
    return f" Or take auto_map out of config.json in a copy: transformers has {said['model_type']} itself."


def _foreign(directory: Path, listed: list[dict[str, Any]]) -> list[str]:
    """Whose code the directory asks for: the repositories, or files of the directory itself."""
    found = [f"{directory} (module {each['type']})" for each in listed if not str(each["type"]).startswith(OWN_MODULES)]
    files = [body(directory) / name for name in ("config.json", "tokenizer_config.json", "processor_config.json")]
    for file in files:
        asked = read_object(file).get("auto_map")
        classes = asked.values() if isinstance(asked, dict) else [asked] if asked else []
        for each in (name for names in classes for name in (names if isinstance(names, list) else [names]) if name):
            repository, _, name = str(each).rpartition("--")
            found.append(f"{repository} ({name})" if repository else f"{directory} ({name})")
    return found


def _refuse_pointers(directory: Path) -> None:
    for file in sorted((*directory.glob("*.safetensors"), *directory.glob("*.json"))):
        with file.open("rb") as handle:
            if handle.read(len(_POINTER)) == _POINTER:
                raise ModelError(
                    "the file is git-lfs's pointer to what was not fetched", where=str(file),
                    remedy="Fetch it: git lfs pull in that directory, or download the model with hf download.",
                )  # fmt: skip


def _refuse_quantised(directory: Path) -> None:
    how = read_object(directory / "config.json").get("quantization_config")
    if how:
        raise ModelError(
            "the weights are quantised", where=str(directory / "config.json"),
            got=str(how.get("quant_method", "quantization_config")) if isinstance(how, dict) else "quantization_config",
            expected="weights in float32, bfloat16 or float16",
            remedy="Take the model that it was quantised from: what training adds to quantised weights cannot be merged into them exactly.",
        )  # fmt: skip


def _refuse_narrow(file: Path) -> None:
    """Raise ModelError for weights in integers or in 8 bits that no configuration tells of; what is read is the file's head alone."""
    with file.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        try:
            head = json.loads(handle.read(size)) if size <= _LONGEST_HEAD else {}
        except ValueError:
            return  # a broken file: loading it says how
    for name, said in head.items():
        if name.endswith("weight") and said["dtype"] not in _NUMBERS:
            raise ModelError(
                "the weights are quantised", where=f"{file}: {name}", got=said["dtype"], expected=", ".join(_NUMBERS),
                remedy="Take the model that it was quantised from: these numbers mean nothing without their scales.",
            )  # fmt: skip


def _refuse_pickles(directory: Path) -> None:
    pickles = sorted(file.name for pattern in PICKLES for file in directory.glob(pattern) if file.name not in NOT_WEIGHTS)
    if pickles:
        raise ModelError(
            "the weights are a pickle, which can run any code when it is loaded", where=str(directory), got=", ".join(pickles[:3]),
            expected=WEIGHTS,
            remedy="Take a revision of the model with safetensors (most have one on the hub), or convert it where you trust its source.",
        )  # fmt: skip
