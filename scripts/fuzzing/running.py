"""One case run in this process, and what came of it: accepted, refused with a line, or a fault with a name."""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import ssl
import traceback
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from fuzzing.cases import Case
from fuzzing.checks import BrokenPromiseError, one_line
from fuzzing.mutations import mutated
from fuzzing.targets import ALL_SEEDS, TARGETS, all_contents
from inpars.errors import InparsError
from inpars.io import manifest

Verdict: TypeAlias = Literal["accepted", "refused", "fault"]
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "inpars"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case. `key` is the same for faults with the same cause, `text` one line, `trace` the rest."""

    verdict: Verdict
    key: str = ""
    text: str = ""
    trace: str = ""


def make_case(reader: str, seed: int, number: int) -> Case:
    """The input of a reader with that number: the first ones are its seeds as they are."""
    target, rng = TARGETS[reader], random.Random(f"{seed}-{reader}-{number}")
    name = target.seeds[number] if number < len(target.seeds) else rng.choice(target.seeds)
    case = Case(reader, ALL_SEEDS[name].main, ALL_SEEDS[name].files)
    return case if number < len(target.seeds) else mutated(case, rng, all_contents())


def execute(case: Case, folder: Path) -> Outcome:
    """Run a case in an empty folder, which is removed afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "case").mkdir(parents=True)
    (folder / "out").mkdir()
    os.environ["INPARS_CACHE"] = str(folder / "cache")
    try:
        main = case.write(folder / "case")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", category=RuntimeWarning, module="inpars")
            found = _judged(case, folder / "out", main)
        return replace(found, text=found.text.replace(f"{folder}/", "").replace(f"{ROOT}/", ""))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judged(case: Case, out: Path, main: Path) -> Outcome:
    try:
        TARGETS[case.reader].read(out, main)
    except InparsError as error:
        return _refused(error, case.reader)
    except OSError as error:  # the command line says these in one line too
        return Outcome("refused", text=str(error))
    except BrokenPromiseError as error:
        return _promise(error, case.reader)
    except Exception as error:
        return _crash(error)
    return Outcome("accepted")


def _refused(error: InparsError, reader: str) -> Outcome:
    try:
        one_line(error)
    except BrokenPromiseError as broken:
        return _promise(broken, reader)
    return Outcome("refused", text=str(error))


def _promise(error: BrokenPromiseError, reader: str) -> Outcome:
    text = str(error)
    trace = "".join(traceback.format_exception(error)) if error.__cause__ else ""
    return Outcome("fault", f"{text.partition(':')[0]} ({reader})", text, trace)


def _crash(error: Exception) -> Outcome:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)] or list(frames)
    place = Path(own[-1].filename)
    shown = place.relative_to(ROOT) if place.is_relative_to(ROOT) else place.name
    line = own[-1].name if isinstance(error, RecursionError) else own[-1].lineno
    key = f"{type(error).__name__} at {shown}:{line}"
    message = (
        re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))[:200].encode("utf-8", "backslashreplace").decode()
    )
    return Outcome("fault", key, f"{type(error).__name__}: {message}", _trace(error))


def _trace(error: Exception) -> str:
    lines = traceback.format_exception(error, limit=-12)
    return "".join(lines).encode("utf-8", "backslashreplace").decode()[-6000:]


def _nothing(*_: object, **__: object) -> None:
    """No certificate is looked at, so none has to be loaded for each client: that takes 75 ms."""


@cache
def preload() -> None:
    """Load what most readers load, once for all processes that are forked from this one."""
    import importlib

    for name in (
        *(
            "inpars.apps.serve.app",
            "openai",
            "openai.resources.chat",
            "openai.resources.batches",
            "trafilatura",
            "pypdf",
            "docx",
        ),
        *("pyarrow.parquet", "scipy.stats", "ir_datasets", "ir_measures", "pytrec_eval", "inpars.stages.distillation"),
        *(f"inpars.cli.{name}" for name in ("ingest", "evaluate", "filter", "import_", "export", "verify", "compare")),
        *(
            "inpars.cli.merge",
            "inpars.cli.generate",
            "inpars.generation.api.generator",
            "inpars.apps.qa.remote_chat",
        ),
    ):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    ssl.SSLContext.load_verify_locations = _nothing  # type: ignore[method-assign]
    gc.collect()
    gc.freeze()  # stages collect garbage, and need not look at all modules each time
    manifest.git_commit = cache(manifest.git_commit)  # a process of its own each time, and always the same
    manifest.versions = cache(manifest.versions)
