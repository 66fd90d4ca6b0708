"""The stage that trains a reader: questions with marked answers in, a model folder out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from inpars.documents.readers.squad import Paragraph, read_squad
from inpars.errors import DataFormatError
from inpars.io.manifest import Manifest, stamp
from inpars.models.folders import require_utf8
from inpars.stages.stage import Outcome, Running, Stage, model_stamp

if TYPE_CHECKING:
    from inpars.training.options import ReaderOptions
    from inpars.training.reader import Example


def train_reader_from_file(
    squad: Path, options: ReaderOptions, *, output: Path, **running: Unpack[Running]
) -> Manifest:
    """Train a reader on a file in SQuAD's form, whose articles in part choose the least score of an answer."""
    require_utf8(output)
    inputs = {"questions": stamp(squad), "model": model_stamp(options.model)}
    stage = Stage("train reader", options, output, inputs, **running)

    def work() -> Outcome:
        from inpars.training.reader import train_reader

        options.set_up()
        training, held_out = (
            examples_of(part) for part in by_article(read_squad(squad), options.held_out, options.seed)
        )
        training = training[: options.limit]
        if not training:
            raise DataFormatError("no questions are left to train on; lower --held-out", path=squad)
        curve, measures, device = train_reader(training, held_out, options, **stage.training)
        results = {"examples": len(training), "curve": asdict(curve), "held_out": measures}
        return Outcome(None, {}, results, device)

    return stage.run(work)


def by_article(
    paragraphs: Sequence[Paragraph], share: float, seed: int
) -> tuple[Sequence[Paragraph], Sequence[Paragraph]]:
    """The paragraphs of most articles, and those of about a share of them; by paragraph where there is one article."""
    names = [paragraph.title for paragraph in paragraphs]
    if len(set(names)) == 1:
        names = [str(paragraph.number) for paragraph in paragraphs]
    order = sorted(set(names))
    random.Random(seed).shuffle(order)
    chosen = set(order[: round(share * len(order))])
    pairs = list(zip(names, paragraphs, strict=True))
    return [paragraph for name, paragraph in pairs if name not in chosen], [
        paragraph for name, paragraph in pairs if name in chosen
    ]


def examples_of(paragraphs: Sequence[Paragraph]) -> Sequence[Example]:
    """Their questions, in order."""
    from inpars.training.reader import Example

    return [
        Example(question.text, paragraph.text, question.answers)
        for paragraph in paragraphs
        for question in paragraph.questions
    ]
