"""Protect the results of an earlier run with other settings, and remove its outputs that are no longer used.

Only files that `inpars run` writes are removed. Trained models are moved aside instead, as they took hours.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from inpars.errors import ConfigError, DataFormatError
from inpars.fusion.stage_choice import VIEW
from inpars.io.json_text import JsonError, parse_json
from inpars.io.manifest import manifest_path, stamp_text
from inpars.io.storage import replace_folder, storage_errors
from inpars.io.topics import Topics
from inpars.options import flag_name, result_settings
from inpars.pipeline.evidence import HASH_CHARACTERS, EvidenceOptions
from inpars.pipeline.given_queries import JOINED, WRITTEN
from inpars.pipeline.held_out import choice_files, split_files
from inpars.pipeline.judging_options import JudgingOptions
from inpars.pipeline.mark import read_mark
from inpars.pipeline.measurement import JUDGED, METRICS, TOPICS
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.steps import Steps
from inpars.pipeline.trainings import TRIPLES
from inpars.prompts.mixture import PromptSource
from inpars.stages.partial import partial_path
from inpars.stages.triple_files import ids_path, negatives_path

CHECKPOINTS = ".checkpoints"  # suffix of an interrupted training's folder
EARLIER = "models.earlier"
MODELS = ("retriever", "reranker")
STAGES = ("bm25", "base", "tuned", "whole")
FUSED = ("fusion", "whole-fusion", "fusion-windows", "mix", "mix.reranked")
OF_EVIDENCE = (  # of a choice with real queries, and of a learning curve
    *("mix.trec", "mix.scored.trec", "reranking.json"),
    *("learning-curve.json", "curve-quarter", "curve-quarter-run.trec", "curve-half", "curve-half-run.trec"),
    *("unlabelled/topics", "unlabelled/bm25.trec", "unlabelled/whole.trec"),
)
OF_OLDER_VERSIONS = (
    *("tuned-fusion", "tuned-fusion-windows", "pool", "pool.reranked"),
    *("bm25.reranked", "fusion.reranked", "tuned-fusion.reranked"),
)
REPORT, REPORT_VALUES = "report.html", "report.json"
NAMED = 4  # changed settings to name in an error
BEFORE: dict[str, Any] = {  # values of runs older than these flags
    "--training": None,  # those runs measured other systems
    **{flag_name(name): value for name, value in EvidenceOptions().settings.items()},
}


def settings_of(
    options: PipelineOptions,
    prompt: PromptSource,
    *more_options: Any,  # noqa: ANN401 - any options classes
    split: str,
    metrics: Sequence[str],
    topics: Topics | None = None,
    evidence: EvidenceOptions = EvidenceOptions(),  # noqa: B008 - frozen
    judging: JudgingOptions = JudgingOptions(),  # noqa: B008 - frozen
    free: Collection[str] = (),
) -> dict[str, Any]:
    """The settings that affect a run's results, apart from its documents, by flag and as JSON values.

    Options in `free` are left out: a plan that does not exist yet decides them.
    """
    hashed = stamp_text(prompt.name, prompt.text).sha256[:HASH_CHARACTERS]
    values = {"--prompt": f"{prompt.name} {hashed}", "--split": split, "--metrics": " ".join(metrics)}
    values |= {"--queries and --qrels": topics.stamp.sha256[:HASH_CHARACTERS]} if topics is not None else {}
    values |= {flag_name(name): value for name, value in {**evidence.settings, **judging.settings}.items()}
    for group in (*more_options, options):  # `options` last, since its --limit counts
        settings = result_settings(group).items()
        values |= {flag_name(name): value for name, value in settings if group is not options or name not in free}
    return dict(json.loads(json.dumps(values, default=str)))


def refuse_to_replace(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether to redo all stages: with `overwrite` and unchanged settings; a change redoes only what it touches.

    Raises ConfigError if the folder holds results of other settings, unless `overwrite` is set.
    """
    changed = changes(folder, settings)
    if changed and not overwrite:
        named = "; ".join(changed[:NAMED]) + (f"; and {len(changed) - NAMED} more" if len(changed) > NAMED else "")
        raise ConfigError(
            f"{folder} holds the results of a finished run with other settings ({named}); choose another --output, or "
            "give --overwrite to replace them, which redoes what the change touches"
        )
    return overwrite and not changed


