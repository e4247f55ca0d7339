"""Train an adapter on mined rows: InfoNCE, LoRA, evaluation while training, the best checkpoint kept, resumed after any stop."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from homing import losses
from homing.batches import Batch, chunks, epoch_order, make_batch
from homing.data import Dataset, Ints, Mined
from homing.data import digest as digest_texts
from homing.encoders import adapter as adapters
from homing.encoders.adapter import Adapter
from homing.encoders.devices import token_budget
from homing.encoders.dropout import replace_dropout
from homing.encoders.memory import needs_checkpointing
from homing.encoders.model import Model, Tokens
from homing.errors import JudgmentError, TrainingError
from homing.manifest import replace_directory, write_json
from homing.measures import ndcg, order
from homing.progress import BAR
from homing.settings import Training

KEPT_CHECKPOINTS = 3
DEV_SHARE_OF_TIME = 0.1
FEWEST_DEV_LISTS = 50
SECONDS_BETWEEN_CHECKPOINTS = 120.0


def default_learning_rate(parameters: int) -> float:
    """The peak learning rate for LoRA on a model of this size: 1e-4 for 0.6B, more for smaller ones, between 5e-5 and 1e-3.

    1e-4 at 0.6B and about 1e-3 at 23M, a power law between them. Of these only 1e-3 on MiniLM was tried (benchmarks/results/runs.md).
    """
    return float(np.clip(1e-4 * (0.6e9 / parameters) ** 0.7, 5e-5, 1e-3))


def learning_rate(update: int, updates: int, peak: float, warmup: float) -> float:
    """The rate of an update (counted from 0): a linear warm-up over the share `warmup`, then half a cosine down to 0."""
    rising = math.ceil(warmup * updates)
    if update < rising:
        return peak * (update + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (update - rising) / max(1, updates - rising)))


@dataclass(frozen=True)
class Plan:
    """How long the training is, in updates, and when it looks at dev."""

    updates: int
    updates_an_epoch: int
    evaluate_at: frozenset[int]

    @classmethod
    def of(cls, rows: int, settings: Training) -> Plan:
        an_epoch = math.ceil(rows / (settings.batch_size * settings.accumulation))
        updates = max(1, math.ceil(an_epoch * settings.epochs))
        looks = min(settings.evaluations, updates)
        return cls(updates, an_epoch, frozenset(round(updates * (look + 1) / looks) for look in range(looks)))


@dataclass(eq=False)
class _Texts:
    """The texts that training touches, tokenised once; `query` and `document` map dataset positions to token rows."""

    queries: Tokens
    documents: Tokens
    query: dict[int, int]
    document: dict[int, int]

    @classmethod
    def of(cls, model: Model, data: Dataset, queries: NDArray[np.integer], documents: NDArray[np.integer]) -> _Texts:
        own_queries, own_documents = np.unique(queries).tolist(), np.unique(documents).tolist()
        return cls(
            model.tokenize([data.queries.texts[query] for query in own_queries], "query"),
            model.tokenize([data.corpus.texts[document] for document in own_documents], "document"),
            {query: row for row, query in enumerate(own_queries)},
            {document: row for row, document in enumerate(own_documents)},
        )


class DevLists:
    """Judged dev lists, scored while training: loss and nDCG@10 over each list.

    As many lists as cost about a tenth of the training's time (at least 50, or all), drawn by the seed. Lists without a judged
    non-relevant document are ranked among all documents of the sample instead.
    """

    def __init__(self, model: Model, dev: Dataset, training_tokens: int, plan: Plan, settings: Training) -> None:
        lists = [(query, documents, relevance) for query, documents, relevance in dev.qrels.lists() if (relevance > 0).any()]
        if not lists:
            raise JudgmentError("dev has no query with a relevant document", remedy="Give more judgments, or a larger --dev-share.")
        generator = np.random.default_rng(settings.seed)
        lists = [lists[index] for index in generator.permutation(len(lists))]
        counted = model.tokenize([dev.corpus.texts[document] for _, documents, _ in lists[:20] for document in documents], "document")
        a_list = counted.lengths.sum() / min(20, len(lists))
        affordable = int(DEV_SHARE_OF_TIME * 3 * training_tokens / len(plan.evaluate_at) / a_list)
        lists = lists[: max(FEWEST_DEV_LISTS, affordable)]
        if not any((relevance == 0).any() for _, _, relevance in lists):
            pool = np.unique(np.concatenate([documents for _, documents, _ in lists]))
            lists = [(query, pool, np.isin(pool, documents).astype(np.int32)) for query, documents, _ in lists]
        width = max(len(documents) for _, documents, _ in lists)
        self.queries = np.array([query for query, _, _ in lists])
        self.documents = np.full((len(lists), width), -1, dtype=np.int32)
        self.relevance = np.zeros((len(lists), width), dtype=np.int32)
        for row, (_, documents, relevance) in enumerate(lists):
            self.documents[row, : len(documents)] = documents
            self.relevance[row, : len(documents)] = relevance
        self.texts = _Texts.of(model, dev, self.queries, self.documents[self.documents >= 0])
        self.model, self.temperature = model, settings.temperature

    def __len__(self) -> int:
        return len(self.queries)

    def measure(self) -> dict[str, float]:
        """dev_loss, dev_nDCG@10, dev_positive_score and dev_negative_score of the model as it stands."""
        was_training = {name for name, module in self.model.transformer.named_modules() if module.training}
        self.model.transformer.eval()
        queries = self.model.encode_tokens(self.texts.queries)
        documents = self.model.encode_tokens(self.texts.documents)
        for name, module in self.model.transformer.named_modules():
            module.training = name in was_training
        rows = np.array([self.texts.query[query] for query in self.queries.tolist()])
        columns = np.array([self.texts.document.get(document, 0) for document in self.documents.ravel().tolist()]).reshape(
            self.documents.shape
        )
        there = self.documents >= 0
        scores = np.where(there, np.einsum("qd,qcd->qc", queries[rows], documents[columns]), -np.inf).astype(np.float64)
        ranked = order(scores, self.documents)
        gains = np.take_along_axis(self.relevance, ranked, axis=1)
        relevant, other = self.relevance > 0, there & (self.relevance == 0)
        list_loss = []
        for row in range(len(scores)):
            against = np.exp(scores[row][other[row]] / self.temperature).sum()
            positive = np.exp(scores[row][relevant[row]] / self.temperature)
            list_loss.extend(np.log1p(against / positive).tolist())
        return {
            "dev_loss": float(np.mean(list_loss)),
            "dev_nDCG@10": float(ndcg(gains, -np.sort(-self.relevance, axis=1), 10).mean()),
            "dev_positive_score": float(scores[relevant].mean()),
            "dev_negative_score": float(scores[other].mean()) if other.any() else float("nan"),
        }


def train(
    base: Model,
    mined: Mined,
    dev: Dataset,
    settings: Training | None = None,
    *,
    out: str | Path = "runs/adapter",
    logs: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Adapter:
    """Train a LoRA adapter for `base` on mined rows; returns the checkpoint with the best nDCG@10 over dev lists.

    `out` becomes the adapter's directory (PEFT). `logs` (by default `training` beside it) holds metrics.jsonl, a line an update and a
    line an evaluation, and the last checkpoints: called again with the same inputs after a stop, training goes on from the last one
    and ends with the same weights. `base` itself is not changed.

    Raises JudgmentError where there is nothing to train on, TrainingError where a loss or gradient is not finite.
    """
    settings = settings or Training()
    out = Path(out)
    logs = Path(logs) if logs is not None else out.parent / "training"
    if not len(mined):
        raise JudgmentError("there is no row to train on", remedy="Training needs at least one query with a relevant document.")
    if not settings.in_batch and not (mined.negative >= 0).any():
        raise JudgmentError("there is no negative to train against", remedy="Leave --no-in-batch out, or give judged negatives.")
    session = _Session(base, mined, dev, settings, logs, say)
    try:
        best = session.run()
    finally:
        session.detach()
    with replace_directory(out) as fresh:
        shutil.copytree(best, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns("optimizer.safetensors", "state.json", "README.md"))
        write_json(fresh / adapters.CONVENTIONS, adapters.conventions(base))
    return Adapter(out)


class _Session:
    """One training: the model with its adapter, the optimiser, and where it stands."""

    def __init__(self, base: Model, mined: Mined, dev: Dataset, settings: Training, logs: Path, say: Callable[[str], None]) -> None:
        self.model, self.mined, self.settings, self.logs, self.say = base, mined, settings, logs, say
        self.peak = settings.learning_rate or default_learning_rate(base.parameters)
        self.plan = Plan.of(len(mined), settings)
        documents = np.concatenate([mined.positive, mined.negative[mined.negative >= 0]])
        self.texts = _Texts.of(base, mined.train, mined.query, documents)
        rows_tokens = int(sum(self.texts.documents.lengths[self.texts.document[d]] for d in documents.tolist()))
        self.dev = DevLists(base, dev, int(rows_tokens * settings.epochs), self.plan, settings)
        self.fingerprint = self._fingerprint()
        self.tuned = adapters.attach(base, settings)
        self.checkpointing = needs_checkpointing(base, int(1.3 * settings.batch_size * rows_tokens / len(mined)))
        if self.checkpointing:
            adapters.set_checkpointing(self.tuned.base_model.model, True)
            say("gradient checkpointing is on: the activations of a batch would take more than half of the free memory")
        self.bits = replace_dropout(self.tuned) if base.device.type == "cpu" and not self.checkpointing else None
        trained = [parameter for parameter in self.tuned.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in trained if parameter.ndim >= 2]
        plain = [parameter for parameter in trained if parameter.ndim < 2]
        self.trained = decayed + plain
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=self.peak
        )
        self.update, self.best_update = 0, 0
        self.best_measure: tuple[float, float] | None = None
        self.seconds = 0.0

    def _fingerprint(self) -> str:
        """What must be equal for a checkpoint to be gone on from."""
        mined = self.mined
        texts = [mined.train.queries.texts[q] for q in mined.query.tolist()] + [
            mined.train.corpus.texts[d] for d in mined.positive.tolist()
        ]
        parts = [self.model.digest, json.dumps(asdict(self.settings), sort_keys=True), digest_texts(texts)]
        parts.append(sha256(mined.negative.tobytes() + self.dev.documents.tobytes() + self.dev.queries.tobytes()).hexdigest())
        return digest_texts(parts)

    def run(self) -> Path:
        """Train to the end, from the last checkpoint where there is one; the directory of the best checkpoint."""
        if not self._resume():
            self.logs.mkdir(parents=True, exist_ok=True)
            self._log({"step": 0, "epoch": 0.0, **self.dev.measure()})
        adapters.adapt_mode(self.model)
        bar = tqdm(total=self.plan.updates, initial=self.update, desc="training", unit="update", **BAR)
        saved = time.monotonic()
        with bar:
            for rows in self._updates():
                began = time.perf_counter()
                figures = self._step(rows)
                self.seconds += time.perf_counter() - began
                self.update += 1
                epoch = round(self.update / self.plan.updates_an_epoch, 4)
                self._log({"step": self.update, "epoch": epoch, **figures, "seconds": round(self.seconds, 3)})
                bar.set_postfix(loss=f"{figures['loss']:.3f}")
                bar.update()
                if self.update in self.plan.evaluate_at:
                    measured = self.dev.measure()
                    self._log({"step": self.update, "epoch": epoch, **measured})
                    self._save((measured["dev_nDCG@10"], -measured["dev_loss"]))
                    self.say(
                        f"update {self.update} of {self.plan.updates} (epoch {epoch:.2f}): loss {figures['loss']:.4f}, "
                        f"dev loss {measured['dev_loss']:.4f}, dev nDCG@10 {measured['dev_nDCG@10']:.4f} over {len(self.dev)} lists"
                    )
                    saved = time.monotonic()
                elif time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                    self._save(None)
                    saved = time.monotonic()
        return self._checkpoint(self.best_update)

    def _updates(self) -> Iterator[NDArray[np.intp]]:
        """The rows of each update that is still to come."""
        size = self.settings.batch_size * self.settings.accumulation
        for update in range(self.update, self.plan.updates):
            epoch, place = divmod(update, self.plan.updates_an_epoch)
            yield epoch_order(len(self.mined), epoch, self.settings.seed)[place * size : (place + 1) * size]

    def _step(self, rows: NDArray[np.intp]) -> dict[str, float]:
        """One update; loss, learning rate, gradient norm (before clipping), mean positive and negative score."""
        settings = self.settings
        seed = settings.seed * 1_000_003 + self.update  # dropout depends on the update alone, so a resumed run repeats it
        torch.manual_seed(seed)
        if self.bits is not None:
            self.bits.seed(seed)
        rate = learning_rate(self.update, self.plan.updates, self.peak, settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        figures = np.zeros(3)
        for start in range(0, len(rows), settings.batch_size):
            part = rows[start : start + settings.batch_size]
            batch = make_batch(self.mined, part, settings.in_batch)
            contrast = self._contrast(batch)
            share = len(part) / len(rows)
            loss = float(contrast.loss.detach())
            if not math.isfinite(loss):
                texts = [self.mined.train.queries.texts[query] for query in batch.queries[:5].tolist()]
                raise TrainingError(
                    f"the loss of update {self.update + 1} is not finite",
                    got=str(loss),
                    where=f"queries {texts}",
                    remedy=f"Try a smaller --learning-rate (it was {self.peak:g}).",
                )
            if contrast.loss.requires_grad:
                torch.autograd.backward(contrast.loss * share)
            figures += share * np.array([loss, float(contrast.positive_score), float(contrast.negative_score)])
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, settings.max_grad_norm))
        if not math.isfinite(norm):
            raise TrainingError(
                f"the gradient of update {self.update + 1} is not finite", got=str(norm), remedy="Try a smaller --learning-rate."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "loss": figures[0], "learning_rate": rate, "grad_norm": norm, "positive_score": figures[1], "negative_score": figures[2],
        }  # fmt: skip

    def _contrast(self, batch: Batch) -> losses.Contrast:
        queries = self._embed(self.texts.queries, self.texts.query, batch.queries)
        documents = self._embed(self.texts.documents, self.texts.document, batch.documents)
        device = self.model.device
        return losses.info_nce(
            queries,
            documents,
            torch.from_numpy(batch.row_query).to(device),
            torch.from_numpy(batch.row_positive).to(device),
            torch.from_numpy(batch.against).to(device),
            self.settings.temperature,
        )

    def _embed(self, tokens: Tokens, place: dict[int, int], positions: Ints) -> torch.Tensor:
        """Embeddings of distinct texts with gradients, encoded in chunks of like length, in the order of `positions`."""
        rows = np.array([place[position] for position in positions.tolist()])
        pieces, where = [], []
        for chunk in chunks(tokens.lengths[rows], token_budget(self.model.device)):
            pieces.append(self.model.embed(tokens, rows[chunk]))
            where.append(chunk)
        back = torch.from_numpy(np.argsort(np.concatenate(where))).to(self.model.device)
        return torch.cat(pieces)[back]

    def _checkpoint(self, update: int) -> Path:
        return self.logs / "checkpoints" / f"step-{update:07d}"

    def _save(self, measure: tuple[float, float] | None) -> None:
        """Write a checkpoint; with a dev measure, it competes to be the best one."""
        if measure is not None and (self.best_measure is None or measure > self.best_measure):
            self.best_measure, self.best_update = measure, self.update
        moments = {
            f"{index}.{name}": value.detach().cpu().contiguous()
            for index, parameter in enumerate(self.trained)
            for name, value in self.optimizer.state[parameter].items()
        }
        with replace_directory(self._checkpoint(self.update)) as fresh:
            self.tuned.save_pretrained(str(fresh))
            save_file(moments, str(fresh / "optimizer.safetensors"))
            write_json(
                fresh / "state.json",
                {
                    "fingerprint": self.fingerprint,
                    "update": self.update,
                    "best_update": self.best_update,
                    "best_measure": self.best_measure,
                    "seconds": self.seconds,
                },
            )
        kept = {self._checkpoint(self.best_update).name, *(path.name for path in self._checkpoints()[-KEPT_CHECKPOINTS:])}
        for path in self._checkpoints():
            if path.name not in kept:
                shutil.rmtree(path)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.logs / "checkpoints").glob("step-*"))

    def _resume(self) -> bool:
        """Go on from the last whole checkpoint of the same training; anything else in the directory is cleared away."""
        for path in reversed(self._checkpoints()):
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if state["fingerprint"] != self.fingerprint:
                break
            adapters.restore(self.tuned, path / "adapter_model.safetensors")
            moments = load_file(path / "optimizer.safetensors")
            for index, parameter in enumerate(self.trained):
                self.optimizer.state[parameter] = {
                    name: moments[f"{index}.{name}"].to(parameter.device if name != "step" else "cpu")
                    for name in ("step", "exp_avg", "exp_avg_sq")
                }
            self.update, self.best_update, self.seconds = state["update"], state["best_update"], state["seconds"]
            self.best_measure = tuple(state["best_measure"]) if state["best_measure"] else None
            self._cut_log()
            self.say(f"going on from update {self.update} of {self.plan.updates} ({path})")
            return True
        shutil.rmtree(self.logs, ignore_errors=True)
        return False

    def _cut_log(self) -> None:
        """Drop what was logged after the checkpoint: it will be done again."""
        file = self.logs / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        kept = []
        for line in lines:
            try:
                if json.loads(line)["step"] <= self.update:
                    kept.append(line)
            except ValueError:  # the line that a kill cut short
                break
        temporary = file.with_suffix(".partial")
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        os.replace(temporary, file)

    def _log(self, figures: dict[str, Any]) -> None:
        with (self.logs / "metrics.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(
                json.dumps(
                    {name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in figures.items()}
                )
                + "\n"
            )

    def detach(self) -> None:
        """Take the adapter off the base again: what came in is what goes out."""
        body = self.tuned.unload()
        if self.checkpointing:
            adapters.set_checkpointing(body, False)
        self.model.transformer.eval()
