"""The stages as functions for notebooks and programs: `inpars.generate`, `inpars.search`, `inpars.System` and others.

Each function runs a command in this process, and every flag is a keyword (`max_documents=500` is
`--max-documents 500`). Data may be a name, a file, or records in memory. Results are records with the path of their
file; with `output=PATH` a repeated call resumes or reuses that file, otherwise it is temporary.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import html
import importlib
import io
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar

from inpars.cli.config_files import flag_words
from inpars.cli.main import module_of
from inpars.cli.usage import Parser
from inpars.documents.datasets import Dataset, load_dataset
from inpars.errors import ConfigError, InparsError
from inpars.io.formats import (
    read_run,
    read_synthetic_queries,
    synthetic_query_record,
    write_documents,
    write_queries,
    write_run,
)
from inpars.io.judgements import write_qrels
from inpars.io.manifest import manifest_path
from inpars.io.storage import write_jsonl
from inpars.io.topics import DEFAULT_SPLIT
from inpars.models.compute_options import use_engine
from inpars.prompts.load import load_prompt
from inpars.prompts.templates import Prompt
from inpars.provenance import running
from inpars.records import Document, Query, SyntheticQuery
from inpars.stages.triple_files import TripleRow, read_triple_rows

if TYPE_CHECKING:
    from inpars.apps.qa.engine import Engine
    from inpars.apps.qa.records import Answer, Hit

Item = TypeVar("Item")
_DEFAULTS: Mapping[str, Any] = {"title": "", "metadata": {}}  # of a document
Data: TypeAlias = "str | Path | Dataset | Iterable[Document | Mapping[str, Any] | str]"
QUERIES = "queries.jsonl"
SHOWN = 10  # records shown in a notebook
_numbers = count(1)


class Records(list[Item], Generic[Item]):
    """Records and the path of their file; shown as a table in a notebook."""

    def __init__(self, items: Iterable[Item], path: Path) -> None:
        super().__init__(items)
        self.path = path

    def to_pandas(self) -> Any:
        """A DataFrame, a row per record."""
        return _frame(map(_row, self))

    def _repr_html_(self) -> str:
        return _table([_row(item) for item in self[:SHOWN]], f"{len(self)} records, {self.path}")


class Run(dict[str, dict[str, float]]):
    """A ranking: query_id -> doc_id -> score, with the path of its TREC run."""

    def __init__(self, scores: Mapping[str, Mapping[str, float]], path: Path) -> None:
        super().__init__({query_id: dict(hits) for query_id, hits in scores.items()})
        self.path = path

    def to_pandas(self) -> Any:
        """A DataFrame of query_id, doc_id, rank and score."""
        return _frame(self._rows())

    def _rows(self) -> Iterator[dict[str, Any]]:
        from inpars.io.runs import rank

        for query_id, scores in self.items():
            for position, (doc_id, score) in enumerate(rank(scores), start=1):
                yield {"query_id": query_id, "doc_id": doc_id, "rank": position, "score": score}

    def _repr_html_(self) -> str:
        rows = [row for row, _ in zip(self._rows(), range(SHOWN), strict=False)]
        return _table(rows, f"{len(self)} queries, {self.path}")


class Evaluation:
    """Measures of runs with paired tests; `values` is the output of `inpars evaluate --json`, `text` its table."""

    def __init__(self, text: str, values: Mapping[str, Any]) -> None:
        self.text, self.values = text, values

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """System -> measure -> mean over the queries."""
        return {name: dict(result["means"]) for name, result in self.values["systems"].items()}

    def to_pandas(self) -> Any:
        """A DataFrame of the means, a row per system."""
        return _frame({"system": name, **means} for name, means in self.means.items())

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


class System:
    """The search system chosen and measured by `inpars run`."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self._engine = folder, engine

    @classmethod
    def load(cls, folder: str | Path, **flags: Any) -> System:
        """Open the system of a run's folder, with all its models; takes the flags of `inpars ask --run`."""
        if not isinstance(folder, str | Path):
            raise ConfigError(f"a system is loaded from the folder of a run, not from {type(folder).__name__}")
        from inpars.apps.qa.build_engine import AnswerOptions
        from inpars.cli.common import console
        from inpars.cli.measured import open_named_engine
        from inpars.options import from_flags

        parsed, words = _parsed("ask", {"run": folder, "quiet": True, **flags}, positional=["-"])
        with running(["inpars", *words]):
            answers = from_flags(AnswerOptions, parsed)
            generates = answers.model is not None or answers.base_url is not None
            engine = open_named_engine(parsed, Path(folder), console(parsed), answers=answers, writes=generates)
        return cls(Path(folder), engine)

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """The top k documents of a query."""
        return self._engine.search([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int = 10) -> list[list[Hit]]:
        """The top k documents per query, in the order of the queries."""
        return self._engine.search(queries, k)

    def rerank(self, query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Position and score of each text, best first. Raises ConfigError for a system without a reranker."""
        if self._engine.reranker is None:
            raise ConfigError(f"{self.folder}: the system has no reranker")
        scores = self._engine.reranker.score([(query, text) for text in texts])
        return sorted(enumerate(scores), key=lambda pair: (-pair[1], pair[0]))

    def ask(self, question: str, k: int = 5) -> Answer:
        """An answer from the top k documents: generated if a model was named, else extracted."""
        return self._engine.ask(question, kind="generated" if self._engine.writer else "extractive", k=k)

    def close(self) -> None:
        """Release indexes and models."""
        self._engine.close()

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_corpus(
    data: Data, *, queries: Mapping[str, str] | None = None, qrels: Mapping[str, Mapping[str, int]] | None = None
) -> Dataset:
    """A collection by name, file or folder, or from documents in memory.

    Documents are `Document`s, texts, dicts with `text` (and `doc_id`, `title`, `metadata`), a dict of these by id, or a
    pandas frame with such columns. `queries` (id to text) and `qrels` (query id to document id to grade) are only for
    documents in memory. Raises ConfigError for anything else.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str | Path):
        if queries or qrels:
            raise ConfigError("queries and qrels belong to documents in memory; a named collection has its own")
        path = Path(data)
        return load_dataset(None, corpus=path) if path.is_file() and path.suffix != ".zip" else load_dataset(str(data))
    for name, value in (("queries", queries), ("qrels", qrels)):
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"{name} are a dict by query id, not {type(value).__name__}")
    if qrels and not queries:
        raise ConfigError("qrels need the texts of their queries; give queries too")
    folder = _temporary_path("collection")
    (folder / "qrels").mkdir(parents=True)
    corpus, topics = folder / "corpus.jsonl", folder / QUERIES
    write_documents(corpus, (_document(item, n) for n, item in enumerate(_items(data))))
    if not queries:
        return load_dataset(None, corpus=corpus)
    write_queries(topics, (Query(str(name), text) for name, text in queries.items()))
    if not qrels:
        return load_dataset(None, corpus=corpus, queries=topics)
    judged = {str(name): {str(doc_id): grade for doc_id, grade in grades.items()} for name, grades in qrels.items()}
    write_qrels(folder / "qrels" / f"{DEFAULT_SPLIT}.tsv", judged)
    return load_dataset(str(folder))


