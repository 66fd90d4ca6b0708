"""Count the documents, queries and triples that each stage of a run kept and dropped, from its manifests.

What a manifest does not say has no row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inpars.io.manifest import Manifest, read_manifest
from inpars.pipeline.held_out import choice_files, split_files
from inpars.report.schema import FunnelRow
from inpars.stages.filter import BY_PROMPT
from inpars.training.examples import batches_of
from inpars.training.options import TrainOptions, steps_of

Reasons = Mapping[str, tuple[str, str]]
"""reason -> (its wording after a number, the flag that changes it)"""

DOCUMENTS: Reasons = {
    "not_sampled": ("documents not in the sample", "--max-documents"),
    "too_short": ("documents without enough text", "inpars generate --min-doc-characters"),
    "prompt_example": ("documents that the prompt shows", "--prompt"),
    "not_listed": ("documents not listed", "inpars generate --doc-ids"),
    "near_duplicate": ("documents nearly the same as another", "inpars generate --skip-near-duplicates"),
}
QUERIES: Reasons = {
    "failed": ("that the model failed to write", ""),
    "empty": ("empty", ""),
    "no_stop": ("cut off before their end", "--max-new-tokens"),
    "too_short": ("too short", "inpars filter --min-tokens"),
    "too_long": ("too long", "inpars filter --max-tokens"),
    "too_few_words": ("of too few words", "inpars filter --min-words"),
    "too_many_words": ("of too many words", "inpars filter --max-words"),
    "prompt_example": ("copied from the prompt", "--prompt"),
    "language": ("in another language", "inpars filter --languages"),
    "copied": ("copied from their document", "inpars filter --no-drop-copied"),
    "excluded_query": ("excluded", "inpars filter --exclude-queries"),
    "no_score": ("without a score", ""),
    "duplicate": ("with the words of a better one", "inpars filter --no-drop-duplicates"),
    "near_duplicate": ("with nearly the words of a better one", "inpars filter --no-drop-near-duplicates"),
    "below_top_k": ("below the best that are kept", "--top-k"),
}
TRAINED = {"retriever": "bi-encoder", "reranker": "reranker"}
TRAINING_FLAGS = {"retriever": "--retriever-epochs", "reranker": "--reranker-epochs, --reranker-steps"}


def funnel_of(manifests: Mapping[str, Manifest], skipped: Mapping[str, str] = MappingProxyType({})) -> list[FunnelRow]:
    """The rows from documents to training steps.

    Reads the manifests `generate`, `looks`, `filter`, `pairs`, `split`, `choice split`, `triples`, `retriever` and
    `reranker` if present; `skipped` says why one of the last two was not trained.
    """
    rows: dict[str, Callable[[Manifest], Iterator[FunnelRow]]] = {
        "generate": _generated,
        "looks": _looks,
        "filter": _filtered,
        "pairs": _pairs,
        "split": partial(_held_out, purpose="measure by", flag="--dev-share"),
        "choice split": partial(_held_out, purpose="choose the system by", flag="--training never"),
        "triples": _mined,
    }
    funnel = [row for name, of in rows.items() if name in manifests for row in of(manifests[name])]
    for name in TRAINED:
        if name in skipped:
            funnel.append(_steps_row(name, 0, f"not trained: {skipped[name]}"))
        elif name in manifests and (steps := steps_taken(manifests[name])) is not None:
            funnel.append(_steps_row(name, steps, TRAINING_FLAGS[name]))
    return funnel


def with_split(manifests: Mapping[str, Manifest], folder: Path) -> dict[str, Manifest]:
    """Add the manifests of the splits that the run's triples come from."""
    extended, consumer = dict(manifests), manifests.get("triples")
    for name, files in (("choice split", choice_files(folder)), ("split", split_files(folder))):
        split, source = read_manifest(files.train), consumer.inputs.get("queries") if consumer is not None else None
        if split is not None and source is not None and source.sha256 == split.output.sha256:
            extended[name] = consumer = split
    return extended


def steps_taken(training: Manifest) -> int | None:
    """The number of steps of a finished training; None if its manifest does not say.

    The curve ends with the last logged step, one in forty; validation also records the final step.
    """
    curve = training.results.get("curve") or {}
    if validated := curve.get("validation_steps"):
        return int(validated[-1])
    logged = max(curve.get("steps") or [0])
    planned, examples = 0, training.results.get("examples")
    if isinstance(examples, int) and "batch_size" in training.arguments:
        names = ("epochs", "max_steps", "batch_size", "gradient_accumulation")
        options = TrainOptions(**{name: training.arguments[name] for name in names if name in training.arguments})
        planned = steps_of(batches_of(examples, options.batch_size), options)
    return max(logged, planned) or None


