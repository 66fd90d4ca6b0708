"""Query likelihood on a CPU, reading each document once for all its queries.

A row contains a document followed by its queries, which cannot attend to each other; the prefix before the document is
read once for all rows. Scores equal those of `query_likelihood.py` up to rounding. Document and queries start at
multiples of `ALIGNMENT` tokens, so that OpenVINO computes the same bits for a query alone and next to others. The
network is transformers' own; only its attention is replaced, by one that adds the shared prefix and a mask per row.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, local
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface

from inpars.engines.batch_parallel import map_batches
from inpars.engines.choice import TOLERANCE, Forms, chosen_form, processor_seconds
from inpars.engines.int8_products import with_int8_products
from inpars.engines.openvino_network import OpenVinoFunction, aligned
from inpars.generation.hf_kv_cache import keeps_only_keys_and_values, read_keys_and_values
from inpars.models.compute_options import DtypeName, EngineName
from inpars.models.networks import UNFIT, can_exchange_attention, evaluating, pad_id, upcast_to_float32
from inpars.models.processor import fast_bfloat16_flags
from inpars.protocols import ScoredPart, score_all
from inpars.rerankers.pair_model import EncodedPair, Pair, PairModel, default_batch_tokens, token_budget_batches
from inpars.rerankers.query_likelihood import QueryLikelihood

ATTENTION_NAME = "inpars_packed_rows"


class PackedRows(nn.Module):
    """A causal network that reads packed rows; thread-safe.

    The network's attention and head are replaced only during `forward`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network, self._readers, self._lock = network, 0, Lock()

    def forward(
        self, ids: Tensor, positions: Tensor, mask: Tensor, predicting: Tensor, targets: Tensor, *prefix: Tensor
    ) -> Tensor:
        """Log-probabilities of the targets, (targets,), each predicted by the token before it.

        `ids` and `positions` are (rows, tokens). `mask`, (rows, 1, tokens, prefix + tokens), is added to attention
        scores. `predicting`, (2, targets), are rows and columns. `prefix` alternates keys and values, layer by layer.
        """
        _inputs.prefix = list(zip(prefix[::2], prefix[1::2], strict=True))
        _inputs.mask, _inputs.predicting = mask, predicting
        with self._replaced():
            logits = upcast_to_float32(self._network(input_ids=ids, position_ids=positions, use_cache=False).logits[0])
        shifted = logits - logits.amax(1, keepdim=True)  # (targets, vocabulary)
        log_probs: Tensor = shifted.gather(1, targets[:, None])[:, 0] - shifted.exp().sum(1).log()
        return log_probs

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """Replace attention and head while any thread reads."""
        with self._lock:
            if not self._readers:
                config = self._network.config.get_text_config()
                self._former = config._attn_implementation, self._network.get_output_embeddings()
                self._network.set_attn_implementation(ATTENTION_NAME)
                self._network.set_output_embeddings(_HeadOfPredicting(self._former[1]))
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._network.set_attn_implementation(self._former[0])
                    self._network.set_output_embeddings(self._former[1])


class _HeadOfPredicting(nn.Module):
    """The head applied only to the tokens that predict a target."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self._head = head

    def forward(self, hidden: Tensor) -> Tensor:
        rows, columns = _inputs.predicting
        logits: Tensor = self._head(hidden[rows, columns])[None]
        return logits


_inputs = local()  # this thread's inputs, because transformers passes no extra arguments to attention functions


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention function for transformers: query (rows, heads, tokens, width) to (rows, tokens, heads, width)."""
    rows, heads, tokens, width = query.shape
    key_heads = key.shape[1]  # fewer than heads with grouped-query attention
    if _inputs.prefix:
        keys, values = _inputs.prefix[module.layer_idx]  # (key heads, prefix tokens, width)
        key = torch.cat([keys[None].expand(rows, -1, -1, -1), key], dim=2)
        value = torch.cat([values[None].expand(rows, -1, -1, -1), value], dim=2)
    group = heads // key_heads
    grouped = query.reshape(rows, key_heads, group * tokens, width)
    mask = _inputs.mask.to(query.dtype).repeat(1, 1, group, 1)
    scale = width**-0.5 if scaling is None else scaling
    output = nn.functional.scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scale)
    return output.reshape(rows, heads, tokens, -1).transpose(1, 2), None


