"""Predicts how long work will take from a short measurement, and compares earlier predictions with the actual times.

Random documents are measured in the chunks that a stage computes together, in random order: chunks are sorted by
length, so the first ones would cover only short inputs. The rate is the ratio of all items to all seconds, with an
interval from the variance between parts. Start-up (loading, compiling, one warm-up part) counts separately, once per
worker.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from inpars.batches import slices
from inpars.documents.selection import choose_documents
from inpars.errors import ConfigError
from inpars.generation import generate_each
from inpars.io.corpus import Corpus
from inpars.io.manifest import Manifest, read_manifest
from inpars.io.storage import AppendedLines, read_jsonl, to_json_line
from inpars.models.compute_options import ComputingOptions
from inpars.options import SEED, check, option
from inpars.prompts.load import ExampleOptions, named_prompt
from inpars.records import Document
from inpars.stages.generate import GenerateOptions, load_generator
from inpars.stages.rerank import RerankOptions, load_run_scorer
from inpars.stages.search import SearchOptions, load_encoder

CONFIDENCE = 0.95
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """Items and seconds of each measured part, and the start-up time before the first."""

    startup_seconds: float
    parts: tuple[tuple[int, float], ...]

    @property
    def items(self) -> int:
        return sum(items for items, _ in self.parts)

    @property
    def seconds(self) -> float:
        return math.fsum(seconds for _, seconds in self.parts)

    @property
    def seconds_per_item(self) -> float:
        return self.seconds / self.items

    @property
    def margin(self) -> float | None:
        """Half the 95% interval of the seconds per item, relative to them; None for a single part.

        Ratio estimator: Cochran, Sampling Techniques, 1977, section 6.5, with Student's t.
        """
        count, ratio = len(self.parts), self.seconds_per_item
        if count < 2:
            return None
        from scipy.stats import t

        squares = math.fsum((seconds - ratio * items) ** 2 for items, seconds in self.parts)
        error = math.sqrt(squares / (count * (count - 1))) / (self.items / count)
        return float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error / ratio


def measure(
    start: Callable[[], Iterable[Callable[[], int]]], seconds: float, clock: Callable[[], float] = time.monotonic
) -> Measurement:
    """Start the work, run one part to warm up, and measure parts until the time is over or none is left.

    A part returns its number of items. Raises ConfigError for fewer than two parts.
    """
    began = clock()
    parts = iter(start())
    warm = next(parts, None)
    if warm is None:
        raise ConfigError("there is nothing to measure; give a larger corpus")
    warm()
    ready, measured = clock(), list[tuple[int, float]]()
    for part in parts:
        before = clock()
        measured.append((part(), clock() - before))
        if clock() - ready >= seconds:
            break
    if not measured:
        raise ConfigError("the corpus is too small to measure after warming up; give a larger one")
    return Measurement(ready - began, tuple(measured))


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted time for a number of items and workers."""

    work: str
    model: str
    device: str
    items: int
    workers: int
    seconds: float  # elapsed
    low: float | None  # bounds of the 95% interval
    high: float | None
    startup_seconds: float  # per worker, included in `seconds`
    seconds_per_item: float
    output: str | None = None
    made: str = ""

    @property
    def worker_hours(self) -> float:
        return self.seconds * self.workers / HOUR


