"""What learns on a model: a low-rank change beside its weights, or the weights themselves; put on, scaled, saved, and taken off again."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from peft import LoraConfig, PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from homing.conventions import put
from homing.encoders.adapter import WHOLE, Adapter, Kind
from homing.encoders.checkpointing import set_checkpointing
from homing.encoders.devices import fast_dtype
from homing.encoders.dropout import Bits, replace_dropout, restore_dropout
from homing.encoders.fused import fuse, unfuse
from homing.encoders.memory import available
from homing.encoders.model import Model
from homing.encoders.step import Step
from homing.encoders.weights import demand_mergeable
from homing.errors import ModelError, SettingError, first_line
from homing.progress import Say
from homing.settings import Training

DECODER_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FULL_BELOW = 150_000_000  # parameters
FULL_TAKES = 4 * torch.float32.itemsize  # bytes a parameter beside the base: weight, gradient and the two moments of AdamW


def conventions(model: Model) -> dict[str, Any]:
    """The conventions of a model, as an adapter directory keeps them."""
    return {
        "base": model.source,
        "base_digest": model.weights_digest,
        "prompts": dict(model.prompts),
        "pooling": model.pooling,
        "max_length": model.max_length,
        "base_parameters": model.parameters,
    }


def default_tuning(parameters: int, memory: int) -> Kind:
    """full for a model below 150M parameters whose weights' training takes at most half of `memory` (free bytes), else lora."""
    return "full" if parameters < FULL_BELOW and FULL_TAKES * parameters <= memory / 2 else "lora"


