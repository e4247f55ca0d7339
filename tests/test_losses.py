"""Each loss and its gradients against a naive one in float64, and against the losses of sentence-transformers and torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from homing.batches import MINED, NEGATIVE, POSITIVE, UNJUDGED
from homing.errors import SettingError
from homing.losses import Contrast, contrastive, cosent, distillation, embedding_distillation, matryoshka

U, P, N, M = UNJUDGED, POSITIVE, NEGATIVE, MINED


def normalized(tensor: Tensor) -> Tensor:
    return nn.functional.normalize(tensor, dim=-1)


def unit(seed: int, *shape: int) -> Tensor:
    """Random embeddings (or scores), each of length 1."""
    return normalized(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def codes(rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int8)


# Several positives, one of them another query's negative, a query without any positive, one with nothing judged against it.
RELEVANCE = codes([[P, P, N, M, U, M, U], [U, U, U, P, N, M, M], [N, U, U, N, M, U, U], [U, U, P, U, U, P, U], [P, N, M, M, P, U, P]])

matrices = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(st.sampled_from([U, P, N, M]), min_size=width, max_size=width), min_size=1, max_size=4).map(codes)
)
seeds = st.integers(0, 2**31)
FORMS: list[dict[str, Any]] = [
    {"positives": positives, "in_batch": in_batch, "margin": margin, "hardness": hardness}
    for positives in ("each", "sum")
    for in_batch in (True, False)
    for margin in (None, -0.1, 0.0, 0.3)
    for hardness in (0.0, 2.0)
]
forms = st.sampled_from(FORMS)


def naive_contrastive(
    queries: Tensor, documents: Tensor, relevance: Tensor, temperature: Any, *, positives: str, in_batch: bool, margin: Any, hardness: float
) -> Tensor:
    """The definition, a term after the other."""
    standing = {N, M, U} if in_batch else {N, M}
    terms = []
    for query, row in zip(queries, relevance.tolist(), strict=True):
        scores = [query @ document for document in documents]
        fixed = [float(score.detach()) for score in scores]
        pulled = [d for d, code in enumerate(row) if code == P]
        pushed = [d for d, code in enumerate(row) if code in standing]
        weights = {d: math.exp(hardness * fixed[d]) for d in pushed}
        mean = sum(weights.values()) / max(1, len(weights))
        for group in [[d] for d in pulled] if positives == "each" else [pulled] * bool(pulled):
            bound = math.inf if margin is None else max(fixed[d] for d in group) + margin
            kept = [d for d in pushed if row[d] == N or fixed[d] <= bound]
            above = sum(torch.exp(scores[d] / temperature) for d in group)
            below = sum(weights[d] / mean * torch.exp(scores[d] / temperature) for d in kept)
            terms.append(-torch.log(above / (above + below)))
    return torch.stack(terms).mean() if terms else (queries.sum() + documents.sum() + temperature) * 0.0


def gradients(loss: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """The loss, then its gradient at each of the inputs, in float64."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    value = loss(*leaves)
    return (value.detach().double(), *(gradient.double() for gradient in torch.autograd.grad(value, leaves)))


def assert_same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def check_contrastive(relevance: Tensor, seed: int, temperature: float, form: dict[str, Any]) -> None:
    queries, documents = unit(seed, relevance.shape[0], 8), unit(seed + 1, relevance.shape[1], 8)
    assert_same(
        gradients(lambda q, d, t: contrastive(q, d, relevance, t, **form).loss, queries, documents, torch.tensor(temperature)),
        gradients(
            lambda q, d, t: naive_contrastive(q, d, relevance, t, **form),
            queries.double(),
            documents.double(),
            torch.tensor(temperature, dtype=torch.float64),
        ),
    )


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_contrastive_is_its_definition(form: dict[str, Any]) -> None:
    check_contrastive(RELEVANCE, 0, 0.1, form)


@given(matrices, seeds, st.sampled_from([0.2, 1.0]), forms)
def test_contrastive_is_its_definition_whatever_is_judged(relevance: Tensor, seed: int, temperature: float, form: dict[str, Any]) -> None:
    check_contrastive(relevance, seed, temperature, form)


