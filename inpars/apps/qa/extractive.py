"""Extractive answers without a model made for them: the sentence of the hits that fits the question best.

A reranker, a bi-encoder or plain words judge the sentences; `method` says which. Below a threshold no answer is given,
nor from a source that lacks a name or a number of the question. Both keep questions about something else out, and not
much more: with MiniLM over SQuAD's paragraphs, and the names asked of the best sentence's source, 90% of answerable
questions are answered and 68% of those that are close to the paragraphs and have no answer there; 94% and 80% without
names (chosen on 8 articles, measured on 667 questions of the other 8). Those take a model that marks answers. A
reranker's threshold is where it is undecided. `Focus` picks sentences in the same way for a small language model.
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
"""(question, sentences) -> how well each one fits."""

ENCODER_THRESHOLD = 0.5  # cosine
RERANKER_THRESHOLD = 0.0  # margin
WORDS_THRESHOLD = 0.5  # share of the question's words
FEWEST_WORDS = 3  # with letters; a shorter sentence is a heading, a date, an address or a piece
FEWEST_SIGNS = 6  # the same for Chinese and Japanese
NO_HITS = "nothing was found"
_WHOLE = re.compile(r"[\w\"'(\u201c\u2018].*[.!\u2026\u3002\uff01][\"'\u201d\u2019)\]]*(?:\[\d+\])*", re.DOTALL)
SENTENCES = 4


@dataclass(frozen=True, slots=True)
class Judge:
    """How sentences are compared with a question, and from when on one answers it."""

    name: str
    score: Score
    threshold: float


class SentenceReader:
    """Gives the best sentence of all hits; the earlier hit's of equal ones."""

    closest = True

    def __init__(self, judge: Judge, *, threshold: float | None = None, names: bool = True) -> None:
        """`names`: only sources that have all names and numbers of the question are read."""
        self._judge, self._names = judge, names
        self.threshold = judge.threshold if threshold is None else threshold
        self.name = f"best sentence by {judge.name}"

    def read(self, question: str, hits: Sequence[Hit]) -> Answer:
        """The best sentence as an answer; with `alternatives`, the best of each other hit."""
        return replace(self._read(question, hits), closest=True)

    def _read(self, question: str, hits: Sequence[Hit]) -> Answer:
        places = candidates(question, hits)
        if not places:
            return unanswered(question, self.name, hits, NO_HITS if not hits else "no source has a whole sentence")
        if self._names:
            lacking = [missing_names(question, hit.document.full_text) for hit in hits]
            places = [(number, span) for number, span in places if not lacking[number - 1]]
            if not places:
                fewest = min(len(names) for names in lacking if names)
                absent = ", ".join(next(names for names in lacking if len(names) == fewest))
                return unanswered(question, self.name, hits, f"no source has all that the question names ({absent})")
        scores = self._judge.score(question, [in_context(hits[number - 1], span) for number, span in places])
        scored = [(n, span, s) for (n, span), s in zip(places, scores, strict=True)]
        return best_answer(question, hits, scored, self.name, self.threshold)


def best_answer(
    question: str, hits: Sequence[Hit], scored_spans: Sequence[tuple[int, Span, float]], method: str, threshold: float
) -> Answer:
    """The answer of highest score among (source number, span, score), no answer where that is below the threshold."""
    best: dict[int, tuple[Span, float]] = {}
    for number, span, score in scored_spans:
        if number not in best or score > best[number][1]:
            best[number] = (span, score)
    order = sorted(best.items(), key=lambda item: (-item[1][1], item[0]))
    answers = [
        Answer(
            *(question, "extractive", score >= threshold, span.of(hits[number - 1].document.text), method, score, span),
            (number,),
            tuple(hits),
        )
        for number, (span, score) in order
    ]
    first, rest = answers[0], tuple(replace(answer, sources=()) for answer in answers[1:])
    if first.answered:
        return replace(first, alternatives=rest)
    reason = f"the best score, {first.score:.3f}, is below the threshold {threshold:g}"
    return replace(unanswered(question, method, hits, reason), score=first.score)


def unanswered(question: str, method: str, hits: Sequence[Hit], reason: str) -> Answer:
    """That there is no extractive answer, and why."""
    return Answer(question, "extractive", False, "", method, sources=tuple(hits), reason=reason)


def candidates(question: str, hits: Sequence[Hit]) -> list[tuple[int, Span]]:
    """Source number and place of the sentences that could be answers.

    They are whole, ask nothing, and say something that the question does not; where no hit has such a one, all with
    enough words. None only points elsewhere.
    """
    sentences = [
        (number, span, span.of(hit.document.text))
        for number, hit in enumerate(hits, start=1)
        for span in sentence_spans(hit.document.text)
    ]
    sentences = [entry for entry in sentences if _says_something(entry[2]) and not only_points(entry[2])]
    question_stems = content_stems(question)
    whole = [entry for entry in sentences if _WHOLE.fullmatch(entry[2]) and content_stems(entry[2]) - question_stems]
    return [(number, span) for number, span, _ in whole or sentences]


def _says_something(sentence: str) -> bool:
    """Whether it has enough words with letters; scripts without blanks are taken by their length."""
    words = [word for word in sentence.split() if any(sign.isalpha() for sign in word)]
    return len(words) >= FEWEST_WORDS or (len(words) == 1 and not sentence.isascii() and len(sentence) >= FEWEST_SIGNS)


def by_encoder(encoder: TextEncoder) -> Judge:
    """Products of embeddings: cosines, for most bi-encoders."""

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
    """The share of the question's words that each sentence has."""
    question_stems = content_stems(question)
    return [
        len(question_stems & {stem(word.lower()) for word in WORD.findall(sentence)}) / max(1, len(question_stems))
        for sentence in sentences
    ]


BY_WORDS = Judge("words in common", shared_words, WORDS_THRESHOLD)


def in_context(hit: Hit, span: Span) -> str:
    """A sentence under its document's title, without which it often does not say what it is about."""
    sentence = span.of(hit.document.text)
    return f"{hit.document.title}. {sentence}" if hit.document.title else sentence


@dataclass(frozen=True, slots=True)
class Focus:
    """Picks sentences as the sentence reader does."""

    judge: Judge
    threshold: float | None = None
    sentences: int = SENTENCES

    @property
    def limit(self) -> float:
        """The least score of the best sentence."""
        return self.judge.threshold if self.threshold is None else self.threshold

    def choose(self, question: str, hits: Sequence[Hit]) -> tuple[list[tuple[int, Hit]], float]:
        """Hits by number with their sentences of highest score alone, in the order of the texts; the best score."""
        sentences = candidates(question, hits)
        if not sentences:
            return [], float("-inf")
        scores = self.judge.score(question, [in_context(hits[number - 1], span) for number, span in sentences])
        order = sorted(range(len(sentences)), key=lambda index: -scores[index])[: self.sentences]
        chosen: dict[int, list[Span]] = {}
        for number, span in (sentences[index] for index in sorted(order)):
            chosen.setdefault(number, []).append(span)
        return [(number, _narrowed(hits[number - 1], spans)) for number, spans in chosen.items()], max(scores)


def _narrowed(hit: Hit, spans: Sequence[Span]) -> Hit:
    """The hit with these sentences alone."""
    text = " ".join(span.of(hit.document.text) for span in spans)
    return replace(hit, document=replace(hit.document, text=text), spans=())
