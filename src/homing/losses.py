"""The contrastive losses, in fp32, on embeddings of distinct texts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Contrast(NamedTuple):
    """A loss with the mean scores behind it (scalars; the two scores are detached)."""

    loss: Float[Tensor, ""]
    positive_score: Float[Tensor, ""]
    negative_score: Float[Tensor, ""]


def info_nce(
    queries: Float[Tensor, "queries dim"],
    documents: Float[Tensor, "documents dim"],
    row_query: Int[Tensor, " rows"],
    row_positive: Int[Tensor, " rows"],
    against: Bool[Tensor, "rows documents"],
    temperature: float,
) -> Contrast:
    """InfoNCE of each row's positive against the documents that may stand against it, averaged over rows.

    Shapes: `queries` (distinct queries, dim) and `documents` (distinct documents, dim), inner product = score; `row_query` and
    `row_positive` (rows,) their positions; `against` (rows, distinct documents), true where a document is a negative of the row: never
    at the row's positive, nor at any other judged positive of its query. A row with nothing against it has loss 0.

    Source: van den Oord et al. 2018 (arXiv 1807.03748), multi-negative as in Karpukhin et al. 2020 (arXiv 2004.04906).
    """
    scores = queries.float()[row_query] @ documents.float().T
    positive = scores.gather(1, row_positive[:, None])
    logits = torch.where(against, scores, -torch.inf)
    loss = torch.logsumexp(torch.cat([positive, logits], dim=1) / temperature, dim=1) - positive[:, 0] / temperature
    negatives = against.sum().clamp(min=1)
    return Contrast(loss.mean(), positive.detach().mean(), torch.where(against, scores.detach(), 0.0).sum() / negatives)
