"""Generation by workers: the bytes of one process, whatever their number, and each document once."""

import functools
import json
from collections import Counter

import numpy as np
import pytest
from fake_generators import MakeFake
from tiny_models import sentence

from inpars.distributed import workers_of
from inpars.errors import BackendError, ConfigError
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.io.manifest import read_manifest
from inpars.progress import SILENT
from inpars.prompts.templates import Example, Prompt
from inpars.records import Document
from inpars.stages.generate import GenerateOptions, generate_queries, generator_maker

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}", stop=("\n",))
SHARD = 64  # items, where there are few


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    documents = [Document(f"d{n}", sentence(n, 3 + n * 7 % 20), f"T{n % 3}") for n in range(150)]
    write_documents(folder / "corpus.jsonl", documents)
    return Corpus(folder / "corpus.jsonl", folder / "cache")


def generate(collection, output, make=None, **settings):
    options = GenerateOptions(**{"model": "fake", "canary": False, "cpus_per_worker": 0.5, **settings})
    make = make or generator_maker(options, PROMPT)
    told = {"output": output, "make_generator": make, "workers": workers_of(options)}
    return generate_queries(collection, PROMPT, options, **told)


def log_of(tmp_path, name="log"):
    return [line.split() for line in (tmp_path / name).read_text().splitlines()]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_fakes_write_the_bytes_of_one_process(ray_here, tmp_path, collection, workers):
    generate(collection, tmp_path / "local.jsonl", MakeFake(tmp_path / "local"))
    manifest = generate(collection, tmp_path / "ray.jsonl", MakeFake(tmp_path / "log"), engine="ray", workers=workers)
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    assert Counter(doc_id for doc_id, *_ in log_of(tmp_path)) == {f"d{n}": 1 for n in range(150)}
    assert not (tmp_path / "ray.jsonl.shards").exists()
    assert (manifest.output.records, manifest.results["documents"], manifest.device) == (150, 150, "abacus")
    reports = manifest.results["workers"]
    # 150 documents in shards of 64: 3 shards
    assert (sum(r["items"] for r in reports), sum(r["shards"] for r in reports)) == (150, 3)
    assert 1 <= len(reports) <= min(workers, 3)


SLOW = [("llama", (1, 4)), ("gpt2", (3,)), ("bloom", (3,)), ("mistral", (3,)), ("t5", (3,))]


