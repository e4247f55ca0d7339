"""Fused LoRA layers against PEFT's own: outputs, gradients, and every way in which the weights may change under them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor

from homing.encoders.checkpointing import set_checkpointing
from homing.encoders.fused import fuse
from homing.encoders.fused import unfuse as unfuse_body
from homing.encoders.model import Model
from homing.encoders.step import Step
from homing.encoders.tuning import targets, tune
from homing.losses import Contrast
from homing.settings import Training
from test_packed import BODIES
from test_packed import directory as directory_of

TEXTS = ("list all files of the directory", "how is a claim paid after an accident on the road?", "保险合同", "blood pressure", "a")


def tuned(directory: Path, **others: Any) -> tuple[Model, PeftModel]:
    """A fresh model with LoRA of rank 16 whose change is as large as the weights' own."""
    model = Model(directory, max_length=32, dtype=others.pop("dtype", None))
    body = model.transformer[0].model
    names, left = targets(body)
    torch.manual_seed(0)
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=16, lora_alpha=32, target_modules=names, exclude_modules=left or None, **others)
    peft = get_peft_model(body, config)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return model, peft


@pytest.fixture(params=["qwen3", "minilm"])
def directory(request: pytest.FixtureRequest, tiny_model: Path) -> Path:
    return tiny_model if request.param == "qwen3" else request.getfixturevalue("minilm")


def embedded(model: Model) -> Tensor:
    tokens = model.tokenize(TEXTS, "document")
    return model.embed(tokens, np.arange(len(tokens)))


def learned(peft: PeftModel) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in peft.named_parameters() if parameter.requires_grad}


def gradients(model: Model, peft: PeftModel) -> dict[str, Tensor]:
    peft.zero_grad()
    out = embedded(model)
    direction = torch.linspace(-1, 1, out.numel()).view_as(out)
    ((out @ out.T).square().sum() + (out * direction).sum()).backward()
    return {name: parameter.grad.clone() for name, parameter in learned(peft).items() if parameter.grad is not None}


def close(one: Tensor, other: Tensor, within: float = 1e-5) -> bool:
    """Whether two tensors differ by at most a share of the other's length."""
    return bool((one - other).norm() <= within * other.norm())


def layers(peft: PeftModel) -> list[LoraLinear]:
    return [module for module in peft.modules() if isinstance(module, LoraLinear)]


