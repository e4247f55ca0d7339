"""The loss and its gradients against naive ones, and against sentence-transformers' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from homing.batches import chunks, epoch_order, make_batch
from homing.data import Builder, Mined
from homing.losses import info_nce


def _mined(lists: list[tuple[int, list[int], list[int]]]) -> Mined:
    """Rows from (query, positives, negatives); every positive makes a row with all the negatives."""
    builder = Builder()
    for document in range(1 + max(d for _, positives, negatives in lists for d in positives + negatives)):
        builder.document(f"document {document}")
    for query, positives, negatives in lists:
        at = builder.query(f"query {query}")
        for grade, documents in ((1, positives), (0, negatives)):
            for document in documents:
                builder.judge(at, document, grade)
    data = builder.dataset()
    rows = [(q, p, n) for q, (_, positives, n) in enumerate(lists) for p in positives]
    width = max(1, *(len(n) for _, _, n in rows))
    negative = np.full((len(rows), width), -1, dtype=np.int32)
    for row, (_, _, n) in enumerate(rows):
        negative[row, : len(n)] = n
    query, positive = (np.array([row[i] for row in rows], dtype=np.int32) for i in (0, 1))
    return Mined(data, query, positive, negative, negative * 0, negative * 0, negative * 0.0, negative >= 0)


LISTS = [(0, [0, 1], [2, 3]), (1, [3], [0, 4]), (2, [5], []), (3, [1], [5, 6])]


@pytest.mark.parametrize("in_batch", [True, False])
def test_equals_a_naive_loss_over_repeated_texts(in_batch: bool) -> None:
    mined = _mined(LISTS)
    generator = torch.Generator().manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(4, 8, generator=generator, dtype=torch.float64), dim=1).float().requires_grad_()
    documents = torch.nn.functional.normalize(torch.randn(7, 8, generator=generator, dtype=torch.float64), dim=1).float().requires_grad_()
    batch = make_batch(mined, np.arange(len(mined)), in_batch)
    found = info_nce(
        queries[torch.from_numpy(batch.queries).long()],
        documents[torch.from_numpy(batch.documents).long()],
        torch.from_numpy(batch.row_query),
        torch.from_numpy(batch.row_positive),
        torch.from_numpy(batch.against),
        0.05,
    )
    found.loss.backward()
    assert queries.grad is not None
    assert documents.grad is not None
    gradients = queries.grad.clone(), documents.grad.clone()
    queries.grad = documents.grad = None
    naive = []
    positives = mined.train.qrels.positives
    everything = {int(d) for d in [*mined.positive, *mined.negative.ravel()] if d >= 0}
    for q, p, row in zip(mined.query.tolist(), mined.positive.tolist(), mined.negative.tolist(), strict=True):
        against = everything if in_batch else {d for d in row if d >= 0}
        logits = [queries[q] @ documents[p]] + [queries[q] @ documents[d] for d in sorted(against - positives[q])]
        naive.append(torch.nn.functional.cross_entropy(torch.stack(logits)[None] / 0.05, torch.tensor([0])))
    loss = torch.stack(naive).mean()
    loss.backward()
    assert found.loss.item() == pytest.approx(loss.item(), abs=1e-5)
    assert torch.allclose(gradients[0], queries.grad, atol=1e-5)
    assert torch.allclose(gradients[1], documents.grad, atol=1e-5)


def test_equals_sentence_transformers_where_definitions_agree() -> None:
    """One positive a query and no shared document: MultipleNegativesRankingLoss with scale 20."""
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    generator = torch.Generator().manual_seed(1)
    anchors, positives, negatives = (torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=1) for _ in range(3))
    oracle = MultipleNegativesRankingLoss(model=torch.nn.Identity(), scale=20.0)  # type: ignore[arg-type]
    wanted = oracle.compute_loss_from_embeddings([anchors, positives, negatives], labels=None)
    mined = _mined([(q, [q], [5 + q]) for q in range(5)])
    batch = make_batch(mined, np.arange(5), True)
    found = info_nce(
        anchors, torch.cat([positives, negatives]), torch.from_numpy(batch.row_query), torch.from_numpy(batch.row_positive),
        torch.from_numpy(batch.against), 0.05,
    )  # fmt: skip
    assert float(found.loss) == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.parametrize("in_batch", [True, False])
def test_no_judged_positive_ever_stands_against_its_query(in_batch: bool) -> None:
    mined = _mined(LISTS)
    batch = make_batch(mined, np.arange(len(mined)), in_batch)
    for row, query in enumerate(mined.query.tolist()):
        standing = set(batch.documents[batch.against[row]].tolist())
        assert not standing & mined.train.qrels.positives[query]
        own = {d for d in mined.negative[row].tolist() if d >= 0}
        assert standing >= own
        assert in_batch or standing == own


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 200))
def test_chunks_hold_each_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    sizes = np.array(lengths)
    found = list(chunks(sizes, budget))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    for chunk in found:
        assert len(chunk) == 1 or len(chunk) * sizes[chunk].max() <= budget


def test_each_epoch_has_its_own_repeatable_order() -> None:
    assert (epoch_order(100, 0, 42) == epoch_order(100, 0, 42)).all()
    assert (epoch_order(100, 0, 42) != epoch_order(100, 1, 42)).any()
    assert sorted(epoch_order(100, 1, 42).tolist()) == list(range(100))
