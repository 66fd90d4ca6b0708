"""Extractive answers without a reader: the sentence of the hits that is closest to the question.

A reranker, a bi-encoder or shared words score the sentences; `method` says which. There is no answer below a threshold,
or from a source that lacks a name or number of the question. Both mainly reject off-topic questions: with MiniLM on
SQuAD's paragraphs, and names required in the best sentence's source, 90% of the answerable questions are answered, but
also 68% of the close questions without an answer in the paragraphs; without names, 94% and 80% (chosen on 8 articles,
measured on 667 questions of the other 8). Rejecting those takes a trained reader. A reranker's threshold is the margin
0. `Focus` chooses sentences in the same way for a small language model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from inpars.apps.qa.records import Answer, Hit, Span
from inpars.apps.qa.sentences import WORD, content_stems, missing_names, only_points, sentence_spans, stem
from inpars.protocols import PairScorer, TextEncoder

Score: TypeAlias = Callable[[str, Sequence[str]], list[float]]
"""(question, sentences) -> a score per sentence."""

ENCODER_THRESHOLD = 0.5  # cosine
RERANKER_THRESHOLD = 0.0  # margin
WORDS_THRESHOLD = 0.5  # share of the question's words
FEWEST_WORDS = 3  # with letters; a shorter sentence is a heading, a date, an address or a fragment
FEWEST_CHARACTERS = 6  # the same for Chinese and Japanese
NO_HITS = "nothing was found"
_WHOLE = re.compile(r"[\w\"'(\u201c\u2018].*[.!\u2026\u3002\uff01][\"'\u201d\u2019)\]]*(?:\[\d+\])*", re.DOTALL)
SENTENCES = 4


@dataclass(frozen=True, slots=True)
class Judge:
    """How sentences are scored for a question, and the minimum score of an answer."""

    name: str
    score: Score
    threshold: float


class SentenceReader:
    """Answers with the best sentence of all hits; of equal sentences, that of the earlier hit."""

    closest = True

    def __init__(self, judge: Judge, *, threshold: float | None = None, names: bool = True) -> None:
        """`names`: read only sources that contain all names and numbers of the question."""
        self._judge, self._names = judge, names
        self.threshold = judge.threshold if threshold is None else threshold
        self.name = f"best sentence by {judge.name}"

    def read(self, question: str, hits: Sequence[Hit]) -> Answer:
        """The best sentence as an answer."""
        return replace(self._read(question, hits), closest=True)

    def _read(self, question: str, hits: Sequence[Hit]) -> Answer:
        sentences = candidates(question, hits)
        if not sentences:
            return unanswered(question, self.name, hits, NO_HITS if not hits else "no source has a whole sentence")
        if self._names:
            missing = [missing_names(question, hit.document.full_text) for hit in hits]
            sentences = [(number, span) for number, span in sentences if not missing[number - 1]]
            if not sentences:
                fewest = min((names for names in missing if names), key=len)
                reason = f"no source has all names of the question ({', '.join(fewest)})"
                return unanswered(question, self.name, hits, reason)
        scores = self._judge.score(question, [in_context(hits[number - 1], span) for number, span in sentences])
        scored = [(number, span, score) for (number, span), score in zip(sentences, scores, strict=True)]
        return best_answer(question, hits, scored, self.name, self.threshold)


def best_answer(
    question: str, hits: Sequence[Hit], scored_spans: Sequence[tuple[int, Span, float]], method: str, threshold: float
) -> Answer:
    """The best of the (source number, span, score), the first of equal ones; unanswered below the threshold."""
    number, span, score = max(scored_spans, key=lambda scored: scored[2])
    if score >= threshold:
        text = span.of(hits[number - 1].document.text)
        return Answer(question, "extractive", True, text, method, score, span, (number,), tuple(hits))
    reason = f"the best score, {score:.3f}, is below the threshold {threshold:g}"
    return replace(unanswered(question, method, hits, reason), score=score)


def unanswered(question: str, method: str, hits: Sequence[Hit], reason: str) -> Answer:
    """An extractive answer that was not found."""
    return Answer(question, "extractive", False, "", method, sources=tuple(hits), reason=reason)


def candidates(question: str, hits: Sequence[Hit]) -> list[tuple[int, Span]]:
    """Source number and span of the sentences that could be answers, in order.

    These are complete statements with words that the question lacks; if no hit has one, all sentences that are long
    enough. Sentences that only refer elsewhere are excluded.
    """
    sentences = [
        (number, span, span.of(hit.document.text))
        for number, hit in enumerate(hits, start=1)
        for span in sentence_spans(hit.document.text)
    ]
    sentences = [entry for entry in sentences if _is_long_enough(entry[2]) and not only_points(entry[2])]
    question_stems = content_stems(question)
    whole = [entry for entry in sentences if _WHOLE.fullmatch(entry[2]) and content_stems(entry[2]) - question_stems]
    return [(number, span) for number, span, _ in whole or sentences]


def _is_long_enough(sentence: str) -> bool:
    """By words with letters, or by characters in scripts without spaces."""
    words = [word for word in sentence.split() if any(char.isalpha() for char in word)]
    without_spaces = len(words) == 1 and not sentence.isascii()
    return len(words) >= FEWEST_WORDS or (without_spaces and len(sentence) >= FEWEST_CHARACTERS)


def by_encoder(encoder: TextEncoder) -> Judge:
    """Dot products of embeddings: cosines, for most bi-encoders."""

    def score(question: str, sentences: Sequence[str]) -> list[float]:
        query = encoder.encode_queries([question])[0]
        similarities: list[float] = (encoder.encode_documents(list(sentences)) @ query).tolist()
        return similarities

    return Judge(f"the bi-encoder {encoder.name}", score, ENCODER_THRESHOLD)


def by_reranker(reranker: PairScorer) -> Judge:
    """A reranker's margins."""
    return Judge(
        f"the reranker {reranker.name}",
        lambda question, sentences: reranker.score([(question, sentence) for sentence in sentences]),
        RERANKER_THRESHOLD,
    )


