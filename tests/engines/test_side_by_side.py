"""Batches on single-threaded workers: the same results in the same order; torch's thread count stays."""

import threading

import pytest
import torch
from tiny_models import sentence

from inpars.engines.batch_parallel import in_worker_thread, map_batches, map_single_threaded
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.packed_likelihood import PackedLikelihood, PackedRows
from inpars.rerankers.pair_model import ModelScorer
from inpars.retrieval.dense import Encoder

PAIRS = [(sentence(n, 1 + n % 4)[:-1], sentence(50 + n, 1 + n * 7 % 40)) for n in range(40)]


@pytest.fixture(params=[1, 3])
def threads(request, use_threads):
    use_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param


@pytest.fixture
def threads_seen(monkeypatch):
    """The threads that called a module's function."""
    seen = set()

    def watch(owner, name):
        whole = getattr(owner, name)

        def watched(*args, **named):
            seen.add(threading.current_thread().name)
            return whole(*args, **named)

        monkeypatch.setattr(owner, name, watched)
        return seen

    return watch


def test_results_come_in_order_from_threads_that_compute_alone(threads):
    seen = [(n, torch.get_num_threads(), in_worker_thread()) for n in map_batches(lambda n: n, range(50))]
    assert [n for n, *_ in seen] == list(range(50))
    found = list(map_batches(lambda n: (n * n, torch.get_num_threads(), in_worker_thread()), range(50)))
    assert found == [(n * n, 1, threads > 1) for n in range(50)]
    assert not in_worker_thread()


def test_few_items_and_unwanted_ones_are_the_callers(threads):
    for items, wanted in ((range(2 * threads - 1), True), (range(50), False)):
        found = list(map_batches(lambda _: (torch.get_num_threads(), in_worker_thread()), items, wanted=wanted))
        assert found == [(threads, False)] * len(items)


def test_items_that_threads_cannot_share_are_distributed_however_few(threads):
    found = list(map_batches(lambda _: in_worker_thread(), range(2), shareable=False))
    assert found == [threads > 1] * 2
    assert list(map_batches(lambda _: in_worker_thread(), range(1), shareable=False)) == [False]


def test_a_lone_thread_does_the_items_of_its_item_itself(threads):
    def inner(n):
        return [threading.get_ident() for _ in map_batches(lambda m: m, range(n))], threading.get_ident()

    for within, own in map_batches(inner, [20] * 10):
        assert set(within) <= {own}


def test_errors_reach_the_caller_and_the_next_call_works(threads):
    with pytest.raises(ZeroDivisionError):
        list(map_batches(lambda n: 1 / (n - 7), range(20)))
    assert list(map_batches(lambda n: n, range(20))) == list(range(20))


def test_each_item_has_a_thread_of_its_own_however_few_there_are(threads):
    stopped = []
    for items in (range(1), range(20)):
        found = list(map_single_threaded(lambda n: (n, torch.get_num_threads()), items, lambda: stopped.append(True)))
        assert found == [(n, 1) for n in items]
    assert not stopped


def test_items_are_taken_as_there_is_room_for_them(threads):
    taken = []
    results = map_single_threaded(lambda n: n, (taken.append(n) or n for n in range(50)), lambda: None)
    assert next(results) == 0
    assert len(taken) == (1 if threads == 1 else threads + 1)


def test_work_that_is_no_longer_wanted_is_told_so(use_threads):
    stop, started = threading.Event(), threading.Event()
    use_threads(2)

    def work(n):
        if n:
            started.set()
            assert stop.wait(60)
        return n

    results = map_single_threaded(work, range(50), stop.set)
    assert next(results) == 0
    assert started.wait(60)
    results.close()
    assert stop.is_set()


def test_scores_in_bfloat16(tiny, threads, threads_seen):
    model = load_pair_model(tiny("bert_classifier"), device="cpu", dtype="bfloat16")
    expected = ModelScorer(model, "x", batch_tokens=1 << 20).score(PAIRS)
    seen = threads_seen(model, "margins")
    found = ModelScorer(model, "x", batch_tokens=64).score(PAIRS)
    assert len(seen) > 1 if threads > 1 else len(seen) == 1
    spread = torch.tensor(expected).std().item()
    assert found == pytest.approx(expected, abs=0.1 * spread + 0.02)
    assert len({round(score, 2) for score in expected}) > 2


def test_likelihoods(tiny, threads, threads_seen):
    plain = load_pair_model(tiny("llama"), kind="query-likelihood", device="cpu", dtype="float32")
    expected = ModelScorer(plain, "x").score(PAIRS)
    scorer = PackedLikelihood(plain, PackedRows(plain.network), "x", batch_tokens=64)
    seen = threads_seen(scorer, "_score")
    assert scorer.score(PAIRS) == pytest.approx(expected, abs=1e-4)
    assert len(seen) > 1 if threads > 1 else len(seen) == 1


def test_embeddings(tiny, threads):
    encoder = Encoder(tiny("sentence_transformer"), device="cpu", dtype="bfloat16", batch_size=3)
    texts = [text for _, text in PAIRS]
    together = encoder.encode_documents(texts)
    alone = [encoder.encode_documents([text])[0] for text in texts]
    assert together.shape == (len(texts), together.shape[1])
    for one, other in zip(together, alone, strict=True):
        assert float(one @ other) == pytest.approx(1, abs=1e-3)
