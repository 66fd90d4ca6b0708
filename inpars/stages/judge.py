"""The judge stage: pooled pairs of query and document in, qrels and a line per pair out.

Pairs are graded in chunks that are saved as they come, a server's responses first in its journal. A killed run resumes
after the last whole chunk. Graded pairs are never graded again, even if the pool grows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

from inpars.cache import canonical_name
from inpars.errors import BackendError, DataFormatError
from inpars.generation import PaidGenerator
from inpars.generation.api.budget import Estimate
from inpars.generation.api.options import ApiOptions, check_api
from inpars.generation.settings import DecodingSettings
from inpars.io.judgements import write_named_qrels
from inpars.io.manifest import FileStamp, Manifest, sha256_of, stamp_text
from inpars.io.model_judgements import (
    ModelJudgement,
    Origin,
    lines_path,
    origin_path,
    read_judgements,
    write_judgements,
    write_origin,
)
from inpars.io.storage import AppendedLines, read_jsonl, to_json_line
from inpars.judging import Graded, Judge, JudgeBackend, Pair
from inpars.models.compute_options import ComputingOptions
from inpars.options import SEED, check, option, result_settings
from inpars.progress import SILENT, Progress
from inpars.prompts.judging import JudgingPrompt
from inpars.records import Qrels
from inpars.stages.chunk_loop import Computed
from inpars.stages.generate_by_api import (
    SERVER_BACKENDS,
    estimate_cost,
    model_inputs,
    open_server,
    priced,
    work_and_pay,
)
from inpars.stages.partial import Partial
from inpars.stages.shards import BLOCK_ITEMS, Chunk, Plan, Shard
from inpars.stages.stage import Outcome, Running, Stage, model_stamp

if TYPE_CHECKING:
    from inpars.judging.local import LocalJudge
    from inpars.judging.server import GradeRequests

STAGE = "judge"
OF_THE_POOL = ("depth", "limit", "max_pairs", "seed")  # settings that select pairs and do not affect grades
SUFFIX = ".grades.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions(ComputingOptions):
    """Which pairs are judged, and by whom."""

    model: str = option(
        "smollm2-135m",
        help="embedded name, folder, GGUF file or hub id of a language model, or a server's name for it; the embedded "
        "ones grade no better than chance",
    )
    backend: JudgeBackend = option(
        "causal",
        help="causal: a decoder on this machine reads the pair, and its likeliest grade counts; completions, chat: an "
        "OpenAI-compatible server writes it",
    )
    depth: int = option(10, help="documents per run and query to judge", minimum=1)
    limit: int | None = option(None, help="use only the first N queries, for a quick try", minimum=1)
    max_pairs: int | None = option(None, help="judge a uniform sample of this many pairs (default: all)", minimum=1)
    max_doc_tokens: int = option(256, help="maximum tokens of a document in the prompt", minimum=1)
    max_new_tokens: int = option(256, help="maximum tokens per reply of a server", minimum=1)
    seed: int = option(0, help="random seed", bounds=SEED)
    batch_size: int | None = option(
        None, help="pairs per batch (default: 32 on a CPU, 256 on a GPU)", changes_result=False, minimum=1
    )


def judge_pairs(
    pairs: Sequence[Pair],
    corpus: FileStamp,
    prompt: JudgingPrompt,
    options: JudgeOptions,
    *,
    output: Path,
    make_judge: Callable[[], Judge],
    api: ApiOptions | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the qrels, the judgements and their origin next to them, and the manifest.

    Loads the judge only if work is left. Raises BackendError if no pair could be graded.
    """
    pool = "\n".join(to_json_line({"query_id": one.query_id, "doc_id": one.document.doc_id}) for one in pairs)
    queries = to_json_line({pair.query_id: pair.query for pair in pairs})
    inputs = {"pool": stamp_text("pool", pool), "queries": stamp_text("queries", queries), "corpus": corpus}
    inputs |= {"prompt": stamp_text(prompt.name, prompt.text)} | model_inputs(
        options.model, options.backend, api, STAGE
    )
    sides = (lines_path(output), origin_path(output))
    stage = Stage(STAGE, options, output, inputs, sides, **running)

    def work() -> Outcome:
        if stage.overwrite:
            grades_path(output).unlink(missing_ok=True)
        judge = make_judge()
        judging = Judging(pairs, judge, prompt.name)
        done, paid = work_and_pay(stage, judging, None, judge)
        problems = judging.problems
        results = {"pairs": done.items, "grades": judging.grades, "model": canonical_name(judge.name), **paid}
        if (parameters := getattr(judge, "parameters", None)) is not None:
            results["parameters"] = parameters
        return Outcome(done.items - sum(problems.values()), problems, results, done.device)

    return stage.run(work)


