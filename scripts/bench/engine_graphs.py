"""The work of `engines.py` as graphs that OpenVINO and ONNX Runtime convert, and the batches they are given.

A graph ends where its result does: pooled embeddings, one margin, the log-probabilities of given tokens. So engines
copy no hidden states, and compute no logits that nobody wants. Batches are sorted by length, as ours are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from engine_worker import Work
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

Inputs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """A network with one output, and how the items at some positions become its inputs and its output their results.

    `free` names the sizes of each input that differ from batch to batch.
    """

    network: nn.Module
    free: Mapping[str, tuple[str, ...]]
    lengths: Sequence[str]
    encode: Callable[[Sequence[int]], Inputs]
    read: Callable[[Any, Sequence[int]], list[Any]]


def encoder(work: Work) -> Graph:
    """Normalised means of MiniLM's last states."""
    tokenizer: Any = AutoTokenizer.from_pretrained(work["encoder_folder"])
    texts, limit = work["texts"], work["encoder_tokens"]

    def encode(positions: Sequence[int]) -> Inputs:
        chosen = [texts[position] for position in positions]
        return dict(tokenizer(chosen, padding=True, truncation=True, max_length=limit, return_tensors="np"))

    network = _Embedding(AutoModel.from_pretrained(work["encoder_folder"], dtype=torch.float32))
    return Graph(network.eval(), _sizes(encode([0])), texts, encode, _rows)


def cross_encoder(work: Work) -> Graph:
    """MiniLM's one logit."""
    tokenizer: Any = AutoTokenizer.from_pretrained(work["cross_encoder"])
    pairs, limit = work["pairs"], work["pair_tokens"]

    def encode(positions: Sequence[int]) -> Inputs:
        queries, documents = zip(*(pairs[position] for position in positions), strict=True)
        settings = {"padding": True, "truncation": "only_second", "max_length": limit, "return_tensors": "np"}
        return dict(tokenizer(list(queries), list(documents), **settings))

    network = AutoModelForSequenceClassification.from_pretrained(work["cross_encoder"], dtype=torch.float32)
    return Graph(_Margin(network).eval(), _sizes(encode([0])), _joined(pairs), encode, _rows)


def t5(work: Work) -> Graph:
    """monoT5's margin: the encoder and one step of the decoder, of whose logits two are computed."""
    tokenizer: Any = AutoTokenizer.from_pretrained(work["t5"])
    pairs = work["pairs"]

    def encode(positions: Sequence[int]) -> Inputs:
        chosen = [f"Query: {query} Document: {text} Relevant:" for query, text in (pairs[p] for p in positions)]
        found = tokenizer(chosen, padding=True, truncation=True, max_length=512, return_tensors="np")
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    answers = tokenizer.convert_tokens_to_ids([work["false_token"], work["true_token"]])
    network = AutoModelForSeq2SeqLM.from_pretrained(work["t5"], dtype=torch.float32)
    return Graph(_FirstStep(network, answers).eval(), _sizes(encode([0])), _joined(pairs), encode, _rows)


def scoring(work: Work) -> Graph:
    """Log-probabilities of the queries' tokens after their whole prompts."""
    tokenizer: Any = AutoTokenizer.from_pretrained(work["decoder_folder"])
    prompts, queries = work["prompts"], work["queries"]

    def rows(positions: Sequence[int]) -> list[tuple[list[int], int]]:
        whole = tokenizer([f"{prompts[position]} {queries[position]}" for position in positions])["input_ids"]
        begun = tokenizer([prompts[position] for position in positions])["input_ids"]
        return [(ids, len(start)) for ids, start in zip(whole, begun, strict=True)]

    def encode(positions: Sequence[int]) -> Inputs:
        chosen = rows(positions)
        ids = np.zeros((len(chosen), max(len(ids) for ids, _ in chosen)), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, (tokens, _) in enumerate(chosen):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        told = [(row, column) for row, (tokens, start) in enumerate(chosen) for column in range(start, len(tokens))]
        places = np.array([row * ids.shape[1] + column - 1 for row, column in told], dtype=np.int64)
        targets = np.array([ids[row, column] for row, column in told], dtype=np.int64)
        return {"input_ids": ids, "attention_mask": mask, "places": places, "targets": targets}

    def read(values: Any, positions: Sequence[int]) -> list[Any]:  # noqa: ANN401
        counts = [len(tokens) - start for tokens, start in rows(positions)]
        return [part.tolist() for part in np.split(values, np.cumsum(counts)[:-1])]

    network = AutoModelForCausalLM.from_pretrained(work["decoder_folder"], dtype=torch.float32)
    return Graph(_GivenTokens(network).eval(), _sizes(encode([0])), prompts, encode, read)


class _Embedding(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.network(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        shown = attention_mask[:, :, None].to(states.dtype)
        return nn.functional.normalize((states * shown).sum(1) / shown.sum(1), dim=-1)


class _Margin(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found: Tensor = self.network(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).logits
        return found[:, 0]


class _FirstStep(nn.Module):
    def __init__(self, network: Any, answers: Sequence[int]) -> None:  # noqa: ANN401
        super().__init__()
        self.encoder, self.decoder = network.get_encoder(), network.get_decoder()
        self.start = network.config.decoder_start_token_id
        false, true = network.lm_head.weight.detach()[list(answers)]
        self.register_buffer("direction", (true - false)[:, None].clone())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        first = torch.full_like(input_ids[:, :1], self.start)
        found = self.decoder(
            input_ids=first, encoder_hidden_states=states, encoder_attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        margins: Tensor = (found[:, -1] @ self.direction)[:, 0]
        return margins


class _GivenTokens(nn.Module):
    def __init__(self, network: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.body, self.head = network.model, network.lm_head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        logits = self.head(states.flatten(0, 1)[places])
        return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def _sizes(example: Inputs) -> dict[str, tuple[str, ...]]:
    return {name: ("rows", "tokens") if array.ndim == 2 else ("targets",) for name, array in example.items()}


def _joined(pairs: Sequence[Sequence[str]]) -> list[str]:
    return [" ".join(pair) for pair in pairs]


def _rows(values: Any, _: Sequence[int]) -> list[Any]:  # noqa: ANN401
    found: list[Any] = values.tolist()
    return found
