"""An OpenAI-compatible server as a query generator.

Answers lie in a journal beside the output; what is there is never asked for again. Single requests are
`worker_pool.py`'s matter, batches `batch.py`'s.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inpars.generation import GeneratedQuery
from inpars.generation.api.batch import Batches, refuse_open_batches, state_path
from inpars.generation.api.budget import Price
from inpars.generation.api.client import Server
from inpars.generation.api.journal import AnswerJournal, journal_path
from inpars.generation.api.options import ApiOptions
from inpars.generation.api.requests import ApiRequest, RequestFormat, remark_lines
from inpars.generation.api.worker_pool import RequestPool
from inpars.progress import SILENT, Progress
from inpars.records import Document, LogProbKind

CHUNK_DOCUMENTS = 64  # stored as a whole; the answers are in the journal before


class ApiGenerator:
    """Writes queries by asking a server for completions or for chat replies."""

    def __init__(
        self,
        wording: RequestFormat,
        options: ApiOptions,
        price: Price | None,
        output: Path,
        progress: Progress = SILENT,
    ) -> None:
        """Open the journal beside `output`. Raises ConfigError where the key is missing or a batch is under way."""
        self.name, self.device = wording.model, f"server {wording.url}"
        self.log_prob_kind: LogProbKind = options.log_prob_kind
        self._wording, self._priced, self._documents = wording, price is not None, list[Document]()
        self._positions: dict[str, int] = {}
        self._remarks, self._answers = Counter[str](), 0  # of the answers that were handed out
        self._made: dict[str, list[ApiRequest]] = {}  # of documents that are asked about and not yet written
        self._ahead = max(CHUNK_DOCUMENTS, 2 * options.concurrency)
        state, stopped = state_path(output), threading.Event()
        if not options.batch:
            refuse_open_batches(state, wording.digest)
        self._server = Server(
            wording.url, timeout_seconds=options.timeout_seconds, retries=options.retries, stopped=stopped
        )
        self._journal = AnswerJournal(journal_path(output), price)
        self._asker = RequestPool(self._server, wording, self._journal, options, stopped)
        self._batches = Batches(self._server, wording, self._journal, options, state, progress)
        self._in_batches = options.batch

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Chunks of documents in their order."""
        self._documents = list(documents)
        self._positions = {document.doc_id: position for position, document in enumerate(documents)}
        positions = range(len(documents))
        return [list(positions[start : start + CHUNK_DOCUMENTS]) for start in range(0, len(documents), CHUNK_DOCUMENTS)]

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The queries of each document of the chunk; those that follow in the plan are asked for meanwhile.

        Raises BackendError where documents are left without an answer, after everything else was asked.
        """
        wanted = [self._requests_of(document) for document in documents]
        missing = [request for requests in wanted for request in requests if request.digest not in self._journal]
        if missing and self._in_batches:
            self._batches.run(self._requests(self._rest(documents)))
        elif missing:
            self._ask(documents)
        for document in documents:
            del self._made[document.doc_id]
        self._count(request for requests in wanted for request in requests)
        return [[self._journal[request.digest] for request in requests] for requests in wanted]

    def status(self) -> str:
        """`$0.0123 spent, 2 failed`; tokens where the price is not known."""
        spent, failed = self._journal.spent, len(self._asker.failures) + self._journal.refused
        tokens = spent.input_tokens + spent.output_tokens
        cost = f"${spent.usd:.4f} spent" if self._priced else f"{tokens:,} tokens"
        return f"{cost}, {failed} failed"

    def results(self) -> Mapping[str, Any]:
        """What the journal's answers cost, those of earlier runs and other settings included; and what was odd."""
        spent = self._journal.spent
        usd = round(spent.usd, 6) if self._priced else None
        odd = {"remarks": dict(sorted(self._remarks.items()))} if self._remarks else {}
        return {"usd": usd, "input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens, **odd}

    def notes(self) -> list[str]:
        """What was odd about the answers that the output is made of, a line a kind."""
        reasons = self._asker.refusals.most_common(1)
        example = [f"the server's reason, {reasons[0][1]} times: {reasons[0][0]}"] if reasons else []
        return [*remark_lines(self._remarks, self._answers), *example, *self._server.spelling.notes]

    def close(self) -> None:
        """Let requests under way come to their end, then close the journal."""
        self._asker.close()
        self._server.close()
        self._journal.close()

    def skipped(self, documents: Sequence[Document]) -> None:
        """Count what was odd about answers that an interrupted run has stored already."""
        self._count(request for document in documents for request in self._wording.requests(document))

    def _count(self, requests: Iterable[ApiRequest]) -> None:
        for request in requests:
            self._answers += 1
            self._remarks.update(self._journal.remarks(request.digest))

    def _ask(self, documents: Sequence[Document]) -> None:
        ahead = self._requests(self._rest(documents, len(documents) + self._ahead))
        self._asker.start(ahead)
        if self._asker.finish(self._requests(documents)):
            rest = self._requests(self._rest(documents))
            self._asker.start(rest)
            self._asker.finish(rest)
            raise self._asker.failure(rest)

    def _rest(self, documents: Sequence[Document], count: int | None = None) -> list[Document]:
        """The plan, or `count` documents of it, from these documents on; only they where they are not of the plan."""
        start = self._positions.get(documents[0].doc_id)
        if start is None:
            return list(documents)
        return self._documents[start : None if count is None else start + count]

    def _requests(self, documents: Sequence[Document]) -> list[ApiRequest]:
        return [request for document in documents for request in self._requests_of(document)]

    def _requests_of(self, document: Document) -> list[ApiRequest]:
        if document.doc_id not in self._made:
            self._made[document.doc_id] = self._wording.requests(document)
        return self._made[document.doc_id]
