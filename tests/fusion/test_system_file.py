"""A run's system.json as a file that people may have touched."""

import json

import pytest

from inpars.errors import DataFormatError
from inpars.fusion.gate import PRIOR
from inpars.fusion.system import BM25, SYSTEM_FILE, FirstStage, Reranking, SearchSystem, read_system, write_system

SYSTEM = SearchSystem(
    stages=(
        FirstStage(name="bm25", retriever=BM25, weight=0.5),
        FirstStage(name="whole", retriever="minilm", weight=0.5),
    ),
    gate=PRIOR,
    reranking=Reranking(model="smollm2-135m", depth=20),
    k1=0.9,
    b=0.4,
    language="en",
)


def changed(folder, change):
    path = write_system(SYSTEM, folder)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return folder


def test_what_is_written_is_read(tmp_path):
    assert read_system(changed(tmp_path, lambda values: None)) == SYSTEM


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.update(k1="x"), "k1 is 'x'"),
        (lambda values: values.update(b=True), "b is True"),
        (lambda values: values.update(fusion_depth=0), "fusion_depth is 0"),
        (lambda values: values["reranking"].update(depth="a"), "depth is 'a'"),
        (lambda values: values["reranking"].update(depth=-1), "depth is -1"),
        (lambda values: values.update(stages=[]), "not a search system"),
    ],
)
def test_broken_values_are_named(tmp_path, change, said):
    with pytest.raises(DataFormatError, match=said):
        read_system(changed(tmp_path, change))


def test_a_folder_in_its_place_is_named(tmp_path):
    (tmp_path / SYSTEM_FILE).mkdir()
    with pytest.raises(DataFormatError, match="not a file"):
        read_system(tmp_path)
