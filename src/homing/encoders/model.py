"""A local sentence-transformers model: its conventions obeyed, its texts tokenised once, encoded in chunks of like length."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from hashlib import sha256
from numbers import Integral
from os.path import abspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.models import Normalize
from torch import Tensor
from tqdm import tqdm

from homing import conventions
from homing.arguments import demand, demand_path, demand_texts
from homing.batches import chunks
from homing.encoders import packed
from homing.encoders.devices import (
    Arriving,
    default_device,
    device_of,
    fast_dtype,
    on_device,
    ran_out,
    return_unused_memory,
    token_budget,
    use_real_cores,
)  # fmt: skip
from homing.encoders.directory import DEFAULT_MAX_LENGTH, directory_of, prompts, weights_digest
from homing.encoders.lean import make_lean
from homing.encoders.packed import Packer
from homing.encoders.reading import demand_positions, own_length, pooling_of, read
from homing.encoders.repeated import each_once
from homing.encoders.tokens import Tokens, token_ids
from homing.errors import ModelError, NotFittedError, SettingError
from homing.progress import BAR
from homing.protocols import Kind
from homing.settings import Encoding

if TYPE_CHECKING:
    from homing.retrievers.dense import Dense


class Model:
    """A sentence-transformers model from a directory (or a hub name), with the conventions that its directory states.

    Prompts, pooling, padding side, normalisation and length are those of the directory unless a keyword says otherwise; what the
    directory doesn't say is empty (prompts) or an error (pooling). A `max_length` above the directory's own is obeyed as far as the
    architecture has positions; without one it is at most 1024. The score of a query and a document is the inner product of their
    embeddings, which are normalised where the model's similarity is the cosine.

    The device "meta" reads no weights of the transformer: the model then says what it is, and encodes nothing.

    Raises ModelError where the directory cannot be used, or is not safe to load (safety.py), PoolingError where it doesn't say its
    pooling, or says one that cannot be right, SettingError for a length that the model has no positions for, a device
    that is not there, or a `dtype` that is none of torch's.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        instruction: str | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
        trust_remote_code: bool = False,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        name: str | None = None,
    ) -> None:
        demand_path(path=path)
        demand(torch.dtype | None, dtype=dtype)
        encoding = Encoding(query_prompt, document_prompt, instruction, pooling, max_length, trust_remote_code)
        local = Path(path).expanduser()
        self.source = abspath(local) if local.is_dir() else str(path)  # what is kept of it is read elsewhere
        self.path = directory_of(path)
        self.name = name or Path(self.source).name
        self.device = default_device() if device is None else device_of(device)
        self.dtype = dtype or fast_dtype(self.device)
        if self.device.type == "cpu":
            use_real_cores()
        self.trust_remote_code = trust_remote_code
        self.transformer = read(self.path, encoding.pooling, self.device, self.dtype, trust_remote_code=trust_remote_code)
        self.without_kernels_because = ""  # why an accelerator takes more passes between the products than it could
        if self.device.type not in ("cpu", "meta"):
            _, self.without_kernels_because = make_lean(self.transformer[0].model)
        self.own_length = own_length(self.transformer)
        demand_positions(self.transformer, self.path, encoding.max_length)
        self.max_length = encoding.max_length or min(DEFAULT_MAX_LENGTH, self.own_length)
        self.transformer.max_seq_length = self.max_length
        self.prompts = prompts(self.transformer.prompts, self.transformer.default_prompt_name, encoding)
        self.transformer.prompts.update(self.prompts)
        self.transformer.eval()
        self.products: torch.dtype | None = None  # number format of matrix products, where the weights are float32 because they learn
        self.padded_because = ""  # why there is no packer, once it was tried
        self.change: str | None = ""  # put on the weights since they were read: an adapter, by its digest; None while they learn
        self._dense: Dense | None = None

    def again(self, device: str | torch.device, dtype: torch.dtype) -> Model:
        """The same model, read from its directory anew, on a device and in a number format."""
        said = (self.path / "modules.json").is_file()
        return Model(
            self.path, query_prompt=self.prompts["query"], document_prompt=self.prompts["document"],
            pooling=None if said else self.pooling, max_length=self.max_length, trust_remote_code=self.trust_remote_code,
            device=device, dtype=dtype, name=self.name,
        )  # fmt: skip

    @property
    def pooling(self) -> str:
        """The pooling modes, joined by '+'."""
        modes = pooling_of(self.transformer).pooling_mode
        return modes if isinstance(modes, str) else "+".join(modes)

    @property
    def dimension(self) -> int:
        return int(self.transformer.get_embedding_dimension())

    @property
    def manner(self) -> str:
        """How texts are read, in words: the prompts, and the length where it is not the directory's own."""
        said = f"prompts: query {self.prompts['query']!r}, document {self.prompts['document']!r}"
        if not self.prompts["query"] and (others := [repr(name) for name, text in self.transformer.prompts.items() if text]):
            said += f" (the directory also names {', '.join(others[:4])}: --query-prompt takes such a text)"
        longer = f"; {self.max_length:,} tokens a text, where its directory says {self.own_length:,}"
        return said + (longer if self.max_length > self.own_length else "")

    @property
    def parameters(self) -> int:
        """Parameters of the model, embeddings included."""
        return sum(parameter.numel() for parameter in self.transformer.parameters())

    @cached_property
    def weights_digest(self) -> str:
        """A digest of the files of the directory that decide an embedding."""
        return weights_digest(self.path)

    @property
    def digest(self) -> str:
        """Changes with weights, prompts, pooling, length or number format; while weights are trained, that of those it began with."""
        return self._digest(self.prompts)

    def digest_of(self, kind: Kind) -> str:
        """Changes with weights, this kind's prompt, pooling, length or number format.

        Raises ModelError while the weights are trained: there is no telling then which they are.
        """
        if self.change is None:
            raise ModelError("the weights are being trained, and have no digest", where=self.name, remedy="Detach the tuning first.")
        return self._digest({kind: self.prompts[kind]})

    def _digest(self, prompts: dict[Kind, str]) -> str:
        said = [self.weights_digest, prompts, self.pooling, self.max_length, str(self.dtype), *([self.change] if self.change else [])]
        said += [str(self.products)] if self.products else []
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]

    @cached_property
    def document_model(self) -> dict[str, Any] | None:
        """Whose embeddings documents keep (model, digest, max_length), for a directory that encodes queries alone; else None."""
        return conventions.read(self.path).get("documents")

    def tokenize(self, texts: Sequence[str], kind: Kind | None, *, truncate: bool = True) -> Tokens:
        """Token ids of the texts under the prompt of their kind (None: as they come): those sentence-transformers would feed the model.

        A text without any, as an empty one where the tokenizer adds no token, is one of padding: a model embeds nothing less.
        """
        tokenizer = self.transformer.tokenizer
        rows = token_ids(tokenizer, texts, self.prompts[kind] if kind is not None else "", truncate=truncate)
        return Tokens.of(row or [tokenizer.pad_token_id or 0] for row in rows)

    def token_counts(self, texts: Sequence[str], kind: Kind, *, progress: str = "") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens a text before any cut, prompt and special tokens included, and how many of them the vocabulary does not know.

        Shapes: (texts,) each; no token is unknown to a tokenizer that has none for it. `progress` names a bar.
        """
        tokenizer = self.transformer.tokenizer
        unknown = tokenizer.unk_token_id
        rows = token_ids(tokenizer, texts, self.prompts[kind], truncate=False)
        rows = tqdm(rows, desc=progress, total=len(texts), unit=" texts", disable=not progress, **BAR)
        counts = [(len(row), 0 if unknown is None else row.count(unknown)) for row in rows]
        tokens, unknowns = np.array(counts, dtype=np.int64).reshape(-1, 2).T
        return tokens, unknowns

    @cached_property
    def packer(self) -> Packer | None:
        """What encodes this model's texts without padding; None where the model doesn't allow it (tried once, on a few made texts)."""
        with self._products_format():
            packer, self.padded_because = packed.admit(self.transformer, self.device, self.products or self.dtype, self.embed_padded)
        return packer

    def _products_format(self) -> AbstractContextManager[object]:
        """Within it, matrix products are in their own number format, where that is not the weights'."""
        return torch.autocast(self.device.type, self.products) if self.products else nullcontext()

    def chunks(self, lengths: NDArray[np.integer], budget: int = 0) -> Iterator[NDArray[np.intp]]:
        """Positions of texts, shape (texts of a chunk,), in the chunks that this model takes at once: of `budget` tokens each, or its own.

        `lengths`: tokens a text, shape (texts,).
        """
        packed = self.packer is not None
        return chunks(lengths, budget or token_budget(self.device, packed), padded=not packed)

    def embed(self, tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        """Embeddings of these texts as one chunk, with gradients where they are enabled; shape (texts, dimension)."""
        with self._products_format():
            pooled = self.packer.embed(tokens, texts) if self.packer else self.embed_padded(tokens, texts)
        embeddings = pooled.float()
        return torch.nn.functional.normalize(embeddings, dim=-1) if self.similarity == "cosine" else embeddings

    def embed_as_fits(self, tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        """As `embed`, shape (texts, dimension); where memory runs out, in halves.

        Raises ModelError where one text alone is too much for it.
        """
        try:
            return self.embed(tokens, texts)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if len(texts) == 1:
                raise ModelError(
                    "one text is too much for the memory", where=self.name, got=f"{int(tokens.lengths[texts[0]]):,} tokens",
                    remedy="Try a smaller --max-length, or a smaller --model; or end what else takes memory there.",
                ) from error  # fmt: skip
        return_unused_memory(self.device)  # what was made is let go by now
        half = len(texts) // 2
        return torch.cat([self.embed_as_fits(tokens, texts[:half]), self.embed_as_fits(tokens, texts[half:])])

    def embed_padded(self, tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        """What the last module gives for these texts as one padded chunk; shape (texts, dimension)."""
        lengths = tokens.lengths[texts]
        width, left = int(lengths.max()), self.transformer.tokenizer.padding_side == "left"
        ids = np.full((len(texts), width), self.transformer.tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros((len(texts), width), dtype=np.int64)
        for row, text in enumerate(texts.tolist()):
            place = slice(width - lengths[row], width) if left else slice(0, lengths[row])
            ids[row, place] = tokens[text]
            mask[row, place] = 1
        features: dict[str, Any] = {"input_ids": on_device(ids, self.device), "attention_mask": on_device(mask, self.device)}
        return cast(Tensor, self.transformer(features)["sentence_embedding"])

    @property
    def similarity(self) -> str:
        """cosine or dot: how the model's directory says that its embeddings are compared. Raises ModelError for a distance."""
        name = self.transformer.similarity_fn_name or "cosine"
        if name not in ("cosine", "dot"):
            raise ModelError("the model compares embeddings by a distance", where=str(self.path), got=name, expected="cosine or dot")
        return name

    @property
    def unit_length(self) -> bool:
        """Whether every embedding has length 1: it is compared by cosine, or the model's last module brings it there."""
        return self.similarity == "cosine" or isinstance(self.transformer[-1], Normalize)

    def encode_tokens(self, tokens: Tokens, *, progress: str = "") -> NDArray[np.float32]:
        """Embeddings of tokenised texts, shape (texts, dimension); `progress` names a bar that shows while it takes seconds.

        Raises ModelError for embeddings that are not finite, and for a text that is too much for the memory.
        """
        out = np.empty((len(tokens), self.dimension), dtype=np.float32)
        bar = tqdm(total=len(tokens.ids), desc=progress, unit=" tokens", unit_scale=True, disable=not progress, **BAR)

        def keep(chunk: NDArray[np.intp], embeddings: Arriving) -> None:
            out[chunk] = embeddings.here().numpy()
            bar.update(int(tokens.lengths[chunk].sum()))

        underway: deque[tuple[NDArray[np.intp], Arriving]] = deque()
        with torch.inference_mode(), bar:
            for chunk in self.chunks(tokens.lengths):
                underway.append((chunk, Arriving(self.embed_as_fits(tokens, chunk))))
                if len(underway) > 1:  # an accelerator has the next chunk to do while this one is read
                    keep(*underway.popleft())
            for each in underway:
                keep(*each)
        if broken := int((~np.isfinite(out).all(axis=1)).sum()):
            raise ModelError(
                "the model gives embeddings that are not finite", where=str(self.path), got=f"{broken:,} of {len(out):,} texts",
                remedy="Its weights are damaged (download it again), or training diverged (a smaller --learning-rate).",
            )  # fmt: skip
        return out

    def encode(self, texts: Sequence[str], kind: Kind = "document", *, progress: str = "") -> NDArray[np.float32]:
        """Embeddings of texts under the prompt of their kind; equal texts are encoded once. Shape (texts, dimension).

        Raises ModelError for documents where the directory says that it encodes queries alone.
        """
        if kind == "document" and self.document_model is not None:
            raise ModelError(
                "this directory encodes queries alone", where=str(self.path), got="documents",
                remedy=f"Encode documents with {self.document_model['model']}; homing.open_model(path) gives the two as one.",
            )  # fmt: skip
        demand_texts(texts)
        if kind not in self.prompts:
            raise SettingError("there is no such kind of text", got=repr(kind), expected="'query' or 'document'")
        distinct, rows = each_once(texts)
        return self.encode_tokens(self.tokenize(distinct, kind), progress=progress)[rows]

    def fit(self, documents: Sequence[str]) -> Model:
        """Encode and keep these documents for `search` and `score`; returns the model."""
        from homing.retrievers.dense import Dense

        self._dense = Dense(self)
        self._dense.fit(documents)
        return self

    def search(self, query: str, top_k: int = 10) -> list[tuple[int, float]]:
        """The best `top_k` fitted documents as (index, score), best first; all of them, where there are fewer.

        Raises NotFittedError before `fit`, SettingError for a `top_k` below 1.
        """
        if not isinstance(top_k, Integral) or top_k < 1:
            raise SettingError("top_k is out of range", got=repr(top_k), expected="a whole number from 1")
        found = self._fitted().search([query], int(top_k))
        return [(int(index), float(score)) for index, score in zip(found.document[0], found.score[0], strict=True) if index >= 0]

    def score(self, query: str, index: int) -> float:
        """The score of the query and the fitted document at `index`, which counts from 0.

        Raises NotFittedError before `fit`, SettingError where there is no such document.
        """
        documents = self._fitted().embeddings
        if not isinstance(index, Integral) or not 0 <= index < len(documents):
            raise SettingError("there is no such document", got=repr(index), expected=f"an index below {len(documents):,}, of those fitted")
        return float(documents[index] @ self.encode([query], "query")[0])

    def _fitted(self) -> Dense:
        if self._dense is None:
            raise NotFittedError("there is nothing to search", where=self.name, remedy="Call fit(documents) first.")
        return self._dense
