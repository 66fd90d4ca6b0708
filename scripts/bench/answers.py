"""Exact match and F1 of extractive answers on SQuAD 2.0's questions, from its paragraphs and from retrieved ones.

    python scripts/bench/answers.py --squad dev-v2.0.json.gz --output FOLDER
    python scripts/bench/answers.py --squad dev-v2.0.json.gz --output FOLDER --reader MODEL

All paragraphs are searched by BM25 and MiniLM together. Without --reader one is made here: MiniLM with a new head,
trained for --train-minutes on the questions of every second article. It is a small model with little training, there to
measure the machinery where no model hub can be reached, and only questions of the other articles are asked. Thresholds
are chosen on the articles that were trained on. Beside it, always, the sentence that fits best, for which `holds` says
how often a right answer stands in it. `hit` is the share of questions with a right answer in what was read; EM and F1
are of answerable questions that are always answered, `all` of all questions with the threshold.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inpars.answering.engine import Engine, Reader, TextEncoder
from inpars.answering.judging import exact_match, f1
from inpars.answering.opening import AnswerOptions, EngineOptions, open_engine
from inpars.answering.reading import SentenceReader, by_encoder
from inpars.answering.records import Answer, Hit
from inpars.answering.span_reading import SpanReader
from inpars.corpus import Corpus
from inpars.formats import read_queries, write_documents
from inpars.models.loading import load_extractive_reader
from inpars.records import Document

MAX_TOKENS, ROWS, LEARNING_RATE, WARM_UP = 256, 16, 1e-4, 20
NEVER_REFUSE = float("-inf")


@dataclass(frozen=True)
class Question:
    """A question, the paragraph it was asked of, and its right answers with their places; none where there are none."""

    text: str
    doc_id: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


def main() -> None:
    """Measure and print."""
    flags = parse()
    documents, questions = read_squad(flags.squad)
    flags.output.mkdir(parents=True, exist_ok=True)
    write_documents(flags.output / "corpus.jsonl", documents)
    texts = {document.doc_id: document.text for document in documents}
    seen, unseen = questions
    chooser = random.Random(flags.seed)
    asked, tuning = (chooser.sample(part, min(flags.questions, len(part))) for part in (unseen, seen))
    reader = flags.reader
    if reader is None and flags.train_minutes:
        reader = train_reader(seen, texts, flags.output / "reader", flags.train_minutes, flags.seed)
    with open_engine(EngineOptions(), corpus=Corpus(flags.output / "corpus.jsonl"), answers=AnswerOptions()) as engine:
        for note in engine.notes:
            print(note)
        print(f"\n{len(asked)} questions of unseen articles ({sum(not q.answers for q in asked)} without an answer)")
        print(f"search: {engine.systems[engine.default_system].description}")
        print(
            f"\n{'reader':34} {'passages':12} {'hit':>6} {'holds':>6} {'EM':>6} {'F1':>6}", "EM all  F1 all threshold"
        )
        makers = [sentences_of(engine)]
        if reader is not None:
            makers.append(lambda limit: SpanReader(reader, threshold=limit))
        for make in makers:
            for passages in ("given", f"top {flags.k}"):
                show(engine, make, passages, flags.k, asked, tuning)
        foreign = [query.text for query in read_queries(flags.foreign)][: flags.questions] if flags.foreign else []
        show_default(engine, asked, foreign, flags.k)


def parse() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD 2.0's json, .gz too")
    parser.add_argument("--output", type=Path, required=True, help="folder of the corpus and the reader made here")
    parser.add_argument("--reader", help="a model that marks answers, instead of the one made here")
    parser.add_argument("--foreign", type=Path, help="queries about something else, which should not be answered")
    parser.add_argument("--questions", type=int, default=300, help="asked, and as many for the threshold")
    parser.add_argument("--k", type=int, default=5, help="retrieved paragraphs that are read")
    parser.add_argument("--train-minutes", type=float, default=10.0, help="of the reader made here; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read_squad(path: Path) -> tuple[list[Document], tuple[list[Question], list[Question]]]:
    """All paragraphs, and the questions of every second article and of the others."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as stream:
        articles = json.load(stream)["data"]
    documents: list[Document] = []
    parts: tuple[list[Question], list[Question]] = ([], [])
    for number, article in enumerate(articles):
        for place, paragraph in enumerate(article["paragraphs"]):
            doc_id = f"{article['title']}-{place:03}"
            documents.append(Document(doc_id, paragraph["context"], article["title"].replace("_", " ")))
            for entry in paragraph["qas"]:
                answers = [] if entry["is_impossible"] else entry["answers"]
                texts, starts = (
                    zip(*((a["text"], a["answer_start"]) for a in answers), strict=True) if answers else ((), ())
                )
                parts[number % 2].append(Question(entry["question"], doc_id, texts, starts))
    return documents, parts


def sentences_of(engine: Engine) -> Callable[[float], Reader]:
    """A reader of sentences by the engine's bi-encoder."""
    judge = by_encoder(Remembering(engine.encoders["dense"]))
    return lambda limit: SentenceReader(judge, threshold=limit)


