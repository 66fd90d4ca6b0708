"""Judgements by a language model, and the record of their origin.

`qrels.tsv` is an ordinary file of judgements. Next to it, `qrels.tsv.judgements.jsonl` has one line per pair, and
`qrels.tsv.judged_by.json` marks every number measured with these judgements as based on a model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.json_text import parse_json, to_json
from inpars.io.manifest import sha256_of
from inpars.io.storage import atomic_writer, read_jsonl, write_jsonl

LINES_SUFFIX, ORIGIN_SUFFIX = ".judgements.jsonl", ".judged_by.json"
POOR_KAPPA = 0.2  # agreement up to this is at best slight (Landis and Koch, 1977)


@dataclass(frozen=True, slots=True)
class ModelJudgement:
    """The judgement of one pair. A pair without a grade is missing from the qrels for the reason in `problem`."""

    query_id: str
    doc_id: str
    grade: int | None
    log_prob: float | None  # of the grade
    model: str
    prompt: str
    grade_log_probs: tuple[float, ...] = ()  # of grades 0, 1, 2 and 3, if all are known
    reason: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which model judged, and its agreement with people's grades; `agreement` is empty if nobody compared them."""

    model: str
    prompt: str
    pairs: int
    qrels_sha256: str
    agreement: Mapping[str, Any] = field(default_factory=dict)  # with, pairs, weighted_kappa
    changed: bool = False  # whether the file differs from the one the model wrote

    def __str__(self) -> str:
        """A clause for reports of numbers based on these judgements."""
        changed = "; the file was changed since" if self.changed else ""
        return f"judged by {self.model}, a language model, not by people; {self._agreement()}{changed}"

    def values(self) -> dict[str, Any]:
        """JSON values for files of results."""
        return {"model": self.model, "prompt": self.prompt, "pairs": self.pairs, "agreement": dict(self.agreement)}

    @property
    def is_poor(self) -> bool:
        """Whether the agreement was measured and is hardly better than chance."""
        kappa = self.agreement.get("weighted_kappa")
        return bool(self.agreement) and (kappa is None or kappa <= POOR_KAPPA)

    def _agreement(self) -> str:
        if not self.agreement:
            return "nobody compared its grades with a person's"
        kappa = self.agreement.get("weighted_kappa")
        kappa_text = "undefined" if kappa is None else f"{kappa:.2f}"
        poor = ", which is poor" if self.is_poor else ""
        pairs, reference = self.agreement["pairs"], self.agreement["with"]
        return f"weighted kappa with {reference} {kappa_text} over {pairs} pairs{poor}"


def lines_path(qrels: Path) -> Path:
    """The file of single judgements next to qrels."""
    return qrels.with_name(qrels.name + LINES_SUFFIX)


def origin_path(qrels: Path) -> Path:
    """The file next to qrels that records the model that judged."""
    return qrels.with_name(qrels.name + ORIGIN_SUFFIX)


def write_judgements(path: Path, judgements: Iterable[ModelJudgement]) -> int:
    """Write the lines and return their number; unknown values are omitted, except the grade and its log-prob."""
    return write_jsonl(path, map(_record, judgements))


def read_judgements(path: Path) -> Iterator[ModelJudgement]:
    """The judgements of a file. Raises DataFormatError."""
    for number, record in read_jsonl(path):
        try:
            yield ModelJudgement(**record | {"grade_log_probs": tuple(record.get("grade_log_probs", ()))})
        except TypeError:
            problem = "not a judgement of `inpars judge`; remove the file to write it again"
            raise DataFormatError(problem, path=path, line=number) from None


def write_origin(qrels: Path, origin: Origin) -> None:
    """Record which model judged, next to the qrels."""
    values = origin.values() | {"qrels_sha256": origin.qrels_sha256}
    with atomic_writer(origin_path(qrels)) as stream:
        stream.write(to_json(values, indent=1) + "\n")


def origin_of(qrels: Path) -> Origin | None:
    """Which model judged; None if there is no record. Raises DataFormatError."""
    path = origin_path(qrels)
    if not path.is_file():
        return None
    try:
        values = parse_json(path.read_bytes())
        known = {name: values[name] for name in ("model", "prompt", "pairs", "qrels_sha256")}
        return Origin(**known, agreement=values["agreement"], changed=sha256_of(qrels) != values["qrels_sha256"])
    except (ValueError, KeyError, TypeError) as error:
        problem = f"does not say who judged ({error}); remove it if people did, else run `inpars judge` again"
        raise DataFormatError(problem, path=path) from None


def _record(judgement: ModelJudgement) -> dict[str, Any]:
    always = ("query_id", "doc_id", "grade", "log_prob", "model", "prompt")
    return {name: value for name, value in asdict(judgement).items() if name in always or value}
