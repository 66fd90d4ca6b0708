"""An OpenAI-compatible server as a judge: the request for a pair, and how the grade is parsed from the reply.

Journal, spending cap, retries and batches are shared with generation. The journal stores whole replies, which are
parsed again on every run. A grade is looked for in this order: in a JSON object, after its name, at the reply's start.
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
)
from inpars.generation.api.generator import ApiGenerator
from inpars.generation.api.replies import ONLY_THOUGHTS, THOUGHTS, find_answer, refuses
from inpars.generation.api.replies import REFUSED as REFUSED_IN_WORDS
from inpars.generation.api.requests import (
    REFUSED,
    Answer,
    ApiRequest,
    Endpoint,
    answer_of,
    build_request,
    digest_of,
    refusal,
)
from inpars.generation.settings import DecodingSettings
from inpars.generation.token_spans import FORM, LENGTH, NONE, TEXT, VALUE, UnusableError, keep, read_tokens
from inpars.judging import Graded, Pair
from inpars.prompts.judging import JudgingPrompt

NO_GRADE = "no_grade"
WITHOUT = "; the grades have no log-prob"
SENTENCES: Mapping[str, str] = {
    NO_GRADE: "name no grade from 0 to 3; these pairs stay unjudged",
    THOUGHTS: "held the model's thoughts, which were removed",
    ONLY_THOUGHTS: "contain reasoning and no grade; raise --max-new-tokens, or turn thinking off at the server",
    FILTERED: "were refused by a content filter or the model; these pairs stay unjudged",
    REFUSED: "were refused by the server; these pairs stay unjudged",
    REFUSED_IN_WORDS: "decline to grade; these pairs stay unjudged",
    PARTS: "had parts other than text, which were ignored",
    BROKEN: "contain broken characters, shown as U+FFFD",
    NO_FINISH: "have no finish_reason",
    UNKNOWN_FINISH: "have an unknown finish_reason",
    NONE: f"came without log-probs{WITHOUT}",
    FORM: f"have log-probs in an unknown format{WITHOUT}",
    LENGTH: f"have more or fewer log-probs than tokens{WITHOUT}",
    TEXT: f"have log-probs of tokens that do not contain the grade{WITHOUT}",
    VALUE: f"have invalid log-probs{WITHOUT}",
}
_NAMES = r"(?:grade|score|relevance|rating|judge?ment|label|O)"
_JSON = re.compile(rf"[\"']{_NAMES}[\"']\s*:\s*[\"']?([0-3])(?![\d.])", re.IGNORECASE)
_NAMED = re.compile(
    rf"\b(?:final\s+|overall\s+|relevance\s+)?{_NAMES}\b[\"'*_`\s]*(?:is|of|[:\uff1a=])[\"'*_`\s(]*([0-3])(?![\d.]\d|\d)",
    re.IGNORECASE,
)
_FIRST = re.compile(r"[\s\"'*_`#(\[]*([0-3])(?![\d.]\d|\d|\s*(?:-|\u2013|to)\s*\d)")
_LIST = re.compile(r"[\s*_`#(]*1[.)]\s.*\n[\s*_`#(]*2[.)]\s", re.DOTALL)
_REASON = re.compile(
    r"[\"'](?:reason|explanation|rationale|why)[\"']\s*:\s*[\"'](.+?)[\"']\s*[,}]", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"^\W*(?:reason|reasoning|explanation|rationale|why)\W*[:\uff1a]\s*", re.IGNORECASE)
_EDGES = " \t\r\n*_`\"'#>.,;:-\u2013\u2014"


class FoundGrade(NamedTuple):
    """A grade and its position, `text[start:end]`."""

    grade: int
    start: int
    end: int


@dataclass(frozen=True)
class GradeRequests:
    """Turns pairs into requests and replies into grades, for one model on one server."""

    endpoint: Endpoint
    model: str
    prompt: JudgingPrompt
    settings: DecodingSettings
    url: str
    log_probs: bool = True
    sentences: ClassVar[Mapping[str, str]] = SENTENCES

    def key(self, pair: Pair) -> str:
        """Both ids of the pair."""
        return pair.key

    def requests(self, pair: Pair) -> list[ApiRequest]:
        """One request for the pair's grade."""
        return [self._request(pair.key, pair.query, cut_text(pair.document.full_text, self.settings.max_doc_tokens))]

    @cached_property
    def digest(self) -> str:
        """Hash of everything but the pairs that determines the answers."""
        return digest_of([self.prompt.text, self._request("", "", "").digest])

    def read(self, payload: Any, request: ApiRequest | None = None) -> Answer:  # noqa: ANN401 - JSON
        """The reply without the model's reasoning, with the log-probs of its grade."""
        reply = read_reply(answer_in(payload), token_limit=self.settings.max_new_tokens)
        span = find_answer(reply.text)
        text = reply.text[span.start : span.end].strip()
        if reply.finish == "error" or refuses(text):
            declined = () if reply.finish == "error" else (REFUSED_IN_WORDS,)
            return answer_of(refusal(), reply, request, (*reply.remarks, *declined))
        remarks = reply.remarks + (BROKEN,) * ("\ufffd" in text)
        if span.thoughts or reply.thoughts:
            remarks += (THOUGHTS if text else ONLY_THOUGHTS,)
        found = find_grade(text)
        log_probs: tuple[float, ...] = ()
        if found is None:
            remarks += (NO_GRADE,) * bool(text)
        else:
            offset = reply.text.index(text)
            start, end = offset + found.start, offset + found.end
            try:
                log_probs = keep(read_tokens(reply.log_probs), reply.text, start, end, last=reply.thoughts).values
            except UnusableError as error:
                remarks += (str(error),) * self.log_probs
        query = GeneratedQuery(text, (), log_probs, None, reply.finish, None if log_probs else "absent")
        return answer_of(query, reply, request, remarks)

    def _request(self, name: str, query: str, document: str) -> ApiRequest:
        prompt = self.prompt
        as_text = self.endpoint == "completions"
        content = prompt.render(query, document) if as_text else prompt.messages(query, document)
        return build_request(self, name, content, prompt)


