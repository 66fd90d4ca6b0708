"""Judgements that a language model gave: the lines beside the qrels it wrote, and the note that says so of them.

`qrels.tsv` is a file of judgements like any other. Beside it lie `qrels.tsv.judgements.jsonl`, one line per pair, and
`qrels.tsv.judged_by.json`, by which whatever is measured with these judgements is named as a model's.
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
POOR_KAPPA = 0.2  # up to here agreement is at best slight (Landis and Koch, 1977)


@dataclass(frozen=True, slots=True)
class ModelJudgement:
    """One pair's line. Without a grade the pair is not in the qrels, and `problem` says why."""

    query_id: str
    doc_id: str
    grade: int | None
    log_prob: float | None  # of the grade, natural log
    model: str
    prompt: str
    grade_log_probs: tuple[float, ...] = ()  # of 0, 1, 2 and 3, where all are known
    reason: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which model judged, and how far its grades agree with people's; `agreement` is empty where nobody compared."""

    model: str
    prompt: str
    pairs: int
    qrels_sha256: str
    agreement: Mapping[str, Any] = field(default_factory=dict)  # with, pairs, weighted_kappa
    changed: bool = False  # whether the file is another than the one that the model wrote

    def __str__(self) -> str:
        """In words, for wherever a number rests on these judgements."""
        changed = "; the file was changed since" if self.changed else ""
        return f"judged by {self.model}, a language model, not by people; {self._agreement()}{changed}"

    def values(self) -> dict[str, Any]:
        """As JSON values, for the files that hold what was measured."""
        return {"model": self.model, "prompt": self.prompt, "pairs": self.pairs, "agreement": dict(self.agreement)}

    @property
    def is_poor(self) -> bool:
        """Whether agreement is known and hardly better than chance."""
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
    """The file of the judgements behind some qrels."""
    return qrels.with_name(qrels.name + LINES_SUFFIX)


def origin_path(qrels: Path) -> Path:
    """Where it is said that a model wrote some qrels."""
    return qrels.with_name(qrels.name + ORIGIN_SUFFIX)


def write_judgements(path: Path, judgements: Iterable[ModelJudgement]) -> int:
    """Write the lines and return their number; what is not known is left out, but for the grade and its log-prob."""
    return write_jsonl(path, map(_record, judgements))


def read_judgements(path: Path) -> Iterator[ModelJudgement]:
    """The lines of a file that `write_judgements` wrote."""
    for number, record in read_jsonl(path):
        try:
            yield ModelJudgement(**record | {"grade_log_probs": tuple(record.get("grade_log_probs", ()))})
        except TypeError:
            problem = "not a judgement of `inpars judge`; remove the file to write it again"
            raise DataFormatError(problem, path=path, line=number) from None


def write_origin(qrels: Path, origin: Origin) -> None:
    """Record next to the qrels who judged."""
    values = origin.values() | {"qrels_sha256": origin.qrels_sha256}
    with atomic_writer(origin_path(qrels)) as stream:
        stream.write(to_json(values, indent=1) + "\n")


def origin_of(qrels: Path) -> Origin | None:
    """Which model judged; None where nothing says that one did. Raises DataFormatError."""
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
    fields = asdict(judgement)
    fields["grade_log_probs"] = list(judgement.grade_log_probs)
    return {name: value for name, value in fields.items() if name in always or value}
