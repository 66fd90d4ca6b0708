"""An OpenAI-compatible server as a judge: what it is asked about a pair, and how its reply is read.

Journal, money cap, retries and batches are those of generation. The journal keeps the whole reply, so that a grade is
read off it anew and never asked for again. Looked for in it, in this order: a JSON object's grade, a line that names
the grade, a reply that begins with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from inpars.generation import GeneratedQuery
from inpars.generation.api.budget import cut_text
from inpars.generation.api.formats import (
    BROKEN,
    FILTERED,
    NO_FINISH,
    PARTS,
    UNKNOWN_FINISH,
    answer_in,
    read_reply,
    tokens_used,
)
from inpars.generation.api.generator import ApiGenerator
from inpars.generation.api.replies import ONLY_THOUGHTS, THOUGHTS, find_answer, refuses
from inpars.generation.api.replies import REFUSED as REFUSED_IN_WORDS
from inpars.generation.api.requests import (
    REFUSED,
    Answer,
    ApiRequest,
    Endpoint,
    PayloadFormat,
    Shown,
    digest_of,
    refusal,
)
from inpars.generation.settings import DecodingSettings
from inpars.generation.token_spans import FORM, LENGTH, NONE, TEXT, VALUE, UnusableError, keep, read_tokens
from inpars.judging import Graded, Pair
from inpars.prompts.judging import JudgingPrompt

NO_GRADE = "no_grade"
COUNTS = ("prompt_tokens", "completion_tokens")
WITHOUT = "; the grades have no log-prob"
SENTENCES: Mapping[str, str] = {
    NO_GRADE: "name no grade from 0 to 3; these pairs stay unjudged",
    THOUGHTS: "held the model's thoughts, which were left out",
    ONLY_THOUGHTS: "hold thoughts and no grade; raise --max-new-tokens, or turn thinking off at the server",
    FILTERED: "were refused by a content filter or the model; these pairs stay unjudged",
    REFUSED: "were refused by the server; these pairs stay unjudged",
    REFUSED_IN_WORDS: "decline in words to grade; these pairs stay unjudged",
    PARTS: "had parts that are no text, which were left out",
    BROKEN: "hold letters that did not arrive whole, shown as U+FFFD",
    NO_FINISH: "have no finish_reason",
    UNKNOWN_FINISH: "have a finish_reason that is not known",
    NONE: f"came without log-probs{WITHOUT}",
    FORM: f"have log-probs in no known form{WITHOUT}",
    LENGTH: f"have more or fewer log-probs than tokens{WITHOUT}",
    TEXT: f"have log-probs of tokens that do not hold the grade{WITHOUT}",
    VALUE: f"have log-probs that are no numbers up to 0{WITHOUT}",
}
_NAMES = r"(?:grade|score|relevance|rating|judge?ment|label|O)"
_JSON = re.compile(rf"[\"']{_NAMES}[\"']\s*:\s*[\"']?([0-3])(?![\d.])", re.IGNORECASE)
_NAMED = re.compile(
    rf"\b(?:final\s+|overall\s+|relevance\s+)?{_NAMES}\b[\"'*_`\s]*(?:is|of|[:\uff1a=])[\"'*_`\s(]*([0-3])(?![\d.]\d|\d)",
    re.IGNORECASE,
)
_FIRST = re.compile(r"[\s\"'*_`#(\[]*([0-3])(?![\d.]\d|\d|\s*(?:-|\u2013|to)\s*\d)")
_REASON = re.compile(
    r"[\"'](?:reason|explanation|rationale|why)[\"']\s*:\s*[\"'](.+?)[\"']\s*[,}]", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"^\W*(?:reason|reasoning|explanation|rationale|why)\W*[:\uff1a]\s*", re.IGNORECASE)
_EDGES = " \t\r\n*_`\"'#>.,;:-\u2013\u2014"


class FoundGrade(NamedTuple):
    """The grade, which is `text[start:end]`."""

    grade: int
    start: int
    end: int


@dataclass(frozen=True)
class GradeRequests:
    """How pairs become requests and replies become grades, for one model at one server."""

    endpoint: Endpoint
    model: str
    prompt: JudgingPrompt
    settings: DecodingSettings
    url: str
    log_probs: bool = True
    sentences: ClassVar[Mapping[str, str]] = SENTENCES

    def key(self, pair: Pair) -> str:
        """Query and document by their ids."""
        return pair.key

    def requests(self, pair: Pair) -> list[ApiRequest]:
        """One request."""
        return [self._request(pair.key, pair.query, cut_text(pair.document.full_text, self.settings.max_doc_tokens))]

    @cached_property
    def digest(self) -> str:
        """What decides all answers besides the pairs."""
        return digest_of([self.prompt.text, self._request("", "", "").digest])

    def read(self, payload: Any, request: ApiRequest | None = None) -> Answer:  # noqa: ANN401 - JSON
        """The reply without the model's thoughts, with the log-probs of its grade."""
        reply = read_reply(answer_in(payload), token_limit=self.settings.max_new_tokens)
        expected = (request.input_tokens, request.output_tokens) if request else (0, 0)
        tokens = [tokens_used(reply.usage, name, most) for name, most in zip(COUNTS, expected, strict=True)]
        span = find_answer(reply.text)
        text = reply.text[span.start : span.end].strip()
        if reply.finish == "error" or refuses(text):
            said = () if reply.finish == "error" else (REFUSED_IN_WORDS,)
            return Answer(refusal(), tokens[0], tokens[1], (*reply.remarks, *said))
        remarks = reply.remarks + (BROKEN,) * ("\ufffd" in text)
        if span.thoughts or reply.thoughts:
            remarks += (THOUGHTS if text else ONLY_THOUGHTS,)
        found = find_grade(text)
        values: tuple[float, ...] | None = None
        if found is None:
            remarks += (NO_GRADE,) * bool(text)
        else:
            before = reply.text.index(text) + found.start
            try:
                end = before + found.end - found.start
                values = keep(read_tokens(reply.log_probs), reply.text, before, end, last=reply.thoughts).values
            except UnusableError as error:
                remarks += (str(error),) * self.log_probs
        query = GeneratedQuery(text, (), values or (), None, reply.finish, None if values else "absent")
        return Answer(query, tokens[0], tokens[1], remarks)

    def _request(self, name: str, query: str, document: str) -> ApiRequest:
        prompt = self.prompt
        asked = PayloadFormat(self.endpoint, self.model, self.settings, self.url, prompt.stop, self.log_probs)
        shown: Shown = (
            prompt.render(query, document) if self.endpoint == "completions" else prompt.messages(query, document)
        )
        return asked.request(name, shown, [prompt.form, list(prompt.stop)])