def predict(
    measured: Measurement, *, work: str, model: str, device: str, items: int, workers: int, output: Path | None = None
) -> Prediction:
    """The prediction for workers as fast as the measurement, each with one start and an equal share."""

    def after(share: float) -> float:
        return measured.startup_seconds + math.ceil(items / workers) * measured.seconds_per_item * (1 + share)

    margin = measured.margin
    return Prediction(
        work=work,
        model=model,
        device=device,
        items=items,
        workers=workers,
        seconds=after(0.0),
        low=None if margin is None else after(-min(margin, 1.0)),
        high=None if margin is None else after(margin),
        startup_seconds=measured.startup_seconds,
        seconds_per_item=measured.seconds_per_item,
        output=None if output is None else str(output.resolve()),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """An earlier prediction and the actual time."""

    prediction: Prediction
    seconds: float

    @property
    def error(self) -> float:
        """Relative error; 0.1 if the prediction was 10% too long."""
        return self.prediction.seconds / self.seconds - 1


def remember(prediction: Prediction, file: Path) -> None:
    """Append a prediction to the file."""
    with AppendedLines(file) as lines:
        lines.append([to_json_line(asdict(prediction))])


def last_checked(file: Path, work: str, model: str) -> Checked | None:
    """The latest prediction for this work and model whose output has been made since."""
    matching = [
        checked for checked in _checked(file) if (checked.prediction.work, checked.prediction.model) == (work, model)
    ]
    return matching[-1] if matching else None


def _checked(file: Path) -> Iterator[Checked]:
    if not file.exists():
        return
    for _, record in read_jsonl(file):
        try:
            prediction = Prediction(**record)
        except TypeError:
            continue  # written by another version
        manifest = None if prediction.output is None else read_manifest(Path(prediction.output))
        if manifest is not None and manifest.started >= prediction.made:
            seconds = _actual_seconds(manifest, prediction)
            if seconds:
                yield Checked(prediction, seconds)


def _actual_seconds(manifest: Manifest, prediction: Prediction) -> float | None:
    """Elapsed seconds, of the longest shard if sharded; None if items or shards differ from the prediction."""
    shards: Sequence[dict[str, Any]] = manifest.results.get("shards") or ()
    names = ("documents", "pairs", "queries")
    items = next((int(manifest.results[name]) for name in names if name in manifest.results), None)
    if items != prediction.items or (len(shards) or prediction.workers) != prediction.workers:
        return None
    return max((float(shard["seconds"]) for shard in shards), default=manifest.seconds)


Work: TypeAlias = Literal["generate", "embed", "rerank"]
DEFAULT_MODELS: dict[Work, str] = {"generate": "smollm2-135m", "embed": "minilm", "rerank": "smollm2-135m"}
ITEMS: dict[Work, str] = {"generate": "documents", "embed": "documents", "rerank": "pairs"}
SAMPLE = 4096  # documents drawn at random
EMBEDDED_TOGETHER, RERANKED_TOGETHER = 256, 128
QUERY_WORDS = 8  # of another document, as a query


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateOptions(ComputingOptions):
    """What to measure and predict."""

    work: Work = option("generate", help="work to measure: query generation, document embedding, or reranking")
    model: str | None = option(None, help="embedded name, folder or hub id (default: smollm2-135m; minilm to embed)")
    seconds: float = option(60.0, help="seconds to measure, start-up excluded", minimum=0.1)
    items: int | None = option(None, help="number of documents, or pairs to rerank (default: all documents)", minimum=1)
    workers: int = option(1, help="number of workers as fast as this machine", minimum=1)
    price_per_hour: float | None = option(None, help="price per worker and hour, to report the cost", minimum=0)
    prompt: str = option("inpars", help="prompt name or file for generation", metavar="NAME|PATH")
    max_doc_tokens: int = option(256, help="maximum tokens of a document in the prompt", minimum=1)
    max_new_tokens: int = option(64, help="maximum tokens per query", minimum=1)
    batch_size: int | None = option(None, help="documents per batch (default: the stage's)", minimum=1)
    seed: int = option(0, help="random seed", bounds=SEED)

    @property
    def model_name(self) -> str:
        return self.model or DEFAULT_MODELS[self.work]


Parts: TypeAlias = tuple[str, Sequence[Callable[[], int]]]
"""The device of loaded work, and its parts."""


def measure_work(corpus: Corpus, options: EstimateOptions) -> tuple[Measurement, str]:
    """The measurement and the device it was made on."""
    check(options)
    documents = choose_documents(corpus, maximum=SAMPLE, seed=options.seed).documents
    device = ""

    def start() -> Iterator[Callable[[], int]]:
        nonlocal device
        device, parts = STARTS[options.work](documents, options)
        shuffled = list(parts)
        random.Random(options.seed).shuffle(shuffled)
        return iter(shuffled)

    return measure(start, options.seconds), device


def _generating(documents: Sequence[Document], options: EstimateOptions) -> Parts:
    settings = GenerateOptions(
        model=options.model_name,
        max_doc_tokens=options.max_doc_tokens,
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
        **options.computing,
    )
    generator = load_generator(settings, named_prompt(options.prompt, ExampleOptions(), settings.seed))
    chunks = generator.plan(documents)
    random.Random(options.seed).shuffle(chunks)  # here too: a generator may read several ahead
    written = generate_each(generator, ([documents[position] for position in chunk] for chunk in chunks))
    return generator.device, [lambda: len(next(written))] * len(chunks)


def _embedding(documents: Sequence[Document], options: EstimateOptions) -> Parts:
    settings = SearchOptions(**options.computing)
    encoder = load_encoder(options.model_name, replace(settings, batch_size=options.batch_size or settings.batch_size))
    texts = [document.full_text for document in documents]
    return _device(options), _parts(encoder.encode_documents, slices(texts, EMBEDDED_TOGETHER))


def _reranking(documents: Sequence[Document], options: EstimateOptions) -> Parts:
    scorer = load_run_scorer(RerankOptions(model=options.model_name, **options.computing))
    queries = [" ".join(document.full_text.split()[:QUERY_WORDS]) for document in documents]
    others = islice(cycle(documents), 1, None)  # the next document
    pairs = [(query, document.full_text) for query, document in zip(queries, others, strict=False)]
    return _device(options), _parts(scorer.score, slices(pairs, RERANKED_TOGETHER))


def _parts(compute: Callable[[Any], Any], batches: Iterable[Sequence[Any]]) -> list[Callable[[], int]]:
    return [lambda batch=batch: len(compute(batch)) for batch in batches]  # type: ignore[misc]


def _device(options: EstimateOptions) -> str:
    from inpars.models.hardware import describe, pick_device, pick_dtype

    device = pick_device(options.device)
    return describe(device, pick_dtype(options.dtype, device))


STARTS: dict[Work, Callable[[Sequence[Document], EstimateOptions], Parts]] = {
    "generate": _generating,
    "embed": _embedding,
    "rerank": _reranking,
}
