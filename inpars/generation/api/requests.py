"""Requests for a document's queries to an OpenAI-compatible server, and how its answers are read.

Prompts start with the prefix that all documents share, so that the server's prefix cache hits.
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
from inpars.generation.settings import DecodingSettings, query_ids
from inpars.generation.token_spans import FORM, LENGTH, NONE, TEXT, VALUE, UnusableError, keep, read_tokens
from inpars.prompts.judging import JudgingPrompt
from inpars.prompts.mixture import PromptSource, prompt_named
from inpars.prompts.templates import Prompt
from inpars.records import Document, FinishReason
from inpars.text.hashing import sampling_key

Item_contra = TypeVar("Item_contra", contravariant=True)
REFUSED = "refused"
SCORE = "`inpars score` computes comparable ones, --log-prob-kind absent asks for none"
SENTENCES: Mapping[str, str] = {
    THOUGHTS: "held the model's thoughts, which were removed",
    ONLY_THOUGHTS: "contain reasoning and no query; raise --max-new-tokens, or turn thinking off at the server",
    PREAMBLE: "began with a preamble, which was removed",
    MARKUP: "had quotes, a label or markdown around the query, which were removed",
    ECHO: "repeated the prompt, which was removed",
    FILTERED: "were refused by a content filter or the model; their queries are empty, with finish_reason error",
    REFUSED: "were refused by the server; their queries are empty, with finish_reason error",
    REFUSED_IN_WORDS: "decline to write a query; their queries are empty, with finish_reason error",
    PARTS: "had parts other than text, which were ignored",
    BROKEN: "contain broken characters, shown as U+FFFD",
    NO_FINISH: "have no finish_reason; counted as length if the token limit was reached, else as stop",
    UNKNOWN_FINISH: "have an unknown finish_reason; counted as length if the token limit was reached, else as stop",
    NONE: f"have no log-probs, since the server sent none; {SCORE}",
    FORM: f"have no log-probs, since the server's have an unknown format; {SCORE}",
    LENGTH: f"have no log-probs, since the server sent more or fewer values than tokens; {SCORE}",
    TEXT: f"have no log-probs, since the server's tokens do not cover the query; {SCORE}",
    VALUE: f"have no log-probs, since some of the server's are invalid (null, infinite, text, above 0); {SCORE}",
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
Content: TypeAlias = str | list[dict[str, str]]
"""A prompt's text, or chat turns."""

