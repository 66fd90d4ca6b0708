"""What is sent to an OpenAI-compatible server for a document, and what its answer says.

Prompts begin with what all documents share, so that the server's prefix cache hits. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from inpars.generation import GeneratedQuery
from inpars.generation.api.budget import TOKENS_PER_TURN, cut_text, estimate_tokens
from inpars.generation.api.formats import (
    BROKEN,
    FILTERED,
    NO_FINISH,
    PARTS,
    UNKNOWN_FINISH,
    Reply,
    answer_in,
    read_reply,
    tokens_used,
)
from inpars.generation.api.options import OPENAI_URL
from inpars.generation.api.replies import ECHO, MARKUP, ONLY_THOUGHTS, PREAMBLE, THOUGHTS, find_continued, find_replied
from inpars.generation.api.replies import REFUSED as REFUSED_IN_WORDS
from inpars.generation.settings import DecodingSettings
from inpars.generation.token_spans import FORM, LENGTH, NONE, TEXT, VALUE, UnusableError, keep, read_tokens
from inpars.prompts.mixture import PromptSource
from inpars.prompts.templates import Prompt
from inpars.records import Document, FinishReason
from inpars.text.hashing import sampling_key

Item_contra = TypeVar("Item_contra", contravariant=True)
REFUSED = "refused"
SCORE = "`inpars score` computes comparable ones, --log-prob-kind absent asks for none"
SENTENCES: Mapping[str, str] = {
    THOUGHTS: "held the model's thoughts, which were left out",
    ONLY_THOUGHTS: "hold thoughts and no query; raise --max-new-tokens, or turn thinking off at the server",
    PREAMBLE: "began with a preamble, which was left out",
    MARKUP: "had quotes, a label or markdown around the query, which was taken off",
    ECHO: "repeated the prompt, which was left out",
    FILTERED: "were refused by a content filter or the model; their queries are empty, with finish_reason error",
    REFUSED: "were refused by the server; their queries are empty, with finish_reason error",
    REFUSED_IN_WORDS: "decline in words to write a query; their queries are empty, with finish_reason error",
    PARTS: "had parts that are no text, which were left out",
    BROKEN: "hold letters that did not arrive whole, shown as U+FFFD",
    NO_FINISH: "have no finish_reason; taken for stop, or for length where the token limit was reached",
    UNKNOWN_FINISH: "have a finish_reason that is not known; taken for stop, or for length at the token limit",
    NONE: f"have no log-probs, since the server sent none; {SCORE}",
    FORM: f"have no log-probs, since the server's are in no known form; {SCORE}",
    LENGTH: f"have no log-probs, since the server sent more or fewer values than tokens; {SCORE}",
    TEXT: f"have no log-probs, since the server's tokens do not cover the query; {SCORE}",
    VALUE: f"have no log-probs, since some of the server's are none (null, infinite, text, above 0); {SCORE}",
}


def remark_lines(counts: Mapping[str, int], answers: int, sentences: Mapping[str, str] = SENTENCES) -> list[str]:
    """One line per kind of remark, with the number of answers that have it."""
    lines = []
    for remark in sentences:
        matching = {full: count for full, count in counts.items() if full.partition(":")[0] == remark}
        if matching:
            words = ", ".join(name for full in sorted(matching) if (name := full.partition(":")[2]))
            details = f" ({words})" if words else ""
            lines.append(f"{sum(matching.values()):,} of {answers:,} answers {sentences[remark]}{details}")
    return lines


Endpoint: TypeAlias = Literal["completions", "chat"]
Shown: TypeAlias = str | list[dict[str, str]]
"""A prompt's text, or the turns of a chat."""

