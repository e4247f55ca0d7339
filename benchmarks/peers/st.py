"""sentence-transformers by its own trainer, losses, batch sampler and hard-negative miner, with the settings that its documents advise."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
from sentence_transformers.util import mine_hard_negatives
from transformers import TrainerCallback

from peers import lora
from peers.clock import Clock, Schedule
from peers.rows import Rows

disable_progress_bar()
ENDLESS = 1_000_000  # steps: the clock ends a training


@dataclass(frozen=True)
class Settings:
    """`mini_batch` 0: MultipleNegativesRankingLoss itself, which gives the same gradient without a second forward pass.

    `mining_share`: how much of the budget the miner may take; 0: the rows' own negatives. Where all rows and documents would take longer
    (measured on some of them first), as many queries with their positives as take half of it, and drawn documents for the other half.
    """

    rate: float
    tuning: str = "lora"
    batch: int = 128
    mini_batch: int = 16
    scale: float = 20.0
    mining_share: float = 0.15
    negatives: int = 3
    range_max: int = 50
    relative_margin: float = 0.05
    weight_decay: float = 0.01


def mine(model: SentenceTransformer, rows: Rows, prompts: dict[str, str], settings: Settings, seconds: float, seed: int) -> Rows:
    """The rows with the library's own negatives, no judged positive of a query among them (it leaves out all that the rows name).

    About `seconds` long. A row that was not mined for, or that the margin left without enough negatives, keeps those that it came with.
    """
    draw = random.Random(seed)
    by_query: dict[str, list[int]] = {}
    for row, query in enumerate(rows.query):
        by_query.setdefault(query, []).append(row)
    queries = draw.sample(sorted(by_query), len(by_query))
    others = draw.sample(sorted(rows.documents), len(rows.documents))
    began = time.perf_counter()
    probed = others[:32]
    model.encode_document(probed, prompt=prompts["document"], show_progress_bar=False)
    a_letter = (time.perf_counter() - began) / max(1, sum(map(len, probed)))
    letters = max(0.0, seconds - (time.perf_counter() - began)) / a_letter
    chosen = _within(queries, letters / 2, lambda query: len(query) + sum(len(rows.positive[row]) for row in by_query[query]))
    taken = rows.part([row for query in chosen for row in by_query[query]])
    letters -= sum(map(len, [*chosen, *taken.positive]))
    pairs = Dataset.from_dict({"anchor": taken.query, "positive": taken.positive})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = mine_hard_negatives(
            pairs, model, corpus=_within(others, letters, len), range_min=0, range_max=settings.range_max,
            relative_margin=settings.relative_margin, num_negatives=settings.negatives, sampling_strategy="top", output_format="n-tuple",
            query_prompt=prompts["query"] or None, corpus_prompt=prompts["document"] or None, verbose=False,
        )  # fmt: skip
    names = [name for name in found.column_names if name.startswith("negative")]
    mined = {(row["anchor"], row["positive"]): tuple(row[name] for name in names) for row in found}
    own = zip(rows.query, rows.positive, rows.negatives, strict=True)
    return replace(rows, negatives=[mined.get((query, positive), negatives) for query, positive, negatives in own])


def _within(texts: list[str], letters: float, weight: Callable[[str], int]) -> list[str]:
    """The first texts that weigh no more than so many letters, one at least."""
    total, taken = 0, 0
    for text in texts:
        total += weight(text)
        if total > letters and taken:
            break
        taken += 1
    return texts[:taken]


def columns_of(rows: Rows) -> Dataset:
    """The rows as the trainer takes them."""
    columns = {f"negative_{number}": list(texts) for number, texts in enumerate(zip(*rows.negatives, strict=True), start=1)}
    return Dataset.from_dict({"anchor": rows.query, "positive": rows.positive, **columns})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what transformers, peft and the trainer tell each other."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    transformers.logging.set_verbosity(level)


def trainer(
    model: SentenceTransformer, data: Dataset, prompts: dict[str, str], settings: Settings, seed: int, work: Path,
    optimizers: tuple[Any, Any], callback: TrainerCallback, batches: list[list[int]], steps: int = ENDLESS,
) -> SentenceTransformerTrainer:  # fmt: skip
    """Its trainer with these settings; what it would write or show is off. The rows of each batch are noted in `batches`."""
    loss = (
        CachedMultipleNegativesRankingLoss(model, scale=settings.scale, mini_batch_size=settings.mini_batch)
        if settings.mini_batch
        else MultipleNegativesRankingLoss(model, scale=settings.scale)
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work), max_steps=steps, per_device_train_batch_size=settings.batch, batch_sampler=_noted(batches), seed=seed,
        prompts={name: prompts["query" if name == "anchor" else "document"] for name in data.column_names},
        use_cpu=model.device.type == "cpu", bf16=False, fp16=False, save_strategy="no", logging_strategy="no", report_to="none",
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    return SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=loss, optimizers=optimizers, callbacks=[callback]
    )


def _noted(batches: list[list[int]]) -> Callable[..., NoDuplicatesBatchSampler]:
    """`BatchSamplers.NO_DUPLICATES`, noting what it gives (it may be asked for one batch more than is trained on)."""

    class Noted(NoDuplicatesBatchSampler):  # type: ignore[misc, unused-ignore]
        def __iter__(self) -> Iterator[list[int]]:
            for batch in super().__iter__():
                batches.append(batch)
                yield batch

    return Noted


class _Ends(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Counts steps on the schedule and ends the training when it is over."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.schedule.stepped()  # before the scheduler asks for the next rate

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        control.should_training_stop = self.schedule.over


def optimizer(model: SentenceTransformer, settings: Settings) -> torch.optim.AdamW:
    """AdamW as the trainer would make it: no weight decay on biases and norms."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.rate)


def train(
    model: SentenceTransformer, rows: Rows, prompts: dict[str, str], settings: Settings, clock: Clock, seed: int, work: Path
) -> tuple[int, int]:
    """Mine, train until the clock is over, and merge; steps taken and rows seen."""
    with quiet():
        if settings.mining_share:
            rows = mine(model, rows, prompts, settings, clock.seconds * settings.mining_share, seed)
        data = columns_of(rows)
        tuned = lora.attach(model, seed) if settings.tuning == "lora" else None
        schedule = Schedule(clock)
        adam = optimizer(model, settings)
        batches: list[list[int]] = []
        by_time = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: schedule.factor)
        trainer(model, data, prompts, settings, seed, work, (adam, by_time), _Ends(schedule), batches).train()
        model.eval()
        if tuned is not None:
            lora.merge(model, tuned)
    return schedule.steps, sum(map(len, batches[: schedule.steps]))
