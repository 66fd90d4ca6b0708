"""Measure a minute of work on this machine and estimate time and cost of N documents on M workers.

Measures documents drawn at random; start-up is measured apart and counted once per worker. With --output, the file that
the work will write, the next estimate reports how far off this one was. When measuring reranking, the first words of
other documents serve as queries.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from inpars.cache import cache_folder
from inpars.cli.common import DatasetFlags, add_display_flags, add_path, console, open_dataset, print_result
from inpars.options import add_flags, from_flags
from inpars.stages.estimates import (
    HOUR,
    ITEMS,
    Checked,
    EstimateOptions,
    Measurement,
    Prediction,
    last_checked,
    measure_work,
    predict,
    remember,
)

FILE = "estimates.jsonl"  # in the cache
ASSUMED = (
    "assumes: workers as fast as this machine with nothing else running, equal shares, every worker starting once; "
    "not counted: queueing for machines, copying and indexing the corpus, merging"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, DatasetFlags)
    add_flags(parser, EstimateOptions)
    add_path(parser, "--output", "output of the planned work, so that the next estimate can report this one's error")
    add_display_flags(parser)


def run(flags: argparse.Namespace) -> None:
    progress, options = console(flags), from_flags(EstimateOptions, flags)
    corpus = open_dataset(flags, progress).corpus
    file = cache_folder() / FILE
    before = last_checked(file, options.work, options.model_name)
    progress.note(f"measuring {options.work} with {options.model_name} for {options.seconds:g} seconds")
    measured, device = measure_work(corpus, options)
    predicted = predict(
        measured,
        work=options.work,
        model=options.model_name,
        device=device,
        items=options.items or len(corpus),
        workers=options.workers,
        output=flags.output,
    )
    remember(predicted, file)
    price = options.price_per_hour
    values = {
        **asdict(predicted),
        "measured_items": measured.items,
        "measured_seconds": measured.seconds,
        "worker_hours": predicted.worker_hours,
        "cost": None if price is None else predicted.worker_hours * price,
        "last_error": None if before is None else before.error,
    }
    print_result(flags, "\n".join(_lines(measured, predicted, price, before)), values)


def _lines(measured: Measurement, predicted: Prediction, price: float | None, before: Checked | None) -> list[str]:
    unit, margin = ITEMS[predicted.work], measured.margin  # type: ignore[index]
    spread = "one part only, no interval" if margin is None else f"± {margin:.0%} at 95%"
    interval = "" if predicted.low is None else f" ({_time(predicted.low)} to {_time(predicted.high or 0)})"
    cost = "" if price is None else f", {predicted.worker_hours * price:,.2f} at {price:g} an hour"
    lines = [
        f"{predicted.work} with {predicted.model} on {predicted.device}: {1 / measured.seconds_per_item:.2f} {unit}/s "
        f"({spread}; {measured.items} {unit} in {measured.seconds:.1f} s), {measured.startup_seconds:.1f} s to start",
        f"{predicted.items:,} {unit} on {predicted.workers} workers: {_time(predicted.seconds)}{interval}, "
        f"{predicted.worker_hours:,.2f} worker hours{cost}",
        ASSUMED,
    ]
    return [*lines, _last(before)]


def _last(before: Checked | None) -> str:
    if before is None:
        return "last time: no earlier estimate with --output has been carried out yet"
    direction = "too much" if before.error > 0 else "too little"
    return (
        f"last time ({before.prediction.made[:10]}, {before.prediction.items:,} items): predicted "
        f"{_time(before.prediction.seconds)}, it took {_time(before.seconds)}: {abs(before.error):.0%} {direction}"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"
