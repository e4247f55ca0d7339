"""A model's directory read as a sentence-transformers pipeline, or refused with one error that says why."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from homing.encoders.devices import ran_out
from homing.encoders.safety import WEIGHTS, architectures, body, modules, no_transformer, refuse_unsafe
from homing.encoders.tokens import token_ids
from homing.errors import ModelError, PoolingError, ResourceError, SettingError, first_line
from homing.protocols import Kind
from homing.settings import POOLINGS

transformers_logging.disable_progress_bar()
LONG = 1200  # words: more tokens than any text is cut to, where nobody says
_UNBOUNDED = 1 << 30  # tokens: positions are relative, and the configuration names no end


class Cut(nn.Module):
    """The first numbers of each embedding alone: the `truncate_dim` of a directory, which sentence-transformers' `encode` obeys."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """The features with `sentence_embedding` of shape (texts, dimension)."""
        return features | {"sentence_embedding": features["sentence_embedding"][..., : self.dimension]}


def read(path: Path, pooling: str | None, device: torch.device, dtype: torch.dtype, *, trust_remote_code: bool) -> SentenceTransformer:
    """The pipeline of a directory: transformer, pooling, and what follows. On the device "meta" the transformer has no weights.

    `pooling` is for a directory without modules.json, which doesn't say its own. Raises ModelError for a directory that is not safe to
    load, or not whole, or no embedding model's; PoolingError where it doesn't say its pooling, or says what cannot be right.
    """
    refuse_unsafe(path, trust_remote_code=trust_remote_code)
    said = (path / "modules.json").is_file()
    if not said:
        _demand_pooling(path, pooling)
    try:
        model = (_as_said if said else _made)(path, pooling, device, dtype, trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, SafetensorError, MemoryError) as error:
        if ran_out(error):
            raise ResourceError(
                "the model does not fit into the memory", where=str(path), got=first_line(error),
                remedy="End what else takes memory there, or give a smaller model.",
            ) from error  # fmt: skip
        raise ModelError(
            "sentence-transformers cannot load this directory", where=str(path),
            got=f"{type(error).__name__}: {first_line(error)}",
            remedy="Check that the download is complete, and that its files are those of one model.",
        ) from error  # fmt: skip
    _demand_whole(model, path)
    if said and device.type == "meta":
        _fill(model, path)
    if said:
        _demand_plain_texts(model, path)
    if model.truncate_dim is not None:
        model.append(Cut(model.truncate_dim))
    if said and pooling is not None and pooling_of(model).pooling_mode != pooling:
        raise PoolingError(
            "--pooling contradicts the model's directory", where=str(path / "1_Pooling"), got=pooling,
            expected=str(pooling_of(model).pooling_mode), remedy="Leave --pooling out: what the directory says is obeyed.",
        )  # fmt: skip
    _refuse_first_token_of_causal(model, path)
    _keep_no_past(model)
    return model


def _keep_no_past(model: SentenceTransformer) -> None:
    """Switch the cache of past keys and values off, which generating text needs and an embedding does not.

    sentence-transformers 6.0 leaves it as a decoder's configuration says. Each pass then copied all keys and values, in mixed precision to
    float32.
    """
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "use_cache"):
            config.use_cache = False


def _demand_pooling(path: Path, pooling: str | None) -> None:
    """Raise where a directory without modules.json is no embedding model's, or nobody says how it pools."""
    held = architectures(path)
    if any(name.endswith("ForSequenceClassification") for name in held):
        raise ModelError(
            "the directory holds a cross-encoder or a classifier, which has no embeddings", where=str(path),
            got=", ".join(held), expected="an embedding model",
            remedy="Give an embedding model; a cross-encoder can teach it (--teacher) or judge (homing judge --model).",
        )  # fmt: skip
    if pooling is None:
        raise PoolingError(
            "the directory doesn't say how the model pools its tokens (there is no modules.json)", where=str(path),
            remedy=f"Say it with --pooling ({', '.join(POOLINGS)}); the model's card tells which.",
        )  # fmt: skip


def _as_said(path: Path, pooling: str | None, device: torch.device, dtype: torch.dtype, trust: bool) -> SentenceTransformer:
    """The pipeline that modules.json says."""
    arguments: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if device.type == "meta":
        return SentenceTransformer(
            str(path), local_files_only=True, model_kwargs=arguments | {"device_map": "meta"}, trust_remote_code=trust
        )  # fmt: skip
    return SentenceTransformer(str(path), device=str(device), local_files_only=True, model_kwargs=arguments, trust_remote_code=trust)


def _made(path: Path, pooling: str | None, device: torch.device, dtype: torch.dtype, trust: bool) -> SentenceTransformer:
    """The pipeline of a directory that says none: the transformer, this pooling, normalised."""
    trusted = {"trust_remote_code": trust}
    arguments: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, **trusted}
    if device.type == "meta":
        arguments["device_map"] = "meta"
    own = Transformer(str(path), model_kwargs=arguments, processor_kwargs=trusted, config_kwargs=trusted)
    return SentenceTransformer(modules=[own, Pooling(own.get_embedding_dimension(), pooling), Normalize()], device=str(device))


