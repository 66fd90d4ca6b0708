"""Checks a run's folder against its manifests: hashes and counts of outputs, the chain of inputs, matching files.

Recomputes only hashes; `inpars.contrib.verify.scores` recomputes scores. Every problem is one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from inpars.errors import InparsError
from inpars.fusion.system import SYSTEM_FILE
from inpars.io.json_text import parse_json
from inpars.io.manifest import MANIFEST_SUFFIX, FileStamp, Manifest, manifest_path, sha256_of, size_of, stamp_text
from inpars.io.storage import open_lines, read_jsonl, to_json_line
from inpars.io.triples import read_triple_ids
from inpars.pipeline.folder import RunFolder, topics_of
from inpars.pipeline.mark import run_folders
from inpars.pipeline.measurement import METRICS
from inpars.pipeline.plan import plan_problems
from inpars.prompts.load import ExampleOptions, named_prompt
from inpars.prompts.mixture import PromptSource
from inpars.stages.partial import partial_path
from inpars.stages.triple_files import ids_path, negatives_path

HASH_CHARACTERS = 12
STAGE_FILES = ("*.trec", "queries*.jsonl", "triples*.tsv", "models/*")
BESIDE = (  # side outputs of other stages
    "negatives.trec",
    "negatives.dense.trec",
    "queries.dev.jsonl",
    "queries.dev.queries.jsonl",
    "queries.to_choose_by.jsonl",
    "queries.to_choose_by.queries.jsonl",
)
COUNTED = (".jsonl", ".trec", ".tsv")  # one record per line
SEARCHING = ("search", "search system", "rerank")
SCORE_TOLERANCE = 1e-6


@dataclass(slots=True)
class VerifyFindings:
    """Problems, counts of checks, and reasons why some were not possible."""

    problems: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    largest: dict[str, float] = field(default_factory=dict)  # subject -> largest difference of recomputed scores

    def count(self, subject: str, number: int = 1) -> None:
        self.checked[subject] = self.checked.get(subject, 0) + number


def check_folder(run: RunFolder) -> VerifyFindings:
    """All checks that need no model."""
    findings = VerifyFindings(problems=list(run.broken))
    sound = {output for output, manifest in run.manifests.items() if _check_output(run, output, manifest, findings)}
    for output, manifest in run.manifests.items():
        _check_inputs(run, output, manifest, findings)
    findings.problems += _unfinished(run)
    findings.problems += _corpora(run)
    for output, manifest in run.manifests.items():
        if output in sound and manifest.stage in PARTNERS:
            findings.problems += PARTNERS[manifest.stage](run, output)
            findings.count("outputs whose rows fit what they were made from")
    findings.problems += _report(run)
    findings.problems += plan_problems(run.path, run.mark.get("finished") or {})
    return findings


def _check_output(run: RunFolder, output: str, manifest: Manifest, findings: VerifyFindings) -> bool:
    path = run.path / output
    if not path.exists():
        findings.problems.append(f"{output}: is gone, its manifest is still there")
        return False
    size = size_of(path)
    if size != manifest.output.size:
        findings.problems.append(f"{output}: was changed after it was made: {size} bytes, not {manifest.output.size}")
        return False
    findings.count("outputs by SHA-256")
    if (sha256 := sha256_of(path)) != manifest.output.sha256:
        findings.problems.append(
            f"{output}: was changed after it was made: SHA-256 {sha256[:HASH_CHARACTERS]}…, "
            f"{manifest.output.sha256[:HASH_CHARACTERS]}… was written"
        )
        return False
    if path.suffix in COUNTED and manifest.output.records is not None:
        lines = _lines(path)
        if lines != manifest.output.records:
            findings.problems.append(f"{output}: has {lines} records, its manifest says {manifest.output.records}")
    return True


def _check_inputs(run: RunFolder, output: str, manifest: Manifest, findings: VerifyFindings) -> None:
    for name, stamp in manifest.inputs.items():
        inside = run.inside(stamp)
        if inside is not None and inside in run.manifests:
            findings.count("links of the chain")
            if run.manifests[inside].output.sha256 != stamp.sha256:
                findings.problems.append(
                    f"{output}: was made from another {inside} than the one that is here; run again"
                )
        elif manifest.stage == "search system" and name == "system":
            findings.problems += _system(run, output, stamp)
        elif (path := Path(stamp.path)).is_absolute() and path.exists():
            findings.count("inputs from elsewhere by SHA-256")
            if _sha256_as_stamped(path, name, manifest) != stamp.sha256:
                findings.problems.append(f"{output}: its input {name} ({path}) has changed since; run again")
        elif name == "queries" and (topics := topics_of(output)) in run.manifests and manifest.stage in SEARCHING:
            findings.count("links of the chain")
            split = run.manifests[topics].arguments.get("split")
            if stamp_text(f"{split} queries", to_json_line(run.queries(topics))).sha256 != stamp.sha256:
                findings.problems.append(f"{output}: was made for other queries than those in {topics}; run again")


def _system(run: RunFolder, output: str, stamp: FileStamp) -> Iterator[str]:
    """Whether the run comes from the system in the folder, which may have moved."""
    path = run.path / SYSTEM_FILE
    if not path.exists():
        yield f"{output}: the {SYSTEM_FILE} that made it is gone; run again"
    elif sha256_of(path) != stamp.sha256:
        yield f"{output}: was made by another version of {SYSTEM_FILE}; run again"


def _sha256_as_stamped(path: Path, name: str, manifest: Manifest) -> str:
    """The hash of an input as its stage computes it; `ingest` hashes only the files that it can read."""
    if (manifest.stage, name) != ("ingest", "files"):
        return sha256_of(path)
    from inpars.documents.folder import find_files
    from inpars.documents.readers import ReadOptions

    names = {field.name for field in fields(ReadOptions)}
    options = ReadOptions(**{key: value for key, value in manifest.arguments.items() if key in names})
    try:
        return find_files([path], options, list(run_folders([path]))).stamp.sha256
    except InparsError:
        return ""  # no readable files are left


def _unfinished(run: RunFolder) -> Iterator[str]:
    """Outputs without a manifest, and partial files."""
    for pattern in STAGE_FILES:
        for path in sorted(run.path.rglob(pattern)):
            name = path.relative_to(run.path).as_posix()
            beside = path.name in BESIDE or path.name.endswith((".ids.tsv", ".negatives.jsonl", MANIFEST_SUFFIX))
            inside = any(name.startswith(f"{output}/") for output in run.manifests)
            if not beside and not inside and not path.name.startswith(".") and not manifest_path(path).exists():
                yield f"{name}: was not finished, it has no manifest; run again"
    for output in run.manifests:
        if partial_path(run.path / output).exists():
            yield f"{output}: an interrupted stage left files next to it; run the command again"


def _corpora(run: RunFolder) -> Iterator[str]:
    """Stages whose corpus is not the run's."""
    expected = run.mark.get("corpus_sha256")
    for output, manifest in run.manifests.items():
        corpus = manifest.inputs.get("corpus")
        if expected is not None and corpus is not None and corpus.sha256 != expected:
            yield f"{output}: was made from another corpus than the run's"


