"""What a whole run has to show: its report, put together from what the stages left in the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from inpars.datasets import Dataset
from inpars.evaluation.measures import Evaluation
from inpars.evaluation.significance import Difference
from inpars.filtering.filters import Filtered
from inpars.formats import read_synthetic_records
from inpars.manifest import Manifest
from inpars.pipeline.options import PipelineOptions
from inpars.prompting.templates import PromptSource
from inpars.reports.report import Report, shown_queries
from inpars.stages.examples import example_query_ids
from inpars.stages.filtering import RESEMBLING, apply_filter


def report_of(
    dataset: Dataset,
    prompt: PromptSource,
    options: PipelineOptions,
    queries: Path,
    manifests: Mapping[str, Manifest],
    results: Mapping[str, Evaluation],
    differences: Mapping[str, Mapping[str, Difference]],
    metrics: Sequence[str],
) -> Report:
    """The report of a run whose synthetic queries lie in the file `queries`."""
    filtered = _verdicts(queries, prompt, options)
    kept, dropped = shown_queries(filtered.verdicts)
    corpus = dataset.corpus
    return Report(
        title=f"{dataset.name}: search without labelled queries",
        lead=f"{len(corpus)} documents; {manifests['generate'].output.records} queries written with the prompt "
        f"{prompt.name!r}, {len(filtered.kept)} kept; {manifests['triples'].output.records} triples.",
        metrics=metrics,
        results=results,
        differences=differences,
        verdicts=filtered.verdicts,
        document_texts={verdict.query.doc_id: corpus[verdict.query.doc_id].full_text for verdict in [*kept, *dropped]},
        score_name=options.scoring_function,
        curves={name: manifests[name].results["curve"] for name in ("retriever", "reranker")},
        settings={
            "options": asdict(options),
            "prompt": prompt.name,
            "queries shown as examples and left out": example_query_ids(prompt),
            "synthetic queries that (nearly) equal one of the dataset's": manifests["filter"].results.get(RESEMBLING),
            "seconds": {name: manifest.seconds for name, manifest in manifests.items()},
            "dropped": {name: dict(manifests[name].dropped) for name in ("generate", "filter", "triples")},
            "versions": manifests["generate"].versions,
            "device": manifests["generate"].device,
            "commit": manifests["generate"].git_commit,
        },
    )


def _verdicts(queries: Path, prompt: PromptSource, options: PipelineOptions) -> Filtered:
    """The filter's verdicts once more, for the histogram: it is quick and its output holds the kept ones only."""
    found = {query.query_id: (query, record) for query, record in read_synthetic_records(queries)}
    examples = [example.query for example in prompt.examples]
    return apply_filter([query for query, _ in found.values()], options.filtering, found, examples)