def check_judge(options: JudgeOptions, api: ApiOptions) -> None:
    """Raise early for unusable flags, models or prices."""
    check(options)
    endpoint = SERVER_BACKENDS.get(options.backend)
    check_api(api, asks_server=endpoint is not None)
    model_inputs(options.model, options.backend, api, STAGE)
    if endpoint is not None:
        priced(endpoint, options.model, api)


class Judging:
    """Pairs to grade; a server's responses are independent, so all pairs are one block."""

    unit, counted = "pairs", 0
    sums: Mapping[str, float] = MappingProxyType({})

    def __init__(self, pairs: Sequence[Pair], judge: Judge, prompt: str) -> None:
        self._pairs, self._judge, self._prompt = pairs, judge, prompt
        self.total, self.description, self.device = len(pairs), f"judge with {judge.name}", judge.device
        self._paid = judge if isinstance(judge, PaidGenerator) else None
        self.block = BLOCK_ITEMS if self._paid is None else max(self.total, 1)
        self.problems, self.grades = dict[str, int](), dict[str, int]()

    def plan(self, block: range) -> list[list[int]]:
        return self._judge.plan(self._pairs[block.start : block.stop])

    def compute(self, chunks: Iterator[Chunk], saved: Partial, done: int) -> Computed:
        if done and self._paid is not None:
            self._paid.skipped(self._pairs[:done])  # a server's chunks are in the order of the pairs
        for chunk in chunks:
            pairs = [self._pairs[position] for position in chunk.shard_positions]
            graded = self._judge.judge(pairs)
            records = [asdict(one) | {"pair": pair.key} for pair, one in zip(pairs, graded, strict=True)]
            yield records, self._paid.status() if self._paid else ""

    def write(self, part: Shard | None, plan: Plan, saved: Partial, output: Path) -> list[tuple[int, int]]:
        """Write the qrels and, next to them, each pair's judgement and the judge."""
        records = {record["pair"]: record for _, record in saved.records() if "pair" in record}
        model = canonical_name(self._judge.name)
        lines = [_judgement(pair, records[pair.key], model, self._prompt) for pair in self._pairs]
        graded = [line.grade for line in lines if line.grade is not None]
        self.problems = dict(Counter(line.problem for line in lines if line.grade is None))
        self.grades = {str(grade): count for grade, count in sorted(Counter(graded).items())}
        if not graded:
            raise BackendError(
                f"none of the {len(lines)} replies of {model} names a grade from 0 to 3; check --model and --prompt"
            )
        write_judgements(lines_path(output), lines)
        write_named_qrels(output, qrels_of(lines))
        write_origin(output, Origin(model, self._prompt, len(graded), sha256_of(output)))
        return [(position, 1) for position in range(self.total)]


def _judgement(pair: Pair, record: Mapping[str, Any], model: str, prompt: str) -> ModelJudgement:
    graded = {name: value for name, value in record.items() if name != "pair"}
    graded["grade_log_probs"] = tuple(record["grade_log_probs"])
    return ModelJudgement(pair.query_id, pair.document.doc_id, model=model, prompt=prompt, **graded)


def qrels_of(judgements: Sequence[ModelJudgement]) -> Qrels:
    """The qrels of the graded pairs."""
    qrels: Qrels = {}
    for one in judgements:
        if one.grade is not None:
            qrels.setdefault(one.query_id, {})[one.doc_id] = one.grade
    return qrels


