"""Import and export of other toolkits' files: one module per toolkit, listed in `FORMATS`.

A reader turns a file or folder into a stream of items (`items.py`), which `folder.py` sorts into our files; a writer
draws on a `Source`. Both keep one query in memory at a time, so files can be of any size.
"""

from __future__ import annotations

from functools import partial

from inpars.contrib.interchange import (
    beir,
    flagembedding,
    gpl,
    huggingface,
    llama_index,
    msmarco,
    rank_llm,
    sentence_transformers,
    sparse_vectors,
    tevatron,
    toolkit,
    trec,
)
from inpars.contrib.interchange.source import Format
from inpars.errors import UnknownNameError
from inpars.io.triples import read_triple_ids

TEXT_IDS = "ids of queries and documents"

FORMATS: dict[str, Format] = {
    "inpars": Format(
        "synthetic queries of the InPars toolkit (v2), .jsonl: doc_id, text, query, log_probs, ...",
        toolkit.read,
        toolkit.write,
    ),
    "inpars-v1": Format(
        "synthetic queries of InPars v1, .jsonl: doc_id, doc_text, question, log_probs", toolkit.read, toolkit.write_v1
    ),
    "inpars-triples": Format(
        "triples of the InPars toolkit, .tsv: query, positive, negative as texts, quoted where csv quotes",
        partial(toolkit.read_text_triples, quoted=True),
        partial(toolkit.write_text_triples, quoted=True),
        made_ids=TEXT_IDS,
    ),
    "gpl": Format(
        "GPL's folder: corpus.jsonl, qgen-queries.jsonl, qgen-qrels, hard-negatives.jsonl, gpl-training-data.tsv",
        gpl.read,
        gpl.write,
        folder=True,
    ),
    "beir": Format("folder: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv", beir.read, beir.write, folder=True),
    "msmarco": Format(
        "folder: collection.tsv, queries.SPLIT.tsv, qrels.SPLIT.tsv, qidpidtriples.SPLIT.tsv",
        msmarco.read,
        msmarco.write,
        folder=True,
    ),
    "msmarco-triples": Format(
        "triples, .tsv: query, positive, negative as texts, quotes are plain characters (InPars v1's too)",
        partial(toolkit.read_text_triples, quoted=False),
        partial(toolkit.write_text_triples, quoted=False),
        made_ids=TEXT_IDS,
    ),
    "msmarco-ids": Format("triples, .tsv: ids of query, positive, negative", read_triple_ids, msmarco.write_ids),
    "trec": Format(
        "topics (id, tab, text), qrels and runs: one file, or a folder of them", trec.read, trec.write, folder=True
    ),
    "sentence-transformers": Format(
        "columns in .parquet, see --layout: anchor, positive, negative and others",
        sentence_transformers.read,
        sentence_transformers.write,
        made_ids=TEXT_IDS,
        positives_only=True,
    ),
    "flagembedding": Format(
        ".jsonl: query, pos, neg, with pos_scores and neg_scores where a reranker scored all",
        flagembedding.read,
        flagembedding.write,
        made_ids=TEXT_IDS,
        positives_only=True,
    ),
    "tevatron": Format(
        ".jsonl: query_id, query, positive_passages, negative_passages",
        tevatron.read,
        tevatron.write,
        positives_only=True,
    ),
    "rank-llm": Format(
        "requests, .json or .jsonl: query (text, qid), candidates (docid, score, doc)", rank_llm.read, rank_llm.write
    ),
    "llama-index": Format(
        "EmbeddingQAFinetuneDataset, .json: queries, corpus, relevant_docs",
        llama_index.read,
        llama_index.write,
        positives_only=True,
    ),
    "huggingface": Format(
        "a dataset's folder for the hub: queries.jsonl of --input, triples.jsonl of --triples, a card (README.md)",
        None,
        huggingface.write,
        folder=True,
    ),
    "opensearch": Format(
        "word weights of a sparse --retriever as rank_features: a folder of bulk bodies and neural_sparse queries",
        None,
        partial(sparse_vectors.write_bulk, engine="opensearch"),
        folder=True,
    ),
    "elasticsearch": Format(
        "the same as a sparse_vector field, with sparse_vector queries",
        None,
        partial(sparse_vectors.write_bulk, engine="elasticsearch"),
        folder=True,
    ),
    "qdrant": Format(
        "the same as points with a sparse vector, and queries", None, sparse_vectors.write_qdrant, folder=True
    ),
}


def format_of(name: str) -> tuple[str, Format]:
    """The canonical name and the format; `_` equals `-`. Raises UnknownNameError."""
    known = name.lower().replace("_", "-")
    if known not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    return known, FORMATS[known]
