"""The generate stage: corpus and prompt in, synthetic queries out.

`chunk_loop.py` does the work, here or on workers; a killed run resumes after the last whole chunk.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack

import numpy as np

from inpars.documents.selection import Selection, choose_documents
from inpars.errors import ConfigError
from inpars.generation import QueryGenerator
from inpars.generation.api.budget import Estimate
from inpars.generation.api.options import ApiOptions, check_api
from inpars.generation.degeneration_monitor import WINDOW, result_notes
from inpars.generation.settings import DecodingSettings, LocalModel
from inpars.io.corpus import Corpus
from inpars.io.manifest import FileStamp, Manifest, stamp
from inpars.io.storage import read_jsonl
from inpars.options import SEED, Bounds, check, option
from inpars.progress import SILENT, Progress
from inpars.prompts.load import load_prompt
from inpars.prompts.mixture import PromptMixture, PromptSource
from inpars.prompts.templates import Prompt
from inpars.records import Document
from inpars.stages.chunk_loop import work_elsewhere
from inpars.stages.examples import read_ids, write_example_query_ids
from inpars.stages.generate_by_api import (
    SERVER_BACKENDS,
    estimate_cost,
    model_inputs,
    open_server,
    query_requests,
    work_and_pay,
)
from inpars.stages.generate_locally import BACKENDS, backend_help, default_help, load_local_generator
from inpars.stages.query_writer import Continued, QueryBlocks, QueryWriting, canary_of, known_queries, positions_in
from inpars.stages.shards import own_items
from inpars.stages.stage import Outcome, Running, Stage, dropped_line, input_stamps
from inpars.stages.workers import ShardedOptions, Workers, check_engine

STAGE = "generate"
BY_PROMPT = "by_prompt"
if TYPE_CHECKING:
    Backend: TypeAlias = str
else:
    Backend = Literal[*BACKENDS, *SERVER_BACKENDS]  # the choices of a flag


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions(ShardedOptions):
    """How queries are generated."""

    model: str = option(
        "smollm2-135m", help="language model: embedded name, folder, GGUF file or hub id, or a server's name for it"
    )
    backend: Backend = option("causal", help=backend_help())
    max_documents: int | None = option(
        None, help="number of documents to write queries for, sampled uniformly (default: all)", minimum=1
    )
    min_doc_characters: int = option(1, help="skip documents with fewer characters than this", minimum=0, advanced=True)
    doc_ids: Path | None = option(
        None, help="write for these documents only: a file with one id per line", advanced=True
    )
    select_documents: Literal["random", "diverse"] = option(
        "random",
        help="how the --max-documents are chosen; diverse: from ten times as many the most central of each k-means "
        "cluster of their embeddings",
        changes_result="unless default",
    )
    select_encoder: str = option(
        "minilm",
        help="bi-encoder for --select-documents diverse: embedded name, folder or hub id",
        changes_result="unless default",
        advanced=True,
    )
    skip_near_duplicates: bool = option(False, help="write for only one of several near-duplicate documents")
    max_doc_tokens: int = option(256, help="maximum tokens of a document in the prompt", minimum=1)
    max_new_tokens: int = option(64, help="maximum tokens per query", minimum=1)
    num_queries: int | None = option(None, help=f"queries per document {default_help('num_queries')}", minimum=1)
    temperature: float | None = option(
        None, help=f"sampling temperature; 0 is greedy {default_help('temperature')}", minimum=0
    )
    top_p: float | None = option(
        None,
        help=f"nucleus sampling: probability mass to sample from {default_help('top_p')}",
        bounds=Bounds(above=0, maximum=1),
        advanced=True,
    )
    seed: int = option(0, help="seed for sampling documents and tokens", bounds=SEED)
    batch_size: int | None = option(
        None,
        help="documents per batch (default: by available memory, at most 32 on a CPU)",
        changes_result=False,
        minimum=1,
        advanced=True,
    )
    canary: bool = option(
        True,
        help=f"stop once nearly all of the last {WINDOW} queries are unusable",
        changes_result=False,
        advanced=True,
    )

    def problems(self) -> Iterator[str]:
        if self.select_documents == "diverse":
            if self.max_documents is None:
                yield "--select-documents diverse chooses some of the documents; give --max-documents N"
            if self.skip_near_duplicates:
                yield "--select-documents diverse takes one of each cluster; leave --skip-near-duplicates out"
            if self.part is not None:
                yield "--select-documents diverse looks at all documents together; leave --shard out"


def generate_queries(
    corpus: Corpus,
    prompt: PromptSource,
    options: GenerateOptions,
    *,
    output: Path,
    make_generator: Callable[[], QueryGenerator],
    api: ApiOptions | None = None,
    workers: Workers | None = None,
    written: Path | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write `output` (a shard's file for a shard) and its manifest. The generator is loaded only if work is left.

    With `workers` each of them loads it: `make_generator` is pickled, so it must not hold a model. Queries are reused
    from `written`, an output of the same settings for fewer documents. Documents of the prompt's examples get none; the
    ids of the examples' queries go to a file next to the output, so that evaluation can leave them out.
    """
    inputs = input_stamps(corpus=corpus, prompt=prompt) | _own_inputs(options, api)
    stage = Stage(STAGE, options, output, inputs, **running)
    check_engine(options, workers)

    def work() -> Outcome:
        chosen = _choose(corpus, prompt, options)
        paid: Mapping[str, Any] = {}
        known = known_queries(written, options, inputs)
        continued = stage if known is None else replace(stage, inputs={**inputs, "written": known.stamp})
        if workers is not None:
            corpus_key = corpus.path.absolute(), corpus.sha256
            load = functools.partial(QueryBlocks, corpus_key, prompt, make_generator, options.canary)
            positions = positions_in(chosen.documents)
            finished = work_elsewhere(
                continued,
                workers,
                load,
                len(positions),
                lambda b: positions[b].copy(),
                description=f"generate with {options.model}",
                unit="documents",
            )
        else:
            generator = make_generator() if known is None else Continued(known, make_generator)
            canary = canary_of(prompt) if options.canary else None
            writing = QueryWriting(chosen.documents, generator, prompt, canary, options.part)
            finished, paid = work_and_pay(continued, writing, options.part, generator)
        for line in result_notes((record for _, record in read_jsonl(output)), options.max_new_tokens):
            stage.note(line)
        results = {"documents": finished.items, **paid, **finished.results}
        if isinstance(prompt, PromptMixture) and options.part is None:
            kinds = Counter(str(record["prompt"]) for _, record in read_jsonl(output))
            results[BY_PROMPT] = dict(sorted(kinds.items()))
        return Outcome(finished.lines, dict(chosen.dropped), results, finished.device)

    manifest = stage.run(work)
    write_example_query_ids(prompt, output)
    return manifest


