"""Texts encoded without padding: their tokens in one row, each text attending to itself alone.

A transformer works on each token by itself but for its attention. So the tokens of a chunk stand in one row of shape (1, tokens),
positions start anew with each text, and the attention is told where texts begin. It is registered with transformers as `sdpa`, which
stays what it was for every call that brings no `Packing`. On CUDA, in half precision, PyTorch's own kernel for texts of any length
attends (FlashAttention-2, Dao 2023, arXiv 2307.08691); elsewhere texts of equal length attend together, as views of the row. The
states are padded once, for the pooling. On a CPU a long row ends in tokens that nobody reads, so that few lengths of rows occur.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from homing.encoders.devices import on_device
from homing.encoders.tokens import Tokens
from homing.errors import first_line

Kernel = Callable[..., Any]
Embed = Callable[[Tokens, NDArray[np.integer]], Tensor]

try:
    from torch.nn.attention.varlen import varlen_attn

    KERNEL: Kernel | None = varlen_attn
except ImportError:  # before PyTorch 2.10
    KERNEL = None

HALF = (torch.float16, torch.bfloat16)
HAS_KERNEL = ("cuda",)  # devices that it runs on
KERNEL_WIDTHS = range(8, 257, 8)  # head dimensions that it takes
UNKNOWN = ("softcap", "s_aux", "position_bias", "cache")  # what some models hand to their attention and ours doesn't know
FEW = (3, 1, 12, 12, 5)  # lengths of the trial's texts
FILLED = 16  # on a CPU a row has a multiple of these tokens: oneDNN keeps a kernel for each number that ever occurs (docs/log.md)
LONG = 512  # tokens of a row that is filled up: what is added is below a thirtieth of it
MOST_APART = {torch.float32: 1e-4}  # distance of the two embeddings over their length; in half precision a cosine of 0.98
MOST_APART_IN_HALF = 0.2


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the texts of a packed row are.

    `runs` are (texts, length) of neighbours of equal length, tokens that fill the row up among them as one; `offsets` (texts + 1,) int32
    on the row's device is where each text starts.
    """

    runs: list[tuple[int, int]]
    offsets: Tensor
    longest: int


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    packing: Packing | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention function: within each text where a `Packing` comes with the call, else the library's own `sdpa`.

    Shapes: `query` (1, heads, tokens, head dimension), `key` and `value` the same with as many or fewer heads; the first result is
    (1, tokens, heads, head dimension). Raises NotImplementedError for what the model wants of its attention and this doesn't do.
    """
    if packing is None:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **others
        )
        return out
    wanted = [name for name in UNKNOWN if others.get(name) is not None]
    if wanted or len(query) != 1:
        raise NotImplementedError(f"packed attention with {' and '.join(wanted) or f'{len(query)} rows'}")
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    sliding = others.get("sliding_window")
    left = -1 if sliding is None else int(sliding) - 1  # tokens to be seen before oneself; -1: all
    window = (left, 0 if causal else left)
    takes = query.shape[-1] == value.shape[-1] and value.shape[-1] in KERNEL_WIDTHS and not dropout
    if KERNEL is not None and takes and value.device.type in HAS_KERNEL and value.dtype in HALF:
        # In mixed precision a norm with float32 weights leaves queries and keys in float32; autocast halves them for sdpa, not for this.
        q, k, v = (states.squeeze(0).to(value.dtype).transpose(0, 1) for states in (query, key, value))
        return _by_kernel(KERNEL, q, k, v, packing, scaling, window)[None], None
    return _by_runs(query, key, value, packing, scaling, window, dropout)[None], None


AttentionInterface.register("sdpa", attention)


@cache
def _parameters(kernel: Kernel) -> frozenset[str]:
    return frozenset(inspect.signature(kernel).parameters)


def _by_kernel(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    scaling: float | None,
    window: tuple[int, int],
) -> Tensor:
    """PyTorch's attention over texts of any length, in the words of 2.10 (`is_causal`) or of later ones (`window_size`).

    Shapes: (tokens, heads, head dimension), in and out. `window` as there: how far a token sees to its left and right, -1 without limit.
    """
    known, said = _parameters(kernel), dict[str, Any]()
    usual = query.shape[-1] ** -0.5
    if scaling is not None and not math.isclose(scaling, usual):
        if "scale" in known:
            said["scale"] = scaling
        else:
            query = query * (scaling / usual)
    if "window_size" in known:
        said["window_size"] = window
    elif window[0] != -1:
        raise NotImplementedError("a sliding window in this version of PyTorch")
    else:
        said["is_causal"] = window[1] == 0
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in known:
            said["enable_gqa"] = True
        else:
            shared = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
    return cast(Tensor, kernel(query, key, value, packing.offsets, packing.offsets, packing.longest, packing.longest, **said))


def _by_runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    scaling: float | None,
    window: tuple[int, int],
    dropout: float,
) -> Tensor:
    """Attention run by run of texts of equal length. Shapes: (1, heads, tokens, head dimension) in, (tokens, heads, head dimension) out."""
    shared = query.shape[1] // key.shape[1]
    if shared > 1 and query.device.type != "cpu":  # in float32, CUDA's kernels want as many heads of each; the rest keeps all scores
        key, value, shared = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1), 1
    sizes = [texts * length for texts, length in packing.runs]
    parts = zip(*(torch.split(states.squeeze(0), sizes, dim=1) for states in (query, key, value)), strict=True)
    outs = []
    for (texts, length), part in zip(packing.runs, parts, strict=True):
        q, k, v = (states.unflatten(1, (texts, length)).transpose(0, 1) for states in part)
        narrow = 0 <= window[0] < length - 1
        out = nn.functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_band(length, window, q.device) if narrow else None,
            dropout_p=dropout,
            is_causal=window[1] == 0 and not narrow,
            scale=scaling,
            enable_gqa=shared > 1,
        )
        outs.append(out.transpose(1, 2).flatten(0, 1))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _band(length: int, window: tuple[int, int], device: torch.device) -> Tensor:
    """True where a token (row) sees another (column). Shape (length, length)."""
    place = torch.arange(length, device=device)
    before = place[:, None] - place[None, :]
    return (before <= window[0]) & (before >= -window[1])


class Packer:
    """Encodes chunks of texts as packed rows, with the modules of a sentence-transformers model as they are."""

    def __init__(self, transformer: SentenceTransformer, device: torch.device) -> None:
        self.transformer, self.device = transformer, device
        self.left = transformer.tokenizer.padding_side == "left"
        tables = (getattr(module, "position_embeddings", None) for module in self.transformer[0].model.modules())
        # RoBERTa and its kin number the tokens from the padding index + 1, and leave padding tokens out.
        self.first = next((t.padding_idx for t in tables if isinstance(t, nn.Embedding) and t.padding_idx is not None), None)

    def embed(self, tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        """The texts' embeddings as the last module gives them, in the order of `texts`; shape (texts, dimension)."""
        lengths = tokens.lengths[texts]
        packed = np.argsort(-lengths, kind="stable")
        ids = np.concatenate([tokens[text] for text in texts[packed].tolist()]).astype(np.int64)
        filling = -len(ids) % FILLED if self.device.type == "cpu" and len(ids) >= LONG else 0
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum(lengths[packed], out=offsets[1:])
        inside = np.arange(len(ids)) - np.repeat(offsets[:-1], lengths[packed])
        longest = int(lengths.max())
        starts = packed * longest + (longest - lengths[packed] if self.left else 0)
        distinct, counts = np.unique(-lengths, return_counts=True)
        runs = [*zip(counts.tolist(), (-distinct).tolist(), strict=True), *([(1, filling)] if filling else [])]
        packing = Packing(runs, on_device(offsets.astype(np.int32), self.device), longest)
        positions = inside if self.first is None else _after_padding(ids, offsets, self.first)

        features = {
            "input_ids": on_device(np.pad(ids, (0, filling), "edge"), self.device)[None],
            "position_ids": on_device(np.pad(positions, (0, filling), "edge"), self.device)[None],
            "attention_mask": torch.empty(1, 1, 0, 0, dtype=torch.bool, device=self.device),  # with four axes it is not made into a mask
            "packing": packing,
        }
        body, *rest = self.transformer
        states = body(features)["token_embeddings"][0, : len(ids)]
        place = on_device(np.repeat(starts, lengths[packed]) + inside, self.device)
        padded = states.new_zeros(len(texts) * longest, states.shape[-1]).index_copy(0, place, states)
        mask = torch.zeros(len(texts) * longest, dtype=torch.int64, device=self.device).index_fill(0, place, 1)
        features = {"token_embeddings": padded.view(len(texts), longest, -1), "attention_mask": mask.view(len(texts), longest)}
        for module in rest:
            features = module(features)
        return cast(Tensor, features["sentence_embedding"])


