"""Gradient checkpointing in bodies whose layers drop by a function call, or that transformers' own has no way for: nothing changes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AlbertConfig, AlbertModel, MPNetConfig, MPNetModel, OPTConfig, OPTModel, T5Config, T5EncoderModel

from homing import Model, Training
from homing.encoders.checkpointing import set_checkpointing
from homing.encoders.tuning import tune
from homing.losses import Contrast
from test_layouts import SMALL, TEXTS, another_body

T5 = {"vocab_size": 2048, "d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 2, "d_kv": 16}
DEEP = {**SMALL, "num_hidden_layers": 2}
BODIES: dict[str, Any] = {
    "opt": lambda: OPTModel(OPTConfig(**DEEP, ffn_dim=48, word_embed_proj_dim=32)),
    "t5": lambda: T5EncoderModel(T5Config(**T5)),
    "mpnet": lambda: MPNetModel(MPNetConfig(**DEEP, pad_token_id=1)),
    "albert": lambda: AlbertModel(AlbertConfig(**DEEP, embedding_size=16)),
}


@pytest.mark.parametrize("name", BODIES)
def test_it_changes_no_gradient(tiny_model: Path, tmp_path: Path, name: str) -> None:
    directory = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    another_body(directory, BODIES[name]())
    model = Model(directory, device="cpu", max_length=32)
    tokens = model.tokenize(TEXTS, "document")
    tuning = tune(model, Training(tuning="full"))
    own = [module for module in tuning.body.modules() if "forward" in vars(module)]
    step, found = tuning.step(), list[Tensor]()

    def loss(embeddings: Tensor) -> Contrast:
        return Contrast((embeddings @ embeddings.T).square().sum(), *[embeddings.sum().detach()] * 2)

    for kept in (step.weigh(tokens, np.array([4])), 0.0):
        step.gradients(tokens, np.arange(len(tokens)), loss, 0)
        found.append(torch.cat([parameter.grad.flatten() for parameter in step.parameters if parameter.grad is not None]))
        if kept:
            step._checkpoint("for the test")
            step._checkpoint("twice")
            assert step.weigh(tokens, np.array([4])) < 0.6 * kept
    assert torch.equal(*found)
    assert found[0].norm() > 0
    tuning.detach()
    assert [module for module in tuning.body.modules() if "forward" in vars(module)] == own


def test_a_pass_that_a_layer_was_given_stays_its_own() -> None:
    body = nn.Sequential(nn.ModuleList([nn.Linear(2, 2)]))
    layer: Any = body[0][0]  # type: ignore[index]
    layer.forward = given = lambda x: 2 * x
    set_checkpointing(body, True)
    assert torch.equal(layer(torch.ones(2)), 2 * torch.ones(2))
    set_checkpointing(body, False)
    assert layer.forward is given
