"""The commands whose outputs are golden: every stage on the toy collection, with tiny models, in float32.

They run one after another in one folder, each from outputs of those before it. All paths are relative, so that what a
command writes about itself is the same everywhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

API = "http://api.invalid"  # stands for the fake server's address
QUIET = ("--quiet",)
PLAIN = ("--device", "cpu", "--dtype", "float32", "--threads", "1", *QUIET)
TOY = ("--dataset", "toy/beir")
PROMPT = ("--prompt", "form.txt", "--examples", "examples.jsonl", "--num-examples", "1")
SHOWN = (*TOY, *PROMPT, "--max-doc-tokens", "40")
WRITE = (*SHOWN, "--max-new-tokens", "12", "--batch-size", "4")
QUERIES = ("--input", "toy/queries.synthetic.jsonl")
RERANK = ("rerank", *TOY, "--run", "runs/bm25.trec", "--depth", "4", "--batch-tokens", "256", *PLAIN)
SCORE = ("score", *QUERIES, *TOY, *PLAIN)
TRAIN = ("--triples", "triples/bm25.tsv", "--max-steps", "3", "--batch-size", "4", "--learning-rate", "1e-3", *PLAIN)
RERANKER = ("train", "reranker", *TRAIN, "--max-length", "96")
RETRIEVER = ("train", "retriever", *TRAIN, "--model", "models/encoder/model", "--max-length", "48")
ANSWERS = ("--true-token", "▁true", "--false-token", "▁false")
YES_NO = ("--true-token", " yes", "--false-token", " no")

EXACT = 0.0  # no float of it depends on the processor
MEASURES = 1e-9  # float64 arithmetic, the same but for the order of sums
# Float32 networks, whose products sum in an order of each processor's own. From AVX-512 to AVX2 and to none of either,
# the largest differences on the steps below are 8e-6 (of 1 + the value).
NETWORK = 5e-5
# The same after three steps of AdamW, which divides each gradient by its own size, be it rounding alone: a weight
# without influence moves by up to 3 times the learning rate of 1e-3. The largest difference of a sum is 3e-3; what the
# training is to change, tens of times that.
TRAINED = 1e-2


@dataclass(frozen=True, slots=True)
class Step:
    """One command, what it writes, and how near to the stored ones the floats of its outputs must be."""

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    tolerance: float = NETWORK
    java: bool = False
    module: str = ""  # a package of an extra that it needs

    def missing(self, java: bool) -> str:
        """Why it cannot run here; empty where it can."""
        if self.java and not java:
            return "pyserini, pyjnius or Java is missing"
        if self.module and importlib.util.find_spec(self.module) is None:
            return f"{self.module} is missing"
        return ""


def _step(name: str, command: tuple[str, ...], output: str, *more: str, **settings: object) -> Step:
    return Step(name, (*command, "--output", output), (output, *more), **settings)  # type: ignore[arg-type]


def _ingesting() -> Iterator[Step]:
    yield _step(
        *("ingest-dataset", ("ingest", *TOY, *QUIET), "collection/corpus.jsonl"),
        *("collection/queries.jsonl", "collection/qrels/dev.tsv", "collection/qrels/test.tsv"),
        tolerance=EXACT,
    )
    flags = ("--tokenizer", "words", "--max-tokens", "40", "--overlap", "8", *QUIET)
    yield _step("ingest-files", ("ingest", "--documents", "files", *flags), "files.jsonl", tolerance=EXACT)


def _generating() -> Iterator[Step]:
    words = ("generate", "--model", "models/words", *WRITE, *PLAIN)
    yield _step("generate", words, "queries.jsonl")
    llama = ("generate", "--model", "models/llama", *WRITE, *PLAIN)
    yield _step("generate-bytes", llama, "bytes.jsonl")
    many = ("generate", "--model", "models/words", "--corpus", "many.jsonl", *WRITE[2:], *PLAIN)
    yield _step("generate-many", many, "many.queries.jsonl")
    drawn = ("--num-queries", "2", "--temperature", "1", "--top-p", "0.9", "--seed", "7", "--max-documents", "6")
    command = ("generate", "--model", "models/gpt_neox", *WRITE, *PLAIN, *drawn, "--examples-choice", "random")
    yield _step("generate-drawn", (*command, "--pairs", "pairs"), "drawn.jsonl", "pairs")
    command = ("generate", "--backend", "seq2seq", "--model", "models/t5", *TOY, *PLAIN, "--max-documents", "6")
    yield _step("generate-seq2seq", (*command, "--max-new-tokens", "12", "--batch-size", "4"), "seq2seq.jsonl")
    for backend in ("completions", "chat"):
        command = ("generate", "--corpus", "numbered.jsonl", "--backend", backend, "--base-url", API, "--model", "fake")
        flags = ("--max-new-tokens", "8", "--price-file", "prices.yaml", "--concurrency", "2", *QUIET)
        yield _step(f"generate-{backend}", (*command, *flags), f"{backend}.jsonl", tolerance=EXACT)
    for part in ("1/2", "2/2"):
        shard = f"sharded.shard-0{part.replace('/', '-of-0')}.jsonl"
        yield Step(f"generate-shard-{part[0]}", (*words, "--shard", part, "--output", "sharded.jsonl"), (shard,))
    yield _step("merge", ("merge", *QUIET), "sharded.jsonl")


def _scoring() -> Iterator[Step]:
    command = (*SCORE, *PROMPT, "--max-doc-tokens", "40", "--model", "models/llama", "--batch-size", "4")
    yield _step("score-log-probs", command, "scores/log-probs.jsonl")
    many = ("score", "--input", "many.queries.jsonl", "--corpus", "many.jsonl", *PLAIN)
    command = (*many, *PROMPT, "--max-doc-tokens", "40", "--model", "models/words", "--batch-size", "4")
    yield _step("score-many-log-probs", command, "scores/many-log-probs.jsonl")
    command = (*many, "--kind", "reranker", "--model", "models/t5", *ANSWERS, "--batch-tokens", "256")
    yield _step("score-many-monot5", command, "scores/many-monot5.jsonl")
    kinds = {
        "monot5": ("t5", *ANSWERS),
        "cross-encoder": ("classifier",),
        "causal": ("llama", *YES_NO),
        "query-likelihood": ("llama", *PROMPT),
    }
    for kind, (model, *flags) in kinds.items():
        command = (*SCORE, "--kind", "reranker", "--reranker-kind", kind, "--model", f"models/{model}", *flags)
        yield _step(f"score-{kind}", (*command, "--batch-tokens", "256"), f"scores/{kind}.jsonl")
    command = (*SCORE, "--kind", "bm25-rank", "--depth", "10")
    yield _step("score-bm25-rank", command, "scores/bm25-rank.jsonl", tolerance=EXACT, java=True)
    encoder = ("--model", "models/encoder/model", "--batch-size", "4")
    yield _step("score-dense-rank", (*SCORE, "--kind", "dense-rank", *encoder), "scores/dense-rank.jsonl")
    command = ("score", "--input", "queries.jsonl", *TOY, *PLAIN, "--kind", "cluster", *encoder, "--clusters", "4")
    yield _step("score-cluster", command, "scores/cluster.jsonl")
    command = (*SCORE, "--kind", "answerability", "--model", "models/reader", "--batch-tokens", "256")
    yield _step("score-answerability", command, "scores/answerability.jsonl")


def _filtering() -> Iterator[Step]:
    yield _step("filter", ("filter", *QUERIES, "--top-k", "4", *QUIET), "filtered/toy.jsonl", tolerance=EXACT)
    command = ("filter", "--input", "queries.jsonl", "--min-tokens", "2", "--drop-near-duplicates", *QUIET)
    yield _step("filter-generated", (*command, "--no-drop-unstopped", "--top-k", "24"), "filtered/generated.jsonl")
    command = ("filter", *QUERIES, "--scores", "scores/dense-rank.jsonl", "--scores", "scores/cross-encoder.jsonl")
    rules = (
        "--select",
        "dense_rank:max=20",
        "--select",
        "reranker:top-k=3",
        "--spread-over",
        "opening",
        "--top-k",
        "3",
    )
    yield _step("filter-by-scores", (*command, *rules, *QUIET), "filtered/scores.jsonl")
    command = ("filter", *QUERIES, "--scores", "scores/cross-encoder.jsonl", "--compare", "--compare-top-k", "2")
    yield _step(
        "filter-compare", (*command, "--write-kept", "kept", *QUIET), "laboratory.html", "laboratory.json", "kept"
    )
    command = ("split", "--input", "filtered/generated.jsonl", *TOY, "--dev-share", "0.3", *QUIET)
    outputs = ("split/train.jsonl", "split/dev.jsonl", "split/dev.queries.jsonl", "split/dev.qrels.tsv")
    yield Step("split", (*command, "--output-train", outputs[0], "--output-dev", outputs[1]), outputs)


def _mining() -> Iterator[Step]:
    command = ("triples", "--input", "filtered/generated.jsonl", *TOY, *PLAIN, "--per-query", "2", "--ranks", "1-10")
    encoder = ("--retriever", "models/encoder/model")
    rescored = ("--rescore", "models/classifier", "--rescore-candidates", "4", "--margin", "0.01")
    kinds = {
        "bm25": rescored,
        "dense": ("--negatives", "dense", *encoder),
        "both": ("--negatives", "both", *encoder, "--positive-within", "25"),
        "random": ("--negatives", "random"),
    }
    for kind, flags in kinds.items():
        names = [f"triples/{kind}{end}" for end in (".tsv", ".ids.tsv", ".negatives.jsonl")]
        run = () if kind == "random" else ("triples/negatives.trec",)
        yield _step(f"triples-{kind}", (*command, *flags), *names, *run, java=True)
    command = ("triples", *TOY, "--negatives", "random", "--per-query", "2", *PLAIN)
    names = [f"triples/judged{end}" for end in (".tsv", ".ids.tsv", ".negatives.jsonl")]
    yield _step("triples-judged", command, *names, tolerance=EXACT)
    for action in ("keep", "drop", "relabel"):
        command = ("audit", "--triples", "triples/judged.tsv", *TOY, "--model", "models/classifier", f"--{action}")
        names = [f"audited/{action}{end}" for end in (".tsv", ".ids.tsv", ".negatives.jsonl", ".audit.json")]
        yield _step(f"audit-{action}", (*command, "--batch-tokens", "256", *PLAIN), *names)


def _training() -> Iterator[Step]:
    for loss in ("mnrl", "cached-mnrl", "margin-mse"):
        flags = ("--loss", loss, *(("--mini-batch-size", "2") if loss == "cached-mnrl" else ()))
        yield _step(f"train-retriever-{loss}", (*RETRIEVER, *flags), f"tuned/{loss}", tolerance=TRAINED, java=True)
    kinds = {
        "monot5": ("t5",),
        "cross-encoder": ("classifier", "--loss", "margin-mse"),
        "causal": ("llama", "--lora-rank", "4", *YES_NO),
        "query-likelihood": ("llama", "--lora-rank", "0", "--prompt", "form.txt"),
    }
    for kind, (model, *flags) in kinds.items():
        command = (*RERANKER, "--kind", kind, "--model", f"models/{model}", *flags)
        yield _step(f"train-{kind}", command, f"tuned/{kind}", tolerance=TRAINED, java=True)
    dev = (*TOY, "--dev-queries", "split/dev.queries.jsonl", "--dev-qrels", "split/dev.qrels.tsv", "--dev-depth", "4")
    command = (*RERANKER, "--kind", "cross-encoder", "--model", "models/classifier", "--validate-every", "1", *dev)
    yield _step("train-validated", command, "tuned/validated", tolerance=TRAINED, java=True)
    command = ("train", "reader", "--squad", "squad.json", "--model", "models/reader", "--max-steps", "3", *PLAIN)
    yield _step("train-reader", (*command, "--batch-size", "4"), "tuned/reader", tolerance=TRAINED)


def _searching() -> Iterator[Step]:
    command = ("search", *TOY, "--k", "10", *PLAIN)
    encoder = ("--retriever", "models/encoder/model", "--batch-size", "4")
    yield _step("search-bm25", command, "runs/bm25.trec", tolerance=EXACT, java=True)
    yield _step("search-dense", (*command, *encoder), "runs/dense.trec")
    yield _step("search-windows", (*command, *encoder, "--window-tokens", "12"), "runs/windows.trec")
    yield _step("search-fused", (*command, "--retriever", "bm25", *encoder), "runs/fused.trec", java=True)
    build = ("index", "build", *TOY, *encoder, "--index", "index", *PLAIN)
    yield Step("index-build", build, ("index",))
    add = ("index", "add", "--corpus", "numbered.jsonl", "--index", "index", "--batch-size", "4", *PLAIN)
    yield Step("index-add", add, ("index",))
    delete = ("index", "delete", "--ids", "d01", "d02", "d3", "--index", "index", *QUIET)
    yield Step("index-delete", delete, ("index",))
    command = ("search", "--index", "index", "--queries", "toy/beir/queries.jsonl", "--k", "10", *PLAIN)
    yield _step("search-index", command, "runs/index.trec")


def _reranking() -> Iterator[Step]:
    kinds = {
        "monot5": ("models/t5", *ANSWERS),
        "cross-encoder": ("tuned/cross-encoder", "--fuse"),
        "causal": ("models/llama", *YES_NO),
        "query-likelihood": ("models/llama", *PROMPT[:2]),
    }
    for kind, (model, *flags) in kinds.items():
        command = (*RERANK, "--kind", kind, "--model", model, *flags)
        tolerance = TRAINED if model.startswith("tuned") else NETWORK
        yield _step(f"rerank-{kind}", command, f"runs/{kind}.trec", java=True, tolerance=tolerance)
    windows = ("--windows", "maxp", "--window-tokens", "16", "--max-length", "48", "--run", "runs/dense.trec")
    command = (*RERANK, "--model", "models/classifier", *windows)
    yield _step("rerank-windows", command, "runs/windowed.trec", java=True)


def _judging() -> Iterator[Step]:
    """By all twelve queries of both splits: of fewer than ten no test of a difference is made."""
    judged = ("--corpus", "toy/beir/corpus.jsonl", "--queries", "toy/beir/queries.jsonl", "--qrels", "judged.tsv")
    search = ("search", *judged, "--k", "10", *PLAIN)
    yield _step("search-judged", search, "runs/judged.trec", tolerance=EXACT, java=True)
    command = ("evaluate", *judged, "--run", "runs/judged.trec", "--run", "runs/index.trec", "--run", "toy/run.trec")
    yield _step("evaluate", (*command, "--wins", "1", *QUIET), "metrics.json", tolerance=MEASURES, java=True)


def _exchanging() -> Iterator[Step]:
    """Out and in again, by every format."""
    triples = ("--triples", "triples/judged.tsv", *TOY)
    formats = {
        "inpars": ("toy.jsonl", QUERIES),
        "inpars-v1": ("toy-v1.jsonl", QUERIES),
        "inpars-triples": ("quoted.tsv", triples),
        "gpl": ("gpl", triples),
        "beir": ("beir", triples),
        "msmarco": ("msmarco", triples),
        "msmarco-triples": ("triples.tsv", triples),
        "msmarco-ids": ("ids.tsv", triples),
        "trec": ("trec", (*triples, "--run", "toy/run.trec")),
        "flagembedding": ("flag.jsonl", triples),
        "tevatron": ("tevatron.jsonl", triples),
        "rank-llm": ("requests.jsonl", ("--run", "toy/run.trec", *TOY)),
        "llama-index": ("llama.json", triples),
        "sentence-transformers": ("columns.parquet", triples),
    }
    for name, (file, flags) in formats.items():
        module = "pyarrow" if file.endswith(".parquet") else ""
        command = ("export", "--format", name, *flags, *QUIET)
        yield _step(f"export-{name}", command, f"theirs/{file}", tolerance=EXACT, module=module)
        if name != "msmarco-ids":  # ids alone cannot come back without their texts
            command = ("import", "--format", name, "--input", f"theirs/{file}", *QUIET)
            yield _step(f"import-{name}", command, f"ours/{name}", tolerance=EXACT, module=module)


def _running() -> Iterator[Step]:
    models = ("--model", "models/words", "--retriever", "models/encoder/model", "--reranker", "models/classifier")
    small = ("--max-documents", "8", "--max-doc-tokens", "40", "--max-new-tokens", "12", "--positive-within", "30")
    less = ("--rerank-depth", "3", "--limit", "4", "--k", "10", "--window-tokens", "0", "--prompt", "form.txt")
    less += ("--reranker-max-length", "96", "--training", "always")
    command = ("run", *TOY, *models, *small, *less, *PLAIN)
    runs = [f"run/runs/{name}.trec" for name in ("bm25", "whole", "fusion", "tuned", "mix", "mix.reranked")]
    runs += [f"run/choice/{name}" for name in ("bm25.trec", "whole.trec", "tuned.trec", "choice.json", "topics")]
    names = ["run/queries.synthetic.jsonl", "run/queries.filtered.jsonl", "run/triples.tsv", "run/triples.ids.tsv"]
    names += ["run/negatives.trec", "run/models/retriever", "run/models/reranker", *runs]
    names += [f"run/queries.{side}.jsonl" for side in ("to_train_on", "to_choose_by")]
    names += ["run/topics", "run/metrics.json", "run/report.json"]
    yield Step("run", (*command, "--output", "run"), tuple(names), tolerance=TRAINED, java=True)


STEPS = [
    *_ingesting(),
    *_generating(),
    *_scoring(),
    *_filtering(),
    *_mining(),
    *_searching(),
    *_training(),
    *_reranking(),
    *_judging(),
    *_exchanging(),
    *_running(),
]
