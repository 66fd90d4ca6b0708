"""Speed and money: hand-worked waits, and threads that may not spend more than there is."""

import threading

import pytest

from inpars.generation.api.budget import Bucket, Budget, CapReachedError, RateLimits


class Clock:
    def __init__(self):
        self.now, self.slept = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(round(seconds, 6))
        self.now += seconds


def test_a_bucket_lets_a_burst_through_and_then_its_rate():
    clock = Clock()
    bucket = Bucket(60, clock)  # one a second; holds what flows into it in 6 seconds
    assert [bucket.take(1) for _ in range(8)] == [0, 0, 0, 0, 0, 0, 1, 2]
    clock.now += 2  # both debts are paid
    assert bucket.take(1) == 1
    clock.now += 1000
    assert bucket.take(6) == 0
    assert bucket.take(3) == 3


def test_more_than_a_bucket_holds_waits_for_the_rest():
    assert Bucket(600, Clock()).take(100) == pytest.approx(4)  # 60 are there, 40 flow in at 10 a second


def test_the_slower_of_both_limits_counts():
    clock = Clock()
    limits = RateLimits(600, 6000, clock=clock, sleep=clock.sleep)
    limits.wait(600)  # tokens: 600 are there
    assert clock.slept == []
    limits.wait(50)  # half a second's flow of 100 a second
    limits.pause(30)
    limits.wait(0)
    assert clock.slept == [0.5, 30]


def test_no_limits_never_wait():
    RateLimits(sleep=lambda seconds: pytest.fail("waited")).wait(10**9)


def test_a_budget_never_reserves_more_than_is_left():
    budget = Budget(1.0, spent=0.5)
    budget.reserve(0.25)
    budget.settle(0.25, 0.125)
    assert (budget.spent, budget.left) == (0.625, 0.375)
    budget.reserve(0.375)
    budget.settle(0.375, 0.0)
    with pytest.raises(CapReachedError, match=r"\$0\.6250 of \$1\.0 are spent"):
        budget.reserve(0.5)
    Budget(None).reserve(1e9)


def test_a_request_waits_for_those_under_way():
    budget, entered = Budget(1.0), threading.Event()

    def ask():
        budget.reserve(0.5)
        entered.set()

    budget.reserve(0.75)
    thread = threading.Thread(target=ask)
    thread.start()
    assert not entered.wait(0.05)
    budget.settle(0.75, 0.25)  # it was cheaper than feared: 0.75 are left
    assert entered.wait(5)
    thread.join()


def test_many_threads_stay_under_the_cap():
    budget, done = Budget(1.0), []

    def spend():
        try:
            while True:
                budget.reserve(0.03)
                budget.settle(0.03, 0.02)
                done.append(0.02)
        except CapReachedError:
            return

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sum(done) == pytest.approx(budget.spent)
    assert 1.0 - 0.03 < budget.spent <= 1.0  # 0.98: the next may cost 0.03