def _own_inputs(options: GenerateOptions, api: ApiOptions | None) -> dict[str, FileStamp]:
    if options.backend in SERVER_BACKENDS and options.on_ray:
        raise ConfigError(
            f"--backend {options.backend} asks a server, --engine ray has workers with models; leave one out"
        )
    inputs = model_inputs(options.model, options.backend, api, STAGE)
    return inputs | ({} if options.doc_ids is None else {"doc_ids": stamp(options.doc_ids)})


def _choose(corpus: Corpus, prompt: PromptSource, options: GenerateOptions) -> Selection:
    chosen = choose_documents(
        corpus,
        maximum=options.max_documents,
        minimum_characters=options.min_doc_characters,
        seed=options.seed,
        doc_ids=None if options.doc_ids is None else read_ids(options.doc_ids),
        examples={example.doc_id for example in prompt.examples if example.doc_id},
        skip_near_duplicates=options.skip_near_duplicates,
        pick=functools.partial(_pick_diverse, options) if options.select_documents == "diverse" else None,
    )
    if not chosen.documents:
        if set(chosen.dropped) == {"too_short"}:
            raise ConfigError(
                f"none of the {len(corpus)} documents has {options.min_doc_characters} characters of text; "
                "lower --min-doc-characters"
            )
        raise ConfigError(f"no document is left to write for ({dropped_line(chosen.dropped)}); choose others")
    return chosen


