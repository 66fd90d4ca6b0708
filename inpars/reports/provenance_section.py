"""The parts of a report about how it came to be: training, time and money, settings, hashes, commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from inpars.evaluation.wording import counted
from inpars.reports.charts import bar, line_chart
from inpars.reports.content import StageFacts, Training
from inpars.reports.page import (
    Cell,
    code,
    duration,
    figure,
    figures,
    folded,
    heading,
    number,
    paragraph,
    table,
)


def training_html(trainings: Sequence[Training]) -> str:
    """Loss by step, and beside it what validations measured."""
    warnings, parts = [], []
    for one in trainings:
        loss = line_chart([one.loss], "step", "loss", from_zero=True, whole=True)
        validation = line_chart([one.validation], "step", "dev nDCG@10", whole=True)
        by = f" on {one.validated_by}" if one.validated_by else ""
        worth = f"nDCG@10 of the {one.name} while it is trained{by}; step 0 is the model it started from."
        parts += [figure(loss, f"Training loss of the {one.name}."), figure(validation, worth)]
        warnings.append(paragraph(one.warning and f"{one.name}: {one.warning}", "warning"))
        if not loss:
            warnings.append(paragraph(f"The {one.name} took {counted(len(one.loss.xs), 'step')}, too few for a curve."))
    return "".join(warnings) + figures(*parts)


def stages_html(stages: Sequence[StageFacts]) -> str:
    """Where the time and the money went."""
    if not stages:
        return ""
    total = sum(stage.seconds for stage in stages)
    most = max(stage.seconds for stage in stages) or 1.0
    paid = any(stage.usd is not None for stage in stages)
    head = [
        Cell("output"),
        Cell("time", "n"),
        *([Cell("US$", "n")] if paid else []),
        Cell("records", "n"),
        Cell("beside the longest", "bar"),
    ]
    rows = [
        [
            Cell("", raw=f"{escape(stage.output)}<small class=under>{escape(stage.stage)}</small>"),
            Cell(duration(stage.seconds), "n"),
            *([Cell(number(stage.usd, ".4f"), "n")] if paid else []),
            Cell("" if stage.records is None else f"{stage.records:,}", "n"),
            Cell("", "bar", raw=bar(stage.seconds / most)),
        ]
        for stage in stages
    ]
    devices = ", ".join(dict.fromkeys(stage.device for stage in stages if stage.device))
    spent = paragraph(
        f"{duration(total)} in all, on {devices}. A stage that was up to date keeps the time of when it was done.",
        "soft",
    )
    return table("Time of the stages", head, rows) + spent + _workers_html(stages)


def _workers_html(stages: Sequence[StageFacts]) -> str:
    """What each worker of a cluster did; nothing where there was none."""
    head = [Cell("worker"), Cell("items", "n"), Cell("time", "n"), Cell("items a second", "n")]
    rows = [
        [
            Cell("", raw=f"{escape(stage.output)}, {one['worker']}<small class=under>{escape(one['node'])}</small>"),
            Cell(f"{one['items']:,}", "n"),
            Cell(duration(one["seconds"]), "n"),
            Cell(number(one["items_per_second"], ".2f"), "n"),
        ]
        for stage in stages
        for one in stage.workers
    ]
    return table("Throughput of the workers", head, rows) if rows else ""


def commands_html(commands: Sequence[str]) -> str:
    """What to type to have the same again."""
    if not commands:
        return ""
    whole, *stages = commands
    parts = [code("The command", whole)]
    if stages:
        words = "The same stage by stage. A line that begins with # says what no command of its own makes:"
        parts.append(
            folded("Stage by stage", paragraph(words, "soft") + code("Commands of the stages", "\n\n".join(stages)))
        )
    return "".join(parts)


def settings_html(settings: Mapping[str, Any], stages: Sequence[StageFacts]) -> str:
    """Hashes of all that was read and written, then all settings."""
    hashes = [
        [
            Cell(stage.output),
            Cell(stage.sha256, "mono"),
            Cell("", "mono", raw=_inputs(stage.inputs)),
        ]
        for stage in stages
    ]
    all_settings = {f"{stage.stage}: {stage.output}": dict(stage.arguments) for stage in stages}
    return (
        (
            heading("Hashes")
            + paragraph("SHA-256 of every output, and the beginnings of those of what it was made from.", "soft")
            + table("Hashes of the outputs", [Cell("output"), Cell("SHA-256"), Cell("made from")], hashes)
            if hashes
            else ""
        )
        + (folded("Settings of the run", code("Settings of the run", _json(settings))) if settings else "")
        + (folded("Settings of every stage", code("Settings of every stage", _json(all_settings))) if stages else "")
    )


def _inputs(inputs: Mapping[str, str]) -> str:
    return "<br>".join(f"{escape(name)} {escape(sha256[:12])}" for name, sha256 in inputs.items())


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False, default=str)
