"""Hold what the scripts beside this file measured against `expected.tsv`.

Exits with 1 where a number is out of tolerance, or none was measured:

python scripts/reproduce/check.py                       everything below runs/reproduce
python scripts/reproduce/check.py --experiment offline  one experiment
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
WITHIN, OUTSIDE, ABSENT = "within", "OUTSIDE", "not run"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="where experiments lie (%(default)s)")
    parser.add_argument("--experiment", help="this one alone")
    parser.add_argument("--folder", type=Path, help="where that one lies (default: its name below --runs)")
    flags = parser.parse_args()
    if flags.folder and not flags.experiment:
        parser.error("--folder is one experiment's; give --experiment too")
    rows = [row for row in read_expected() if flags.experiment in (None, row["experiment"])]
    verdicts = [verdict(row, flags.folder or flags.runs / row["experiment"]) for row in rows]
    print(f"{'experiment':10} {'dataset':36} {'system':16} {'measure':12} expected tolerance measured")
    for row, (word, value) in zip(rows, verdicts, strict=True):
        name = f"{row['experiment']:10} {row['dataset']:36} {row['system']:16} {row['measure']:12}"
        measured = "" if value is None else f"{value:8.4f}"
        print(f"{name} {row['expected']:>8} {row['tolerance']:>9} {measured:8} {word}")
    words = [word for word, _ in verdicts]
    print(f"{words.count(WITHIN)} within tolerance, {words.count(OUTSIDE)} outside, {words.count(ABSENT)} not run")
    sys.exit(OUTSIDE in words or WITHIN not in words)


def read_expected() -> list[dict[str, str]]:
    """The rows of the table."""
    with (HERE / "expected.tsv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def verdict(row: dict[str, str], folder: Path) -> tuple[str, float | None]:
    """Whether the measured number is within tolerance, and the number."""
    path = folder / row["dataset"] / "metrics.json"
    if not path.is_file():
        return ABSENT, None
    systems = json.loads(path.read_text(encoding="utf-8"))["systems"]
    value = systems.get(row["system"], {}).get("means", {}).get(row["measure"])
    if value is None:
        return ABSENT, None
    near = abs(value - float(row["expected"])) <= float(row["tolerance"]) + 1e-9
    return (WITHIN if near else OUTSIDE), value


if __name__ == "__main__":
    main()
