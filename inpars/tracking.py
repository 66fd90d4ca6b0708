"""Logs settings, losses, dev metrics and final measures of a command to an experiment tracker (--track).

Trainings call `log`, whichever tracker is open. The location of runs and offline use are configured by the trackers'
environment variables (docs/integrations.md).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from inpars.errors import BackendError
from inpars.progress import Note

PROJECT = "inpars"
FINAL = "final"  # prefix of final measures
NOT_IN_MLFLOW = re.compile(r"[^\w\-. :/]")  # characters not allowed in its names
MLFLOW_CHARACTERS = 500  # maximum length of a parameter


class Tracker(Protocol):
    """One run in a tracker, created with its settings."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log values at a step; each prefix (before a name's slash) counts its own steps."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
        """Log the final table."""

    def close(self, failed: bool) -> None:
        """End the run."""


class _TensorBoard:
    def __init__(self, output: Path, settings: Mapping[str, str]) -> None:
        import tensorboard  # noqa: F401 - raises an error with its name, unlike torch
        from torch.utils.tensorboard import SummaryWriter

        folder = os.environ.get("TENSORBOARD_LOGGING_DIR") or f"{output}.tensorboard"
        self._writer: Any = SummaryWriter(str(Path(folder) / time.strftime("%Y%m%d-%H%M%S")))
        self._writer.add_text("settings", _markdown(("setting", "value"), list(settings.items())))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
        self._writer.add_text("results", _markdown(columns, rows))

    def close(self, failed: bool) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, output: Path, settings: Mapping[str, str]) -> None:
        import mlflow

        self._client: Any = mlflow
        if not os.environ.keys() & {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"}:
            mlflow.set_experiment(PROJECT)
        mlflow.start_run(run_name=output.name)
        mlflow.log_params({name: value[:MLFLOW_CHARACTERS] for name, value in settings.items()})

    def log(self, values: Mapping[str, float], step: int) -> None:
        metrics = {NOT_IN_MLFLOW.sub("_", name): value for name, value in values.items()}
        self._client.log_metrics(metrics, step=step)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
        data = {column: [row[index] for row in rows] for index, column in enumerate(columns)}
        self._client.log_table(data, "results.json")

    def close(self, failed: bool) -> None:
        self._client.end_run("FAILED" if failed else "FINISHED")


class _Wandb:
    def __init__(self, output: Path, settings: Mapping[str, str]) -> None:
        import wandb

        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._client: Any = wandb
        self._run: Any = wandb.init(project=project, name=output.name, config=dict(settings))
        self._axes: set[str] = set()

    def log(self, values: Mapping[str, float], step: int) -> None:
        axes = {f"{name.partition('/')[0]}/step" for name in values}
        for axis in axes - self._axes:  # wandb's own step must increase, but a second training restarts at 0
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(axis.replace("/step", "/*"), step_metric=axis)
        self._axes |= axes
        self._run.log({**values, **dict.fromkeys(axes, step)})

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
        self._run.log({"results": self._client.Table(columns=list(columns), data=[list(row) for row in rows])})

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _Trackio:
    def __init__(self, output: Path, settings: Mapping[str, str]) -> None:
        import trackio

        self._client: Any = trackio
        trackio.init(project=PROJECT, name=f"{output.name}-{time.strftime('%Y%m%d-%H%M%S')}", config=dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._client.log(dict(values), step=step)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> None:
        import pandas as pd

        self._client.log({"results": self._client.Table(dataframe=pd.DataFrame(list(rows), columns=list(columns)))})

    def close(self, failed: bool) -> None:
        self._client.finish()


TRACKERS: dict[str, Callable[[Path, Mapping[str, str]], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _Wandb,
    "trackio": _Trackio,
}


class _Guarded:
    """A tracker whose first failure is noted and ends the tracking, not the work."""

    def __init__(self, name: str, tracker: Tracker, note: Note) -> None:
        self._name, self._note = name, note
        self._tracker: Tracker | None = tracker

    def do(self, action: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            action(self._tracker)
        except Exception as error:  # a client may raise anything, and must not end hours of work
            self._tracker = None
            self._note(f"--track {self._name} failed, nothing more is tracked: {_reason(error)}")


_OPEN: ContextVar[_Guarded | None] = ContextVar("tracker", default=None)


@contextmanager
def tracking(name: str | None, output: Path, settings: Mapping[str, Any], note: Note) -> Iterator[None]:
    """Inside the block, log to this tracker, if any.

    Raises BackendError if its run cannot be started. With several processes (torchrun) only the first one tracks.
    """
    if name is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    given = {key: str(value) for key, value in settings.items() if value not in (None, [], ()) and not callable(value)}
    try:
        tracker = TRACKERS[name](output, given)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise BackendError(f"--track {name}: its client cannot start a run: {_reason(error)}") from error
    guarded, failed = _Guarded(name, tracker, note), True
    token = _OPEN.set(guarded)
    try:
        yield
        failed = False
    finally:
        _OPEN.reset(token)
        guarded.do(lambda tracker: tracker.close(failed))


def log(values: Mapping[str, float], step: int) -> None:
    """Log to the open tracker, if any."""
    if values and (opened := _OPEN.get()) is not None:
        opened.do(lambda tracker: tracker.log(values, step))


def log_results(means: Mapping[str, Mapping[str, float]]) -> None:
    """Log the measures of each system, as a table and as single values."""
    if not means or (opened := _OPEN.get()) is None:
        return
    columns = list(next(iter(means.values())))
    rows: list[list[str | float]] = [[name, *row.values()] for name, row in means.items()]
    opened.do(lambda tracker: tracker.table(["system", *columns], rows))
    log({f"{FINAL}/{system}/{measure}": value for system, row in means.items() for measure, value in row.items()}, 0)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in lines)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