def shared_words(question: str, sentences: Sequence[str]) -> list[float]:
    """The share of the question's words that each sentence contains."""
    question_stems = content_stems(question)
    return [
        len(question_stems & {stem(word.lower()) for word in WORD.findall(sentence)}) / max(1, len(question_stems))
        for sentence in sentences
    ]


BY_WORDS = Judge("words in common", shared_words, WORDS_THRESHOLD)


def in_context(hit: Hit, span: Span) -> str:
    """A sentence after its document's title, without which its topic is often unclear."""
    sentence = span.of(hit.document.text)
    return f"{hit.document.title}. {sentence}" if hit.document.title else sentence


@dataclass(frozen=True, slots=True)
class Focus:
    """Chooses the sentences closest to a question, scored as by the sentence reader."""

    judge: Judge
    sentences: int = SENTENCES

    def choose(self, question: str, hits: Sequence[Hit]) -> tuple[list[tuple[int, Hit]], float]:
        """(number, hit) of the hits with only their best sentences, in the order of the texts; and the best score."""
        sentences = candidates(question, hits)
        if not sentences:
            return [], float("-inf")
        scores = self.judge.score(question, [in_context(hits[number - 1], span) for number, span in sentences])
        order = sorted(range(len(sentences)), key=lambda index: -scores[index])[: self.sentences]
        chosen: dict[int, list[Span]] = {}
        for number, span in (sentences[index] for index in sorted(order)):
            chosen.setdefault(number, []).append(span)
        return [(number, _with_only(spans, hits[number - 1])) for number, spans in chosen.items()], max(scores)


def _with_only(spans: Sequence[Span], hit: Hit) -> Hit:
    text = " ".join(span.of(hit.document.text) for span in spans)
    return replace(hit, document=replace(hit.document, text=text), spans=())
