"""Options for OpenAI-compatible servers: address, limits, prices. Importing it loads no SDK."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from inpars.errors import ConfigError
from inpars.options import FlagGroup, check, option
from inpars.records import LogProbKind

OPENAI_URL = "https://api.openai.com/v1"
LITELLM = "litellm:"  # instead of an address: use LiteLLM in this process
KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
KEY_LIKE = re.compile(r"\bsk-[\w*.-]{4,}")
_VERSION = re.compile(r"v?\d[\w.-]{0,30}|preview|latest")  # values of Azure's ?api-version=


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """How requests are sent to an OpenAI-compatible server (--backend completions or chat)."""

    FLAG_GROUP: ClassVar = FlagGroup("server")

    base_url: str | None = option(
        None,
        help="address of the server, http://localhost:8000/v1 for instance, with ?api-version=... for Azure; "
        f"{LITELLM} for LiteLLM in this process, with models as anthropic/NAME (default: {URL_VARIABLE}'s, "
        f"else {OPENAI_URL})",
    )
    log_prob_kind: LogProbKind = option(
        "raw",
        help="log-probs of the server: raw (before temperature and top-p), after them, or absent (not requested)",
        advanced=True,
    )
    batch: bool = option(False, help="use the Batch API: half the price, results within a day")
    poll_seconds: float = option(30.0, help="seconds between polls of a batch", minimum=0, advanced=True)
    concurrency: int = option(8, help="maximum concurrent requests", minimum=1, advanced=True)
    requests_per_minute: int | None = option(None, help="maximum requests per minute", minimum=1, advanced=True)
    tokens_per_minute: int | None = option(
        None, help="maximum tokens per minute, input and output", minimum=1, advanced=True
    )
    timeout_seconds: float = option(120.0, help="timeout per request, in seconds", minimum=0, advanced=True)
    retries: int = option(6, help="retries per request", minimum=0, advanced=True)
    max_usd: float | None = option(
        None, help="stop before this output has cost more than this, earlier attempts included", minimum=0
    )
    price_file: Path | None = option(None, help="price list to use instead of inpars/data/prices.yaml", advanced=True)
    dry_run: bool = option(False, help="print the number of requests, tokens and the price, then stop")

    @property
    def url(self) -> str:
        """The server's address without a trailing slash in its path."""
        given = self.base_url or os.environ.get(URL_VARIABLE, "").strip() or OPENAI_URL
        address, question_mark, query = given.partition("?")
        return f"{address.rstrip('/')}{question_mark}{query}".rstrip("?/")


def check_api(options: ApiOptions, *, asks_server: bool) -> None:
    """Raise ConfigError for an invalid address, or without a server for flags that need one."""
    check(options)
    if not asks_server:
        unused = [name for name in ("base_url", "batch", "max_usd", "dry_run") if getattr(options, name)]
        if unused:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
            raise ConfigError(f"{flags}: no server is asked; give --backend completions or --backend chat as well")
        return
    source = "--base-url" if options.base_url else URL_VARIABLE
    if options.url == LITELLM:
        if options.batch:
            raise ConfigError(f"--batch: {source} {LITELLM} has no Batch API; leave one of them out")
        return
    if (parts := _address(options.url)) is None:
        shown = options.url.rpartition("@")[2]  # without a password
        raise ConfigError(f"{source} {shown!r} is not an address like http://localhost:8000/v1")
    if (reason := _secret(parts)) is not None:
        raise ConfigError(f"{source} {reason}; it must hold no password and no key, since it is stored")


def _address(url: str) -> SplitResult | None:
    """The parts of a web address; None for anything else, a port that is no number for instance."""
    try:
        parts = urlsplit(url)
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _secret(parts: SplitResult) -> str | None:
    """Describe a possible secret in the address without repeating it."""
    if parts.username or parts.password:
        return f"has a user or a password before the host; the key goes into {KEY_VARIABLE}"
    if parts.fragment or KEY_LIKE.search(unquote(parts.geturl())):
        return f"has what looks like a key in it; the key goes into {KEY_VARIABLE}"
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in ("api-version", "api_version") or not _VERSION.fullmatch(value):
            parameter = repr(name) if value else "something"
            return (
                f"has {parameter} after its question mark, where only ?api-version=... is allowed; a key goes into "
                f"{KEY_VARIABLE}"
            )
    return None
