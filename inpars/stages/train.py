"""The training stages: triples in, a model folder with its card out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Unpack

from inpars.cards.card import CardFacts, write_card
from inpars.documents.datasets import Dataset
from inpars.documents.readers.squad import Paragraph, read_squad
from inpars.errors import ConfigError, DataFormatError
from inpars.io.formats import read_queries
from inpars.io.judgements import read_qrels
from inpars.io.manifest import FileStamp, Manifest, stamp
from inpars.models.folders import check_output
from inpars.options import result_settings
from inpars.progress import Progress
from inpars.prompts.templates import Prompt
from inpars.records import Query
from inpars.stages.distillation import TeacherScores, teacher_inputs, teacher_scores, with_scores
from inpars.stages.stage import Outcome, Running, Stage, input_stamps, model_stamp
from inpars.stages.triple_files import has_grades, negatives_path, read_grades
from inpars.training.examples import (
    NO_GRADES,
    Grades,
    TripleTexts,
    grouped,
    listed,
    pairs_once,
    read_triple_texts,
)

if TYPE_CHECKING:
    from inpars.training.loop import Curve
    from inpars.training.options import ReaderOptions, RerankerOptions, RetrieverOptions, ValidatedOptions
    from inpars.training.reader import Example
    from inpars.training.validation import DevSet


@dataclass(frozen=True, slots=True)
class _Material:
    """The training data of a model."""

    rows: Sequence[TripleTexts]
    dev: DevSet | None
    teacher: TeacherScores | None
    grades: Grades


Train: TypeAlias = Callable[["Stage", _Material], tuple["Curve", str, int]]
"""Trains a model; returns the curve, the device and the number of examples."""


def train_retriever_from_file(
    triples: Path,
    options: RetrieverOptions,
    *,
    output: Path,
    dataset: Dataset | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Fine-tune a bi-encoder; `--dev-queries` search the `dataset`."""
    from inpars.training.retriever import check_retriever, train_retriever

    check_retriever(options)

    def train(stage: Stage, material: _Material) -> tuple[Curve, str, int]:
        if material.grades:
            stage.note("each positive counts equally: no bi-encoder loss uses the grades next to the triples")
        rows = material.rows if options.negatives else pairs_once(material.rows)
        scores, margins = material.teacher, None
        if scores is not None:  # positive minus negative
            margins = {r: scores[r.query, r.positive] - scores[r.query, r.negative] for r in material.rows}
        curve, device = train_retriever(rows, options, margins=margins, dev=material.dev, **stage.training)
        return curve, device, len(rows)

    inputs = _inputs(triples, options, dataset)
    return _train(Stage("train retriever", options, output, inputs, **running), triples, train, dataset)


