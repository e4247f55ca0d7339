"""benchmarks/gpu.py: its tiny mode runs every line, and its arms compute one loss. A GPU is not needed."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3Model


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = spec_from_file_location("gpu", Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["gpu"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("with_peft", [True, False])
def test_every_arm_computes_the_same_loss(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], with_peft: bool
) -> None:
    """Without peft, too, with the fused layers: seven in each of two layers."""
    if not with_peft:
        monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert gpu.main(["--tiny", "--steps", "1", "--json", str(tmp_path / "figures.json")]) == 0
    assert "; 14 LoRA layers fused" in capsys.readouterr().out
    said: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text())
    figures = {each["arm"]: each for each in said["figures"]}
    assert said["peft"] is with_peft
    alone = figures.pop("homing, queries only")
    assert set(figures) == {"homing", "sentence-transformers", "sentence-transformers, cached"}
    for what in ("loss", "gradient"):
        first = figures["homing"][what]
        assert first > 0
        assert [each[what] for each in figures.values()] == pytest.approx([first] * 3, rel=1e-4)
    assert alone["loss"] == pytest.approx(figures["homing"]["loss"], rel=1e-4)
    assert 0 < alone["tokens"] < figures["homing"]["tokens"]
    assert alone["gradient"] != pytest.approx(figures["homing"]["gradient"], rel=1e-2)
    assert said["failures"] == []
    assert len({each["tokens"] for each in figures.values()}) == 1
    assert all(each["useful_share"] > 0 for each in figures.values())


def test_without_a_gpu_it_says_so(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out.startswith("there is no GPU here")


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [(torch.OutOfMemoryError("all of it"), "out of memory", 0), (RuntimeError("no kernel image"), "failed with RuntimeError", 1)],
)
def test_an_arm_that_fails_is_named_and_the_next_one_runs(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: Exception, said: str, status: int,
) -> None:  # fmt: skip
    def fails(*args: Any, **named: Any) -> Any:
        raise error

    monkeypatch.setattr(gpu, "homing_update", fails)
    assert gpu.main(["--tiny", "--steps", "1", "--json", str(tmp_path / "figures.json")]) == status
    shown, kept = capsys.readouterr(), json.loads((tmp_path / "figures.json").read_text())
    assert f"homing: {said}\n" in shown.out
    assert ("no kernel image" in shown.err) is bool(status)
    assert kept["failures"] == [f"homing: {said}", f"homing, queries only: {said}"]
    assert [each["arm"] for each in kept["figures"]] == ["sentence-transformers, cached", "sentence-transformers"]


THERE = {"torch", "transformers", "sentence_transformers", "tokenizers", "safetensors", "numpy", "tqdm"}  # with a PyTorch for a GPU
MADE_UP = {"jaxtyping"}  # where it is not there


def imported(file: Path) -> Iterator[str]:
    """Modules that are imported with this one: not those that a function imports, or a type checker alone."""
    waiting = list[ast.stmt](ast.parse(file.read_text()).body)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.Import):
            yield from (each.name for each in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            yield str(statement.module)
            yield from (f"{statement.module}.{each.name}" for each in statement.names)
        elif not isinstance(statement, ast.FunctionDef) and "TYPE_CHECKING" not in ast.unparse(statement).split("\n")[0]:
            waiting += [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.stmt)]


def test_it_needs_nothing_that_such_a_machine_lacks(gpu: ModuleType) -> None:
    root = Path(__file__).resolve().parents[1]
    waiting, seen, others = [root / "benchmarks" / "gpu.py"], set[Path](), set[str]()
    while waiting:
        file = waiting.pop()
        seen.add(file)
        for name in imported(file):
            place = root.joinpath("src", *name.split("."))
            own = [each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()]
            waiting += [each for each in own if each not in seen]
            if name.split(".")[0] != "homing":
                others.add(name.split(".")[0])
    assert root / "src" / "homing" / "losses.py" in seen
    assert others - sys.stdlib_module_names == THERE | MADE_UP


def test_the_real_model_is_the_0_6b(gpu: ModuleType) -> None:
    """595,776,512 parameters: those of Qwen/Qwen3-Embedding-0.6B's weights file."""
    with torch.device("meta"):
        body = Qwen3Model(gpu.real().config)
    assert sum(parameter.numel() for parameter in body.parameters()) == 595_776_512


def test_useful_work_is_what_pytorch_counts(gpu: ModuleType) -> None:
    """Eager attention does the causal half too, so its share counts twice there; norms have parameters without a product."""
    config = gpu.tiny().config
    body = Qwen3Model._from_config(config, attn_implementation="eager").requires_grad_(False)
    length = 40
    states = torch.randn(1, length, config.hidden_size, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        body(inputs_embeds=states).last_hidden_state.sum().backward()
    quadratic = 6.0 * length**2 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    norms = sum(parameter.numel() for name, parameter in body.named_parameters() if "norm" in name)
    expected = gpu.useful_work(config, body, np.array([length])) + quadratic - 4 * norms * length
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-3)
