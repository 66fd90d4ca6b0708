"""Helpers for transformers networks, shared by scoring, training and generation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from inpars.errors import ConfigError

MIN_TOKENS = 8  # of a text, or of query and document: special tokens and a few others
# raised when a network of an unsupported architecture is patched or converted
UNFIT = (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError)
POSITIONS = ("position_embeddings", "wpe", "embed_positions")  # of BERT-like models, GPT-2, OPT and BART


@contextmanager
def head_replaced(network: Any, apply: Callable[[nn.Module, Tensor], Tensor]) -> Iterator[None]:
    """Inside the block, replace the language-model head by `apply(head, hidden states)`.

    Other steps around the head (T5's scaling of tied embeddings, soft caps) remain the model's.
    """
    head = network.get_output_embeddings()
    network.set_output_embeddings(_Applied(head, apply))
    try:
        yield
    finally:
        network.set_output_embeddings(head)


class _Applied(nn.Module):
    def __init__(self, head: nn.Module, apply: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self._held = (head, apply)  # in a tuple, so that the head is not registered twice

    def forward(self, hidden: Tensor) -> Tensor:
        head, apply = self._held
        return apply(head, hidden)


def float32_rows(head: nn.Module, hidden: Tensor, rows: Sequence[int]) -> Tensor:
    """Float32 logits of a few tokens: hidden states (..., width) times these rows of the head, (..., rows)."""
    with torch.autocast(hidden.device.type, enabled=False):
        weight: Tensor = head.weight[list(rows)].float()  # type: ignore[index]
        bias = getattr(head, "bias", None)
        return nn.functional.linear(hidden.float(), weight, None if bias is None else bias[list(rows)].float())


def with_cache(network: Any, cache: Any) -> dict[str, Any]:
    """The key-value cache as a keyword argument; transformers 5.24 renamed `past_key_values` to `cache`."""
    return {"cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values": cache}


def cache_of(output: Any) -> Any:
    """The key-value cache of a network's output, under either name."""
    return output.cache if hasattr(output, "cache") else output.past_key_values


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def can_exchange_attention(network: Any) -> bool:
    """Whether the network's attention can be replaced and has no sliding window."""
    config = network.config.get_text_config()
    windows = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return not windows and kinds == {"full_attention"} and bool(getattr(network, "_supports_attention_backend", False))


def start_tokens(tokenizer: Any) -> list[int]:
    """Tokens that the tokenizer puts before every text, such as a beginning-of-sequence token."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer("a")["input_ids"]
    return whole[: whole.index(plain[0])] if plain and plain[0] in whole else []


def check_length(network: nn.Module, name: str, length: int | None, minimum: int = MIN_TOKENS, before: int = 0) -> None:
    """Raise ConfigError for a --max-length below `minimum` or above the network's positions.

    `before` is the number of additional tokens before the text.
    """
    maximum = learned_positions(network)
    if length is not None and length < minimum:
        raise ConfigError(f"--max-length is {length}; it must be at least {minimum} to leave room for text")
    if length is not None and maximum is not None and length + before > maximum:
        more = f", {before} of them the prompt's" if before else ""
        raise ConfigError(f"--max-length is {length}; {name} reads at most {maximum} tokens{more}")


def learned_positions(network: nn.Module) -> int | None:
    """Maximum input length of a network with learned position embeddings; None for other networks."""
    for name, module in network.named_modules():
        if name.rpartition(".")[2] in POSITIONS and isinstance(module, nn.Embedding):
            unused = getattr(module, "offset", 0) if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - int(unused)
    return None


def upcast_to_float32(values: Tensor) -> Tensor:
    """Values in float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def pad_id(tokenizer: Any) -> int:
    """The padding id; any id if the tokenizer has none, because padding is masked."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)
