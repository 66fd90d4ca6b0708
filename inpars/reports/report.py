"""One HTML file that shows what a run did and what it was worth. Knows nothing of how; values in, text out."""

from __future__ import annotations

from pathlib import Path

from inpars.reports.content import Report
from inpars.reports.funnel_section import funnel_html
from inpars.reports.page import Section, page, tiles
from inpars.reports.provenance_section import commands_html, settings_html, stages_html, training_html
from inpars.reports.queries_section import negatives_html, written_html
from inpars.reports.results_section import moved_html, results_html
from inpars.storage import atomic_writer, to_json_line


def render(report: Report) -> str:
    """The whole page."""
    sections = [
        Section("Results", results_html(report.results)),
        Section("Queries that moved", moved_html(report.results)),
        Section("From documents to training", funnel_html(report.funnel)),
        Section("Written queries", written_html(report.written)),
        Section("Hard negatives", negatives_html(report.negatives)),
        Section("Training", training_html(report.trainings)),
        Section("Time and cost", stages_html(report.stages)),
        Section("Reproduce", commands_html(report.commands)),
        Section("Settings and hashes", settings_html(report.settings, report.stages)),
    ]
    return page(report.title, report.lead, sections, opening=tiles(report.facts))


def write_report(report: Report, path: Path) -> None:
    """Write the page, and beside it the same as JSON."""
    with atomic_writer(json_path(path)) as stream:
        stream.write(to_json_line(report.values()) + "\n")
    with atomic_writer(path) as stream:
        stream.write(render(report))


def json_path(path: Path) -> Path:
    """Where the values of a page lie: `report.html` has `report.json`."""
    return path.with_suffix(".json")
