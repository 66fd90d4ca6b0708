"""Requests to an OpenAI-compatible server, with retries.

Rate limits, server errors, timeouts, broken connections and broken answers are retried. Refusals are not, whatever
their HTTP status, unless the server asks for another spelling of a parameter. The key comes from the environment and is
removed from every message.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai

from inpars.errors import BackendError, ConfigError
from inpars.generation.api.formats import (
    AGAIN,
    REFUSED,
    Fault,
    FaultError,
    OddReplyError,
    fault_of_status,
    read_payload,
)
from inpars.generation.api.options import KEY_LIKE, KEY_VARIABLE, LITELLM, OPENAI_URL
from inpars.generation.api.parameters import NO_SYSTEM_TURN, Spelling, advice
from inpars.generation.api.requests import Endpoint

Value = TypeVar("Value")
FIRST_DELAY_SECONDS = 0.5  # doubled with each attempt
LONGEST_DELAY_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 600.0  # cap on Retry-After
_WAIT = re.compile(r"\b(?:try again|retry) (?:in|after) ((?:\d+(?:\.\d+)?\s*(?:ms|millis|[hms])[a-z]*\s*)+)", re.I)
_WAIT_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|millis|[hms])", re.I)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "millis": 0.001}
ADVICE = {
    401: f"check {KEY_VARIABLE}",
    402: "fill the account and run the same command",
    403: f"check what the key in {KEY_VARIABLE} may do",
    404: "check --base-url, --model and --backend",
}
NO_KEY = "none"  # the SDK requires a key even if the server does not
AZURE_KEY = "api-key"  # Azure's header
MESSAGE_CHARACTERS = 200
Read: TypeAlias = Callable[[dict[str, Any]], Value]


class RefusedError(BackendError):
    """The server refuses this request; retrying is pointless. `message` is the server's full message."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.message = message


class FilteredError(RefusedError):
    """The server's content filter blocks this request, which counts as an answer."""


