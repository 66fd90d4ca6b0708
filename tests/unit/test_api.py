"""The functions of `inpars`: the commands' work on names, files and records in memory."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import FunctionType

import pytest

import inpars
from inpars import api
from inpars.errors import ConfigError
from inpars.records import Document, SyntheticQuery

DOCUMENTS = [
    {"doc_id": "amber", "title": "Amber", "text": "Amber is fossilised tree resin."},
    {"doc_id": "basalt", "text": "Basalt is a dark volcanic rock formed by lava."},
    {"doc_id": "copper", "text": "Copper is a soft metal that conducts heat."},
]
QUERIES = {"q1": "metal that conducts heat", "q2": "fossilised resin"}
QRELS = {"q1": {"copper": 1}, "q2": {"amber": 1}}


@pytest.fixture(scope="module")
def data():
    return inpars.load_corpus(DOCUMENTS, queries=QUERIES, qrels=QRELS)


def query(number, doc_id, text, log_prob):
    return SyntheticQuery(f"{doc_id}-q{number}", doc_id, text, (log_prob,) * 3, -0.1, "stop", "raw", "inpars", "m")


def test_the_names_are_those_of_the_api():
    values = {name: value for name, value in vars(api).items() if isinstance(value, type | FunctionType)}
    defined = {name for name, value in values.items() if value.__module__ == api.__name__ and not name.startswith("_")}
    assert {*inpars.API} == (defined | {"load_prompt"}) - {"Evaluation", "Records", "Run"}
    assert {*inpars.API} <= {*dir(inpars)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        inpars.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_else():
    program = "import inpars, sys; print(sorted(name for name in sys.modules if name.startswith('inpars.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_documents_in_memory_are_a_collection(data):
    assert [document.doc_id for document in data.corpus] == ["amber", "basalt", "copper"]
    assert data.topics().queries == QUERIES
    assert inpars.load_corpus(["one text", "another"]).corpus["1"].text == "another"
    with pytest.raises(ConfigError, match="document 0"):
        inpars.load_corpus([{"body": "x"}])


def test_search_and_evaluate(data):
    run = inpars.search(data, "bm25", k=2, quiet=True)
    assert next(iter(run["q1"])) == "copper"
    other = {"q1": {"basalt": 2.0, "copper": 1.0}, "q2": {"amber": 1.0}}  # ranks 2 and 1
    result = inpars.evaluate({"bm25": run, "other": other}, data, metrics="RR@10", quiet=True)
    assert result.means == {"bm25": {"RR@10": 1.0}, "other": {"RR@10": 0.75}}
    assert "0.7500" in str(result)
    assert "0.7500" in result._repr_html_()


def test_a_run_that_was_changed_is_measured_as_it_is_now(data):
    run = inpars.search(data, "bm25", k=2, quiet=True)
    run["q1"] = {"basalt": 1.0}
    assert inpars.evaluate({"changed": run}, data, metrics="RR@10", quiet=True).means["changed"]["RR@10"] == 0.5


def test_queries_in_memory_are_filtered_and_mined(data):
    queries = [
        query(0, "amber", "what is old resin", -0.5),
        query(0, "basalt", "which rock comes from lava", -0.1),
        query(0, "copper", "which metal is soft and conducts", -0.9),
    ]
    kept = inpars.filter(queries, top_k=2, quiet=True)
    assert [one.doc_id for one in kept] == ["basalt", "amber"]
    assert "which rock comes from lava" in kept._repr_html_()
    kept.pop()  # what is mined for is what the list holds now
    triples = inpars.mine_negatives(kept, data, negatives="random", seed=1, quiet=True)
    [row] = triples
    assert (row.ids.positive_doc_id, row.ids.negative_doc_id in ("amber", "copper")) == ("basalt", True)


def test_generate_and_resume(data, tiny, tmp_path):
    (tmp_path / "form.txt").write_text("Document: {document}\nQuery: {query}\n")
    flags = {
        "model": str(tiny("llama")),
        "prompt": str(tmp_path / "form.txt"),
        "dtype": "float32",
        "max_new_tokens": 4,
        "max_doc_tokens": 32,
        "quiet": True,
    }
    queries = inpars.generate(data, output=tmp_path / "q.jsonl", **flags)
    assert sorted({one.doc_id for one in queries}) == ["amber", "basalt", "copper"]
    before = (tmp_path / "q.jsonl").stat().st_mtime_ns
    assert inpars.generate(data, output=tmp_path / "q.jsonl", **flags) == queries
    assert (tmp_path / "q.jsonl").stat().st_mtime_ns == before


def test_a_wrong_keyword_or_value_is_an_error(data):
    with pytest.raises(ConfigError, match=r"'max_docs'.*'max-documents'"):
        inpars.generate(data, max_docs=3)
    with pytest.raises(ConfigError, match="--k is 0"):
        inpars.search(data, k=0)
    with pytest.raises(ConfigError, match="--max-documents is 'x'"):
        inpars.generate(data, max_documents="x")


def test_to_pandas_has_a_row_per_result(data):
    pytest.importorskip("pandas")
    frame = inpars.search(data, "bm25", k=2, quiet=True).to_pandas()
    assert list(frame.columns) == ["query_id", "doc_id", "rank", "score"]
    assert frame["rank"].min() == 1


def test_the_python_of_the_documentation(capsys):
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "docs/python.md", "exec")
        assert {*re.findall(r"inpars\.(\w+)\(", block)} <= {*inpars.API}
    exec(blocks[1])
    assert "'nDCG@10': 1.0" in capsys.readouterr().out


def test_queries_without_judgements_are_searched():
    data = inpars.load_corpus(DOCUMENTS, queries={"q1": "metal that conducts heat"})
    assert next(iter(inpars.search(data, "bm25", k=1, quiet=True)["q1"])) == "copper"
    with pytest.raises(ConfigError, match="give queries"):
        inpars.load_corpus(DOCUMENTS, qrels=QRELS)


def test_a_run_of_other_queries_is_no_result(data):
    with pytest.raises(ConfigError, match="not a result"):
        inpars.evaluate({"foreign": {"q99": {"copper": 1.0}}}, data, quiet=True)


def test_a_prompt_that_was_changed_is_refused():
    prompt = inpars.load_prompt("inpars")
    assert api._prompt(prompt) == "inpars"
    with pytest.raises(ConfigError, match="YAML"):
        api._prompt(replace(prompt, form=prompt.form + " "))


class Frame:
    """The used part of a pandas frame's interface, without pandas."""

    columns = ("doc_id", "text", "title", 3)

    def to_dict(self, kind):
        assert kind == "records"
        return [{"doc_id": "a", "text": "amber is resin", "title": math.nan, 3: None}]

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    ("given", "documents"),
    [
        (Frame(), [Document("a", "amber is resin")]),
        ({"a": "one", 7: {"text": "two", "title": "T"}}, [Document("a", "one"), Document("7", "two", "T")]),
        ([{"doc_id": None, "text": "x"}, {"id": 5, "text": "y"}], [Document("0", "x"), Document("5", "y")]),
        ([{"text": "x", "metadata": {"source": "s"}}], [Document("0", "x", metadata={"source": "s"})]),
    ],
)
def test_documents_in_the_forms_that_notebooks_have(given, documents):
    corpus = inpars.load_corpus(given).corpus
    assert list(corpus) == documents


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{"text": None}], "document 0: its text is None"),
        ([{"text": "x"}, {"text": math.nan}], "document 1: its text is nan"),
        ([{"text": ["x", "y"]}], "which is no text"),
        ([{"text": "x", "metadata": "y"}], "which is no dict"),
        ([1, 2], "document 0 is of type int"),
        (None, "not NoneType"),
        (5, "not int"),
        (b"x", "not bytes"),
    ],
)
def test_what_is_no_collection_is_refused(given, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        inpars.load_corpus(given)


@pytest.mark.parametrize(
    ("runs", "said"), [({"a/b": {"q1": {"0": 1.0}}}, "'a/b' cannot name"), ({"a": "x.trec"}, "not str")]
)
def test_what_is_no_ranking_is_refused(runs, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        inpars.evaluate(runs, inpars.load_corpus(DOCUMENTS, queries=QUERIES, qrels=QRELS))


def test_no_retriever_is_not_bm25():
    with pytest.raises(ConfigError, match="no retriever"):
        inpars.search(["one text"], [])


@pytest.mark.parametrize("given", [{"queries": ["q"]}, {"queries": QUERIES, "qrels": [("q1", "copper", 1)]}])
def test_topics_are_dicts(given):
    with pytest.raises(ConfigError, match=r"dict.*not list"):
        inpars.load_corpus(DOCUMENTS, **given)


def test_ids_may_be_numbers():
    data = inpars.load_corpus(["one", "two"], queries={1: "one"}, qrels={1: {0: 1}})
    assert (data.topics().queries, data.topics().qrels) == ({"1": "one"}, {"1": {"0": 1}})


@pytest.mark.parametrize(("given", "kind"), [(["a"], "str"), (None, "NoneType")])
def test_what_are_no_queries_is_refused(given, kind):
    with pytest.raises(ConfigError, match=f"not {kind}"):
        inpars.filter(given)


@pytest.mark.parametrize("folder", [None, 5])
def test_a_system_has_a_folder(folder):
    with pytest.raises(ConfigError, match="folder of a run"):
        inpars.System.load(folder)
