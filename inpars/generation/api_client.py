"""One request to an OpenAI-compatible server, repeated while there is hope.

Repeated: rate limits, failing servers, timeouts, broken connections and broken answers. Not repeated: what the server
refuses. The key comes from the environment and is taken out of every message.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar

import openai

from inpars.errors import BackendError, ConfigError
from inpars.generation.api_options import KEY_VARIABLE, OPENAI_URL
from inpars.generation.api_wire import Endpoint

Value = TypeVar("Value")
FIRST_DELAY_SECONDS = 0.5  # doubled by every further attempt
LONGEST_DELAY_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 600.0  # the longest Retry-After that is believed
AGAIN = {408, 409, 425, 429}  # besides everything from 500 on
REFUSED = {400, 413, 422}
ADVICE = {
    401: f"check {KEY_VARIABLE}",
    403: f"check what the key in {KEY_VARIABLE} may do",
    404: "check --base-url, --model and --backend",
}
EMPTY_ACCOUNT = "insufficient_quota"
NO_KEY = "none"  # servers of one's own ask for none, but the SDK does
MESSAGE_CHARACTERS = 200

_KEY_LIKE = re.compile(r"\bsk-[\w*.-]{4,}")


class RefusedError(BackendError):
    """The server will not do this request, however often it is asked."""


class NoAnswerError(BackendError):
    """All attempts at a request failed."""


class _AgainError(Exception):
    """An attempt that failed and may be repeated; `perhaps_paid` where the server may have done its part."""

    def __init__(self, reason: str, *, after: float | None = None, perhaps_paid: bool = False) -> None:
        super().__init__(reason)
        self.after, self.perhaps_paid = after, perhaps_paid


class Gate(Protocol):
    """What every attempt passes: limits on speed and money."""

    def enter(self) -> None:
        """Wait until an attempt may begin."""
        ...

    def leave(self, *, lost: bool) -> None:
        """An attempt failed; `lost` where it was perhaps paid for."""
        ...

    def pause(self, seconds: float) -> None:
        """The server asks everybody to wait."""
        ...


class Server:
    """A server and how patiently it is asked. `stopped` ends all waiting."""

    def __init__(self, url: str, *, timeout_seconds: float, retries: int, stopped: threading.Event) -> None:
        """Raises ConfigError where the key is absent or cannot be one."""
        self.url, self.retries, self._timeout, self._stopped = url, retries, timeout_seconds, stopped
        self._key = os.environ.get(KEY_VARIABLE, "").strip()
        if not self._key and url == OPENAI_URL:
            raise ConfigError(f"{KEY_VARIABLE} is not set; export it, or name another server with --base-url")
        if not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(f"{KEY_VARIABLE} holds signs that no key has; set it again")
        self._client = openai.OpenAI(api_key=self._key or NO_KEY, base_url=url, timeout=timeout_seconds, max_retries=0)

    def ask(self, endpoint: Endpoint, body: dict[str, Any], read: Callable[[Any], Value], gate: Gate) -> Value:
        """What `read` finds in the server's answer.

        Raises RefusedError, NoAnswerError, or BackendError where no request can succeed. The last attempt's place
        behind the gate is left to the caller to settle.
        """

        def attempt(client: openai.OpenAI) -> Value:
            target: Any = client.completions if endpoint == "completions" else client.chat.completions
            response = target.with_raw_response.create(**body)
            return read(json.loads(response.http_response.content))

        return self._patiently(attempt, gate, self.retries)

    def call(self, what: Callable[[openai.OpenAI], Value], *, retries: int | None = None) -> Value:
        """Any other call of the SDK, repeated likewise."""
        try:
            return self._patiently(what, _OPEN, self.retries if retries is None else retries)
        except (RefusedError, NoAnswerError) as error:
            raise type(error)(
                f"{self.url}: {error}; what is done is kept, the same command goes on from here"
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def scrub(self, text: str) -> str:
        """A server's message in one short line without the key or what looks like one."""
        line = " ".join(text.split())
        if self._key:
            line = line.replace(self._key, "[key]")
        line = _KEY_LIKE.sub("[key]", line)
        return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 1] + "…"

    def _patiently(self, attempt: Callable[[openai.OpenAI], Value], gate: Gate, retries: int) -> Value:
        for number in range(retries + 1):
            gate.enter()
            try:
                return self._once(attempt)
            except _AgainError as problem:
                gate.leave(lost=problem.perhaps_paid)
                if number == retries or self._stopped.is_set():
                    raise NoAnswerError(str(problem)) from None
                if problem.after is not None:
                    gate.pause(problem.after)
                self._stopped.wait(_delay(number, problem.after))
            except BaseException:
                gate.leave(lost=False)
                raise
        raise NoAnswerError("never asked")  # a negative number of retries

    def _once(self, attempt: Callable[[openai.OpenAI], Value]) -> Value:
        """One attempt, its failure as one of our errors."""
        try:
            return attempt(self._client)
        except openai.APIStatusError as error:
            raise self._judged(error) from None
        except openai.APITimeoutError:
            raise _AgainError(f"no answer within {self._timeout:g} s", perhaps_paid=True) from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__
            unsent = cause in ("ConnectError", "ConnectTimeout")
            reason = "no connection" if unsent else "the connection broke"
            raise _AgainError(reason, perhaps_paid=not unsent) from None
        except openai.APIResponseValidationError:
            raise _AgainError("a broken answer", perhaps_paid=True) from None
        except openai.OpenAIError as error:
            raise BackendError(f"{self.url}: {self.scrub(str(error))}; check the server and its address") from None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise _AgainError("a broken answer", perhaps_paid=True) from None

    def _judged(self, error: openai.APIStatusError) -> Exception:
        status, message = error.status_code, self.scrub(_message(error))
        if error.code == EMPTY_ACCOUNT or (isinstance(error.body, dict) and error.body.get("type") == EMPTY_ACCOUNT):
            return BackendError(f"{self.url}: the account is empty ({message}); fill it and run the same command")
        if status in AGAIN or status >= 500:
            return _AgainError(f"status {status}: {message}", after=_retry_after(error))
        if status in REFUSED:
            return RefusedError(f"status {status}: {message}")
        advice = ADVICE.get(status, "check --base-url")
        return BackendError(f"{self.url} answers with status {status}: {message}; {advice}")


class _Open:
    """A gate without a lock."""

    def enter(self) -> None:
        """Walk through."""

    def leave(self, *, lost: bool) -> None:
        """Walk back."""

    def pause(self, seconds: float) -> None:
        """Ignore it."""


_OPEN = _Open()


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and body.get("message") else error.message


def _delay(attempt: int, after: float | None) -> float:
    """Seconds before the next attempt: what the server says, else exponentially more, both with some chance in it."""
    if after is not None:
        return after * random.uniform(1.0, 1.1)
    longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0**attempt)
    return longest * random.uniform(0.5, 1.0)


def _retry_after(error: openai.APIStatusError) -> float | None:
    """The seconds a server asks to wait, in any of the three forms; None where it does not say."""
    headers = error.response.headers
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
        elif (value := headers.get("retry-after")) is None:
            return None
        elif re.fullmatch(r"[\d.]+", value.strip()):
            seconds = float(value)
        else:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS)