AttentionInterface.register(ATTENTION_NAME, _attention)


ROW_QUERY_TOKENS = 256  # maximum per row, because masked attention between its queries is wasted work
MAX_LOGITS = 1 << 25  # query tokens times vocabulary held at once: 128 MiB in float32
FORMATS = (torch.bfloat16, torch.float32)
HIDDEN = -1e9  # added to masked attention scores
# tokens of the documents, then of each one's queries, in the inputs for checking and timing a form
COMPARED, TIMED = ((23, 9, 40), (5, 1)), ((96, 128), (12, 8))
COMPARED_PREFIX = 12
PACKED_TOLERANCE = 0.2  # RMS error in standard deviations: bfloat16 rounding is far below, a wrong mask far above

# Candidates of `auto`. OpenVINO in float32 has .8 of torch's speed here, and converting a decoder takes 40 seconds.
# 8-bit products, 1.4 times as fast on tier avx2, must be named: their effect on nDCG@10 was not measured.
TRIED_IN_BFLOAT16: tuple[EngineName, ...] = ("openvino",)


@dataclass(slots=True)
class _Row:
    document: list[int]  # token ids, with the cue
    queries: list[tuple[int, list[int]]] = field(default_factory=list)  # (position of the pair, token ids)
    width: int = 0

    def add(self, position: int, query: list[int]) -> None:
        self.width = (self.width if self.queries else aligned(len(self.document))) + aligned(len(query))
        self.queries.append((position, query))

    @property
    def targets(self) -> int:
        return sum(len(query) for _, query in self.queries)


class PackedLikelihood:
    """A `PairScorer`; leaves `model` unchanged."""

    reads_documents_once = True

    def __init__(
        self, model: QueryLikelihood, read: PackedRows | OpenVinoFunction, name: str, batch_tokens: int | None = None
    ) -> None:
        self.name = name
        self._model, self._read, self._batch_tokens = model, read, batch_tokens
        in_float32 = not isinstance(read, PackedRows)
        self._prefix = _prefix_states(model.network, model.prefix_ids, in_float32=in_float32)

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        return score_all(self, pairs)

    def score_in_parts(self, pairs: Sequence[Pair], positions: Collection[int]) -> Iterator[ScoredPart]:
        """Yield positions and log-likelihoods batch by batch; skip batches without any of `positions`."""
        rows = _rows(pairs, self._model.encode(pairs))
        budget = self._batch_tokens or default_batch_tokens(self._model.network.device)
        max_targets = MAX_LOGITS // self._model.network.config.get_text_config().vocab_size
        planned = [
            part
            for batch in token_budget_batches([row.width for row in rows], budget)
            for part in _with_few_targets([rows[number] for number in batch], max_targets)
        ]
        batches = [
            batch for batch in planned if any(position in positions for row in batch for position, _ in row.queries)
        ]
        with evaluating(self._model.network):
            yield from map_batches(
                self._score, batches, planned=len(planned), shareable=isinstance(self._read, PackedRows)
            )

    @torch.inference_mode()
    def _score(self, rows: Sequence[_Row]) -> list[tuple[int, float]]:
        inputs = _row_tensors(rows, len(self._model.prefix_ids), pad_id(self._model.tokenizer))
        log_probs = self._read(*inputs, *self._prefix).tolist() if any(row.targets for row in rows) else []
        scores, start = [], 0
        for position, query in itertools.chain.from_iterable(row.queries for row in rows):
            total = sum(log_probs[start : start + len(query)])
            start += len(query)
            scores.append((position, total / max(len(query), 1) if self._model.reduction == "mean" else total))
        return scores


