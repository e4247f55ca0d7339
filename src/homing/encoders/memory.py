"""What training a model needs in memory, estimated from its shape, and what there is."""

from __future__ import annotations

import psutil
import torch

from homing.encoders.model import Model

MARGIN = 0.9


def available(device: torch.device) -> int:
    """Bytes that can still be taken on this device."""
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    free, _ = torch.accelerator.get_memory_info(device)
    return int(free)


def activation_bytes(model: Model, tokens: int, *, checkpointing: bool = False) -> int:
    """Bytes that the activations of so many tokens hold until the backward pass.

    Per token and layer about 20 vectors of the hidden size and 4 of the intermediate size (LoRA keeps the input of every adapted
    layer); with gradient checkpointing one hidden vector a layer, and one layer in full for the tokens of one chunk.
    """
    config = model.transformer[0].model.config
    hidden = int(getattr(config, "hidden_size", model.dimension))
    wide = int(getattr(config, "intermediate_size", 4 * hidden))
    layers = int(getattr(config, "num_hidden_layers", 12))
    a_number = model.dtype.itemsize
    whole = (20 * hidden + 4 * wide) * a_number
    if checkpointing:
        return tokens * layers * hidden * a_number + min(tokens, 1 << 14) * whole
    return tokens * layers * whole


def needs_checkpointing(model: Model, tokens: int) -> bool:
    """Whether the activations of so many tokens would take more than half of what is free."""
    return activation_bytes(model, tokens) > available(model.device) // 2
