"""Shards of generation, scoring and reranking, merged: the bytes and the manifest of a run without shards."""

from __future__ import annotations

import dataclasses
import json

import pytest
from tiny_models import sentence

from inpars.cli.main import main
from inpars.errors import BackendError, ConfigError, DataFormatError, StaleInputError
from inpars.generation import GeneratedQuery
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents, write_run
from inpars.io.manifest import manifest_path, read_manifest
from inpars.io.storage import write_jsonl
from inpars.prompts.templates import Prompt
from inpars.records import Document
from inpars.rerankers.rerank import score_run
from inpars.stages.generate import GenerateOptions, generate_queries
from inpars.stages.merge import merge_shards
from inpars.stages.shards import Shard, shard_path

DOCUMENTS = [Document(f"d{number}", sentence(number, 2 + number % 6 * 4)) for number in range(37)]
QUERIES = {f"q{number}": sentence(number, 3) for number in range(9)}
PROMPT = Prompt(name="test", form="Document: {document}\nQuery: {query}", stop=("\n",))


class Writer:
    """Repeats a document's first word as often as the document's number says; sorted by length, 3 per chunk."""

    name, log_prob_kind, device = "writer", "raw", "abacus"

    def __init__(self, chunks=99):
        self.chunks, self.written = chunks, []

    def plan(self, documents):
        order = sorted(range(len(documents)), key=lambda place: (len(documents[place].text), place))
        return [order[start : start + 3] for start in range(0, len(order), 3)]

    def generate(self, documents):
        if self.chunks == 0:
            raise BackendError("the power is gone")
        self.chunks -= 1
        self.written += [document.doc_id for document in documents]
        together = len(documents) + sum(len(document.text) for document in documents)  # depends on the whole chunk
        return [
            [
                GeneratedQuery(f"{document.text.split()[0]} {together} {number}", (7,), (-0.25,), -0.5, "stop")
                for number in range(int(document.doc_id[1:]) % 3)  # a third has none
            ]
            for document in documents
        ]


class Stage:
    def __init__(self, folder):
        self.folder, self.output = folder, folder / "queries.jsonl"
        write_documents(folder / "corpus.jsonl", DOCUMENTS)

    def __call__(self, shard=None, writer=None, output=None, **settings):
        options = GenerateOptions(model="writer", shard=shard, **settings)
        if output is None:
            output = self.output if shard is None else shard_path(self.output, Shard.parse(shard))
        return generate_queries(
            Corpus(self.folder / "corpus.jsonl", self.folder / "cache"),
            PROMPT,
            options,
            output=output,
            make_generator=lambda: writer or Writer(),
        )


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("whole"))
    return stage(), stage.output.read_bytes()


@pytest.mark.parametrize("count", [1, 2, 4, 7, 40])
def test_merged_shards_are_the_whole(stage, whole, count):
    for number in range(count, 0, -1):  # in any order
        stage(f"{number}/{count}")
    merged = merge_shards(stage.output)
    manifest, content = whole
    assert stage.output.read_bytes() == content
    assert merged == read_manifest(stage.output)
    shards = merged.results.pop("shards")
    assert [shard["shard"] for shard in shards] == [f"{number}/{count}" for number in range(1, count + 1)]
    assert shards[0]["file"] == shard_path(stage.output, Shard(1, count)).name
    assert merged.results == manifest.results
    for field in ("stage", "arguments", "dropped", "device", "seed", "versions"):
        assert getattr(merged, field) == getattr(manifest, field)
    assert (merged.output.sha256, merged.output.records) == (manifest.output.sha256, manifest.output.records)


def test_the_command_without_shards_takes_the_merged_file_for_its_own(stage):
    for number in (1, 2):
        stage(f"{number}/2")
    merge_shards(stage.output)
    silent = Writer(chunks=0)
    stage(writer=silent)
    assert silent.written == []


def test_a_killed_shard_goes_on_and_writes_nothing_twice(stage, whole):
    first, second = Writer(chunks=2), Writer()
    with pytest.raises(BackendError):
        stage("2/2", writer=first)
    stage("1/2")
    with pytest.raises(ConfigError, match=r"lacks shards: 2/2"):
        merge_shards(stage.output)
    stage("2/2", writer=second)
    assert not set(first.written) & set(second.written)
    merge_shards(stage.output)
    assert stage.output.read_bytes() == whole[1]


def test_missing_shards_are_named(stage):
    for number in (1, 3):
        stage(f"{number}/12")
    with pytest.raises(ConfigError) as raised:
        merge_shards(stage.output)
    assert "lacks shards: 2/12, 4/12, 5/12, 6/12, 7/12, 8/12, 9/12, 10/12 and 2 more; run" in str(raised.value)
    assert not stage.output.exists()


def test_none_beside_says_how_to_make_them(stage):
    with pytest.raises(ConfigError, match=r"no shards .*--shard I/N"):
        merge_shards(stage.output)