class ServerJudge:
    """A `Judge` over a server, and a `PaidGenerator`; the generator does everything but parse grades."""

    def __init__(self, generator: ApiGenerator[Pair]) -> None:
        self.name, self.device, self._generate = generator.name, generator.device, generator.generate
        self.plan, self.skipped, self.close = generator.plan, generator.skipped, generator.close
        self.status, self.results, self.notes = generator.status, generator.results, generator.notes

    def judge(self, pairs: Sequence[Pair]) -> list[Graded]:
        """Grades of one chunk; requests for the next pairs of the plan are sent meanwhile."""
        return [graded(reply) for (reply,) in self._generate(pairs)]


def graded(reply: GeneratedQuery) -> Graded:
    """The grade and reason in a stored reply."""
    if reply.finish_reason == "error":
        return Graded(None, problem=REFUSED)
    found = find_grade(reply.text)
    if found is None:
        return Graded(None, problem=NO_GRADE)
    log_prob = sum(reply.token_log_probs) if reply.token_log_probs else None
    return Graded(found.grade, log_prob, reason=reason_in(reply.text))


def find_grade(text: str) -> FoundGrade | None:
    """The grade in a reply, the last one if it names several; None if it names none."""
    named = [*_JSON.finditer(text)] or [*_NAMED.finditer(text)]
    if not named and _LIST.match(text):
        return None  # a numbered list begins with no grade
    match = named[-1] if named else _FIRST.match(text)
    return None if match is None else FoundGrade(int(match[1]), *match.span(1))


def reason_in(text: str) -> str:
    """The reply's explanation of its grade on one line, or empty."""
    if match := _REASON.search(text):
        return " ".join(match[1].split())
    found = find_grade(text)
    if found is None:
        return ""
    start = text.rfind("\n", 0, found.start) + 1
    after_grade, _, below = text[found.end :].partition("\n")
    other_lines = [_LABEL.sub("", line) for line in (text[:start] + below).split("\n")]
    words = " ".join(" ".join([after_grade.strip(_EDGES), *other_lines]).split())
    return words if re.search(r"\w{2}", words) else ""