def test_contrastive_reports_mean_scores_of_the_queries_with_a_positive() -> None:
    queries, documents = unit(0, 5, 8), unit(1, 7, 8)
    scores = (queries @ documents.T).tolist()
    for in_batch, standing in ((True, (N, M, U)), (False, (N, M))):
        found = contrastive(queries.requires_grad_(), documents, RELEVANCE, 0.1, in_batch=in_batch)
        pulled = [scores[q][d] for q, row in enumerate(RELEVANCE.tolist()) for d, code in enumerate(row) if code == P]
        pushed = [scores[q][d] for q, row in enumerate(RELEVANCE.tolist()) for d, code in enumerate(row) if code in standing and q != 2]
        assert float(found.positive_score) == pytest.approx(sum(pulled) / len(pulled), abs=1e-6)
        assert float(found.negative_score) == pytest.approx(sum(pushed) / len(pushed), abs=1e-6)
        assert not found.positive_score.requires_grad
        assert not found.negative_score.requires_grad


class Given(nn.Module):
    """Stands for a sentence-transformers model: its features are the embeddings already."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["given"]}

    def get_embedding_dimension(self) -> int:
        return 16


def rows_of_three() -> tuple[list[Tensor], Tensor, Tensor]:
    """Six rows of a query, its positive and two negatives, as columns, as distinct documents and as a relevance."""
    columns = [unit(seed, 6, 16) for seed in range(4)]
    relevance = torch.full((6, 18), U, dtype=torch.int8)
    for kind, code in enumerate((P, N, M)):
        relevance[range(6), range(6 * kind, 6 * kind + 6)] = code
    return columns, torch.cat(columns[1:]), relevance


@pytest.mark.parametrize("positives", ["each", "sum"])
def test_contrastive_is_multiple_negatives_ranking_where_definitions_agree(positives: Any) -> None:
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    columns, documents, relevance = rows_of_three()
    oracle = MultipleNegativesRankingLoss(model=Given(), scale=20.0)  # type: ignore[arg-type]
    assert_same(
        gradients(lambda q, d: contrastive(normalized(q), normalized(d), relevance, 0.05, positives=positives).loss, columns[0], documents),
        gradients(
            lambda q, d: oracle.compute_loss_from_embeddings([q, *d.split(6)], labels=torch.empty(0)),
            columns[0].double(),
            documents.double(),
        ),
    )


@pytest.mark.parametrize("positives", ["each", "sum"])
@pytest.mark.parametrize("margin", [-0.1, 0.0, 0.2])
def test_margin_is_that_of_gist_guided_by_the_model_itself(margin: float, positives: Any) -> None:
    from sentence_transformers.losses import GISTEmbedLoss
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    columns, documents, relevance = rows_of_three()
    relevance = torch.where(relevance == N, M, relevance)[:, :12].to(torch.int8)
    model = Given()
    model.tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"word": 0}, unk_token="word")))
    model.max_seq_length = 8
    oracle = GISTEmbedLoss(model, model, 0.1, "absolute", -margin, contrast_anchors=False, contrast_positives=False)  # type: ignore[arg-type]
    wanted = float(oracle([{"given": column} for column in columns[:3]], labels=None))  # type: ignore[arg-type]
    found = contrastive(columns[0], documents[:12], relevance, 0.1, positives=positives, margin=margin)
    assert float(found.loss) == pytest.approx(wanted, abs=1e-5)
    assert float(contrastive(columns[0], documents[:12], relevance, 0.1).loss) != pytest.approx(wanted, abs=1e-3)


@given(matrices, seeds, forms, st.randoms(use_true_random=False))
def test_contrastive_does_not_depend_on_any_order(relevance: Tensor, seed: int, form: dict[str, Any], random: Any) -> None:
    queries, documents = unit(seed, relevance.shape[0], 8), unit(seed + 1, relevance.shape[1], 8)
    rows, columns = (random.sample(range(size), size) for size in relevance.shape)
    found = contrastive(queries[rows], documents[columns], relevance[rows][:, columns], 0.2, **form)
    torch.testing.assert_close(tuple(found), tuple(contrastive(queries, documents, relevance, 0.2, **form)), atol=1e-5, rtol=1e-5)


@given(
    seeds,
    st.lists(st.tuples(st.integers(0, 4), st.lists(st.sampled_from([U, N, M]), min_size=5, max_size=5)), min_size=1, max_size=4),
    forms,
)
def test_each_is_sum_where_every_query_has_one_positive(seed: int, rows: list[tuple[int, list[int]]], form: dict[str, Any]) -> None:
    relevance = codes([[P if d == positive else code for d, code in enumerate(row)] for positive, row in rows])
    queries, documents = unit(seed, len(rows), 8), unit(seed + 1, 5, 8)
    each, summed = (contrastive(queries, documents, relevance, 0.2, **form | {"positives": positives}) for positives in ("each", "sum"))
    torch.testing.assert_close(tuple(each), tuple(summed), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("positives", ["each", "sum"])
def test_margin_leaves_out_what_scores_above_the_positive_but_never_a_judged_negative(positives: Any) -> None:
    """Scores 0.6 (positive), then 0.9, 0.7, 0.5: with margin 0.2 only the first may be left out, and only if nobody judged it."""
    queries = torch.tensor([[1.0, 0.0]])
    documents = torch.tensor([[score, math.sqrt(1 - score**2)] for score in (0.6, 0.9, 0.7, 0.5)], requires_grad=True)
    for code in (M, U, N):
        relevance = codes([[P, code, code, code]])
        loss = contrastive(queries, documents, relevance, 0.1, positives=positives, margin=0.2).loss
        (gradient,) = torch.autograd.grad(loss, documents)
        kept = [0.9, 0.7, 0.5] if code == N else [0.7, 0.5]
        assert loss.item() == pytest.approx(math.log1p(sum(math.exp((score - 0.6) / 0.1) for score in kept)), abs=1e-5)
        assert (gradient.abs().sum(dim=1) > 0).tolist() == [True, code == N, True, True]


def test_what_scores_exactly_the_bound_is_kept() -> None:
    """A duplicate of the positive does not exceed it."""
    queries, documents = unit(0, 1, 8), unit(1, 1, 8).repeat(2, 1)
    assert float(contrastive(queries, documents, codes([[P, M]]), 0.1, margin=0.0).loss) == pytest.approx(math.log(2), abs=1e-6)


def test_without_in_batch_an_unjudged_document_has_no_gradient() -> None:
    documents = unit(1, 4, 8).requires_grad_()
    relevance = codes([[P, N, U, U], [U, P, M, U]])
    for in_batch, touched in ((False, [True, True, True, False]), (True, [True] * 4)):
        (gradient,) = torch.autograd.grad(contrastive(unit(0, 2, 8), documents, relevance, 0.1, in_batch=in_batch).loss, documents)
        assert (gradient.abs().sum(dim=1) > 0).tolist() == touched


def test_a_sibling_positive_is_no_negative() -> None:
    queries, documents = unit(0, 1, 8), unit(1, 3, 8)
    alone = [float(contrastive(queries, documents[[d, 2]], codes([[P, N]]), 0.1).loss) for d in (0, 1)]
    assert float(contrastive(queries, documents, codes([[P, P, N]]), 0.1).loss) == pytest.approx(sum(alone) / 2, abs=1e-6)


EMPTY = {
    "no positive": [[N, M, U], [U, U, N]],
    "nothing against": [[P, P, P], [P, P, P]],
    "nothing judged": [[U, U, U], [U, U, U]],
    "one of each kind": [[P, N, M], [U, N, M]],
}


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", EMPTY)
def test_what_has_nothing_to_be_compared_with_adds_nothing_and_no_nan(kind: str, form: dict[str, Any]) -> None:
    queries, documents = unit(0, 2, 8), unit(1, 3, 8)
    with torch.autograd.set_detect_anomaly(True):  # nor on the way, where a later mask would hide it
        found = gradients(lambda q, d: contrastive(q, d, codes(EMPTY[kind]), 0.01, **form).loss, queries, documents)
    assert all(tensor.isfinite().all() for tensor in found)
    assert all((tensor == 0).all() for tensor in found) is (kind != "one of each kind")


@pytest.mark.parametrize("kind", EMPTY)
def test_no_nan_in_the_losses_of_scores(kind: str) -> None:
    relevance, scores = codes(EMPTY[kind]), unit(0, 2, 3)
    empty = kind != "one of each kind"
    for loss, nothing in (
        (lambda s: cosent(s, relevance), empty),
        (lambda s: distillation(s, torch.full_like(s, torch.nan), relevance == 9, 0.05, 1.0), True),
        (lambda s: distillation(s, unit(1, 2, 3), torch.tensor([[True, False, False]] * 2), 0.05, 1.0), True),
    ):
        with torch.autograd.set_detect_anomaly(True):
            found = gradients(loss, scores)
        assert all(tensor.isfinite().all() for tensor in found)
        assert all((tensor == 0).all() for tensor in found) is nothing


@given(matrices, seeds)
def test_cosent_is_its_double_sum(relevance: Tensor, seed: int) -> None:
    def naive(scores: Tensor) -> Tensor:
        above, below = scores[relevance == P], scores[relevance == N]
        return torch.log1p(torch.exp(20 * (below[:, None] - above)).sum()) + scores.sum() * 0

    scores = 0.5 * unit(seed, *relevance.shape)
    assert_same(gradients(lambda s: cosent(s, relevance), scores), gradients(naive, scores.double()))


def test_cosent_is_that_of_sentence_transformers_on_the_judged_pairs() -> None:
    from sentence_transformers.losses import CoSENTLoss

    queries, documents = unit(0, 5, 8), unit(1, 7, 8)
    query, document = torch.nonzero((RELEVANCE == P) | (RELEVANCE == N), as_tuple=True)
    labels = (RELEVANCE[query, document] == P).float()
    oracle = CoSENTLoss(model=Given(), scale=20.0)  # type: ignore[arg-type]
    assert_same(
        gradients(lambda q, d: cosent(normalized(q) @ normalized(d).T, RELEVANCE, torch.tensor(20.0)), queries, documents),
        gradients(lambda q, d: oracle.compute_loss_from_embeddings([q[query], d[document]], labels), queries.double(), documents.double()),
    )


def test_distillation_is_that_of_sentence_transformers_where_all_is_known() -> None:
    """Which multiplies by the squared temperature."""
    from sentence_transformers.losses import DistillKLDivLoss

    queries, documents, teacher = unit(0, 5, 8), unit(1, 5, 3, 8), 4 * unit(2, 5, 3)
    oracle = DistillKLDivLoss(Given(), student_temperature=0.1, teacher_temperature=2.0)  # type: ignore[arg-type]
    wanted = oracle.compute_loss_from_embeddings([queries, *documents.unbind(1)], teacher)
    found = distillation(torch.einsum("qd,qcd->qc", queries, documents), teacher, torch.ones(5, 3, dtype=torch.bool), 0.1, 2.0)
    assert float(found) == pytest.approx(float(wanted) / 0.1**2, rel=1e-5)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4), seeds)
def test_distillation_is_the_mean_divergence_over_known_candidates(rows: list[list[bool]], seed: int) -> None:
    known = torch.tensor(rows)
    teacher = torch.where(known, 3 * unit(seed + 1, *known.shape), torch.nan)

    def oracle(scores: Tensor) -> Tensor:
        terms = [
            nn.functional.kl_div((s[k] / 0.1).log_softmax(0), (t[k].double() / 2.0).softmax(0), reduction="sum")
            for s, t, k in zip(scores, teacher, known, strict=True)
            if k.sum() >= 2
        ]
        return torch.stack(terms).mean() if terms else scores.sum() * 0

    scores = unit(seed, *known.shape)
    assert_same(gradients(lambda s: distillation(s, teacher, known, 0.1, 2.0), scores), gradients(oracle, scores.double()))


def test_embedding_distillation_compares_geometries() -> None:
    from sklearn.metrics.pairwise import cosine_similarity

    embeddings, teacher = 3 * unit(0, 6, 8), 2 * unit(1, 6, 12)
    wanted = ((cosine_similarity(embeddings) - cosine_similarity(teacher)) ** 2).mean()
    assert float(embedding_distillation(embeddings, teacher)) == pytest.approx(wanted, abs=1e-6)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2))).Q
    for same in (embeddings @ rotation, nn.functional.pad(embeddings @ rotation, (0, 4))):
        assert float(embedding_distillation(embeddings, same)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("dimensions", [[4, 8, 16], [16, 4]])
def test_matryoshka_is_that_of_sentence_transformers(dimensions: list[int]) -> None:
    """Which sums where this averages."""
    from sentence_transformers.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

    columns, documents, relevance = rows_of_three()
    model = Given()
    oracle = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model, scale=10.0), dimensions)  # type: ignore[arg-type]

    def loss(q: Tensor, d: Tensor) -> Contrast:
        return contrastive(q, d, relevance, 0.1)

    assert_same(
        gradients(lambda q, d: matryoshka(loss, q, d, dimensions).loss, columns[0], documents),
        gradients(
            lambda q, d: oracle([{"given": column} for column in (q, *d.split(6))], labels=None) / len(dimensions),  # type: ignore[arg-type]
            columns[0].double(),
            documents.double(),
        ),
    )
    assert torch.allclose(  # the sum's order, and so its last bit, is the threads' affair
        matryoshka(loss, columns[0], documents, dimensions).positive_score, loss(columns[0], documents).positive_score
    )


def test_matryoshka_always_has_the_full_dimension() -> None:
    columns, documents, relevance = rows_of_three()

    def loss(q: Tensor, d: Tensor) -> Contrast:
        return contrastive(q, d, relevance, 0.1)

    def at(*dimensions: int) -> float:
        return float(matryoshka(loss, columns[0], documents, dimensions).loss)

    assert at() == pytest.approx(float(loss(columns[0], documents).loss), abs=1e-6)
    assert at(4) == pytest.approx(at(16, 4), abs=1e-6) != pytest.approx(at(), abs=1e-3)
    with pytest.raises(SettingError, match="17"):
        at(4, 17)
    with pytest.raises(SettingError, match="0"):
        at(0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_arithmetic_is_in_float32(dtype: torch.dtype) -> None:
    queries, documents, scores = unit(0, 5, 8).to(dtype), unit(1, 7, 8).to(dtype), unit(2, 5, 7).to(dtype)
    found = contrastive(queries, documents, RELEVANCE, 0.05, margin=0.1)
    wanted = contrastive(queries.float(), documents.float(), RELEVANCE, 0.05, margin=0.1)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    known = RELEVANCE != U
    for loss in (
        lambda s: cosent(s, RELEVANCE),
        lambda s: distillation(s, s.flip(0), known, 0.05, 1.0),
        lambda s: embedding_distillation(s, s.flip(0)),
    ):
        assert torch.equal(loss(scores), loss(scores.float()))


def test_nothing_depends_on_a_value_that_the_host_would_have_to_read() -> None:
    """On the meta device there are no values: a step that asks for one fails, forwards or backwards."""
    queries, documents = (torch.empty(size, 8, device="meta", requires_grad=True) for size in (5, 7))
    scores, relevance, number = queries @ documents.T, RELEVANCE.to("meta"), torch.tensor(1.0, device="meta")
    losses = [contrastive(queries, documents, relevance, number, **form).loss for form in FORMS]
    losses += [matryoshka(lambda q, d: contrastive(q, d, relevance, number), queries, documents, [4]).loss]
    losses += [cosent(scores, relevance, number)]
    losses += [distillation(scores, scores, relevance != U, number, 1.0)]
    losses += [embedding_distillation(queries, torch.empty(5, width, device="meta")) for width in (8, 12)]
    for loss in losses:
        assert loss.shape == ()
        loss.backward(retain_graph=True)
