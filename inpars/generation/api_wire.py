"""What is sent to an OpenAI-compatible server for a document, and what its answer says.

Prompts begin with what all documents share, so that the server's prefix cache hits. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from inpars.documents.selection import sampling_key
from inpars.generation import GeneratedQuery
from inpars.generation.api_options import OPENAI_URL
from inpars.generation.api_prices import TOKENS_PER_TURN, cut_text, estimate_tokens
from inpars.generation.settings import DecodingSettings
from inpars.prompting.templates import Prompt, PromptSource
from inpars.records import Document

Endpoint: TypeAlias = Literal["completions", "chat"]
PATHS: dict[Endpoint, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
STOP_STRINGS = 4  # the most that the API takes
SEED_BITS = 31
REFUSED = "content_filter"

_BYTES_TOKEN = re.compile(r"^bytes:((?:\\x[0-9a-fA-F]{2})+)$")
_BROKEN = "�".encode()  # stands for a token that is a part of a letter
_LEAP = 8  # bytes that a vocabulary may leave out between two tokens, a blank for instance


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One query to be written. `digest` says what is asked, whose answer is never asked for again."""

    query_id: str
    digest: str
    body: dict[str, Any]
    input_tokens: int  # estimated
    output_tokens: int  # at most


@dataclass(frozen=True, slots=True)
class Answer:
    """A query and what it took."""

    query: GeneratedQuery
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the server shows it."""

    piece: bytes
    log_prob: float | None


@dataclass(frozen=True)
class Wording:
    """How documents become requests and replies become queries, for one model at one server."""

    endpoint: Endpoint
    model: str
    prompt: PromptSource
    settings: DecodingSettings
    url: str
    log_probs: bool = True

    def requests(self, document: Document) -> list[ApiRequest]:
        """One request a query."""
        text = cut_text(document.full_text, self.settings.max_doc_tokens)
        shown = self._shown(self.prompt.for_document(document), text)
        return [self._request(f"{document.doc_id}-q{number}", shown) for number in range(self.settings.num_queries)]

    @cached_property
    def digest(self) -> str:
        """What decides all answers besides the documents."""
        return _digest([self.prompt.text, self._request("", self._shown(self._form, "")).digest])

    @cached_property
    def _form(self) -> Prompt:
        """A prompt that reads replies as all documents' prompts do."""
        return self.prompt.longest()

    def read(self, payload: Any, request: ApiRequest | None = None) -> Answer:  # noqa: ANN401 - JSON
        """The query in a server's answer.

        Raises KeyError, IndexError, TypeError, ValueError or AttributeError where it is not what the API promises.
        """
        choice = payload["choices"][0]
        finish = choice.get("finish_reason")
        message = choice["text"] if self.endpoint == "completions" else choice["message"]["content"]
        if message is not None and not isinstance(message, str):
            raise TypeError("the answer's text is no text")
        text = (message or "").encode("utf-8", "replace").decode()
        tokens = _tokens(choice.get("logprobs"))
        query = refusal() if finish == REFUSED else self._query(text, tokens, finish == "length")
        usage = payload.get("usage") or {}
        expected = (request.input_tokens, request.output_tokens) if request else (0, 0)
        return Answer(
            query,
            int(usage.get("prompt_tokens", expected[0]) or 0),
            int(usage.get("completion_tokens", expected[1]) or 0),
        )

    def _query(self, text: str, tokens: Sequence[Token] | None, by_length: bool) -> GeneratedQuery:
        completing = self.endpoint == "completions"
        query = self._form.parse(text) if completing else self._form.parse_reply(text)
        start = text.find(query, 0 if completing else self._cue_end(text))
        end = start + len(query)
        unstopped = by_length and self._form.stop_position(text[end:]) == len(text) - end
        reason: Literal["stop", "length"] = "length" if unstopped else "stop"
        if tokens is None:
            return GeneratedQuery(query, (), (), None, reason, "absent" if query else None)
        kept, stop = _overlapping(text, tokens, start, end)
        known = tuple(value for value in kept if value is not None and math.isfinite(value))
        if len(known) < len(kept) or (query and not kept):
            return GeneratedQuery(query, (), (), None, reason, "absent")
        return GeneratedQuery(query, (), known, stop if reason == "stop" else None, reason)

    def _cue_end(self, reply: str) -> int:
        """Where the query may begin in a reply that may repeat the cue."""
        blank = len(reply) - len(reply.lstrip())
        cue = self._form.cue
        return blank + len(cue) if cue and reply[blank:].lower().startswith(cue.lower()) else 0

    def _shown(self, prompt: Prompt, text: str) -> str | list[dict[str, str]]:
        return prompt.render(text) if self.endpoint == "completions" else prompt.messages(text)

    def _request(self, query_id: str, shown: str | list[dict[str, str]]) -> ApiRequest:
        own = self.settings
        body: dict[str, Any] = {"model": self.model, "temperature": own.temperature}
        if own.top_p != 1:
            body["top_p"] = own.top_p
        if own.temperature:
            body["seed"] = sampling_key(own.seed, query_id) >> (64 - SEED_BITS)
        if isinstance(shown, str):
            body |= {"prompt": shown, "max_tokens": own.max_new_tokens, **self._stop()}
            tokens = estimate_tokens(shown)
        else:
            # OpenAI's newer models know only the longer name, some other servers only the shorter one
            limit = "max_completion_tokens" if self.url == OPENAI_URL else "max_tokens"
            body |= {"messages": shown, limit: own.max_new_tokens}
            tokens = sum(estimate_tokens(turn["content"]) + TOKENS_PER_TURN for turn in shown)
        if self.log_probs:
            body["logprobs"] = 1 if self.endpoint == "completions" else True
        # what is asked and how the answer is understood
        reading = [self._form.form, self._form.stop]
        digest = _digest([query_id, self.url, self.endpoint, reading, body])
        return ApiRequest(query_id, digest, body, tokens, own.max_new_tokens)

    def _stop(self) -> dict[str, list[str]]:
        return {"stop": list(self._form.stop[:STOP_STRINGS])} if self._form.stop else {}


