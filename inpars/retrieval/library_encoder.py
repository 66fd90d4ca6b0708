"""Encode with late-interaction and sparse models of sentence-transformers.

Texts are sorted by length, which reduces padding.
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
    """How an encoder is loaded; `max_length` is the maximum input length in tokens (default: the model's)."""

    max_length: int | None
    window_tokens: int | None


class LibraryEncoder:
    """A loaded model with its fingerprint. Thread-safe: threads take turns batch by batch."""

    def __init__(
        self, load: Callable[..., Any], name: str, output: Output | None = None, **settings: Unpack[EncoderSettings]
    ) -> None:
        """Load the model with `load`; `output` names the network output to compile for OpenVINO, if any.

        Raises ConfigError for windows, which only bi-encoders support.
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
        is_autocast = number_format != torch.float32 and compiled is None
        self._autocast = torch.autocast(self.device.type, number_format, enabled=is_autocast)

    def encoded(
        self, method: str, texts: Sequence[str], batch_size: int, **settings: bool
    ) -> Iterator[tuple[Sequence[int], Any]]:
        """The positions and embeddings of each batch of texts, longest first."""
        order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
        for rows in slices(order, batch_size):
            some = [texts[row] for row in rows]
            with self._lock, self._autocast:
                embeddings = getattr(self.model, method)(
                    some, batch_size=len(rows), show_progress_bar=False, **settings
                )
            yield rows, embeddings


def refuse_windows(name: str, window_tokens: int | None) -> None:
    """Raise ConfigError for windows."""
    if window_tokens is not None:
        raise ConfigError(f"{name} is no bi-encoder and reads whole documents; leave --window-tokens out")