class Tuning(ABC):
    """What learns on a model. It is put on in place, so that the model embeds with it, and `detach` leaves the model as it was.

    `kind` is lora, rslora, dora or full, `body` the model's transformer, `scale` the share of the learned change that counts.
    """

    def __init__(self, model: Model, kind: Kind) -> None:
        self.model, self.kind, self.scale = model, kind, 1.0
        self.body: Any = model.transformer[0].model
        self._base_parameters, self._base_dtype = model.parameters, model.dtype
        model.change = None
        self._checkpointing = False
        self._base = [(parameter, parameter.data, parameter.requires_grad) for parameter in model.transformer.parameters()]

    @abstractmethod
    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns, by name, in the order of the model's modules."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """What was learned, unscaled, under the names that its files use; not copied."""

    @abstractmethod
    def _put(self, tensors: dict[str, Tensor]) -> None:
        """Put tensors of these names and shapes in the place of what was learned."""

    @abstractmethod
    def _apply(self, scale: float) -> None:
        """Make the model embed with this share of the change."""

    @abstractmethod
    def _write(self, directory: Path) -> None:
        """Write what was learned, unscaled."""

    @abstractmethod
    def _merge(self) -> None:
        """Put the change into the weights."""

    @abstractmethod
    def _remove(self) -> None:
        """Take off what was put beside the weights."""

    def state(self) -> dict[str, Tensor]:
        """What was learned, unscaled, by name: a copy on the CPU."""
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in self._tensors().items()}

    def restore(self, file: Path) -> None:
        """Put back what `state` gave, or `save` wrote: a safetensors file. Raises ModelError, and changes nothing, where it is not this
        tuning's by names and shapes.
        """
        tensors = _read(file)
        own = {name: tuple(tensor.shape) for name, tensor in self._tensors().items()}
        theirs = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if own != theirs:
            name = min(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
            raise ModelError(
                "the adapter doesn't fit the model", where=str(file), got=f"{name} {theirs.get(name, 'missing')}",
                expected=str(own.get(name, "no such weight")), remedy="Give the base that it was trained on.",
            )  # fmt: skip
        self._put(tensors)
        self._apply(self.scale)

    def save(self, directory: Path, scale: float = 1.0) -> None:
        """Write an `Adapter` into a directory that exists, unscaled; `scale` is the share of the change that its users shall keep."""
        self._write(directory)
        own = {"base_parameters": self._base_parameters, "tuning": self.kind, "scale": scale}
        put(directory, **(conventions(self.model) | own))

    def set_scale(self, scale: float) -> None:
        """Embed with W + scale (W' - W) for the base's weights W and the learned W'; to go on learning, set it back to 1.

        A share between them often does better than either end (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903).
        Raises SettingError for a scale outside of 0 to 1.
        """
        if not 0 <= scale <= 1:
            raise SettingError("the scale is out of range", got=repr(scale), expected="0 to 1")
        self._apply(scale)
        self.scale, self.model.change = scale, None

    @abstractmethod
    def shrink(self, share: float) -> None:
        """Make a share of the learned change all that was learned. Raises ModelError where this kind cannot hold it."""

    def train_mode(self) -> None:
        """Training mode for what learns alone: the adapter's dropout is on, the base's is off."""
        self.model.change = None
        self.model.transformer.eval()
        for name, module in self.model.transformer.named_modules():
            if isinstance(module, LoraLayer) or "lora_dropout" in name:  # DoRA drops if its layer is in training mode
                module.training = True

    def step(self, say: Say = lambda line: None) -> Step:
        """What makes the gradients of what learns: in training mode, and computed at the least cost, from here on."""
        bits = self._quicken()
        self.train_mode()
        return Step(self.model, list(self.parameters().values()), self._checkpoint, bits, say)

    def _quicken(self) -> Bits | None:
        """Take faster ways to the same results; what dropout is then drawn from, where it is not PyTorch's."""
        return None

    def _checkpoint(self) -> None:
        set_checkpointing(self.body, True)
        self._checkpointing = True
        self.train_mode()

    def merge(self) -> None:
        """Put the change, at its scale, into the model's weights for good; the model is then one without a tuning."""
        self._merge()
        self._base.clear()
        self.model.products = None

    def detach(self) -> None:
        """Take it off: the model's weights are again those that they were, bit for bit."""
        if self._checkpointing:
            set_checkpointing(self.body, False)
        self._remove()
        for parameter, data, learned in self._base:
            parameter.grad = None
            parameter.data = data
            parameter.requires_grad_(learned)
        self.model.dtype, self.model.products = self._base_dtype, None
        self.model.change = ""
        self.model.transformer.eval()


@final
class LowRank(Tuning):
    """LoRA (Hu et al. 2021, arXiv 2106.09685): W + (alpha / r) B A for each linear layer, by PEFT.

    rslora: alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732). dora: direction and length of each row apart (Liu et al. 2024, arXiv
    2402.09353). `peft` is PEFT's model around the body. Raises ModelError where the configuration names no layer of the body.
    """

    def __init__(self, model: Model, config: LoraConfig) -> None:
        super().__init__(model, "dora" if config.use_dora else "rslora" if config.use_rslora else "lora")
        try:
            with _quiet():
                self.peft = get_peft_model(self.body, config, autocast_adapter_dtype=True)
        except ValueError as error:
            vars(self.body).pop("peft_config", None)
            raise ModelError(
                "the adapter doesn't fit the model", where=model.source, got=first_line(error),
                remedy="Give the base that it was trained on; to train one, --tuning full.",
            ) from error  # fmt: skip
        for name in ("target_modules", "exclude_modules"):  # sets, of which each process would write another order
            if isinstance(names := getattr(config, name), set):
                setattr(config, name, sorted(names))
        self._drops = bool(config.lora_dropout)
        self._hooks: list[RemovableHandle] = []

    def parameters(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.body.named_parameters() if parameter.requires_grad}

    def _layers(self) -> Iterator[tuple[LoraLayer, str]]:
        """Each adapted layer with the name that PEFT knows its adapter by."""
        for module in self.body.modules():
            if isinstance(module, LoraLayer):
                yield from ((module, name) for name in module.active_adapters)

    def _tensors(self) -> dict[str, Tensor]:
        return dict(get_peft_model_state_dict(self.peft, save_embedding_layers=False))

    def _put(self, tensors: dict[str, Tensor]) -> None:
        set_peft_model_state_dict(self.peft, tensors)

    def _apply(self, scale: float) -> None:
        self._unhook()
        for layer, name in self._layers():
            if name not in layer.lora_magnitude_vector:
                layer.set_scale(name, scale)
            elif scale != 1:  # what PEFT's DoRA module gives is (W' - W) x: the layer adds it to W x
                share = layer.lora_magnitude_vector[name]
                self._hooks.append(share.register_forward_hook(lambda module, inputs, change: scale * change))

    def shrink(self, share: float) -> None:
        if self.kind == "dora":
            raise ModelError(
                "of a DoRA, training can go on from all that was learned alone", got=f"a share of {share:g}", expected="1",
                remedy="Leave --from out, or give an adapter that was trained with --scale 1.",
            )  # fmt: skip
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                if ".lora_B." in name:
                    parameter.mul_(share)

    def _quicken(self) -> Bits | None:
        fuse(self.peft)
        return replace_dropout(self.peft) if self._drops and self.model.device.type == "cpu" else None

    def _checkpoint(self) -> None:
        restore_dropout(self.peft)  # what it repeats is drawn from PyTorch's state alone
        super()._checkpoint()

    def _write(self, directory: Path) -> None:
        self.peft.save_pretrained(str(directory), save_embedding_layers=False)
        (directory / "README.md").unlink()  # a form for a card, with nothing filled in

    def _merge(self) -> None:
        weights = [layer.get_base_layer().weight for layer, name in self._layers() if name in layer.lora_magnitude_vector]
        before = [weight.data for weight in weights]
        self.peft.merge_and_unload(safe_merge=True)  # safe: into a copy, so that `before` stays as it is
        if self.scale != 1:
            for weight, base in zip(weights, before, strict=True):
                weight.data = base + self.scale * (weight.data - base)

    def _remove(self) -> None:
        self._unhook()
        self.peft.unload()
        unfuse(self.body)

    def _unhook(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()


@final
class Full(Tuning):
    """The weights themselves learn, in float32 whatever the base's number format, those of the named parameters of the body.

    Matrices are multiplied in the base's format, where the device is fast in it (mixed precision: Micikevicius et al. 2018, arXiv
    1710.03740).
    """

    def __init__(self, model: Model, names: Iterable[str]) -> None:
        super().__init__(model, "full")
        half = model.dtype != torch.float32 and model.dtype == fast_dtype(model.device)
        model.dtype, model.products = torch.float32, model.dtype if half else None
        chosen = set(names)
        self._parameters = {name: parameter for name, parameter in self.body.named_parameters() if name in chosen}
        for parameter, data, _ in self._base:
            parameter.data = data.float()
            parameter.requires_grad_(False)
        self._origin = {name: parameter.data for name, parameter in self._parameters.items()}
        for parameter in self._parameters.values():
            parameter.data = parameter.data.clone()
            parameter.requires_grad_(True)
        self._learned = {name: parameter.data for name, parameter in self._parameters.items()}

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self._parameters)

    def _tensors(self) -> dict[str, Tensor]:
        return self._learned

    def _put(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._learned[name].copy_(tensor)

    def _apply(self, scale: float) -> None:
        for name, parameter in self._parameters.items():
            base, learned = self._origin[name], self._learned[name]
            parameter.data = learned if scale == 1 else base if scale == 0 else base + scale * (learned - base)

    def shrink(self, share: float) -> None:
        for name, origin in self._origin.items():
            self._learned[name].copy_(origin + share * (self._learned[name] - origin))

    def _write(self, directory: Path) -> None:
        save_file(self.state(), directory / WHOLE, metadata={"format": "pt"})

    def _merge(self) -> None:
        self._origin, self._learned = {}, {}

    def _remove(self) -> None:
        pass


def tune(model: Model, settings: Training) -> Tuning:
    """Put on the model what shall learn, in place; until a step is made, its embeddings are the base's.

    The kind is `settings.tuning`, or that of `default_tuning`. A pooler, that no embedding depends on, never learns. Raises ModelError for
    a model without a linear layer, or whose files hold other weights than the model has in memory: nothing could be merged into them.
    """
    kind = settings.tuning or default_tuning(model.parameters, available(model.device))
    body = model.transformer[0].model
    demand_mergeable(model.path, {name: tuple(parameter.shape) for name, parameter in body.named_parameters()})
    if kind == "full":
        return Full(model, [name for name, _ in body.named_parameters() if "pooler" not in name])
    names, left = targets(body)
    config = LoraConfig(
        task_type="FEATURE_EXTRACTION",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names,
        exclude_modules=left or None,
        use_rslora=kind == "rslora",
        use_dora=kind == "dora",
    )
    torch.manual_seed(settings.seed)
    return LowRank(model, config)


def begin_with(tuning: Tuning, adapter: Adapter) -> None:
    """Put what an adapter holds, at the share of it that is kept, in the place of what a new tuning begins with.

    Raises ModelError, with the tuning taken off, where it is of another base, kind or rank, or a DoRA of which a share is kept: that is
    no DoRA itself.
    """
    try:
        _demand_base(tuning.model, adapter)
        if adapter.tuning != tuning.kind:
            raise ModelError("the adapter is of another kind", where=str(adapter.path), got=adapter.tuning, expected=tuning.kind)
        if adapter.scale:  # else nothing is kept of it, which is where a new tuning stands
            tuning.restore(adapter.weights)
        if 0 < adapter.scale < 1:
            tuning.shrink(adapter.scale)
    except BaseException:
        tuning.detach()
        raise


def _demand_base(model: Model, adapter: Adapter) -> None:
    said = adapter.conventions.get("base_digest")
    if said is not None and said != model.weights_digest:
        raise ModelError(
            "the adapter was trained under another base digest", where=str(adapter.path), got=repr(model.weights_digest),
            expected=repr(said), remedy="Give the base that the adapter was trained on.",
        )  # fmt: skip


def load(model: Model, adapter: Adapter, scale: float | None = None) -> Tuning:
    """Put a saved adapter on the model, in place, at `scale` (by default the one that it was saved with), ready to embed.

    Raises ModelError, with the model left as it was, where the adapter is of another base or of another kind than Homing's.
    """
    _demand_base(model, adapter)
    tuning: Tuning
    if adapter.tuning == "full":
        tuning = Full(model, _read(adapter.weights))
    else:
        config = PeftConfig.from_pretrained(str(adapter.path))
        if type(config) is not LoraConfig:
            raise ModelError("the adapter is not a LoRA", where=str(adapter.path), got=str(config.peft_type), expected="LORA")
        config.base_model_name_or_path = None
        config.inference_mode = False
        tuning = LowRank(model, config)
    try:
        tuning.restore(adapter.weights)
        tuning.set_scale(adapter.scale if scale is None else scale)
    except BaseException:
        tuning.detach()
        raise
    model.transformer.eval()
    model.change = f"{adapter.digest} at {tuning.scale}"
    return tuning


def targets(body: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the linear layers to adapt, and of those to leave: a pooler's, and those that compute another thing (a router's choice).

    A name is the last part of the whole one, but in a sequence of layers, where it is a number that other modules have too.

    Where a decoder has q, k, v, o, gate, up and down, these alone: what else is linear is a router, or sees images. Some of these names
    are no sign of that: GTE and Phi-3 have o and down beside queries, keys and values in one. Raises ModelError where there is none.
    """
    linears = {name: module for name, module in body.named_modules() if isinstance(module, nn.Linear)}
    left = [name for name, module in linears.items() if "pooler" in name or type(module).forward is not nn.Linear.forward]
    own = sorted({name if (last := name.rsplit(".", 1)[-1]).isdigit() else last for name in linears if name not in left})
    if set(own) >= set(DECODER_LINEARS):
        own = list(DECODER_LINEARS)
    if not own:
        raise ModelError("the model has no linear layer to adapt", got=type(body).__name__, remedy="Give --tuning full: all weights learn.")
    return own, left


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(file))
    except (SafetensorError, OSError) as error:
        raise ModelError("the weights cannot be read", where=str(file), got=str(error)[:200], remedy="Train it again.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what peft and transformers say to each other: names that one has deprecated and the other still uses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
        yield
