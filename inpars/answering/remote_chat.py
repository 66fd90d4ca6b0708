"""A language model behind an OpenAI-compatible server, for written answers. The key comes from the environment."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from inpars.answering.writing import Message
from inpars.errors import BackendError
from inpars.generation.api_client import NoAnswerError, RefusedError, Server

RETRIES = 2  # somebody is waiting for the answer


class RemoteChat:
    """Asks a server for replies; safe to call from several threads."""

    def __init__(self, model: str, url: str, *, timeout_seconds: float = 120.0, retries: int = RETRIES) -> None:
        """Raises ConfigError where the key is missing or cannot be one."""
        self.name, self._model, self._url = f"{model} at {url}", model, url
        self._server = Server(url, timeout_seconds=timeout_seconds, retries=retries, stopped=threading.Event())

    def reply(self, messages: Sequence[Message], max_new_tokens: int) -> str:
        """The reply's text. Raises BackendError where the server gives none."""
        body = {"model": self._model, "messages": list(messages), "temperature": 0, "max_tokens": max_new_tokens}
        try:
            return self._server.ask("chat", body, _text, _Unhindered())
        except (RefusedError, NoAnswerError) as error:
            raise BackendError(f"{self._url} gives no answer: {error}; check --base-url and --model") from None


class _Unhindered:
    """A gate that is always open."""

    def enter(self) -> None:
        """Walk through."""

    def leave(self, *, lost: bool) -> None:
        """Walk back."""

    def pause(self, seconds: float) -> None:
        """Ignore it."""


def _text(payload: Any) -> str:  # noqa: ANN401 - JSON
    return str(payload["choices"][0]["message"]["content"] or "")
