"""How fast and how dearly a server may be asked: requests and tokens a minute, and a cap on what is spent.

Knows nothing of HTTP. All of it may be used by many threads at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from inpars.errors import BackendError

BURST_SECONDS = 6.0  # a bucket that was left alone holds what flows into it in this time


class CapReachedError(BackendError):
    """The next request could cost more than what is left."""


class Bucket:
    """A token bucket that may be overdrawn: whoever takes too much waits until it is level again."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._clock, self._last = clock, clock()
        self._level = self._capacity = self._rate * BURST_SECONDS
        self._lock = threading.Lock()

    def take(self, amount: float) -> float:
        """Take so much and return the seconds to wait before using it."""
        with self._lock:
            now = self._clock()
            self._level = min(self._capacity, self._level + (now - self._last) * self._rate) - amount
            self._last = now
            return max(0.0, -self._level / self._rate)


class RateLimits:
    """Requests and tokens a minute, and pauses that the server asked for."""

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._requests = Bucket(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute, clock) if tokens_per_minute else None
        self._clock, self._sleep, self._paused_until = clock, sleep, 0.0

    def wait(self, tokens: int) -> None:
        """Wait for one more request of so many tokens to be due."""
        delays = [self._paused_until - self._clock()]
        if self._requests:
            delays.append(self._requests.take(1))
        if self._tokens:
            delays.append(self._tokens.take(tokens))
        if (delay := max(delays)) > 0:
            self._sleep(delay)

    def pause(self, seconds: float) -> None:
        """Keep everyone back for a while."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)


class Budget:
    """Money: what is spent, what requests under way may cost, and the cap on both together."""

    def __init__(self, cap: float | None = None, spent: float = 0.0) -> None:
        self.cap, self._spent, self._reserved = cap, spent, 0.0
        self._under_way = 0
        self._changed = threading.Condition()

    @property
    def spent(self) -> float:
        """USD spent so far."""
        return self._spent

    @property
    def left(self) -> float:
        """USD that are neither spent nor reserved."""
        return float("inf") if self.cap is None else self.cap - self._spent - self._reserved

    def reserve(self, usd: float) -> None:
        """Set aside what a request may cost, waiting for those under way if need be.

        Raises CapReachedError where it would not fit even if they cost nothing more.
        """
        with self._changed:
            while usd > self.left:
                if not self._under_way:
                    raise CapReachedError(
                        f"${self._spent:.4f} of ${self.cap} are spent; the next request may cost more"
                    )
                self._changed.wait()
            self._reserved += usd
            self._under_way += 1

    def settle(self, reserved: float, usd: float) -> None:
        """Replace a reservation by what the request did cost."""
        with self._changed:
            self._under_way -= 1
            self._reserved = self._reserved - reserved if self._under_way else 0.0
            self._spent += usd
            self._changed.notify_all()