def test_an_unfinished_shard_is_named(stage):
    for number in (1, 2):
        stage(f"{number}/2")
    manifest_path(shard_path(stage.output, Shard(2, 2))).unlink()
    with pytest.raises(ConfigError, match=r"not finished; .*--shard 2/2"):
        merge_shards(stage.output)


def test_a_shard_there_twice_is_named(stage):
    for number in (1, 2):
        stage(f"{number}/2")
    twin = stage.folder / "copy.jsonl"
    stage("2/2", output=twin)
    one, two = (shard_path(stage.output, Shard(number, 2)) for number in (1, 2))
    with pytest.raises(ConfigError, match=r"are both shard 2/2"):
        merge_shards(stage.output, [one, two, twin])
    merge_shards(stage.output, [twin, one])


def test_other_settings_and_inputs_are_named(stage):
    for number in (1, 2, 3):
        stage(f"{number}/3", max_new_tokens=9 if number == 2 else 8)
    with pytest.raises(StaleInputError, match=r"02-of-03.*another max_new_tokens than .*run --shard 2/3 again"):
        merge_shards(stage.output)
    write_documents(stage.folder / "corpus.jsonl", DOCUMENTS[:30])
    stage("2/3", max_new_tokens=8)
    with pytest.raises(StaleInputError, match=r"02-of-03.*another input corpus"):
        merge_shards(stage.output)


def test_a_shard_of_another_cut_is_named(stage):
    paths = [shard_path(stage.output, Shard(*cut)) for cut in ((1, 3), (2, 3), (3, 3), (2, 2))]
    for cut in ("1/3", "2/3", "3/3", "2/2"):
        stage(cut)
    with pytest.raises(ConfigError, match="shards of 2 and of 3"):
        merge_shards(stage.output)
    with pytest.raises(StaleInputError, match=r"02-of-02.*another count"):
        merge_shards(stage.output, paths)


def test_a_changed_shard_is_named(stage):
    for number in (1, 2):
        stage(f"{number}/2")
    with shard_path(stage.output, Shard(1, 2)).open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(StaleInputError, match=r"01-of-02.*was changed"):
        merge_shards(stage.output)


def test_a_file_that_is_no_shard_is_named(stage):
    stage()
    with pytest.raises(ConfigError, match=r"is no shard"):
        merge_shards(stage.folder / "other.jsonl", [stage.output])
    with pytest.raises(ConfigError, match="would be overwritten"):
        merge_shards(stage.output, [stage.output])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda m: m["arguments"].update(shard={"a": 1}), "manifest.json"),
        (lambda m: m["arguments"].update(shard="1/99999999999999999999"), "1/9999"),
        (lambda m: m["results"].update(shard="0-3"), "manifest.json"),
        (lambda m: m["results"]["shard"].pop("items"), "manifest.json"),
        (lambda m: m["results"]["shard"].update(places=7), "manifest.json"),
        (lambda m: m["results"]["shard"].update(places="0-10000000000*0"), "manifest.json"),
        (lambda m: m["output"].update(records=1 << 60), "manifest.json"),
        (lambda m: m["results"].update(mean_log_prob="-1"), "manifest.json"),
        (lambda m: m["results"].update(tokens=[]), "manifest.json"),
        (lambda m: m["results"].update(written=10**30), "manifest.json"),
    ],
)
def test_a_broken_manifest_of_a_shard_is_named(stage, change, where):
    for number in (1, 2):
        stage(f"{number}/2")
    path = manifest_path(shard_path(stage.output, Shard(1, 2)))
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises((ConfigError, DataFormatError), match=where):
        merge_shards(stage.output)
    assert not stage.output.exists()


def test_many_missing_shards_are_counted(stage):
    stage("1/2")
    path = manifest_path(shard_path(stage.output, Shard(1, 2)))
    path.write_text(path.read_text().replace('"1/2"', '"1/999999999999"'))
    with pytest.raises(ConfigError, match=r"2/999999999999, .* and 999999999990 more"):
        merge_shards(stage.output)


def test_merging_twice_merges_once(stage):
    for number in (1, 2):
        stage(f"{number}/2")
    merge_shards(stage.output)
    made = stage.output.stat().st_mtime_ns
    merge_shards(stage.output)
    assert stage.output.stat().st_mtime_ns == made
    merge_shards(stage.output, overwrite=True)
    assert stage.output.stat().st_mtime_ns != made


