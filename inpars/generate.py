"""`python -m inpars.generate` with the flags of the InPars toolkit's command of that name.

Runs `inpars generate`. Flags without an effect here are accepted and listed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from inpars.errors import ConfigError
from inpars.prompts.load import load_prompt
from inpars.toolkit import CallableModule, dataset_name, flags_of, run_translated, toolkit_parser

PROMPTS = {  # the toolkit's dynamic prompts, and ours for the same collections, which have their own examples
    "promptagator-arguana": "counter-argument",
    "promptagator-dbpedia-entity": "entity",
    "promptagator-fever": "claim",
    "promptagator-fiqa": "inpars-gbq",
    "promptagator-hotpotqa": "inpars-gbq",
    "promptagator-nfcorpus": "medical",
    "promptagator-scidocs": "title",
    "promptagator-scifact": "claim",
    "promptagator-trec-covid": "medical",
    "promptagator-webis-touche2020": "inpars-gbq",
}
IGNORED_FLAGS = {  # and what happens instead
    "tf": "PyTorch is used",
    "torch_compile": "not needed",
    "int8": "bfloat16 is used",
    "fp16": "bfloat16 is used",
    "max_prompt_length": "the model's own limit is kept",
    "max_query_length": "examples' queries are shown whole",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `inpars generate` with the toolkit's flags; returns the exit code."""
    return run_translated(_parser(), arguments, lambda flags: [translate(flags)], IGNORED_FLAGS, _ignored)


def translate(flags: argparse.Namespace) -> list[str]:
    """The arguments of the `inpars` command that does the same."""
    if flags.revision is not None:
        raise ConfigError("--revision cannot be chosen here; fetch that revision and give its folder as --base_model")
    half = flags.fp16 or flags.int8
    options = {
        "dataset": dataset_name(flags.dataset),
        "prompt": PROMPTS.get(flags.prompt, flags.prompt),
        "model": flags.base_model,
        "max-documents": flags.max_generations,
        "max-doc-tokens": flags.max_doc_length,
        "max-new-tokens": flags.max_new_tokens,
        "seed": flags.seed,
        "dtype": "bfloat16" if half else "float32",
        "device": flags.device,
        "batch-size": flags.batch_size,
        "output": flags.output,
    }
    return ["generate", *flags_of(options), *_examples(flags)]


def _examples(flags: argparse.Namespace) -> list[str]:
    """Examples from a file, sampled per document; the toolkit used the same ones for all documents."""
    if flags.examples is None:
        return []
    prompt = load_prompt(PROMPTS.get(flags.prompt, flags.prompt))
    count = [] if flags.n_fewshot_examples is None else [f"--num-examples={flags.n_fewshot_examples}"]
    choice = ["--examples-choice=random"] if prompt.wants_examples or count else []
    return [f"--examples={flags.examples}", *choice, *count]


def _ignored(flags: argparse.Namespace) -> list[str]:
    ignored = []
    if flags.prompt in PROMPTS:
        ignored.append(f"--prompt {flags.prompt} ({PROMPTS[flags.prompt]!r}, with examples of its own, is used)")
    if flags.n_fewshot_examples is not None and flags.examples is None:
        ignored.append("--n_fewshot_examples (the prompt's own examples are shown; give a file with --examples)")
    return ignored


def _parser() -> argparse.ArgumentParser:
    parser = toolkit_parser("generate", "generate")
    parser.add_argument("--dataset", required=True, help="BEIR name, ir_datasets name, or path of a corpus")
    parser.add_argument("--output", required=True, help="JSON lines")
    parser.add_argument("--base_model", default="EleutherAI/gpt-j-6B", help="causal language model (%(default)s)")
    parser.add_argument("--prompt", default="inpars", help="prompt by name or file (%(default)s)")
    parser.add_argument("--dataset_source", default="ir_datasets", help="accepted for compatibility, ignored")
    parser.add_argument("--n_fewshot_examples", type=int, help="examples of --examples in a prompt")
    parser.add_argument("--examples", help="JSON lines with document and query (the toolkit downloads its own)")
    parser.add_argument("--max_doc_length", type=int, default=256, help="tokens of a document (%(default)s)")
    parser.add_argument("--max_query_length", type=int, help="accepted for compatibility, ignored")
    parser.add_argument("--max_prompt_length", type=int, help="accepted for compatibility, ignored")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="tokens of a query (%(default)s)")
    parser.add_argument("--max_generations", type=int, default=100_000, help="documents (%(default)s)")
    parser.add_argument("--batch_size", type=int, help="documents decoded together")
    parser.add_argument("--revision", help="refused")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (%(default)s)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N")
    for name in ("fp16", "int8", "torch_compile", "tf"):
        parser.add_argument(f"--{name}", action="store_true", help=IGNORED_FLAGS[name])
    return parser


sys.modules[__name__].__class__ = CallableModule
if __name__ == "__main__":
    sys.exit(main())
