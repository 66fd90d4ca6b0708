"""Imports go down only, and no modules import each other in a circle.

The rule: a module may import modules of its own package and of those above it in `LAYERS`, which is written from the
ground up. Imports inside functions and under `TYPE_CHECKING` count like all others (`import_graph.py` says why).
"""

from pathlib import Path

import pytest
from import_graph import ROOT, Import, circles, imports_of, layer_of, modules_of

LAYERS = """
    errors  records  protocols  text  cache
    json_text  batches  progress  console  options  data  provenance  usage  config_files  tracking
    packing  storage  runs  json_stream  fields  tables  record_files  judgements  formats  corpus_files  corpus
    manifest  model_judgements  topics
    models  engines  documents  datasets
    filtering  prompts  generation
    retrieval  extras  pairs  negatives  rerankers  scoring  cards  export  fusion
    evaluation  training
    qa  interchange  reports  judging  stores
    stages  distributed  pipeline
    deploy  serve  remote  doctor
    commands  cli  api  integrations
    toolkit_commands  generate  filter  generate_triples  train  rerank  evaluate  __main__
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
    """A package of three files: stages above storage above errors, and nothing wrong."""
    (tmp_path / "inpars" / "stages").mkdir(parents=True)
    write(tmp_path, "errors", "")
    write(tmp_path, "storage", "from inpars.errors import InparsError\n")
    write(tmp_path, "stages/__init__", "")
    write(tmp_path, "stages/one", "import os\nfrom inpars import storage\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / "inpars" / f"{name}.py").write_text(text)


def test_a_package_with_nothing_wrong(small):
    assert [one.pair for one in imports_of(small)] == [
        ("inpars.stages.one", "inpars.storage"),
        ("inpars.storage", "inpars.errors"),
    ]
    assert faults(imports_of(small)) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import inpars.storage\n", 1),
        ("from inpars.storage import read_lines\n", 1),
        ("from inpars import storage\n", 1),
        ("\n\ndef late():\n    from inpars.storage import read_lines\n", 4),
        ("if TYPE_CHECKING:\n    from inpars.storage import read_lines\n", 2),
    ],
)
def test_an_import_that_goes_up_is_named_with_its_line(small, text, line):
    write(small, "errors", text)
    place = f"inpars/errors.py:{line}"
    up, circle = faults(imports_of(small))
    assert up == f"{place} imports inpars.storage (up, from inpars.errors)"
    assert "circle of inpars.errors, inpars.storage" in circle
    assert place in circle
    assert "inpars/storage.py:1" in circle


def test_a_circle_within_a_package_is_named(small):
    write(small, "stages/two", "from inpars.stages import one\n")
    write(small, "stages/one", "def late():\n    from inpars.stages import two\n")
    (circle,) = faults(imports_of(small))
    assert circle.startswith("a circle of inpars.stages.one, inpars.stages.two: inpars/stages/one.py:2 imports")
