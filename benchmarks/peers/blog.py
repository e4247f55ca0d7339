"""The blog's recipe with its defects mended: fp32, one prompt for training and use, pooling that the mask and the model's directory decide.

What is left is its way to take a step: rows as they come, every text padded to the cap, a text that stands in several rows encoded for
each, plain InfoNCE against all documents of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from peers import lora
from peers.clock import Clock, Schedule
from peers.rows import Rows


@dataclass(frozen=True)
class Settings:
    rate: float = 1e-4
    batch: int = 16
    temperature: float = 0.05
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0


def embed(model: SentenceTransformer, texts: Sequence[str], prompt: str) -> Tensor:
    """Normalised embeddings of texts padded to the model's `max_seq_length`, with gradients; shape (texts, dimension)."""
    found = model.tokenizer(
        [prompt + text for text in texts], padding="max_length", truncation=True, max_length=model.max_seq_length, return_tensors="pt"
    )
    features: dict[str, Any] = {name: found[name].to(model.device) for name in ("input_ids", "attention_mask")}
    return torch.nn.functional.normalize(model(features)["sentence_embedding"].float(), dim=-1)


def loss(queries: Tensor, documents: Tensor, temperature: float) -> Tensor:
    """InfoNCE: `queries` (rows, dimension) against `documents` (rows x documents a row, dimension), the positives first."""
    return torch.nn.functional.cross_entropy(queries @ documents.T / temperature, torch.arange(len(queries), device=queries.device))


def step(model: SentenceTransformer, rows: Rows, prompts: dict[str, str], temperature: float) -> float:
    """Add the gradient of one batch; its loss."""
    documents = [*rows.positive, *(text for row in rows.negatives for text in row)]
    value = loss(embed(model, rows.query, prompts["query"]), embed(model, documents, prompts["document"]), temperature)
    torch.autograd.backward(value)
    return float(value.detach())


def train(model: SentenceTransformer, rows: Rows, prompts: dict[str, str], settings: Settings, clock: Clock, seed: int) -> tuple[int, int]:
    """Train until the clock is over, and merge; steps taken and rows seen. Rows are dealt anew by the seed in each epoch."""
    tuned = lora.attach(model, seed)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.rate, weight_decay=settings.weight_decay)
    schedule, generator = Schedule(clock), torch.Generator().manual_seed(seed)
    order: list[int] = []
    seen = 0
    while not schedule.over:
        if not order:
            order = torch.randperm(len(rows), generator=generator).tolist()
        taken, order = order[: settings.batch], order[settings.batch :]
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * schedule.factor
        step(model, rows.part(taken), prompts, settings.temperature)
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.stepped()
        seen += len(taken)
    model.eval()
    lora.merge(model, tuned)
    return schedule.steps, seen