def changes(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Describe the settings that differ from those of the finished results in the folder, if there are any.

    A setting missing on one side did not exist then: it counts as its default, or as its value in `BEFORE`.
    """
    if not any((folder / name).exists() for name in (METRICS, REPORT)):
        return []
    before = _before(folder)
    defaults: dict[str, Any] = {flag_name(field.name): field.default for field in fields(PipelineOptions)} | BEFORE
    return [
        f"{name} was {_value_text(was)}, is {_value_text(now)}"
        for name, now in settings.items()
        if before and (was := before.get(name, defaults.get(name, now))) != now
    ]


def _before(folder: Path) -> dict[str, Any]:
    """The settings of the results, from the mark or, for older runs, from the report."""
    if isinstance(finished := read_mark(folder).get("finished"), dict):
        return finished
    path = folder / REPORT_VALUES
    try:
        settings = parse_json(path.read_text(encoding="utf-8"))["settings"]
        options = {flag_name(name): value for name, value in settings["options"].items()}
        return options | {"--prompt": f"{settings['prompt']} {settings['prompt_sha256'][:HASH_CHARACTERS]}"}
    except FileNotFoundError:
        return {}
    except (JsonError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise DataFormatError(
            "not the report of a run, so the settings of its results are unknown; remove it, or choose "
            "another --output",
            path=path,
        ) from None


def _value_text(value: Any) -> str:  # noqa: ANN401 - a JSON value
    return "not given" if value is None else str(value)


def remove_leftovers(folder: Path, steps: Steps) -> list[str]:
    """Remove outputs that no stage of this run wrote or reused; returns their paths relative to the folder."""
    removed = []
    moved = _move_models(folder, steps)
    for output, beside in _outputs(folder).items():
        if output not in steps.outputs and (output.exists() or manifest_path(output).exists()):
            for path in (manifest_path(output), partial_path(output), *beside, output):
                _remove(path)
            removed.append(output.relative_to(folder).as_posix())
    if (models := folder / "models").is_dir() and not any(models.iterdir()):
        models.rmdir()
    if removed:
        steps.note(f"removed what an earlier run with other settings left: {', '.join(removed)}")
    return [*moved, *removed]


def _move_models(folder: Path, steps: Steps) -> list[str]:
    """Move unused trained models to `models.earlier`, replacing those there."""
    unused = [model for name in MODELS if (model := folder / "models" / name).is_dir() and model not in steps.outputs]
    for model in unused:
        target = folder / EARLIER / model.name
        with storage_errors(target):
            target.parent.mkdir(exist_ok=True)
            manifest_path(model).unlink(missing_ok=True)
            replace_folder(model, target)
        steps.note(f"{model}: not used by this run, moved to {target}")
    return [model.relative_to(folder).as_posix() for model in unused]


def _outputs(folder: Path) -> dict[Path, list[Path]]:
    """Each output with its companion files."""
    triples, splits = folder / TRIPLES, [choice_files(folder), split_files(folder)]
    models = [folder / "models" / name for name in MODELS]
    runs = [folder / "runs" / f"{name}.trec" for name in (*STAGES, *FUSED, *OF_OLDER_VERSIONS)]
    names = ("topics", "choice.json", *(f"{name}.trec" for name in STAGES), *OF_EVIDENCE)
    choice = [folder / "choice" / name for name in names]
    choice += [view for name in ("choice", "runs") for view in sorted((folder / name).glob(f"{VIEW}-*.trec"))]
    judged = folder / JUDGED  # the grades stay, as they may have been paid for
    judged_by = [judged / TOPICS, judged / METRICS, *sorted(judged.glob("runs/*.trec"))]
    tried = [folder / "prompts" / name for name in ("1.jsonl", "2.jsonl", "3.jsonl", "choice.json")]
    queries = [folder / JOINED, folder / WRITTEN]
    measured = [path for path in (folder / TOPICS, folder / METRICS) if manifest_path(path).exists()]  # else another's
    return {
        triples: [ids_path(triples), negatives_path(triples), folder / "negatives.trec"],
        **{split.train: split.sides for split in splits},
        **{model: [model.with_name(f"{model.name}{CHECKPOINTS}")] for model in models},
        **{path: [] for path in (*runs, *choice, *judged_by, *tried, *measured, *queries)},
    }


def _remove(path: Path) -> None:
    with storage_errors(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
