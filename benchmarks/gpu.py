"""One training step of the 0.6B Qwen3-Embedding on a GPU: Homing's beside sentence-transformers', same weights, same LoRA, same rows.

    python benchmarks/gpu.py                           # where there is a GPU; without one it says so and ends well
    python benchmarks/gpu.py --rows 256 --json OUT     # larger batches; the figures as JSON
    python benchmarks/gpu.py --tiny                    # every line of it on a CPU in seconds, with figures that mean nothing

It needs torch, transformers and sentence-transformers with what they bring along, and no network: from a checkout,
`PYTHONPATH=src python benchmarks/gpu.py`. The model has the configuration of Qwen/Qwen3-Embedding-0.6B with random weights, which take
as long as trained ones; the texts are drawn token ids, as many as queries (8 to 22) and documents (100 to 300) have. A row is a query,
its positive and its negatives. No document occurs twice, so nothing is gained here by encoding a document once. Without peft, both
sides get this file's own LoRA, which Homing's fused layers take like peft's. An arm that fails is named, and the others run; one that
runs out of memory is no failure.

`homing` is `Step.gradients` and the optimiser's step. The others are a step of sentence-transformers' trainer with bf16: columns padded
as its collator pads them, CachedMultipleNegativesRankingLoss (by mini-batches, each encoded twice) or MultipleNegativesRankingLoss (all
activations held, for which large batches have no room), the model's forward pass under autocast. All attend by sdpa and all compute
the same loss and the same gradient: both are printed, so that it can be seen. Tokenising is left out. The median of the timed steps
counts; each arm has the device to itself. `homing, queries only` encodes the documents once, beforehand, and learns from the same rows: its
loss is the others', its tokens are the queries' alone.

The useful work of LoRA training is 4 floating-point operations for each parameter outside the embeddings and each token without padding
(2 forward, 2 for the gradient of the activations; the base's weights get none), and in each layer and head 6 L^2 for each dimension of
the head and a text of L tokens (causal: half of 4 forward and 8 backward). Nothing counts for padding or for what is computed twice. It
is divided by the rate of a large matrix product in the same number format, measured on the spot.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

if find_spec("jaxtyping") is None:  # Homing's losses name shapes by it, in annotations that nobody evaluates
    sys.modules["jaxtyping"] = ModuleType("jaxtyping")
    vars(sys.modules["jaxtyping"]).update(Bool=Any, Float=Any, Int8=Any)

from homing.batches import MINED, POSITIVE
from homing.encoders import lean
from homing.encoders.checkpointing import set_checkpointing
from homing.encoders.fused import fuse, fuse_layers
from homing.encoders.model import Model
from homing.encoders.step import Step
from homing.encoders.tokens import Tokens
from homing.losses import Contrast, contrastive

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # their old names, which every 6.x has
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
    from sentence_transformers.models import Normalize, Pooling, Transformer

RANK, ALPHA, RATE, TEMPERATURE = 16, 32, 1e-4, 0.05
PAD = 0
OUT_OF_MEMORY = "out of memory"
QUERIES_ONLY = "homing, queries only"
ENOUGH = 60.0  # seconds of timed steps, after which an arm has no more of them
NAME = "default"  # of the adapter, as peft calls it
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Scale:
    """How large the model is, and how long the texts are (the fewest and the most tokens)."""

    config: Qwen3Config
    query: tuple[int, int]
    document: tuple[int, int]
    matrix: int


def real() -> Scale:
    """Qwen/Qwen3-Embedding-0.6B."""
    config = Qwen3Config(
        vocab_size=151669, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, max_position_embeddings=32768, rms_norm_eps=1e-6, tie_word_embeddings=True, use_cache=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    return Scale(config, (8, 22), (100, 300), 8192)


def tiny() -> Scale:
    """A model of the same kind that a CPU runs at once."""
    config = Qwen3Config(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, max_position_embeddings=64, initializer_range=0.15, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    return Scale(config, (3, 6), (8, 20), 128)


def write_model(directory: Path, config: Qwen3Config, device: torch.device, dtype: torch.dtype) -> Path:
    """The configuration with random weights as a sentence-transformers directory: last token, normalised, padded on the left."""
    torch.manual_seed(0)
    with torch.device(device):
        body = Qwen3Model(config)
    body.to(dtype).save_pretrained(directory / "body")
    words = Tokenizer(WordLevel({"[PAD]": PAD, "[UNK]": 1, "a": 2}, unk_token="[UNK]"))
    longest = config.max_position_embeddings
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", padding_side="left", model_max_length=longest
    ).save_pretrained(directory / "body")
    modules = [Transformer(str(directory / "body")), Pooling(config.hidden_size, "lasttoken"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(directory / "model"))
    return directory / "model"


@dataclass(frozen=True)
class Rows:
    """Token ids of `count` rows: their queries, then their positives, then each column of negatives."""

    tokens: Tokens
    count: int
    negatives: int

    @classmethod
    def made(cls, scale: Scale, count: int, negatives: int) -> Rows:
        draw = np.random.default_rng(0)
        (least, most), (least_d, most_d) = scale.query, scale.document
        lengths = np.concatenate([draw.integers(least, most + 1, count), draw.integers(least_d, most_d + 1, count * (1 + negatives))])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return cls(Tokens(draw.integers(2, scale.config.vocab_size, offsets[-1], dtype=np.int32), offsets), count, negatives)

    @property
    def relevance(self) -> np.ndarray:
        """What each document is to each query; shape (rows, rows * (1 + negatives))."""
        matrix = np.zeros((self.count, self.count * (1 + self.negatives)), dtype=np.int8)
        row = np.arange(self.count)
        matrix[row, row] = POSITIVE
        for column in range(1, 1 + self.negatives):
            matrix[row, column * self.count + row] = MINED
        return matrix

    def columns(self, device: torch.device) -> list[dict[str, Tensor]]:
        """Each column as sentence-transformers' collator hands it over: one block, padded on the left to its longest text."""
        features = []
        for column in range(2 + self.negatives):
            texts = [self.tokens[column * self.count + row] for row in range(self.count)]
            width = max(len(text) for text in texts)
            ids = np.stack([np.pad(text, (width - len(text), 0), constant_values=PAD) for text in texts]).astype(np.int64)
            mask = np.stack([np.arange(width) >= width - len(text) for text in texts]).astype(np.int64)
            features.append({"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)})
        return features


def useful_work(config: Qwen3Config, body: Any, lengths: np.ndarray) -> float:
    """Floating-point operations that a step of LoRA training must do on texts of these lengths (see above)."""
    embeddings = body.get_input_embeddings().weight.numel()
    parameters = sum(parameter.numel() for name, parameter in body.named_parameters() if "lora" not in name) - embeddings
    heads = config.num_attention_heads * config.head_dim * config.num_hidden_layers
    return 4.0 * parameters * float(lengths.sum()) + 6.0 * heads * float((lengths.astype(np.float64) ** 2).sum())


class LoRA(nn.Module):
    """x W' + (alpha / rank) x A' B', for machines without peft; A and B are float32 and named as peft has them."""

    disable_adapters = merged = False

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.scaling = base, {NAME: ALPHA / RANK}
        self.lora_A = nn.ModuleDict({NAME: nn.Linear(base.in_features, RANK, bias=False, device=base.weight.device)})
        self.lora_B = nn.ModuleDict({NAME: nn.Linear(RANK, base.out_features, bias=False, device=base.weight.device)})
        nn.init.normal_(self.lora_A[NAME].weight, std=1 / RANK)
        nn.init.zeros_(self.lora_B[NAME].weight)

    def get_base_layer(self) -> nn.Linear:
        return self.base_layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base_layer(x)
        a, b = (each[NAME].weight.to(x.dtype) for each in (self.lora_A, self.lora_B))
        return out + nn.functional.linear(nn.functional.linear(x, a), b).to(out.dtype) * self.scaling[NAME]


def adapt(body: Any, with_peft: bool) -> Any:
    """Put a LoRA on the body, in place, and freeze the rest; peft's model where it is peft's, else None."""
    torch.manual_seed(0)
    if with_peft:
        from peft import LoraConfig, get_peft_model

        return get_peft_model(body, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(ADAPTED), task_type="FEATURE_EXTRACTION"))
    body.requires_grad_(False)
    for parent in list(body.modules()):
        for name, child in list(parent.named_children()):
            if name in ADAPTED:
                setattr(parent, name, LoRA(child))
    return None


@dataclass(frozen=True)
class Place:
    """Where and in which number format it runs."""

    device: torch.device
    dtype: torch.dtype

    def wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def matrix_rate(self, size: int) -> float:
        """Operations a second of a square matrix product; the best of some."""
        a, b = (torch.randn(size, size, device=self.device, dtype=self.dtype) for _ in range(2))
        best = float("inf")
        for _ in range(12):
            self.wait()
            start = time.perf_counter()
            a @ b
            self.wait()
            best = min(best, time.perf_counter() - start)
        return 2.0 * size**3 / best

    def empty(self) -> None:
        gc.collect()
        if self.device.type != "cpu":
            torch.accelerator.empty_cache()
            torch.accelerator.reset_peak_memory_stats(self.device)

    @property
    def peak(self) -> float | None:
        """Most bytes held since `empty`; None on a CPU, where PyTorch doesn't count them."""
        return None if self.device.type == "cpu" else float(torch.accelerator.max_memory_allocated(self.device))


Update = Callable[[], Tensor]
say = partial(print, flush=True)


def homing_update(
    directory: Path, place: Place, rows: Rows, with_peft: bool, budget: int, queries_only: bool = False
) -> tuple[Update, nn.Module]:
    model = Model(directory, device=place.device, dtype=place.dtype)
    body = model.transformer[0].model
    tuned = adapt(body, with_peft)
    own = {module: NAME for module in body.modules() if isinstance(module, LoRA)}
    fused = fuse(tuned) if tuned is not None else fuse_layers(body, own)
    learned = [parameter for parameter in body.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=RATE, fused=True)  # as `homing.train` has it
    step = Step(model, learned, partial(set_checkpointing, body, True), say=say, budget=budget)
    relevance = torch.from_numpy(rows.relevance).to(place.device)
    texts, documents = np.arange(len(rows.tokens)), None
    if queries_only:
        texts, others = np.split(texts, [rows.count])
        documents = encoded(model, rows.tokens, others, step.budget)

    def loss(embeddings: Tensor) -> Contrast:
        against = embeddings[rows.count :] if documents is None else documents
        return contrastive(embeddings[: rows.count], against, relevance, TEMPERATURE)

    def update() -> Tensor:
        contrast = step.gradients(rows.tokens, texts, loss, 0)
        optimizer.step()
        return contrast.loss

    how = "texts without padding" if model.packer else "padded chunks"
    kernels = "its own kernels" if lean.kernels(place.device)[0] else "PyTorch"
    say(f"homing: {how}; gates and rotations by {kernels}; {fused} LoRA layers fused")
    return update, body


def encoded(model: Model, tokens: Tokens, texts: np.ndarray, budget: int) -> Tensor:
    """Embeddings of these texts, in their order, without gradients."""
    chunks = list(model.chunks(tokens.lengths[texts], budget))
    with torch.no_grad():
        found = torch.cat([model.embed(tokens, texts[chunk]) for chunk in chunks])
    return found[torch.from_numpy(np.argsort(np.concatenate(chunks))).to(found.device)]


def trainer_update(directory: Path, place: Place, rows: Rows, with_peft: bool, cached: int | None) -> tuple[Update, nn.Module]:
    model = SentenceTransformer(
        str(directory), device=str(place.device), model_kwargs={"dtype": place.dtype, "attn_implementation": "sdpa"}
    )
    body = model[0].model
    adapt(body, with_peft)
    model.train()
    forward, half = model.forward, place.dtype == torch.bfloat16

    def in_half(features: dict[str, Tensor]) -> dict[str, Tensor]:  # as accelerate wraps a trainer's model
        with torch.autocast(place.device.type, dtype=torch.bfloat16, enabled=half):
            found = forward(features)
        return {**found, "sentence_embedding": found["sentence_embedding"].float()}

    model.forward = in_half
    learned = [parameter for parameter in body.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=RATE, fused=True)  # its trainer's default
    scale = 1.0 / TEMPERATURE
    loss = (
        MultipleNegativesRankingLoss(model, scale=scale)
        if cached is None
        else CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=cached)
    )

    def update() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss(rows.columns(place.device), None)
        value.backward()
        optimizer.step()
        return value.detach()

    return update, body