def _after_padding(ids: NDArray[np.int64], offsets: NDArray[np.int64], padding: int) -> NDArray[np.int64]:
    """Positions in the manner of RoBERTa: padding + 1 for the first token of a text, `padding` for a padding token. Shape (tokens,)."""
    real = ids != padding
    counted = np.concatenate([[0], np.cumsum(real)])
    within = counted[1:] - np.repeat(counted[offsets[:-1]], np.diff(offsets))
    return np.where(real, within, 0) + padding


def admit(transformer: SentenceTransformer, device: torch.device, dtype: torch.dtype, padded: Embed) -> tuple[Packer | None, str]:
    """The model's packer, or None and why not: a few made texts are encoded packed and by `padded`, and must come out equal.

    `dtype`: the number format of its matrix products.

    Equal is a distance of at most 1e-4 of the embedding's length in float32, 0.2 (a cosine of 0.98) in half precision. That is too coarse
    to see what a convolution or a recurrence carries over from the text before, so that there no embedding may have a gradient for
    another text's tokens, and where PyTorch's kernel attends, all gradients must be finite.
    """
    body: Any = transformer[0].model
    used = getattr(body.config, "_attn_implementation", None)
    if used != "sdpa":
        return None, f"its attention is {used or 'its own'}, not sdpa"
    longest = transformer.max_seq_length
    windows = [getattr(module, "sliding_window", None) for module in body.modules()]
    beyond = [min(window + 3, longest) for window in windows if isinstance(window, int)]
    lengths = np.minimum([*FEW, *beyond[:1]], longest)
    draw, vocabulary = np.random.default_rng(0), body.config.get_text_config().vocab_size
    tokens, texts = Tokens.of(draw.integers(0, vocabulary, length) for length in lengths), np.arange(len(lengths))
    was_training = [module for module in transformer.modules() if module.training]
    transformer.eval()
    try:
        packer = Packer(transformer, device)
        with torch.no_grad():
            there, expected = packer.embed(tokens, texts).float(), padded(tokens, texts).float()
        apart = float(((there - expected).norm(dim=1) / expected.norm(dim=1)).max())
        if dtype in HALF:
            few, shortest = texts[: len(FEW)], lengths.argmin()  # a token, the last of the row
            if device.type in HAS_KERNEL and not _gradients(packer, tokens, few).isfinite().all():
                return None, "its gradients are not finite"
            if _gradients(packer, tokens, few, shortest)[:, :-1].any():
                return None, "what it makes of a text depends on the text before it in the row"
    except Exception as error:  # whatever a model of another kind does with what it doesn't expect
        return None, f"{type(error).__name__}: {first_line(error)}"
    finally:
        for module in was_training:
            module.training = True
    if not apart <= MOST_APART.get(dtype, MOST_APART_IN_HALF):
        return None, f"packed and padded embeddings differ by {apart:.2g} of their length"
    return packer, ""


def _gradients(packer: Packer, tokens: Tokens, texts: NDArray[np.integer], of: Any = slice(None)) -> Tensor:
    """Gradients of the sum of the embeddings, or of those that `of` names, for what the body reads, shape (1, tokens, width).

    No weight keeps any.
    """
    read: list[Tensor] = []
    words = packer.transformer[0].model.get_input_embeddings()
    hook = words.register_forward_hook(lambda module, given, out: read.append(out.requires_grad_()))
    try:
        with torch.inference_mode(False), torch.enable_grad():
            return torch.autograd.grad(packer.embed(tokens, texts)[of].float().sum(), read)[0]
    finally:
        hook.remove()
