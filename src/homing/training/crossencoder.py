"""Scores of pairs of a query and a document by a cross-encoder, kept on disk as they come: to distil from, to judge by, to audit with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from homing.data import digest as digest_texts
from homing.digests import file_digest
from homing.encoders.answers import answers
from homing.encoders.devices import default_device, fast_dtype
from homing.encoders.safety import refuse_unsafe
from homing.errors import ModelError, first_line

PAIRS_A_SHARD = 256
PAIRS_A_BATCH = 32


def score_pairs(path: str | Path, asked: Sequence[tuple[str, str]], directory: Path) -> NDArray[np.float32]:
    """The scores that a sentence-transformers cross-encoder gives these pairs of a query and a document; shape (pairs,).

    They are its logits, before any sigmoid: where it is certain, probabilities are all 1 or 0 and rank nothing. Kept under `directory`
    as they come, and not asked again.

    Raises ModelError where the directory cannot be loaded, or gives more than one number a pair or one that is not finite.
    """
    path, device = Path(path), default_device()
    dtype = fast_dtype(device)
    name = digest_texts([file_digest(path), str(dtype), *(text for pair in asked for text in pair)])
    model: CrossEncoder | None = None

    def score(shard: slice) -> NDArray[np.float32]:
        nonlocal model
        model = _load(path, device, dtype) if model is None else model
        said = model.predict(asked[shard], batch_size=PAIRS_A_BATCH, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return np.asarray(said, dtype=np.float32)

    file = directory / f"scores-{name}.npy"
    return answers(file, len(asked), PAIRS_A_SHARD, score, progress=f"{path.name}: pairs", unit="pair", where=str(path))


def _load(path: Path, device: torch.device, dtype: torch.dtype) -> CrossEncoder:
    refuse_unsafe(path)
    arguments = {"dtype": dtype, "use_safetensors": True}
    try:
        model = CrossEncoder(str(path), device=str(device), local_files_only=True, model_kwargs=arguments)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
        raise ModelError(
            "sentence-transformers cannot load this cross-encoder", where=str(path),
            got=f"{type(error).__name__}: {first_line(error)}",
            remedy="Check that the download is complete, and that its files are those of one model.",
        ) from error  # fmt: skip
    if model.num_labels != 1:
        raise ModelError(
            "the classifier gives no single score a pair", where=str(path), got=f"{model.num_labels} labels", expected="1 label",
            remedy="Give a cross-encoder that was trained to rank.",
        )  # fmt: skip
    return model
