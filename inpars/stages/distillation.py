"""A teacher's scores of triples for distillation: computed once, from mining, or GPL's margins.

`inpars triples --rescore MODEL` stores a reranker's scores in `NAME.negatives.jsonl`; `--teacher MODEL` computes those
of any scorer and saves them in `NAME.teacher.jsonl` for later trainings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from inpars.batches import slices
from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.io.fields import checked_id, finite_number, number_of
from inpars.io.manifest import FileStamp, Manifest, stamp
from inpars.io.storage import read_jsonl, read_lines, write_jsonl
from inpars.io.triples import MARGINS
from inpars.models.compute_options import ComputingOptions
from inpars.options import option
from inpars.progress import SILENT, Progress
from inpars.prompts.load import load_prompt
from inpars.prompts.templates import Prompt
from inpars.protocols import PairScorer
from inpars.records import Triple
from inpars.rerankers.kinds import ScorerKind
from inpars.stages.partial import ScoreCache
from inpars.stages.rerank import RerankOptions, load_run_scorer
from inpars.stages.stage import Outcome, Stage, input_stamps, model_stamp
from inpars.stages.triple_files import beside_triples, negatives_path, read_triple_rows
from inpars.training.examples import TripleTexts

if TYPE_CHECKING:
    from inpars.training.options import RerankerOptions, RetrieverOptions

STAGE = "teach"
PAIRS_PER_PART = 256  # scores saved together

TeacherScores: TypeAlias = Mapping[tuple[str, str], float]
"""(query text, document text) -> score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachOptions(ComputingOptions):
    """The teacher."""

    teacher: str = option(help="scorer: a folder, an embedded name or a hub id")
    kind: ScorerKind | Literal["auto"] = option("auto", help="what it is; auto reads its configuration")
    max_length: int | None = option(None, help="tokens of query and document together", minimum=1)
    limit: int | None = option(None, help="only the first N triples", minimum=1)


def teacher_inputs(triples: Path, options: RetrieverOptions | RerankerOptions) -> dict[str, FileStamp]:
    """The stamp of the teacher's scores. Raises ConfigError if margin-mse has none."""
    if options.teacher is not None:
        return {"teacher": model_stamp(options.teacher)}
    if options.loss != "margin-mse":
        return {}
    if margins_path(triples).exists():
        return {"teacher's margins": stamp(margins_path(triples))}
    if not negatives_path(triples).exists():
        raise _no_scores(triples)
    return {"teacher's scores": stamp(negatives_path(triples))}


def teacher_scores(
    triples: Path, options: RetrieverOptions | RerankerOptions, progress: Progress
) -> TeacherScores | None:
    """The teacher's scores, computed if the options name a model; None for training without a teacher."""
    if options.teacher is None and options.loss != "margin-mse":
        return None
    if options.teacher is None:
        return read_margins(triples) if margins_path(triples).exists() else read_mined(triples)
    prompt = load_prompt(options.teacher_prompt) if options.teacher_prompt else None
    teach_options = TeachOptions(teacher=options.teacher, limit=options.limit, **options.computing)
    teach(triples, teach_options, prompt=prompt, progress=progress)
    return read_taught(triples, options.limit)


def with_scores(
    rows: Sequence[TripleTexts], teacher: TeacherScores | None, progress: Progress
) -> Sequence[TripleTexts]:
    """The rows with both teacher's scores; all rows without a teacher."""
    if teacher is None:
        return rows
    scored = [row for row in rows if {(row.query, row.positive), (row.query, row.negative)} <= teacher.keys()]
    if len(scored) < len(rows):
        progress.note(f"{len(rows) - len(scored)} of {len(rows)} triples have no teacher's score and are left out")
    return scored


