"""Build the report of a whole run from the stage outputs in its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inpars.documents.datasets import Dataset
from inpars.evaluation.verdicts import counted
from inpars.filtering.checks import FilterContext
from inpars.filtering.filters import Filtered, filter_queries
from inpars.fusion.system import BM25, SearchSystem
from inpars.io.formats import read_synthetic_records
from inpars.io.manifest import Manifest, read_manifest
from inpars.models.folders import EMBEDDED
from inpars.pipeline.choice import JUDGED
from inpars.pipeline.funnel import funnel_of, with_split
from inpars.pipeline.held_out import DEV_SPLIT
from inpars.pipeline.judged import JudgedSystems
from inpars.pipeline.measurement import MeasuredSystems
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.prompt_choice import line_about
from inpars.pipeline.system_runs import BASE_FUSION, MIX, RERANKED, SYNTHETIC, TUNED, RunContext
from inpars.prompts.mixture import PromptSource
from inpars.report.charts import Step
from inpars.report.collect import Texts, negatives_of, results_of, stages_of, trainings_of, written_of
from inpars.report.conclusion import conclusion_of, mix_of
from inpars.report.formatting import duration
from inpars.report.schema import Conclusion, Judged, Report
from inpars.stages.examples import example_query_ids
from inpars.stages.filter import RESEMBLING

WEIGHTS = (".safetensors", ".bin", ".gguf")


@dataclass(frozen=True, slots=True)
class Shipped:
    """The system that a run ships, its name in the table, and the runs of all systems by name."""

    name: str
    system: SearchSystem
    runs: Mapping[str, Path]

    def search(self, name: str) -> Manifest | None:
        """The manifest of a system's search, None if there is none."""
        return read_manifest(self.runs[name]) if name in self.runs else None


