"""Embeddings by workers: those of one process, for indexes, for searches and for dense negatives."""

import numpy as np
import pytest
from tiny_models import sentence

from inpars.distributed import workers_of
from inpars.documents.datasets import Dataset
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.io.topics import Topics
from inpars.records import Document
from inpars.retrieval import dense, index_writer
from inpars.retrieval.vector_index import VectorIndex
from inpars.stages.search import SearchOptions, encode_by, load_encoder, search_dataset


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    write_documents(folder / "corpus.jsonl", (Document(f"d{n}", sentence(n, 3 + n * 7 % 40)) for n in range(100)))
    return Corpus(folder / "corpus.jsonl", folder / "cache")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(dense, "DOCUMENTS_PER_SHARD", 32)
    monkeypatch.setattr(index_writer, "DOCUMENTS_PER_BLOCK", 32)


def options(engine, tiny, **settings):
    model = tiny("sentence_transformer")
    common = {"retriever": (model,), "dtype": "float32", "threads": 1, "k": 10, "cpus_per_worker": 0.5, **settings}
    return model, SearchOptions(engine=engine, **(common | ({"workers": 2} if engine == "ray" else {})))


@pytest.mark.parametrize("window_tokens", [None, 8])
def test_a_search_finds_the_same(ray_here, tmp_path, monkeypatch, collection, tiny, window_tokens):
    topics = Topics("test", {f"q{n}": sentence(n, 3) for n in range(4)}, {})
    runs = {}
    for engine in ("local", "ray"):
        monkeypatch.setenv("INPARS_CACHE", str(tmp_path / engine))
        _, chosen = options(engine, tiny, window_tokens=window_tokens)
        output = tmp_path / f"{engine}.trec"
        search_dataset(Dataset("test", collection), topics, chosen, output=output, workers=workers_of(chosen))
        runs[engine] = output.read_bytes()
    assert runs["ray"] == runs["local"]
    made = [sorted(path.name for path in (tmp_path / engine).glob("dense/*/*")) for engine in runs]
    assert made[0] == made[1], "the shards' folder is gone"
    assert len([name for name in made[0] if name[:5].isdigit() and "counts" not in name]) == 4, "100 by 32"


def test_an_index_has_the_same_vectors(ray_here, tmp_path, collection, tiny):
    vectors = []
    for engine in ("local", "ray"):
        model, chosen = options(engine, tiny)
        folder = tmp_path / engine
        fill = encode_by(workers_of(chosen), model, chosen)
        index_writer.build_index(folder, collection, load_encoder(model, chosen), fill=fill)
        vectors.append(np.asarray(VectorIndex(folder).segments[0].vectors))
    assert vectors[0].shape == (100, 32)
    assert np.array_equal(*vectors)
