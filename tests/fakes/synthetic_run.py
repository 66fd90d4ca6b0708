"""A run's folder of any size without a model: made-up documents, queries, runs and trainings.

They are filtered, judged and reported by the package's own code. To look at one:
`python tests/fakes/synthetic_run.py FOLDER 10000`.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from inpars.documents.datasets import Dataset
from inpars.fusion.choice import OFFSETS, STEPS
from inpars.fusion.gate import PRIOR
from inpars.fusion.system import FirstStage, Reranking, SearchSystem
from inpars.io.corpus import Corpus
from inpars.io.formats import synthetic_query_record, write_documents, write_run
from inpars.io.manifest import Manifest, git_commit, stamp, stamp_text, versions, write_manifest
from inpars.io.storage import write_jsonl, write_lines
from inpars.io.topics import Topics
from inpars.pipeline.commands import Invocation, StageCommands
from inpars.pipeline.mark import write_mark
from inpars.pipeline.measurement import judge
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.results import Shipped, report_of
from inpars.pipeline.steps import Steps
from inpars.pipeline.system_runs import RunContext
from inpars.progress import SILENT
from inpars.prompts.load import load_prompt
from inpars.records import Document, SyntheticQuery
from inpars.report.render import write_report
from inpars.stages.filter import filter_file

NASTY = [
    "<script>document.title = 'run'</script>",
    "<img src=x onerror=\"document.title = 'run'\">",
    "</style></pre></code></svg><iframe src=//example.com>",
    "&lt;b&gt; &amp; &notanentity; &#x41 & <b",
    "\u202eright to left\u202c, nul \u0000, and \"' onmouseover='1",
]
WORDS = ["amber", "beacon", "canyon", "dolphin", "ember", "falcon", "glacier", "harbor", "island", "jasmine", "kettle"]
SYSTEMS = {"bm25": 0.35, "minilm": 0.4, "fusion": 0.42, "tuned": 0.43, "mix": 0.45, "mix + reranker": 0.5}
STAGES = (
    FirstStage(name="bm25", retriever="bm25"),
    FirstStage(name="whole", retriever="minilm"),
    FirstStage(name="tuned", retriever="minilm", window_tokens=96),
)
SYSTEM = SearchSystem(
    stages=STAGES, gate=PRIOR, reranking=Reranking(model=NASTY[1], depth=20), k1=0.9, b=0.4, language="en"
)
DOCUMENTS = 2_000
ARGUMENTS = {"search": {"retriever": ["bm25"], "k": 100, "k1": 0.9, "b": 0.4, "language": "en"}}
METRICS = ["nDCG@10"]


def make_run(folder: Path, queries: int, *, depth: int = 100, seed: int = 0) -> Path:
    """Fill the folder and return the path of its report."""
    chance = random.Random(seed)
    dataset = _dataset(folder, chance)
    options = PipelineOptions(top_k=queries // 2)
    asked = Invocation("inpars run --dataset toy --output toy", {"dataset": "toy", "split": "test"}, "inpars")
    write_mark(folder, dataset, asked)
    manifests = {"generate": _generate(folder, dataset, queries, chance)}
    manifests["filter"] = filter_file(
        folder / "queries.synthetic.jsonl", options.filtering, output=folder / "queries.filtered.jsonl"
    )
    manifests["triples"] = _triples(folder, dataset, chance)
    manifests |= {name: _training(folder, name, chance) for name in ("retriever", "reranker")}
    manifests["choose"] = _choose(folder, queries)
    topics = _topics(queries, chance)
    paths = {name: _search(folder, name, worth, topics, depth, chance) for name, worth in SYSTEMS.items()}
    judged = judge(folder, topics, paths, METRICS, progress=SILENT)
    shipped = Shipped("mix + reranker", SYSTEM, paths)
    steps = Steps(SILENT, options)
    run = RunContext(dataset, load_prompt("inpars"), options, folder, None, steps, False, StageCommands(asked))
    report = report_of(run, manifests, judged, METRICS, shipped=shipped)
    write_report(report, folder / "report.html")
    return folder / "report.html"


def _dataset(folder: Path, chance: random.Random) -> Dataset:
    documents = [
        Document(f"d{number}", f"{_sentence(chance, 40)} {NASTY[number % 5] if number % 3 else ''}", NASTY[number % 5])
        for number in range(DOCUMENTS)
    ]
    write_documents(folder / "corpus.jsonl", documents)
    return Dataset(f"toy {NASTY[0]}", Corpus(folder / "corpus.jsonl", folder / "cache"))


def _generate(folder: Path, dataset: Dataset, queries: int, chance: random.Random) -> Manifest:
    rows = []
    for number in range(queries):
        doc_id = f"d{number % DOCUMENTS}"
        log_probs = [-chance.expovariate(1.5) for _ in range(8)]
        text = f"{_sentence(chance, 6)} {NASTY[number % 5] if number % 4 == 0 else number}"
        query = SyntheticQuery(
            *(f"{doc_id}-q{number}", doc_id, text if number % 50 else "", tuple(log_probs), -0.1),
            *("length" if number % 17 == 0 else "stop", "raw", "inpars", "toy"),
        )
        rows.append(synthetic_query_record(query, dataset.corpus[doc_id]))
    output = folder / "queries.synthetic.jsonl"
    write_jsonl(output, rows)
    prompt = load_prompt("inpars")
    inputs = {"corpus": dataset.corpus_stamp, "prompt": stamp_text(prompt.name, prompt.text)}
    return _manifest("generate", output, inputs, queries, 3600.0, {"documents": queries, "usd": 1.25})


def _triples(folder: Path, dataset: Dataset, chance: random.Random) -> Manifest:
    output = folder / "triples.tsv"
    ids, negatives, texts = [], [], []
    for line in (folder / "queries.filtered.jsonl").read_text().splitlines():
        row = json.loads(line)
        negative = f"d{chance.randrange(DOCUMENTS)}"
        positive_score = 5 + 10 * chance.random()
        ids.append(f"{row['query_id']}\t{row['doc_id']}\t{negative}")
        texts.append("\t".join([" ".join(row["query"].split()), "a", "b"]))
        negatives.append(
            {"query_id": row["query_id"], "positive_doc_id": row["doc_id"], "negative_doc_id": negative}
            | {"source": "bm25", "rank": chance.randint(1, 100), "positive_score": positive_score}
            | {"score": positive_score * chance.betavariate(6, 3) * 1.15}
        )
    write_lines(output, texts)
    write_lines(folder / "triples.ids.tsv", ids)
    write_jsonl(folder / "triples.negatives.jsonl", negatives)
    inputs = {"queries": stamp(folder / "queries.filtered.jsonl"), "corpus": dataset.corpus_stamp}
    return _manifest("triples", output, inputs, len(texts), 60.0)


def _training(folder: Path, name: str, chance: random.Random) -> Manifest:
    output = folder / "models" / name
    output.mkdir(parents=True)
    (output / "config.json").write_text("{}")
    steps = list(range(1, 5001))
    losses = [0.2 + 2.0 / (1 + step / 200) + 0.1 * chance.random() for step in steps]
    checks = list(range(0, 5001, 250))
    values = [0.5 - 0.2 / (1 + step / 500) + 0.01 * chance.random() for step in checks]
    curve = {"steps": steps, "losses": losses, "validation_steps": checks, "validations": values}
    results = {"curve": curve, "validated_by": "200 synthetic dev queries"}
    inputs = {"triples": stamp(folder / "triples.tsv"), "model": stamp_text("toy", "toy")}
    return _manifest(f"train {name}", output, inputs, None, 1800.0, results)


def _choose(folder: Path, queries: int) -> Manifest:
    output = folder / "choice.json"
    curve = [0.5 - 0.3 * (step / STEPS - 0.6) ** 2 for step in range(STEPS + 1)]
    offsets = [0.5 - 0.002 * (offset - 0.75) ** 2 for offset in OFFSETS]
    gate = {"offset": 0.75}
    values = {"gate": gate, "queries": queries, "easy": queries // 3, "curve": curve, "offsets": offsets}
    values |= {"chosen": max(offsets), "before": offsets[len(OFFSETS) // 2], "equal": curve[STEPS // 2]}
    output.write_text(json.dumps(values))
    return _manifest("choose", output, {"queries": stamp(folder / "queries.filtered.jsonl")}, queries, 5.0, values)


def _topics(queries: int, chance: random.Random) -> Topics:
    texts = {f"t{number}": f"{_sentence(chance, 5)} {NASTY[number % 5]}" for number in range(queries)}
    return Topics("test", texts, {query_id: {f"d{chance.randrange(DOCUMENTS)}": 1} for query_id in texts})


def _search(folder: Path, name: str, worth: float, topics: Topics, depth: int, chance: random.Random) -> Path:
    run = {}
    for query_id, judged in topics.qrels.items():
        found = dict.fromkeys(f"d{number}" for number in chance.sample(range(DOCUMENTS), depth))
        scores = {doc_id: float(depth - place) for place, doc_id in enumerate(found)}
        if chance.random() < worth + 0.3:
            scores |= {doc_id: depth + 0.5 - int(chance.expovariate(worth)) for doc_id in judged}
        run[query_id] = scores
    output = folder / "runs" / f"{name.replace(' + reranker', '.reranked')}.trec"
    count = write_run(output, run, "toy")
    seconds, results = (300.0 if "reranker" in name else 30.0), {"queries": len(topics.queries)}
    _manifest("search", output, {"queries": topics.query_stamp}, count, seconds, results)
    return output


def _manifest(stage, output, inputs, records, seconds, results=None) -> Manifest:
    manifest = Manifest(
        stage=stage,
        arguments={"note": NASTY[2], **ARGUMENTS.get(stage, {})},
        inputs=inputs,
        output=stamp(output, records),
        results=results or {},
        device="cpu",
        started="2026-01-02T03:04:05+00:00",
        seconds=seconds,
        versions=versions(),
        git_commit=git_commit(),
    )
    write_manifest(manifest, output)
    return manifest


def _sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(words))


if __name__ == "__main__":
    print(make_run(Path(sys.argv[1]), int(sys.argv[2])))
