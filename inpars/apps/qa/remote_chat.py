"""A language model on an OpenAI-compatible server, for generated answers. The API key comes from the environment."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from inpars.apps.qa.generative import Message
from inpars.errors import BackendError
from inpars.generation.api.client import FilteredError, NoAnswerError, RateLimiter, RefusedError, Server
from inpars.generation.api.formats import read_reply
from inpars.generation.api.replies import find_answer

RETRIES = 2  # few, since a person is waiting for the answer


class RemoteChat:
    """Asks a server for replies; thread-safe."""

    def __init__(self, model: str, url: str, *, timeout_seconds: float = 120.0, retries: int = RETRIES) -> None:
        """Raises ConfigError if the API key is missing or malformed."""
        self.name, self._model, self._url = f"{model} at {url}", model, url
        self._server = Server(url, timeout_seconds=timeout_seconds, retries=retries, stopped=threading.Event())
        self._server.spelling.may_drop_temperature = True  # the answer need not be reproducible

    def reply(self, messages: Sequence[Message], max_new_tokens: int) -> str:
        """The reply's text without the model's reasoning. Raises BackendError if the server returns none."""
        body = {"model": self._model, "messages": list(messages), "temperature": 0, "max_tokens": max_new_tokens}
        try:
            text, finish, thoughts = self._server.ask("chat", body, _read, RateLimiter())
        except FilteredError as error:
            raise BackendError(f"{self._url}: a content filter refuses the question or its sources ({error})") from None
        except (RefusedError, NoAnswerError) as error:
            raise BackendError(f"{self._url} gives no answer: {error}; check --base-url and --model") from None
        if finish == "error":
            raise BackendError(f"{self._url}: the model or a content filter refuses the question or its sources")
        if not text and (thoughts or finish == "length"):
            problem = "thoughts and no answer" if thoughts else "no text"
            raise BackendError(f"{self._url}: {problem} in {max_new_tokens} tokens; raise --max-new-tokens")
        return text

    def close(self) -> None:
        self._server.close()


def _read(payload: Any) -> tuple[str, str, bool]:  # noqa: ANN401 - JSON
    """The text, the finish reason, and whether there was reasoning before the text."""
    reply = read_reply(payload)
    answer = find_answer(reply.text)
    return reply.text[answer.start : answer.end].strip(), reply.finish, reply.thoughts or answer.thoughts