PATHS: dict[Endpoint, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
STOP_STRINGS = 4  # the most that the API takes
SEED_BITS = 31


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
    """A query, what it took, and what was odd about the server's answer (`api_remarks`)."""

    query: GeneratedQuery
    input_tokens: int
    output_tokens: int
    remarks: tuple[str, ...] = ()


class RequestAdapter(Protocol[Item_contra]):
    """How items (documents, pairs) become requests and replies become answers, for one model at one server."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def model(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def digest(self) -> str:
        """What decides all answers besides the items."""

    @property
    def sentences(self) -> Mapping[str, str]:
        """What a remark on an answer means, for people."""

    def key(self, item: Item_contra) -> str:
        """What tells the item from others."""

    def requests(self, item: Item_contra) -> list[ApiRequest]:
        """What is asked about an item."""

    def read(self, payload: Any, request: ApiRequest | None = None) -> Answer:
        """What a server's answer says. Raises OddReplyError where nothing, FaultError where the server complains."""


@dataclass(frozen=True)
class RequestFormat:
    """How documents become requests and replies become queries, for one model at one server."""

    endpoint: Endpoint
    model: str
    prompt: PromptSource
    settings: DecodingSettings
    url: str
    log_probs: bool = True
    sentences: ClassVar[Mapping[str, str]] = SENTENCES

    def requests(self, document: Document) -> list[ApiRequest]:
        text = cut_text(document.full_text, self.settings.max_doc_tokens)
        content = self._content(self.prompt.for_document(document), text)
        return [self._request(f"{document.doc_id}-q{number}", content) for number in range(self.settings.num_queries)]

    def key(self, document: Document) -> str:
        return document.doc_id

    @cached_property
    def digest(self) -> str:
        """What decides all answers besides the documents."""
        return digest_of([self.prompt.text, self._request("", self._content(self._form, "")).digest])

    @cached_property
    def _form(self) -> Prompt:
        """A prompt that reads replies as all documents' prompts do."""
        return self.prompt.longest()

    def _form_of(self, query_id: str) -> Prompt:
        """As `_form`, of the query's document."""
        return self.prompt.form_of(query_id.rpartition("-q")[0])

    def read(self, payload: Any, request: ApiRequest | None = None) -> Answer:
        """The query in a server's answer, with the remarks on how it had to be read.

        Raises OddReplyError where there is none to be found, FaultError where the server complains.
        """
        reply = read_reply(answer_in(payload), token_limit=self.settings.max_new_tokens)
        query, about_query = self._query(reply, request)
        expected = (request.input_tokens, request.output_tokens) if request else (0, 0)
        return Answer(
            query,
            tokens_used(reply.usage, "prompt_tokens", expected[0]),
            tokens_used(reply.usage, "completion_tokens", expected[1]),
            (*reply.remarks, *about_query),
        )

    def _query(self, reply: Reply, request: ApiRequest | None) -> tuple[GeneratedQuery, tuple[str, ...]]:
        if reply.finish == "error":
            return refusal(), ()
        text = reply.text
        prompt = str(request.body.get("prompt", "")) if request else ""
        replied = self.endpoint == "chat" or reply.is_turn
        form = self._form_of(request.query_id) if request else self._form
        span = find_replied(text, form) if replied else find_continued(text, form, prompt)
        if REFUSED_IN_WORDS in span.remarks:
            return refusal(), span.remarks
        remarks = span.remarks
        if reply.thoughts:
            remarks = (ONLY_THOUGHTS if span.start == span.end else THOUGHTS, *remarks)
        query, rest = text[span.start : span.end], text[span.end :]
        remarks += (BROKEN,) * ("\ufffd" in query)
        unstopped = reply.finish == "length" and self._form.stop_position(rest) == len(rest)
        reason: FinishReason = "length" if unstopped else "stop"
        try:
            tokens = keep(read_tokens(reply.log_probs), text, span.start, span.end, last=reply.thoughts)
        except UnusableError as error:
            problems = (str(error),) if query and self.log_probs else ()
            return GeneratedQuery(query, (), (), None, reason, "absent" if query else None), (*remarks, *problems)
        return GeneratedQuery(query, (), tokens.values, tokens.stop if reason == "stop" else None, reason), remarks

    def _content(self, prompt: Prompt, text: str) -> Shown:
        return prompt.render(text) if self.endpoint == "completions" else prompt.messages(text)

    def _request(self, query_id: str, content: Shown) -> ApiRequest:
        form = self._form_of(query_id) if query_id else self._form
        payload = PayloadFormat(self.endpoint, self.model, self.settings, self.url, form.stop, self.log_probs)
        return payload.request(query_id, content, [form.form, form.stop])


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """What all requests to one model at one server have in common."""

    endpoint: Endpoint
    model: str
    settings: DecodingSettings
    url: str
    stop: tuple[str, ...]
    log_probs: bool

    def request(self, name: str, content: Shown, reading: Any) -> ApiRequest:
        """The request for what has this name; `reading` is what decides, beside the reply, how it is understood."""
        settings = self.settings
        body: dict[str, Any] = {"model": self.model, "temperature": settings.temperature}
        if settings.top_p != 1:
            body["top_p"] = settings.top_p
        if settings.temperature:
            body["seed"] = sampling_key(settings.seed, name) >> (64 - SEED_BITS)
        if isinstance(content, str):
            stop = {"stop": list(self.stop[:STOP_STRINGS])} if self.stop else {}
            body |= {"prompt": content, "max_tokens": settings.max_new_tokens, **stop}
            tokens = estimate_tokens(content)
        else:
            # OpenAI's newer models know only the longer name, some other servers only the shorter one
            limit = "max_completion_tokens" if self.url == OPENAI_URL else "max_tokens"
            body |= {"messages": content, limit: settings.max_new_tokens}
            tokens = sum(estimate_tokens(turn["content"]) + TOKENS_PER_TURN for turn in content)
        if self.log_probs:
            body["logprobs"] = 1 if self.endpoint == "completions" else True
        # what is asked and how the answer is understood
        digest = digest_of([name, self.url, self.endpoint, reading, body])
        return ApiRequest(name, digest, body, tokens, settings.max_new_tokens)


def refusal() -> GeneratedQuery:
    """The placeholder for a query that the server refuses to write."""
    return GeneratedQuery("", (), (), None, "error")


def digest_of(values: Any) -> str:
    """A digest of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
