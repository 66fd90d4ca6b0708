"""Query generation with an encoder-decoder: docT5query, and GenQ's T5 or BART.

Without a prompt the input is the passage itself. Several queries per passage are drawn by nucleus sampling.
Nogueira and Lin, "From doc2query to docTTTTTquery", 2019; Thakur et al., BEIR (arXiv 2104.08663), section on GenQ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from inpars.batches import slices
from inpars.errors import ConfigError
from inpars.generation import GeneratedQuery
from inpars.generation.decoding import BatchInvariantRows, StopCondition, choice, decode_rows, even_tokens, rounded_up
from inpars.generation.prompt_tokens import cut_texts
from inpars.generation.settings import DecodingSettings, chunks_by_length, query_ids
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.hardware import describe
from inpars.models.networks import cache_of, learned_positions, pad_id, with_cache
from inpars.records import Document, LogProbKind

CHUNK_DOCUMENTS = {"cpu": 32, "cuda": 512}
BATCH_ROWS = {"cpu": 96, "cuda": 1024}


class Seq2SeqRows:
    """A `Rows` that encodes the prompts once."""

    def __init__(self, network: Any, pad: int) -> None:
        self._network, self._pad = network, pad
        self._encoded = self._mask = torch.empty(0)
        self._cache: Any = None

    def start(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        """Encode the prompts and read the decoder's start token."""
        device = self._network.device
        width = rounded_up(max(map(len, prompts)), even_tokens(self._network))
        ids = torch.full((len(prompts), width), self._pad)
        mask = torch.zeros((len(prompts), width), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(list(prompt))
            mask[row, : len(prompt)] = 1
        with torch.inference_mode():
            encoder = self._network.get_encoder()
            states = encoder(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        self._encoded, self._mask, self._cache = states, mask.to(device), None
        return self.step(torch.full((len(prompts),), self._network.config.decoder_start_token_id, device=device))

    def step(self, tokens: Tensor) -> Tensor:
        with torch.inference_mode():
            output = self._network(
                encoder_outputs=BaseModelOutput(last_hidden_state=self._encoded),
                attention_mask=self._mask,
                decoder_input_ids=tokens[:, None],
                **with_cache(self._network, self._cache),
                use_cache=True,
            )
        self._cache = cache_of(output)
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: Tensor) -> None:
        self._encoded, self._mask = self._encoded[rows], self._mask[rows]
        self._cache.reorder_cache(rows)


class Seq2SeqGenerator:
    """Generates queries with T5, BART or similar models."""

    log_prob_kind: LogProbKind = "raw"

    def __init__(
        self,
        model: str,
        settings: DecodingSettings,
        *,
        render: Callable[[Document, str], str] = lambda _, text: text,
        **where: Unpack[Placement],
    ) -> None:
        """Load the model; `render` makes the encoder's input of a document and its text, cut to the limit."""
        settings.check()
        self._network, self._tokenizer = models.load_seq2seq(model, **where)
        self.name, self.device = model, describe(self._network.device, self._network.dtype)
        if self._network.config.decoder_start_token_id is None:
            raise ConfigError(f"{model}: its config has no decoder_start_token_id; it cannot generate")
        self._settings, self._render = settings, render
        kind = self._network.device.type
        self._chunk = CHUNK_DOCUMENTS.get(kind, CHUNK_DOCUMENTS["cpu"])
        self._batch = settings.batch_size or BATCH_ROWS.get(kind, BATCH_ROWS["cpu"])
        eos = self._tokenizer.eos_token_id
        self._end = StopCondition(frozenset([] if eos is None else [eos]), len, self._decode)
        self._rows = Seq2SeqRows(self._network, pad_id(self._tokenizer))

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        lengths = [len(ids) for ids in self._inputs(documents)]
        return chunks_by_length(lengths, self._chunk)

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        several, inputs = self._settings.num_queries, self._inputs(documents)
        prompts = [ids for ids in inputs for _ in range(several)]
        keys = query_ids(documents, several)
        queries: list[GeneratedQuery] = []
        for start in range(0, len(prompts), self._batch):
            rows = slice(start, start + self._batch)
            queries += decode_rows(
                BatchInvariantRows(self._rows, self._network),
                prompts[rows],
                max_new_tokens=self._settings.max_new_tokens,
                end=self._end,
                choose=choice(self._settings, keys[rows]),
            )
        return [list(group) for group in slices(queries, several)]

    def _inputs(self, documents: Sequence[Document]) -> list[list[int]]:
        """Token ids of the prompts. Raises ConfigError for one that is longer than the model's positions."""
        limit = max(1, self._settings.max_doc_tokens - self._tokenizer.num_special_tokens_to_add())
        cut = cut_texts(self._tokenizer, [document.full_text.strip() for document in documents], limit)
        texts = [self._render(document, text) for document, text in zip(documents, cut, strict=True)]
        ids: list[list[int]] = self._tokenizer(texts, verbose=False)["input_ids"]
        positions, longest = learned_positions(self._network), max(map(len, ids))
        if positions is not None and longest > positions:
            raise ConfigError(
                f"{self.name} reads {positions} tokens, and the longest prompt with its document has {longest}: lower "
                "--max-doc-tokens, or shorten the prompt"
            )
        return ids

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