def generate(
    data: Data, *, prompt: str | Prompt = "inpars", output: str | Path | None = None, **flags: Any
) -> Records[SyntheticQuery]:
    """Queries for documents, with token log-probs. Flags: `inpars generate --help-all`."""
    path = _output(output, "queries.jsonl")
    _call("generate", {**_data(data), "prompt": _prompt(prompt), "output": path, **flags})
    return Records(read_synthetic_queries(path), path)


def score(
    queries: Iterable[SyntheticQuery], data: Data, *, output: str | Path | None = None, **flags: Any
) -> Records[SyntheticQuery]:
    """The queries with log-probs of one local model. Flags: `inpars score --help-all`."""
    path = _output(output, "scored.jsonl")
    _call("score", {**_data(data), "input": _queries(queries), "output": path, **flags})
    return Records(read_synthetic_queries(path), path)


def filter(  # noqa: A001 - the stage's name
    queries: Iterable[SyntheticQuery], *, output: str | Path | None = None, **flags: Any
) -> Records[SyntheticQuery]:
    """The queries worth training on, best first. Flags: `inpars filter --help-all`."""
    path = _output(output, "kept.jsonl")
    _call("filter", {"input": _queries(queries), "output": path, **flags})
    return Records(read_synthetic_queries(path), path)


def mine_negatives(
    queries: Iterable[SyntheticQuery], data: Data, *, output: str | Path | None = None, **flags: Any
) -> Records[TripleRow]:
    """Training triples with mined negatives. Flags: `inpars triples --help-all`."""
    path = _output(output, "triples.tsv")
    _call("triples", {**_data(data), "input": _queries(queries), "output": path, **flags})
    return Records(read_triple_rows(path), path)


