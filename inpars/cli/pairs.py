"""Make training pairs from what people wrote: headings, FAQs, search logs with clicks, votes.

The output is a file of queries like that of `inpars generate`, without log-probs: `filter`, `split`, `triples` and
`inpars run --pairs` take it. Give any number of sources; duplicate queries count once.
"""

from __future__ import annotations

import argparse

from inpars.cli.common import (
    DatasetFlags,
    add_exclude_queries_flag,
    add_output_flags,
    add_path,
    console,
    filter_context,
    open_dataset_if_named,
    print_result,
)
from inpars.options import add_flags, from_flags
from inpars.stages.filter import BY_PROMPT, RESEMBLING
from inpars.stages.pairs import PairFiles, PairsOptions, answers_path, write_pairs_file
from inpars.stages.stage import dropped_line

SOURCES = {
    "faq": "questions with answers: .csv, .tsv or .jsonl with columns question and answer (and doc_id), or a page "
    "(.md, .html, .rst, .docx) whose headings ask; without --dataset the answers become the corpus",
    "clicks": "search log, .tsv, .csv or .jsonl, with columns query, doc_id, clicks (or clicked) and impressions; "
    "without the last two a line is a click",
    "votes": "thumbs of the page, as inpars serve --feedback stores them",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, text in SOURCES.items():
        add_path(parser, f"--{name}", f"{text}; may be repeated", several=True)
    add_flags(parser, PairsOptions)
    add_exclude_queries_flag(parser)
    add_flags(parser, DatasetFlags)
    parser.set_defaults(unknown_judgements="keep")  # nothing is evaluated here
    add_output_flags(
        parser, "queries by people, JSON lines; for --faq without a corpus, the answers go to NAME.corpus.jsonl"
    )


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    options = from_flags(PairsOptions, flags)
    dataset = open_dataset_if_named(flags, progress)
    manifest = write_pairs_file(
        PairFiles(faq=flags.faq, clicks=flags.clicks, votes=flags.votes),
        options,
        output=flags.output,
        corpus=dataset.corpus if dataset else None,
        context=filter_context(flags, dataset, progress),
        progress=progress,
        overwrite=flags.overwrite,
    )
    results = manifest.results
    kinds = ", ".join(f"{kind} {counts['kept']}" for kind, counts in results[BY_PROMPT].items() if counts["kept"])
    text = f"{flags.output}: {manifest.output.records} pairs: {kinds} ({dropped_line(manifest.dropped)})"
    if resembling := results.get(RESEMBLING):
        text += f"; {resembling} are equal or similar to the dataset's queries (--exclude-queries drops them)"
    if dataset is None:
        text += f"\ntheir documents: {answers_path(flags.output)}"
    values = {"output": str(flags.output), "pairs": manifest.output.records, "dropped": manifest.dropped, **results}
    print_result(flags, text, values)