class MissingError(BackendError):
    """The server does not know the address, the model, the batch or the file (status 404); `reason` is its message."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoAnswerError(BackendError):
    """A failed attempt that may be retried.

    `kind` is the reason without request-specific details, `after` the seconds that the server asks to wait.
    `perhaps_paid`: the server may have generated an answer. `settles`: it answered without a text, which counts as a
    refusal after the last attempt.
    """

    def __init__(
        self,
        reason: str,
        *,
        kind: str = "",
        after: float | None = None,
        perhaps_paid: bool = False,
        settles: bool = False,
    ) -> None:
        super().__init__(reason)
        self.kind, self.after, self.perhaps_paid, self.settles = kind or reason, after, perhaps_paid, settles


class RateLimiter:
    """Limits on the rate and cost of attempts. This one never waits."""

    def acquire(self) -> None:
        """Wait until an attempt may start."""

    def release(self, *, lost: bool) -> None:
        """Called after a failed attempt; `lost` if it may have cost money."""

    def pause(self, seconds: float) -> None:
        """Called when the server asks to wait."""


class Server:
    """A server with timeout and retries. `stopped` ends all waiting."""

    def __init__(self, url: str, *, timeout_seconds: float, retries: int, stopped: threading.Event) -> None:
        """Raises ConfigError if the key is missing or malformed."""
        self.url, self.retries, self._timeout, self._stopped = url, retries, timeout_seconds, stopped
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not self._key and url == OPENAI_URL:
            raise ConfigError(f"{KEY_VARIABLE} is not set; export it, or name another server with --base-url")
        if not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(f"{KEY_VARIABLE} holds characters that no key has; set it again")
        self.spelling, self._works = Spelling(), False
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        is_azure = (parts.hostname or "").endswith(".azure.com") or "api-version" in query  # a resource or a gateway
        try:
            self._client = openai.OpenAI(
                api_key=self._key or NO_KEY,
                base_url=urlunsplit(parts._replace(query="")),
                default_query=query or None,  # sent after each request's path
                default_headers={AZURE_KEY: self._key} if self._key and is_azure else None,
                timeout=timeout_seconds,
                max_retries=0,  # `ask` retries, through the limiter
            )
        except Exception as error:  # of any class, for a proxy or certificates that the environment names
            raise ConfigError(
                f"{url}: {self.scrub(str(error))}; check ALL_PROXY, HTTP_PROXY, HTTPS_PROXY and SSL_CERT_FILE"
            ) from None

    def ask(self, endpoint: Endpoint, body: dict[str, Any], read: Read[Value], limiter: RateLimiter) -> Value:
        """The result of `read` on the server's answer.

        Raises RefusedError, NoAnswerError, or BackendError if no request can succeed. After success the caller settles
        the cost that `limiter` reserved.
        """
        failures = 0
        while True:
            limiter.acquire()
            sent = self.spelling.applied(body)
            try:
                return self._answer(endpoint, sent, read)
            except NoAnswerError as error:
                limiter.release(lost=error.perhaps_paid)
                if failures == self.retries or self._stopped.is_set():
                    raise (RefusedError(str(error)) if error.settles else error) from None
                if error.after is not None:
                    limiter.pause(error.after)
                self._stopped.wait(_delay(failures, error.after))
                failures += 1
            except BaseException as error:
                limiter.release(lost=False)
                refused = isinstance(error, RefusedError) and not isinstance(error, FilteredError)
                if not (refused and self.spelling.learns(error.message, sent, body)):  # type: ignore[attr-defined]
                    raise

    def call(self, request: Callable[[openai.OpenAI], Value]) -> Value:
        """Any other SDK call; these cost nothing, and the SDK retries them."""
        try:
            with self._failures():
                return request(self._client.with_options(max_retries=self.retries))
        except (RefusedError, NoAnswerError) as error:
            raise type(error)(
                f"{self.url}: {error}; finished work is kept; run the same command again to resume"
            ) from None

    def close(self) -> None:
        self._client.close()

    def scrub(self, text: str) -> str:
        """A server's message as one short line, without anything that looks like a key."""
        line = " ".join(text.split())
        if self._key:
            line = line.replace(self._key, "[key]")
        line = KEY_LIKE.sub("[key]", line)
        return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 1] + "…"

    def _answer(self, endpoint: Endpoint, body: dict[str, Any], read: Read[Value]) -> Value:
        with self._failures():
            value = read(self._send(endpoint, body))
        self._works = True
        return value

    def _send(self, endpoint: Endpoint, body: dict[str, Any]) -> Any:
        if self.url == LITELLM:
            from inpars.generation.api import litellm_client  # an optional dependency, slow to import

            return litellm_client.ask(endpoint, body, self._timeout)
        target: Any = self._client.completions if endpoint == "completions" else self._client.chat.completions
        return read_payload(target.with_raw_response.create(**body).http_response.content)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Translate every failure of an attempt to one of our errors."""
        try:
            yield
        except openai.APIStatusError as error:
            own_words = str(error).encode() if self.url == LITELLM else b""  # its responses are mostly empty
            fault = fault_of_status(error.status_code, error.response.content or own_words)
            raise self._error_for(fault, _retry_after(error.response.headers)) from None
        except FaultError as error:
            raise self._error_for(error.fault) from None
        except OddReplyError as error:
            raise self._odd(error) from None
        except openai.APITimeoutError:
            raise NoAnswerError(f"no answer within {self._timeout:g} s", perhaps_paid=True) from None
        except openai.APIConnectionError as error:
            unsent = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")
            reason = "no connection" if unsent else "the connection broke"
            if self.url == LITELLM:  # raises this for any failure
                reason = self.scrub(str(error))
            raise NoAnswerError(reason, perhaps_paid=not unsent) from None
        except (openai.APIResponseValidationError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = self.scrub(f"a broken answer ({type(error).__name__}: {error})")
            raise NoAnswerError(reason, kind="a broken answer", perhaps_paid=True) from None
        except openai.OpenAIError as error:
            if isinstance(status := getattr(error, "status_code", None), int):  # LiteLLM's own
                raise self._error_for(fault_of_status(status, str(error).encode())) from None
            raise BackendError(f"{self.url}: {self.scrub(str(error))}; check the server and its address") from None

    def _odd(self, error: OddReplyError) -> Exception:
        """The error for an answer without a text; a web page before any answer suggests a wrong address."""
        reason = self.scrub(str(error))
        if error.page and not self._works:
            return BackendError(f"{self.url} answers with a web page, {reason}; check --base-url, most end in /v1")
        return NoAnswerError(reason, kind=error.problem, perhaps_paid=True, settles=error.settles)

    def _error_for(self, fault: Fault, after: float | None = None) -> Exception:
        status, message = fault.status, self.scrub(fault.message)
        reason = f"status {status}: {message}" if status else message
        if fault.filtered and (status is None or status < 500):
            return FilteredError(reason)
        if fault.empty_account:
            return BackendError(f"{self.url}: the account is empty ({message}); fill it and run the same command")
        if status in REFUSED or NO_SYSTEM_TURN.search(fault.message):
            return RefusedError(f"{reason}; {flag}" if (flag := advice(fault.message)) else reason, fault.message)
        if status is None or status in AGAIN or status >= 500:
            return NoAnswerError(reason, after=_wait_in(fault.message) if after is None else after)
        line = f"{self.url} answers with {reason}; {ADVICE.get(status, 'check --base-url')}"
        return MissingError(line, reason) if status == 404 else BackendError(line)


def _delay(attempt: int, after: float | None) -> float:
    """Seconds before the next attempt: the server's wish, or exponential backoff; both with jitter."""
    if after is not None:
        return after * random.uniform(1.0, 1.1)
    longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0**attempt)
    return longest * random.uniform(0.5, 1.0)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server's headers ask to wait, in any of the formats, or None."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
        elif (value := headers.get("retry-after")) is None:
            return None
        elif re.fullmatch(r"[\d.]+s?", value.strip()):
            seconds = float(value.strip().removesuffix("s"))
        else:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS)


def _wait_in(message: str) -> float | None:
    """The seconds that a server asks to wait in words: `try again in 1m2.5s`; None without any, or for too many."""
    if (match := _WAIT.search(message)) is None:
        return None
    seconds = sum(float(number) * _SECONDS[unit.lower()] for number, unit in _WAIT_PART.findall(match[1]))
    return seconds if seconds <= LONGEST_PAUSE_SECONDS else None
