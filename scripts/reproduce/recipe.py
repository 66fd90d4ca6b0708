r"""What `inpars run` ships, beside BM25, the encoder and their equal sum, on many judged collections.

    python scripts/reproduce/recipe.py --output runs/recipe \
        --collection beir/nfcorpus/test --collection python-docs --collection /data/cosqa:test \
        --recipe "default" --recipe "wide: --max-documents 2000 --rerank-depth 40"

Every --collection is an `ir_datasets` name, a BEIR folder or zip, or python-docs, with :SPLIT for a split other than
test. Every --recipe is a name, with flags of `inpars run` after a colon; without one the default is measured. Each
recipe runs on each collection in a folder of its own, so that a killed bench resumes, and no judgement is read before
the last stage of a run. A run that fails is named at the end, after the tables of the others; the exit status is 1.

The table of a recipe has nDCG@10 of each system by collection, then what is shipped less the best of the other three
(its negative is the regret) and less the equal sum, each with its p-value (paired randomisation test, unadjusted; with
more than one recipe, every further recipe against the first as well). Ends with the means and the counts that a recipe
is judged by, the tier of the processor and the seconds of each run.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inpars.evaluation.significance import compare
from inpars.models.processor import tier

METRIC = "nDCG@10"
LEVEL = 0.05
BASELINES = ("bm25", "encoder", "equal sum")
SHIPPED = "shipped"

Values = Mapping[str, float]  # by query


@dataclass(frozen=True, slots=True)
class Result:
    """One recipe's run on one collection."""

    collection: str
    systems: Mapping[str, Values]  # the baselines, then what is shipped
    seconds: float

    def mean(self, name: str) -> float:
        """The mean of a system over queries."""
        return statistics.fmean(self.systems[name].values())

    @property
    def best_baseline(self) -> str:
        """The best of the systems that need no choice, known afterwards."""
        return max(BASELINES, key=self.mean)

    def gain_over(self, name: str) -> tuple[float, float | None]:
        """What is shipped less another system, and the p-value; None below ten queries."""
        return _gain(self.systems[name], self.systems[SHIPPED])


def main() -> None:
    """Run every recipe on every collection, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", action="append", required=True, metavar="NAME[:SPLIT]")
    parser.add_argument("--recipe", action="append", metavar="NAME[: FLAGS]", help="(default: default)")
    parser.add_argument("--output", type=Path, required=True)
    flags = parser.parse_args()
    recipes = dict(_parsed(recipe) for recipe in flags.recipe or ["default"])
    results: dict[str, dict[str, Result]] = {name: {} for name in recipes}
    failures = []
    for collection in flags.collection:
        for name, settings in recipes.items():
            try:
                results[name][collection] = _run(flags.output / name, collection, settings)
            except subprocess.CalledProcessError as error:
                failures.append(f"{name} on {collection}: exit status {error.returncode}")
    print(f"tier {tier()}, seed 0 unless a recipe names another")
    first = next(iter(results.values()))
    for name, by_collection in results.items():
        print(f"\nrecipe {name}: {shlex.join(recipes[name]) or 'the defaults of inpars run'}")
        _print_table(by_collection, first if by_collection is not first else None)
    if failures:
        raise SystemExit("failed: " + "; ".join(failures))


def _parsed(recipe: str) -> tuple[str, list[str]]:
    name, _, settings = recipe.partition(":")
    return name.strip(), shlex.split(settings)


def _run(folder: Path, collection: str, settings: Sequence[str]) -> Result:
    dataset, _, split = collection.partition(":")
    output = folder / dataset.strip("/").replace("/", "-")
    started = time.monotonic()
    subprocess.run(
        [
            *(sys.executable, "-m", "inpars", "run", "--dataset", dataset, "--split", split or "test"),
            *("--output", str(output), *settings),
        ],
        check=True,
    )
    values = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["systems"]
    names = list(values)  # the order of a run's table: BM25, the encoder, their equal sum, ..., what is shipped
    chosen = dict(zip((*BASELINES, SHIPPED), (*names[: len(BASELINES)], names[-1]), strict=True))
    systems = {name: values[own]["per_query"][METRIC] for name, own in chosen.items()}
    return Result(Path(dataset).stem, systems, time.monotonic() - started)


def _print_table(results: Mapping[str, Result], first: Mapping[str, Result] | None) -> None:
    if not results:
        return
    width = max(len(result.collection) for result in results.values())
    names = (*BASELINES, SHIPPED)
    against = "over the first recipe" if first else ""
    print(f"{'':{width}} queries", *(f"{name:>9}" for name in names), "  over the best    over the sum  ", against)
    for collection, result in results.items():
        cells = [f"{result.mean(name):9.4f}" for name in names]
        gains = [result.gain_over(result.best_baseline), result.gain_over("equal sum")]
        if first and collection in first:
            gains.append(_gain(first[collection].systems[SHIPPED], result.systems[SHIPPED]))
        queries = len(result.systems[SHIPPED])
        print(f"{result.collection:{width}} {queries:7}", *cells, *map(_in_words, gains), f" {result.seconds:.0f} s")
    over_best = [result.gain_over(result.best_baseline) for result in results.values()]
    over_sum = [result.gain_over("equal sum") for result in results.values()]
    regrets = [max(0.0, -gain) for gain, _ in over_best]
    print(f"regret: mean {statistics.fmean(regrets):.4f}, largest {max(regrets):.4f}")
    print(f"gain over the equal sum: mean {statistics.fmean(gain for gain, _ in over_sum):+.4f}")
    certain = sum(gain > 0 and p_value is not None and p_value < LEVEL for gain, p_value in over_best)
    mean = statistics.fmean(gain for gain, _ in over_best)
    print(f"gain over the best of the three: mean {mean:+.4f}, p < {LEVEL} on {certain} of {len(results)}")


def _gain(baseline: Values, values: Values) -> tuple[float, float | None]:
    difference = compare(baseline, {SHIPPED: values})[SHIPPED]
    return difference.mean, difference.p_value


def _in_words(gain: tuple[float, float | None]) -> str:
    difference, p_value = gain
    return f"{difference:+8.4f} p " + (f"{p_value:.3f}" if p_value is not None else "   - ")


if __name__ == "__main__":
    main()