def _kept_queries(run: RunFolder, output: str) -> Iterator[str]:
    """Kept queries that are not in the input, or are repeated."""
    manifest = run.manifests[output]
    if "queries" not in manifest.inputs:
        yield f"{output}: its manifest names no input queries"
        return
    source = run.inside(manifest.inputs["queries"])
    if source is None or not (run.path / source).exists():
        return
    written = {json.dumps(record, sort_keys=True) for _, record in read_jsonl(run.path / source)}
    records = [json.dumps(record, sort_keys=True) for _, record in read_jsonl(run.path / output)]
    strangers = [number for number, record in enumerate(records, start=1) if record not in written]
    if strangers:
        yield f"{output}:{strangers[0]}: {len(strangers)} kept queries are not those of {source}"
    if len(set(records)) < len(records):
        yield f"{output}: the same query is kept twice"


def _triples(run: RunFolder, output: str) -> Iterator[str]:
    """Whether texts, ids and negatives of the triples match line by line."""
    texts, ids, negatives = (run.path / output, ids_path(run.path / output), negatives_path(run.path / output))
    for path in (ids, negatives):
        if not path.exists():
            yield f"{path.name}: is gone, it belongs to {output}"
            return
    records = [record for _, record in read_jsonl(negatives)]
    triples = list(read_triple_ids(ids))
    if not _lines(texts) == len(triples) == len(records):
        yield f"{output}: {_lines(texts)} triples, but {len(triples)} lines of ids and {len(records)} of negatives"
        return
    for number, (triple, record) in enumerate(zip(triples, records, strict=True), start=1):
        named = (record.get("query_id"), record.get("positive_doc_id"), record.get("negative_doc_id"))
        if named != (triple.query_id, triple.positive_doc_id, triple.negative_doc_id):
            yield f"{negatives.name}:{number}: is about other documents than the same line of {ids.name}"
            return


def _report(run: RunFolder) -> Iterator[str]:
    """Whether the report has the same numbers as the measures."""
    path = run.path / "report.json"
    measures = run.measures()
    if not path.exists() or not measures:
        return
    try:
        systems = (parse_json(path.read_bytes()).get("results") or {}).get("systems", [])
        reported = {
            system["name"]: {metric: float(mean) for metric, mean in system["means"].items()} for system in systems
        }
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        yield f"report.json: cannot be read ({error}); run again"
        return
    if reported.keys() != measures.keys():
        yield f"report.json: has other systems than {METRICS}; run again"
        return
    for name, means in reported.items():
        for metric, mean in means.items():
            values = measures[name].get(metric, {})
            if not values or abs(sum(values.values()) / len(values) - mean) > SCORE_TOLERANCE:
                yield f"report.json: {metric} of {name} is not that of {METRICS}; run again"


def known_prompt(run: RunFolder, manifest: Manifest) -> PromptSource | None:
    """The prompt that a stage used, None if it cannot be loaded or has changed."""
    stamp = manifest.inputs.get("prompt")
    if stamp is None:
        return None
    for name in dict.fromkeys((str(run.mark.get("prompt") or stamp.path), stamp.path)):
        try:
            prompt = named_prompt(name, ExampleOptions(), manifest.seed or 0)
        except InparsError:
            continue
        if stamp_text(prompt.name, prompt.text).sha256 == stamp.sha256:
            return prompt
    return None


def _lines(path: Path) -> int:
    with open_lines(path) as stream:
        return sum(1 for line in stream if line.strip())


PARTNERS = {"filter": _kept_queries, "triples": _triples}
