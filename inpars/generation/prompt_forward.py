"""A causal network reads prompts and what follows them, and no token is drawn: logits where something is foretold.

What all prompts begin with is read once. Scoring queries and grading documents both read so; what is made of the logits
is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, Unpack

import torch
from torch import Tensor
from transformers import DynamicCache

from inpars.engines.int8_products import with_int8_products
from inpars.generation.decoding import even_number_of_rows, even_tokens, rounded_up
from inpars.generation.hf_kv_cache import keeps_only_keys_and_values, read_keys_and_values
from inpars.generation.prompt_tokens import shared_tokens
from inpars.models import loading as models
from inpars.models.compute_options import Placement, engine
from inpars.models.hardware import describe
from inpars.models.networks import head_replaced, pad_id, upcast_to_float32, with_cache

BATCH_ROWS = {"cpu": 32, "cuda": 256}
MAX_LOGITS = 1 << 26  # tokens that are foretold by vocabulary of one batch: 256 MiB in float32

Row: TypeAlias = tuple[list[int], list[int]]
"""A prompt's tokens, and those that follow it; each of these and the one behind them is foretold."""

Found = TypeVar("Found")


class PromptForward:
    """One network that reads rows."""

    def __init__(self, network: Any, tokenizer: Any, batch_size: int | None = None) -> None:
        self.network, self.tokenizer, self.prefix = network, tokenizer, list[int]()
        self._batch = batch_size or BATCH_ROWS.get(network.device.type, BATCH_ROWS["cpu"])
        self._states: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def load(cls, model: str, batch_size: int | None = None, **where: Unpack[Placement]) -> tuple[PromptForward, str]:
        """A model's network, and on what it computes, for manifests."""
        network, tokenizer = models.load_causal_lm(model, **where)
        device = describe(network.device, network.dtype)
        if engine() == "torch-int8" and network.device.type == "cpu" and network.dtype == torch.float32:
            network = with_int8_products(network)
            device += ", 8-bit products"
        return cls(network, tokenizer, batch_size), device

    @property
    def limit(self) -> int | None:
        """Tokens that the network can read; None where nothing says."""
        positions: int | None = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        return positions

    def share(self, prefix: Sequence[int]) -> None:
        """Read what the prompts are likely to begin with, once for all rows."""
        self.prefix = list(prefix)
        shared = bool(self.prefix) and keeps_only_keys_and_values(self.network)
        self._states = read_keys_and_values(self.network, self.prefix) if shared else []

    def each(self, rows: Sequence[Row], read_off: Callable[[Tensor, Sequence[Row]], Sequence[Found]]) -> list[Found]:
        """What `read_off` makes of the logits of each batch, in the order of the rows.

        The logits are (tokens that follow and ends, vocabulary), row after row, in float32 or float64.
        """
        results: dict[int, Found] = {}
        for positions in self._batches(rows):
            batch = [rows[position] for position in positions]
            results |= zip(positions, self._read(batch, read_off), strict=True)
        return [results[position] for position in range(len(rows))]

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Positions of rows that are read together, by length; few where the vocabulary is large."""
        budget = max(1, MAX_LOGITS // self.network.config.get_text_config().vocab_size)
        batch: list[int] = []
        targets = 0
        for position in sorted(range(len(rows)), key=lambda position: (sum(map(len, rows[position])), position)):
            size = len(rows[position][1]) + 1
            if batch and (len(batch) == self._batch or targets + size > budget):
                yield batch
                batch, targets = [], 0
            batch.append(position)
            targets += size
        if batch:
            yield batch

    def _read(
        self, rows: Sequence[Row], read_off: Callable[[Tensor, Sequence[Row]], Sequence[Found]]
    ) -> Sequence[Found]:
        """One batch; on a GPU without memory for all of it, one half after the other."""
        try:
            return read_off(self._logits(rows), rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
            self._batch = max(1, len(rows) // 2)
            halves = (rows[: self._batch], rows[self._batch :])
            return [one for part in halves for one in self._read(part, read_off)]

    def _logits(self, rows: Sequence[Row]) -> Tensor:
        """One pass: each token that follows is foretold by the position before it, the end by the last one."""
        count, even = sum(len(following) + 1 for _, following in rows), even_number_of_rows(self.network)
        rows = [*rows, *[rows[-1]] * (-len(rows) % even)]
        # of the prefix what all these prompts begin with, short of a whole prompt
        cached = min(shared_tokens(self.prefix, prompt) for prompt, _ in rows) if self._states else 0
        device = self.network.device
        longest = max(len(prompt) + len(following) for prompt, following in rows)
        width = rounded_up(longest - cached, even_tokens(self.network))
        ids = torch.full((len(rows), width), pad_id(self.tokenizer))
        mask = torch.zeros(len(rows), cached + width, dtype=torch.long)
        for row, (prompt, following) in enumerate(rows):
            tokens = torch.tensor(prompt[cached:] + following)
            ids[row, : len(tokens)], mask[row, : cached + len(tokens)] = tokens, 1
        predicting = [
            (row, len(prompt) - cached - 1 + n)
            for row, (prompt, following) in enumerate(rows)
            for n in range(len(following) + 1)
        ]
        predicting += [predicting[-1]] * (-len(predicting) % even)
        chosen, columns = torch.tensor(predicting, device=device).T
        with torch.inference_mode(), head_replaced(self.network, lambda head, x: head(x[chosen, columns])[None]):
            logits = self.network(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                position_ids=torch.arange(cached, cached + width, device=device)[None].expand(len(rows), -1),
                **with_cache(self.network, self._cache(len(rows), cached)),
                use_cache=cached > 0,
            ).logits[0]  # (tokens that follow and ends, vocabulary)
        return upcast_to_float32(logits[:count])

    def _cache(self, rows: int, tokens: int) -> DynamicCache | None:
        """The prefix's first tokens for each row."""
        if not tokens:
            return None
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._states):
            shape = (rows, -1, -1, -1)
            cache.update(keys[None, :, :tokens].expand(shape), values[None, :, :tokens].expand(shape), layer)
        return cache
