"""Splits: whole clusters on one side, independent of the order, with files that other commands read."""

import json
import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_models import sentence

from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError, StaleInputError
from inpars.io.formats import read_synthetic_queries
from inpars.negatives.split import SourceGroups, dev_clusters
from inpars.records import Document
from inpars.stages.split import SplitFiles, SplitOptions, split_file
from inpars.text.hashing import key64

DOCUMENTS = 40


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """40 documents; d30 to d39 are nearly d0 to d9, d20 is a copy of d21."""
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    texts = {f"d{number}": sentence(number, 60) for number in range(30)}
    texts["d20"] = texts["d21"]
    texts |= {f"d{number + 30}": " ".join([*texts[f"d{number}"].split()[:-1], "end"]) for number in range(10)}
    path = tmp_path / "corpus.jsonl"
    path.write_text(
        "".join(json.dumps({"_id": doc_id, "text": text}) + "\n" for doc_id, text in texts.items()), encoding="utf-8"
    )
    return load_dataset(None, corpus=path)


def write_queries(path, order=range(DOCUMENTS), text="question {n} about {doc_id}"):
    """Two queries per document, in the toolkit's format without ids."""
    rows = [
        {"doc_id": f"d{number}", "query": text.format(n=n, doc_id=f"d{number}"), "text": "t", "log_probs": [-1.0]}
        for number in order
        for n in range(2)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def split(source, corpus, folder, **options):
    files = SplitFiles.named(folder / "train.jsonl", folder / "dev.jsonl")
    manifest = split_file(source, corpus.corpus, SplitOptions(**options), files=files)
    return files, manifest


def doc_ids(path):
    return {query.doc_id for query in read_synthetic_queries(path)}


def test_near_duplicates_stay_together(corpus, tmp_path):
    files, manifest = split(write_queries(tmp_path / "q.jsonl"), corpus, tmp_path, dev_share=0.3)
    train, dev = doc_ids(files.train), doc_ids(files.dev)
    assert train | dev == {f"d{number}" for number in range(DOCUMENTS)}
    assert not train & dev
    for side in (train, dev):
        assert all((f"d{n}" in side) == (f"d{n + 30}" in side) for n in range(10))
        assert ("d20" in side) == ("d21" in side)
    # 40 documents, 11 pairs: 29 clusters; 24 of 80 queries fit into the share, and pairs bring 4 at once
    counts = manifest.results
    assert (counts["documents"], counts["clusters"], counts["largest_cluster"]) == (40, 29, 2)
    assert counts["dev"] == 24
    assert (counts["train"], manifest.output.records) == (56, 56)


def test_the_order_of_queries_makes_no_difference_but_the_seed_does(corpus, tmp_path):
    sides = []
    for name, order, seed in (("a", range(40), 0), ("b", reversed(range(40)), 0), ("c", range(40), 1)):
        source = write_queries(tmp_path / f"{name}.jsonl", order)
        sides.append(doc_ids(split(source, corpus, tmp_path / name, seed=seed)[0].dev))
    assert sides[0] == sides[1] != sides[2]


def test_the_development_set_is_a_dataset(corpus, tmp_path):
    files, _ = split(write_queries(tmp_path / "q.jsonl"), corpus, tmp_path)
    dataset = load_dataset(None, corpus=corpus.corpus.path, queries=files.queries_dev, qrels=files.qrels_dev)
    topics = dataset.topics()
    dev = list(read_synthetic_queries(files.dev))
    assert topics.queries == {query.query_id: query.text for query in dev}
    assert topics.qrels == {query.query_id: {query.doc_id: 1} for query in dev}


def test_ids_stay_what_they_were_in_the_whole_file(corpus, tmp_path):
    """A row without an id is named after its number among its document's: part of the file must not count anew."""
    source = write_queries(tmp_path / "q.jsonl")
    whole = {query.query_id: (query.doc_id, query.text) for query in read_synthetic_queries(source)}
    files, _ = split(source, corpus, tmp_path)
    parts = [query for path in (files.train, files.dev) for query in read_synthetic_queries(path)]
    assert {query.query_id: (query.doc_id, query.text) for query in parts} == whole


def test_words_of_development_queries_are_not_trained_on(corpus, tmp_path):
    source = write_queries(tmp_path / "q.jsonl", text="What is THAT{n}?")
    with pytest.raises(ConfigError, match=r"every query .*the development set"):
        split(source, corpus, tmp_path)
    assert not (tmp_path / "dev.jsonl").exists()
    rows = source.read_text(encoding="utf-8").splitlines(keepends=True)
    rows[1::2] = [json.dumps({"doc_id": f"d{n}", "query": f"what is d{n}"}) + "\n" for n in range(DOCUMENTS)]
    source.write_text("".join(rows), encoding="utf-8")
    files, manifest = split(source, corpus, tmp_path)
    # each document has one query of its own and one that all have: the latter stays on the development side alone
    kept = [query.text for query in read_synthetic_queries(files.train)]
    assert kept == [f"what is {query.doc_id}" for query in read_synthetic_queries(files.train)]
    assert manifest.dropped == {"words_of_a_dev_query": len(kept)}
    assert len(kept) == (80 - manifest.results["dev"]) / 2


def test_a_missing_side_is_made_again(corpus, tmp_path):
    source = write_queries(tmp_path / "q.jsonl")
    files, _ = split(source, corpus, tmp_path)
    content = {side: side.read_bytes() for side in files.sides}
    for side in files.sides:
        side.unlink()
        split(source, corpus, tmp_path)
        assert side.read_bytes() == content[side]


def test_what_cannot_be_split(corpus, tmp_path):
    source = write_queries(tmp_path / "q.jsonl")
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match=f"--dev-share is {share}; it must be above 0 and below 1"):
            split(source, corpus, tmp_path, dev_share=share)
    with pytest.raises(ConfigError, match=r"80 queries of 29 clusters .*would be empty"):
        split(source, corpus, tmp_path, dev_share=0.001)
    files = SplitFiles.named(tmp_path / "a.jsonl", tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match="must be different files"):
        split_file(source, corpus.corpus, SplitOptions(), files=files)
    files = SplitFiles.named(tmp_path / "a.jsonl", source)
    with pytest.raises(ConfigError, match="would be overwritten"):
        split_file(source, corpus.corpus, SplitOptions(), files=files)
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="no queries to split"):
        split(tmp_path / "empty.jsonl", corpus, tmp_path)
    source.write_text('{"doc_id": "zz", "query": "what"}\n', encoding="utf-8")
    with pytest.raises(StaleInputError, match=r"document 'zz' .*not in this corpus"):
        split(source, corpus, tmp_path)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), min_size=2, max_size=20),
    st.floats(0.05, 0.95),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