def train_retriever(triples: Records[TripleRow] | str | Path, *, output: str | Path, **flags: Any) -> Path:
    """Train a retriever; returns its folder for sentence-transformers. Flags: `inpars train retriever --help-all`."""
    return _trained("retriever", triples, output, flags)


def train_reranker(triples: Records[TripleRow] | str | Path, *, output: str | Path, **flags: Any) -> Path:
    """Train a reranker; returns its folder. Flags: `inpars train reranker --help-all`."""
    return _trained("reranker", triples, output, flags)


def search(
    data: Data, retriever: str | Path | Sequence[str | Path] = "bm25", *, output: str | Path | None = None, **flags: Any
) -> Run:
    """Rank documents for every query; several retrievers are fused. Flags: `inpars search --help-all`."""
    path = _output(output, "run.trec")
    retrievers = [retriever] if isinstance(retriever, str | Path) else list(retriever)
    if not retrievers:
        raise ConfigError("no retriever is given; give bm25, or the name or folder of one")
    _call("search", {**_data(data), "retriever": retrievers, "output": path, **flags})
    return Run(read_run(path), path)


def rerank(
    first: Mapping[str, Mapping[str, float]], data: Data, *, output: str | Path | None = None, **flags: Any
) -> Run:
    """Rerank the top documents of a ranking. Flags: `inpars rerank --help-all`."""
    path = _output(output, "reranked.trec")
    _call("rerank", {**_data(data), "run": [_run_path(first, "first")], "output": path, **flags})
    return Run(read_run(path), path)


def evaluate(runs: Mapping[str, Mapping[str, Mapping[str, float]]], data: Data, **flags: Any) -> Evaluation:
    """Evaluate named rankings, with paired tests against the first. Flags: `inpars evaluate --help-all`."""
    paths = [_run_path(scores, name) for name, scores in runs.items()]
    output = flags.pop("output", None) or _temporary_path("metrics.json")
    text, code = _call("evaluate", {**_data(data), "run": paths, "output": output, **flags})
    if code:
        raise ConfigError("not a result: a run and the judgements have no query or document in common")
    return Evaluation(text.rstrip(), json.loads(Path(output).read_text(encoding="utf-8")))


def run(data: Data | None = None, *, output: str | Path, **flags: Any) -> System:
    """Run the pipeline and open its system. `documents=[...]` takes files. Flags: `inpars run --help-all`."""
    _call("run", {**({} if data is None else _data(data)), "output": output, **flags})
    return System.load(output)


def _trained(kind: str, triples: Records[TripleRow] | str | Path, output: str | Path, flags: Mapping[str, Any]) -> Path:
    path = triples.path if isinstance(triples, Records) else Path(triples)
    _call("train", {"triples": path, "output": output, **flags}, positional=[kind])
    return Path(output)


class _ApiParser(Parser):
    """A parser that raises its errors."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise ConfigError((message or "").strip())


def _parsed(
    command: str, flags: Mapping[str, Any], positional: Sequence[str] = ()
) -> tuple[argparse.Namespace, list[str]]:
    parser = _ApiParser(prog=f"inpars {command}")
    importlib.import_module(module_of(command)).add_arguments(parser)
    subparser = parser.kinds().get(positional[0], parser) if positional else parser
    values = {key: _plain(value) for key, value in flags.items() if value is not None}
    words = [word for part in flag_words(subparser, values, f"inpars {command}").values() for word in part]
    parsed: argparse.Namespace = parser.parse_args([*positional, *words])
    return parsed, [command, *positional, *words]


def _call(command: str, flags: Mapping[str, Any], positional: Sequence[str] = ()) -> tuple[str, int]:
    """Run a command; returns its stdout and exit code."""
    parsed, words = _parsed(command, flags, positional)
    use_engine(getattr(parsed, "engine_backend", "auto"))
    printed = io.StringIO()
    with running(["inpars", *words]), contextlib.redirect_stdout(printed):
        code = importlib.import_module(module_of(command)).run(parsed)
    return printed.getvalue(), code or 0


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _data(data: Data) -> dict[str, Any]:
    """The flags that name a collection."""
    if isinstance(data, str):
        return {"corpus": data} if Path(data).is_file() and not data.endswith(".zip") else {"dataset": data}
    if isinstance(data, Path):
        return _data(str(data))
    dataset = load_corpus(data)
    if not Path(dataset.name).is_file() or dataset.name.endswith(".zip"):
        return {"dataset": dataset.name}
    topics = dataset.corpus.path.with_name(QUERIES)
    from_memory = topics.is_relative_to(_temporary_folder()) and topics.exists()
    return {"corpus": dataset.corpus.path, **({"queries": topics} if from_memory else {})}


def _queries(queries: Iterable[SyntheticQuery] | str | Path) -> Path:
    if isinstance(queries, str | Path):
        return Path(queries)
    if isinstance(queries, Records) and queries.path.exists() and queries == list(read_synthetic_queries(queries.path)):
        return queries.path
    items = list(queries) if isinstance(queries, Iterable) else [queries]
    if wrong := [type(item).__name__ for item in items if not isinstance(item, SyntheticQuery)]:
        raise ConfigError(f"queries are those of inpars.generate, or a file of them, not {wrong[0]}")
    path = _temporary_path("queries.jsonl")
    write_jsonl(path, map(synthetic_query_record, items))
    return path


@cache
def _temporary_folder() -> Path:
    """A folder that is deleted when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="inpars-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _temporary_path(name: str) -> Path:
    folder = _temporary_folder() / str(next(_numbers))
    folder.mkdir()
    return folder / name