class ServerJudge:
    """A `Judge` that asks, and a `PaidGenerator`: it costs money and holds files open."""

    def __init__(self, generator: ApiGenerator[Pair]) -> None:
        self.name, self.device, self._generator = generator.name, generator.device, generator

    def plan(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Chunks of pairs in their order."""
        return self._generator.plan(pairs)

    def judge(self, pairs: Sequence[Pair]) -> list[Graded]:
        """The grades of one chunk's pairs; those that follow in the plan are asked for meanwhile."""
        return [graded(reply) for (reply,) in self._generator.generate(pairs)]

    def status(self) -> str:
        """What it cost so far and what failed."""
        return self._generator.status()

    def results(self) -> Mapping[str, Any]:
        """The same for the manifest."""
        return self._generator.results()

    def skipped(self, pairs: Sequence[Pair]) -> None:
        """These were graded by an earlier run."""
        self._generator.skipped(pairs)

    def notes(self) -> list[str]:
        """What was odd about the replies."""
        return self._generator.notes()

    def close(self) -> None:
        """Let requests under way come to their end, then close the journal."""
        self._generator.close()


def graded(reply: GeneratedQuery) -> Graded:
    """What a reply says of its pair."""
    if reply.finish_reason == "error":
        return Graded(None, problem=REFUSED)
    found = find_grade(reply.text)
    if found is None:
        return Graded(None, problem=NO_GRADE)
    log_prob = sum(reply.token_log_probs) if reply.token_log_probs else None
    return Graded(found.grade, log_prob, reason=reason_in(reply.text))


def find_grade(text: str) -> FoundGrade | None:
    """The grade in a reply; of several that are named the last, None where there is none."""
    found = [*_JSON.finditer(text)] or [*_NAMED.finditer(text)]
    match = found[-1] if found else _FIRST.match(text)
    return None if match is None else FoundGrade(int(match[1]), *match.span(1))


def reason_in(text: str) -> str:
    """What a reply says besides its grade, on one line; empty where it says nothing."""
    if match := _REASON.search(text):
        return " ".join(match[1].split())
    found = find_grade(text)
    if found is None:
        return ""
    lines = [(match.start(), match.end()) for match in re.finditer(r"[^\n]+", text)]
    rest = [text[start:end] for start, end in lines if not start <= found.start < end]
    own = next((text[found.end : end] for start, end in lines if start <= found.start < end), "").strip(_EDGES)
    words = " ".join(" ".join([own, *(_LABEL.sub("", line) for line in rest)]).split())
    return words if re.search(r"\w{2}", words) else ""
