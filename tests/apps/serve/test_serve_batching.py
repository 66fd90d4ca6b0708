"""Jobs of many clients in one pass: which are joined, and which get an error."""

import asyncio
import threading

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")

from hypothesis import given
from hypothesis import strategies as st

from inpars.apps.serve.batcher import Batcher


class Work:
    """Doubles numbers, remembers each pass, fails on negative ones."""

    def __init__(self):
        self.passes = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, key, items):
        self.gate.wait(10)
        self.passes.append((key, list(items)))
        if any(item < 0 for item in items):
            raise ValueError("negative")
        return [item * 2 for item in items]


async def submit_all(work, jobs, **settings):
    batcher = Batcher("double", work, **settings)
    results = await asyncio.gather(*(batcher.submit(key, items) for key, items in jobs), return_exceptions=True)
    await batcher.close()
    return [list(part) if not isinstance(part, Exception) else type(part) for part in results]


def test_jobs_that_come_together_go_together():
    work = Work()
    results = asyncio.run(submit_all(work, [("a", [1]), ("a", [2, 3]), ("a", [4])]))
    assert results == [[2], [4, 6], [8]]
    assert work.passes == [("a", [1, 2, 3, 4])]


def test_keys_are_not_mixed_and_the_oldest_goes_first():
    work = Work()
    results = asyncio.run(submit_all(work, [("a", [1]), ("b", [2]), ("a", [3])]))
    assert results == [[2], [4], [6]]
    assert work.passes == [("a", [1, 3]), ("b", [2])]


def test_a_pass_has_a_limit_but_a_job_is_not_split():
    work = Work()
    asyncio.run(submit_all(work, [("a", [1, 2]), ("a", [3, 4, 5, 6]), ("a", [7])], max_items=3))
    assert work.passes == [("a", [1, 2, 7]), ("a", [3, 4, 5, 6])]


def test_few_sizes_are_used_and_the_rest_goes_next():
    """Of 29 single items 24 go, then 4 of the 5 left, then 1; memory is kept for each size that a model meets."""
    work = Work()
    results = asyncio.run(submit_all(work, [("a", [n]) for n in range(29)]))
    assert results == [[2 * n] for n in range(29)]
    assert [len(items) for _, items in work.passes] == [24, 4, 1]
    assert [item for _, items in work.passes for item in items] == list(range(29))


def test_jobs_of_several_items_are_joined_whatever_their_size():
    work = Work()
    asyncio.run(submit_all(work, [("a", [1, 2, 3, 4, 5]), ("a", [6, 7, 8, 9, 10])]))
    assert [len(items) for _, items in work.passes] == [10]


def test_only_the_guilty_job_hears_of_a_failure():
    work = Work()
    assert asyncio.run(submit_all(work, [("a", [1]), ("a", [-1]), ("a", [3])])) == [[2], ValueError, [6]]


def test_a_job_that_nobody_waits_for_is_left_out():
    async def scene():
        batcher = Batcher("double", work, wait_seconds=0.05)
        gone = asyncio.create_task(batcher.submit("a", [1]))
        await asyncio.sleep(0)
        stays = asyncio.create_task(batcher.submit("a", [2]))
        await asyncio.sleep(0)
        gone.cancel()
        results = list(await stays)
        await batcher.close()
        return results

    work = Work()
    assert asyncio.run(scene()) == [4]
    assert work.passes == [("a", [2])]


def test_jobs_that_come_during_a_pass_share_the_next():
    async def scene():
        batcher = Batcher("double", work, wait_seconds=0)
        work.gate.clear()
        first = asyncio.create_task(batcher.submit("a", [1]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.submit("a", [n])) for n in (2, 3, 4)]
        await asyncio.sleep(0.05)
        work.gate.set()
        await asyncio.gather(first, *others)
        await batcher.close()

    work = Work()
    asyncio.run(scene())
    assert [items for _, items in work.passes] == [[1], [2, 3, 4]]


def test_no_items_need_no_pass():
    work = Work()
    assert asyncio.run(submit_all(work, [("a", [])])) == [[]]
    assert work.passes == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 99), max_size=5)), max_size=20),
    st.integers(1, 8),
)
def test_any_mix_of_jobs_gets_its_own_results(jobs, max_items):
    results = asyncio.run(submit_all(Work(), jobs, max_items=max_items, wait_seconds=0.0))
    assert results == [[item * 2 for item in items] for _, items in jobs]
