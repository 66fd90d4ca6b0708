import importlib
import json
import logging
import re
import shutil
import subprocess
import sys
import types
import warnings

import pytest

from inpars.documents import docstrings, python_docs
from inpars.documents.python_docs import cache_key, documents, qrels, queries
from inpars.errors import BackendError
from inpars.records import Document

COPIED_RUN = 4  # words in a row that a query may not share with a document judged relevant to it


@pytest.fixture(scope="module")
def corpus() -> dict[str, Document]:
    return {document.doc_id: document for document in documents()}


def runs_of_words(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + COPIED_RUN]) for start in range(len(words) - COPIED_RUN + 1)}


def test_ids_and_texts_are_unique_and_ordered():
    collected = list(documents())
    ids = [document.doc_id for document in collected]
    assert ids == sorted(set(ids))
    assert len({document.text for document in collected}) == len(collected)
    assert 2500 < len(collected) < 6000


def test_documents_are_named_as_they_are_typed(corpus):
    expected = "os.path.join sorted str.split collections.OrderedDict random.randint socket.socket.listen os.kill "
    expected += "asyncio.TaskGroup unittest.main functools.partial property multiprocessing.Pool pathlib.PurePath.stem"
    assert set(expected.split()) <= corpus.keys()
    internal = re.compile(r"(^|\.)_|^(builtins\.|posixpath|ntpath|genericpath|posix|test|idlelib|tkinter\b)")
    assert [doc_id for doc_id in corpus if internal.search(doc_id)] == []


def test_inherited_and_reexported_docstrings_stay_with_their_owner(corpus):
    assert "pathlib.Path.with_suffix" not in corpus  # PurePath's
    assert "random.Random.randint" not in corpus  # random.randint says the same
    assert "concurrent.futures.thread.ThreadPoolExecutor" not in corpus
    assert "collections.Counter.get" not in corpus  # dict's


def test_texts_say_something_and_end_in_time(corpus):
    assert all(docstrings.MAX_CHARACTERS >= len(document.text) > 0 for document in corpus.values())
    assert "KeyError" in corpus["dict.pop"].text
    assert not any(document.text.startswith((" ", "Initialize self.")) for document in corpus.values())
    assert not any(" at 0x" in document.full_text for document in corpus.values())


def test_titles_carry_short_signatures(corpus):
    assert corpus["shutil.which"].title == "shutil.which(cmd, mode, path)"
    assert corpus["functools.wraps"].title == "functools.wraps(wrapped, assigned, updated)"
    assert corpus["shutil"].title == "shutil"


def test_constructor_documentation_follows_the_class(corpus):
    assert "max_workers" in corpus["concurrent.futures.ThreadPoolExecutor"].text


def test_a_long_docstring_ends_after_a_whole_paragraph():
    paragraph = "word " * 100 + "end."  # 504 characters; two and the blank lines between are 1010, three 1516
    assert docstrings._text("\n\n".join([paragraph] * 4)) == f"{paragraph}\n\n{paragraph}"
    assert len(docstrings._text("word " * 1000)) <= docstrings.MAX_CHARACTERS


def test_documents_are_the_same_whatever_this_process_has_changed(monkeypatch, corpus):
    # transformers adds methods to logging.Logger, torch replaces inspect.getfile, pytest pdb.set_trace
    monkeypatch.setattr(shutil, "which", lambda: None)
    monkeypatch.setattr(logging.Logger, "info_once", logging.Logger.info, raising=False)
    assert list(documents()) == list(corpus.values())


def test_documents_do_not_depend_on_the_hash_seed_and_nothing_else_is_printed(corpus):
    for seed in ("1", "2"):
        command = [sys.executable, "-S", "-W", "error", docstrings.__file__]
        done = subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [Document(doc_id, text, title) for doc_id, title, text in rows] == list(corpus.values())


def test_a_module_that_fails_or_exits_when_imported_is_left_out(monkeypatch, capfd):
    def import_module(name: str) -> types.ModuleType:
        print("hello from", name)
        warnings.warn(f"{name} is old", DeprecationWarning, stacklevel=2)
        if name == "shutil":
            raise SystemExit(3)
        if name == "sqlite3":
            raise RuntimeError("not here")
        return importlib.__import__(name, fromlist=["x"])

    monkeypatch.setattr(docstrings.importlib, "import_module", import_module)
    monkeypatch.setattr(sys, "stdlib_module_names", {"json", "shutil", "sqlite3", "this", "_json", "tkinter"})
    names = {name for name, _, _ in docstrings.collect()}
    assert {"json", "json.dumps"} <= names
    assert {name.split(".")[0] for name in names} == {"json", "os"}  # os.path is always there
    assert capfd.readouterr() == ("", "")


def test_an_interpreter_that_cannot_be_started_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(python_docs.sys, "executable", "/no/such/python")
    with pytest.raises(BackendError, match=r"its own documentation .*/no/such/python.*; run `"):
        documents()


def test_an_interpreter_that_fails_says_why():
    with pytest.raises(BackendError, match=r"\(ValueError: no luck\)"):
        python_docs._output_of([sys.executable, "-I", "-S", "-c", "raise ValueError('no luck')"])


def test_queries_are_many_distinct_and_split_without_overlap():
    dev, test = queries("dev"), queries("test")
    assert len(dev) >= 60
    assert len(test) >= 100
    assert not {query.query_id for query in dev} & {query.query_id for query in test}
    assert len({query.text.lower() for query in queries()}) == len(dev) + len(test)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_every_query_has_an_answer_in_this_python(split, corpus):
    judged, missing = qrels(split, corpus)
    assert judged.keys() == {query.query_id for query in queries(split)}
    assert {grade for grades in judged.values() for grade in grades.values()} == {1, 2}
    assert all(doc_id in corpus for grades in judged.values() for doc_id in grades)
    assert not set(missing) & corpus.keys()
    assert len(missing) < 15  # names of other Python versions


def test_judged_ids_this_python_lacks_are_reported_and_left_out():
    judged_ids = {doc_id for grades in qrels("test", AnyId())[0].values() for doc_id in grades}
    judged, missing = qrels("test", {"shutil.copytree"})
    assert {doc_id for grades in judged.values() for doc_id in grades} == {"shutil.copytree"}
    assert missing == sorted(judged_ids - {"shutil.copytree"})


class AnyId:
    """A collection that has every id."""

    def __contains__(self, doc_id: object) -> bool:
        return True


@pytest.mark.parametrize("split", ["dev", "test"])
def test_queries_are_not_copied_from_the_documents_that_answer_them(split, corpus):
    judged, _ = qrels(split, corpus)
    copied = [
        (query.text, doc_id)
        for query in queries(split)
        for doc_id in judged[query.query_id]
        if runs_of_words(query.text) & runs_of_words(corpus[doc_id].text)
    ]
    assert copied == []


def test_cache_key_names_the_python_version():
    assert "python-docs" in cache_key()
    assert ".".join(map(str, sys.version_info[:3])) in cache_key()
