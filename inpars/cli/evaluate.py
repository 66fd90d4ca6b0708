"""Measure TREC runs against judgements, side by side, with paired tests of their differences.

The first run is the baseline. Default measures follow the collection: nDCG@10 and R@100 for BEIR, RR@10 and R@1000 in
file order for MS MARCO dev, nDCG@10, RR and AP (grade 2 or higher) for TREC DL 2019 and 2020, nDCG@20 and AP for
Robust04. A judged query missing from a run scores 0. Below the table: which differences are noise, and what puts the
numbers in doubt (unjudged results, repeated documents, ranks that contradict scores, test queries seen in training,
the BM25 variant). Runs may be in TREC or MS MARCO format.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from inpars.cli.common import (
    DatasetFlags,
    add_display_flags,
    add_path,
    add_split_flag,
    console,
    open_dataset,
    print_result,
    query_texts,
    say_no_result,
)
from inpars.documents.datasets import load_judged
from inpars.errors import ConfigError
from inpars.io.storage import write_json
from inpars.io.topics import Topics
from inpars.options import add_flags, from_flags
from inpars.progress import Progress
from inpars.prompts.load import load_prompt
from inpars.provenance import current_argv, shown_command
from inpars.report.render import json_path, write_report
from inpars.stages.card_numbers import add_numbers_of_evaluation, split_label
from inpars.stages.evaluate import (
    EvaluateOptions,
    evaluate_files,
    evaluation_text,
    evaluation_values,
    preset_for,
    report_evaluation,
)
from inpars.stages.evaluate_files import run_names
from inpars.stages.examples import leave_out, none_left_out, read_ids


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, DatasetFlags)
    add_split_flag(parser)
    add_path(parser, "--run", "run to evaluate; repeatable", several=True, required=True)
    add_flags(parser, EvaluateOptions)
    add_path(
        parser,
        "--leave-out",
        "ids of queries to exclude, one per line: those shown as examples in a prompt, for instance",
    )
    add_path(
        parser,
        "--train-queries",
        "training queries or triples to look for in the test set (.jsonl or .tsv; those of manifests are"
        " found automatically)",
        several=True,
    )
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="NAME",
        help="prompt whose examples are looked for in the test set",
    )
    add_path(parser, "--output", "write the measures, also per query, to this JSON file")
    add_path(parser, "--report", "write an HTML page with plots, and the same as JSON next to it")
    add_display_flags(parser)


def run(flags: argparse.Namespace) -> int:
    """Evaluate; the exit code is 1 if a run and the judgements have nothing in common."""
    chosen, options, progress = from_flags(DatasetFlags, flags), from_flags(EvaluateOptions, flags), console(flags)
    if flags.report and (report_values := json_path(flags.report)) in (flags.report, flags.output):
        raise ConfigError(f"--report {flags.report} also writes {report_values}; rename the report or --output")
    preset = preset_for(options, chosen.dataset)
    prompts = [load_prompt(name) for name in flags.prompt]
    examples = {f"the examples of prompt {p.name!r}": [example.query for example in p.examples] for p in prompts}
    judged = load_judged(chosen.dataset, chosen.qrels, flags.split, progress)
    qrels = leave_out(judged.qrels, set(read_ids(flags.leave_out)) if flags.leave_out else ())
    if flags.leave_out and len(qrels) == len(judged.qrels):
        progress.note(none_left_out(flags.leave_out))
    texts, paths = query_texts(chosen, flags.split, progress), run_names(flags.run)
    topics = Topics(flags.split, texts, qrels, origin=judged.origin)
    document_text = _document_text(flags, progress) if options.wins or flags.report else None
    evaluated = evaluate_files(
        paths,
        topics,
        preset,
        options,
        training=flags.train_queries,
        examples=examples,
        document_text=document_text,
        left_out=len(judged.qrels) - len(qrels),
        progress=progress,
    )
    if not (evaluated.problems or options.judged_only):
        add_numbers_of_evaluation(
            paths,
            evaluated.results,
            preset.metrics[0],
            (chosen.dataset or str(chosen.qrels), split_label(flags.split, judged.origin)),
            evaluated.baseline,
            progress,
        )
    values = evaluation_values(evaluated)
    if flags.output:
        write_json(flags.output, values, ensure_ascii=False)
    if flags.report:
        name, command = chosen.dataset or str(chosen.qrels), shown_command(current_argv())
        write_report(
            report_evaluation(
                evaluated, paths, topics, options, name=name, texts=document_text or (lambda _: None), command=command
            ),
            flags.report,
        )
    print_result(flags, evaluation_text(evaluated), values)
    return say_no_result(evaluated.problems)


def _document_text(flags: argparse.Namespace, progress: Progress) -> Callable[[str], str] | None:
    if flags.dataset is None and flags.corpus is None:
        return None
    corpus = open_dataset(flags, progress).corpus
    return lambda doc_id: corpus[doc_id].full_text if doc_id in corpus else ""
