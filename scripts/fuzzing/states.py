"""Readers of prompts and of what this package itself leaves: manifests, journals, partial files, indexes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fuzzing.cases import Files
from fuzzing.checks import finite, run, same
from fuzzing.state_seeds import HEADER
from inpars.generation.api.batch import read_state as read_batches
from inpars.generation.api.batch import refuse_open_batches
from inpars.generation.api.budget import load_prices
from inpars.generation.api.journal import AnswerJournal, read_answers
from inpars.generation.api.replies import find_replied
from inpars.io.manifest import FileStamp, read_manifest, why_stale, write_manifest
from inpars.io.storage import to_json_line
from inpars.progress import SILENT
from inpars.prompts.load import ExampleOptions, choose_prompt, load_prompt, read_examples
from inpars.records import Document
from inpars.retrieval.index_state import read_state as read_index
from inpars.stages.partial import Partial, ScoreCache, header_line, write_in_order


def prompt(folder: Path, main: Path) -> None:
    """A prompt file, and what it shows for a document."""
    found = load_prompt(str(main))
    shown = Document("d", "braces {document} {query} {0}", "title")
    for text in (found.render(shown.full_text), found.text, *(turn["content"] for turn in found.messages(shown.text))):
        text.encode()
    found.parse("a query\n\nExample")
    find_replied('"a query"', found)


def examples(folder: Path, main: Path) -> None:
    """Worked examples, chosen for a document."""
    read_examples(main)
    for choice in ("all", "random", "nearest"):
        chosen = choose_prompt(load_prompt("inpars"), ExampleOptions(examples=main, examples_choice=choice))
        chosen.for_document(Document("d1", "yeast and sugar")).render("x").encode()


def prices(folder: Path, main: Path) -> None:
    """A price file."""
    found = load_prices(main)
    price = found.find("m", batch=True)
    if price is not None:
        finite([price.usd(10, 10)], "price")


def manifest(folder: Path, main: Path) -> None:
    """A manifest read, compared and written again."""
    found = read_manifest(main)
    why_stale(main, "filter", {"k": 1}, {"corpus": FileStamp("c", "x", 1)})
    if found is not None:
        write_manifest(found, main)
        same("manifest read, written, read", found, read_manifest(main))


def journal(folder: Path, main: Path) -> None:
    """Paid answers."""
    list(read_answers(main))
    opened = AnswerJournal(main)
    try:
        finite([opened.spent.usd], "dollars")
    finally:
        opened.close()


def batches(folder: Path, main: Path) -> None:
    """What was sent as a batch."""
    read_batches(main)
    refuse_open_batches(main, "other")


def partial(folder: Path, main: Path) -> None:
    """What an interrupted stage left."""
    header = to_json_line(HEADER)
    Partial("fuzz", main, header, SILENT).chunk_ends(3)
    if main.exists():
        write_in_order(main, folder / "out.jsonl", ["d1", "d2"])


def remembered(folder: Path, main: Path) -> None:
    """Scores that an interrupted stage left."""
    with ScoreCache(Partial("fuzz", main, header_line("fuzz", {}, {}), SILENT), _Ones) as scorer:
        same("scores", 2, len(scorer.score([("a", "b"), ("c", "d")])))


class _Ones:
    """A scorer that likes everything alike."""

    name = "ones"

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [1.0] * len(pairs)


def index_state(folder: Path, main: Path) -> None:
    """The state of an index on disk."""
    read_index(main.parent).digest  # noqa: B018


def index(folder: Path, main: Path) -> None:
    """A whole index on disk."""
    from inpars.retrieval.vector_index import VectorIndex

    made = run("index", "info", "--index", main, "--json")
    opened = VectorIndex(main)
    documents = list(opened)
    same("documents of the index", made.values["documents"], len(documents))
    for document in documents:
        same("document looked up", document, opened[document.doc_id])


@cache
def index_files() -> Files:
    """An index of two documents."""
    import tempfile

    from inpars.io.corpus import Corpus
    from inpars.retrieval.index_writer import build_index

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "c.jsonl").write_text('{"_id": "a", "text": "x"}\n{"_id": "b", "text": "y", "title": "t"}\n')
        build_index(place / "index", Corpus(place / "c.jsonl", place / "cache"), _Encoder())
        found = sorted(path for path in (place / "index").rglob("*") if path.is_file())
        return {path.relative_to(place / "index").as_posix(): path.read_bytes() for path in found}


class _Encoder:
    """Counts letters."""

    name, fingerprint = "letters", "letters"

    def encode_documents(self, texts: Sequence[object], progress: object = SILENT) -> npt.NDArray[np.float32]:
        return np.ones((len(texts), 4), dtype=np.float32)
