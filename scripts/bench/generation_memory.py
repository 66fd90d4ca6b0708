"""Peak memory of generation at batch 32 with few and with many new tokens: it grows with keys and values alone.

Each side runs in a process of its own. Beside the growth stands what the keys and values of the further tokens take,
and what the vocabulary's scores of every step would take, which are not kept.

    python scripts/bench/generation_memory.py
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

from machine import print_tier

from inpars.documents.datasets import load_dataset
from inpars.documents.selection import choose_documents
from inpars.generation.causal_lm import CausalGenerator
from inpars.generation.settings import DecodingSettings
from inpars.models.loading import load_config
from inpars.prompts.load import load_prompt

ROWS, FEW, MANY = 32, 16, 64
NEVER = "\0"  # a stop string no model says, so that all rows go on to the limit
MIB = 1 << 20


def measure(dataset: str, model: str, new_tokens: int) -> None:
    """Generate once and print this process's peak memory in bytes."""
    prompt = load_prompt("inpars")
    endless = type(prompt)(name="endless", form=prompt.form, examples=prompt.examples, stop=(NEVER,))
    documents = choose_documents(load_dataset(dataset).corpus, maximum=ROWS, minimum_characters=400).documents
    generator = CausalGenerator(model, endless, DecodingSettings(128, new_tokens, batch_size=ROWS))
    generator.generate(documents)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Measure both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="python-docs", help="collection (default: %(default)s)")
    parser.add_argument("--model", default="smollm2-135m", help="causal language model (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="accepted; it is quick")
    parser.add_argument("--new-tokens", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.new_tokens is not None:
        measure(flags.dataset, flags.model, flags.new_tokens)
        return
    print_tier()
    peaks = {}
    for count in (FEW, MANY):
        command = [sys.executable, __file__, "--dataset", flags.dataset, "--model", flags.model]
        done = subprocess.run([*command, "--new-tokens", str(count)], capture_output=True, text=True, check=True)
        peaks[count] = int(done.stdout.split()[-1])
        print(f"{count} new tokens: {peaks[count] / MIB:8.1f} MiB at most")
    config = load_config(flags.model)
    heads = config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
    further = (MANY - FEW) * ROWS * config.num_hidden_layers * 2 * heads * 2  # keys and values, two bytes each
    scores = (MANY - FEW) * ROWS * config.vocab_size * 4
    print(f"growth: {(peaks[MANY] - peaks[FEW]) / MIB:.1f} MiB")
    print(f"keys and values of the further tokens: {further / MIB:.1f} MiB")
    print(f"scores of every step, not kept: {scores / MIB:.1f} MiB")


if __name__ == "__main__":
    main()
