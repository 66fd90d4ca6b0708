"""Documents a second of query generation: ours against the InPars toolkit's way, in one go on this machine.

The toolkit gives every whole prompt to `generate`, which decodes to the token limit and keeps the vocabulary's scores
of every step; its defaults are float32 and batches of one. Run it on an idle machine:

    python scripts/bench/generation.py --dataset beir/nfcorpus/test        256 documents
    python scripts/bench/generation.py --quick                             python-docs, under a minute

With `pip install 'llama-cpp-python[server]' openai` a llama.cpp server is a further side; it is left out where absent.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import llama_server as llama
import torch
from allocator import as_shipped

from inpars.datasets import load_dataset
from inpars.documents.selection import choose_documents
from inpars.generation.causal_lm import CausalGenerator
from inpars.generation.settings import DecodingSettings
from inpars.models import loading as models
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.prompting.prompts import load_prompt
from inpars.prompting.templates import Prompt
from inpars.records import Document

MAX_DOC_TOKENS, MAX_NEW_TOKENS = 160, 32
SLOW_SHARE = 8  # the slowest sides get this share of the documents: rates, not times, are compared


class Toolkit:
    """Whole prompts through `generate`, as the InPars toolkit's generators do."""

    def __init__(self, model: str, prompt: Prompt, dtype: torch.dtype, batch_size: int) -> None:
        self._network, self._tokenizer = models.load_causal_lm(model, device=pick_device(), dtype=dtype)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._prompt, self._batch_size = prompt, batch_size

    def queries(self, documents: Sequence[Document]) -> list[str]:
        """A query for each document."""
        found: list[str] = []
        for start in range(0, len(documents), self._batch_size):
            found += self._batch([document.full_text for document in documents[start : start + self._batch_size]])
        return found

    def _batch(self, texts: Sequence[str]) -> list[str]:
        cut = [
            text[: offsets[-1][1]]
            for text, offsets in zip(
                texts,
                self._tokenizer(
                    list(texts),
                    add_special_tokens=False,
                    truncation=True,
                    max_length=MAX_DOC_TOKENS,
                    return_offsets_mapping=True,
                )["offset_mapping"],
                strict=True,
            )
        ]
        tokens = self._tokenizer([self._prompt.render(text) for text in cut], padding=True, return_tensors="pt")
        tokens = tokens.to(self._network.device)
        with torch.inference_mode():
            output = self._network.generate(
                **tokens,
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                output_scores=True,
                return_dict_in_generate=True,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        written = output.sequences[:, tokens["input_ids"].shape[1] :]
        log_probs = torch.stack(output.scores, dim=1).log_softmax(dim=-1)  # as the toolkit: all steps, whole vocabulary
        log_probs.gather(2, written[:, :, None])
        return [self._prompt.parse(self._tokenizer.decode(row, skip_special_tokens=True)) for row in written]


class Ours:
    """This package's generator."""

    def __init__(self, model: str, prompt: Prompt, dtype: str) -> None:
        self._generator = CausalGenerator(
            model,
            prompt,
            DecodingSettings(MAX_DOC_TOKENS, MAX_NEW_TOKENS),
            dtype=dtype,  # type: ignore[arg-type]
        )

    def queries(self, documents: Sequence[Document]) -> list[str]:
        """A query for each document."""
        found = [""] * len(documents)
        plan = self._generator.plan(documents)
        chunks = ([documents[position] for position in chunk] for chunk in plan)
        for chunk, written in zip(plan, self._generator.generate_each(chunks), strict=True):
            for position, queries in zip(chunk, written, strict=True):
                found[position] = queries[0].text
        return found


class Side(Protocol):
    """Something that writes queries."""

    def queries(self, documents: Sequence[Document]) -> list[str]:
        """A query for each document."""
        ...


def measure(make: Callable[[], Side], documents: Sequence[Document], repeats: int) -> tuple[float, list[str]]:
    """Median documents a second, the model's loading left out, and the queries."""
    side = make()
    as_shipped(ours=isinstance(side, Ours))
    side.queries(documents[:2])
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        queries = side.queries(documents)
        rates.append(len(documents) / (time.perf_counter() - start))
    return statistics.median(rates), queries


def measure_llama_cpp(model: str, prompt: Prompt, documents: Sequence[Document], python: str) -> float | None:
    """Documents a second of a llama.cpp server with the same model file; None where there is no server or no file."""
    file = llama.model_file(model)
    if file is None or not llama.is_there(python):
        return None
    with llama.server(python, file) as url:
        return measure(lambda: llama.LlamaCpp(url, model, prompt, MAX_DOC_TOKENS, MAX_NEW_TOKENS), documents, 1)[0]


def products(model: str, prompt: Prompt, documents: Sequence[Document], queries: Sequence[str]) -> float:
    """Multiplications and additions in a document's matrix products, the shared prefix and attention left out."""
    network, tokenizer = models.load_causal_lm(model, device=torch.device("cpu"), dtype=torch.float32)
    head = network.get_output_embeddings().weight.numel()
    linear = sum(module.weight.numel() for module in network.modules() if isinstance(module, torch.nn.Linear)) - head
    own = [min(MAX_DOC_TOKENS, len(tokenizer(document.full_text)["input_ids"])) for document in documents]
    cue = len(tokenizer(prompt.suffix)["input_ids"])
    written = [len(tokenizer(query)["input_ids"]) + 1 for query in queries]  # and the token that ends it
    return 2.0 * (linear * (sum(own) + sum(written) + cue * len(own)) + head * sum(written)) / len(own)


def matrix_peak(dtype: torch.dtype, size: int = 4096) -> float:
    """FLOP a second of a large matrix product on this machine, the best of three."""
    left = torch.randn(size, size, dtype=dtype, device=pick_device())
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        (left @ left).sum().item()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def main() -> None:
    """Measure all sides and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="python-docs", help="collection (default: %(default)s)")
    parser.add_argument("--model", default="smollm2-135m", help="causal language model (default: %(default)s)")
    parser.add_argument("--prompt", default="inpars", help="prompt (default: %(default)s)")
    parser.add_argument("--documents", type=int, default=256, help="documents (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="measurements a side (default: %(default)s)")
    parser.add_argument(
        "--llama-python", default=sys.executable, help="interpreter that has llama-cpp-python (default: this one)"
    )
    parser.add_argument("--quick", action="store_true", help="32 documents")
    flags = parser.parse_args()
    prompt = load_prompt(flags.prompt)
    count = 32 if flags.quick else flags.documents
    documents = choose_documents(load_dataset(flags.dataset).corpus, maximum=count, minimum_characters=200).documents
    few = documents[:: SLOW_SHARE if not flags.quick else 4]
    fast = pick_dtype("auto", pick_device())
    print(f"{flags.model}, {len(documents)} documents of {flags.dataset}, {describe(pick_device(), fast)}")
    default, slow_queries = measure(lambda: Toolkit(flags.model, prompt, torch.float32, 1), few, 1)
    plain, _ = measure(lambda: Toolkit(flags.model, prompt, torch.float32, 16), few, 1)
    best, _ = measure(lambda: Toolkit(flags.model, prompt, fast, 16), documents, flags.repeats)
    exact, exact_queries = measure(lambda: Ours(flags.model, prompt, "float32"), few, 1)
    ours, queries = measure(lambda: Ours(flags.model, prompt, "auto"), documents, flags.repeats)
    server = measure_llama_cpp(flags.model, prompt, few, flags.llama_python)
    work = products(flags.model, prompt, documents, queries)
    for name, rate in (
        ("toolkit, float32, batch 1 (its defaults)", default),
        ("toolkit, float32, batch 16", plain),
        (f"toolkit, {str(fast).removeprefix('torch.')}, batch 16", best),
        ("ours, float32", exact),
        (f"ours, {str(fast).removeprefix('torch.')}", ours),
    ):
        print(f"{name:45} {rate:8.2f} documents/s")
    if server is not None:
        print(f"{'llama.cpp server, its own quantised weights':45} {server:8.2f} documents/s")
    same = sum(mine == theirs for mine, theirs in zip(exact_queries, slow_queries, strict=True)) / len(few)
    print(f"same queries in float32: {same:.1%} of {len(few)}")
    peak = matrix_peak(fast)
    print(
        f"ours computes at {ours * work / 1e12:.2f} of {peak / 1e12:.2f} TFLOP/s, {ours * work / peak:.0%} of the peak"
    )
    print(f"ratio generation-over-inpars {ours / default:.2f}")
    print(f"ratio generation-over-inpars-best {ours / best:.2f}")
    if server is not None:
        print(f"ratio generation-over-llamacpp {ours / server:.2f}")


if __name__ == "__main__":
    main()
