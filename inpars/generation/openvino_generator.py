"""OpenVINO GenAI as a query generator on a processor: its continuous batching, our prompts, the same contract.

Products are computed in 8 bits with a scale per row and group of weights, everything else in bfloat16 where the
processor is fast with it, else in float32. Queries and log-probabilities therefore differ a little from torch's:
`LOG_PROB_TOLERANCE` is what a query's mean may differ by. What is written for a document depends on the documents next
to it by float32 rounding at most (and not at all where the processor has 8-bit products): keys and values are kept in
the number format itself, not in OpenVINO's default, 8-bit numbers per block, which change as a block fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inpars.engines.openvino_network import openvino_package
from inpars.errors import BackendError
from inpars.generation import GeneratedQuery
from inpars.generation.decoding import StopCondition, truncate_at_stop
from inpars.generation.prompt_tokens import PromptTokens
from inpars.generation.settings import DecodingSettings, chunks_by_length
from inpars.prompts.mixture import PromptSource
from inpars.records import Document, LogProbKind

LOG_PROB_TOLERANCE = 0.15
CHUNK_DOCUMENTS = 32  # generated and stored as a whole
BATCH_TOKENS = 2048  # read in one pass
CACHE_GIGABYTES = 2  # for keys and values, taken as they are needed
BLOCK_TOKENS = 32  # of the cache on a processor


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder that OpenVINO has loaded, its tokenizer, and what ends a text, if anything."""

    name: str
    pipeline: Any  # from `load_pipeline`; generators that share it take turns
    tokenizer: Any  # a transformers tokenizer
    end_tokens: frozenset[int]
    precision: Literal["bf16", "f32"]


def load_pipeline(weights: Path, precision: Literal["bf16", "f32"], threads: int) -> Any:  # noqa: ANN401 - GenAI's
    """Load a GGUF file from `gguf_weights`, which takes seconds."""
    openvino_package()
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = BATCH_TOKENS
    scheduler.cache_size = CACHE_GIGABYTES
    properties = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,
    }
    return genai.ContinuousBatchingPipeline(str(weights), scheduler, "CPU", properties)


class OpenVinoGenerator:
    """Writes queries by continuing a few-shot prompt, greedily; the prompt's beginning is kept in the prefix cache."""

    log_prob_kind: LogProbKind = "raw"

    def __init__(self, decoder: Decoder, prompt: PromptSource, settings: DecodingSettings) -> None:
        import openvino_genai as genai

        settings.check()
        self._settings, self.name, precision = settings, decoder.name, decoder.precision
        self.device = f"OpenVINO {genai.__version__.split('-')[0]}, 8-bit products, {precision}"
        self._inputs = PromptTokens(decoder.tokenizer, prompt, settings.max_doc_tokens)
        decode = partial(decoder.tokenizer.decode, clean_up_tokenization_spaces=False)
        self._end = StopCondition(decoder.end_tokens, prompt.stop_position, decode)
        self._stop_tokens = set(decoder.end_tokens | _stop_tokens(decoder.tokenizer, prompt))
        self._pipeline = decoder.pipeline
        self._requests = 0
        self._read_prefix()

    def _read_prefix(self) -> None:
        """Have the prompts' beginning in the cache before several requests would each compute it.

        Whole blocks of it alone: GenAI lets several requests write into one that is partly filled.
        """
        whole = len(self._inputs.prefix) // BLOCK_TOKENS * BLOCK_TOKENS
        if whole:
            self._finish([self._begin(self._inputs.prefix[:whole], max_new_tokens=1)])

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Chunks of documents of similar length, short ones first."""
        return chunks_by_length([len(text) for text in self._inputs.cut(documents)], CHUNK_DOCUMENTS)

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The query of each document of the chunk. Chunks do not overlap: a resumed run has the same neighbours."""
        return self._finish([self._begin(prompt) for prompt in self._inputs.prompts(documents)])

    def _begin(self, prompt: Sequence[int], max_new_tokens: int | None = None) -> Any:  # noqa: ANN401 - GenAI's handle
        import openvino_genai as genai

        config = genai.GenerationConfig()
        config.do_sample, config.ignore_eos = False, not self._stop_tokens
        config.max_new_tokens = max_new_tokens or self._settings.max_new_tokens
        config.logprobs = 1
        config.stop_token_ids = self._stop_tokens
        config.include_stop_str_in_output = True  # its log-probability is kept apart
        self._requests += 1
        ids = openvino_package().Tensor(np.array([prompt], dtype=np.int64))
        return self._pipeline.add_request(self._requests, ids, config)

    def _finish(self, handles: Sequence[Any]) -> list[list[GeneratedQuery]]:
        finished: list[GeneratedQuery | None] = [None] * len(handles)
        while any(query is None for query in finished):
            for row, handle in enumerate(handles):
                if finished[row] is None and _is_finished(handle):
                    outputs = handle.read_all()
                    if not outputs:
                        raise BackendError(
                            f"{self.name}: a prompt does not fit into OpenVINO's cache of {CACHE_GIGABYTES} GB; "
                            "lower --max-doc-tokens, or give --engine-backend torch"
                        )
                    (output,) = outputs
                    finished[row] = truncate_at_stop(output.generated_ids, output.generated_log_probs, self._end)
            if any(query is None for query in finished):
                self._pipeline.step()
        return [[query] for query in finished if query is not None]


def _is_finished(handle: Any) -> bool:  # noqa: ANN401
    import openvino_genai as genai

    return bool(handle.get_status() != genai.GenerationStatus.RUNNING)


def _stop_tokens(tokenizer: Any, prompt: PromptSource) -> frozenset[int]:  # noqa: ANN401
    """Tokens that hold a whole stop string; `truncate_at_stop` handles stop strings of several tokens."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    return frozenset(token for token, text in enumerate(texts) if prompt.stop_position(text) < len(text))
