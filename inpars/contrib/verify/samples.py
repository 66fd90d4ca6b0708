"""What every recomputation of a run's scores shares: the run, a sample, and how far numbers may differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inpars.contrib.verify.run import VerifyFindings
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError
from inpars.io.corpus import Corpus
from inpars.io.formats import read_run, run_lines
from inpars.io.manifest import Manifest
from inpars.models.compute_options import ComputingOptions
from inpars.options import SEED, option
from inpars.pipeline.folder import RunFolder
from inpars.progress import Progress
from inpars.records import Run
from inpars.text.hashing import sampling_key

EXACT = {"measures": 1e-6, "fused scores": 2e-5, "BM25 scores": 2e-5, "choices": 1e-6}
FLOAT32 = {"log-probs": 1e-4, "reranked scores": 1e-3, "similarities": 1e-4}
ROUGH = {"log-probs": 0.15, "reranked scores": 1.0, "similarities": 0.01}  # bfloat16: of a query's mean, of a score


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions(ComputingOptions):
    """How much is recomputed."""

    sample: int = option(
        8, help="synthetic queries, and queries per run, whose scores are recomputed; 0: none", minimum=0
    )
    seed: int = option(0, help="seed of the sample", bounds=SEED)


@dataclass(frozen=True, slots=True)
class Recomputation:
    """A run under recomputation, and the findings so far."""

    run: RunFolder
    options: VerifyOptions
    dataset: Dataset | None
    findings: VerifyFindings
    progress: Progress

    def sampled(self, ids: Iterable[str]) -> list[str]:
        """Some of the ids, the same ones each time."""
        return sorted(ids, key=lambda name: (sampling_key(self.options.seed, name), name))[: self.options.sample]

    @property
    def corpus(self) -> Corpus:
        """The documents. Raises ConfigError where none were named."""
        if self.dataset is None:
            raise ConfigError("the documents are needed; give --dataset NAME or --corpus FILE")
        return self.dataset.corpus

    def read(self, output: str) -> Run:
        """A run of the folder."""
        return read_run(self.run.path / output)

    def read_inputs(self, manifest: Manifest, names: Iterable[str]) -> dict[str, Run]:
        """Runs that a stage read, by name. Raises ConfigError where one is not in the folder."""
        paths = {name: self.run.inside(manifest.inputs[name]) for name in names}
        if None in paths.values():
            raise ConfigError("the runs it was made of are not in the folder")
        return {name: self.read(str(path)) for name, path in paths.items()}

    def hold(self, subject: str, where: str, differences: Mapping[str, float], *, rough: bool = False) -> None:
        """Note the differences by id, and a problem where one is too large; `rough` for numbers of bfloat16."""
        tolerance = ROUGH[subject] if rough else (EXACT | FLOAT32)[subject]
        if not differences:
            return
        self.findings.count(f"{subject} recomputed", len(differences))
        worst = max(differences, key=lambda name: differences[name])
        self.findings.largest[subject] = max(differences[worst], self.findings.largest.get(subject, 0.0))
        if not differences[worst] <= tolerance:
            many = sum(not value <= tolerance for value in differences.values())
            self.findings.problems.append(
                f"{where}: {subject} of {many} of {len(differences)} queries come out differently, "
                f"{worst!r} by {differences[worst]:.4g} (at most {tolerance:g} is rounding)"
            )


def number_of(manifest: Manifest, name: str) -> int:
    """A number of documents of the manifest's settings. Raises ConfigError where somebody changed it."""
    value = manifest.arguments[name]
    if type(value) is not int or value < 1:
        raise ConfigError(f"its manifest's {name} is no number of documents")
    return value


def score_differences(recomputed: Run, written: Run, query_ids: Sequence[str]) -> dict[str, float]:
    """The largest difference of each query's scores; infinite where other documents are found.

    What was made goes the way that a file's scores go, on which equal ones are pushed apart.
    """
    differences = {}
    for query_id in query_ids:
        one, other = _as_written(recomputed.get(query_id, {})), written.get(query_id, {})
        same = one.keys() == other.keys()
        differences[query_id] = max((abs(one[d] - other[d]) for d in other), default=0.0) if same else float("inf")
    return differences


def _as_written(scores: Mapping[str, float]) -> dict[str, float]:
    rows = (line.split() for line in run_lines({"": dict(scores)}, ""))
    return {row[1]: float(row[3]) for row in rows}


def computing_of(options: VerifyOptions, manifest: Manifest) -> dict[str, Any]:
    """Where models compute; in the run's own number format and engine unless others are asked for."""
    named = {
        name: value if value != "auto" else manifest.arguments.get(name, "auto")
        for name, value in (("dtype", options.dtype), ("engine_backend", options.engine_backend))
    }
    return {**options.computing, **named}
