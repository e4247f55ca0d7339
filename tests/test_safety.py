"""What a model's directory may not do: bring a pickle, leave its directory, run its code; each a clear error before anything is loaded."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import Qwen3Model

from homing import Model
from homing.encoders.safety import inside, refuse_unsafe
from homing.errors import ModelError
from homing.manifest import write_json


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


class Trap:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "pytorch_model-00001-of-00002.bin"])
def test_weights_that_are_a_pickle_are_refused_and_not_loaded(model: Path, name: str, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    for device in ("cpu", "meta"):
        with pytest.raises(ModelError, match=r"a pickle, which can run any code.*\n.*safetensors"):
            Model(model, device=device)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_safetensors_is_left_alone(model: Path, tmp_path: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    (model / "training_args.bin").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    Model(model, device="cpu").encode(["a"])
    assert not (tmp_path / "ran").exists()


def test_a_download_that_is_not_whole_is_refused_in_words(model: Path) -> None:
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="download is complete"):
        Model(model, device="cpu")
    weights.write_bytes(whole)
    tokenizer = (model / "tokenizer.json").read_bytes()
    for file in (weights, model / "tokenizer.json"):
        kept = file.read_bytes()
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
        with pytest.raises(ModelError, match="git lfs pull"):
            Model(model, device="cpu")
        file.write_bytes(kept)
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        (model / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer"):
        Model(model, device="cpu")
    (model / "tokenizer.json").write_bytes(tokenizer)
    Model(model, device="cpu").encode(["a"])


def test_what_other_programs_made_of_a_model_is_refused_by_its_name(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    for method in ("bitsandbytes", "gptq"):
        write_json(model / "config.json", {**config, "quantization_config": {"quant_method": method, "bits": 8}})
        with pytest.raises(ModelError, match=f"quantised; got {method}.*\n.*quantised from"):
            Model(model, device="cpu")
    write_json(model / "config.json", config)
    weights, name = load_file(model / "model.safetensors"), "layers.0.mlp.up_proj.weight"
    for dtype, said in ((torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")):
        save_file({**weights, name: weights[name].to(dtype)}, model / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=rf"{name}: the weights are quantised; got {said}; expected F64, F32"):
            Model(model, device="cpu")
    save_file({**weights, "position_ids": torch.arange(8)[None]}, model / "model.safetensors", metadata={"format": "pt"})
    Model(model, device="cpu")
    (model / "model.safetensors").rename(model / "model-Q8_0.gguf")
    with pytest.raises(ModelError, match=r"no weights that are read here; got model-Q8_0.gguf.*\n.*original directory"):
        Model(model, device="cpu")


def test_a_module_without_its_configuration_is_named(model: Path) -> None:
    (model / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"a file of the model is missing; expected 1_Pooling/config.json.*\nDownload"):
        Model(model, device="cpu")


def test_weights_that_are_no_numbers_are_found_by_what_they_give(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"not finite; got 2 of 2 texts.*\n.*damaged"):
        Model(model, device="cpu").encode(["one", "two"])


def test_weights_that_transformers_would_make_up_are_refused(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    for changed in (
        {name: tensor for name, tensor in weights.items() if not name.startswith("layers.1.")},
        {f"somebody.{name}": tensor for name, tensor in weights.items()},
    ):
        save_file(changed, model / "model.safetensors", metadata={"format": "pt"})
        for device in ("cpu", "meta"):
            with pytest.raises(ModelError, match=r"made up at random; got \d+ missing: "):
                Model(model, device=device)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_whole_model_is_read_once(model: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    own = Qwen3Model.from_pretrained.__func__

    def counted(cls: type[Qwen3Model], *arguments: Any, **keywords: Any) -> Any:
        read.append(cls.__name__)
        return own(cls, *arguments, **keywords)

    monkeypatch.setattr(Qwen3Model, "from_pretrained", classmethod(counted))
    Model(model, device=device)
    assert read == ["Qwen3Model"]


def test_a_cross_encoder_is_no_embedding_model(model: Path) -> None:
    (model / "modules.json").unlink()
    said = json.loads((model / "config.json").read_text())
    write_json(model / "config.json", {**said, "architectures": ["Qwen3ForSequenceClassification"]})
    with pytest.raises(ModelError, match="cross-encoder"):
        Model(model, pooling="cls", device="cpu")


def test_a_dense_layer_that_is_a_pickle_is_refused(model: Path, tmp_path: Path) -> None:
    modules = json.loads((model / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    write_json(model / "modules.json", modules)
    (model / "2_Dense").mkdir()
    write_json(
        model / "2_Dense" / "config.json", {"in_features": 64, "out_features": 8, "bias": True, "activation_function": "torch.nn.Tanh"}
    )
    (model / "2_Dense" / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(ModelError, match="a pickle"):
        Model(model, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_no_pickle_is_fetched_and_what_is_missing_then_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that the hub has as a pickle alone ends before its gigabytes are there."""
    asked: list[str] = []

    def fetched(name: str, ignore_patterns: list[str]) -> str:
        asked.extend(ignore_patterns)
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    assert Model("somebody/model", device="meta").path == model
    assert {"*.bin", "*.pt", "*.ckpt", "*.onnx", "*.gguf"} <= set(asked)
    modules = json.loads((model / "modules.json").read_text())
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    write_json(model / "modules.json", [*modules, dense])
    (model / "3_Dense").mkdir()
    write_json(model / "3_Dense" / "config.json", {"in_features": 64, "out_features": 8})
    with pytest.raises(ModelError, match=r"missing; expected 3_Dense/model.safetensors.*\n.*pickles.*are not fetched"):
        Model("somebody/model", device="meta")
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no weights.*\n.*pickles.*are not fetched"):
        Model("somebody/model", device="meta")


