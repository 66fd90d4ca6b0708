"""Exact match and F1 of extractive answers on SQuAD 2.0's questions, from its paragraphs and from retrieved ones.

    python scripts/bench/answers.py --squad dev-v2.0.json.gz --output FOLDER
    python scripts/bench/answers.py --squad dev-v2.0.json.gz --output FOLDER --reader MODEL

All paragraphs are searched by BM25 and MiniLM together. Without --reader one is made by `inpars train reader` of MiniLM
and three quarters of every second article: a small model with little to learn from, there to measure the machinery
where no model hub can be reached. Thresholds are chosen on the last quarter, and only questions of the other articles
are asked, so that nothing that is measured was seen. Beside the reader, always, the sentence that fits best, for which
`holds` says how often a right answer stands in it. `hit` is the share of questions with a right answer in what was
read; EM and F1 are of answerable questions that are always answered, `all` of all questions with the threshold, `none`
what it would be to answer nothing at all.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import print_tier

from inpars.apps.qa.build_engine import AnswerOptions, EngineOptions, open_engine
from inpars.apps.qa.engine import Engine, Reader
from inpars.apps.qa.extractive import SentenceReader, by_encoder
from inpars.apps.qa.local_models import SpanReader
from inpars.apps.qa.records import Answer, Hit
from inpars.console import Console
from inpars.documents.readers.squad import Paragraph, read_squad
from inpars.evaluation.squad_metrics import best_threshold, exact_match, f1
from inpars.io.corpus import Corpus
from inpars.io.formats import read_queries, write_documents
from inpars.protocols import TextEncoder
from inpars.records import Document
from inpars.stages.train import by_article, train_reader_from_file
from inpars.training.reader import ReaderOptions

NEVER_REFUSE = float("-inf")
CHOOSING_SHARE = 0.25


@dataclass(frozen=True)
class Question:
    """A question, the paragraph it was asked of, and its right answers; none where there are none."""

    text: str
    doc_id: str
    answers: tuple[str, ...]


def main() -> None:
    """Measure and print."""
    flags = parse()
    print_tier()
    flags.output.mkdir(parents=True, exist_ok=True)
    halves = [
        write_half(flags.squad, flags.output / f"squad.{name}.json", n) for n, name in enumerate(("train", "ask"))
    ]
    write_documents(flags.output / "corpus.jsonl", (document_of(part) for path in halves for part in read_squad(path)))
    chooser = random.Random(flags.seed)
    _, held_out = by_article(read_squad(halves[0]), CHOOSING_SHARE, flags.seed)
    pools = [questions_of(part) for part in (read_squad(halves[1]), held_out)]
    asked, tuning = (chooser.sample(pool, min(flags.questions, len(pool))) for pool in pools)
    reader = flags.reader or train_reader(halves[0], flags)
    with open_engine(EngineOptions(), corpus=Corpus(flags.output / "corpus.jsonl"), answers=AnswerOptions()) as engine:
        for note in engine.notes:
            print(note)
        print(f"\n{len(asked)} questions of unseen articles ({sum(not q.answers for q in asked)} without an answer)")
        print(f"search: {engine.systems[engine.default_system].description}")
        print(
            f"\n{'reader':34} {'passages':12} {'hit':>6} {'holds':>6} {'EM':>6} {'F1':>6}",
            "EM all  F1 all    none threshold",
        )
        makers = [sentences_of(engine), lambda limit: SpanReader(reader, threshold=limit)]
        for make in makers:
            for passages in ("given", f"top {flags.k}"):
                show(engine, make, passages, flags.k, asked, tuning)
        foreign = [query.text for query in read_queries(flags.foreign)][: flags.questions] if flags.foreign else []
        for make in makers:
            show_default(engine, make(None), asked, foreign, flags.k)


def parse() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD 2.0's json, .gz too")
    parser.add_argument("--output", type=Path, required=True, help="folder of the corpus and the reader made here")
    parser.add_argument("--reader", help="a model that marks answers, instead of the one made here")
    parser.add_argument("--foreign", type=Path, help="queries about something else, which should not be answered")
    parser.add_argument("--questions", type=int, default=300, help="asked, and as many for the threshold")
    parser.add_argument("--k", type=int, default=5, help="retrieved paragraphs that are read")
    parser.add_argument("--epochs", type=float, default=3.0, help="of the reader made here")
    parser.add_argument("--threads", type=int, help="processor threads of the training")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def write_half(squad: Path, output: Path, rest: int) -> Path:
    """Every second article, from the first or from the second on, in SQuAD's form."""
    opened = gzip.open if squad.suffix == ".gz" else open
    with opened(squad, "rt", encoding="utf-8") as stream:
        content = json.load(stream)
    output.write_text(json.dumps({**content, "data": content["data"][rest::2]}), encoding="utf-8")
    return output


