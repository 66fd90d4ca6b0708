"""Settings of the service, as flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inpars.options import option

KEY_VARIABLE = "INPARS_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where it listens, and what one client and all together may ask."""

    host: str = option("127.0.0.1", help="address to listen on; 0.0.0.0 lets the network in")
    port: int = option(8000, help="port; 0 takes a free one", minimum=0)
    allow_host: tuple[str, ...] = option(
        (),
        help="host name that requests may be for, may be given again (default: on a local address its own names, "
        "else any)",
        metavar="NAME",
    )
    api_key_variable: str = option(
        KEY_VARIABLE, help="environment variable with the key that clients must send; no key where it is empty"
    )
    feedback: Path | None = option(
        None, help="file that thumbs up and down are appended to, which --qrels reads (default: none are shown)"
    )
    written_answers: bool = option(False, help="let a language model write answers too (--model, --base-url)")
    max_body_bytes: int = option(1024 * 1024, help="largest request", minimum=1)
    max_concurrent: int = option(64, help="requests answered at once; further ones are told to come back", minimum=1)
    max_texts: int = option(256, help="texts or documents in one request", minimum=1)
    max_batch: int = option(32, help="queries of several clients that go through a model together", minimum=1)
    batch_wait_ms: float = option(4.0, help="milliseconds that a request waits for others to join it", minimum=0)
    request_timeout_seconds: float = option(60.0, help="longest time for one request", minimum=0.1)
    grace_seconds: int = option(10, help="time to finish what was asked before, when told to stop", minimum=0)
