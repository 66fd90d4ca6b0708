"""The usual ways of `engines.py`: the InPars toolkit's, transformers', and sentence-transformers as it ships."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import reranking
import sentence_transformers
import torch
import transformers
from engine_worker import Made, Run, Work, by_length
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer

TOOLKIT_BATCHES = (16, 8, 32)
TRANSFORMERS, SENTENCE_TRANSFORMERS = (
    f"transformers {transformers.__version__}",
    f"sentence-transformers {sentence_transformers.__version__}",
)


def generation_default(work: Work) -> Made:
    """The toolkit with its defaults: float32, one document after the other."""
    network, tokenizer = _decoder(work, torch.float32)
    run = partial(_generate, network, tokenizer, work, 1)
    return Made(f"toolkit's way, float32, {TRANSFORMERS}", {"batch 1": run})


def generation_best(work: Work) -> Made:
    """The toolkit in the processor's fastest number format and batch size."""
    network, tokenizer = _decoder(work, getattr(torch, work["fast"]))
    runs = {f"batch {size}": partial(_generate, network, tokenizer, work, size) for size in TOOLKIT_BATCHES}
    return Made(f"toolkit's way, {work['fast']}, {TRANSFORMERS}", runs)


def _generate(network: Any, tokenizer: Any, work: Work, size: int, positions: Sequence[int]) -> list[Any]:  # noqa: ANN401
    """Whole prompts through `generate` to the token limit, which keeps the vocabulary's scores of every step."""
    found: list[Any] = []
    for start in range(0, len(positions), size):
        prompts = [work["prompts"][position] for position in positions[start : start + size]]
        tokens = tokenizer(prompts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            output = network.generate(
                **tokens,
                max_new_tokens=work["max_new_tokens"],
                do_sample=False,
                output_scores=True,
                return_dict_in_generate=True,
                pad_token_id=tokenizer.pad_token_id,
            )
            written = output.sequences[:, tokens["input_ids"].shape[1] :]
            log_probs = torch.stack(output.scores, dim=1).log_softmax(dim=-1)
            log_probs.gather(2, written[:, :, None])
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        found += [[text.partition(work["stop"])[0].strip(), written.shape[1]] for text in texts]
    return found


def scoring_default(work: Work) -> Made:
    """Whole prompts with their queries, in float32."""
    network, tokenizer = _decoder(work, torch.float32)
    return Made(f"whole prompts, float32, {TRANSFORMERS}", {"batch 8": partial(_score, network, tokenizer, work, 8)})


def scoring_best(work: Work) -> Made:
    """The same in the processor's fastest number format and batch size."""
    network, tokenizer = _decoder(work, getattr(torch, work["fast"]))
    runs = {f"batch {size}": partial(_score, network, tokenizer, work, size) for size in (8, 4, 16)}
    return Made(f"whole prompts, {work['fast']}, {TRANSFORMERS}", runs)


def _score(network: Any, tokenizer: Any, work: Work, size: int, positions: Sequence[int]) -> list[Any]:  # noqa: ANN401
    """The query tokens' log-probabilities, of the head's output for the query's tokens alone."""
    found: list[Any] = [None] * len(positions)
    for batch in by_length(work["prompts"], positions, size):
        rows = [_prompt_and_query(tokenizer, work, positions[index]) for index in batch]
        wanted = max(len(query) for _, query in rows)
        tokens = tokenizer.pad({"input_ids": [prompt + query for prompt, query in rows]}, return_tensors="pt")
        with torch.inference_mode():
            logits = network(**tokens, logits_to_keep=wanted + 1, use_cache=False).logits[:, :-1].float()
            ids = tokens["input_ids"][:, -wanted:]  # padded on the left
            values = logits.log_softmax(-1).gather(2, ids[:, :, None])[:, :, 0].tolist()
        for index, row, (_, query) in zip(batch, values, rows, strict=True):
            found[index] = row[len(row) - len(query) :]
    return found


def _prompt_and_query(tokenizer: Any, work: Work, position: int) -> tuple[list[int], list[int]]:  # noqa: ANN401
    prompt = tokenizer(work["prompts"][position])["input_ids"]
    return prompt, tokenizer(f"{work['prompts'][position]} {work['queries'][position]}")["input_ids"][len(prompt) :]


def _decoder(work: Work, dtype: torch.dtype) -> tuple[Any, Any]:
    torch.set_num_threads(work["threads"])
    tokenizer: Any = AutoTokenizer.from_pretrained(work["decoder_folder"], padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(work["decoder_folder"], dtype=dtype).eval(), tokenizer


def encoding(work: Work) -> Made:
    """`SentenceTransformer.encode_document`, which sorts by length."""
    torch.set_num_threads(work["threads"])
    model, texts = SentenceTransformer(work["encoder_folder"], device="cpu"), work["texts"]

    def run(positions: Sequence[int]) -> list[Any]:
        return list(model.encode_document([texts[position] for position in positions], show_progress_bar=False))

    return Made(f"{SENTENCE_TRANSFORMERS} as it ships", {"batch 32": lambda positions: _lists(run(positions))})


def _lists(rows: Sequence[Any]) -> list[Any]:
    return [row.tolist() for row in rows]


def cross_encoder(work: Work) -> Made:
    """`CrossEncoder.predict`, which sorts by length."""
    torch.set_num_threads(work["threads"])
    model = CrossEncoder(work["cross_encoder"], device="cpu")

    def run(positions: Sequence[int]) -> list[Any]:
        pairs = [tuple(work["pairs"][position]) for position in positions]
        return [float(score) for score in model.predict(pairs, show_progress_bar=False)]

    return Made(f"{SENTENCE_TRANSFORMERS} as it ships", {"batch 32": run})


def t5_default(work: Work) -> Made:
    """The toolkit: `generate` with one new token, batches of 16, float32."""
    torch.set_num_threads(work["threads"])
    scored = reranking.toolkit(work["t5"], torch.float32)
    return Made(f"toolkit's way, float32, {TRANSFORMERS}", {"batch 16": _scores(scored, work)})


def t5_best(work: Work) -> Made:
    """The same in the processor's fastest number format."""
    torch.set_num_threads(work["threads"])
    scored = reranking.toolkit(work["t5"], getattr(torch, work["fast"]))
    return Made(f"toolkit's way, {work['fast']}, {TRANSFORMERS}", {"batch 16": _scores(scored, work)})


def t5_pygaggle(work: Work) -> Made:
    """MonoT5 of pygaggle, or a stand-in that says so."""
    torch.set_num_threads(work["threads"])
    name, scored = reranking.pygaggle(work["t5"])
    return Made(name, {"batch 8": _scores(scored, work)})


def _scores(score: reranking.Score, work: Work) -> Run:
    return lambda positions: score([tuple(work["pairs"][position]) for position in positions])
