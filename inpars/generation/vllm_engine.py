"""vLLM as a query generator: its own batching, our prompts, and the same contract on log-probabilities.

Used by the workers of a cluster that have a GPU, where it is installed. Texts may differ from our own engine's in the
last digits of their log-probabilities and, rarely, in words: vLLM's kernels are others. Kwon et al. (arXiv 2309.06180).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from vllm import LLM, SamplingParams

from inpars.generation import GeneratedQuery
from inpars.generation.causal_lm import end_ids
from inpars.generation.decoding import TextEnd, replayed
from inpars.generation.prompt_tokens import PromptTokens
from inpars.generation.settings import DecodingSettings, grouped
from inpars.models.dtypes import DtypeName
from inpars.models.loading import resolve_model
from inpars.prompting.templates import Prompt, PromptSource
from inpars.records import Document, LogProbKind

CHUNK_DOCUMENTS = 1024  # handed over and stored as a whole


class VllmGenerator:
    """Writes queries by continuing a few-shot prompt, whose beginning vLLM keeps."""

    log_prob_kind: LogProbKind = "raw"

    def __init__(
        self,
        model: str,
        prompt: PromptSource,
        settings: DecodingSettings,
        *,
        dtype: DtypeName = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        """Load the model on the GPUs that this process sees."""
        settings.check()
        self._settings, self.name, self.device = settings, model, "vllm"
        self._llm: Any = LLM(
            model=resolve_model(model),
            dtype=dtype,
            seed=settings.seed,
            trust_remote_code=trust_remote_code,
            enable_prefix_caching=True,
            logprobs_mode="raw_logprobs",  # of the model, not of what temperature and top-p make of it
        )
        tokenizer: Any = self._llm.get_tokenizer()
        self._inputs = PromptTokens(tokenizer, prompt, settings.max_doc_tokens)
        self._stop = list(prompt.stop) if isinstance(prompt, Prompt) else None

        def decode(tokens: Sequence[int]) -> str:
            return str(tokenizer.decode(tokens, clean_up_tokenization_spaces=False))

        self._end = TextEnd(frozenset(end_ids(tokenizer.eos_token_id)), prompt.stop_position, decode)

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Chunks of neighbours: vLLM does not pad."""
        return [list(chunk) for chunk in grouped(range(len(documents)), CHUNK_DOCUMENTS)]

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The queries of each document of the chunk."""
        prompts = [{"prompt_token_ids": prompt} for prompt in self._inputs.prompts(documents)]
        wanted = [self._wanted(document) for document in documents]
        answers = self._llm.generate(prompts, wanted, use_tqdm=False)
        return [[self._query(sequence) for sequence in answer.outputs] for answer in answers]

    def _wanted(self, document: Document) -> Any:  # noqa: ANN401 - vLLM's class
        """What is asked of vLLM; what is drawn for a document depends on the seed and its id alone."""
        own = f"{self._settings.seed}\0{document.doc_id}".encode()
        return SamplingParams(
            n=self._settings.num_queries,
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            max_tokens=self._settings.max_new_tokens,
            stop=self._stop,
            logprobs=0,  # of the chosen token alone
            seed=int.from_bytes(hashlib.blake2b(own, digest_size=4).digest(), "big"),
        )

    def _query(self, sequence: Any) -> GeneratedQuery:  # noqa: ANN401 - vLLM's class
        tokens = [int(token) for token in sequence.token_ids]
        values = [float(found[token].logprob) for token, found in zip(tokens, sequence.logprobs, strict=True)]
        return replayed(tokens, values, self._end)
