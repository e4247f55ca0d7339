"""A model larger than memory, run a layer at a time: a layer's weights are read when it runs and let go of when it has run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from homing.encoders.change import Change, FullChange
from homing.encoders.devices import ran_out
from homing.encoders.model import Model
from homing.encoders.tokens import Tokens

Read = Callable[[str], Tensor]


def skeleton(body: Any) -> nn.Module:
    """A transformers model without weights: parameters that hold nothing, buffers that are there."""
    with init_empty_weights(include_buffers=False):
        empty: nn.Module = type(body)._from_config(body.config, dtype=torch.float32)
    return empty.eval()


def first_names(body: nn.Module) -> dict[str, str]:
    """Each name of each parameter, with the first one that it has: a weight that modules share has several."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(parameter), name) for name, parameter in body.named_parameters(remove_duplicate=False)}


def units(body: nn.Module) -> dict[str, nn.Module]:
    """What is read at once, by name: each layer of a list of layers as a whole, and any other module with parameters of its own."""
    found: dict[str, nn.Module] = {}

    def walk(prefix: str, module: nn.Module, listed: bool) -> None:
        if listed or next(module.parameters(recurse=False), None) is not None:
            found[prefix] = module
            return
        for name, child in module.named_children():
            walk(f"{prefix}.{name}" if prefix else name, child, isinstance(module, nn.ModuleList))

    walk("", body, False)
    return found


@contextmanager
def streamed(body: nn.Module, read: Read, seen: Callable[[str, Tensor], None], *, whole: bool = False) -> Iterator[None]:
    """Run a `skeleton` with what `read` gives for each parameter by its name; `seen` is shown what each unit puts out, by its name.

    `whole`: all of it is read at once, and `seen` is shown nothing.
    """
    if whole:
        _reader("", read)(body, None)
    handles = []
    for name, unit in ({} if whole else units(body)).items():
        handles.append(unit.register_forward_pre_hook(_reader(name, read)))
        handles.append(unit.register_forward_hook(_releaser(name, seen)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _reader(name: str, read: Read) -> Any:
    def before(unit: nn.Module, inputs: Any) -> None:
        for own, parameter in list(unit.named_parameters()):
            if parameter.is_meta:
                owner, last = _owner(unit, own)
                weight = read(f"{name}.{own}" if name else own)
                setattr(owner, last, nn.Parameter(weight if _is_table(unit) else weight.float(), requires_grad=False))

    return before


def _releaser(name: str, seen: Callable[[str, Tensor], None]) -> Any:
    def after(unit: nn.Module, inputs: Any, output: Any) -> Any:
        for own, parameter in list(unit.named_parameters()):
            owner, last = _owner(unit, own)
            setattr(owner, last, nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False))
        if _is_table(unit):
            output = output.float()
        seen(name, output[0] if isinstance(output, tuple) else output)
        return output

    return after


def _is_table(unit: nn.Module) -> bool:
    """A table of which a few rows are looked up: it stays as it is stored, and the rows alone are made float32."""
    return type(unit) is nn.Embedding


def _owner(unit: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, last = name.rpartition(".")
    return unit.get_submodule(path), last


def _learned(read: Read, change: Change) -> Read:
    return lambda name: change.apply(name, read(name).float()) if name in change.names else read(name)


def _beside(name: str, change: Change) -> Any:
    def after(module: nn.Linear, inputs: Any, output: Tensor) -> Tensor:
        return change.beside(name, module.weight, inputs[0], output)

    return after


@dataclass(frozen=True)
class Passed:
    """What texts became in a streamed model: `embeddings` (texts, dimension), and each unit's output by its name."""

    embeddings: np.ndarray[Any, np.dtype[np.float32]]
    outputs: dict[str, Tensor]


def run(model: Model, tokens: Tokens, read: Read, beside: Change | None = None, *, done: Callable[[], object] = lambda: None) -> Passed:
    """Run a few texts, as one chunk, in float32 on the CPU through a model on the device "meta", with the weights that `read` gives.

    `beside`: an adapter whose change is put beside the weights, layer by layer; where it can only be put into them, it is. `done` is
    called after each unit. A body with a weight that is read past the module that holds it (DeBERTa's relative positions) is run whole.
    """
    try:
        return _run(model, tokens, read, beside, done, whole=False)
    except RuntimeError as error:
        if ran_out(error):
            raise
    return _run(model, tokens, read, beside, done, whole=True)


def _run(model: Model, tokens: Tokens, read: Read, beside: Change | None, done: Callable[[], object], *, whole: bool) -> Passed:
    outputs: dict[str, Tensor] = {}

    def seen(name: str, output: Tensor) -> None:
        outputs[name] = output
        done()

    own, device = model.transformer[0].model, model.device
    body, first = skeleton(own), first_names(own)
    source = _learned(read, beside) if isinstance(beside, FullChange) else read
    if beside is not None and not isinstance(beside, FullChange):
        for name in beside.names:
            module = body.get_submodule(name.removesuffix(".weight"))
            module.register_forward_hook(_beside(name, beside))
    model.transformer[0].model, model.device = body, torch.device("cpu")
    try:
        with streamed(body, lambda name: source(first[name]), seen, whole=whole), torch.inference_mode():
            pooled = model.embed_padded(tokens, np.arange(len(tokens)))
    finally:
        model.transformer[0].model, model.device = own, device
    if model.similarity == "cosine":
        pooled = nn.functional.normalize(pooled, dim=-1)
    return Passed(pooled.numpy(), outputs)
