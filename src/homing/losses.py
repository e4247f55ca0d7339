"""The losses, in fp32, on embeddings or scores of distinct texts.

What a document is to a query is a number of `homing.batches`: POSITIVE, NEGATIVE, MINED or UNJUDGED. What has nothing to be compared
with adds 0 and no gradient. Shapes never depend on values and nothing is read back to the host, so that a step never waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from homing.batches import MINED, NEGATIVE, POSITIVE, UNJUDGED
from homing.errors import SettingError

# The logarithm of nothing. Finite, for with -inf the gradient of an empty sum passes through NaN; no logit is anywhere near it.
LOG_ZERO = -1e30


class Contrast(NamedTuple):
    """A loss with the mean scores behind it (scalars; the two scores are detached)."""

    loss: Float[Tensor, ""]
    positive_score: Float[Tensor, ""]
    negative_score: Float[Tensor, ""]


def contrastive(
    queries: Float[Tensor, "queries dim"],
    documents: Float[Tensor, "documents dim"],
    relevance: Int8[Tensor, "queries documents"],
    temperature: float | Float[Tensor, ""],
    *,
    positives: Literal["each", "sum"] = "each",
    in_batch: bool = True,
    margin: float | None = None,
    hardness: float = 0.0,
) -> Contrast:
    """InfoNCE over inner products s: a query's positives p against the documents n that may stand against it.

    With `positives` "each", every pair of a query and a positive is a term, -log(e^(p/t) / (e^(p/t) + sum_n e^(n/t))): every positive is
    pulled, and those beside it are left out. With "sum", every query that has a positive is one, with sum_p e^(p/t) in place of
    e^(p/t): its best positives are pulled most, and one that cannot be reached costs little. The loss is the mean over terms.

    Judged negatives always stand against a query, judged positives never; mined documents do, and with `in_batch` also the unjudged.
    `margin`, in units of score, leaves out of a term the mined and unjudged documents that score above its positive plus `margin`: these
    are likely positives that nobody judged. In a "sum" that is the best positive, for measured from the worst, one positive that
    the model misses would excuse nearly every negative. A judged negative is never left out.
    `hardness` weights the negatives of a query by e^(hardness * n), without gradient and with mean 1 over all that may stand against it.

    The mean scores are over the positives, and over what may stand against them before `margin`, of the queries that have a positive.

    Source: van den Oord et al. 2018 (arXiv 1807.03748). The two forms: Khosla et al. 2020 (SupCon, arXiv 2004.11362), whose "out" keeps the
    other positives in the denominator. A mask relative to the positive's score: GISTEmbed (arXiv 2402.16829, by a guide model) and
    NV-Retriever (arXiv 2407.15831, in mining); here by the model's own scores. Hardness: Robinson et al. 2021 (arXiv 2010.04592).
    """
    scores = queries.float() @ documents.float().T
    fixed = scores.detach()
    positive, judged = relevance == POSITIVE, relevance == NEGATIVE
    answered = positive.any(dim=1, keepdim=True)
    presumed = (relevance == MINED) | ((relevance == UNJUDGED) & in_batch)
    against = judged | presumed

    logits = scores / temperature
    if positives == "each":
        pulled, terms, reference = logits, positive, fixed
    else:
        pulled, terms = _log_sum(logits, positive), answered
        reference = torch.where(positive, fixed, -torch.inf).amax(dim=1, keepdim=True)

    if hardness:
        logits = logits + hardness * fixed - _log_sum(hardness * fixed, against) + against.sum(dim=1, keepdim=True).clamp(min=1).log()
    if margin is None:
        pushed = _log_sum(logits, against)
    else:
        pushed = torch.logaddexp(_log_sum(logits, judged), _log_sum_up_to(logits, presumed, fixed, reference + margin))

    return Contrast(_mean(F.softplus(pushed - pulled), terms), _mean(fixed, positive), _mean(fixed, against & answered))


def cosent(
    scores: Float[Tensor, "queries documents"],
    relevance: Int8[Tensor, "queries documents"],
    scale: float | Float[Tensor, ""] = 20.0,
) -> Float[Tensor, ""]:
    """log(1 + sum over judged positive pairs i and judged negative pairs j of e^(scale (s_j - s_i))), across all queries of the batch.

    It asks that one threshold part positives from negatives whatever the query; a contrastive loss only orders each query's own documents.
    Pairs that nobody judged take no part. No average: it grows with the logarithm of the number of pairs.

    Source: CoSENT (Huang et al. 2024, doi 10.1109/TASLP.2024.3402087). The double sum is the product of two sums.
    """
    logits = (scores.float() * scale).flatten()
    positive, negative = (relevance == POSITIVE).flatten(), (relevance == NEGATIVE).flatten()
    return F.softplus(_log_sum(-logits, positive) + _log_sum(logits, negative))[0]


def distillation(
    scores: Float[Tensor, "queries documents"],
    teacher: Float[Tensor, "queries documents"],
    known: Bool[Tensor, "queries documents"],
    temperature: float | Float[Tensor, ""],
    teacher_temperature: float,
) -> Float[Tensor, ""]:
    """KL(teacher || student) of the softmax over each query's `known` candidates, mean over the queries with at least two of them.

    The two temperatures differ because a reranker's scores have another range than cosines. The divergence is not multiplied by the
    squared temperature: so its gradient has the scale of `contrastive` at the same temperature, and the two can be added.
    What `teacher` holds outside `known` is never used.

    Source: Hinton et al. 2015 (arXiv 1503.02531); for retrieval Lin et al. 2020 (arXiv 2010.11386).
    """
    student = torch.log_softmax(torch.where(known, scores.float() / temperature, LOG_ZERO), dim=1)
    wanted = torch.log_softmax(torch.where(known, teacher.detach().float() / teacher_temperature, LOG_ZERO), dim=1)
    divergence = torch.where(known, wanted.exp() * (wanted - student), 0.0).sum(dim=1)
    return _mean(divergence, known.sum(dim=1) >= 2)


def embedding_distillation(embeddings: Float[Tensor, "texts dim"], teacher: Float[Tensor, "texts teacher_dim"]) -> Float[Tensor, ""]:
    """How far the geometry of embeddings is from a teacher's: the mean squared difference of the two matrices of cosines between all texts.

    Their dimensions may differ, and no axis of one model means anything in the other: a rotation of either changes nothing.

    Source: matrices of cosines, Jasper and Stella (arXiv 2412.19048); that embeddings beside scores help, jina-embeddings-v5
    (arXiv 2602.15547), which learns a projection to the teacher's space instead.
    """
    student, wanted = F.normalize(embeddings.float(), dim=1), F.normalize(teacher.detach().float(), dim=1)
    return F.mse_loss(student @ student.T, wanted @ wanted.T)


def matryoshka(
    loss: Callable[[Tensor, Tensor], Contrast],
    queries: Float[Tensor, "queries dim"],
    documents: Float[Tensor, "documents dim"],
    dimensions: Sequence[int],
    *,
    normalised: bool = True,
) -> Contrast:
    """`loss` of the embeddings cut to their first d numbers, averaged over d in `dimensions`; `normalised`: brought to length 1 again.

    The full dimension is always among them, also where `dimensions` doesn't name it. The mean scores are those of the full dimension.

    Raises SettingError for a dimension that the embeddings don't have.

    Source: Kusupati et al. 2022 (arXiv 2205.13147).
    """
    full = queries.shape[1]
    if not all(1 <= dimension <= full for dimension in dimensions):
        raise SettingError(
            "a Matryoshka dimension is out of range", got=str(list(dimensions)), expected=f"each from 1 to {full}, the model's"
        )

    def cut(embeddings: Tensor, dimension: int) -> Tensor:
        first = embeddings.float()[:, :dimension]
        return F.normalize(first, dim=1) if normalised else first

    contrasts = {d: loss(cut(queries, d), cut(documents, d)) for d in dict.fromkeys((full, *dimensions))}
    return contrasts[full]._replace(loss=torch.stack([each.loss for each in contrasts.values()]).sum() / len(contrasts))


def _mean(values: Float[Tensor, "*shape"], counted: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """The mean of the values that count; 0 where none does."""
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)


def _log_sum(logits: Float[Tensor, "*lists n"], counted: Bool[Tensor, "*lists n"]) -> Float[Tensor, "*lists 1"]:
    """The logarithm of the sum of e^logit over those that count, of each list."""
    return torch.logsumexp(torch.where(counted, logits, LOG_ZERO), dim=-1, keepdim=True)


def _log_sum_up_to(
    logits: Float[Tensor, "queries documents"],
    counted: Bool[Tensor, "queries documents"],
    scores: Float[Tensor, "queries documents"],
    bounds: Float[Tensor, "queries terms"],
) -> Float[Tensor, "queries terms"]:
    """As `_log_sum`, for every bound of a query over those of its documents that score no more than the bound.

    One sort and one running sum serve all the bounds; a mask for each would take queries x terms x documents of memory.
    """
    ascending, order = scores.sort(dim=1)
    running = torch.logcumsumexp(torch.where(counted, logits, LOG_ZERO).gather(1, order), dim=1)
    below = torch.searchsorted(ascending, bounds, right=True)
    return F.pad(running, (1, 0), value=LOG_ZERO).gather(1, below)
