"""A teacher's scores of every pair of some triples, for distillation: computed once beside the triples, or mined.

`inpars triples --rescore MODEL` leaves a reranker's scores in `NAME.negatives.jsonl`; `--teacher MODEL` computes those
of any scorer, saved part by part in `NAME.teacher.jsonl`, which the next training with that teacher reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from inpars.errors import ConfigError, StaleInputError
from inpars.interchange.fields import number_of
from inpars.manifest import FileStamp, Manifest, stamp, stamp_text
from inpars.models.computing import ComputingOptions
from inpars.options import option
from inpars.progress import SILENT, Progress
from inpars.prompting.templates import Prompt
from inpars.protocols import PairScorer
from inpars.scoring.kinds import ScorerKind
from inpars.stages.mining import negatives_path
from inpars.stages.partial import Partial
from inpars.stages.remembered import RememberedScores
from inpars.stages.reranking import RerankOptions, load_run_scorer
from inpars.stages.stage import Outcome, model_stamp, run_stage
from inpars.stages.triple_rows import read_triple_rows
from inpars.storage import read_jsonl, write_jsonl

STAGE = "teach"
PAIRS_PER_PART = 256  # a part's scores are saved together

TeacherScores: TypeAlias = Mapping[tuple[str, str], float]
"""(query text, document text) -> score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachOptions(ComputingOptions):
    """Which scorer teaches."""

    teacher: str = option(help="scorer: a folder, an embedded name or a hub id")
    kind: ScorerKind | Literal["auto"] = option("auto", help="what it is; auto reads its configuration")
    max_length: int | None = option(None, help="tokens of query and document together", minimum=1)
    limit: int | None = option(None, help="only the first N triples", minimum=1)


def teach(
    triples: Path,
    options: TeachOptions,
    *,
    prompt: Prompt | None = None,
    make_scorer: Callable[[], PairScorer] | None = None,
    progress: Progress = SILENT,
) -> Manifest:
    """Write the teacher's score of every different pair of the triples, in the order of their first lines."""
    output = teacher_path(triples)
    inputs: dict[str, FileStamp] = {"triples": stamp(triples), "teacher": model_stamp(options.teacher)}
    if prompt is not None:
        inputs["prompt"] = stamp_text(prompt.name, prompt.text)

    def load() -> PairScorer:
        wanted = RerankOptions(
            model=options.teacher, kind=options.kind, max_length=options.max_length, **options.computing
        )
        return load_run_scorer(wanted, prompt)

    def work() -> Outcome:
        pairs = list(_pairs(triples, options.limit))
        parts = [pairs[start : start + PAIRS_PER_PART] for start in range(0, len(pairs), PAIRS_PER_PART)]
        scores: list[float] = []
        with RememberedScores(Partial.of(STAGE, options, inputs, output, progress), make_scorer or load) as scorer:
            for part in progress.track(parts, total=len(pairs), description=STAGE, unit="pairs"):
                scores += scorer.score(part)
                progress.advance(len(part))
        count = write_jsonl(output, ({"score": score} for score in scores))
        return Outcome(count, {}, {"pairs": count})

    return run_stage(STAGE, options, output=output, inputs=inputs, work=work, progress=progress)


def read_taught(triples: Path, limit: int | None = None) -> TeacherScores:
    """What `teach` wrote for these triples with this limit. Raises StaleInputError where it is of others."""
    path = teacher_path(triples)
    scores = [number_of(row.get("score"), "score", path, line) for line, row in read_jsonl(path)]
    pairs = list(_pairs(triples, limit))
    if len(scores) != len(pairs):
        raise StaleInputError(f"{path} has {len(scores)} scores for {len(pairs)} pairs; remove it to have them made")
    return dict(zip(pairs, scores, strict=True))


def read_mined(triples: Path) -> TeacherScores:
    """A reranker's scores that mining left beside the triples. Raises ConfigError where there are none."""
    path, names = negatives_path(triples), ("positive_reranker_score", "reranker_score")
    found: dict[tuple[str, str], float] = {}
    for line, row in enumerate(read_triple_rows(triples), start=1):
        origin = row.origin or {}
        if any(origin.get(name) is None for name in names):
            raise ConfigError(
                f"{triples}: no teacher's scores lie beside these triples; give --teacher MODEL, or mine them with "
                "`inpars triples --rescore MODEL`"
            )
        for text, name in zip((row.texts.positive, row.texts.negative), names, strict=True):
            found[row.texts.query, text] = number_of(origin[name], name, path, line)
    return found


def teacher_path(triples: Path) -> Path:
    """`triples.tsv` has `triples.teacher.jsonl` beside it."""
    return triples.with_name(f"{triples.name.removesuffix('.gz').removesuffix('.tsv')}.teacher.jsonl")


def _pairs(triples: Path, limit: int | None) -> Iterator[tuple[str, str]]:
    """Every different pair once."""
    texts = itertools.islice((row.texts for row in read_triple_rows(triples)), limit)
    return iter(dict.fromkeys((row.query, text) for row in texts for text in (row.positive, row.negative)))
