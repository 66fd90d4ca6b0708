"""Prompts, manifests, journals and the folder of a run: files that this package itself leaves and reads again."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fuzzing.cases import Files
from fuzzing.seeds import (
    BREAD,
    CORPUS,
    QRELS,
    QUERIES,
    RISE,
    RUN,
    SOUR,
    SYNTHETIC,
    TIDE,
    TRIPLES,
    Seed,
    jsonl,
    one,
    pretty,
)

PROMPT = f"""description: a test
system: You write queries.
instruction: Write a query.
form: |
  Example {{number}}:
  Document: {{document}}
  Relevant Query: {{query}}
stop: ["\\n", "Example"]
examples:
  - document: >-
      {BREAD}
    query: {RISE}
  - {{document: "{TIDE}", query: tides, doc_id: d3}}
"""
TOOLKIT_PROMPT = """only:
  mode: dynamic
  template: "Document: {document}\\nQuery: {query}"
"""
PRICES = "as_of: 2026-01-01\nbatch_factor: 0.5\nmodels:\n  m: {input: 2.0, output: 8}\n  n: {input: 0, output: 1e-3}\n"
SITEMAP = '<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>http://a.b/c</loc></url></urlset>'
HEADER = {"partial": "fuzz", "settings": hashlib.sha256(b"{}").hexdigest()}
EXAMPLES = jsonl(
    {"document": BREAD, "query": RISE}, {"document": TIDE, "query": "tides", "bad_query": "x", "doc_id": "d3"}
)
ANSWERS = jsonl(
    {"query_id": "d1-q0", "request": "a" * 64, "text": RISE, "log_probs": [-0.5, -0.25], "stop_log_prob": -0.1}
    | {"finish_reason": "stop", "input_tokens": 30, "output_tokens": 4, "usd": 0.25},
    {"lost_usd": 0.5},
    {"query_id": "d2-q0", "request": "b" * 64, "text": "", "log_probs": None, "stop_log_prob": None}
    | {"finish_reason": "error", "input_tokens": 0, "output_tokens": 0, "usd": 0},
)
PARTIAL = jsonl(
    HEADER,
    {"query_id": "d1-q0", "doc_id": "d1", "query": RISE, "log_probs": [-0.5]},
    {"whole_chunk_of": 1},
    {"query_id": "d2-q0", "doc_id": "d2", "query": SOUR, "log_probs": [-0.25]},
    {"whole_chunk_of": 2},
)
BATCHES = pretty(
    {"batches": [{"mark": "m", "settings": "s", "requests": ["a" * 64], "batch_id": None, "collected": False}]}
)
INDEX = pretty(
    {"model": "minilm", "weights": "w", "width": 4, "structure": "auto", "generation": 1, "format": 1}
    | {"segments": [{"name": "s1", "documents": 2, "structure": "exact", "deleted": None}]}
)


def stamp(path: str, content: bytes, records: int | None = None) -> dict[str, Any]:
    """A file by content, as manifests have it."""
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "records": records}


def manifest(stage: str, output: dict[str, Any], inputs: dict[str, Any], **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
    """The manifest of a stage."""
    return {
        "stage": stage,
        "arguments": arguments,
        "inputs": inputs,
        "output": output,
        "seed": 0,
        "dropped": {"copied": 1},
        "results": {"read": 3, "tokens": 12, "mean_log_prob": -0.5},
        "device": "cpu",
        "started": f"2026-01-02T03:04:{len(stage):02}+00:00",
        "seconds": 1.5,
        "versions": {"python": "3.12.0", "inpars": "1.0"},
        "git_commit": None,
    }


def metrics() -> dict[str, Any]:
    """What `evaluate --output` writes."""
    values = {"q1": 0.5, "q2": 0.25}
    system = {
        "means": {"nDCG@10": 0.375},
        "per_query": {"nDCG@10": values},
        "queries": 2,
        "missing": 0,
        "judged_at_10": 1.0,
    }
    return {"systems": {"bm25": system, "tuned": system}, "differences": {"nDCG@10": {}}}


def _folder_stamp(files: Files) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name])
    return {"path": "topics", "sha256": digest.hexdigest(), "size": sum(map(len, files.values())), "records": 2}


def run_folder() -> Files:
    """The folder of a small run, whose manifests fit its files."""
    topics = {"qrels.tsv": QRELS, "queries.jsonl": QUERIES}
    mark: dict[str, Any] = {
        "dataset": "toy",
        "corpus_sha256": hashlib.sha256(CORPUS).hexdigest(),
        "command": "inpars run",
    }
    mark |= {"source": {"split": "test"}, "prompt": "inpars", "documents": ""}
    measures = pretty(metrics())
    synthetic, kept = stamp("queries.synthetic.jsonl", SYNTHETIC, 3), stamp("queries.filtered.jsonl", SYNTHETIC, 3)
    corpus, run = stamp("corpus.jsonl", CORPUS, 3), stamp("runs/bm25.trec", RUN, 4)
    queries = stamp("test queries", json.dumps({"q1": RISE, "q2": SOUR}).encode())
    triples = stamp("triples.tsv", TRIPLES["triples.tsv"], 3)
    search = {"retriever": ["bm25"], "k": 10, "k1": 0.9, "b": 0.4, "language": "en", "dtype": "float32"}
    made = {
        "queries.synthetic.jsonl": manifest(
            "generate", synthetic, {"corpus": corpus, "prompt": stamp("inpars", b"x")}, model="m"
        ),
        "queries.filtered.jsonl": manifest("filter", kept, {"queries": synthetic}, top_k=3),
        "triples.tsv": manifest("triples", triples, {"queries": kept, "corpus": corpus}, ranks="1-100"),
        "runs/bm25.trec": manifest("search", run, {"queries": queries, "corpus": corpus}, **search),
        "runs/tuned.trec": manifest(
            "fuse", stamp("runs/tuned.trec", RUN, 4), {"bm25": run, "dense": run}, depth=10, k=10
        ),
        "topics": manifest("topics", _folder_stamp(topics), {"topics": stamp("test topics", b"x")}, split="test"),
        "metrics.json": manifest(
            "evaluate", stamp("metrics.json", measures, 2), {"bm25": run, "tuned": run}, metrics="nDCG@10"
        ),
    }
    report = {
        "results": {
            "systems": [{"name": "bm25", "means": {"nDCG@10": 0.375}}, {"name": "tuned", "means": {"nDCG@10": 0.375}}]
        }
    }
    return {
        "run.json": pretty(mark),
        "metrics.json": measures,
        "report.json": pretty(report),
        "queries.synthetic.jsonl": SYNTHETIC,
        "queries.filtered.jsonl": SYNTHETIC,
        "runs/bm25.trec": RUN,
        "runs/tuned.trec": RUN,
        **{f"topics/{name}": content for name, content in topics.items()},
        **{name: content for name, content in TRIPLES.items() if name != "margins.tsv"},
        **{f"{name}.manifest.json": pretty(content) for name, content in made.items()},
    }


def _shards() -> Files:
    files: dict[str, bytes] = {}
    lines = SYNTHETIC.splitlines(keepends=True)
    for number, own in ((1, lines[:2]), (2, lines[2:])):
        name, content = f"q.shard-{number:05}-of-00002.jsonl", b"".join(own)
        made = manifest(
            "generate",
            stamp(name, content, len(own)),
            {"corpus": stamp("corpus.jsonl", CORPUS, 3)},
            shard=f"{number}/2",
        )
        places = "0-1" if number == 1 else "2"
        made["results"] |= {"shard": {"items": 3, "places": places}}
        files |= {name: content, f"{name}.manifest.json": pretty(made)}
    return files


STATE: dict[str, Seed] = {
    "prompt": one("prompt.yaml", PROMPT.encode()),
    "prompt toolkit": one("prompt.yaml", TOOLKIT_PROMPT.encode()),
    "prompt text": one("prompt.txt", b"Document: {document}\nRelevant Query: {query}\n"),
    "examples": one("examples.jsonl", EXAMPLES),
    "prices": one("prices.yaml", PRICES.encode()),
    "manifest": Seed(
        "out.jsonl",
        lambda: {
            "out.jsonl": SYNTHETIC,
            "out.jsonl.manifest.json": pretty(
                manifest("filter", stamp("out.jsonl", SYNTHETIC, 3), {"corpus": stamp("c", CORPUS)}, k=1)
            ),
        },
    ),
    "journal": one("q.jsonl.answers.jsonl", ANSWERS),
    "batches": one("q.jsonl.batches.json", BATCHES),
    "partial": one("out.jsonl.partial", PARTIAL),
    "scores partial": one("out.partial", jsonl(HEADER, {"pairs": "0" * 16, "scores": [1.0, 2.0]})),
    "index": one("index.json", INDEX),
    "run folder": Seed("", run_folder),
    "shards": Seed("", _shards),
    "ids": one("ids.txt", b"q1\tx\nq2\n"),
    "sitemap": one("page.xml", SITEMAP.encode()),
}