def _output(output: str | Path | None, name: str) -> Path:
    return _temporary_path(name) if output is None else Path(output)


def _run_path(scores: Mapping[str, Mapping[str, float]], name: str) -> Path:
    """A file with the ranking; with the manifest if the ranking is unchanged since a stage wrote it."""
    if not isinstance(scores, Mapping) or not all(isinstance(hits, Mapping) for hits in scores.values()):
        raise ConfigError(f"{name}: a ranking is a dict of documents' scores by query, not {type(scores).__name__}")
    if not name or Path(name).name != name:
        raise ConfigError(f"{name!r} cannot name a ranking, which becomes a file; leave out slashes")
    path = _temporary_path(f"{name}.trec")
    if isinstance(scores, Run) and scores.path.exists() and read_run(scores.path) == scores:
        shutil.copyfile(scores.path, path)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(manifest_path(scores.path), manifest_path(path))
        return path
    write_run(path, {query_id: dict(hits) for query_id, hits in scores.items()}, name)
    return path


def _prompt(prompt: str | Prompt) -> str:
    """The name or path of a prompt. Raises ConfigError if it was modified after loading."""
    if isinstance(prompt, str):
        return prompt
    for name in (prompt.name, prompt.source):
        with contextlib.suppress(InparsError):
            if name and load_prompt(name) == prompt:
                return name
    raise ConfigError(f"prompt {prompt.name!r} is not that of a file; write it to a YAML file and give its path")


def _items(data: Any) -> Iterable[Any]:
    """The documents of a collection in memory."""
    if isinstance(data, Mapping):
        return (
            {"doc_id": name, **(item if isinstance(item, Mapping) else {"text": item})} for name, item in data.items()
        )
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # iterating a frame would yield its column names
        return [{str(name): value for name, value in row.items()} for row in data.to_dict("records")]
    if isinstance(data, bytes) or not isinstance(data, Iterable):
        raise ConfigError(f"documents are a name, a path, or a list of texts or dicts, not {type(data).__name__}")
    return data


def _document(item: Any, number: int) -> Document:
    if isinstance(item, Document):
        return item
    if isinstance(item, str):
        return Document(str(number), item)
    if not isinstance(item, Mapping):
        raise ConfigError(f"document {number} is of type {type(item).__name__}; give texts, or dicts with text")
    if "text" not in item:
        raise ConfigError(
            f"document {number} has no 'text'; give dicts with text, and doc_id and title if there are some"
        )
    ids = [item[key] for key in ("doc_id", "_id", "id") if not _is_missing(item.get(key))]
    text: Any = item["text"]
    title, metadata = (default if _is_missing(item.get(name)) else item[name] for name, default in _DEFAULTS.items())
    for name, value in (("text", text), ("title", title)):
        if not isinstance(value, str):
            raise ConfigError(f"document {number}: its {name} is {value!r}, which is no text")
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"document {number}: its metadata is {metadata!r}, which is no dict")
    return Document(str(ids[0] if ids else number), text, title, dict(metadata))


def _is_missing(value: Any) -> bool:
    """Whether a value is None or a frame's NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _row(item: Any) -> dict[str, Any]:
    fields = asdict(item)
    return {name: value for part in fields.values() for name, value in part.items()} if "texts" in fields else fields


def _frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise ConfigError("to_pandas needs pandas: pip install pandas") from None
    return pandas.DataFrame(list(rows))


def _table(rows: Sequence[Mapping[str, Any]], caption: str) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(row.get(name, ''))[:200])}</td>" for name in names) + "</tr>"
        for row in rows
    )
    return f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{body}</table>"
