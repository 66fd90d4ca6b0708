"""The adapters inside the real frameworks: the order and scores of the Python API."""

import importlib

import pytest
from made_run import FLAGS, QUERIES

from inpars.errors import ConfigError
from inpars.records import Document, FullText

QUERY = QUERIES["q0"]


def needs(module, extra):
    """The adapter's module; skips the test if the framework is not installed."""
    pytest.importorskip(module, reason=f"the {extra} extra is not installed")
    return importlib.import_module(f"inpars.integrations.{extra.replace('-', '_')}")


@pytest.fixture
def by_margin(system):
    """doc_id and score of a query's five hits, reranked with titles."""
    hits = system.search(QUERY, 5)
    order = system.rerank(QUERY, [FullText.of(hit.document) for hit in hits])
    ranked = [(hits[place].document.doc_id, score) for place, score in order]
    assert [doc_id for doc_id, _ in ranked] != [hit.document.doc_id for hit in hits], "else nothing is tested"
    return ranked


def test_langchain(run_folder, system, expected, by_margin):
    adapter = needs("langchain_core", "langchain")
    retriever = adapter.InparsRetriever.from_run(run_folder, k=5, **FLAGS)
    found = retriever.batch(list(QUERIES.values()))
    assert [[(one.id, one.metadata["score"]) for one in one_query] for one_query in found] == list(expected.values())
    assert found[0][0].metadata["source"].endswith(".md")
    chain = retriever | (lambda documents: [document.id for document in documents])
    assert chain.invoke(QUERY) == [doc_id for doc_id, _ in expected["q0"]]
    ranker = adapter.InparsReranker(system=system, top_n=3)
    ranked = ranker.compress_documents(found[0], QUERY)
    assert [(one.id, pytest.approx(one.metadata["score"])) for one in ranked] == by_margin[:3]
    assert ranker.compress_documents([], QUERY) == []


def test_llama_index(run_folder, system, expected, by_margin):
    adapter = needs("llama_index.core", "llama-index")
    retriever = adapter.InparsRetriever.from_run(run_folder, k=5, **FLAGS)
    for query_id, text in QUERIES.items():
        assert [(one.node.node_id, one.score) for one in retriever.retrieve(text)] == expected[query_id]
    nodes = retriever.retrieve(QUERY)
    ranked = adapter.InparsReranker(system=system, top_n=3).postprocess_nodes(nodes, query_str=QUERY)
    assert [(one.node.node_id, pytest.approx(one.score)) for one in ranked] == by_margin[:3]
    with pytest.raises(ConfigError, match="query"):
        adapter.InparsReranker(system=system).postprocess_nodes(nodes)


def test_haystack_pipeline_is_saved_and_loaded_again(run_folder, expected, by_margin):
    adapter = needs("haystack", "haystack")
    from haystack import Pipeline

    pipeline = Pipeline()
    pipeline.add_component("retriever", adapter.InparsRetriever(str(run_folder), top_k=5, flags=FLAGS))
    pipeline.add_component("ranker", adapter.InparsRanker(str(run_folder), top_k=3, flags=FLAGS))
    pipeline.connect("retriever.documents", "ranker.documents")
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=[adapter.__name__])
    for one in (pipeline, again):
        data = {"retriever": {"query": QUERY}, "ranker": {"query": QUERY}}
        found = one.run(data, include_outputs_from={"retriever"})
        assert [(doc.id, doc.score) for doc in found["retriever"]["documents"]] == expected["q0"]
        assert [(doc.id, pytest.approx(doc.score)) for doc in found["ranker"]["documents"]] == by_margin[:3]


def test_pyterrier(run_folder, system, expected, by_margin):
    adapter = needs("pyterrier", "pyterrier")
    import pandas as pd

    retriever = adapter.InparsRetriever.from_run(run_folder, k=5, **FLAGS)
    queries = pd.DataFrame({"qid": list(QUERIES), "query": list(QUERIES.values())})
    found = retriever.transform(queries)
    for query_id, group in found.groupby("qid"):
        near = [(doc_id, pytest.approx(score, abs=1e-4)) for doc_id, score in expected[query_id]]  # of a batch
        assert list(zip(group["docno"], group["score"], strict=True)) == near
        assert list(group["rank"]) == [0, 1, 2, 3, 4]
    ranked = (retriever >> adapter.InparsReranker(system)).transform(queries[:1])
    assert [(d, pytest.approx(s)) for d, s in zip(ranked["docno"], ranked["score"], strict=True)] == by_margin
    assert (retriever % 2 >> adapter.InparsReranker(system)).transform(queries)["rank"].tolist() == [0, 1] * 4
    nothing = adapter.InparsReranker(system).transform(found[:0])
    assert (len(nothing), {*found.columns} <= {*nothing.columns}) == (0, True)


def test_a_system_without_a_reranker_is_refused(without_reranker):
    adapter = needs("langchain_core", "langchain")
    ranker = adapter.InparsReranker.from_run(without_reranker, **FLAGS)
    from langchain_core.documents import Document as Passage

    with pytest.raises(ConfigError, match="reranker"):
        ranker.compress_documents([Passage(page_content="x")], QUERY)


def test_titles_are_read_as_the_measured_system_reads_them(system):
    """`reranked` gives the same scores as the engine's reranker."""
    from inpars.integrations import hit_metadata, reranked

    hits = system.search(QUERY, 5)
    said = {hit.document.doc_id: hit.scores["reranker"] for hit in hits}
    order = reranked(system, QUERY, [(hit.document.text, hit_metadata(hit)) for hit in hits])
    assert {hits[place].document.doc_id: pytest.approx(score, abs=1e-5) for place, score in order} == said
    assert any(isinstance(hit.document, Document) and hit.document.title for hit in hits)