@example([(0, 1), (1, 1)], 0.75, 0, random.Random(0))  # the share rounds up to all
def test_clusters_are_chosen_within_the_share_in_any_order(documents, share, seed, shuffler):
    rows = [(cluster, key64(f"d{n}"), queries) for n, (cluster, queries) in enumerate(documents)]

    def chosen(rows):
        clusters, keys, queries = (np.array(column) for column in zip(*rows, strict=True))
        try:
            return set(dev_clusters(clusters, keys.astype(np.uint64), queries, dev_share=share, seed=seed).tolist())
        except ConfigError:
            return None

    dev = chosen(rows)
    assert chosen(shuffler.sample(rows, len(rows))) == dev
    total = sum(queries for _, _, queries in rows)
    if dev is None:  # no cluster fits, or there is no other one
        sizes = [sum(q for c, _, q in rows if c == cluster) for cluster in {c for c, _, _ in rows}]
        assert min(sizes) > round(share * total) or len(sizes) == 1
    else:
        assert 0 < sum(q for c, _, q in rows if c in dev) <= round(share * total)


def documents_of(places):
    return [Document(f"d{number}", "text", "", place) for number, place in enumerate(places)]


def joined(places, clusters):
    groups = SourceGroups()
    for document in documents_of(places):
        groups.add(document)
    return groups.held_out_by, groups.joined(np.array(clusters)).tolist()


def same(labels):
    """Each label replaced by the position of its first occurrence."""
    return [labels.index(label) for label in labels]


def test_documents_of_one_file_stay_together_and_with_what_resembles_them():
    # ten files f0..f9 of one document each, two more of f0 and f1; document 11 resembles document 2
    places = [{"source": f"f{number % 10}"} for number in range(12)]
    by, labels = joined(places, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2])
    assert by == "file"
    assert same(labels) == [0, 1, 1, 3, 4, 5, 6, 7, 8, 9, 0, 1]  # f1 and f2 are linked by documents 11 and 2


def test_of_few_files_pages_and_sections_stay_together():
    places = [{"source": "a.pdf", "page": 1}, {"source": "a.pdf", "page": 2}, {"source": "a.pdf", "page": 1}, {}, {}]
    by, labels = joined(places, [0, 1, 2, 3, 4])
    assert (by, same(labels)) == ("page or section", [0, 1, 0, 3, 4])
    sections = [{"source": "a.md", "headings": ["A", "B"]}, {"source": "a.md", "headings": ["A"]}]
    assert same(joined(sections, [0, 1])[1]) == [0, 1]


def test_a_split_by_source_leaves_no_file_on_both_sides(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"d{n}", "text": sentence(n, 60), "metadata": {"source": f"f{n % 12}"}} for n in range(DOCUMENTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dataset, queries = load_dataset(None, corpus=path), tmp_path / "queries.jsonl"
    write_queries(queries)
    files = SplitFiles.named(tmp_path / "train.jsonl", tmp_path / "dev.jsonl")
    options = SplitOptions(dev_share=0.3, by_source=True)
    manifest = split_file(queries, dataset.corpus, options, files=files)
    sides = [
        {int(query.doc_id[1:]) % 12 for query in read_synthetic_queries(side)} for side in (files.train, files.dev)
    ]
    assert sides[0].isdisjoint(sides[1])
    assert all(sides)
    assert manifest.results["held_out_by"] == "file"
