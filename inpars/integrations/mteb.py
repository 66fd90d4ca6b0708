"""MTEB: the system of a run as a model, and a collection as a retrieval task. Both work offline.

mteb.evaluate(InparsModel("runs/mine"), retrieval_task("beir/nfcorpus/test"), cache=None)
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset as Table
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.model_meta import ModelMeta

from inpars.api import Data, System, load_corpus
from inpars.errors import ConfigError
from inpars.io.formats import write_documents
from inpars.io.topics import DEFAULT_SPLIT
from inpars.records import Document

LANGUAGE = "eng-Latn"
UNKNOWN = (
    *("release_date", "n_parameters", "memory_usage_mb", "max_tokens", "embed_dim", "license", "open_weights"),
    *("public_training_code", "public_training_data", "similarity_fn_name", "use_instructions"),
    *("training_datasets", "loader", "languages"),
)


class InparsModel:
    """The measured system of a run's folder, searching the documents of an MTEB task."""

    def __init__(self, folder: str | Path, **flags: Any) -> None:
        """Flags as in `System.load`; the task's documents replace the run's."""
        self.folder, self.flags = Path(folder), flags
        self._system: System | None = None

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """The name `inpars/FOLDER`, with the hash of its system.json as the revision."""
        revision = hashlib.sha256((self.folder / "system.json").read_bytes()).hexdigest()[:16]
        name = f"inpars/{self.folder.resolve().name}"
        return ModelMeta(name=name, revision=revision, framework=["PyTorch"], **dict.fromkeys(UNKNOWN))

    def index(self, corpus: Iterable[Mapping[str, Any]], **_: Any) -> None:
        """Open the system on these documents."""
        self.close()
        home = Path(tempfile.mkdtemp(prefix="inpars-mteb-"))
        try:
            path = home / "corpus.jsonl"
            write_documents(path, (Document(row["id"], row["text"], row.get("title") or "") for row in corpus))
            self._system = System.load(self.folder, corpus=path, **self.flags)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        self._home = home

    def search(
        self, queries: Iterable[Mapping[str, Any]], *, top_k: int, top_ranked: object = None, **_: Any
    ) -> dict[str, dict[str, float]]:
        """The top_k documents per query with their scores. Raises ConfigError for tasks that give candidates."""
        if top_ranked is not None:
            raise ConfigError("a run's system searches the whole collection; MTEB's reranking tasks give candidates")
        if self._system is None:
            raise ConfigError("no documents yet: MTEB calls index() before search()")
        rows = list(queries)
        results = self._system.search_batch([row["text"] for row in rows], top_k)
        return {
            row["id"]: {hit.document.doc_id: hit.score for hit in hits} for row, hits in zip(rows, results, strict=True)
        }

    def close(self) -> None:
        """Release the models, and remove the documents of the task."""
        if self._system is not None:
            self._system.close()
            self._system = None
            shutil.rmtree(self._home, ignore_errors=True)


def retrieval_task(data: Data, *, name: str | None = None, split: str = DEFAULT_SPLIT, language: str = LANGUAGE) -> Any:
    """The collection as an MTEB task; queries without judgements are left out."""
    dataset = load_corpus(data)
    topics = dataset.topics(split=split)
    qrels = {query_id: dict(grades) for query_id, grades in topics.qrels.items() if grades}
    if not qrels:
        raise ConfigError(f"{dataset.name}: split {split!r} has no judgements, which a task needs")
    title = name or re.sub(r"\W+", "", str(dataset.name).title()) or "Collection"
    metadata = TaskMetadata(
        name=title,
        description=f"{dataset.name}, as inpars reads it.",
        dataset={"path": str(dataset.name), "revision": dataset.corpus.sha256[:16]},
        type="Retrieval",
        category="t2t",
        eval_splits=[split],
        eval_langs=[language],
        main_score="ndcg_at_10",
    )
    task = type(title, (AbsTaskRetrieval,), {"metadata": metadata})()
    corpus = [{"id": doc.doc_id, "title": doc.title, "text": doc.text} for doc in dataset.corpus]
    queries = [{"id": query_id, "text": text} for query_id, text in topics.queries.items() if query_id in qrels]
    tables = {"corpus": Table.from_list(corpus), "queries": Table.from_list(queries)}
    task.dataset = {"default": {split: {**tables, "relevant_docs": qrels, "top_ranked": None}}}
    task.data_loaded = True
    return task