class Remembering:
    """A bi-encoder that embeds each sentence once."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.name, self.encode_queries = encoder.name, encoder.encode_queries
        self._encoder, self._known = encoder, dict[str, np.ndarray]()

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings, (texts, width)."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= zip(new, self._encoder.encode_documents(new), strict=True)
        return np.stack([self._known[text] for text in texts])


def show(
    engine: Engine,
    make: Callable[[float], Reader],
    passages: str,
    k: int,
    asked: Sequence[Question],
    tuning: Sequence[Question],
) -> None:
    """One row: answerable questions always answered, then all questions with a threshold from the tuning ones."""
    reader = make(NEVER_REFUSE)
    given = passages == "given"
    found, tuned = (answers_to(engine, reader, part, 0 if given else k) for part in (asked, tuning))
    limit = best_threshold(tuned, tuning)
    pairs = list(zip(found, asked, strict=True))
    answerable = [(answer, question) for answer, question in pairs if question.answers]
    hit = mean([any(right(question, hit) for hit in answer.sources) for answer, question in answerable])
    holds = mean([any(text in answer.text for text in q.answers) for answer, q in answerable])
    always = [mean([measure(a.text, q.answers) for a, q in answerable]) for measure in (exact_match, f1)]
    all_of = [mean([measure(text_above(a, limit), q.answers) for a, q in pairs]) for measure in (exact_match, f1)]
    row = " ".join(f"{100 * value:6.1f}" for value in (hit, holds, *always))
    print(
        f"{reader.name[:34]:34} {passages:12} {row} {100 * all_of[0]:7.1f} {100 * all_of[1]:7.1f} {limit:9.3f}",
        flush=True,
    )


def answers_to(engine: Engine, reader: Reader, questions: Sequence[Question], k: int) -> list[Answer]:
    """What the reader finds in the k best hits, or in the question's own paragraph where k is 0."""
    if k:
        hits = engine.search([question.text for question in questions], k)
    else:
        hits = [[Hit(engine.documents[question.doc_id], 0.0)] for question in questions]
    return [reader.read(question.text, found) for question, found in zip(questions, hits, strict=True)]


def best_threshold(answers: Sequence[Answer], questions: Sequence[Question]) -> float:
    """The score from which on answering gives the highest F1 over all questions; no answer is the empty text."""
    limits = sorted({answer.score for answer in answers if answer.score is not None})
    pairs = list(zip(answers, questions, strict=True))
    return max(limits, key=lambda limit: mean([f1(text_above(a, limit), q.answers) for a, q in pairs]))


def show_default(engine: Engine, asked: Sequence[Question], foreign: Sequence[str], k: int) -> None:
    """How often the engine's own reader answers at its own threshold: questions of each kind, and foreign ones."""
    if engine.reader is None:
        return
    kinds = {
        "answerable": [question.text for question in asked if question.answers],
        "unanswerable but close": [question.text for question in asked if not question.answers],
        "about something else": list(foreign),
    }
    print(f"\nanswered by the {engine.reader.name} at its default threshold, top {k}:")
    for kind, texts in kinds.items():
        if texts:
            found = [engine.answer_from(t, hits) for t, hits in zip(texts, engine.search(texts, k), strict=True)]
            print(f"  {kind:24} {100 * mean([answer.answered for answer in found]):5.1f}% of {len(texts)}", flush=True)


def text_above(answer: Answer, limit: float) -> str:
    """The answer where its score reaches the limit, else no answer."""
    return answer.text if answer.score is not None and answer.score >= limit else ""


def right(question: Question, hit: Hit) -> bool:
    """Whether a right answer's words stand in the hit."""
    return any(answer in hit.document.text for answer in question.answers)


def mean(values: Sequence[float]) -> float:
    """Their mean, 0 where there are none."""
    return sum(values) / len(values) if values else 0.0


def train_reader(questions: Sequence[Question], texts: dict[str, str], folder: Path, minutes: float, seed: int) -> str:
    """A reader made of MiniLM, saved in the folder; one that is there is taken."""
    if (folder / "config.json").exists():
        return str(folder)
    torch.manual_seed(seed)
    network, tokenizer = load_extractive_reader("minilm", device=torch.device("cpu"), dtype=torch.float32)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    order, started, step = list(questions), time.monotonic(), 0
    chooser = random.Random(seed)
    while (elapsed := time.monotonic() - started) < 60 * minutes:
        batch = chooser.sample(order, ROWS)
        share = max(0.0, 1 - elapsed / (60 * minutes)) * min(1.0, (step + 1) / WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * share
        loss = network(**encoded(batch, texts, tokenizer)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 20 == 0:
            print(f"training: step {step}, {elapsed:.0f} s, loss {loss.item():.3f}", flush=True)
    network.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"reader: MiniLM, {step} steps of {ROWS} questions in {minutes:g} minutes")
    return str(folder)


def encoded(
    batch: Sequence[Question],
    texts: dict[str, str],
    tokenizer: Any,  # noqa: ANN401
) -> dict[str, torch.Tensor]:
    """Questions and paragraphs with the tokens that answers begin and end at; the first token where there is none."""
    inputs = tokenizer(
        [question.text for question in batch],
        [texts[question.doc_id] for question in batch],
        truncation="only_second",
        max_length=MAX_TOKENS,
        padding=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    offsets = inputs.pop("offset_mapping")
    places = [_tokens_of(q, offsets[row].tolist(), inputs.sequence_ids(row)) for row, q in enumerate(batch)]
    starts, ends = torch.tensor(places).unbind(1)
    return {**inputs, "start_positions": starts, "end_positions": ends}


def _tokens_of(question: Question, offsets: Sequence[Sequence[int]], parts: Sequence[int | None]) -> tuple[int, int]:
    if not question.answers:
        return 0, 0
    first, last = question.starts[0], question.starts[0] + len(question.answers[0])
    inside = [n for n, (a, b) in enumerate(offsets) if parts[n] == 1 and a < last and b > first]
    return (inside[0], inside[-1]) if inside else (0, 0)


if __name__ == "__main__":
    main()