def packed(
    model: PairModel, name: str, batch_tokens: int | None = None, dtype: DtypeName = "auto"
) -> PackedLikelihood | None:
    """A packed scorer if the model is a query likelihood on a CPU whose network supports it; else None.

    Raises ConfigError if the user named an engine that cannot compute it.
    """
    if not isinstance(model, QueryLikelihood):
        return None
    network = model.network
    if network.dtype not in FORMATS or network.device.type != "cpu":
        return None
    if not (can_exchange_attention(network) and keeps_only_keys_and_values(network)):
        return None
    with evaluating(network), torch.inference_mode():
        rows = PackedRows(network)
        if not _agrees_with_network(rows, network):
            return None
        subject = f"likelihood, {'a' if model.prefix_ids else 'no'} prefix"
        form = chosen_form(network, subject, dtype, _forms(model, rows, subject, dtype), name)
    return PackedLikelihood(model, form or rows, name, batch_tokens)


def _forms(
    model: QueryLikelihood, rows: PackedRows, subject: str, dtype: DtypeName
) -> Forms[PackedRows | OpenVinoFunction]:
    network, prefix_ids = model.network, model.prefix_ids

    def inputs(
        lengths: tuple[Sequence[int], Sequence[int]], prefix: Sequence[int], *, in_float32: bool
    ) -> list[Tensor]:
        probe = _probe(network.config.get_text_config().vocab_size, *lengths)
        return [*_row_tensors(probe, len(prefix), pad=0), *_prefix_states(network, prefix, in_float32=in_float32)]

    def make(name: EngineName) -> PackedRows | OpenVinoFunction:
        if name == "torch-int8":
            return PackedRows(with_int8_products(network))
        tensors = inputs(COMPARED, prefix_ids[:2], in_float32=True)
        example = {f"input {number}": tensor for number, tensor in enumerate(tensors)}
        return OpenVinoFunction(network, PackedRows, example, subject, int8=name == "openvino-int8", dtype=dtype)

    def agrees(form: PackedRows | OpenVinoFunction, name: EngineName) -> bool:
        prefix = prefix_ids[:COMPARED_PREFIX]
        expected = rows(*inputs(COMPARED, prefix, in_float32=False))
        log_probs = form(*inputs(COMPARED, prefix, in_float32=True))
        return bool((log_probs - expected).square().mean().sqrt() <= TOLERANCE[name] * expected.std())

    def seconds(read: PackedRows | OpenVinoFunction, *, in_float32: bool) -> float:
        example = inputs(TIMED, prefix_ids, in_float32=in_float32)
        return processor_seconds(lambda: read(*example))

    return Forms(
        make,
        agrees,
        seconds=lambda form: seconds(form, in_float32=True),
        seconds_of_torch=lambda: seconds(rows, in_float32=False),
        tried=TRIED_IN_BFLOAT16 if fast_bfloat16_flags() else (),
    )


def _agrees_with_network(rows: PackedRows, network: Any) -> bool:
    """Whether packed rows give the same log-probabilities as prefix, document and query in one sequence."""
    size = network.config.get_text_config().vocab_size
    prefix, probe = _spread(size, COMPARED_PREFIX), _probe(size, *COMPARED)
    try:
        log_probs = rows(*_row_tensors(probe, len(prefix), pad=0), *_prefix_states(network, prefix))
        expected = [
            network(input_ids=torch.tensor([[*prefix, *row.document, *query]]))
            .logits[0, -len(query) - 1 : -1]
            .float()
            .log_softmax(-1)[torch.arange(len(query)), query]
            for row in probe
            for _, query in row.queries
        ]
    except UNFIT:
        return False
    difference = (log_probs - torch.cat(expected)).square().mean().sqrt()
    return bool(difference <= PACKED_TOLERANCE * torch.cat(expected).std() + 1e-4)