@pytest.mark.parametrize(
    ("kind", "workers"), [("llama", (2,)), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_models_write_the_bytes_of_one_process_in_float32(ray_here, tmp_path, collection, tiny, kind, workers):
    common = {"model": tiny(kind), "dtype": "float32", "max_new_tokens": 6, "max_documents": 140, "threads": 1}
    if kind == "t5":
        common |= {"backend": "seq2seq"}
    generate(collection, tmp_path / "local.jsonl", **common)
    expected = (tmp_path / "local.jsonl").read_bytes()
    assert expected.count(b"\n") == 140 * (3 if kind == "t5" else 1)
    for count in workers:
        output = tmp_path / f"ray{count}.jsonl"
        generate(collection, output, **common, engine="ray", workers=count)
        assert output.read_bytes() == expected


def test_a_finished_output_is_skipped_whoever_made_it(ray_here, tmp_path, collection):
    make = MakeFake(tmp_path / "log")
    generate(collection, tmp_path / "q.jsonl", make, engine="ray", workers=2)
    before = read_manifest(tmp_path / "q.jsonl")
    generate(collection, tmp_path / "q.jsonl", make)
    assert read_manifest(tmp_path / "q.jsonl") == before
    assert len(log_of(tmp_path)) == 150


def test_shards_are_kept_until_the_manifest_stands(ray_here, tmp_path, collection, monkeypatch):

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("inpars.stages.chunk_loop.write_lines", killed)
    with pytest.raises(KeyboardInterrupt):
        generate(collection, tmp_path / "q.jsonl", MakeFake(tmp_path / "log"), engine="ray", workers=2)
    monkeypatch.undo()
    generate(collection, tmp_path / "q.jsonl", MakeFake(tmp_path / "log"), engine="ray", workers=1)
    assert len(log_of(tmp_path)) == 150
    assert (tmp_path / "q.jsonl").read_text().count("\n") == 150


def test_what_one_process_began_goes_when_workers_have_done_it(ray_here, tmp_path, collection):
    (tmp_path / "q.jsonl.partial").write_text("{}\n")
    generate(collection, tmp_path / "q.jsonl", MakeFake(tmp_path / "log"), engine="ray", workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "q.jsonl", "q.jsonl.manifest.json"]


def test_the_canary_of_a_worker_stops_all(ray_here, tmp_path, collection):
    """A fake that always asks the same is unusable: 200 queries alike."""
    prompt = Prompt(
        name="test", form="{document} {query}", stop=("\n",), examples=(Example("What is this", "this is that"),)
    )
    options = GenerateOptions(model="fake", engine="ray", workers=1)
    monotonous = Corpus(_same(tmp_path))
    with pytest.raises(BackendError, match=r"of the last \d+ queries .*unusable"):
        generate_queries(
            *(monotonous, prompt, options),
            output=tmp_path / "q.jsonl",
            make_generator=MakeFake(tmp_path / "log"),
            workers=workers_of(options),
        )


def _same(tmp_path):
    write_documents(tmp_path / "same.jsonl", [Document(f"d{n}", "same words") for n in range(600)])
    return tmp_path / "same.jsonl"


def test_a_worker_plans_a_block_once_and_writes_the_bytes_of_one_process(tmp_path, collection):
    """150 documents in shards of 64: 3 shards of one block."""
    from inpars.stages.chunk_loop import BlockShard, BlockWorker
    from inpars.stages.query_writer import QueryBlocks
    from inpars.stages.shard_folder import ShardFolder

    generate(collection, tmp_path / "local.jsonl", MakeFake(tmp_path / "local"))
    generator, planned = MakeFake(tmp_path / "log")(), []
    plan = generator.plan
    generator.plan = lambda documents: planned.append(len(documents)) or plan(documents)
    place, folder = (collection.path, collection.sha256), ShardFolder.open(tmp_path / "q", "", SHARD, 150, SILENT)
    worker = BlockWorker("generate", "{}", lambda: QueryBlocks(place, PROMPT, lambda: generator, False))
    for shard in range(folder.count):
        payload = BlockShard(0, np.arange(150), folder.part(shard))
        said = worker.write(payload, tmp_path / "q.partial", folder.file(shard))
        folder.finish(shard, said)
        (tmp_path / "q.partial").unlink()
    assert planned == [150]
    assert "".join(f"{line}\n" for line in folder.merged()) == (tmp_path / "local.jsonl").read_text()


def test_an_engine_without_its_workers_is_refused(tmp_path, collection):
    options = GenerateOptions(model="fake", engine="ray")
    with pytest.raises(ConfigError, match="workers_of"):
        generate_queries(*(collection, PROMPT, options), output=tmp_path / "q.jsonl", make_generator=None)


def test_servers_and_shards_do_not_go_with_workers(tmp_path, collection):
    with pytest.raises(ConfigError, match="asks a server"):
        generate(collection, tmp_path / "q.jsonl", engine="ray", backend="chat")
    with pytest.raises(ConfigError, match="leave --shard out"):
        _ = GenerateOptions(engine="ray", shard="1/2").part


def test_a_shard_holds_places_and_no_text(ray_here, tmp_path, collection):
    """What travels is small: 8 bytes a document of the block."""
    import pickle

    from inpars.documents.selection import choose_documents
    from inpars.stages.chunk_loop import BlockShard
    from inpars.stages.query_writer import QueryBlocks, positions_in
    from inpars.stages.shards import Shard

    places = positions_in(choose_documents(collection, maximum=None).documents)
    shard = pickle.dumps(BlockShard(0, places, Shard(1, 3, SHARD)))
    assert len(shard) < 150 * 8 + 1000
    place = collection.path, collection.sha256
    job = functools.partial(QueryBlocks, place, PROMPT, MakeFake(tmp_path / "log"), True)
    assert len(pickle.dumps(job)) < 5000
    assert b"amber" not in shard + pickle.dumps(job)
    assert json.dumps(places.tolist()) == json.dumps(list(range(150)))
