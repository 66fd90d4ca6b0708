"""The examples: scripts, run on a tiny folder with the embedded models, and notebooks generated from the scripts."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import pytest

from inpars.io.manifest import read_manifest
from inpars.models.folders import EMBEDDED
from inpars.retrieval.java import find_jar, find_java

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
SCRIPTS = sorted(EXAMPLES.glob("[0-9]_*.py"))
QUICKSTART = EXAMPLES / "quickstart.py"
TEXTS = """Honey hardens when glucose crystals form in it, and melts again in a bath of warm water.
The Dead Sea falls by a metre a year because the river Jordan is diverted to farms and towns.
A sourdough starter is fed with flour and water every day until it doubles within six hours.
Lithium batteries age faster when they are kept full in the heat than half full in a cool room.
Swifts sleep on the wing and may stay in the air for ten months before they nest again.
A violin's strings were made of sheep gut long before steel strings became common.
The printing press of Gutenberg used movable letters of lead, tin and antimony.
Glaciers carve valleys with round floors, while rivers cut valleys shaped like a letter V.""".splitlines()

needs_models = pytest.mark.skipif(
    not (EMBEDDED["smollm2-135m"].installed and EMBEDDED["minilm"].installed and find_jar() and find_java()),
    reason="needs the embedded models and pyserini with a Java (inpars doctor says how to install them)",
)


def squad(path):
    """The texts as paragraphs in SQuAD's format, each with a question."""
    paragraphs = []
    for number, text in enumerate(TEXTS):
        answer = {"text": text.split()[0], "answer_start": 0}
        question = {"id": str(number), "question": f"what about {text[:24].lower()}", "answers": [answer]}
        paragraphs.append({"context": text, "qas": [question]})
    data = [{"title": f"part {n}", "paragraphs": [paragraph]} for n, paragraph in enumerate(paragraphs)]
    path = path.with_suffix(".json")
    path.write_text(json.dumps({"data": data}), encoding="utf-8")
    return path


def folder(path):
    path.mkdir()
    for number, text in enumerate(TEXTS):
        (path / f"part{number}.md").write_text(f"# Part {number}\n\n{text}\n", encoding="utf-8")
    return path


@needs_models
@pytest.mark.parametrize(("make", "judged_by"), [(squad, "questions of people"), (folder, "synthetic queries that")])
def test_the_scripts_run_one_after_the_other(make, judged_by, new_cache, tmp_path, monkeypatch, capsys):
    documents = make(tmp_path / "documents")
    run = tmp_path / "run"
    settings = {"DOCUMENTS": str(documents), "RUN": str(run), "QUERY": "when do swifts sleep"}
    settings |= {
        "PASSAGES": "8",
        "DEV_SHARE": "0.3",
        "DEVICE": "cpu",
        "WRITER": "smollm2-135m",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    outputs = []
    for script in SCRIPTS:
        runpy.run_path(str(script))
        outputs.append(capsys.readouterr().out)
    prepared, tuned, applied = outputs
    assert "8 passages; left out: nothing" in prepared
    assert read_manifest(run / "triples.tsv").output.records > 0
    assert (run / "deploy" / "retriever" / "modules.json").exists()
    assert '"object": "embedding"' in tuned
    assert "nothing was made; add --yes to go on" in tuned
    assert "Swifts sleep on the wing" in applied
    assert judged_by in applied
    assert set(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["systems"]) >= {"run.base", "run.tuned"}


def test_there_are_three_and_each_is_named():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(SCRIPTS) == 3
    assert all(f"`{script.name}`" in readme for script in [QUICKSTART, *SCRIPTS])


@pytest.mark.slow
@needs_models
def test_the_quickstart_notebook_runs_as_it_stands(tmp_path, monkeypatch):
    """Executed in a kernel, on the documentation of Python's own library; the tables show as HTML."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PASSAGES", "12")
    monkeypatch.setenv("RUN", str(tmp_path / "run"))
    notebook = nbformat.read(QUICKSTART.with_suffix(".ipynb"), as_version=4)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=folder).execute()
    results = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    shown = "".join(data.get("text/html", "") for data in results)
    assert "nDCG@10" in shown
    assert all(name in shown for name in ("bm25", "minilm", "tuned", "bm25 + tuned"))
    assert (tmp_path / "run" / "retriever" / "modules.json").exists()


@pytest.mark.parametrize("script", [QUICKSTART, *SCRIPTS], ids=lambda path: path.stem)
def test_notebooks_are_the_scripts(script):
    """`python scripts/examples/make_notebooks.py` writes them."""
    if importlib.util.find_spec("jupytext") is None:
        pytest.skip("jupytext is not installed: pip install -e '.[notebooks]'")
    maker = runpy.run_path(str(EXAMPLES / "make_notebooks.py"))
    notebook = maker["notebook_of"](script)
    kept = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    assert [cell["source"] for cell in notebook.cells] == ["".join(cell["source"]) for cell in kept["cells"]]
    assert [cell["id"] for cell in notebook.cells] == [cell["id"] for cell in kept["cells"]]
    assert not any(cell.get("outputs") for cell in kept["cells"])


@pytest.mark.parametrize("script", [QUICKSTART, *SCRIPTS], ids=lambda path: path.stem)
def test_the_code_of_a_notebook_stands_in_its_script(script):
    cells = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    text = script.read_text(encoding="utf-8")
    codes = ["".join(cell["source"]).strip() for cell in cells if cell["cell_type"] == "code"]
    assert codes
    assert [code for code in codes if code not in text] == []