def test_outputs_and_gradients_are_pefts_own(directory: Path) -> None:
    model, peft = tuned(directory)
    out, wanted = embedded(model).detach(), gradients(model, peft)
    assert fuse(peft) == len(layers(peft)) > 0
    assert close(embedded(model).detach(), out)
    found = gradients(model, peft)
    assert found.keys() == wanted.keys() == learned(peft).keys()
    assert all(wanted[name].norm() > 0 for name in wanted)
    assert all(close(found[name], wanted[name]) for name in wanted), {
        name: float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted
    }
    unfuse(peft)
    assert torch.equal(embedded(model).detach(), out)
    again = gradients(model, peft)
    assert all(torch.equal(again[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("which", ["tiny_model", "short_minilm"])
def test_a_layer_alone_gives_its_input_the_gradient_of_pefts(request: pytest.FixtureRequest, which: str) -> None:
    """Also where the input is not contiguous, where no gradient is wanted of it, and where the output is changed in place."""
    _, peft = tuned(request.getfixturevalue(which))
    layer = layers(peft)[0]

    def both(lies: tuple[int, int], wanted: bool) -> tuple[Tensor, Tensor | None]:
        x = states.clone().transpose(*lies).requires_grad_(wanted)
        out = layer(x).transpose(0, 1)
        out /= 2
        out.sin().sum().backward()
        return out.detach(), x.grad

    states = torch.randn(7, 3, layer.in_features)
    for lies, wanted in product([(0, 0), (0, 1)], [True, False]):
        unfuse(peft)
        theirs = both(lies, wanted)
        fuse(peft)
        ours = both(lies, wanted)
        assert close(ours[0], theirs[0])
        assert (theirs[1] is None) == (ours[1] is None) == (not wanted)
        if wanted:
            assert close(ours[1], theirs[1])  # type: ignore[arg-type]


def unfuse(peft: PeftModel) -> None:
    """The layers with PEFT's own pass again."""
    for layer in layers(peft):
        layer.__dict__.pop("forward", None)


def same_as_peft(model: Model, peft: PeftModel) -> None:
    """The fused outputs, with and without gradients and in inference mode, are PEFT's own of the weights as they are."""
    ours = embedded(model).detach()
    with torch.inference_mode():
        assert torch.equal(embedded(model), ours)
    unfuse(peft)
    theirs = embedded(model).detach()
    fuse(peft)
    assert close(ours, theirs)


def steps(peft: PeftModel, optimizer: torch.optim.Optimizer, model: Model) -> None:
    for _ in range(2):
        gradients(model, peft)
        optimizer.step()


CHANGES: dict[str, Callable[[Model, PeftModel], None]] = {
    "AdamW": lambda model, peft: steps(peft, torch.optim.AdamW(learned(peft).values(), lr=1e-2), model),
    "AdamW, fused": lambda model, peft: steps(peft, torch.optim.AdamW(learned(peft).values(), lr=1e-2, fused=True), model),
    "AdamW, foreach": lambda model, peft: steps(peft, torch.optim.AdamW(learned(peft).values(), lr=1e-2, foreach=True), model),
    "SGD": lambda model, peft: steps(peft, torch.optim.SGD(learned(peft).values(), lr=1.0), model),
    "scale": lambda model, peft: [layer.set_scale("default", 0.25) for layer in layers(peft)] and None,
    "scale 0": lambda model, peft: [layer.set_scale("default", 0.0) for layer in layers(peft)] and None,
    "scaling": lambda model, peft: [layer.scaling.update(default=5.0) for layer in layers(peft)] and None,
    "load_state_dict": lambda model, peft: peft.load_state_dict(other(peft.state_dict())) and None,
    "load_state_dict, assigned": lambda model, peft: peft.load_state_dict(other(peft.state_dict()), assign=True) and None,
    "set_peft_model_state_dict": lambda model, peft: set_peft_model_state_dict(peft, other(get_peft_model_state_dict(peft))) and None,
    "copy_": lambda model, peft: [parameter.detach().copy_(1.5 * parameter.detach()) for parameter in learned(peft).values()] and None,
    "data": lambda model, peft: [setattr(parameter, "data", -2 * parameter.data) for parameter in learned(peft).values()] and None,
}


def other(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Another A and B, the base's weights as they are."""
    return {name: 1.5 * tensor + 0.01 if "lora_" in name else tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_weights_is_seen(change: str, tiny_model: Path) -> None:
    model, peft = tuned(tiny_model)
    fuse(peft)
    before = embedded(model).detach()
    CHANGES[change](model, peft)
    assert not close(embedded(model).detach(), before, 1e-3)
    same_as_peft(model, peft)


def test_a_look_in_inference_mode_is_no_hindrance_to_training(directory: Path) -> None:
    model, peft = tuned(directory)
    wanted = gradients(model, peft)
    fuse(peft)
    with torch.inference_mode():
        embedded(model)
    found = gradients(model, peft)
    assert all(close(found[name], wanted[name]) for name in wanted)


def test_the_merged_weight_is_made_once_a_change(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, peft = tuned(tiny_model)
    fused = fuse(peft)
    made = []
    addmm = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *arguments, **named: made.append(1) or addmm(*arguments, **named))
    embedded(model)
    embedded(model)
    assert len(made) == fused
    layers(peft)[0].set_scale("default", 0.5)
    embedded(model)
    assert len(made) == fused + 1


def test_switched_off_or_merged_is_as_in_peft(tiny_model: Path) -> None:
    model, peft = tuned(tiny_model)
    bare = embedded(Model(tiny_model, max_length=32)).detach()
    theirs = embedded(model).detach()
    fuse(peft)
    with peft.disable_adapter():
        assert torch.equal(embedded(model).detach(), bare)
    assert close(embedded(model).detach(), theirs)
    peft.merge_adapter()
    assert close(embedded(model).detach(), theirs)
    peft.unmerge_adapter()
    assert close(embedded(model).detach(), theirs)
    peft.merge_and_unload()
    assert close(embedded(model).detach(), theirs)


@pytest.mark.parametrize("others", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_dropout_and_dora_stay_pefts(others: dict[str, Any], tiny_model: Path) -> None:
    model, peft = tuned(tiny_model, **others)
    peft.eval()
    before = embedded(model).detach()
    assert fuse(peft) == 0
    assert not any("forward" in vars(layer) for layer in layers(peft))
    assert torch.equal(embedded(model).detach(), before)


def test_rank_stabilised_lora_is_fused(tiny_model: Path) -> None:
    model, peft = tuned(tiny_model, use_rslora=True)
    wanted = gradients(model, peft)
    assert fuse(peft) == len(layers(peft))
    found = gradients(model, peft)
    assert all(close(found[name], wanted[name]) for name in wanted)


def test_what_is_saved_is_as_without(tiny_model: Path) -> None:
    _, peft = tuned(tiny_model)
    plain = {name: tensor.clone() for name, tensor in peft.state_dict().items()}
    fuse(peft)
    fused = peft.state_dict()
    assert fused.keys() == plain.keys()
    assert all(torch.equal(fused[name], plain[name]) for name in plain)


def test_in_half_precision_it_is_close_to_peft(tmp_path: Path) -> None:
    """PEFT multiplies by A and B in float32 and the fused layer in bfloat16: they differ by bfloat16's rounding, 2^-9, layer by layer."""
    from tiny import tiny_qwen3

    model, peft = tuned(tiny_qwen3(tmp_path / "half", dtype="bfloat16"), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in learned(peft).values()} == {torch.float32}
    out, wanted = embedded(model).detach(), gradients(model, peft)
    assert fuse(peft) == len(layers(peft))
    assert close(embedded(model).detach(), out, 0.03)
    found = gradients(model, peft)
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    together = [torch.cat([each[name].flatten() for name in wanted]) for each in (found, wanted)]
    assert close(*together, 0.1)
    assert not close(*together, 1e-6)  # else the path was not taken


def test_a_pass_that_runs_out_of_memory_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two layers of one input the outputs of the others wait, and behind them all that the pass has kept."""
    from tiny import tiny_qwen3

    model, peft = tuned(tiny_qwen3(tmp_path / "half", dtype="bfloat16"), dtype=torch.bfloat16)
    fuse(peft)
    attention = model.transformer[0].model.layers[1].self_attn
    waiting, norm = attention.q_proj.forward.together, attention.q_norm.forward
    step = Step(model, list(learned(peft).values()), lambda: None, bytes_a_token=1.0)
    there: list[int] = []

    def once(states: Tensor) -> Tensor:
        there.append(len(waiting.waiting))
        if len(there) == 2:
            raise torch.OutOfMemoryError
        return norm(states)

    monkeypatch.setattr(attention.q_norm, "forward", once)
    first = model.transformer[0].model.layers[0]
    handle = first.register_forward_pre_hook(lambda *_: there.append(len(waiting.waiting)))
    tokens = model.tokenize(TEXTS, "document")
    step.gradients(tokens, np.arange(len(tokens)), lambda out: Contrast(out.sum(), out.sum().detach(), out.sum().detach()), 0)
    handle.remove()
    assert there[:4] == [0, 2, 0, 2]  # the keys and values, and gone when the step begins again


@pytest.mark.parametrize(("name", "at_most"), [("minilm", 0.65), ("llama", 0.8)])
def test_what_a_pass_can_make_again_is_not_kept(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path, name: str, at_most: float
) -> None:
    """Norms' and GELUs' outputs, and a gate's: made again to the same bits, also under checkpointing; taken off, the body has its own."""
    if name == "minilm":
        place = request.getfixturevalue("minilm")
    else:
        kind, config = BODIES[name]
        place = directory_of(tmp_path, tiny_model, kind(config))
    model = Model(place, max_length=32)
    tuning = tune(model, Training(tuning="lora", dropout=0.0))
    step = tuning.step()
    tokens = model.tokenize(TEXTS, "document")
    longest = tokens.lengths.argmax(keepdims=True)

    def gradients() -> list[Tensor]:
        found = step.gradients(tokens, np.arange(len(tokens)), lambda made: Contrast((made @ made.T).square().sum(), *[made.sum()] * 2), 0)
        return [found.loss, *(parameter.grad.clone() for parameter in step.parameters if parameter.grad is not None)]

    with torch.no_grad():
        for parameter in step.parameters:
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) * 0.02)
    ours, kept = gradients(), step.weigh(tokens, longest)
    step._checkpoint("for the test")
    again = gradients()
    set_checkpointing(tuning.body, False)
    unfuse_body(tuning.body)
    theirs, before = gradients(), step.weigh(tokens, longest)
    for other in (theirs, again):
        assert len(other) == len(ours)
        assert all(torch.equal(one, two) for one, two in zip(ours, other, strict=True))
    assert kept <= at_most * before
    tuning.step()
    tuning.detach()
    assert not any("forward" in vars(module) for module in model.transformer.modules())


def test_what_is_changed_in_place_is_not_made_again() -> None:
    """An activation in place behind a norm: the layer behind it keeps its input as it is."""
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.ReLU(inplace=True), torch.nn.Linear(8, 5))
    peft = get_peft_model(body, LoraConfig(r=3, target_modules=["0", "3"], init_lora_weights=False))
    x, found = torch.randn(7, 6), list[tuple[Tensor, ...]]()
    for _ in range(2):
        found.append(torch.autograd.grad(peft(x).sin().sum(), list(learned(peft).values())))
        fuse(peft)
    assert all(close(ours, theirs) for theirs, ours in zip(*found, strict=True))
