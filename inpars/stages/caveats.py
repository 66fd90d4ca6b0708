"""Caveats to print with results: which BM25 variant was used, and test queries seen in training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inpars.errors import DataFormatError
from inpars.evaluation.contamination import Overlap, is_synthetic, overlap
from inpars.evaluation.verdicts import overlap_remark
from inpars.io.fields import is_tsv
from inpars.io.json_text import replace_surrogates
from inpars.io.manifest import FileStamp, Manifest, read_manifest
from inpars.io.record_files import read_records, records_form
from inpars.io.storage import read_lines
from inpars.io.tables import QUERIES, has_header
from inpars.records import Qrels
from inpars.stages.examples import SUFFIX, read_ids

TEXT_FIELDS = ("query", "question", "text")  # of synthetic queries `text` is the document
UNKNOWN_BM25 = "BM25 of unknown kind: flat or multifield, k1 and b are not recorded with the run; name it with --bm25"
BM25 = "bm25"


@dataclass(frozen=True, slots=True)
class Lineage:
    """The manifests of a run and of its inputs; empty without manifests."""

    steps: tuple[tuple[Path, Manifest], ...] = ()  # the run first

    @property
    def bm25(self) -> tuple[str, ...]:
        """A description of each BM25 the run is based on."""
        settings = (
            manifest.arguments
            for _, manifest in self.steps
            if manifest.stage == "search" and BM25 in (manifest.arguments.get("retriever") or ())
        )
        return tuple(dict.fromkeys(_bm25_in_words(arguments) for arguments in settings))

    @property
    def triples(self) -> tuple[Path, ...]:
        stamps = (m.inputs.get("triples") for _, m in self.steps if m.stage.startswith("train"))
        return tuple(dict.fromkeys(path for stamp in stamps if stamp and (path := Path(stamp.path)).is_file()))

    @property
    def example_ids(self) -> tuple[Path, ...]:
        """Files with the ids of the prompts' example queries."""
        files = (path.with_name(path.name + SUFFIX) for path, manifest in self.steps if manifest.stage == "generate")
        return tuple(dict.fromkeys(path for path in files if path.is_file()))

    @property
    def synthetic_validation(self) -> tuple[str, ...]:
        """Synthetic dev sets that selected the weights of the run's models."""
        validated_by = (str(m.results.get("validated_by", "")) for _, m in self.steps if m.stage.startswith("train"))
        return tuple(dict.fromkeys(text for text in validated_by if "synthetic" in text))


def lineage(run: Path) -> Lineage:
    """The manifests of a run and, transitively, of its unchanged inputs."""
    seen: dict[Path, Manifest] = {}
    waiting = [run]
    while waiting:
        path = waiting.pop(0)
        manifest = None if path in seen else read_manifest(path)
        if manifest is not None:
            seen[path] = manifest
            waiting += _sources(path, manifest.inputs)
    return Lineage(tuple(seen.items()))


def _sources(output: Path, inputs: Mapping[str, FileStamp]) -> Iterator[Path]:
    """Unchanged inputs with manifests, at their path or next to the output."""
    for stamp in inputs.values():
        for path in (Path(stamp.path), output.parent / Path(stamp.path).name):
            manifest = read_manifest(path) if path != output else None
            if manifest is not None and manifest.output.sha256 == stamp.sha256:
                yield path
                break


def _bm25_in_words(arguments: Mapping[str, Any]) -> str:
    language = arguments.get("language", "en")
    spoken = "" if language == "en" else f", language {language}"
    return f"BM25 flat (title and text in one field), k1 {arguments['k1']}, b {arguments['b']}{spoken}"


@dataclass(frozen=True, slots=True)
class Caveats:
    """BM25 variants and overlaps by run (`all runs` for what applies to all), and both in sentences."""

    bm25: dict[str, str]
    overlaps: dict[str, list[Overlap]]
    remarks: list[str]


ALL_RUNS = "all runs"


def find_caveats(
    runs: Mapping[str, Path],
    tags: Mapping[str, str],
    qrels: Qrels,
    query_texts: Mapping[str, str],
    *,
    training: Sequence[Path] = (),
    examples: Mapping[str, Collection[str]] = MappingProxyType({}),
    bm25: str | None = None,
) -> Caveats:
    """Caveats of the runs; without the texts of the test queries, overlaps are found only by the ids of examples.

    `tags` are the names inside the run files; `bm25` describes BM25 runs without a manifest. The user names queries
    seen in training: the files `training`, and the `examples` of prompts by source.
    """
    lineages = {name: lineage(path) for name, path in runs.items()}
    kinds = {
        name: kind for name, history in lineages.items() if (kind := _which_bm25(history, tags.get(name, ""), bm25))
    }
    texts = {query_id: query_texts[query_id] for query_id in qrels if query_id in query_texts}
    overlaps = {name: list(_overlaps_behind(history, qrels, texts)) for name, history in lineages.items()}
    overlaps[ALL_RUNS] = [
        *(overlap(str(path), read_query_texts(path), texts) for path in training),
        *(overlap(source, example_texts, texts) for source, example_texts in examples.items()),
    ]
    overlaps = {name: one_run for name, one_run in overlaps.items() if one_run}
    remarks = [
        f"{', '.join(name for name in kinds if kinds[name] == kind)}: {kind}" for kind in dict.fromkeys(kinds.values())
    ]
    remarks += filter(None, (overlap_remark(name, one) for name, one_run in overlaps.items() for one in one_run))
    remarks += [
        f"{name}: its weights were chosen by {kind}, which a model wrote"
        for name, history in lineages.items()
        for kind in history.synthetic_validation
    ]
    if is_synthetic(qrels):
        remarks.append(
            "this test is synthetic: a model wrote every query for its only relevant document; it can compare systems, "
            "but is no evidence for people's queries"
        )
    if (training or examples) and not texts:
        remarks.append("overlaps cannot be found without the texts of the test queries; give --queries FILE")
    return Caveats(kinds, overlaps, remarks)


def read_query_texts(path: Path) -> set[str]:
    """Queries of a file of records; of a .tsv file without a header, from `id, text` or triples of texts."""
    if is_tsv(path) and not has_header(path, QUERIES):
        return {_of_columns(line.split("\t"), path, number) for number, line in read_lines(path)}
    return {
        replace_surrogates(next((str(record[name]) for name in TEXT_FIELDS if record.get(name)), ""))
        for _, record in read_records(path, records_form(path, QUERIES), QUERIES)
    }


def _of_columns(columns: Sequence[str], path: Path, number: int) -> str:
    if len(columns) not in (2, 3):
        problem = f"{len(columns)} columns, queries have 2 (id, text) and triples 3 (query, positive, negative)"
        raise DataFormatError(problem, path=path, line=number)
    return columns[1] if len(columns) == 2 else columns[0]


def _which_bm25(history: Lineage, tag: str, named: str | None) -> str:
    """The BM25 variant of a run; empty if it used none."""
    if history.steps:
        return "; ".join(history.bm25)
    return (named or UNKNOWN_BM25) if BM25 in tag.lower() else ""


def _overlaps_behind(history: Lineage, qrels: Qrels, texts: Mapping[str, str]) -> Iterator[Overlap]:
    for path in history.example_ids:
        example_ids = set(read_ids(path))
        yield Overlap(
            "its prompt's examples", len(example_ids), len(qrels), tuple(q for q in qrels if q in example_ids), ()
        )
    if texts:
        for path in history.triples:
            yield overlap(f"its training queries ({path})", read_query_texts(path), texts)
