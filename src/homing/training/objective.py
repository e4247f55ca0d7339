"""The loss of a training batch as the settings have it: the contrastive term, and what may stand beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from homing import losses
from homing.batches import LEFT_OUT
from homing.losses import Contrast
from homing.settings import Training

TEMPERATURE = 0.05  # of cosines, which span 2 at most
HARDNESS = 0.25  # over the temperature
TEMPERATURE_OF_PRODUCTS = 1.0  # a model that compares by inner product learned to span as much as its logits need


def temperature_and_hardness(settings: Training, unit_length: bool) -> tuple[float, float]:
    """Both as the settings have them, or by default, for embeddings of length 1 or of any.

    Harder negatives then weigh 5 more for cosines: a quarter of what the softmax itself makes of a score (docs/log.md).
    """
    temperature = settings.temperature or (TEMPERATURE if unit_length else TEMPERATURE_OF_PRODUCTS)
    return temperature, HARDNESS / temperature if settings.hardness is None else settings.hardness


@dataclass(frozen=True)
class Taught:
    """What a teacher says about a batch.

    Shapes: `scores` (queries, documents), NaN where the teacher said nothing; `queries` (queries, teacher's dimension) and `documents`
    (documents, teacher's dimension): its embeddings, where it has any.
    """

    scores: Tensor
    queries: Tensor | None = None
    documents: Tensor | None = None


class Objective:
    """Called with embeddings of queries and documents and their relevance, gives the loss with the mean scores behind it.

    `dimension` is that of the embeddings, `unit_length` whether theirs is 1, `normalised` whether that of shorter ones shall be. A
    teacher's scores are in the range of cosines whatever the student's are.
    """

    def __init__(self, settings: Training, dimension: int, *, unit_length: bool = True, normalised: bool = True) -> None:
        self.settings, self.normalised = settings, normalised
        self.temperature, self.hardness = temperature_and_hardness(settings, unit_length)
        self.teachers_temperature = self.temperature if unit_length else TEMPERATURE
        self.dimensions = [dimension, *(each for each in settings.shorter if each < dimension)]

    def __call__(self, queries: Tensor, documents: Tensor, relevance: Tensor, taught: Taught | None = None) -> Contrast:
        def term(queries: Tensor, documents: Tensor) -> Contrast:
            return self._at_one_dimension(queries, documents, relevance, taught)

        if len(self.dimensions) > 1:
            found = losses.matryoshka(term, queries, documents, self.dimensions, normalised=self.normalised)
        else:
            found = term(queries, documents)
        if taught is not None and taught.queries is not None and taught.documents is not None and self.settings.distill:
            near = losses.embedding_distillation(torch.cat([queries, documents]), torch.cat([taught.queries, taught.documents]))
            found = found._replace(loss=found.loss + self.settings.distill * near)
        return found

    def _at_one_dimension(self, queries: Tensor, documents: Tensor, relevance: Tensor, taught: Taught | None) -> Contrast:
        settings = self.settings
        found = losses.contrastive(
            queries, documents, relevance, self.temperature,
            positives=settings.positives, in_batch=settings.in_batch, margin=settings.margin, hardness=self.hardness,
        )  # fmt: skip
        loss = found.loss
        if settings.cross_query or taught is not None:
            scores = queries.float() @ documents.float().T
            if settings.cross_query:
                loss = loss + settings.cross_query * losses.cosent(scores, relevance, 1.0 / self.temperature)
            if taught is not None and settings.distill:
                known = ~taught.scores.isnan() & (relevance != LEFT_OUT)
                loss = loss + settings.distill * losses.distillation(
                    scores, torch.where(known, taught.scores, 0.0), known, self.temperature, self.teachers_temperature
                )
        return found._replace(loss=loss)
