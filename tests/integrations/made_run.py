"""A run's folder with a measured system of tiny models: a bi-encoder over whole documents and windows, a reranker."""

import tiny_models

from inpars.documents.datasets import load_dataset
from inpars.fusion.system import FirstStage, Reranking, SearchSystem, write_system
from inpars.io.formats import write_documents
from inpars.pipeline.commands import Invocation
from inpars.pipeline.mark import write_mark
from inpars.records import Document

QUERIES = {f"q{number}": tiny_models.sentence(900 + number, 3).rstrip(".") for number in range(4)}
FLAGS = {"device": "cpu", "dtype": "float32"}


def documents():
    for number in range(30):
        text = " ".join(tiny_models.sentence(number * 10 + part, 8) for part in range(3))
        title = tiny_models.sentence(500 + number, 2) if number % 3 else ""
        yield Document(f"d{number}", text, title, {"source": f"{number % 2}.md", "page": number})


def make_run(folder, encoder, reranker=None):
    """A folder as a finished `inpars run` leaves it, next to its documents."""
    corpus = folder.parent / f"{folder.name}.jsonl"
    write_documents(corpus, documents())
    stages = (
        FirstStage(name="whole", retriever=encoder, weight=0.7),
        FirstStage(name="windows", retriever=encoder, window_tokens=12, weight=1.6),
    )
    reranking = None if reranker is None else Reranking(model=reranker, depth=7, weight=0.3, max_length=64)
    folder.mkdir()
    source = {"corpus": str(corpus), "split": "test"}
    write_mark(folder, load_dataset(None, corpus=corpus), Invocation(source=source))
    write_system(
        SearchSystem(stages=stages, reranking=reranking, fusion_depth=20, k1=0.9, b=0.4, language="en"), folder
    )
    return folder