def _generated(manifest: Manifest) -> Iterator[FunnelRow]:
    yield from _left_out(manifest.dropped, DOCUMENTS)
    if (documents := manifest.results.get("documents")) is not None:
        yield FunnelRow(f"{_noun(documents, 'document')} written for", documents, "--max-documents")
    yield from _records(manifest, "queries written", "query written", "--model, --prompt")


def _looks(manifest: Manifest) -> Iterator[FunnelRow]:
    """Queries that look like queries, before the filter; a low number points to the prompt."""
    good = manifest.results.get("good")
    if good is not None:
        yield FunnelRow("that look like queries" if good != 1 else "that looks like a query", good, "--prompt")


def _filtered(manifest: Manifest) -> Iterator[FunnelRow]:
    yield from _left_out(manifest.dropped, QUERIES)
    yield from _records(manifest, "queries kept", "query kept", "--top-k")
    for prompt, counts in manifest.results.get(BY_PROMPT, {}).items():
        reasons = ", ".join(
            f"{count} {QUERIES.get(name, (name, ''))[0]}" for name, count in counts.items() if name != "kept"
        )
        yield FunnelRow(f"of the {sum(counts.values())} written with prompt {prompt!r}", counts["kept"], reasons)


def _pairs(manifest: Manifest) -> Iterator[FunnelRow]:
    yield FunnelRow("queries of people", manifest.results["pairs"], "--pairs")
    reasons = {
        "words_of_a_pair": ("with the words of one of these", "--pairs"),
        "words_of_a_judged_query": ("of people, with the words of a test or dev query", "--pairs"),
    }
    yield from _left_out(manifest.dropped, reasons)


def _held_out(manifest: Manifest, purpose: str, flag: str) -> Iterator[FunnelRow]:
    if (held_out := manifest.results.get("dev")) is not None:
        yield FunnelRow(f"held out to {purpose}", held_out, flag, left_out=True)
    reasons = {
        "words_of_a_dev_query": ("with the words of one of these", flag),
        "heading_of_a_dev_document": ("that are headings above these", flag),
        "pair_of_a_dev_document": ("of people, about the documents of these", flag),
    }
    yield from _left_out(manifest.dropped, reasons)
    yield from _records(manifest, "queries to train on", "query to train on", flag)


def _mined(manifest: Manifest) -> Iterator[FunnelRow]:
    yield from _left_out(manifest.dropped, _mining_reasons(manifest.arguments))
    positives, triples = manifest.results.get("positives"), manifest.output.records
    # positives outside the corpus are not counted among `positives`
    dropped = {name: count for name, count in manifest.dropped.items() if name != "positive_not_in_corpus"}
    with_negatives = None if positives is None else positives - sum(dropped.values())
    if with_negatives is not None and with_negatives != triples:
        words = "queries with negatives" if with_negatives != 1 else "query with negatives"
        yield FunnelRow(words, with_negatives)
    yield from _records(manifest, "triples", "triple", "--per-query")


def _mining_reasons(arguments: Mapping[str, Any]) -> Reasons:
    within, by = arguments.get("positive_within"), "the bi-encoder" if arguments.get("negatives") == "dense" else "BM25"
    among = f" among its first {within}" if within else ""
    return {
        "positive_not_retrieved": (f"whose own document {by} does not find{among}", "--positive-within"),
        "no_negatives": ("without negatives", "--ranks"),
        "too_near_the_positive": ("whose negatives are too near the positive", "inpars triples --margin"),
        "empty_query": ("empty", ""),
        "empty_document": ("whose own document is empty", ""),
    }


def _left_out(dropped: Mapping[str, int], reasons: Reasons) -> Iterator[FunnelRow]:
    """Rows in the order of the reasons, which is that of the checks; then unknown reasons."""
    for name in sorted(dropped, key=lambda name: list(reasons).index(name) if name in reasons else len(reasons)):
        words, flag = reasons.get(name, (name.replace("_", " "), ""))
        if dropped[name]:
            yield FunnelRow(words, dropped[name], flag, left_out=True)


def _records(manifest: Manifest, many: str, one: str, flag: str) -> Iterator[FunnelRow]:
    if (count := manifest.output.records) is not None:
        yield FunnelRow(one if count == 1 else many, count, flag)


def _steps_row(name: str, steps: int, changed_by: str) -> FunnelRow:
    return FunnelRow(f"{_noun(steps, 'step')} of the {TRAINED[name]}'s training", steps, changed_by)


def _noun(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