def document_of(paragraph: Paragraph) -> Document:
    """A paragraph under its article's title."""
    return Document(doc_id_of(paragraph), paragraph.text, paragraph.title.replace("_", " "))


def doc_id_of(paragraph: Paragraph) -> str:
    """Article and number."""
    return f"{paragraph.title}-{paragraph.number:03}"


def questions_of(paragraphs: Sequence[Paragraph]) -> list[Question]:
    """All questions."""
    return [
        Question(question.text, doc_id_of(paragraph), tuple(text for text, _ in question.answers))
        for paragraph in paragraphs
        for question in paragraph.questions
    ]


def sentences_of(engine: Engine) -> Callable[[float | None], Reader]:
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
    make: Callable[[float | None], Reader],
    passages: str,
    k: int,
    asked: Sequence[Question],
    tuning: Sequence[Question],
) -> None:
    """One row: answerable questions always answered, then all questions with a threshold from the tuning ones."""
    reader = make(NEVER_REFUSE)
    given = passages == "given"
    found, tuned = (answers_to(engine, reader, part, 0 if given else k) for part in (asked, tuning))
    limit = chosen_threshold(tuned, tuning)
    pairs = list(zip(found, asked, strict=True))
    answerable = [(answer, question) for answer, question in pairs if question.answers]
    hit = mean([any(right(question, hit) for hit in answer.sources) for answer, question in answerable])
    holds = mean([any(text in answer.text for text in q.answers) for answer, q in answerable])
    always = [mean([measure(a.text, q.answers) for a, q in answerable]) for measure in (exact_match, f1)]
    all_of = [mean([measure(text_above(a, limit), q.answers) for a, q in pairs]) for measure in (exact_match, f1)]
    none = mean([not question.answers for question in asked])
    row = " ".join(f"{100 * value:6.1f}" for value in (hit, holds, *always))
    rest = " ".join(f"{100 * value:7.1f}" for value in (*all_of, none))
    print(f"{reader.name[:34]:34} {passages:12} {row} {rest} {limit:9.3f}", flush=True)


def answers_to(engine: Engine, reader: Reader, questions: Sequence[Question], k: int) -> list[Answer]:
    """What the reader finds in the k best hits, or in the question's own paragraph where k is 0."""
    if k:
        hits = engine.search([question.text for question in questions], k)
    else:
        hits = [[Hit(engine.documents[question.doc_id], 0.0)] for question in questions]
    return [reader.read(question.text, found) for question, found in zip(questions, hits, strict=True)]


def chosen_threshold(answers: Sequence[Answer], questions: Sequence[Question]) -> float:
    """The score from which on answering gives the highest F1 over all questions."""
    pairs = zip(answers, questions, strict=True)
    return best_threshold([(a.score, a.text, q.answers) for a, q in pairs if a.score is not None])


def show_default(engine: Engine, reader: Reader, asked: Sequence[Question], foreign: Sequence[str], k: int) -> None:
    """How often a reader answers at its own threshold: questions of each kind, and foreign ones."""
    kinds = {
        "answerable": [question.text for question in asked if question.answers],
        "unanswerable but close": [question.text for question in asked if not question.answers],
        "about something else": list(foreign),
    }
    print(f"\nanswered by the {reader.name} at its own threshold, top {k}:")
    for kind, texts in kinds.items():
        if texts:
            found = [reader.read(text, hits) for text, hits in zip(texts, engine.search(texts, k), strict=True)]
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


def train_reader(squad: Path, flags: argparse.Namespace) -> str:
    """A reader made of half of the articles; one that was made so before is taken."""
    options = ReaderOptions(epochs=flags.epochs, held_out=CHOOSING_SHARE, seed=flags.seed, threads=flags.threads)
    folder = flags.output / "reader"
    manifest = train_reader_from_file(squad, options, output=folder, progress=Console())
    results = manifest.results
    print(f"reader: MiniLM, {results['examples']} questions, {manifest.seconds:.0f} s on {manifest.device}")
    print("on what chose its threshold, from given paragraphs:", results["held_out"])
    return str(folder)


if __name__ == "__main__":
    main()
