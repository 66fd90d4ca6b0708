"""Scoring and reranking by workers: the bytes of one process, whatever their number."""

import pytest
from tiny_models import WORDS, sentence

from inpars.distributed import workers_of
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError, StaleInputError
from inpars.io.corpus import Corpus
from inpars.io.formats import synthetic_query_record, write_documents, write_run
from inpars.io.storage import write_jsonl
from inpars.io.topics import Topics
from inpars.prompts.templates import Prompt
from inpars.records import Document, SyntheticQuery
from inpars.stages.rerank import RerankOptions, rerank_file, run_scorer_maker
from inpars.stages.score import ScoreOptions, score_file, scorer_maker

UNKNOWN = ("stop", "absent", "prompt", "model")
PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}", stop=("\n",))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    write_documents(folder / "corpus.jsonl", (Document(f"d{n}", sentence(n, 3 + n * 7 % 20)) for n in range(150)))
    return Corpus(folder / "corpus.jsonl", folder / "cache")


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    path = tmp_path_factory.mktemp("queries") / "queries.jsonl"
    rows = [
        SyntheticQuery(
            f"q{n}", f"d{n}", f"what {WORDS[n % 60]} is {sentence(n, n % 5)}", (), None, "stop", "absent", "p", "m"
        )
        for n in range(150)
    ]
    records = [synthetic_query_record(row) for row in rows]
    for record in records[::2]:
        del record["query_id"]  # as the toolkit's files, which have none
    write_jsonl(path, records)
    return path


def score(collection, queries, output, model, **settings):
    options = ScoreOptions(model=model, dtype="float32", threads=1, cpus_per_worker=0.5, **settings)
    return score_file(
        queries,
        PROMPT,
        options,
        output=output,
        make_scorer=scorer_maker(options, PROMPT),
        workers=workers_of(options),
        corpus=collection,
    )


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "workers"),
    [
        ("llama", (2,)),
        *(pytest.param(*case, marks=SLOW) for case in [("llama", (1, 4)), ("gpt2", (3,)), ("bloom", (3,))]),
    ],
)
def test_scores_are_the_bytes_of_one_process_in_float32(ray_here, tmp_path, collection, queries, tiny, kind, workers):
    local = score(collection, queries, tmp_path / "local.jsonl", tiny(kind))
    for count in workers:
        output = tmp_path / f"ray{count}.jsonl"
        found = score(collection, queries, output, tiny(kind), engine="ray", workers=count)
        assert output.read_bytes() == (tmp_path / "local.jsonl").read_bytes()
        assert found.results["tokens"] == local.results["tokens"]
        assert found.results["mean_log_prob"] == pytest.approx(local.results["mean_log_prob"], rel=1e-9)
        assert sum(report["items"] for report in found.results["workers"]) == 150
        assert not (tmp_path / f"ray{count}.jsonl.shards").exists()


def test_packed_queries_are_refused(tmp_path, collection, queries):
    write_jsonl(tmp_path / "q.jsonl.gz", [])
    with pytest.raises(ConfigError, match="unpack it"):
        score(collection, tmp_path / "q.jsonl.gz", tmp_path / "out.jsonl", "none", engine="ray")


def rerank(collection, run, topics, output, model, **settings):
    options = RerankOptions(model=model, dtype="float32", threads=1, depth=60, cpus_per_worker=0.5, **settings)
    dataset = Dataset("test", collection)
    told = {"make_scorer": run_scorer_maker(options), "workers": workers_of(options)}
    return rerank_file(run, dataset, topics, options, output=output, **told)


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    """25 queries with 60 documents each that are reranked, 1,500 pairs: 3 shards of 512, and a tail of 10."""
    path = tmp_path_factory.mktemp("run") / "run.trec"
    write_run(path, {f"q{q}": {f"d{(q * 7 + n) % 150}": 100.0 - n for n in range(70)} for q in range(25)}, "first")
    return path


TOPICS = Topics("test", {f"q{q}": f"what is {sentence(q, 1 + q % 4)}" for q in range(25)}, {})


@pytest.mark.parametrize(
    ("kind", "reranker", "workers"),
    [
        ("bert_classifier", "cross-encoder", (2,)),
        *(
            pytest.param(*case, marks=SLOW)
            for case in [
                ("bert_classifier", "cross-encoder", (1, 4)),
                ("t5", "monot5", (3,)),
                ("llama", "query-likelihood", (3,)),
                ("llama", "causal", (3,)),
            ]
        ),
    ],
)
def test_reranked_runs_are_the_bytes_of_one_process_in_float32(
    ray_here, tmp_path, collection, first_stage, tiny, kind, reranker, workers
):
    answers = {"monot5": ("▁true", "▁false"), "causal": (" yes", " no")}.get(reranker, (None, None))
    common = {"kind": reranker, "true_token": answers[0], "false_token": answers[1]}
    rerank(collection, first_stage, TOPICS, tmp_path / "local.trec", tiny(kind), **common)
    for count in workers:
        output = tmp_path / f"ray{count}.trec"
        found = rerank(collection, first_stage, TOPICS, output, tiny(kind), engine="ray", workers=count, **common)
        assert output.read_bytes() == (tmp_path / "local.trec").read_bytes()
        assert (found.results["pairs"], found.results["queries"]) == (1500, 25)
        assert sum(report["shards"] for report in found.results["workers"]) == 3


def test_ids_of_another_corpus_are_told_before_any_worker_starts(tmp_path, collection, first_stage):
    topics = Topics("test", {"q0": "what"}, {})
    with pytest.raises(StaleInputError, match=r"24 queries of the run .*not in"):
        rerank(collection, first_stage, topics, tmp_path / "out.trec", "none", engine="ray", address="127.0.0.1:1")