def refusal() -> GeneratedQuery:
    """What stands for a query that the server will never write."""
    return GeneratedQuery("", (), (), None, "error")


def _digest(values: Any) -> str:  # noqa: ANN401 - JSON
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _tokens(log_probs: Mapping[str, Any] | None) -> list[Token] | None:
    """The tokens of either endpoint's form, which servers mix; None where there are none."""
    if not log_probs:
        return None
    if content := log_probs.get("content"):
        return [
            Token(bytes(raw) if (raw := entry.get("bytes")) is not None else _piece(entry["token"]), entry["logprob"])
            for entry in content
        ]
    tokens, values = log_probs.get("tokens"), log_probs.get("token_logprobs")
    if not tokens or not values:
        return None
    return [Token(_piece(token), value) for token, value in zip(tokens, values, strict=True)]


def _piece(token: str) -> bytes:
    if match := _BYTES_TOKEN.match(token):
        return bytes.fromhex(match[1].replace("\\x", ""))
    return token.encode("utf-8", "replace")


def _overlapping(text: str, tokens: Sequence[Token], start: int, end: int) -> tuple[list[float | None], float | None]:
    """Log-probs of the tokens with a share in `text[start:end]`, and of the one that ended it where it is known."""
    raw = text.encode()
    first, last = len(text[:start].encode()), len(text[:end].encode())
    spans = _spans(raw, [token.piece for token in tokens])
    kept = [position for position, (begin, stop) in enumerate(spans) if _shares(begin, stop, first, last)]
    values = [tokens[position].log_prob for position in kept]
    begin, stop = spans[kept[-1]] if kept else (0, 0)
    if stop > last and tokens[kept[-1]].piece[last - begin :].strip(b" "):
        return values, values[-1]  # one token holds the query's end and what stopped it
    behind = kept[-1] + 1 if kept else 0
    return values, tokens[behind].log_prob if behind < len(tokens) else None


def _shares(begin: int, stop: int, first: int, last: int) -> bool:
    if begin == stop:  # a part of a letter that the server shows as nothing
        return first <= begin < last
    return begin < last and stop > first


def _spans(raw: bytes, pieces: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where each token lies in the text, in bytes; what lies behind the text begins at its end."""
    joined = b"".join(pieces)
    offset = joined.find(raw)
    spans: list[tuple[int, int]] = []
    if offset >= 0:
        position = -offset
        for piece in pieces:
            spans.append((position, position + len(piece)))
            position += len(piece)
        return spans
    position = 0
    for piece in (piece.replace(_BROKEN, b"") for piece in pieces):
        found = raw.find(piece, position, position + len(piece) + _LEAP)
        if found < 0:  # behind the text, or a sign of the model's own
            spans.append((len(raw), len(raw)))
            continue
        spans.append((found, found + len(piece)))
        position = found + len(piece)
    return spans
