"""The objective passes every setting of the loss on: each changes the loss, and to what the losses say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from homing.batches import LEFT_OUT, MINED, NEGATIVE, POSITIVE, UNJUDGED
from homing.losses import contrastive, cosent, distillation, embedding_distillation
from homing.settings import Training
from homing.training.objective import Objective, Taught

RELEVANCE = torch.tensor(
    [
        [POSITIVE, POSITIVE, NEGATIVE, MINED, UNJUDGED],
        [UNJUDGED, NEGATIVE, POSITIVE, NEGATIVE, MINED],
    ],
    dtype=torch.int8,
)


@pytest.fixture
def embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    queries, documents = (torch.randn(size, 8, generator=generator) for size in RELEVANCE.shape)
    return F.normalize(queries, dim=1), F.normalize(documents, dim=1)


@pytest.mark.parametrize(
    "changed",
    [{"temperature": 0.1}, {"positives": "sum"}, {"in_batch": False}, {"margin": 0.0}, {"hardness": 2.0}, {"hardness": 0.0}],
    ids=lambda c: str(*c),
)
def test_a_setting_reaches_the_loss(changed: dict[str, Any], embeddings: tuple[torch.Tensor, torch.Tensor]) -> None:
    found = Objective(Training(**changed), 8)(*embeddings, RELEVANCE).loss
    temperature = changed.get("temperature", 0.05)
    said = {"hardness": 0.25 / temperature, **changed, "temperature": temperature}
    assert torch.equal(found, contrastive(*embeddings, RELEVANCE, **said).loss)
    assert found != Objective(Training(), 8)(*embeddings, RELEVANCE).loss


def test_inner_products_have_a_temperature_of_their_own_and_a_teacher_that_of_cosines(
    embeddings: tuple[torch.Tensor, torch.Tensor],
) -> None:
    queries, documents = (3 * each for each in embeddings)
    taught = Taught(embeddings[0] @ embeddings[1].T)
    for changed, temperature in (({}, 1.0), ({"temperature": 2.0}, 2.0)):
        found = Objective(Training(**changed), 8, unit_length=False, normalised=False)(queries, documents, RELEVANCE, taught).loss
        own = contrastive(queries, documents, RELEVANCE, temperature, hardness=0.25 / temperature).loss
        known = torch.ones_like(RELEVANCE, dtype=torch.bool)
        assert torch.isclose(found, own + distillation(queries @ documents.T, taught.scores, known, temperature, 0.05))


def test_what_a_judge_was_unsure_of_has_no_part_in_what_a_teacher_says(embeddings: tuple[torch.Tensor, torch.Tensor]) -> None:
    queries, documents = embeddings
    left_out = torch.where(RELEVANCE == MINED, torch.tensor(LEFT_OUT, dtype=torch.int8), RELEVANCE)
    scores = torch.zeros(RELEVANCE.shape)
    losses = [
        Objective(Training(), 8)(queries, documents, left_out, Taught(torch.where(left_out == LEFT_OUT, said, scores))).loss
        for said in (0.0, 0.9, float("nan"))
    ]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


def test_shorter_embeddings_are_compared_as_the_models_own_are(embeddings: tuple[torch.Tensor, torch.Tensor]) -> None:
    """A model that compares by inner product alone is cut and not brought to length 1, as `Truncated` serves it."""
    queries, documents = (3 * each for each in embeddings)
    found = Objective(Training(dimensions="4"), 8, unit_length=False, normalised=False)(queries, documents, RELEVANCE)
    alone = [contrastive(queries[:, :d], documents[:, :d], RELEVANCE, 1.0, hardness=0.25).loss for d in (8, 4)]
    assert torch.isclose(found.loss, (alone[0] + alone[1]) / 2)


def test_the_cross_query_term_is_added(embeddings: tuple[torch.Tensor, torch.Tensor]) -> None:
    queries, documents = embeddings
    for temperature, scale in ((0.05, 20.0), (0.1, 10.0)):
        settings = [Training(cross_query=weight, temperature=temperature) for weight in (0.0, 0.3)]
        plain, with_term = (Objective(each, 8)(*embeddings, RELEVANCE).loss for each in settings)
        assert torch.isclose(with_term, plain + 0.3 * cosent(queries @ documents.T, RELEVANCE, scale))


def test_what_a_teacher_says_by_scores_and_by_embeddings_has_the_weight_of_the_settings(
    embeddings: tuple[torch.Tensor, torch.Tensor],
) -> None:
    generator = torch.Generator().manual_seed(2)
    queries, documents = (F.normalize(torch.randn(size, 12, generator=generator), dim=1) for size in RELEVANCE.shape)
    taught = Taught(queries @ documents.T, queries, documents)
    plain = Objective(Training(temperature=0.1), 8)(*embeddings, RELEVANCE).loss
    by_scores = distillation(embeddings[0] @ embeddings[1].T, taught.scores, torch.ones_like(RELEVANCE, dtype=torch.bool), 0.1, 0.1)
    by_embeddings = embedding_distillation(torch.cat(embeddings), torch.cat([queries, documents]))
    for weight in (0.0, 0.3):
        settings = Training(temperature=0.1, distill=weight)
        assert torch.isclose(Objective(settings, 8)(*embeddings, RELEVANCE, taught).loss, plain + weight * (by_scores + by_embeddings))
        assert torch.isclose(Objective(settings, 8)(*embeddings, RELEVANCE, Taught(taught.scores)).loss, plain + weight * by_scores)