def train_reranker_from_file(
    triples: Path,
    options: RerankerOptions,
    *,
    output: Path,
    prompt: Prompt | None = None,
    dataset: Dataset | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Fine-tune a reranker; `--dev-queries` search the `dataset`, `prompt` is for query likelihood."""

    def train(stage: Stage, material: _Material) -> tuple[Curve, str, int]:
        from inpars.training.reranker import train_reranker

        groups = listed(material.rows, material.grades) if graded else grouped(material.rows)
        curve, device = train_reranker(
            groups, options, dev=material.dev, teacher=material.teacher, prompt=prompt, **stage.training
        )
        return curve, device, len(groups)

    graded = has_grades(triples) if options.graded is None else options.graded
    inputs = _inputs(triples, options, dataset, prompt)
    inputs |= {"grades": stamp(negatives_path(triples))} if graded and has_grades(triples) else {}
    return _train(Stage("train reranker", options, output, inputs, **running), triples, train, dataset)


def _inputs(
    triples: Path, options: RetrieverOptions | RerankerOptions, dataset: Dataset | None, prompt: Prompt | None = None
) -> dict[str, FileStamp]:
    inputs = {"triples": stamp(triples)} | input_stamps(prompt=prompt, model=options.model)
    return inputs | development_inputs(options, dataset) | teacher_inputs(triples, options)


def _train(stage: Stage, triples: Path, train: Train, dataset: Dataset | None) -> Manifest:
    check_output(stage.output)
    options: RetrieverOptions | RerankerOptions = stage.options

    def work() -> Outcome:
        from inpars.training.options import examples_seen
        from inpars.training.validation import validation_results, worse_than_start

        options.set_up()
        teacher = teacher_scores(triples, options, stage.progress)
        scored = with_scores(read_triple_texts(triples, options.limit), teacher, stage.progress)
        grades = read_grades(triples)
        rows, dev = separate_development(scored, options, dataset, stage.progress, grades)
        curve, device, examples = train(stage, _Material(rows, dev, teacher, grades))
        results = {"examples": examples_seen(examples, options), "curve": asdict(curve), **validation_results(curve)}
        if dev is not None:
            results["validated_by"] = dev.describe()
        if warning := worse_than_start(curve):
            stage.note(warning)
        write_card(stage.output, CardFacts(options.model, triples, result_settings(options), results, device))
        return Outcome(None, {}, results, device)

    return stage.run(work)


def development_inputs(options: ValidatedOptions, dataset: Dataset | None) -> dict[str, FileStamp]:
    """Stamps of the dev files. Raises ConfigError for an incomplete set of options."""
    paths = (options.dev_queries, options.dev_qrels)
    if paths == (None, None):
        return {}
    if None in paths:
        raise ConfigError("--dev-queries and --dev-qrels belong together; give both or neither")
    if options.validate_every is None:
        raise ConfigError("--dev-queries need validation; say how often with --validate-every N")
    if dataset is None:
        raise ConfigError("--dev-queries are searched in a corpus; give --dataset NAME or --corpus FILE")
    named = {"dev queries": options.dev_queries, "dev qrels": options.dev_qrels}
    return {name: stamp(path) for name, path in named.items() if path} | {"dev corpus": dataset.corpus_stamp}


def separate_development(
    rows: Sequence[TripleTexts],
    options: ValidatedOptions,
    dataset: Dataset | None,
    progress: Progress,
    grades: Grades = NO_GRADES,
) -> tuple[Sequence[TripleTexts], DevSet | None]:
    """The triples to train on, and the dev set (None without validation)."""
    from inpars.training.validation import hold_out

    if options.validate_every is None:
        return rows, None
    if options.dev_queries is not None and dataset is not None:
        dev = given_development(options, dataset, progress)
    else:
        rows, dev = hold_out(rows, depth=options.dev_depth, seed=options.seed, grades=grades)
    progress.note(f"validation by {dev.describe()}, {len(rows)} triples to train on")
    return rows, dev


def given_development(options: ValidatedOptions, dataset: Dataset, progress: Progress) -> DevSet:
    """A dev set of the judged queries with BM25's best documents."""
    from inpars.retrieval.bm25 import bm25_index
    from inpars.training.validation import DevSet

    queries_path, qrels_path = options.dev_queries, options.dev_qrels
    assert queries_path is not None
    assert qrels_path is not None
    qrels = read_qrels(qrels_path)
    dev_queries = read_queries(queries_path, progress.note)
    queries = {query.query_id: query.text for query in dev_queries if query.query_id in qrels}
    if not queries:
        raise ConfigError(
            f"{qrels_path}: none of its queries is in {queries_path}; give the judgements of these queries"
        )
    if not any(doc_id in dataset.corpus for query_id in queries for doc_id in qrels[query_id]):
        raise ConfigError(f"{qrels_path}: none of its documents is in {dataset.name}; give the judgements of these")
    index = bm25_index(dataset.corpus, threads=options.threads, progress=progress)
    run = index.search(
        [Query(query_id, text) for query_id, text in queries.items()], options.dev_depth, threads=options.threads
    )
    candidates = {query_id: list(run.get(query_id, {})) for query_id in queries}
    doc_ids = list(dict.fromkeys(doc_id for ranking in candidates.values() for doc_id in ranking))
    texts = dict(zip(doc_ids, dataset.corpus.texts(doc_ids), strict=True))
    return DevSet(queries, candidates, texts, {query_id: qrels[query_id] for query_id in queries})


def train_reader_from_file(
    squad: Path, options: ReaderOptions, *, output: Path, **running: Unpack[Running]
) -> Manifest:
    """Train a reader on a SQuAD file; held-out articles determine the minimum score of an answer."""
    check_output(output)
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
    """The paragraphs of training and of held-out articles; a single article is split by paragraph."""
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
    """The questions of the paragraphs, in order."""
    from inpars.training.reader import Example

    return [
        Example(question.text, paragraph.text, question.answers)
        for paragraph in paragraphs
        for question in paragraph.questions
    ]
