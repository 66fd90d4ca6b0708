"""Imports go down only, and no modules import each other in a circle.

The rule: a module may import modules of its own package and of those above it in `LAYERS`, which is written from the
ground up. Imports inside functions and under `TYPE_CHECKING` count like all others (`import_graph.py` says why).
"""

from pathlib import Path

import pytest
from import_graph import ROOT, Import, circles, imports_of, layer_of, modules_of

LAYERS = """
    errors  records  protocols  text  cache
    batches  progress  console  options  data  provenance  tracking
    io
    models  engines  documents
    filtering  prompts  generation
    retrieval  extras  pairs  negatives  rerankers  scoring  cards  fusion
    evaluation  training
    report  judging
    stages  distributed  pipeline
    apps  contrib
    cli  api  integrations
    toolkit
    generate  filter  generate_triples  train  rerank  evaluate  __main__
"""


def upward(imports: list[Import]) -> list[Import]:
    height = {name: place for place, name in enumerate(LAYERS.split())}
    above = len(height)  # a package that is not in the table stands above all, until it is put there
    return [
        one for one in imports if height.get(layer_of(one.imported), above) > height.get(layer_of(one.importer), above)
    ]


def faults(imports: list[Import]) -> list[str]:
    """One line for each import that goes up and for each circle of modules."""
    found = [f"{one} (up, from {one.importer})" for one in upward(imports)]
    for group in circles(imports):
        steps = [str(one) for one in imports if {*one.pair} <= {*group}]
        found.append(f"a circle of {', '.join(group)}: {'; '.join(steps)}")
    return found


def test_imports_go_down():
    assert faults(imports_of(ROOT)) == []


def test_every_package_has_its_layer():
    """A package that is new is put into LAYERS, at its height; one that is gone is taken out."""
    names = LAYERS.split()
    assert len(names) == len(set(names))
    assert {layer_of(module) for module in modules_of(ROOT)} - {"inpars"} == set(names)


@pytest.fixture
def small(tmp_path):
    """A package of three files: stages above progress above errors, and nothing wrong."""
    (tmp_path / "inpars" / "stages").mkdir(parents=True)
    write(tmp_path, "errors", "")
    write(tmp_path, "progress", "from inpars.errors import InparsError\n")
    write(tmp_path, "stages/__init__", "")
    write(tmp_path, "stages/one", "import os\nfrom inpars import progress\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / "inpars" / f"{name}.py").write_text(text)


def test_a_package_with_nothing_wrong(small):
    assert [one.pair for one in imports_of(small)] == [
        ("inpars.progress", "inpars.errors"),
        ("inpars.stages.one", "inpars.progress"),
    ]
    assert faults(imports_of(small)) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import inpars.progress\n", 1),
        ("from inpars.progress import read_lines\n", 1),
        ("from inpars import progress\n", 1),
        ("\n\ndef late():\n    from inpars.progress import read_lines\n", 4),
        ("if TYPE_CHECKING:\n    from inpars.progress import read_lines\n", 2),
    ],
)
def test_an_import_that_goes_up_is_named_with_its_line(small, text, line):
    write(small, "errors", text)
    place = f"inpars/errors.py:{line}"
    up, circle = faults(imports_of(small))
    assert up == f"{place} imports inpars.progress (up, from inpars.errors)"
    assert "circle of inpars.errors, inpars.progress" in circle
    assert place in circle
    assert "inpars/progress.py:1" in circle


def test_a_circle_within_a_package_is_named(small):
    write(small, "stages/two", "from inpars.stages import one\n")
    write(small, "stages/one", "def late():\n    from inpars.stages import two\n")
    (circle,) = faults(imports_of(small))
    assert circle.startswith("a circle of inpars.stages.one, inpars.stages.two: inpars/stages/one.py:2 imports")
