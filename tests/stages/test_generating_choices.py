"""Options of the generate stage: examples of a collection, lists of ids, near-duplicates, canary, progress detail."""

import pytest
from tiny_models import sentence

from inpars.errors import BackendError, ConfigError
from inpars.generation import GeneratedQuery
from inpars.io.corpus import Corpus
from inpars.io.formats import read_synthetic_queries, write_documents
from inpars.io.topics import Topics
from inpars.progress import Silent
from inpars.prompts.templates import Example, Prompt
from inpars.records import Document
from inpars.stages.examples import example_query_ids, leave_out, read_ids, without_examples
from inpars.stages.generate import GenerateOptions, generate_queries, load_generator

EXAMPLES = (
    Example("a lake is water", "what is a lake?", doc_id="d3", query_id="q7"),
    Example("a hill is earth", "what is a hill?", doc_id="d5", query_id="q2"),
    Example("made up", "no ids"),
)
PLAIN = Prompt(name="plain", form="Document: {document}\nQuery: {query}")
PROMPT = PLAIN.with_examples(EXAMPLES)


class Watcher(Silent):
    def __init__(self):
        self.details, self.notes = [], []

    def advance(self, count, detail=""):
        self.details.append(detail)

    def note(self, message):
        self.notes.append(message)


class Writer:
    """Generates the same query for every document, or the document's id."""

    log_prob_kind, device = "raw", "abacus"

    def __init__(self, text="about {}"):
        self.name, self.text = "writer", text

    def plan(self, documents):
        return [list(range(start, min(start + 50, len(documents)))) for start in range(0, len(documents), 50)]

    def generate(self, documents):
        return [
            [GeneratedQuery(self.text.format(document.doc_id), (7,), (-1.5,), -0.5, "stop")] for document in documents
        ]


class Stage:
    def __init__(self, folder, count=8):
        self.folder, self.output, self.progress = folder, folder / "queries.jsonl", Watcher()
        documents = [Document(f"d{n}", sentence(n, 30)) for n in range(count)]
        write_documents(folder / "corpus.jsonl", [*documents, Document("twin", sentence(1, 30) + " more")])
        self.corpus = Corpus(folder / "corpus.jsonl", folder / "cache")

    def __call__(self, prompt=PLAIN, writer=None, **options):
        return generate_queries(
            self.corpus,
            prompt,
            GenerateOptions(model="writer", **options),
            output=self.output,
            make_generator=lambda: writer or Writer(),
            progress=self.progress,
        )

    def doc_ids(self):
        return [query.doc_id for query in read_synthetic_queries(self.output)]


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_examples_of_a_collection_get_no_query_and_their_queries_ids_are_written(stage):
    assert stage(PROMPT).dropped == {"prompt_example": 2}
    assert not {"d3", "d5"} & set(stage.doc_ids())
    ids = stage.output.with_name("queries.jsonl.example_query_ids.txt")
    assert ids.read_text(encoding="utf-8") == "q2\nq7\n"
    assert read_ids(ids) == example_query_ids(PROMPT) == ["q2", "q7"]
    stage(PLAIN)
    assert not ids.exists(), "a prompt without such examples leaves no list behind"


def test_the_toolkits_list_of_ids_is_read_too(tmp_path):
    path = tmp_path / "query_ids_to_remove_from_eval.tsv"
    path.write_text("q2\twhat is a hill?\nq7\twhat is a lake?\n", encoding="utf-8")
    assert read_ids(path) == ["q2", "q7"]


def test_topics_without_the_examples():
    topics = Topics("test", {"q1": "a", "q2": "b"}, {"q1": {"d1": 1}, "q2": {"d2": 1}})
    watcher = Watcher()
    left = without_examples(topics, PROMPT, watcher)
    assert (left.queries, left.qrels) == ({"q1": "a"}, {"q1": {"d1": 1}})
    assert watcher.notes == ["1 judged queries are left out: the prompt shows them as examples"]
    assert without_examples(topics, PLAIN, watcher) is topics
    with pytest.raises(ConfigError, match=r"all judged queries .*of the prompt"):
        leave_out(topics.qrels, {"q1", "q2"})


def test_documents_of_a_list(stage):
    path = stage.folder / "ids.txt"
    path.write_text("d6\nd1\n", encoding="utf-8")
    stage(doc_ids=path)
    assert stage.doc_ids() == ["d1", "d6"]
    path.write_text("d6\nunheard\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"1 of 2 ids of --doc-ids .*'unheard'"):
        stage(doc_ids=path)
    path.write_text("d3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no document is left .*\(9 dropped: not_listed 8, prompt_ex"):
        stage(PROMPT, doc_ids=path)


def test_near_duplicates_are_skipped_when_asked(stage):
    assert stage(skip_near_duplicates=True).dropped == {"near_duplicate": 1}
    assert len({"d1", "twin"} & set(stage.doc_ids())) == 1


@pytest.mark.parametrize("text", ["", "what is it?", "What is a lake?"])
def test_the_canary_stops_a_run_of_no_use(tmp_path, text):
    stage = Stage(tmp_path, 500)
    with pytest.raises(BackendError, match=r"of the last 200 queries .*unusable"):
        stage(PROMPT, Writer(text))
    partial = tmp_path / "queries.jsonl.partial"
    assert partial.read_text(encoding="utf-8").count('"query"') == 200, "what was written is kept"
    with pytest.raises(BackendError):
        stage(PROMPT, Writer(text))
    assert partial.read_text(encoding="utf-8").count('"query"') == 250, "the next part is enough to stop it again"
    stage(PROMPT, Writer(text), canary=False)
    assert len(stage.doc_ids()) == 499


def test_the_canary_lets_useful_queries_pass(tmp_path):
    stage = Stage(tmp_path, 400)
    stage(PROMPT)
    assert len(stage.doc_ids()) == 399
    assert stage.progress.details[-1] == "stop 100%, mean log-prob -1.50 | about twin"


@pytest.mark.parametrize("backend", ["causal", "seq2seq"])
def test_a_real_model_is_shown_each_documents_own_examples(stage, tiny, backend):
    from inpars.prompts.templates import PromptChoice

    kind = "llama" if backend == "causal" else "t5"
    common = {"max_new_tokens": 6, "device": "cpu", "dtype": "float32", "temperature": 0.0, "num_queries": 1}
    options = GenerateOptions(model=tiny(kind), backend=backend, max_doc_tokens=90, **common)
    choice = PromptChoice(PLAIN, EXAMPLES, "random", 1)
    documents = list(stage.corpus)
    together = load_generator(options, choice).generate(documents)
    for document, (query,) in zip(documents, together, strict=True):
        ((alone,),) = load_generator(options, choice.for_document(document)).generate([document])
        assert query.token_ids == alone.token_ids
        assert list(query.token_log_probs) == pytest.approx(list(alone.token_log_probs), abs=1e-4)
