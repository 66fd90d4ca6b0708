"""The results that a run's folder holds already, and whether a run with other settings would replace them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from inpars.errors import ConfigError, DataFormatError
from inpars.io.json_text import JsonError, parse_json
from inpars.io.manifest import stamp_text
from inpars.io.topics import Topics
from inpars.options import flag_name, result_settings
from inpars.pipeline.evidence import EvidenceOptions
from inpars.pipeline.judging_options import JudgingOptions
from inpars.pipeline.mark import read_mark
from inpars.pipeline.measurement import METRICS
from inpars.pipeline.options import PipelineOptions
from inpars.prompts.mixture import PromptSource

REPORT, REPORT_VALUES = "report.html", "report.json"
NAMED = 4  # changed settings that an error names
SHORTEST = 12  # characters of a hash that are shown
BEFORE: dict[str, Any] = {  # of runs that did not know these flags
    "--training": None,  # they measured other systems
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
    """All that decides a run's results beside its documents, by flag, as JSON has it.

    Options of `free` are left out: a plan that is not known yet decides them.
    """
    hashed = stamp_text(prompt.name, prompt.text).sha256[:SHORTEST]
    values = {"--prompt": f"{prompt.name} {hashed}", "--split": split, "--metrics": " ".join(metrics)}
    values |= {"--queries and --qrels": topics.stamp.sha256[:SHORTEST]} if topics is not None else {}
    values |= {flag_name(name): value for name, value in {**evidence.settings, **judging.settings}.items()}
    for one in (*more_options, options):  # whose --limit is that of the queries
        settings = result_settings(one).items()
        values |= {flag_name(name): value for name, value in settings if one is not options or name not in free}
    return dict(json.loads(json.dumps(values, default=str)))


def refuse_to_replace(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether all stages are to be done again: with `overwrite`, but where settings changed only what that touches.

    Raises ConfigError where the folder holds results of other settings and nobody asked to overwrite them.
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
    """Settings that differ from those of the finished results in the folder; none where nothing is finished.

    What one side does not know was not there at the time, and then stood at its default, unless `BEFORE` names it.
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
    """The settings of the results: from the mark, or of a run that did not write them there, from its report."""
    if isinstance(finished := read_mark(folder).get("finished"), dict):
        return finished
    path = folder / REPORT_VALUES
    try:
        settings = parse_json(path.read_text(encoding="utf-8"))["settings"]
        options = {flag_name(name): value for name, value in settings["options"].items()}
        return options | {"--prompt": f"{settings['prompt']} {settings['prompt_sha256'][:SHORTEST]}"}
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
