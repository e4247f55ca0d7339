"""What learns: its batches, the loss of one, the gradients, and a step of the optimiser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from homing.batches import Batch, Groups, epoch_batches
from homing.data import Ints, Mined
from homing.encoders.adapter import Adapter
from homing.encoders.devices import Arriving, on_device
from homing.encoders.model import Model
from homing.encoders.tuning import begin_with, tune
from homing.losses import Contrast
from homing.negatives import redraw
from homing.progress import Say
from homing.settings import Training
from homing.training.fixed import against
from homing.training.objective import Objective, Taught
from homing.training.tokenised import Tokenised

A_FEW = 2048  # tokens that the rate of training is measured on, before there is an idea of it
MEASURING_SHARE = 0.02  # of the minutes may go into measuring it on a whole batch


class Teacher(Protocol):
    """Something that knows better: scores of queries and documents, by their positions in the training split."""

    def teach(self, queries: Ints, documents: Ints, device: torch.device) -> Taught:
        """What it knows of these queries beside these documents, on the device."""
        ...

    @property
    def digest(self) -> str:
        """Changes with what it knows."""
        ...


class Learner:
    """A model with what is tuned on it, the texts that it learns from, and its optimiser.

    `fixed` (documents, dimension): embeddings of the whole corpus, where queries alone are trained. What an update does depends on the seed
    and its number alone, so that a resumed training repeats it. `group_tokens`, shape (queries,): tokens of each query with its documents.
    """

    def __init__(
        self, base: Model, mined: Mined, settings: Training, tokens: Path, teacher: Teacher | None, fixed: NDArray[np.float32] | None,
        start: Adapter | None, say: Say,
    ) -> None:  # fmt: skip
        self.model, self.mined, self.settings, self.teacher, self.fixed = base, mined, settings, teacher, fixed
        self.objective = Objective(settings, base.dimension, unit_length=base.unit_length, normalised=base.similarity == "cosine")
        self.groups = Groups(mined)
        self.whole: Tensor | None = None  # the fixed embeddings on the device, where they are few enough to stand there at once
        pooled = [] if mined.pool is None else [mined.pool.document[np.isin(mined.pool.query, self.groups.queries)]]
        documents = np.concatenate([mined.positive, mined.negative[mined.negative >= 0], *pooled])
        self.texts = Tokenised(base, mined.train, mined.query, documents[:0] if fixed is not None else documents, tokens)
        self.group_tokens = self.groups.tokens(self.texts.query_lengths(), self.texts.document_lengths())

        self.tuning = tune(base, settings)
        if start is not None:
            begin_with(self.tuning, start)
        self.step = self.tuning.step(say)
        self.trained = self.step.parameters
        decayed = [parameter for parameter in self.trained if parameter.ndim >= 2]
        plain = [parameter for parameter in self.trained if parameter.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.learning_rate or 0.0, fused=True,
        )  # fmt: skip

    def batches(self, update: int, an_epoch: int) -> Iterator[Batch]:
        """The batches from this update on, `an_epoch` an epoch; negatives are drawn anew for each epoch."""
        epoch, place = divmod(update, an_epoch)
        while True:
            negative = redraw(self.mined, epoch)
            plan = epoch_batches(self.group_tokens, an_epoch, epoch, self.settings.seed)
            for groups in plan[place:]:
                yield self.groups.batch(groups, negative)
            epoch, place = epoch + 1, 0

    def gradients(self, batch: Batch, update: int) -> Arriving:
        """The clipped gradients of an update's loss; on their way to the host are loss, gradient norm, positive and negative score."""
        seed = (self.settings.seed * 1_000_003 + update) << 20  # of dropout
        contrast = self.step.gradients(self.texts.tokens, self._texts_of(batch), self._loss(batch, update), seed % (1 << 62))
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.settings.max_grad_norm)
        return Arriving(torch.stack([contrast.loss.detach(), norm.detach(), contrast.positive_score, contrast.negative_score]))

    def follow(self, rate: float) -> None:
        """Change the weights by their gradients, at this learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()

    def _texts_of(self, batch: Batch) -> NDArray[np.int64]:
        queries = self.texts.query[batch.queries]
        return queries if self.fixed is not None else np.concatenate([queries, self.texts.document[batch.documents]])

    def _loss(self, batch: Batch, update: int) -> Callable[[Tensor], Contrast]:
        """The loss as a function of the embeddings of the batch's texts."""
        device = self.model.device
        documents, relevance, fixed = batch.documents, batch.relevance, None
        if self.fixed is not None:
            documents, relevance = against(batch, self.mined, self.settings.seed, update)
            fixed = self._fixed_on_device(self.fixed, documents)
        relation = on_device(relevance, device)
        taught = self.teacher.teach(batch.queries, documents, device) if self.teacher is not None else None
        queries = len(batch.queries)

        def loss(embeddings: Tensor) -> Contrast:
            return self.objective(embeddings[:queries], embeddings[queries:] if fixed is None else fixed, relation, taught)

        return loss

    def _fixed_on_device(self, fixed: NDArray[np.float32], documents: Ints) -> Tensor:
        """The embeddings of these documents; those of a corpus that always stands there whole are brought once."""
        if len(documents) < len(fixed):
            return on_device(fixed[documents], self.model.device)
        if self.whole is None:
            self.whole = on_device(np.array(fixed), self.model.device)
        return self.whole

    def tokens_a_second(self, an_epoch: int, minutes: float) -> float:
        """The rate of training, measured without an update of the weights: on a few queries, and where that takes but a moment of the
        minutes, on the whole first batch, which a large device needs to be filled.
        """
        groups = epoch_batches(self.group_tokens, an_epoch, 0, self.settings.seed)[0]
        few = max(2, int(np.searchsorted(np.cumsum(self.group_tokens[groups]), A_FEW)))
        rate = [self._rate_of(groups[:few]) for _ in range(2)][-1]  # the first pass warms up
        if float(self.group_tokens[groups].sum()) / rate < MEASURING_SHARE * 60.0 * minutes:
            rate = self._rate_of(groups)
        self.step.bytes_a_token = 0.0  # to be weighed on the longest text of the first update
        return rate

    def _rate_of(self, groups: NDArray[np.integer]) -> float:
        """Tokens a second of a step over these queries."""
        batch = self.groups.batch(groups, redraw(self.mined, 0))
        start = time.monotonic()
        self.step.gradients(self.texts.tokens, self._texts_of(batch), self._loss(batch, 0), 0)
        if self.model.device.type != "cpu":
            torch.accelerator.synchronize(self.model.device)
        return int(self.texts.tokens.lengths[self._texts_of(batch)].sum()) / (time.monotonic() - start)

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state on the CPU, by the place of the parameter and a name of PyTorch's."""
        return {
            f"{index}.{name}": value.detach().cpu().contiguous()
            for index, parameter in enumerate(self.trained)
            for name, value in self.optimizer.state[parameter].items()
        }

    def restore(self, weights: Path, moments: dict[str, Tensor]) -> None:
        """Go on from these weights and what `moments` gave; what it has nothing of begins as before the first update."""
        self.tuning.restore(weights)
        for place, value in moments.items():
            index, name = place.split(".")
            parameter = self.trained[int(index)]
            self.optimizer.state[parameter][name] = value.to(parameter.device)
