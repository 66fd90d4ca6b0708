"""What all sides of `engines.py` work on: the same texts, limits and model folders, prepared before anything is timed.

Peers are given prompts whose documents are cut and filled in already, work that ours does within its time. Passages to
rerank are cut to a length that every model reads whole, so that no side truncates them its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import reranking
import torch

from inpars.cache import cache_folder
from inpars.documents.datasets import load_dataset
from inpars.documents.selection import choose_documents
from inpars.engines.gguf_weights import write_gguf
from inpars.generation.prompt_tokens import PromptTokens
from inpars.models.folders import EMBEDDED
from inpars.models.hardware import pick_device, pick_dtype
from inpars.models.loading import load_causal_lm, load_sentence_transformer, load_tokenizer, resolve_model
from inpars.prompts.load import load_prompt
from inpars.records import Document

DECODER, ENCODER, PROMPT, STOP = "smollm2-135m", "minilm", "inpars", "\n"
MAX_DOC_TOKENS, MAX_NEW_TOKENS = 160, 32
QUERY_WORDS, PASSAGE_WORDS = 8, 100
PAIR_TOKENS = 512


def prepare(
    folder: Path,
    dataset: str,
    count: int,
    tasks: Sequence[str],
    *,
    threads: int,
    quick: bool,
    models: Mapping[str, str | None],
) -> dict:
    """The work of these tasks, for JSON; rerankers that `models` does not name are made in the folder, untrained."""
    documents = choose_documents(load_dataset(dataset).corpus, maximum=count, minimum_characters=200).documents
    texts = [document.full_text for document in documents]
    words = [text.split() for text in texts]
    queries = [" ".join(some[:QUERY_WORDS]) for some in words]
    pairs = [(queries[number - 1], " ".join(some[:PASSAGE_WORDS])) for number, some in enumerate(words)]
    work: dict[str, Any] = {
        "threads": threads,
        "fast": str(pick_dtype("auto", pick_device())).removeprefix("torch."),
        "texts": texts,
        "queries": queries,
        "pairs": pairs,
        "pair_tokens": PAIR_TOKENS,
    }
    if {"generation", "scoring"} & set(tasks):
        work |= _of_decoder(documents)
    if "encoding" in tasks:
        model = load_sentence_transformer(ENCODER, device=torch.device("cpu"), dtype=torch.float32)
        work |= {"encoder": ENCODER, "encoder_folder": resolve_model(ENCODER), "encoder_tokens": model.max_seq_length}
    if "cross-encoder" in tasks:
        work["cross_encoder"] = models["cross-encoder"] or reranking.make_cross_encoder(folder / "cross-encoder")
    if "t5" in tasks:
        sizes = reranking.T5_QUICK if quick else reranking.T5_BASE
        work["t5"] = models["t5"] or reranking.make_t5(folder / "t5", sizes, pairs)
        work["true_token"], work["false_token"] = reranking.answer_tokens(work["t5"])
    return work


def _of_decoder(documents: Sequence[Document]) -> dict[str, Any]:
    prompt = load_prompt(PROMPT)
    prompts = PromptTokens(load_tokenizer(DECODER), prompt, MAX_DOC_TOKENS).texts(documents)
    return {
        "decoder": DECODER,
        "decoder_folder": resolve_model(DECODER),
        **_gguf_files(),
        "prompt": PROMPT,
        "prompts": prompts,
        "shared": prompt.prefix,
        "stop": STOP,
        "max_doc_tokens": MAX_DOC_TOKENS,
        "max_new_tokens": MAX_NEW_TOKENS,
    }


def _gguf_files() -> dict[str, str]:
    """The decoder's own file, and one that OpenVINO reads exactly."""
    own = str(EMBEDDED[DECODER].locate()[0])
    exact = cache_folder() / "models" / f"{DECODER}-bench.q8_0.gguf"
    if not exact.exists():
        network, tokenizer = load_causal_lm(DECODER, device=torch.device("cpu"), dtype=torch.float32)
        write_gguf(network, tokenizer, exact)
    return {"gguf": own, "openvino_gguf": str(exact)}
