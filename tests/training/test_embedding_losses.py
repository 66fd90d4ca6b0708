"""The bi-encoder's losses: by hand on two queries, against sentence-transformers, and golden values of three steps."""

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MarginMSELoss, MultipleNegativesRankingLoss
from sentence_transformers.util import pairwise_cos_sim

from inpars.training.embedding_losses import (
    Embedded,
    dense_objective,
    margin_mse,
    margins_of,
    matryoshka,
    ranking_loss,
)

# two queries along the axes; similarities with (their positives | their negatives):
#   q1: 1, 0 | 0, 1      q2: 0, 2 | 1, 0
BY_HAND = Embedded(
    torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0], [1.0, 0.0]]),
)


def random_batch(seed=0, queries=5, width=8, negatives=True):
    generator = torch.Generator().manual_seed(seed)
    documents = 2 * queries if negatives else queries
    return Embedded(
        torch.randn(queries, width, generator=generator), torch.randn(documents, width, generator=generator)
    )


def test_ranking_loss_of_positives_alone_is_the_softmax_by_hand():
    # q1: 1 against 0 -> log(e + 1) - 1; q2: 2 against 0 -> log(e^2 + 1) - 2
    batch = Embedded(BY_HAND.queries, BY_HAND.documents[:2])
    expected = (math.log(math.e + 1) - 1 + math.log(math.e**2 + 1) - 2) / 2
    assert ranking_loss(batch, 1.0).item() == pytest.approx(expected, abs=1e-6)


def test_ranking_loss_with_negatives_by_hand():
    # q1: 1 against 0, 0, 1; q2: 2 against 0, 1, 0; all times 3
    e = math.exp
    expected = (math.log(2 * e(3) + 2) - 3 + math.log(e(6) + e(3) + 2) - 6) / 2
    assert ranking_loss(BY_HAND, 3.0).item() == pytest.approx(expected, abs=1e-6)


def test_margin_mse_by_hand():
    # margins: q1 1 - 0, q2 2 - 0; the teacher's 0.5 and 4: (0.5^2 + 2^2) / 2
    assert margins_of(BY_HAND).tolist() == [1.0, 2.0]
    assert margin_mse(BY_HAND, torch.tensor([0.5, 4.0])).item() == pytest.approx(2.125)


def test_matryoshka_by_hand():
    # one leading dimension: cosines of q1 with 1, 0, 0, 1 are 1, 0, 0, 1; q2 is (0,) and has 0 with all: log 4
    both = matryoshka(dense_objective(1.0, cosine=True), (2, 1))(BY_HAND, None).item()
    whole = dense_objective(1.0, cosine=True)(BY_HAND, None).item()
    assert both - whole == pytest.approx((math.log(2 * math.e + 2) - 1 + math.log(4)) / 2, abs=1e-6)


@pytest.mark.parametrize("negatives", [True, False])
def test_ranking_loss_is_that_of_sentence_transformers(negatives):
    batch = random_batch(negatives=negatives)
    theirs = MultipleNegativesRankingLoss(None, scale=20.0)
    columns = [batch.queries, *batch.documents.chunk(2 if negatives else 1)]
    expected = theirs.compute_loss_from_embeddings(columns, None).item()
    assert dense_objective(20.0, cosine=True)(batch, None).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("cosine", [True, False])
def test_margin_mse_is_that_of_sentence_transformers(cosine):
    batch, margins = random_batch(), torch.tensor([0.5, -1.0, 2.0, 0.0, 7.0])
    theirs = MarginMSELoss(None, pairwise_cos_sim) if cosine else MarginMSELoss(None)
    expected = theirs.compute_loss_from_embeddings([batch.queries, *batch.documents.chunk(2)], margins).item()
    assert dense_objective(20.0, cosine=cosine)(batch, margins).item() == pytest.approx(expected, rel=1e-6)


OBJECTIVE, MARGINS = dense_objective(20.0, cosine=True), torch.linspace(-1, 1, 5)
GOLDEN = {
    "mnrl": (OBJECTIVE, None, [8.33951, 5.16809, 4.93079]),
    "margin-mse": (OBJECTIVE, MARGINS, [0.71209, 0.59992, 0.50689]),
    "matryoshka": (matryoshka(OBJECTIVE, (8, 4)), None, [15.83663, 14.27564, 13.44206]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_losses_of_three_steps(name):
    objective, margins, golden = GOLDEN[name]
    batch = random_batch(seed=3)
    weight = torch.eye(8, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.05)
    losses = []
    for _ in range(3):
        loss = objective(Embedded(batch.queries @ weight, batch.documents @ weight), margins)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(golden, rel=1e-4)