def report_of(
    run: RunContext,
    manifests: Mapping[str, Manifest],
    judged: MeasuredSystems,
    metrics: Sequence[str],
    *,
    shipped: Shipped | None = None,
    skipped: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """Build the report; `skipped` says why the retriever or the reranker was not trained."""
    dataset, folder, invocation = run.dataset, run.folder, run.commands.invocation
    filtered, texts = _verdicts(run), texts_of(dataset)
    generated = manifests["generate"].output.records or 0
    stages = stages_of(folder)
    topics = judged.topics
    queries = {verdict.query.query_id: verdict.query.text for verdict in filtered.kept}
    facts = {
        "documents": f"{len(dataset.corpus):,}",
        "queries written": f"{generated:,}",
        "queries kept": f"{len(filtered.kept):,}",
        **({"triples": f"{manifests['triples'].output.records or 0:,}"} if "triples" in manifests else {}),
        **({"judged queries": f"{len(topics.qrels):,}"} if topics is not None and topics.qrels else {}),
        "time of all stages": duration(sum(stage.seconds for stage in stages)),
    }
    results = None
    if topics is not None and judged.evaluations:
        results = results_of(
            judged.evaluations,
            judged.differences,
            metrics,
            judged.glances,
            topics,
            texts=texts,
            notes=_notes(manifests, run.prompt),
        )
    definitions = _definitions(run.options, shipped)
    return Report(
        title=f"{Path(dataset.name).name if Path(dataset.name).is_dir() else dataset.name}: search without labelled "
        "queries",
        lead=_lead(run, manifests),
        facts=facts,
        results=results,
        conclusion=None if shipped is None else _conclusion(shipped, folder, judged, metrics[0], definitions, skipped),
        mix=mix_of(manifests["choose"].results) if "choose" in manifests else None,
        pipeline=_pipeline(run, manifests, judged, len(filtered.kept)),
        definitions=definitions,
        funnel=funnel_of(with_split(manifests, folder), skipped),
        written=written_of(filtered.verdicts, run.options.scoring_function, texts),
        negatives=negatives_of(folder / "triples.negatives.jsonl", queries, texts),
        trainings=trainings_of({name: manifests[name] for name in ("retriever", "reranker") if name in manifests}),
        stages=stages,
        settings=_settings(run, manifests),
        commands=[invocation.command, *run.commands.lines] if invocation.command else [],
    )


def with_judged(report: Report, by_model: JudgedSystems | None, metrics: Sequence[str], texts: Texts) -> Report:
    """Add the section of measures by a model's grades."""
    if by_model is None or by_model.measured.topics is None:
        return report
    measured = by_model.measured
    results = results_of(
        measured.evaluations,
        measured.differences,
        metrics,
        measured.glances,
        by_model.measured.topics,
        texts=texts,
        notes=by_model.trust,
    )
    return report if results is None else replace(report, judged=Judged(str(by_model.origin), results))


def texts_of(dataset: Dataset) -> Texts:
    """Look up texts in the dataset's corpus."""
    corpus = dataset.corpus
    return lambda doc_id: corpus[doc_id].full_text if doc_id in corpus else None


def _lead(run: RunContext, manifests: Mapping[str, Manifest]) -> str:
    options, generated = run.options, manifests["generate"]
    day = generated.started.split("T")[0]
    models = {"retriever": options.retriever, "reranker": options.reranker}
    trained = [f"{model} became the {name}" for name, model in models.items() if name in manifests]
    chose = "choose" in manifests and _chosen_by(manifests["choose"]) == "written"
    unused = "and used to choose by" if chose else "and not trained on"
    used = f"paired with hard negatives and trained on: {', '.join(trained)}" if trained else unused
    tried = f" A trial on a few documents: {line_about(manifests['prompt'].results)}." if "prompt" in manifests else ""
    used_prompts = generated.results.get("prompts", run.prompt.name)  # set for queries generated earlier
    return (
        f"Queries written by {options.model} with the prompt {used_prompts!r}, filtered, {used}.{tried} Begun {day} on "
        f"{generated.device}, inpars {generated.versions.get('inpars', '')}"
        + (f" at commit {generated.git_commit[:10]}." if generated.git_commit else ".")
    )


def _pipeline(run: RunContext, manifests: Mapping[str, Manifest], judged: MeasuredSystems, kept: int) -> list[Step]:
    generated, triples = manifests["generate"], manifests.get("triples")
    written = counted(generated.output.records or 0, "query", "queries")
    trained = [getattr(run.options, name) for name in ("retriever", "reranker") if name in manifests]
    steps = [
        Step(counted(len(run.dataset.corpus), "document")),
        Step(f"{written} written", f"by {run.options.model} with the prompt {run.prompt.name}"),
        Step(f"{kept:,} kept", "by the filter"),
    ]
    if triples is not None:
        count = counted(triples.output.records or 0, "triple")
        steps.append(Step(count, "a query, its document, and one that ranks high without being it"))
    steps.append(Step("Trained", " and ".join(trained)) if trained else Step("Nothing trained", "models as they come"))
    if (chosen := manifests.get("choose")) is not None and (by := chosen.results.get("queries")):
        kind = _chosen_by(chosen)
        steps.append(Step("Mix chosen", f"by {counted(by, f'{kind} query', f'{kind} queries')}"))
    if not judged.evaluations or judged.topics is None:
        return [*steps, Step("Nothing measured", "there are no judged queries")]
    kind = "held-out" if judged.topics.split == DEV_SPLIT else "judged"
    queries = counted(len(judged.topics.qrels), f"{kind} query", f"{kind} queries")
    return [*steps, Step(f"{counted(len(judged.evaluations), 'system')} measured", f"on {queries}")]


def _chosen_by(choice: Manifest) -> str:
    """The kind of queries that chose the mix."""
    return "judged dev" if choice.results.get("by") == JUDGED else "written"


def _definitions(options: PipelineOptions, shipped: Shipped | None) -> dict[str, str]:
    windows = ", by the nearest window of a document" if options.window_tokens else ""
    rerankings = shipped.system.rerankings if shipped is not None else ()
    first = {
        options.retriever: f"the encoder alone{windows}",
        BASE_FUSION: f"BM25 and {options.retriever} with equal weights",
        TUNED: "the encoder trained on the synthetic queries, alone",
        MIX: "BM25 and the encoders, weighed query by query",
        BM25: "words alone",
    }
    if shipped is None or not rerankings:
        return first
    reordered = ", then ".join(f"its first {each.depth} reordered by {each.label}" for each in rerankings)
    return first | {shipped.name: f"the same, {reordered}"}


def _conclusion(
    shipped: Shipped,
    folder: Path,
    judged: MeasuredSystems,
    metric: str,
    definitions: Mapping[str, str],
    skipped: Mapping[str, str],
) -> Conclusion:
    system, name, quoted_folder = shipped.system, shipped.name, shlex.quote(str(folder))
    models = [stage.retriever for stage in system.stages if stage.retriever != BM25]
    unreranked = name.removesuffix(RERANKED)
    others = [other for other in judged.evaluations if other not in (TUNED, unreranked, name)]
    return conclusion_of(
        name,
        system,
        judged.evaluations,
        {other: definitions[other] for other in others if other in definitions},
        metric,
        unreranked=unreranked,
        search=shipped.search(name),
        search_unreranked=shipped.search(unreranked),
        weight_bytes=_weight_bytes([*models, *(each.model for each in system.rerankings)]),
        skipped=skipped,
        commands=[
            f'inpars search --run {quoted_folder} "your question"',
            f"inpars serve --run {quoted_folder} --port 8000",
            f"inpars deploy folder --run {quoted_folder} --output {shlex.quote(f'{folder}.system')}",
        ],
    )


def _weight_bytes(models: Sequence[str]) -> dict[str, int]:
    """The size of each model's weights, for models that are files on this machine."""
    sizes = {}
    for model in dict.fromkeys(models):
        embedded = EMBEDDED.get(model)
        paths = (embedded.locate() if embedded.installed else []) if embedded is not None else [Path(model)]
        files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
        if size := sum(file.stat().st_size for file in files if file.suffix in WEIGHTS):
            sizes[Path(model).name] = size
    return sizes


def _notes(manifests: Mapping[str, Manifest], prompt: PromptSource) -> list[str]:
    resembling, example_ids = manifests["filter"].results.get(RESEMBLING), example_query_ids(prompt)
    notes = []
    if resembling is not None:
        notes.append(f"{resembling} of the synthetic queries equal, or nearly equal, one of the dataset's own queries.")
    if example_ids:
        notes.append(
            f"Left out here because the prompt shows them: {counted(len(example_ids), 'query', 'queries')} of the "
            "dataset."
        )
    return notes


def _settings(run: RunContext, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    generated = manifests["generate"]
    return {
        "options": asdict(run.options),
        "prompt": run.prompt.name,
        "prompt_sha256": generated.inputs["prompt"].sha256,
        "queries shown as examples and left out": example_query_ids(run.prompt),
        "versions": generated.versions,
        "device": generated.device,
        "commit": generated.git_commit,
    }


def _verdicts(run: RunContext) -> Filtered:
    """Filter again for the verdicts on dropped queries, which the filter's output lacks."""
    rows = list(read_synthetic_records(run.path(SYNTHETIC)))
    texts = {query.doc_id: record.get("text") or record.get("doc_text") for query, record in rows}
    examples = [example.query for example in run.prompt.examples]
    context = FilterContext(example_queries=examples, document_text=texts.get)
    return filter_queries([query for query, _ in rows], run.options.filtering, context)
