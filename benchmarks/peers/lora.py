"""The same LoRA for every peer: on all linear layers but a pooler's, by peft itself."""

from __future__ import annotations

import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sentence_transformers import SentenceTransformer

RANK, ALPHA, DROPOUT = 16, 32, 0.05


def attach(model: SentenceTransformer, seed: int, dropout: float = DROPOUT) -> PeftModel:
    """Put a fresh LoRA on the model, in place: everything else is frozen."""
    torch.manual_seed(seed)
    poolers = any("pooler" in name for name, _ in model[0].model.named_modules())
    config = LoraConfig(
        task_type="FEATURE_EXTRACTION", r=RANK, lora_alpha=ALPHA, lora_dropout=dropout, target_modules="all-linear",
        exclude_modules=r".*pooler.*" if poolers else None,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")  # a name that peft still asks transformers for
        return get_peft_model(model[0].model, config)


def merge(model: SentenceTransformer, tuned: PeftModel) -> None:
    """Put the adapter into the model's own weights, in place."""
    model[0].model = tuned.merge_and_unload(safe_merge=True)
