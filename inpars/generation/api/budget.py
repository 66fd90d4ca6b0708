"""Rate limits (requests and tokens per minute), prices, estimates and a spending cap for API calls.

Prices come from an editable file. Tokens are estimated from bytes, since the server's tokenizer is not available.
Limits and cap are thread-safe.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from inpars.errors import BackendError, DataFormatError
from inpars.io.storage import open_lines

BURST_SECONDS = 6.0  # capacity of a bucket, in seconds of its rate


class CapReachedError(BackendError):
    """The next request could exceed the spending cap."""


class Bucket:
    """A token bucket that may be overdrawn; the caller then waits until it is refilled."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._clock, self._last = clock, clock()
        self._level = self._capacity = self._rate * BURST_SECONDS
        self._lock = threading.Lock()

    def take(self, amount: float) -> float:
        """Take an amount and return the seconds to wait before using it."""
        with self._lock:
            now = self._clock()
            self._level = min(self._capacity, self._level + (now - self._last) * self._rate) - amount
            self._last = now
            return max(0.0, -self._level / self._rate)


class RateLimits:
    """Limits of requests and tokens per minute, and pauses requested by the server."""

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
        """Wait until a request of this many tokens is allowed."""
        delays = [self._paused_until - self._clock()]
        if self._requests:
            delays.append(self._requests.take(1))
        if self._tokens:
            delays.append(self._tokens.take(tokens))
        if (delay := max(delays)) > 0:
            self._sleep(delay)

    def pause(self, seconds: float) -> None:
        """Delay all requests."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)


class Budget:
    """A spending cap on what was spent plus what running requests may cost."""

    def __init__(self, cap: float | None = None, spent: float = 0.0) -> None:
        self.cap, self._spent, self._reserved = cap, spent, 0.0
        self._running = 0
        self._changed = threading.Condition()

    @property
    def spent(self) -> float:
        return self._spent

    @property
    def left(self) -> float:
        """USD neither spent nor reserved."""
        return float("inf") if self.cap is None else self.cap - self._spent - self._reserved

    def reserve(self, usd: float) -> None:
        """Reserve a request's maximum cost, waiting for running requests if necessary.

        Raises CapReachedError if it does not fit and no request is running.
        """
        with self._changed:
            while usd > self.left:
                if not self._running:
                    raise CapReachedError(
                        f"${self._spent:.4f} of ${self.cap} are spent; the next request may cost more"
                    )
                self._changed.wait()
            self._reserved += usd
            self._running += 1

    def settle(self, reserved: float, usd: float) -> None:
        """Replace a reservation with the request's actual cost."""
        with self._changed:
            self._running -= 1
            self._reserved = self._reserved - reserved if self._running else 0.0
            self._spent += usd
            self._changed.notify_all()


BYTES_PER_TOKEN = 4  # English text with current vocabularies; other scripts have more bytes per letter
TOKENS_PER_TURN = 4  # added around each turn by chat templates
PER_PRICE = 1_000_000  # tokens
MAX_PRICE = 1_000_000  # USD per million tokens; also the maximum batch factor
SHIPPED = "prices.yaml"


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million input and output tokens."""

    input: float
    output: float

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """The cost of these tokens in USD."""
        return (input_tokens * self.input + output_tokens * self.output) / PER_PRICE


@dataclass(frozen=True, slots=True)
class Prices:
    """The contents of a price file."""

    as_of: str
    batch_factor: float
    models: dict[str, Price]

    def find(self, model: str, *, batch: bool = False) -> Price | None:
        """The price of a model or of a dated snapshot of it; None if it is not listed."""
        price = self.models.get(model) or self.models.get(re.sub(r"-\d{4}(-?\d\d){0,2}$", "", model))
        if price and batch:
            return Price(price.input * self.batch_factor, price.output * self.batch_factor)
        return price


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requests and cost of a run, with the maximum number of output tokens."""

    requests: int
    answered: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    as_of: str

    def __str__(self) -> str:
        price = "price unknown" if self.usd is None else f"at most ${self.usd:,.4f} (prices of {self.as_of})"
        before = f" ({self.answered:,} more are answered already)" if self.answered else ""
        return (
            f"{self.requests:,} requests{before}, about {self.input_tokens:,} tokens in, "
            f"at most {self.output_tokens:,} tokens out: {price}"
        )


def load_prices(path: Path | None = None) -> Prices:
    """Read a price file, the shipped one by default."""
    if path is None:
        source, text = Path(SHIPPED), resources.files("inpars.data").joinpath(SHIPPED).read_text(encoding="utf-8")
    else:
        with open_lines(path) as stream:
            source, text = path, stream.read().decode("utf-8", "replace")
    try:
        return _prices(yaml.safe_load(text))
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataFormatError(
            f"not a price file ({type(error).__name__}: {reason}); `models:` needs names with input and output prices",
            path=source,
        ) from None


def _prices(fields: Any) -> Prices:
    models = {str(name): Price(_number(row["input"]), _number(row["output"])) for name, row in fields["models"].items()}
    return Prices(str(fields.get("as_of", "an unknown day")), _number(fields.get("batch_factor", 1)), models)


def _number(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= MAX_PRICE:
        raise ValueError(f"{value!r} is no price: it must be from 0 to {MAX_PRICE:,}")
    return number


def estimate_tokens(text: str) -> int:
    """Approximate number of tokens."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def cut_text(text: str, max_tokens: int) -> str:
    """Cut a text to about `max_tokens` tokens, at a space if possible."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= max_tokens * BYTES_PER_TOKEN:
        return text
    start = raw[: max_tokens * BYTES_PER_TOKEN].decode("utf-8", "ignore")
    return start if text[len(start)].isspace() else (start.rpartition(" ")[0] or start)
