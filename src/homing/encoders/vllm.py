"""A model in vLLM, in this process, as an encoder. Imports no torch of its own, and of Homing only what runs in vLLM's environment.

vLLM pools and normalises as the directory's modules.json says. It is given token ids, so that prompts and end tokens are those of `Model`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homing.encoders.directory import DEFAULT_MAX_LENGTH, directory_of, prompts, weights_digest
from homing.encoders.repeated import each_once
from homing.errors import ModelError, PoolingError, SettingError
from homing.protocols import Kind
from homing.settings import Encoding


class VLLM:
    """An `Encoder` of a model directory (or hub name) through `vllm.LLM`; further keywords are the engine's (`gpu_memory_utilization`,
    `tensor_parallel_size`, `dtype` ...).

    Raises ModelError where vLLM is not installed or cannot load the model, PoolingError for a directory that doesn't say its pooling,
    SettingError for a length above the directory's own.
    """

    def __init__(
        self, path: str | Path, *, query_prompt: str | None = None, document_prompt: str | None = None, instruction: str | None = None,
        max_length: int | None = None, name: str | None = None, **engine: Any,
    ) -> None:  # fmt: skip
        self.path = directory_of(path)
        if not (self.path / "modules.json").is_file():
            raise PoolingError(
                "the directory doesn't say how the model pools its tokens (there is no modules.json)", where=str(self.path),
                remedy="Write it with sentence-transformers first: vLLM would guess.",
            )  # fmt: skip
        try:
            from vllm import LLM
        except ImportError as error:
            raise ModelError("VLLM needs vLLM, which is not installed", got=str(error), remedy="pip install vllm") from None
        from transformers import AutoTokenizer

        said = _json(self.path / "config_sentence_transformers.json")
        self.name = name or f"{self.path.name} (vLLM)"
        encoding = Encoding(query_prompt, document_prompt, instruction, None, max_length)
        self.prompts: Mapping[Kind, str] = prompts(said.get("prompts") or {}, said.get("default_prompt_name"), encoding)
        self.similarity = str(said.get("similarity_fn_name") or "cosine")
        self.tokenizer = AutoTokenizer.from_pretrained(str(self.path), local_files_only=True)
        own = self._own_length()
        if max_length is not None and max_length > own:
            raise SettingError(
                "--max-length is above the model's own, which vLLM doesn't go beyond", where=str(self.path), got=f"{max_length:,} tokens",
                expected=f"{own:,} or less", remedy="Leave it out, or give less.",
            )  # fmt: skip
        self.max_length = max_length or min(DEFAULT_MAX_LENGTH, own)
        self._engine = {"runner": "pooling", "convert": "embed", "max_model_len": self.max_length, **engine}
        try:
            self.llm = LLM(model=str(self.path), **self._engine)
        except (ValueError, RuntimeError, OSError, ImportError) as error:
            raise ModelError(
                "vLLM cannot load the model", where=str(self.path), got=f"{type(error).__name__}: {error}"[:300],
                remedy="See what it printed above; on a GPU that others use too, gpu_memory_utilization helps.",
            ) from error  # fmt: skip
        self._cut = said.get("truncate_dim")
        self.dimension = self._embed([self.tokenizer("a")["input_ids"]], progress=False).shape[1]

    def _own_length(self) -> int:
        """The tokens that the directory allows a text, as sentence-transformers reads it."""
        said = _json(self.path / "sentence_bert_config.json").get("max_seq_length")
        if said:
            return int(said)
        return min(int(_json(self.path / "config.json").get("max_position_embeddings", 1 << 30)), int(self.tokenizer.model_max_length))

    @property
    def digest(self) -> str:
        """Changes with weights, prompts, length, or what the engine was told."""
        return self._digest(self.prompts)

    def digest_of(self, kind: Kind) -> str:
        """As `digest`, with the prompt of this kind alone."""
        return self._digest({kind: self.prompts[kind]})

    def _digest(self, said: Mapping[Kind, str]) -> str:
        parts = ["vllm", weights_digest(self.path), dict(said), self.max_length, {name: str(value) for name, value in self._engine.items()}]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def tokenize(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        """The token ids that the model is given, prompt and special tokens included."""
        prompted = [self.prompts[kind] + text for text in texts]
        ids = self.tokenizer(prompted, truncation=True, max_length=self.max_length, padding=False, verbose=False)["input_ids"]
        return [list(map(int, row)) for row in ids]

    def encode(self, texts: Sequence[str], kind: Kind = "document", *, progress: str = "") -> NDArray[np.float32]:
        """Embeddings of texts under the prompt of their kind; equal texts are encoded once. Shape (texts, dimension)."""
        distinct, rows = each_once(texts)
        if not distinct:
            return np.empty((0, self.dimension), dtype=np.float32)
        return self._embed(self.tokenize(distinct, kind), progress=bool(progress))[rows]

    def _embed(self, ids: Sequence[Sequence[int]], *, progress: bool) -> NDArray[np.float32]:
        answers = self.llm.embed([{"prompt_token_ids": list(row)} for row in ids], use_tqdm=progress)
        found = np.array([answer.outputs.embedding for answer in answers], dtype=np.float32)[:, : self._cut]
        if self.similarity == "cosine":
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found


def _json(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