class Commands:
    """The commands on tiny models in float32, whole or in shards."""

    def __init__(self, folder, tiny):
        self.folder = folder
        write_documents(folder / "corpus.jsonl", DOCUMENTS)
        (folder / "prompt.txt").write_text("A lake is a body of water: what is a lake?\n\n{document}\nRelevant Query:")
        write_jsonl(folder / "topics.jsonl", ({"_id": query_id, "text": text} for query_id, text in QUERIES.items()))
        run = {
            query_id: {document.doc_id: 100.0 - place for place, document in enumerate(DOCUMENTS[number:][:20])}
            for number, query_id in enumerate(QUERIES)
        }
        write_run(folder / "run.trec", run, "made")
        self.llama, self.reranker = tiny("llama"), tiny("bert_classifier")

    def __call__(self, name, output, *more):
        common = ["--corpus", str(self.folder / "corpus.jsonl"), "--dtype", "float32", "--output", str(output)]
        own = {
            "generate": [
                "--model",
                str(self.llama),
                "--prompt",
                str(self.folder / "prompt.txt"),
                "--max-new-tokens",
                "8",
            ],
            "score": [
                "--model",
                str(self.llama),
                "--prompt",
                str(self.folder / "prompt.txt"),
                "--input",
                str(self.folder / "q.jsonl"),
            ],
            "rerank": [
                "--model",
                str(self.reranker),
                "--run",
                str(self.folder / "run.trec"),
                "--queries",
                str(self.folder / "topics.jsonl"),
                "--depth",
                "12",
            ],
        }
        assert main([name, *common, *own[name], "--quiet", *more]) == 0

    def both(self, name, count, *more):
        """The bytes of the whole and of the merged shards."""
        one, many = self.folder / f"{name}.whole", self.folder / f"{name}.merged"
        self(name, one, *more)
        for number in range(1, count + 1):
            self(name, many, "--shard", f"{number}/{count}", *more)
        assert main(["merge", "--output", str(many), "--quiet"]) == 0
        manifests = [dataclasses.asdict(read_manifest(path)) for path in (one, many)]
        manifests[1]["results"].pop("shards")
        assert manifests[1]["results"] == pytest.approx(manifests[0]["results"])  # means are of other sums
        for field in ("arguments", "dropped", "device"):
            assert manifests[1][field] == manifests[0][field]
        return one.read_bytes(), many.read_bytes()


@pytest.fixture
def commands(tmp_path, tiny):
    return Commands(tmp_path, tiny)


def test_generation_in_shards_has_the_same_bytes(commands):
    one, many = commands.both("generate", 3)
    assert one == many
    assert one.count(b"\n") == len(DOCUMENTS)


def test_scoring_in_shards_has_the_same_bytes(commands):
    commands("generate", commands.folder / "q.jsonl")
    one, many = commands.both("score", 3)
    assert one == many
    rows = [json.loads(line) for line in one.splitlines()]
    assert len(rows) == len(DOCUMENTS)


def test_a_column_of_scores_in_shards_has_the_same_bytes(commands):
    commands("generate", commands.folder / "q.jsonl")
    one, many = commands.both("score", 2, "--kind", "reranker", "--model", str(commands.reranker))
    assert one == many
    assert one.count(b"\n") == len(DOCUMENTS)


def test_reranking_in_shards_has_the_same_bytes(commands):
    one, many = commands.both("rerank", 4)
    assert one == many
    assert one.count(b"\n") == len(QUERIES) * 20


class BatchSums:
    """A scorer whose scores depend on the whole batch."""

    name = "sums"

    def score(self, pairs):
        together = sum(len(query) + len(document) for query, document in pairs)
        return [together + len(document) / 100 for _, document in pairs]


class Texts(dict):
    def texts(self, doc_ids):
        return [self[doc_id] for doc_id in doc_ids]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_pairs_are_scored_in_the_batches_of_the_whole(count):
    run = {query_id: {f"d{n}": -float(n) for n in range(number, number + 4)} for number, query_id in enumerate(QUERIES)}
    texts = Texts({document.doc_id: document.text for document in DOCUMENTS})

    def scored(own=None, done=()):
        batches = score_run(run, QUERIES, texts, BatchSums(), depth=3, query_ids=own, done=done, pairs_per_batch=5)
        return [row for batch in batches for row in batch]

    whole = scored()
    slices = [[list(QUERIES)[place] for place in Shard(number, count).of(9)] for number in range(1, count + 1)]
    assert [row for own in slices for row in scored(set(own))] == whole
    first = scored(set(slices[0]))
    assert scored(set(slices[0]), {(row.query_id, row.doc_id) for row in first}) == []


def test_clusters_cannot_be_made_in_shards(commands, capsys):
    commands("generate", commands.folder / "q.jsonl")
    flags = ["--input", str(commands.folder / "q.jsonl"), "--kind", "cluster", "--shard", "1/2"]
    assert main(["score", *flags, "--output", str(commands.folder / "c.jsonl")]) == 1
    assert "leave --shard out" in capsys.readouterr().err


def test_a_wrong_shard_is_an_error_of_one_line(commands, capsys):
    flags = ["--corpus", str(commands.folder / "corpus.jsonl"), "--output", str(commands.folder / "o.jsonl")]
    assert main(["generate", *flags, "--shard", "5/4"]) == 1
    assert capsys.readouterr().err == (
        "inpars: --shard is '5/4'; shards are numbered from 1 to their count (SLURM: --array=1-4)\n"
    )
