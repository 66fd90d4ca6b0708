"""A late-interaction or sparse retriever as sentence-transformers encodes with it, batch by batch.

Texts are sorted by length, so that a batch is padded little. Knows nothing of indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Any, Unpack

import torch

from inpars.batches import slices
from inpars.engines.choice import openvino_form
from inpars.engines.openvino_network import Output
from inpars.errors import ConfigError
from inpars.models.compute_options import Placement
from inpars.models.hardware import pick_device, pick_dtype
from inpars.models.networks import check_length
from inpars.retrieval.dense import fingerprint, time_in_format

DEFAULT_BATCH_SIZE = 64


class EncoderSettings(Placement, total=False):
    """How an encoder is loaded: `max_length` tokens of a text are read, the model's own limit by default."""

    max_length: int | None
    window_tokens: int | None


class LibraryEncoder:
    """A loaded model, its number format and what decides its embeddings. Threads take turns batch by batch."""

    def __init__(
        self, load: Callable[..., Any], name: str, output: Output | None = None, **settings: Unpack[EncoderSettings]
    ) -> None:
        """Load the model by `load`; its network may be another engine's where `output` is what it is read for.

        Raises ConfigError for windows, which are a bi-encoder's.
        """
        refuse_windows(name, settings.get("window_tokens"))
        self.device = pick_device(settings.get("device", "auto"))
        number_format = pick_dtype(settings.get("dtype", "auto"), self.device)
        trust = settings.get("trust_remote_code", False)
        self.model = load(name, device=str(self.device), dtype="float32", trust_remote_code=trust)
        self._lock = Lock()
        if (max_length := settings.get("max_length")) is not None:
            check_length(self.model, name, max_length)
            self.model.max_seq_length = max_length
            if getattr(self.model[0], "document_length", None) is not None:
                self.model[0].document_length = max_length
        document_length = getattr(self.model[0], "document_length", None)
        compiled = None
        if output is not None:
            network, dtype = getattr(self.model[0], "auto_model", None), settings.get("dtype", "auto")
            compiled = openvino_form(network, output, dtype, partial(time_in_format, network, number_format), name)
        if compiled is not None:
            self.model[0].model = compiled
        self.fingerprint = f"{fingerprint(name, self.model, number_format)}\0{document_length}"
        self.fingerprint += f"\0{compiled}" if compiled else ""
        own_format = number_format == torch.bfloat16 and compiled is None
        self._autocast = torch.autocast(self.device.type, number_format, enabled=own_format)

    def encoded(
        self, method: str, texts: Sequence[str], batch_size: int, **settings: bool
    ) -> Iterator[tuple[Sequence[int], Any]]:
        """Positions of a batch's texts and their embeddings, the longest texts first."""
        order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
        for rows in slices(order, batch_size):
            some = [texts[row] for row in rows]
            with self._lock, self._autocast:
                embeddings = getattr(self.model, method)(
                    some, batch_size=len(rows), show_progress_bar=False, **settings
                )
            yield rows, embeddings


def refuse_windows(name: str, window_tokens: int | None) -> None:
    """Raise ConfigError if windows are requested."""
    if window_tokens is not None:
        raise ConfigError(f"{name} is no bi-encoder and reads whole documents; leave --window-tokens out")
