"""Train a retriever (bi-encoder) or a reranker on triples, or a reader on questions with marked answers.

A T5 checkpoint becomes a monoT5, a BERT-like one a cross-encoder, a decoder a causal reranker. Killed at any moment,
run the same command again to resume at the last checkpoint.
"""

from __future__ import annotations

import argparse
from typing import Any

from inpars.cli.common import (
    add_output_flags,
    add_path,
    add_prompt_flags,
    add_track_flag,
    console,
    open_dataset_if_named,
    print_result,
    shown_prompt,
    tracked,
)
from inpars.models.publication import check_hub_name, push_folder
from inpars.options import add_flags, from_flags
from inpars.progress import Progress
from inpars.stages.train import train_reader_from_file, train_reranker_from_file, train_retriever_from_file
from inpars.tracking import log_results
from inpars.training.options import OF_RECIPES, ReaderOptions, RerankerOptions, RetrieverOptions, with_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="what", required=True, metavar="retriever|reranker|reader")
    for name, options, text in (
        ("retriever", RetrieverOptions, "a bi-encoder"),
        ("reranker", RerankerOptions, "a monoT5, a cross-encoder or a causal reranker"),
    ):
        subparser = kinds.add_parser(
            name, help=f"train {text}", description=f"Train {text} on triples.", allow_abbrev=False
        )
        add_path(subparser, "--triples", "tab-separated texts: query, positive, negative", required=True)
        subparser.add_argument("--dataset", metavar="NAME", help="dataset with the documents of --dev-queries")
        add_path(subparser, "--corpus", "corpus file instead of the dataset's")
        subparser.add_argument(
            "--push-to-hub", metavar="NAME", help="upload the model; a new repository there is private"
        )
        add_flags(subparser, options)
        if options is RerankerOptions:
            subparser.set_defaults(**dict.fromkeys(OF_RECIPES))  # None: not given, so the recipe decides
            add_prompt_flags(subparser, "prompt around each document for a query likelihood; stored with the model")
        add_output_flags(subparser, "folder of the trained model")
        add_track_flag(subparser)
    _add_reader(kinds)


def _add_reader(kinds: Any) -> None:  # noqa: ANN401 - argparse's subparsers
    text = "Train a reader, for `inpars ask --reader`: it marks an answer's words in a text, or finds none."
    subparser = kinds.add_parser(
        "reader", help="train a model that marks answers in texts", description=text, allow_abbrev=False
    )
    add_path(subparser, "--squad", "questions in SQuAD's json, .gz too", required=True)
    add_flags(subparser, ReaderOptions)
    add_output_flags(subparser, "folder of the trained model")
    add_track_flag(subparser)


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    with tracked(flags, progress):
        if flags.what == "reader":
            return _run_reader(flags, progress)
        return _run(flags, progress)


def _run(flags: argparse.Namespace, progress: Progress) -> None:
    if flags.push_to_hub is not None:
        check_hub_name(flags.push_to_hub)
    common: dict[str, Any] = {"output": flags.output, "progress": progress, "overwrite": flags.overwrite}
    if flags.dev_queries is not None:
        common["dataset"] = open_dataset_if_named(flags, progress)
    if flags.what == "retriever":
        manifest = train_retriever_from_file(flags.triples, from_flags(RetrieverOptions, flags), **common)
    else:
        options = reranker_options(flags)
        manifest = train_reranker_from_file(flags.triples, options, prompt=shown_prompt(flags, options), **common)
    pushed = {"hub": push_folder(flags.output, flags.push_to_hub)} if flags.push_to_hub is not None else {}
    results = manifest.results
    examples, losses = results["examples"], results["curve"]["losses"]
    loss = f", loss {losses[0]:.4f} to {losses[-1]:.4f}" if losses else ""
    dev = ""
    if "best" in results:
        start, best = results["start"], results["best"]["nDCG@10"]
        log_results({"start": {"dev nDCG@10": start}, "best": {"dev nDCG@10": best}})
        dev = f", dev nDCG@10 {start:.4f} to {best:.4f}"
    text = f"{flags.output}: trained on {examples} examples in {manifest.seconds:.0f} s{loss}{dev}"
    values = {"output": str(flags.output), "examples": examples, "losses": losses, **pushed}
    values |= {name: results[name] for name in ("validation", "warning") if name in results}
    print_result(flags, "\n".join([text, *pushed.values()]), values)


def _run_reader(flags: argparse.Namespace, progress: Progress) -> None:
    manifest = train_reader_from_file(
        flags.squad, from_flags(ReaderOptions, flags), output=flags.output, progress=progress, overwrite=flags.overwrite
    )
    held_out, losses = manifest.results["held_out"], manifest.results["curve"]["losses"]
    text = f"{flags.output}: trained on {manifest.results['examples']} questions in {manifest.seconds:.0f} s"
    if held_out:
        log_results({"held out": held_out})
        text += (
            f"; {held_out['questions']:.0f} held out: EM {held_out['exact_match']:.3f}, F1 {held_out['f1']:.3f}, "
            f"threshold {held_out['threshold']:g}; on those with an answer, without threshold: EM "
            f"{held_out['answerable_exact_match']:.3f}, F1 {held_out['answerable_f1']:.3f}"
        )
    print_result(flags, text, {"output": str(flags.output), "losses": losses, "held_out": held_out})


def reranker_options(flags: argparse.Namespace) -> RerankerOptions:
    """Options from the flags given, else from the recipe, else the defaults."""
    recipe_flags = {name: value for name, value in vars(flags).items() if name in OF_RECIPES and value is not None}
    other_flags = argparse.Namespace(**{name: value for name, value in vars(flags).items() if name not in OF_RECIPES})
    return from_flags(RerankerOptions, other_flags, **with_recipe(flags.recipe, recipe_flags))
