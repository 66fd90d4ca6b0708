"""The stage that exports a tuned model for another engine and checks that it ranks there as before.

All score the same pairs on the CPU, the original in float32; the manifest has size, speed, nDCG@10, rank correlation.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

from inpars.documents.datasets import Dataset
from inpars.errors import BackendError, ConfigError
from inpars.evaluation.measures import evaluate
from inpars.io.manifest import FileStamp, Manifest
from inpars.io.storage import atomic_folder
from inpars.io.topics import Topics
from inpars.models.compute_options import use_threads
from inpars.models.folders import check_output
from inpars.options import SEED, option
from inpars.records import Qrels, Run
from inpars.stages.stage import Outcome, Running, Stage, model_stamp
from inpars.training.examples import Group

if TYPE_CHECKING:
    from inpars.contrib.export.exportable import Exportable, Score
    from inpars.rerankers.pair_model import Pair

STAGE = "export model"
METRIC = "nDCG@10"
WRITERS = {"onnx": "graphs", "gguf": "gguf_file", "pylate": "pylate_folder"}
OTHERS = 20  # unjudged documents per sampled query
TOLERANCE = 1e-3  # relative, for scores in float32
MAX_NDCG_LOSS = 0.01  # of nDCG@10; a larger loss is noted


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportModelOptions:
    """The settings of a model export and its check."""

    model: str = option(help="tuned model: folder, embedded name or hub id")
    kind: Literal["auto", "bi-encoder", "cross-encoder", "monot5", "multi-vector"] = option(
        "auto", help="what the model is; auto reads its configuration"
    )
    format: Literal["onnx", "gguf", "pylate"] = option(
        "onnx",
        help="onnx: graphs for ONNX Runtime; gguf: a bi-encoder for llama.cpp; pylate: a multi-vector retriever's "
        "folder, which PyLate loads",
    )
    int8: bool = option(True, help="also write a graph or GGUF file with int8 weights")
    openvino: bool = option(False, help="also write OpenVINO's graph, openvino_model.xml (extra openvino)")
    llama_cpp: Path | None = option(
        None,
        help="for --format gguf: folder of llama.cpp with convert_hf_to_gguf.py and, in build/bin or on the PATH, "
        "llama-server",
        changes_result=False,
    )
    max_length: int | None = option(None, help="maximum input length in tokens (default: the model's limit)", minimum=1)
    true_token: str | None = option(None, help="monoT5 token that means relevant")
    false_token: str | None = option(None, help="output token that means not relevant")
    sample: int = option(20, help="queries for the check", minimum=1)
    threads: int | None = option(None, help="CPU threads (default: one per core)", changes_result=False, minimum=1)
    trust_remote_code: bool = option(False, help="run code that comes with a hub model", changes_result=False)
    seed: int = option(0, help="seed of the sample", bounds=SEED)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A query of the check with its documents; relevant ones have a gain above 0."""

    query: str
    documents: tuple[str, ...]
    gains: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the results table."""

    form: str
    megabytes: float
    pairs_per_second: float
    ndcg: float
    rank_correlation: float


def sample_of_groups(groups: Sequence[Group], count: int, seed: int) -> list[Sampled]:
    """Sample queries of triples, each with its positive and negatives."""
    chosen = random.Random(seed).sample(groups, min(count, len(groups)))
    return [
        Sampled(group.query, (group.positive, *group.negatives), (1, *[0] * len(group.negatives))) for group in chosen
    ]


def sample_of_dataset(dataset: Dataset, topics: Topics, count: int, seed: int) -> list[Sampled]:
    """Sample judged queries, each with its judged and some other documents. Raises ConfigError if none is judged."""
    judged = [query_id for query_id in topics.qrels if query_id in topics.queries]
    if not judged:
        raise ConfigError(f"{dataset.name}: no judged queries for the check; give --triples instead")
    generator, doc_ids = random.Random(seed), [document.doc_id for document in dataset.corpus]
    samples = []
    for query_id in generator.sample(judged, min(count, len(judged))):
        gains = {doc_id: gain for doc_id, gain in topics.qrels[query_id].items() if doc_id in dataset.corpus}
        others = [doc_id for doc_id in generator.sample(doc_ids, min(OTHERS, len(doc_ids))) if doc_id not in gains]
        texts = dataset.corpus.texts([*gains, *others])
        samples.append(Sampled(topics.queries[query_id], tuple(texts), (*gains.values(), *[0] * len(others))))
    return samples


def export_model(
    options: ExportModelOptions,
    sampled: Callable[[], Sequence[Sampled]],
    inputs: Mapping[str, FileStamp],
    *,
    output: Path,
    **running: Unpack[Running],
) -> Manifest:
    """Write the folder `output`. Raises BackendError, and writes nothing, if a float32 form scores differently."""
    check_output(output)
    if options.openvino and options.format != "onnx":
        raise ConfigError(f"--openvino is for --format onnx; leave it out with --format {options.format}")
    if options.llama_cpp is not None and options.format != "gguf":
        raise ConfigError(f"--llama-cpp is for --format gguf; leave it out with --format {options.format}")
    stage = Stage(STAGE, options, output, {"model": model_stamp(options.model), **inputs}, **running)

    def work() -> Outcome:
        from inpars.contrib.export.exportable import load_exportable

        use_threads(options.threads)
        names = ("kind", "max_length", "true_token", "false_token", "trust_remote_code")
        model = load_exportable(options.model, **{name: getattr(options, name) for name in names})
        with atomic_folder(output) as working:
            rows = _write(model, stage, working, sampled())
        return Outcome(None, {}, {"kind": model.kind, "table": [asdict(row) for row in rows]})

    return stage.run(work)


def _write(model: Exportable, stage: Stage, folder: Path, sampled: Sequence[Sampled]) -> list[Measured]:
    from inpars.cards.card import carry_card

    options: ExportModelOptions = stage.options
    stage.note(f"writing a {model.kind} as {options.format}")
    pairs = [(sample.query, document) for sample in sampled for document in sample.documents]
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.graph.parameters())
    rows: list[Measured] = []
    original: list[float] = []
    write = import_module(f"inpars.contrib.export.{WRITERS[options.format]}").write_forms
    for form in write(model, folder, options):
        if not rows:  # after what the writer refuses, because it takes a while
            original, speed = _timed(model.scores, pairs)
            rows.append(_measured("torch, float32", weights, speed, sampled, original, original))
        scores, speed = _timed(form.score, pairs)
        if not form.rounded:
            _check_equal(options.model, original, scores)
        size = sum(path.stat().st_size for path in form.files)
        rows.append(_measured(form.name, size, speed, sampled, scores, original))
        if rows[-1].ndcg < rows[0].ndcg - MAX_NDCG_LOSS:
            stage.note(f"warning: {form.name} loses {rows[0].ndcg - rows[-1].ndcg:.3f} {METRIC} on the sample")
    for line in model.notes:
        stage.note(line)
    carry_card(options.model, folder, stage.output.name, STAGE.replace(" ", "-"))
    return rows


def _timed(score: Score, pairs: Sequence[Pair]) -> tuple[list[float], float]:
    """Scores and pairs per second, timed after a warm-up call."""
    score(pairs)
    start = time.perf_counter()
    scores = score(pairs)
    return scores, len(pairs) / (time.perf_counter() - start)


def _check_equal(model: str, original: Sequence[float], scores: Sequence[float]) -> None:
    worst = max((abs(a - b) / (1 + abs(a)) for a, b in zip(original, scores, strict=True)), default=0.0)
    if not worst <= TOLERANCE:
        raise BackendError(f"{model}: the exported model scores otherwise than before (by {worst:.2g}); not written")


def _measured(
    form: str, size: int, speed: float, sampled: Sequence[Sampled], scores: Sequence[float], original: Sequence[float]
) -> Measured:
    qrels: Qrels = {str(n): {str(m): gain for m, gain in enumerate(sample.gains)} for n, sample in enumerate(sampled)}
    runs = [_as_run(sampled, values) for values in (scores, original)]
    correlations = [_rank_correlation(runs[0][key], runs[1][key]) for key in qrels]
    return Measured(
        form,
        round(size / 1e6, 2),
        round(speed, 2),
        round(evaluate(runs[0], qrels, [METRIC]).means[METRIC], 4),
        round(math.fsum(correlations) / len(correlations), 4),
    )


def _as_run(sampled: Sequence[Sampled], scores: Iterable[float]) -> Run:
    stream = iter(scores)
    return {str(n): {str(m): next(stream) for m in range(len(sample.documents))} for n, sample in enumerate(sampled)}


def _rank_correlation(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Spearman's over one query's documents; if all scores of a side tie, 1 if those of the other do too, else 0."""
    from scipy.stats import spearmanr

    sides = [list(values.values()) for values in (first, second)]
    varied = [len(set(scores)) > 1 for scores in sides]
    if not all(varied):
        return float(varied[0] == varied[1])
    return float(spearmanr(*sides).statistic)