def teach(
    triples: Path,
    options: TeachOptions,
    *,
    prompt: Prompt | None = None,
    make_scorer: Callable[[], PairScorer] | None = None,
    progress: Progress = SILENT,
) -> Manifest:
    """Write the teacher's score of every distinct pair of the triples, in order of first appearance."""
    output = teacher_path(triples)
    inputs = {"triples": stamp(triples)} | input_stamps(prompt=prompt, teacher=options.teacher)
    stage = Stage(STAGE, options, output, inputs, progress=progress)

    def load() -> PairScorer:
        scorer_options = RerankOptions(
            model=options.teacher, kind=options.kind, max_length=options.max_length, **options.computing
        )
        return load_run_scorer(scorer_options, prompt)

    def work() -> Outcome:
        pairs, scores = _pairs(triples, options.limit), list[float]()
        parts = progress.track(slices(pairs, PAIRS_PER_PART), total=len(pairs), description=STAGE, unit="pairs")
        with ScoreCache(stage.partial, make_scorer or load) as scorer:
            for part in parts:
                scores += scorer.score(part)
                progress.advance(len(part))
        count = write_jsonl(output, ({"score": score} for score in scores))
        return Outcome(count, {}, {"pairs": count})

    return stage.run(work)


def read_taught(triples: Path, limit: int | None = None) -> TeacherScores:
    """The scores that `teach` wrote for these triples and limit. Raises StaleInputError if they do not match."""
    path = teacher_path(triples)
    scores = [number_of(row.get("score"), "score", path, line) for line, row in read_jsonl(path)]
    pairs = _pairs(triples, limit)
    if len(scores) != len(pairs):
        raise StaleInputError(f"{path} has {len(scores)} scores for {len(pairs)} pairs; remove it to recompute them")
    return dict(zip(pairs, scores, strict=True))


def read_mined(triples: Path) -> TeacherScores:
    """A reranker's scores that mining wrote next to the triples. Raises ConfigError if there are none."""
    path, names = negatives_path(triples), ("positive_reranker_score", "reranker_score")
    scores: dict[tuple[str, str], float] = {}
    for line, row in enumerate(read_triple_rows(triples), start=1):
        origin = row.origin or {}
        if any(origin.get(name) is None for name in names):
            raise _no_scores(triples)
        for text, name in zip((row.texts.positive, row.texts.negative), names, strict=True):
            scores[row.texts.query, text] = number_of(origin[name], name, path, line)
    return scores


def _no_scores(triples: Path) -> ConfigError:
    return ConfigError(
        f"{triples}: no teacher's scores found next to these triples; give --teacher MODEL, or mine them with "
        "`inpars triples --rescore MODEL`"
    )


def read_margins(triples: Path) -> TeacherScores:
    """Scores from GPL's `margins.tsv`. Raises ConfigError if it matches no triple.

    A margin is a difference, so positives get 0 and negatives minus their margin. GPL computes margins for some of its
    hard negatives; the other triples have no score.
    """
    path = margins_path(triples)
    margins, scores = dict(_read_margins(path)), dict[tuple[str, str], float]()
    for row in read_triple_rows(triples):
        if row.ids in margins:
            scores[row.texts.query, row.texts.positive] = 0.0
            scores[row.texts.query, row.texts.negative] = -margins[row.ids]
    if not scores:
        raise ConfigError(f"{path}: no margin matches these triples, or {triples.name} has no ids next to it")
    return scores


def _read_margins(path: Path) -> Iterator[tuple[Triple | None, float]]:
    for number, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) != 4:
            problem = f"{len(fields)} tab-separated columns, 4 are needed: query, positive, negative, margin"
            raise DataFormatError(problem, path=path, line=number, excerpt=line)
        yield Triple(*(checked_id(field, path, number) for field in fields[:3])), finite_number(fields[3], path, number)


def margins_path(triples: Path) -> Path:
    """`margins.tsv` next to the triples, which `inpars import` converts from `gpl-training-data.tsv`."""
    return triples.with_name(MARGINS)


def teacher_path(triples: Path) -> Path:
    """The teacher's scores: `triples.teacher.jsonl` for `triples.tsv`."""
    return beside_triples(triples, "teacher.jsonl")


def _pairs(triples: Path, limit: int | None) -> list[tuple[str, str]]:
    texts = itertools.islice((row.texts for row in read_triple_rows(triples)), limit)
    return list(dict.fromkeys((row.query, text) for row in texts for text in (row.positive, row.negative)))
