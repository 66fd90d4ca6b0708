"""Query likelihoods on a processor, each document read once for all the queries that ask about it.

A row holds a document and, one after the other, its queries, none of which sees another; the examples before the
document are read once for all rows. The numbers are those of `query_likelihood.py` up to rounding, which depends on
what else is in the row as it does on what else is in a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from inpars.generation.fused_llama import FusedLlama
from inpars.generation.plain_rows import keeps_only_keys_and_values, read_keys_and_values
from inpars.generation.prefix_attention import RowState
from inpars.generation.shared_prefix import agreeing
from inpars.models.networks import evaluating, pad_id
from inpars.models.side_by_side import side_by_side
from inpars.protocols import ScoredPart
from inpars.scoring.pair_model import EncodedPair, Pair, PairModel, default_batch_tokens, token_budget_batches
from inpars.scoring.parts import score_all
from inpars.scoring.query_likelihood import QueryLikelihood

ROW_QUERY_TOKENS = 256  # of all queries of one row: what they do not see of each other is computed for nothing
MAX_LOGITS = 1 << 25  # query tokens by vocabulary that exist at once: 128 MiB in float32
WIDTH_MULTIPLE = 16
FORMATS = (torch.bfloat16, torch.float32)


@dataclass(slots=True)
class _Row:
    document: list[int]  # with the cue behind it
    queries: list[tuple[int, list[int]]] = field(default_factory=list)  # position of the pair, token ids
    width: int = 0

    def add(self, position: int, query: list[int]) -> None:
        self.width = self.width + len(query) if self.queries else len(self.document) + len(query)
        self.queries.append((position, query))

    def holds(self, wanted: Collection[int]) -> bool:
        """Whether one of its pairs is wanted."""
        return any(position in wanted for position, _ in self.queries)


class PackedLikelihood:
    """A `PairScorer`; `model` stays as it is."""

    reads_documents_once = True

    def __init__(self, model: QueryLikelihood, forward: FusedLlama, name: str, batch_tokens: int | None = None) -> None:
        self.name = name
        self._model, self._forward, self._batch_tokens = model, forward, batch_tokens
        self._prefix = read_keys_and_values(model.network, model.prefix_ids) if model.prefix_ids else []

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        """Float32 log-likelihoods in the order of the pairs."""
        return score_all(self, pairs)

    def score_in_parts(self, pairs: Sequence[Pair], wanted: Collection[int]) -> Iterator[ScoredPart]:
        """Positions and log-likelihoods of one batch of rows after the other."""
        rows = _rows(pairs, self._model.encode(pairs))
        device = self._model.network.device
        budget = self._batch_tokens or default_batch_tokens(device)
        planned = [
            [rows[number] for number in batch] for batch in token_budget_batches([row.width for row in rows], budget)
        ]
        batches = [batch for batch in planned if any(row.holds(wanted) for row in batch)]
        with evaluating(self._model.network):
            yield from side_by_side(lambda batch: self._score(batch, device), batches, planned=len(planned))

    @torch.inference_mode()
    def _score(self, rows: Sequence[_Row], device: torch.device) -> list[tuple[int, float]]:
        """Positions of pairs, and their scores."""
        ids, positions, seen = _packed(rows, pad_id(self._model.tokenizer))
        state = RowState(self._prefix)
        state.seen = seen.to(device)
        state.allocate(*ids.shape)
        foretelling, targets = _foretold(rows)
        logits = self._forward.logits_after(
            ids.to(device), positions.to(device) + state.prefix_tokens, state, *foretelling.to(device)
        )
        log_probs = _log_probs(logits, targets.to(device)).tolist()
        start = 0
        found = []
        for row in rows:
            for position, query in row.queries:
                total = sum(log_probs[start : start + len(query)])
                start += len(query)
                found.append((position, total / max(len(query), 1) if self._model.reduction == "mean" else total))
        return found


def packed(model: PairModel, name: str, batch_tokens: int | None = None) -> PackedLikelihood | None:
    """The model in this form where it is a query likelihood on a processor that can be; else None."""
    if not isinstance(model, QueryLikelihood):
        return None
    network = model.network
    suits = network.dtype in FORMATS and network.device.type == "cpu" and FusedLlama.fits(network)
    forward = agreeing(network, FusedLlama) if suits and keeps_only_keys_and_values(network) else None
    return PackedLikelihood(model, forward, name, batch_tokens) if forward else None


def _rows(pairs: Sequence[Pair], encoded: Sequence[EncodedPair]) -> list[_Row]:
    """Rows of one document each; a document cut to another length for a longer query has a row of its own."""
    open_rows: dict[tuple[str, int], _Row] = {}
    rows: list[_Row] = []
    for position, ((_, text), pair) in enumerate(zip(pairs, encoded, strict=True)):
        document, query = pair.ids[: len(pair) - pair.second_tokens], pair.ids[len(pair) - pair.second_tokens :]
        row = open_rows.get((text, len(document)))
        if row is None or row.width - len(document) + len(query) > ROW_QUERY_TOKENS:
            row = open_rows[text, len(document)] = _Row(document)
            rows.append(row)
        row.add(position, query)
    return rows


def _packed(rows: Sequence[_Row], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and positions, (rows, tokens), and which token sees which, (rows, tokens, tokens)."""
    width = -(-max(row.width for row in rows) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
    ids = torch.full((len(rows), width), pad)
    positions = torch.zeros_like(ids)
    part = torch.full_like(ids, -1)  # 0 the document, 1 and more its queries, -1 padding
    for number, row in enumerate(rows):
        start, document = len(row.document), len(row.document)
        ids[number, :start], part[number, :start] = torch.tensor(row.document), 0
        positions[number, :start] = torch.arange(start)
        for which, (_, query) in enumerate(row.queries, start=1):
            own = slice(start, start + len(query))
            ids[number, own], part[number, own] = torch.tensor(query, dtype=ids.dtype), which
            positions[number, own] = torch.arange(document, document + len(query))
            start += len(query)
    together = (part[:, :, None] == part[:, None, :]) | (part[:, None, :] == 0)
    return ids, positions, together.tril()


def _foretold(rows: Sequence[_Row]) -> tuple[Tensor, Tensor]:
    """Row and column of the token before each query token, (2, query tokens), and the query tokens."""
    places: list[tuple[int, int]] = []
    targets: list[int] = []
    for number, row in enumerate(rows):
        start = len(row.document)
        for _, query in row.queries:
            columns = [len(row.document) - 1, *range(start, start + len(query) - 1)]
            places += [(number, column) for column in columns[: len(query)]]
            targets += query
            start += len(query)
    return torch.tensor(places, dtype=torch.long).view(-1, 2).T, torch.tensor(targets, dtype=torch.long)


def _log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities of the targets, (query tokens,), in float32, some rows at a time."""
    rows = max(1, MAX_LOGITS // logits.shape[1])
    parts = [
        -nn.functional.cross_entropy(some.float(), wanted, reduction="none")
        for some, wanted in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.cat(parts)