def _demand_whole(model: SentenceTransformer, path: Path) -> None:
    """Raise ModelError where the transformer, its tokenizer or some of its weights are not there."""
    if not isinstance(model[0], Transformer) or model.tokenizer is None:
        raise no_transformer(path, f"{type(model[0]).__module__}.{type(model[0]).__name__}")
    tokenizer: Any = model.tokenizer
    empty = not tokenizer("a", add_special_tokens=False).get("input_ids")
    if empty or len(tokenizer.get_vocab()) <= len(tokenizer.all_special_ids):  # transformers makes up one that knows no word
        raise ModelError(
            "the directory holds no tokenizer, or an empty one", where=str(path), expected="tokenizer.json",
            remedy="Download the model again.",
        )  # fmt: skip
    if tokenizer.pad_token is None:  # as in models made to generate: any token will do, since the mask hides it
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    _demand_all_weights(model[0].model, path)


def _demand_all_weights(own: Any, path: Path) -> None:
    """Raise ModelError where the files lack weights, which transformers makes up at random; but for a pooler, which nothing here uses.

    transformers marks what it has read. Where a mark is missing, the names alone are read again, as its loader tells them then.
    """
    if not type(own).__module__.startswith("transformers."):
        return  # code of the model's own may load as it likes
    if all(getattr(tensor, "_is_hf_initialized", False) for tensor in own.state_dict(keep_vars=True).values()):
        return
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


def _demand_plain_texts(model: SentenceTransformer, path: Path) -> None:
    """Raise ModelError where sentence-transformers does more to a text than to put the prompt before it and to tokenise it.

    It would do so with the merged model too, whose embeddings would then be others than those that were trained and measured.
    """
    kinds: tuple[Kind, ...] = ("query", "document")
    for kind, text in product(kinds, ("A text.", "word " * LONG)):
        (wanted,) = token_ids(model.tokenizer, [text], model.prompts.get(kind, ""))
        try:
            ids = model.preprocess([text], prompt=model.prompts.get(kind), task=kind)["input_ids"][0].tolist()
        except Exception as error:  # a model of images or sounds, or code of its own
            raise ModelError(
                "sentence-transformers gives no text to this model", where=str(path), got=f"{type(error).__name__}: {error}"[:200],
                remedy="Give a model that embeds texts.",
            ) from error  # fmt: skip
        if ids != wanted:
            raise ModelError(
                f"sentence-transformers gives a {kind} to this model otherwise than by its tokenizer", where=str(path),
                got=f"{len(ids):,} tokens of a text that has {len(wanted):,}",
                remedy="Take out of sentence_bert_config.json what does that (message in modality_config, which is a chat template; "
                "query_length, document_length, processing_kwargs): what is trained and served is then the text as it is.",
            )  # fmt: skip


def _fill(model: SentenceTransformer, path: Path) -> None:
    """Read the weights of what follows the transformer, which are small, though the device is "meta"."""
    for each, module in zip(modules(path)[1:], list(model)[1:], strict=True):
        file = path / str(each["path"]) / WEIGHTS
        if any(True for _ in module.parameters()) and file.is_file():
            module.load_state_dict(load_file(file), assign=True)


def pooling_of(model: SentenceTransformer) -> Pooling:
    """The module that pools. Raises PoolingError where there is none, or one that leaves the prompt out."""
    for module in model:
        if isinstance(module, Pooling):
            if not module.include_prompt:
                raise PoolingError("pooling that leaves the prompt's tokens out is not supported", expected="include_prompt: true")
            return module
    raise PoolingError("the model has no pooling module", remedy="Give a model whose modules.json names one.")


def own_length(model: SentenceTransformer) -> int:
    """The tokens of a text that the directory says the model reads, or that it has positions for."""
    said = model.max_seq_length or _UNBOUNDED
    return int(min(said, _positions(model)))


def demand_positions(model: SentenceTransformer, path: Path, length: int | None) -> None:
    """Raise SettingError for a text's length in tokens that the model has no positions for."""
    most = _positions(model)
    if length is not None and length > most:
        raise SettingError(
            "--max-length goes beyond the model's positions", where=str(path), got=f"{length:,} tokens", expected=f"{most:,} or less",
            remedy=f"Give less. Without it, the model's directory is obeyed, which says {own_length(model):,}.",
        )  # fmt: skip


def _positions(model: SentenceTransformer) -> int:
    """The tokens that the architecture has positions for: by its table of them, or by what its configuration says."""
    body = model[0].model
    tables = (getattr(module, "position_embeddings", None) for module in body.modules())
    for table in tables:
        if isinstance(table, nn.Embedding):  # RoBERTa and its kin count from the padding index + 1
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    said = getattr(body.config.get_text_config(), "max_position_embeddings", None)
    return said if isinstance(said, int) and said > 0 else _UNBOUNDED


def _refuse_first_token_of_causal(model: SentenceTransformer, path: Path) -> None:
    """Raise PoolingError for a causal model that pools its first token."""
    config = model[0].model.config
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if getattr(config, "use_bidirectional_attention", False) or getattr(config, "is_causal", True) is False:
        causal = False
    modes = pooling_of(model).pooling_mode
    if causal and "cls" in ((modes,) if isinstance(modes, str) else modes):
        raise PoolingError(
            f"{kind} is a causal model: its first token has seen nothing of the text",
            where=str(path),
            got="pooling cls",
            expected="lasttoken",
            remedy="Mend 1_Pooling/config.json, or give a directory that pools the last token.",
        )
