"""A generator of known latency whose queries can be worked out by hand; it says in a log what it wrote, and when."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from inpars.generation import GeneratedQuery
from inpars.generation.settings import chunks_by_length

CHUNK = 8


@dataclass(frozen=True)
class MakeFake:
    """Picklable, as what workers are given must be."""

    log: Path
    seconds: float = 0.0  # a document
    chunk: int = CHUNK

    def __call__(self):
        return FakeGenerator(self)


class FakeGenerator:
    """Asks for a document's first word, after sleeping; a document of `d1` at a time in the log."""

    name, log_prob_kind, device = "fake", "raw", "abacus"

    def __init__(self, settings):
        self._settings = settings

    def plan(self, documents):
        return chunks_by_length([len(document.text) for document in documents], self._settings.chunk)

    def generate(self, documents):
        queries = []
        for document in documents:
            time.sleep(self._settings.seconds)
            with self._settings.log.open("a") as log:
                log.write(f"{document.doc_id} {time.time():.4f} {os.getpid()}\n")
            word = document.text.split()[0]
            queries.append([GeneratedQuery(f"what is {word}?", (1, 2), (-0.25, -0.5), -1.0, "stop")])
        return queries