def test_a_cross_encoder_that_is_a_pickle_is_refused(model: Path, tmp_path: Path) -> None:
    from homing.training import crossencoder

    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(ModelError, match="a pickle"):
        crossencoder._load(model, torch.device("cpu"), torch.float32)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "1_Pooling/../../x", "..\\x", "C:\\x", 7])
def test_a_module_outside_of_the_directory_is_refused(model: Path, path: object) -> None:
    modules = json.loads((model / "modules.json").read_text())
    modules[1]["path"] = path
    write_json(model / "modules.json", modules)
    with pytest.raises(ModelError, match="leaves the model's directory"):
        Model(model, device="cpu")


@pytest.mark.parametrize(
    ("file", "said"), [("../outside.safetensors", "leaves"), ("weights.bin", "not safetensors"), ("gone.safetensors", "missing")]
)
def test_an_index_that_points_elsewhere_is_refused(model: Path, file: str, said: str, tmp_path: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file(tensors, tmp_path / "outside.safetensors")
    (model / "model.safetensors").unlink()
    (model / "weights.bin").write_bytes(b"")
    write_json(model / "model.safetensors.index.json", {"metadata": {}, "weight_map": dict.fromkeys(tensors, file)})
    with pytest.raises(ModelError, match=said):
        Model(model, device="cpu")


@given(name=st.text(st.sampled_from("ab./\\:"), max_size=8))
def test_what_is_inside_stays_inside(name: str) -> None:
    root = Path("/models/one")
    try:
        path = inside(root, name, root)
    except ModelError:
        return
    assert root == path or root in path.parents
    assert ".." not in path.parts


@pytest.mark.parametrize(
    ("file", "said", "named"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling.Mine"}}, r"model \(modeling\.Mine\)"),
        ("config.json", {"auto_map": {"AutoModel": "somebody/code--modeling.Mine"}}, r"somebody/code \(modeling\.Mine\)"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["somebody/code--t.T", None]}}, r"somebody/code \(t\.T\)"),
    ],
)
def test_code_that_comes_with_a_model_is_refused_and_named(
    model: Path, file: str, said: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(model / file, {**json.loads((model / file).read_text()), **said})
    with pytest.raises(ModelError, match=rf"code of its own; got .*{named}.*\n.*--trust-remote-code") as told:
        Model(model, device="cpu")
    assert ("transformers has qwen3 itself" in str(told.value)) is (file == "config.json")
    refuse_unsafe(model, trust_remote_code=True)
    assert named.replace("\\", "").split(" ")[0].split("/")[-1] in capsys.readouterr().err


def test_a_module_of_its_own_is_code_too(model: Path) -> None:
    modules = json.loads((model / "modules.json").read_text())
    modules[2]["type"] = "custom.Normalize"
    write_json(model / "modules.json", modules)
    with pytest.raises(ModelError, match=r"module custom\.Normalize"):
        Model(model, device="cpu")


def test_trusted_code_runs_with_a_warning(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same architecture as a file beside the weights: with the flag it is that class which encodes."""
    (model / "modeling_mine.py").write_text(
        "from transformers import Qwen3Config, Qwen3Model\n\n\nclass MineConfig(Qwen3Config):\n    model_type = 'mine'\n\n\n"
        "class MineModel(Qwen3Model):\n    config_class = MineConfig\n"
    )
    config = json.loads((model / "config.json").read_text())
    names = {"AutoConfig": "modeling_mine.MineConfig", "AutoModel": "modeling_mine.MineModel"}
    write_json(model / "config.json", {**config, "model_type": "mine", "architectures": ["MineModel"], "auto_map": names})
    with pytest.raises(ModelError, match="code of its own"):
        Model(model, device="cpu")
    trusted = Model(model, device="cpu", trust_remote_code=True)
    assert type(trusted.transformer[0].model).__name__ == "MineModel"
    assert str(model) in capsys.readouterr().err


def test_the_verb_names_the_flag(model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from homing.cli import main
    from tiny import made_data

    config = json.loads((model / "config.json").read_text())
    write_json(model / "config.json", {**config, "auto_map": {"AutoModel": "somebody/code--modeling.Mine"}})
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(made_data(tmp_path)), "--model", str(model)])
    assert stopped.value.code == 2
    assert "--trust-remote-code" in capsys.readouterr().err


def test_a_recipe_never_says_that_code_is_trusted(made: Path, tmp_path: Path) -> None:
    from homing import Encoding, Recipe
    from homing.cli import runs
    from homing.cli.verbs import cli

    Recipe(data=str(made), model="somewhere", encoding=Encoding(trust_remote_code=True)).write(tmp_path / "recipe.toml")
    options = {parameter.name: None for parameter in cli.commands["run"].params if parameter.name} | {"judgments": ()}
    recipe, _ = runs._recipe(str(tmp_path / "recipe.toml"), None, str(tmp_path / "run"), options)
    assert recipe.encoding.trust_remote_code is False
    recipe, _ = runs._recipe(str(tmp_path / "recipe.toml"), None, "run", options | {"encoding__trust_remote_code": True})
    assert recipe.encoding.trust_remote_code is True
