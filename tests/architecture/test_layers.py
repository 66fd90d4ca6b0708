"""Imports go down only. What goes up today is listed below, and the lists may only shrink.

The rule: a module may import modules of its own package and of those above it in `LAYERS`, which is written from the
ground up. Imports inside functions and under `TYPE_CHECKING` count like all others (`import_graph.py` says why).
Because the order is a total one, a circle of packages always has an arrow in `UPWARD`. Circles of modules, those
within one package too, are a list of their own.
"""

from pathlib import Path

import pytest
from import_graph import ROOT, Import, circles, imports_of, layer_of, modules_of

LAYERS = """
    errors  records  json_text  batches  progress  console  options  data  provenance  usage
    packing  storage  runs  json_stream  fields  tables  record_files  judgements  formats  corpus_files  corpus
    manifest  topics
    extras  models  engines  documents  datasets
    filtering  prompting  generation
    retrieval  mining  scoring  reranking  fusion
    evaluation  training
    answering  interchange  reports
    stages  cluster  pipeline
    deploy  serve  remote  doctor
    commands  cli
    toolkit_commands  generate  filter  generate_triples  train  rerank  evaluate  __main__
"""

UPWARD = """
    documents.near_duplicates  filtering.filters
    extras                     models.embedded
    extras                     retrieval.java
    mining.triples             scoring
    models.card                filtering.guards
    models.exportable          scoring.cross_encoder
    models.exportable          scoring.loading
    models.exportable          scoring.monot5
    models.exportable          scoring.pair_model
    models.onnx_graphs         scoring.monot5
    models.onnx_graphs         scoring.pair_model
    options                    remote.names
    pipeline.commands          remote.names
    retrieval.dense            cluster.encoding
    retrieval.index_writing    cluster.encoding
    stages.columns             cluster.shards
    stages.estimating          cluster.estimates
    stages.exporting_models    deploy.card
    stages.generating          cluster.generating
    stages.generating          cluster.shard_folder
    stages.merging             cluster.shards
    stages.mining              cluster.options
    stages.reranking           cluster.reranking
    stages.reranking           cluster.shard_folder
    stages.retrieving          cluster.encoding
    stages.retrieving          cluster.options
    stages.scoring             cluster.scoring
    stages.scoring             cluster.shard_folder
    stages.scoring             cluster.shards
    stages.scoring             remote.names
    stages.sharding            cluster.options
    stages.sharding            cluster.shards
    stages.writing             cluster.shards
    stages.writing             remote.names
    training.reader            answering.judging
"""

CIRCLES = """
    cluster.encoding  retrieval.dense  retrieval.index_writing
    cluster.engine  cluster.session  cluster.work
    cluster.generating  stages.generating
    cluster.reranking  stages.reranking
    cluster.scoring  stages.scoring
    scoring  scoring.causal  scoring.cross_encoder  scoring.fused_t5  scoring.loading  scoring.monot5 \
        scoring.packed_likelihood  scoring.pair_model  scoring.query_likelihood  scoring.windows
"""


def listed(text: str) -> set[tuple[str, ...]]:
    return {tuple(f"inpars.{name}" for name in line.split()) for line in text.splitlines() if line.strip()}


def upward(imports: list[Import]) -> list[Import]:
    height = {name: place for place, name in enumerate(LAYERS.split())}
    above = len(height)  # a package that is not in the table stands above all, until it is put there
    return [
        one for one in imports if height.get(layer_of(one.imported), above) > height.get(layer_of(one.importer), above)
    ]


def faults(imports: list[Import], known: set[tuple[str, ...]], known_circles: set[tuple[str, ...]]) -> list[str]:
    """One line for each upward import or circle that is not listed, and for each entry of a list that is gone."""
    up = {one.pair: one for one in upward(imports)}
    found = [f"{one} (up, from {one.importer})" for pair, one in up.items() if pair not in known]
    found += [f"{' imports '.join(pair)} no more: remove it from UPWARD" for pair in sorted(known - up.keys())]
    groups = {tuple(group) for group in circles(imports)}
    for group in sorted(groups - known_circles):
        steps = [str(one) for one in imports if {*one.pair} <= {*group}]
        known_part = [other for other in known_circles if {*group} <= {*other}]
        smaller = "; it was part of a listed circle: shorten that entry of CIRCLES" if known_part else ""
        found.append(f"a circle of {', '.join(group)}{smaller}: {'; '.join(steps)}")
    found += [f"no circle of {', '.join(group)} any more: remove it from CIRCLES" for group in known_circles - groups]
    return found


def test_imports_go_down_but_for_those_listed():
    assert faults(imports_of(ROOT), listed(UPWARD), listed(CIRCLES)) == []


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
    assert faults(imports_of(small), set(), set()) == []


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
    up, circle = faults(imports_of(small), set(), set())
    assert up == f"{place} imports inpars.storage (up, from inpars.errors)"
    assert "circle of inpars.errors, inpars.storage" in circle
    assert place in circle
    assert "inpars/storage.py:1" in circle


def test_a_circle_within_a_package_is_named(small):
    write(small, "stages/two", "from inpars.stages import one\n")
    write(small, "stages/one", "def late():\n    from inpars.stages import two\n")
    (circle,) = faults(imports_of(small), set(), set())
    assert circle.startswith("a circle of inpars.stages.one, inpars.stages.two: inpars/stages/one.py:2 imports")


def test_entries_that_are_gone_must_leave_the_lists(small):
    known = {("inpars.errors", "inpars.storage")}
    assert faults(imports_of(small), known, known) == [
        "inpars.errors imports inpars.storage no more: remove it from UPWARD",
        "no circle of inpars.errors, inpars.storage any more: remove it from CIRCLES",
    ]


def test_a_circle_that_became_smaller_is_written_shorter(small):
    write(small, "errors", "import inpars.storage\n")
    known = {("inpars.errors", "inpars.records", "inpars.storage")}
    _, shorter, gone = faults(imports_of(small), set(), known)
    assert "shorten that entry of CIRCLES" in shorter
    assert "remove it from CIRCLES" in gone
