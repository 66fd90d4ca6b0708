"""Keeps track of prompt examples that come from a collection, and leaves them out of evaluation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from inpars.errors import ConfigError
from inpars.io.storage import read_lines, storage_errors, write_lines
from inpars.io.topics import Topics
from inpars.progress import SILENT, Progress
from inpars.prompts.mixture import PromptSource
from inpars.records import Qrels

SUFFIX = ".example_query_ids.txt"


def example_query_ids(prompt: PromptSource) -> list[str]:
    """Sorted ids of the prompt's example queries; invented examples have no id."""
    return sorted({example.query_id for example in prompt.examples if example.query_id})


def write_example_query_ids(prompt: PromptSource, output: Path) -> None:
    """Write the ids next to the output, one per line; no file if there are none."""
    path, ids = output.with_name(output.name + SUFFIX), example_query_ids(prompt)
    if ids:
        write_lines(path, ids)
        return
    with storage_errors(path):
        path.unlink(missing_ok=True)


def read_ids(path: Path) -> list[str]:
    """Ids of a file, one per line; text after a tab is ignored, as in the InPars toolkit's file."""
    return [line.split("\t")[0].strip() for _, line in read_lines(path)]


def none_left_out(path: Path) -> str:
    """The note for a file of ids that names none of the queries."""
    return f"{path} names none of the queries, so none is left out; it needs one query id per line"


def leave_out(qrels: Qrels, query_ids: Collection[str]) -> Qrels:
    """Judgements without these queries. Raises ConfigError if none is left."""
    remaining = {query_id: grades for query_id, grades in qrels.items() if query_id not in query_ids}
    if qrels and not remaining:
        raise ConfigError("all judged queries are examples of the prompt; take the examples from another split")
    return remaining


def without_examples(topics: Topics, prompt: PromptSource, progress: Progress = SILENT) -> Topics:
    """The topics without the prompt's example queries; notes their number."""
    example_ids = set(example_query_ids(prompt))
    queries = {query_id: text for query_id, text in topics.queries.items() if query_id not in example_ids}
    count = len(topics.queries) - len(queries)
    if not count:
        return topics
    progress.note(left_out_line(count))
    return replace(topics, queries=queries, qrels=leave_out(topics.qrels, example_ids))


def left_out_line(count: int) -> str:
    """`3 queries are left out: ...`; empty if there are none."""
    return f"{count} judged queries are left out: the prompt shows them as examples" if count else ""