def _pick_diverse(options: GenerateOptions, documents: Sequence[Document], count: int) -> Sequence[int]:
    """Positions of the most central document of each of `count` clusters."""
    from inpars.filtering.clusters import central_positions
    from inpars.stages.search import SearchOptions, load_encoder

    encoder = load_encoder(options.select_encoder, SearchOptions(**options.clustered))
    embeddings = encoder.encode_documents([document.full_text for document in documents])
    return list(map(int, central_positions(np.asarray(embeddings, dtype=np.float32), count, options.seed)))


def dry_run(corpus: Corpus, prompt: PromptSource, options: GenerateOptions, api: ApiOptions, output: Path) -> Estimate:
    """The estimated requests and cost of a server; sends and writes nothing."""
    check(options)
    check_api(api, asks_server=options.backend in SERVER_BACKENDS)
    documents, endpoint = _choose(corpus, prompt, options).documents, SERVER_BACKENDS[options.backend]
    items = own_items(len(documents), options.part)
    documents = documents[items.start : items.stop]
    requests = query_requests(endpoint, options.model, prompt, _settings(options), api)
    return estimate_cost(documents, requests, api, output)


def generator_maker(
    options: GenerateOptions,
    prompt: PromptSource,
    api: ApiOptions | None = None,
    output: Path = Path("queries.jsonl"),
    progress: Progress = SILENT,
) -> Callable[[], QueryGenerator]:
    """A function that loads the generator, here or in a worker."""
    if options.on_ray:
        return functools.partial(load_on_worker, options.for_worker(), prompt)
    return functools.partial(load_generator, options, prompt, api, output, progress)


def load_on_worker(options: GenerateOptions, prompt: PromptSource) -> QueryGenerator:
    """Like `load_generator`; uses vLLM if it is installed and the worker has a GPU, except for float32."""
    if options.backend == "causal" and options.gpus_per_worker and options.dtype != "float32" and find_spec("vllm"):
        options = replace(options, backend="vllm", device="auto")
    return load_generator(options, prompt)


def load_generator(
    options: GenerateOptions,
    prompt: PromptSource,
    api: ApiOptions | None = None,
    output: Path = Path("queries.jsonl"),
    progress: Progress = SILENT,
) -> QueryGenerator:
    """The generator that the options name; a server's saves its responses next to `output`. Imports torch or openai."""
    settings, api = _settings(options), api or ApiOptions()
    check_api(api, asks_server=options.backend in SERVER_BACKENDS)
    if (endpoint := SERVER_BACKENDS.get(options.backend)) is not None:
        return open_server(query_requests(endpoint, options.model, prompt, settings, api), api, output, progress)
    return load_local_generator(options.backend, LocalModel(options.model, prompt, settings, options))


def _settings(options: GenerateOptions) -> DecodingSettings:
    usual = BACKENDS.get(options.backend, BACKENDS["causal"])  # servers decode as `causal` does
    return DecodingSettings(
        max_doc_tokens=options.max_doc_tokens,
        max_new_tokens=options.max_new_tokens,
        num_queries=usual.num_queries if options.num_queries is None else options.num_queries,
        temperature=usual.temperature if options.temperature is None else options.temperature,
        top_p=usual.top_p if options.top_p is None else options.top_p,
        seed=options.seed,
        batch_size=options.batch_size,
    )


def default_prompt(backend: Backend) -> Prompt:
    """The default prompt: `inpars`, or the document alone for a backend that reads no prompt."""
    reads_prompt = backend not in BACKENDS or BACKENDS[backend].reads_prompt
    return load_prompt("inpars") if reads_prompt else Prompt(name="document", form="{document}")
