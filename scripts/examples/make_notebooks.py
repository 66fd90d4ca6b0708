"""Notebooks from the examples: `python scripts/examples/make_notebooks.py [--execute]`.

`quickstart.py` and each `N_name.py` beside this file, in the percent format that editors and Jupyter know too, become
notebooks. The same script gives the same bytes, so that a test can tell whether a notebook is up to date. With
--execute they are run in their order, without a browser, in --folder, and written there with what they showed; one that
fails ends it.

    pip install -e '.[notebooks]'
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main() -> None:
    """Write, and run where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--execute", action="store_true", help="run them; the variables of the scripts apply")
    parser.add_argument("--folder", type=Path, default=Path(), help="where they run (default: the current folder)")
    flags = parser.parse_args()
    for script in scripts():
        notebook = notebook_of(script)
        target = script.with_suffix(".ipynb")
        if flags.execute:
            run(notebook, flags.folder)
            target = flags.folder / target.name
        nbformat.write(notebook, target)
        print(target)


def scripts() -> list[Path]:
    """The examples in their order."""
    return [HERE / "quickstart.py", *sorted(HERE.glob("[0-9]_*.py"))]


def notebook_of(script: Path) -> nbformat.NotebookNode:
    """A script's notebook, without outputs; cells are numbered, as their ids would be random."""
    notebook = jupytext.read(script)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"{script.stem.replace('_', '-')}-{number}"
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    return notebook


def run(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell; raises where one does."""
    from nbclient import NotebookClient

    folder.mkdir(parents=True, exist_ok=True)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}}).execute()


if __name__ == "__main__":
    main()
