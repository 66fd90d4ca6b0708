"""Train a retriever (bi-encoder) or a reranker on triples.

A T5 checkpoint becomes a monoT5, a BERT-like one a cross-encoder, a decoder a causal reranker. Killed at any moment,
the same command goes on after the last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.commands.common import add_output_flags, console, print_result
from inpars.options import add_flags, from_flags
from inpars.stages.training import train_reranker_from_file, train_retriever_from_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a parser for each of the two models."""
    from inpars.training.reranker import RerankerOptions
    from inpars.training.retriever import RetrieverOptions

    kinds = parser.add_subparsers(dest="what", required=True, metavar="retriever|reranker")
    for name, options, text in (
        ("retriever", RetrieverOptions, "a bi-encoder"),
        ("reranker", RerankerOptions, "a monoT5, a cross-encoder or a causal reranker"),
    ):
        own = kinds.add_parser(name, help=f"train {text}", description=f"Train {text} on triples.", allow_abbrev=False)
        own.add_argument(
            "--triples", type=Path, required=True, metavar="PATH", help="tab-separated texts: query, positive, negative"
        )
        own.add_argument("--dataset", metavar="NAME", help="accepted for symmetry with the other stages; not read")
        add_flags(own, options)
        add_output_flags(own, "folder of the trained model")


def run(flags: argparse.Namespace) -> None:
    """Train."""
    from inpars.training.reranker import RerankerOptions
    from inpars.training.retriever import RetrieverOptions

    common = {"output": flags.output, "progress": console(flags), "overwrite": flags.overwrite}
    if flags.what == "retriever":
        manifest = train_retriever_from_file(flags.triples, from_flags(RetrieverOptions, flags), **common)
    else:
        manifest = train_reranker_from_file(flags.triples, from_flags(RerankerOptions, flags), **common)
    examples, losses = manifest.results["examples"], manifest.results["curve"]["losses"]
    loss = f", loss {losses[0]:.4f} to {losses[-1]:.4f}" if losses else ""
    text = f"{flags.output}: trained on {examples} examples in {manifest.seconds:.0f} s{loss}"
    print_result(flags, text, {"output": str(flags.output), "examples": examples, "losses": losses})