PATHS: dict[Endpoint, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
STOP_STRINGS = 4  # the API's maximum
SEED_BITS = 31


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request. `digest` identifies everything that affects its answer, and thus the answer in the journal."""

    query_id: str
    digest: str
    body: dict[str, Any]
    input_tokens: int  # estimate
    output_tokens: int  # maximum


@dataclass(frozen=True, slots=True)
class Answer:
    """A query, its token counts, and remarks on how it was read (keys of `SENTENCES`)."""

    query: GeneratedQuery
    input_tokens: int
    output_tokens: int
    remarks: tuple[str, ...] = ()


class RequestAdapter(Protocol[Item_contra]):
    """Turns items (documents, pairs) into requests and replies into answers, for one model on one server."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def model(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def settings(self) -> DecodingSettings: ...

    @property
    def log_probs(self) -> bool: ...

    @property
    def digest(self) -> str:
        """Hash of everything but the items that affects the answers."""

    @property
    def sentences(self) -> Mapping[str, str]:
        """Description of each remark, for notes."""

    def key(self, item: Item_contra) -> str:
        """Unique key of an item."""

    def requests(self, item: Item_contra) -> list[ApiRequest]: ...

    def read(self, payload: Any, request: ApiRequest | None = None) -> Answer:
        """Parse a server's answer. Raises OddReplyError if it has no text, FaultError if it reports an error."""


@dataclass(frozen=True)
class RequestFormat:
    """Turns documents into requests and replies into queries, for one model on one server."""

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
        return [self._request(query_id, content) for query_id in query_ids([document], self.settings.num_queries)]

    def key(self, document: Document) -> str:
        return document.doc_id

    @cached_property
    def digest(self) -> str:
        """Hash of everything but the documents that affects the answers."""
        return digest_of([self.prompt.text, self._request("", self._content(self._longest, "")).digest])

    @cached_property
    def _longest(self) -> Prompt:
        return self.prompt.longest()

    def _prompt_of(self, query_id: str) -> Prompt:
        """A prompt with form and stop strings as for the query's document; its examples may differ."""
        if not query_id:
            return self._longest
        return prompt_named(self.prompt, self.prompt.name_for(query_id.rpartition("-q")[0])).longest()

    def read(self, payload: Any, request: ApiRequest | None = None) -> Answer:
        """The query in a server's answer. Raises OddReplyError if it has no text, FaultError if it reports an error."""
        reply = read_reply(answer_in(payload), token_limit=self.settings.max_new_tokens)
        query, remarks = self._query(reply, request)
        return answer_of(query, reply, request, (*reply.remarks, *remarks))

    def _query(self, reply: Reply, request: ApiRequest | None) -> tuple[GeneratedQuery, tuple[str, ...]]:
        if reply.finish == "error":
            return refusal(), ()
        text = reply.text
        prompt = str(request.body.get("prompt", "")) if request else ""
        is_chat = self.endpoint == "chat" or reply.is_turn
        form = self._prompt_of(request.query_id if request else "")
        span = find_replied(text, form) if is_chat else find_continued(text, form, prompt)
        remarks = span.remarks
        if REFUSED_IN_WORDS in remarks:
            return refusal(), remarks
        if reply.thoughts:
            remarks = (ONLY_THOUGHTS if span.start == span.end else THOUGHTS, *remarks)
        query, rest = text[span.start : span.end], text[span.end :]
        remarks += (BROKEN,) * ("\ufffd" in query)
        unstopped = reply.finish == "length" and self._longest.stop_position(rest) == len(rest)
        reason: FinishReason = "length" if unstopped else "stop"
        try:
            tokens = keep(read_tokens(reply.log_probs), text, span.start, span.end, last=reply.thoughts)
        except UnusableError as error:
            problems = (str(error),) if query and self.log_probs else ()
            return GeneratedQuery(query, (), (), None, reason, "absent" if query else None), (*remarks, *problems)
        return GeneratedQuery(query, (), tokens.values, tokens.stop if reason == "stop" else None, reason), remarks

    def _content(self, prompt: Prompt, text: str) -> Content:
        return prompt.render(text) if self.endpoint == "completions" else prompt.messages(text)

    def _request(self, query_id: str, content: Content) -> ApiRequest:
        return build_request(self, query_id, content, self._prompt_of(query_id))


def build_request(
    adapter: RequestAdapter[Any], query_id: str, content: Content, prompt: Prompt | JudgingPrompt
) -> ApiRequest:
    """The request body and digest for one prompt; form and stop strings are hashed, as replies are parsed by them."""
    settings, endpoint = adapter.settings, adapter.endpoint
    body: dict[str, Any] = {"model": adapter.model, "temperature": settings.temperature}
    if settings.top_p != 1:
        body["top_p"] = settings.top_p
    if settings.temperature:
        body["seed"] = sampling_key(settings.seed, query_id) >> (64 - SEED_BITS)
    if isinstance(content, str):
        stop = {"stop": list(prompt.stop[:STOP_STRINGS])} if prompt.stop else {}
        body |= {"prompt": content, "max_tokens": settings.max_new_tokens, **stop}
        tokens = estimate_tokens(content)
    else:
        # OpenAI's newer models accept only the longer name, some other servers only the shorter one
        limit = "max_completion_tokens" if adapter.url == OPENAI_URL else "max_tokens"
        body |= {"messages": content, limit: settings.max_new_tokens}
        tokens = sum(estimate_tokens(turn["content"]) + TOKENS_PER_TURN for turn in content)
    if adapter.log_probs:
        body["logprobs"] = 1 if endpoint == "completions" else True
    digest = digest_of([query_id, adapter.url, endpoint, [prompt.form, prompt.stop], body])
    return ApiRequest(query_id, digest, body, tokens, settings.max_new_tokens)


def answer_of(query: GeneratedQuery, reply: Reply, request: ApiRequest | None, remarks: tuple[str, ...]) -> Answer:
    """The answer with the server's token counts, or the request's estimates if the server sent none.

    Some servers (Gemini, Grok) count the reasoning, which they bill as output, in the total alone.
    """
    expected = (request.input_tokens, request.output_tokens) if request else (0, 0)
    input_tokens = tokens_used(reply.usage, "prompt_tokens", expected[0])
    output_tokens = tokens_used(reply.usage, "completion_tokens", expected[1])
    total_tokens = tokens_used(reply.usage, "total_tokens", 0)
    return Answer(query, input_tokens, max(output_tokens, total_tokens - input_tokens), remarks)


def refusal() -> GeneratedQuery:
    """The placeholder for a query that the server refuses to write."""
    return GeneratedQuery("", (), (), None, "error")


def digest_of(values: Any) -> str:
    """SHA-256 of JSON values, hexadecimal."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