@dataclass(frozen=True)
class Figures:
    """What one arm took: seconds and tokens are of one step; loss and gradient (its norm) are those of the first."""

    arm: str
    loss: float
    gradient: float
    seconds: float
    tokens: int
    tokens_a_second: float
    useful_share: float
    peak_bytes: float | None


def measure(
    arm: str, make: Callable[[], tuple[Update, nn.Module]], place: Place, scale: Scale, lengths: np.ndarray, rate: float, steps: int
) -> Figures | str:
    """The figures of an arm whose steps encode texts of these lengths, or why there are none."""
    try:
        place.empty()
        update, body = make()
        loss = float(update())
        gradients = [parameter.grad for parameter in body.parameters() if parameter.grad is not None]
        gradient = float(torch.nn.utils.get_total_norm(gradients))
        update()  # the second pass still finds new shapes to allocate for
        seconds: list[float] = []
        while len(seconds) < steps and sum(seconds) < ENOUGH:
            place.wait()
            start = time.perf_counter()
            update()
            place.wait()
            seconds.append(time.perf_counter() - start)
    except torch.OutOfMemoryError:
        return f"{arm}: {OUT_OF_MEMORY}"
    except Exception as error:  # the other arms are still to be measured
        traceback.print_exc()
        return f"{arm}: failed with {type(error).__name__}"
    took = statistics.median(seconds)
    work = useful_work(scale.config, body, lengths)
    return Figures(arm, loss, gradient, took, int(lengths.sum()), float(lengths.sum()) / took, work / took / rate, place.peak)