def _probe(size: int, documents: Sequence[int], queries: Sequence[int]) -> list[_Row]:
    """Rows of documents with these lengths, each with queries of these lengths."""
    rows = []
    for number, length in enumerate(documents):
        row = _Row(_spread(size, length, number))
        for position, tokens in enumerate(queries):
            row.add(position, _spread(size, tokens, 31 * number + position + 1))
        rows.append(row)
    return rows


def _spread(size: int, length: int, start: int = 0) -> list[int]:
    """Token ids from across a vocabulary of this size."""
    return [(start * 104729 + index * 7919) % (size - 1) + 1 for index in range(length)]


def _prefix_states(network: Any, prefix: Sequence[int], *, in_float32: bool = False) -> list[Tensor]:
    """Keys and values, layer by layer, (key heads, aligned tokens, width); empty without a prefix."""
    states = [part for layer in read_keys_and_values(network, prefix) for part in layer] if prefix else []
    padded = [pad(part, (0, 0, 0, aligned(len(prefix)) - len(prefix))) for part in states]
    return [part.float() for part in padded] if in_float32 else padded


def _with_few_targets(rows: Sequence[_Row], max_targets: int) -> Iterator[list[_Row]]:
    """Split into parts of at most `max_targets` query tokens, or a single row."""
    part: list[_Row] = []
    for row in rows:
        if part and sum(each.targets for each in (*part, row)) > max_targets:
            yield part
            part = []
        part.append(row)
    yield part


def _rows(pairs: Sequence[Pair], encoded: Sequence[EncodedPair]) -> list[_Row]:
    """Rows of one document each; documents cut to different lengths get separate rows."""
    open_rows: dict[tuple[str, int], _Row] = {}
    rows: list[_Row] = []
    for position, ((_, text), pair) in enumerate(zip(pairs, encoded, strict=True)):
        document, query = pair.ids[: len(pair) - pair.second_tokens], pair.ids[len(pair) - pair.second_tokens :]
        row = open_rows.get((text, len(document)))
        if row is None or row.width - aligned(len(document)) + aligned(len(query)) > ROW_QUERY_TOKENS:
            row = open_rows[text, len(document)] = _Row(document)
            rows.append(row)
        row.add(position, query)
    return rows


def _row_tensors(rows: Sequence[_Row], prefix_tokens: int, pad: int) -> tuple[Tensor, ...]:
    """The arguments of `PackedRows` except the prefix."""
    width = max(row.width for row in rows)
    ids = torch.full((len(rows), width), pad)
    positions = torch.zeros_like(ids)
    part = torch.full_like(ids, -1)  # 0 for the document, 1 and up for its queries, -1 for padding
    predicting: list[tuple[int, int]] = []  # row and column of the token before each query token
    targets: list[int] = []
    for number, row in enumerate(rows):
        document = len(row.document)
        ids[number, :document], part[number, :document] = torch.tensor(row.document), 0
        positions[number, :document] = torch.arange(document)
        start = aligned(document)
        for query_number, (_, query) in enumerate(row.queries, start=1):
            columns = slice(start, start + len(query))
            ids[number, columns], part[number, columns] = torch.tensor(query, dtype=ids.dtype), query_number
            positions[number, columns] = torch.arange(document, document + len(query))
            before = [document - 1, *range(start, start + len(query) - 1)][: len(query)]
            predicting += [(number, position) for position in before]
            targets += query
            start += aligned(len(query))
    visible = ((part[:, :, None] == part[:, None, :]) | (part[:, None, :] == 0)).tril()
    prefix_width = aligned(prefix_tokens)
    mask = torch.zeros(len(rows), 1, width, prefix_width + width)
    mask[..., prefix_tokens:prefix_width] = HIDDEN
    mask[:, 0, :, prefix_width:].masked_fill_(~visible, HIDDEN)
    return (
        ids,
        positions + prefix_tokens,
        mask,
        torch.tensor(predicting, dtype=torch.long).view(-1, 2).T,
        torch.tensor(targets, dtype=torch.long),
    )
