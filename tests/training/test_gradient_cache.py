"""The cached loss equals the plain one in value and gradients, with dropout, in the memory of one mini-batch."""

import pytest
import torch
from torch import nn

from inpars.engines.batch_parallel import in_worker_thread
from inpars.training.embedding_losses import Embedded, dense_objective
from inpars.training.gradient_cache import cached_loss, graph_bytes, parallel_loss, plain_loss

SIZES = (3, 4, 1, 4)  # 4 queries and 8 documents


def network(dropout=0.0):
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8)).double()


def batches():
    torch.manual_seed(6)
    return [{"x": torch.randn(size, 6, dtype=torch.float64)} for size in SIZES]


def loss_of(embeddings):
    return dense_objective(20.0, cosine=True)(Embedded(embeddings[:4], embeddings[4:]), None)


def run(way, dropout=0.0, factor=1.0):
    """The loss and all gradients."""
    model = network(dropout)
    torch.manual_seed(7)
    loss = way(lambda batch: model(batch["x"]), batches(), loss_of)
    (factor * loss).backward()
    return loss.item(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_the_cached_loss_and_its_gradients_are_the_plain_ones(dropout, factor):
    plain, gradients = run(plain_loss, dropout, factor)
    cached, again = run(cached_loss, dropout, factor)
    assert cached == pytest.approx(plain, abs=1e-6)
    assert torch.allclose(gradients, again, atol=1e-6)
    assert gradients.abs().max() > 1e-3


def test_it_draws_random_numbers_as_the_plain_one_does():
    states = []
    for way in (plain_loss, cached_loss):
        run(way, dropout=0.5)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_no_more_than_one_mini_batch_has_a_graph():
    model, widths = network(), []

    def embed(batch):
        if torch.is_grad_enabled():
            widths.append(len(batch["x"]))
        return model(batch["x"])

    loss = cached_loss(embed, batches(), loss_of)
    assert widths == []
    loss.backward()
    assert widths == list(SIZES)


def test_without_gradients_it_is_only_a_value():
    with torch.no_grad():
        model = network()
        value = cached_loss(lambda batch: model(batch["x"]), batches(), loss_of)
    assert not value.requires_grad
    assert value.item() == pytest.approx(run(plain_loss)[0])


def test_what_a_graph_keeps_is_counted_without_the_weights():
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8))
    rows = torch.randn(4, 6)
    kept = 4 * (6 + 16) * 4  # the inputs of both layers, the second of which is what the tanh keeps
    assert graph_bytes(model, rows, model) == kept
    assert graph_bytes(model, rows.repeat(3, 1), model) == 3 * kept


@pytest.fixture(params=[1, 2])
def threads(request, use_threads):
    use_threads(request.param)
    return request.param


def alone(model, seen):
    def embed(batch):
        seen.append(in_worker_thread())
        return model(batch["x"])

    return embed


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_side_by_side_the_loss_and_its_gradients_are_the_plain_ones(threads, factor):
    plain, gradients = run(plain_loss, factor=factor)
    for _ in range(5):
        model, seen = network(), []
        loss = parallel_loss(alone(model, seen), batches(), loss_of, model)
        (factor * loss).backward()
        again = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        assert seen == [threads > 1] * len(SIZES)
        assert loss.item() == pytest.approx(plain, abs=1e-6)
        assert torch.allclose(gradients, again, atol=1e-6)


def test_side_by_side_gradients_are_added_and_weights_without_any_stay_so(threads):
    model = nn.ModuleDict({"used": network(), "idle": nn.Linear(2, 2), "fixed": nn.Linear(2, 2).requires_grad_(False)})
    for _ in range(2):
        parallel_loss(alone(model["used"], []), batches(), loss_of, model).backward()
    _, once = run(plain_loss)
    found = torch.cat([parameter.grad.flatten() for parameter in model["used"].parameters()])
    assert torch.allclose(found, 2 * once, atol=1e-6)
    assert all(parameter.grad is None for name in ("idle", "fixed") for parameter in model[name].parameters())