def in_words(figures: Figures) -> str:
    peak = "-" if figures.peak_bytes is None else f"{figures.peak_bytes / 1e9:.1f} GB"
    return (
        f"{figures.arm:30} loss {figures.loss:.4f}  gradient {figures.gradient:.4f}  {figures.seconds:.4f} s a step  "
        f"{figures.tokens_a_second:,.0f} tokens/s  useful {figures.useful_share:.1%}  peak {peak}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A training step of the 0.6B on a GPU: Homing's beside sentence-transformers'.")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU: tries every line, measures nothing")
    parser.add_argument("--rows", type=int, default=64, help="rows a batch (64)")
    parser.add_argument("--negatives", type=int, default=3, help="negatives a row (3)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps (5)")
    parser.add_argument("--budget", type=int, default=0, help="tokens a chunk of Homing's (its own default)")
    parser.add_argument("--mini-batch", type=int, default=32, help="texts a mini-batch of the cached loss (32, its own default)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args(arguments)
    if not given.tiny and not torch.cuda.is_available():
        print("there is no GPU here: nothing is measured (--tiny tries the script on the CPU)")
        return 0
    scale = tiny() if given.tiny else real()
    place = Place(torch.device("cpu"), torch.float32) if given.tiny else Place(torch.device("cuda"), torch.bfloat16)
    count = min(given.rows, 6) if given.tiny else given.rows
    rows = Rows.made(scale, count, given.negatives)
    with_peft = find_spec("peft") is not None
    rate = place.matrix_rate(scale.matrix)
    name = torch.cuda.get_device_name() if place.device.type == "cuda" else platform.processor() or "CPU"
    versions = {package: version(package) for package in ("torch", "transformers", "sentence-transformers")}
    say(f"{name}; {versions}; LoRA of rank {RANK} by {'peft ' + version('peft') if with_peft else 'this file (there is no peft)'}")
    tokens = rows.tokens
    say(f"{place.dtype} matrix product: {rate / 1e12:.1f} T/s; {count} rows, {len(tokens.ids)} tokens in {len(tokens)} texts")

    found: list[Figures] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        directory = write_model(Path(folder), scale.config, place.device, place.dtype)
        arms: dict[str, Callable[[], tuple[Update, nn.Module]]] = {
            "homing": lambda: homing_update(directory, place, rows, with_peft, given.budget),
            "sentence-transformers, cached": lambda: trainer_update(directory, place, rows, with_peft, given.mini_batch),
            "sentence-transformers": lambda: trainer_update(directory, place, rows, with_peft, None),
            QUERIES_ONLY: lambda: homing_update(directory, place, rows, with_peft, given.budget, queries_only=True),
        }
        for arm, make in arms.items():
            lengths = tokens.lengths[:count] if arm == QUERIES_ONLY else tokens.lengths
            figures = measure(arm, make, place, scale, lengths, rate, given.steps)
            if isinstance(figures, str):
                failures.append(figures)
                say(figures)
            else:
                found.append(figures)
                say(in_words(figures))
            if given.json:  # after each arm, for whoever stops it
                said = {
                    "device": name, "versions": versions, "peft": with_peft, "rate": rate,
                    "figures": [asdict(each) for each in found], "failures": failures,
                }  # fmt: skip
                given.json.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return 0 if all(each.endswith(OUT_OF_MEMORY) for each in failures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
