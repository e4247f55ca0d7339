"""LoRA adapters: put onto a model, read from and written to PEFT's layout."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from homing.encoders.model import Model
from homing.errors import ModelError
from homing.settings import Training

DECODER_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CONVENTIONS = "homing.json"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Adapter:
    """A trained adapter: a directory in PEFT's layout, with the encoding conventions it was trained under in `homing.json`."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        for name in FILES:
            if not (self.path / name).is_file():
                raise ModelError("the directory holds no adapter", where=str(self.path), expected=name, remedy="Train one: homing train.")

    @property
    def digest(self) -> str:
        """A digest of the adapter's weights and configuration."""
        return sha256(
            b"".join((self.path / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors"))
        ).hexdigest()[:32]

    @property
    def conventions(self) -> dict[str, Any]:
        """What it was trained under: base digest, prompts, pooling, length. Empty for an adapter from elsewhere."""
        file = self.path / CONVENTIONS
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def conventions(model: Model) -> dict[str, Any]:
    """The conventions of a model, as an adapter directory keeps them."""
    return {
        "base": model.source,
        "base_digest": model.weights_digest,
        "prompts": dict(model.prompts),
        "pooling": model.pooling,
        "max_length": model.max_length,
    }


def targets(body: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the linear layers to adapt, and of those to leave: q,k,v,o,gate,up,down of a decoder, else all but a pooler's."""
    linears = [name for name, module in body.named_modules() if isinstance(module, nn.Linear)]
    own = sorted({name.rsplit(".", 1)[-1] for name in linears if "pooler" not in name})
    if set(own) & set(DECODER_LINEARS):
        own = [name for name in DECODER_LINEARS if name in own]
    if not own:
        raise ModelError("the model has no linear layer to adapt", got=type(body).__name__)
    return own, [name for name in linears if "pooler" in name]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what peft and transformers say to each other: names that one has deprecated and the other still uses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
        yield


def attach(model: Model, settings: Training) -> PeftModel:
    """Put a fresh LoRA (Hu et al. 2021, arXiv 2106.09685) on the model, in place: B is zero, so embeddings are still the base's."""
    body = model.transformer[0].model
    names, left = targets(body)
    config = LoraConfig(
        task_type="FEATURE_EXTRACTION",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names,
        exclude_modules=left or None,
    )
    torch.manual_seed(settings.seed)
    with _quiet():
        return get_peft_model(body, config, autocast_adapter_dtype=True)


def set_checkpointing(body: Any, on: bool) -> None:
    """Turn gradient checkpointing (Chen et al. 2016, arXiv 1604.06174) of a transformers model on or off."""
    with _quiet():
        if on:
            body.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            body.gradient_checkpointing_disable()


def load(model: Model, adapter: Adapter) -> PeftModel:
    """Put a saved adapter on the model, in place. Raises ModelError where its shapes are not the model's."""
    body = model.transformer[0].model
    try:
        with _quiet():
            tuned = PeftModel.from_pretrained(body, str(adapter.path), torch_device=str(model.device))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            "the adapter doesn't fit the model",
            where=str(adapter.path),
            got=str(error).splitlines()[0][:200],
            remedy="Give the base that it was trained on.",
        ) from error
    tuned.eval()
    return tuned


def state(tuned: PeftModel) -> dict[str, Tensor]:
    """The adapter's weights on the CPU, by name."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in get_peft_model_state_dict(tuned).items()}


def restore(tuned: PeftModel, file: Path) -> None:
    """Put weights that `state` gave, saved as safetensors, back onto the model."""
    set_peft_model_state_dict(tuned, load_file(file))


def adapt_mode(model: Model) -> None:
    """Training mode for the adapter alone: its dropout is on, the frozen base's is off."""
    model.transformer.eval()
    for name, module in model.transformer.named_modules():
        if "lora_dropout" in name or getattr(module, "gradient_checkpointing", False):
            module.training = True
