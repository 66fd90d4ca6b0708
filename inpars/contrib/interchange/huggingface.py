"""A dataset's folder for the Hugging Face hub: synthetic queries, triples with texts, and a card. Export only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inpars.cards.card import front_matter, generator_licence, history_of, origin_lines
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.errors import ConfigError
from inpars.io.formats import synthetic_query_record
from inpars.io.manifest import CARD
from inpars.io.storage import atomic_writer, write_jsonl

QUERIES, TRIPLES = "queries.jsonl", "triples.jsonl"
HOLDS = {
    QUERIES: "synthetic queries, each with the document that it was written for and the log-probs of its tokens",
    TRIPLES: "query, relevant document (grade from 1) and negative, with ids and texts",
}


def write(source: Source, folder: Path, layout: Layout, written: Written) -> None:
    """The queries of --input and the triples of --triples, whichever are named, and README.md."""
    if source.is_collection:
        raise ConfigError("this format needs synthetic queries (--input FILE.jsonl), triples (--triples FILE) or both")
    if source.synthetic is not None:
        written.counts[QUERIES] = write_jsonl(folder / QUERIES, _queries(source))
    if source.files is not None:
        written.counts[TRIPLES] = write_jsonl(folder / TRIPLES, _triples(source, written))
    with atomic_writer(folder / CARD) as stream:
        stream.write(_card(source, written))


def _queries(source: Source) -> Iterator[dict[str, Any]]:
    for query, document, _ in source.records():
        yield {**synthetic_query_record(query), "title": document.title, "text": document.text}


def _triples(source: Source, written: Written) -> Iterator[dict[str, Any]]:
    for example in source.examples():
        query, positive = example.query, example.positive
        if not example.negatives:
            written.dropped["no_negative"] += 1
        for negative in example.distinct_negatives:
            yield {
                "query_id": query.query_id,
                "query": query.text,
                "positive_id": positive.doc_id,
                "positive": positive.full_text,
                "grade": example.grade,
                "negative_id": negative.document.doc_id,
                "negative": negative.document.full_text,
            }


def _card(source: Source, written: Written) -> str:
    files = [name for name in HOLDS if written.counts[name]]
    configs = [f"- config_name: {Path(name).stem}\n  data_files: {name}" for name in files]
    header = ["task_categories:\n- text-retrieval", "tags:\n- inpars\n- synthetic-queries", "configs:", *configs]
    origins = (source.synthetic, source.triples)
    history = history_of(*(path for path in origins if path is not None))
    table = [f"| `{name}` | {written.counts[name]:,} | {HOLDS[name]} |" for name in files]
    parts = [
        front_matter(header),
        "# Synthetic training data for retrieval",
        "Made by `inpars`. No person judged the synthetic queries: what each was written for counts as relevant.",
        "\n".join(["## Files", "| file | rows | holds |", "|---|---|---|", *table]),
        "\n".join(["## Origin", *origin_lines(history)]),
        "\n".join(["## Licence", *generator_licence(history), "- the documents have licences of their own"]),
    ]
    return "\n\n".join(parts) + "\n"
