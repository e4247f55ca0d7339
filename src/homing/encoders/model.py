"""A local sentence-transformers model: its conventions obeyed, its texts tokenised once, encoded in chunks of like length."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from torch import Tensor
from tqdm import tqdm
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from homing import conventions
from homing.arguments import demand_path, demand_texts
from homing.batches import chunks
from homing.encoders import packed
from homing.encoders.devices import default_device, fast_dtype, token_budget, use_real_cores
from homing.encoders.directory import directory_of, prompts, weights_digest
from homing.encoders.packed import Packer
from homing.encoders.safety import WEIGHTS, body, read_json, refuse_unsafe
from homing.encoders.safety import modules as listed_modules
from homing.errors import ModelError, NotFittedError, PoolingError, SettingError
from homing.progress import BAR
from homing.protocols import Kind
from homing.settings import POOLINGS, Encoding

if TYPE_CHECKING:
    from homing.retrievers.dense import Dense

transformers_logging.disable_progress_bar()

DEFAULT_MAX_LENGTH = 1024


@dataclass(frozen=True, eq=False)
class Tokens:
    """Texts as token ids, prompt and special tokens included, cut to the model's length.

    Shapes: `ids` (all tokens,), `offsets` (texts + 1,): text i is `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens a text, shape (texts,)."""
        return np.diff(self.offsets)

    def __getitem__(self, text: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[text] : self.offsets[text + 1]]


class Model:
    """A sentence-transformers model from a directory (or a hub name), with the conventions that its directory states.

    Prompts, pooling, padding side, normalisation and length are those of the directory unless a keyword says otherwise; what the
    directory doesn't say is empty (prompts) or an error (pooling). The score of a query and a document is the inner product of their
    embeddings, which are normalised where the model's similarity is the cosine.

    The device "meta" reads no weights of the transformer: the model then says what it is, and encodes nothing.

    Raises ModelError where the directory cannot be used, or is not safe to load (safety.py), PoolingError where it doesn't say its
    pooling, or says one that cannot be right.
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
        encoding = Encoding(query_prompt, document_prompt, instruction, pooling, max_length, trust_remote_code)
        self.source = str(path)
        self.path = directory_of(path)
        self.name = name or Path(self.source).name
        self.device = torch.device(device) if device is not None else default_device()
        self.dtype = dtype or fast_dtype(self.device)
        if self.device.type == "cpu":
            use_real_cores()
        self.trust_remote_code = trust_remote_code
        refuse_unsafe(self.path, trust_remote_code=trust_remote_code)
        self.transformer = _load(self.path, encoding.pooling, self.device, self.dtype, trust_remote_code)
        _refuse_first_token_of_causal(self.transformer, self.path)
        own = self.transformer.max_seq_length or DEFAULT_MAX_LENGTH
        self.max_length = min(encoding.max_length or DEFAULT_MAX_LENGTH, own)
        self.transformer.max_seq_length = self.max_length
        self.prompts = prompts(self.transformer.prompts, self.transformer.default_prompt_name, encoding)
        self.transformer.prompts.update(self.prompts)
        self.transformer.eval()
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
        modes = _pooling(self.transformer).pooling_mode
        return modes if isinstance(modes, str) else "+".join(modes)

    @property
    def dimension(self) -> int:
        return int(self.transformer.get_embedding_dimension())

    @property
    def parameters(self) -> int:
        """Parameters of the model, embeddings included."""
        return sum(parameter.numel() for parameter in self.transformer.parameters())

    @cached_property
    def weights_digest(self) -> str:
        """A digest of every file of the directory that decides an embedding."""
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
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]

    @cached_property
    def document_model(self) -> dict[str, Any] | None:
        """Whose embeddings documents keep (model, digest, max_length), for a directory that encodes queries alone; else None."""
        return conventions.read(self.path).get("documents")

    def tokenize(self, texts: Sequence[str], kind: Kind | None, *, truncate: bool = True) -> Tokens:
        """Token ids of the texts under the prompt of their kind (None: as they come): those sentence-transformers would feed the model."""
        prompt = self.prompts[kind] if kind is not None else ""
        pieces: list[NDArray[np.int32]] = []
        for start in range(0, len(texts), 1024):
            prompted = [prompt + text for text in texts[start : start + 1024]]
            ids = self.transformer.tokenizer(prompted, truncation=truncate, padding=False, verbose=False)["input_ids"]
            pieces.extend(np.asarray(row, dtype=np.int32) for row in ids)
        offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
        np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
        return Tokens(np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32), offsets)

    def token_counts(self, texts: Sequence[str], kind: Kind) -> NDArray[np.int64]:
        """Tokens a text before any cut, prompt and special tokens included; shape (texts,)."""
        return self.tokenize(texts, kind, truncate=False).lengths

    def unknown_share(self, texts: Sequence[str]) -> float:
        """The share of the texts' tokens that the vocabulary doesn't know, 0 for a tokenizer without an unknown token."""
        unknown = self.transformer.tokenizer.unk_token_id
        ids = self.tokenize(texts, "document", truncate=False).ids
        return float((ids == unknown).mean()) if unknown is not None and len(ids) else 0.0

    @cached_property
    def packer(self) -> Packer | None:
        """What encodes this model's texts without padding; None where the model doesn't allow it (tried once, on a few made texts)."""
        return packed.admit(self)[0]

    def chunks(self, lengths: NDArray[np.integer], budget: int = 0) -> Iterator[NDArray[np.intp]]:
        """Positions of texts of these lengths (texts,) in the chunks that this model takes at once; `budget` tokens each, or its own."""
        packed = self.packer is not None
        return chunks(lengths, budget or token_budget(self.device, packed), padded=not packed)

    def embed(self, tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        """Embeddings of these texts as one chunk, with gradients where they are enabled; shape (texts, dimension)."""
        pooled = self.packer.embed(tokens, texts) if self.packer else self.embed_padded(tokens, texts)
        embeddings = pooled.float()
        return torch.nn.functional.normalize(embeddings, dim=-1) if self.similarity == "cosine" else embeddings

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
        features: dict[str, Any] = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        features = {name: tensor.to(self.device, non_blocking=True) for name, tensor in features.items()}
        return cast(Tensor, self.transformer(features)["sentence_embedding"])

    @property
    def similarity(self) -> str:
        """cosine or dot: how the model's directory says that its embeddings are compared. Raises ModelError for a distance."""
        name = self.transformer.similarity_fn_name or "cosine"
        if name not in ("cosine", "dot"):
            raise ModelError("the model compares embeddings by a distance", where=str(self.path), got=name, expected="cosine or dot")
        return name

    def encode_tokens(self, tokens: Tokens, *, progress: str = "") -> NDArray[np.float32]:
        """Embeddings of tokenised texts, shape (texts, dimension); `progress` names a bar that shows while it takes seconds.

        Raises ModelError for embeddings that are not finite.
        """
        out = np.empty((len(tokens), self.dimension), dtype=np.float32)
        bar = tqdm(total=len(tokens.ids), desc=progress, unit=" tokens", unit_scale=True, disable=not progress, **BAR)
        with torch.inference_mode(), bar:
            for chunk in self.chunks(tokens.lengths):
                out[chunk] = self.embed(tokens, chunk).cpu().numpy()
                bar.update(int(tokens.lengths[chunk].sum()))
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
        distinct = list(dict.fromkeys(texts))
        embeddings = self.encode_tokens(self.tokenize(distinct, kind), progress=progress)
        if len(distinct) == len(texts):
            return embeddings
        position = {text: index for index, text in enumerate(distinct)}
        return embeddings[[position[text] for text in texts]]

    def fit(self, documents: Sequence[str]) -> Model:
        """Encode and keep these documents for `search` and `score`; returns the model."""
        from homing.retrievers.dense import Dense

        self._dense = Dense(self)
        self._dense.fit(documents)
        return self

    def search(self, query: str, top_k: int = 10) -> list[tuple[int, float]]:
        """The best `top_k` fitted documents as (index, score), best first. Raises NotFittedError before `fit`."""
        found = self._fitted().search([query], top_k)
        return [(int(index), float(score)) for index, score in zip(found.document[0], found.score[0], strict=True) if index >= 0]

    def score(self, query: str, index: int) -> float:
        """The score of the query and the fitted document at `index`. Raises NotFittedError before `fit`."""
        return float(self._fitted().embeddings[index] @ self.encode([query], "query")[0])

    def _fitted(self) -> Dense:
        if self._dense is None:
            raise NotFittedError("there is nothing to search", where=self.name, remedy="Call fit(documents) first.")
        return self._dense


def _load(path: Path, pooling: str | None, device: torch.device, dtype: torch.dtype, trust: bool) -> SentenceTransformer:
    said = (path / "modules.json").is_file()
    if not said and any(str(name).endswith("ForSequenceClassification") for name in _architectures(path)):
        raise ModelError(
            "the directory holds a cross-encoder or a classifier, which has no embeddings", where=str(path),
            got=", ".join(map(str, _architectures(path))), expected="an embedding model",
            remedy="Give an embedding model; a cross-encoder can teach it (--teacher) or judge (homing judge --model).",
        )  # fmt: skip
    if not said and pooling is None:
        raise PoolingError(
            "the directory doesn't say how the model pools its tokens (there is no modules.json)",
            where=str(path),
            remedy=f"Say it with --pooling ({', '.join(POOLINGS)}); the model's card tells which.",
        )
    arguments: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if device.type == "meta":
        arguments["device_map"] = "meta"
    try:
        if said:
            model = SentenceTransformer(
                str(path), device=None if device.type == "meta" else str(device), local_files_only=True, model_kwargs=arguments,
                trust_remote_code=trust,
            )  # fmt: skip
        else:
            trusted = {"trust_remote_code": trust}
            own = Transformer(str(path), model_kwargs=arguments | trusted, processor_kwargs=trusted, config_kwargs=trusted)
            modules = [own, Pooling(own.get_embedding_dimension(), pooling), Normalize()]
            model = SentenceTransformer(modules=modules, device=str(device))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, SafetensorError) as error:
        raise ModelError(
            "sentence-transformers cannot load this directory",
            where=str(path),
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300],
            remedy="Check that the download is complete, and that its files are those of one model.",
        ) from error
    if not isinstance(model[0], Transformer) or model.tokenizer is None:
        raise ModelError("the model's first module is not a transformer", where=str(path), got=type(model[0]).__name__)
    if not model.tokenizer("a", add_special_tokens=False).get("input_ids"):
        raise ModelError(
            "the directory holds no tokenizer, or an empty one",
            where=str(path),
            expected="tokenizer.json",
            remedy="Download the model again.",
        )
    _demand_all_weights(model[0].model, path)
    if said and device.type == "meta":
        _fill(model, path)
    if said and pooling is not None and _pooling(model).pooling_mode != pooling:
        raise PoolingError(
            "--pooling contradicts the model's directory",
            where=str(path / "1_Pooling"),
            got=pooling,
            expected=str(_pooling(model).pooling_mode),
            remedy="Leave --pooling out: what the directory says is obeyed.",
        )
    return model


def _demand_all_weights(own: Any, path: Path) -> None:
    """Raise ModelError where the files lack weights, which transformers makes up at random; but for a pooler, which nothing here uses."""
    if not type(own).__module__.startswith("transformers."):
        return  # code of the model's own may load as it likes
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its report of the same was printed when the model was loaded
    try:
        _, found = type(own).from_pretrained(str(body(path)), output_loading_info=True, device_map="meta", local_files_only=True)
    finally:
        transformers_logging.set_verbosity(before)
    missing = sorted(name for name in found["missing_keys"] if "pooler" not in name.split("."))
    if missing:
        raise ModelError(
            "the files lack weights of the model, which would be made up at random", where=str(path),
            got=f"{len(missing):,} missing: {', '.join(missing[:3])}" + (", …" if len(missing) > 3 else ""),
            remedy="Give a directory whose config.json and weights are of one model, under the names that transformers gives them.",
        )  # fmt: skip


def _fill(model: SentenceTransformer, path: Path) -> None:
    """Read the weights of what follows the transformer, which are small, though the device is "meta"."""
    for each, module in zip(listed_modules(path)[1:], list(model)[1:], strict=True):
        file = path / str(each["path"]) / WEIGHTS
        if any(True for _ in module.parameters()) and file.is_file():
            module.load_state_dict(load_file(file), assign=True)


def _architectures(path: Path) -> list[object]:
    config = path / "config.json"
    said = read_json(config) if config.is_file() else {}
    return list(said.get("architectures") or ()) if isinstance(said, dict) else []


def _pooling(model: SentenceTransformer) -> Pooling:
    for module in model:
        if isinstance(module, Pooling):
            if not module.include_prompt:
                raise PoolingError("pooling that leaves the prompt's tokens out is not supported", expected="include_prompt: true")
            return module
    raise PoolingError("the model has no pooling module", remedy="Give a model whose modules.json names one.")


def _refuse_first_token_of_causal(model: SentenceTransformer, path: Path) -> None:
    config = model[0].model.config
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if getattr(config, "use_bidirectional_attention", False) or getattr(config, "is_causal", True) is False:
        causal = False
    modes = _pooling(model).pooling_mode
    if causal and "cls" in ((modes,) if isinstance(modes, str) else modes):
        raise PoolingError(
            f"{kind} is a causal model: its first token has seen nothing of the text",
            where=str(path),
            got="pooling cls",
            expected="lasttoken",
            remedy="Mend 1_Pooling/config.json, or give a directory that pools the last token.",
        )
