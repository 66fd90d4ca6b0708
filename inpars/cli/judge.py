"""Have a language model judge what runs retrieved, with TREC's grades from 0 to 3, and write qrels.

Pools the top documents of all runs. Next to the qrels it writes one line per pair (grade, log-prob, reason) and a note
by which `evaluate`, `run` and reports mark numbers as judged by a model. With people's judgements (--qrels, the
dataset's own, or --sample, which asks you in the terminal) it reports agreement: Cohen's kappa, and Kendall's tau over
the runs. Run the same command again to resume; no pair is judged twice.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from inpars.cli.common import (
    DatasetFlags,
    add_output_flags,
    add_path,
    add_split_flag,
    console,
    open_dataset,
    print_result,
    query_texts,
)
from inpars.documents.datasets import load_judged, load_topics
from inpars.errors import ConfigError
from inpars.evaluation.measures import parse_metrics
from inpars.evaluation.run_files import read_ordered_run
from inpars.generation.api.options import ApiOptions, check_api
from inpars.io.manifest import Manifest
from inpars.judging import Pair
from inpars.judging.agreement import (
    BY_MODEL,
    PERSON,
    agreement_lines,
    agreements_with,
    as_values,
    cautions,
    note_agreement,
    order_lines,
    order_systems,
)
from inpars.judging.sample import chosen_pairs, drawn, pairs_of, pooled
from inpars.judging.terminal import answers_path, ask_person, read_answers
from inpars.options import COUNT, add_flags, add_number, from_flags
from inpars.progress import Progress
from inpars.prompts.judging import load_judging_prompt
from inpars.records import Qrels, Run
from inpars.rerankers.rerank import check_ids
from inpars.stages.evaluate_files import run_names
from inpars.stages.generate_by_api import SERVER_BACKENDS
from inpars.stages.judge import JudgeOptions, dry_run, judge_pairs, load_judge, read_grades
from inpars.stages.stage import dropped_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, DatasetFlags)
    parser.set_defaults(unknown_judgements="keep")  # only used for comparison
    add_split_flag(parser)
    add_path(parser, "--run", "run whose top documents are judged; repeatable", several=True, required=True)
    parser.add_argument(
        "--prompt",
        default="relevance",
        metavar="NAME|PATH",
        help="shipped judging prompt (relevance, relevance-reason) or prompt file (default: relevance)",
    )
    add_flags(parser, JudgeOptions)
    add_number(
        parser,
        "--sample",
        bounds=COUNT,
        help="afterwards show you this many pairs, equally from all grades, to judge in the terminal; answers"
        " are stored next to the output",
    )
    parser.add_argument(
        "--metric", default="nDCG@10", metavar="NAME", help="measure by which systems are ordered (default: nDCG@10)"
    )
    add_flags(parser, ApiOptions)
    add_output_flags(parser, "judgements; in BEIR format if the name ends in .tsv, else in TREC format")


def run(flags: argparse.Namespace) -> None:
    progress, options, api = console(flags), from_flags(JudgeOptions, flags), from_flags(ApiOptions, flags)
    check_api(api, asks_server=options.backend in SERVER_BACKENDS)
    metrics = parse_metrics(flags.metric)
    if len(metrics) != 1:
        raise ConfigError(f"--metric orders systems by one measure, not by {len(metrics)}: {', '.join(metrics)}")
    prompt = load_judging_prompt(flags.prompt)
    runs = {name: read_ordered_run(path, progress.note) for name, path in run_names(flags.run).items()}
    dataset = open_dataset(flags, progress)
    chosen = from_flags(DatasetFlags, flags)
    queries = query_texts(chosen, flags.split, progress)
    ids = chosen_pairs(pooled(runs.values(), options.depth), options.limit, options.max_pairs, options.seed)
    check_ids(ids, queries, dataset.corpus)
    pairs = [Pair(query_id, queries[query_id], dataset.corpus[doc_id]) for query_id, doc_id in ids]
    if api.dry_run:
        estimate = dry_run(pairs, prompt, options, api, flags.output)
        print_result(flags, str(estimate), asdict(estimate))
        return
    reference = _reference(chosen, flags.split, progress)
    manifest = judge_pairs(
        pairs,
        dataset.corpus_stamp,
        prompt,
        options,
        output=flags.output,
        make_judge=lambda: load_judge(options, prompt, api, flags.output, progress),
        api=api,
        progress=progress,
        overwrite=flags.overwrite,
    )
    grades = read_grades(flags.output)
    if flags.sample is not None:
        _ask(pairs, grades, flags.sample, options.seed, flags.output)
    others = reference | {PERSON: read_answers(answers_path(flags.output))}
    _report(flags, manifest, grades, {name: qrels for name, qrels in others.items() if qrels}, runs, metrics[0])


def _report(
    flags: argparse.Namespace,
    manifest: Manifest,
    grades: Qrels,
    others: dict[str, Qrels],
    runs: dict[str, Run],
    metric: str,
) -> None:
    """Print the grades, their agreement with other judgements, and warnings."""
    model = str(manifest.results["model"])
    agreements = agreements_with(grades, others)
    orders = {
        agreement.reference: order_systems(runs, others[agreement.reference], grades, metric)
        for agreement in agreements
        if agreement.reference != PERSON and len(runs) > 1
    }
    with_people = [agreement for agreement in agreements if BY_MODEL not in agreement.reference]
    warnings = cautions(with_people, manifest.results.get("parameters"))
    note_agreement(flags.output, with_people)
    counts = ", ".join(f"{grade}: {count}" for grade, count in manifest.results["grades"].items())
    dropped = f"; {dropped_line(manifest.dropped)}" if manifest.dropped else ""
    lines = [f"{flags.output}: {sum(map(len, grades.values()))} pairs judged by {model}, grades {counts}{dropped}"]
    for agreement in agreements:
        reference = agreement.reference
        lines += agreement_lines(agreement, model)
        lines += order_lines(orders[reference], reference, model) if reference in orders else []
    lines += [f"warning: {warning}" for warning in warnings]
    values = {"output": str(flags.output), **manifest.results, "dropped": manifest.dropped, "warnings": warnings}
    print_result(flags, "\n".join(lines), {**values, **as_values(agreements, list(orders.values()))})


def _reference(chosen: DatasetFlags, split: str, progress: Progress) -> dict[str, Qrels]:
    """Judgements to compare with, by name: those of --qrels, else the dataset's, else none."""
    if chosen.qrels is not None:
        topics, name = load_judged(None, chosen.qrels, split, progress), chosen.qrels.name
    elif chosen.dataset is not None and chosen.queries is None:
        topics, name = load_topics(chosen.dataset, split), Path(chosen.dataset).name or chosen.dataset
    else:
        return {}
    return {name if topics.origin is None else f"{name}{BY_MODEL}{topics.origin.model})": topics.qrels}


def _ask(pairs: Sequence[Pair], grades: Qrels, count: int, seed: int, output: Path) -> None:
    """Have a person judge a sample on stdin; prompts go to stderr, since stdout is for results."""
    by_ids = {(pair.query_id, pair.document.doc_id): pair for pair in pairs}
    sample = [by_ids[pair] for pair in drawn(pairs_of(grades), count, seed)]

    def show(text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)

    ask_person(sample, answers_path(output), sys.stdin.readline, show)
    show("\n")
