"""What tokens cost: an editable file of prices, and estimates before anything is asked.

Tokens are estimated from bytes, since the server's tokenizer is not at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from inpars.errors import DataFormatError
from inpars.storage import open_lines

BYTES_PER_TOKEN = 4  # of English text in today's vocabularies; other scripts have more bytes a letter
TOKENS_PER_TURN = 4  # what a chat form adds around each turn
PER_PRICE = 1_000_000  # tokens that a price is for
MAX_PRICE = 1_000_000  # USD per million tokens; also the largest factor of a batch
SHIPPED = "prices.yaml"


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens read and written."""

    input: float
    output: float

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost."""
        return (input_tokens * self.input + output_tokens * self.output) / PER_PRICE

    def times(self, factor: float) -> Price:
        """The same price, cheaper or dearer."""
        return Price(self.input * factor, self.output * factor)


@dataclass(frozen=True, slots=True)
class Prices:
    """One price file."""

    as_of: str
    batch_factor: float
    models: dict[str, Price]

    def find(self, model: str, *, batch: bool = False) -> Price | None:
        """The price of a model, dated snapshots of a listed one included; None where nobody wrote it down."""
        price = self.models.get(model) or self.models.get(re.sub(r"-\d{4}(-?\d\d){0,2}$", "", model))
        return price.times(self.batch_factor) if price and batch else price


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would ask for; output tokens are the most that may be written."""

    requests: int
    answered: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    as_of: str

    def __str__(self) -> str:
        price = "price unknown" if self.usd is None else f"at most ${self.usd:,.4f} (prices of {self.as_of})"
        before = f" ({self.answered:,} more are answered already)" if self.answered else ""
        return (
            f"{self.requests:,} requests{before}, about {self.input_tokens:,} tokens in, "
            f"at most {self.output_tokens:,} tokens out: {price}"
        )


def load_prices(path: Path | None = None) -> Prices:
    """The prices of a file, the shipped ones by default."""
    if path is None:
        source, text = Path(SHIPPED), resources.files("inpars.data").joinpath(SHIPPED).read_text(encoding="utf-8")
    else:
        with open_lines(path) as stream:
            source, text = path, stream.read().decode("utf-8", "replace")
    try:
        return _prices(yaml.safe_load(text))
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataFormatError(
            f"not a price file ({type(error).__name__}: {reason}); `models:` needs names with input and output prices",
            path=source,
        ) from None


def _prices(fields: Any) -> Prices:  # noqa: ANN401 - YAML
    models = {str(name): Price(_number(row["input"]), _number(row["output"])) for name, row in fields["models"].items()}
    return Prices(str(fields.get("as_of", "an unknown day")), _number(fields.get("batch_factor", 1)), models)


def _number(value: Any) -> float:  # noqa: ANN401 - YAML
    number = float(value)
    if not 0 <= number <= MAX_PRICE:
        raise ValueError(f"{value!r} is no price: it must be from 0 to {MAX_PRICE:,}")
    return number


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def cut_text(text: str, max_tokens: int) -> str:
    """The beginning of a text that has about so many tokens, whole words where there are blanks."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= max_tokens * BYTES_PER_TOKEN:
        return text
    kept = raw[: max_tokens * BYTES_PER_TOKEN].decode("utf-8", "ignore")
    return kept if text[len(kept)].isspace() else (kept.rpartition(" ")[0] or kept)


def total(requests: Iterable[tuple[int, int]]) -> tuple[int, int, int]:
    """Number, input and output tokens of requests."""
    count = input_tokens = output_tokens = 0
    for tokens_in, tokens_out in requests:
        count, input_tokens, output_tokens = count + 1, input_tokens + tokens_in, output_tokens + tokens_out
    return count, input_tokens, output_tokens