def read_grades(output: Path) -> Qrels:
    """The grades stored next to qrels. Raises DataFormatError if there are none."""
    qrels = qrels_of(list(read_judgements(lines_path(output))))
    if not qrels:
        raise DataFormatError("no pair has a grade here", path=lines_path(output))
    return qrels


def load_judge(
    options: JudgeOptions, prompt: JudgingPrompt, api: ApiOptions, output: Path, progress: Progress = SILENT
) -> Judge:
    """The judge that the options name; a server's saves its responses next to `output`. Imports torch or openai."""
    if options.backend in SERVER_BACKENDS:
        from inpars.judging.server import ServerJudge  # loads openai

        return ServerJudge(open_server(_adapter(options, prompt, api), api, output, progress))
    check_api(api, asks_server=False)
    where = options.set_up()
    from inpars.judging.local import LocalJudge

    judge = LocalJudge(
        options.model, prompt, max_doc_tokens=options.max_doc_tokens, batch_size=options.batch_size, **where
    )
    settings = {name: value for name, value in result_settings(options).items() if name not in OF_THE_POOL}
    settings |= {"model": model_stamp(options.model).sha256, "prompt": prompt.text}
    return KeptGrades(judge, grades_path(output), to_json_line(settings))


def dry_run(
    pairs: Sequence[Pair], prompt: JudgingPrompt, options: JudgeOptions, api: ApiOptions, output: Path
) -> Estimate:
    """The estimated requests and cost of a server; sends and writes nothing."""
    check_api(api, asks_server=options.backend in SERVER_BACKENDS)
    return estimate_cost(pairs, _adapter(options, prompt, api), api, output)


def _adapter(options: JudgeOptions, prompt: JudgingPrompt, api: ApiOptions) -> GradeRequests:
    check_api(api, asks_server=True)
    settings = DecodingSettings(max_doc_tokens=options.max_doc_tokens, max_new_tokens=options.max_new_tokens)
    asks_log_probs = api.log_prob_kind != "absent"
    from inpars.judging.server import GradeRequests

    return GradeRequests(SERVER_BACKENDS[options.backend], options.model, prompt, settings, api.url, asks_log_probs)


def grades_path(output: Path) -> Path:
    """The file of a local judge's grades."""
    return output.with_name(output.name + SUFFIX)


class KeptGrades:
    """A `Judge` that caches the grades of a local one in a file."""

    def __init__(self, judge: LocalJudge, path: Path, settings: str) -> None:
        """Read the stored grades; `settings` is all that determines a grade besides the pair."""
        self._judge, self._path, self._settings = judge, path, settings
        self.name, self.device, self.parameters = judge.name, judge.device, judge.parameters
        self._known = _read(path)

    def plan(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """The judge's plan of all pairs, known or not, so that a resumed stage has the same chunks."""
        return self._judge.plan(pairs)

    def judge(self, pairs: Sequence[Pair]) -> list[Graded]:
        digests = [self._digest(pair) for pair in pairs]
        new = {digest: pair for digest, pair in zip(digests, pairs, strict=True) if digest not in self._known}
        if new:
            graded = dict(zip(new, self._judge.judge(list(new.values())), strict=True))
            with AppendedLines(self._path) as lines:
                lines.append(to_json_line({"pair": digest, **asdict(grade)}) for digest, grade in graded.items())
            self._known |= graded
        return [self._known[digest] for digest in digests]

    def _digest(self, pair: Pair) -> str:
        parts = (self._settings, pair.query, pair.document.full_text)
        return hashlib.blake2b("".join(f"{len(part)}\0{part}" for part in parts).encode(), digest_size=16).hexdigest()


def _read(path: Path) -> dict[str, Graded]:
    if not path.exists():
        return {}
    AppendedLines(path).close()  # drops a truncated last line
    known = {}
    for number, record in read_jsonl(path):
        try:
            digest = record.pop("pair")
            known[digest] = Graded(**record | {"grade_log_probs": tuple(record["grade_log_probs"])})
        except (KeyError, TypeError):
            raise DataFormatError("not a grade; remove this file to start over", path=path, line=number) from None
    return known
