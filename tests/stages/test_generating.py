"""The generate stage: order, skipping, and resuming after any interruption with the same bytes."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import sentence

from inpars.errors import BackendError, ConfigError
from inpars.generation import GeneratedQuery
from inpars.io.corpus import Corpus
from inpars.io.formats import read_synthetic_queries, write_documents
from inpars.io.manifest import manifest_path
from inpars.progress import Silent
from inpars.prompts.templates import Prompt
from inpars.records import Document
from inpars.stages.generate import GenerateOptions, generate_queries, load_generator

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}", stop=("\n", "a"))
DOCUMENTS = [Document(f"d{number}", sentence(number, 2 + number * 5 % 7), f"Title {number}") for number in range(11)]
DOCUMENTS[4] = Document("d4", "")
CHUNK = 3


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


class Writer:
    """Asks which word comes first; raises once it has written `chunks` chunks."""

    name, log_prob_kind, device = "writer", "raw", "abacus"

    def __init__(self, chunks=99, per_document=1, size=CHUNK):
        self.chunks, self.per_document, self.size, self.written = chunks, per_document, size, []

    def plan(self, documents):
        order = sorted(range(len(documents)), key=lambda position: (len(documents[position].text), position))
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]

    def generate(self, documents):
        if self.chunks == 0:
            raise BackendError("the power is gone")
        self.chunks -= 1
        self.written += [document.doc_id for document in documents]
        return [[self._query(document, number) for number in range(self.per_document)] for document in documents]

    def _query(self, document, number):
        text = f"what is «{document.text.split()[number]}»?"
        return GeneratedQuery(text, (7, 8), (-0.25, -1.0 / 3), -0.5, "stop")


class Stage:
    """The stage over one corpus; arguments are what may differ between two runs."""

    def __init__(self, folder):
        self.folder, self.output = folder, folder / "queries.jsonl"
        self.partial = folder / "queries.jsonl.partial"
        self.progress = Notes()
        write_documents(folder / "corpus.jsonl", DOCUMENTS)
        self.corpus = Corpus(folder / "corpus.jsonl", folder / "cache")

    def __call__(self, writer=None, prompt=PROMPT, options=None, **settings):
        return generate_queries(
            self.corpus,
            prompt,
            options or GenerateOptions(model="writer"),
            output=self.output,
            make_generator=lambda: writer or Writer(),
            progress=self.progress,
            **settings,
        )

    def interrupted(self, chunks):
        with pytest.raises(BackendError):
            self(Writer(chunks))
        assert not self.output.exists()
        return self.partial.read_bytes()


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("undisturbed"))
    stage()
    return stage.output.read_bytes()


def test_the_output_is_in_the_order_of_the_corpus(stage):
    manifest = stage()
    queries = list(read_synthetic_queries(stage.output))
    assert [query.doc_id for query in queries] == [d.doc_id for d in DOCUMENTS if d.text]
    assert [query.query_id for query in queries] == [f"{query.doc_id}-q0" for query in queries]
    assert queries[0].text == f"what is «{DOCUMENTS[0].text.split()[0]}»?"
    assert queries[0].token_log_probs == (-0.25, pytest.approx(-1 / 3, abs=1e-6))
    assert (queries[0].stop_log_prob, queries[0].token_ids, queries[0].prompt) == (-0.5, (7, 8), "test")
    first = json.loads(stage.output.read_text(encoding="utf-8").splitlines()[0])
    assert first["text"] == DOCUMENTS[0].full_text, "what the toolkit's files carry too"
    assert (manifest.output.records, manifest.results, manifest.device) == (10, {"documents": 10}, "abacus")
    assert not stage.partial.exists()


def test_documents_with_no_text_are_counted_out(stage):
    write_documents(stage.folder / "blank.jsonl", [*DOCUMENTS[:2], Document("blank", " \t")])
    stage.corpus = Corpus(stage.folder / "blank.jsonl", stage.folder / "cache")
    manifest = stage()
    assert (manifest.output.records, manifest.dropped) == (2, {"too_short": 1})


def test_no_document_left_is_an_error_that_says_so(stage):
    with pytest.raises(ConfigError, match="none of the 11 documents has 9999 characters of text; lower"):
        stage(options=GenerateOptions(model="writer", min_doc_characters=9999))


@pytest.mark.parametrize("chunks", range(4))
def test_an_interrupted_run_goes_on_where_it_stopped(stage, undisturbed, chunks):
    stage.interrupted(chunks)
    writer = Writer()
    stage(writer)
    assert stage.output.read_bytes() == undisturbed
    assert len(writer.written) == 10 - chunks * CHUNK, "nothing is written twice"
    assert any("resuming" in note for note in stage.progress.notes)


@given(st.integers(0, 5000), st.binary(max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_a_partial_file_torn_at_any_byte_gives_the_same_bytes(tmp_path_factory, undisturbed, position, noise):
    stage = Stage(tmp_path_factory.mktemp("torn"))
    whole = stage.interrupted(3)
    # cut anywhere, and of the last line only a piece of noise reached the disk
    stage.partial.write_bytes(whole[: position % (len(whole) + 1)] + noise.replace(b"\n", b""))
    stage()
    assert stage.output.read_bytes() == undisturbed


@pytest.mark.parametrize(
    "change",
    [
        {"options": GenerateOptions(model="writer", max_new_tokens=32)},
        {"options": GenerateOptions(model="another")},
        {"prompt": Prompt(name="test", form="Text: {document}\nQuestion: {query}")},
    ],
    ids=["setting", "model", "prompt"],
)
def test_other_settings_begin_anew(stage, change):
    stage.interrupted(2)
    writer = Writer()
    stage(writer, **change)
    assert len(writer.written) == 10
    assert any("settings or inputs changed" in note for note in stage.progress.notes)


@pytest.mark.parametrize("change", [{"batch_size": 3}, {"threads": 1}, {"device": "cpu"}])
def test_settings_of_speed_do_not(stage, undisturbed, change):
    stage.interrupted(2)
    writer = Writer()
    stage(writer, options=GenerateOptions(model="writer", **change))
    assert len(writer.written) == 4
    assert stage.output.read_bytes() == undisturbed


def test_what_is_finished_is_skipped_without_a_generator(stage):
    first = stage()
    again = generate_queries(
        stage.corpus,
        PROMPT,
        GenerateOptions(model="writer"),
        output=stage.output,
        make_generator=lambda: pytest.fail("the model is loaded for nothing"),
        progress=stage.progress,
    )
    assert again == first
    assert stage.progress.notes[-1].endswith("up to date, skipped")


def test_overwrite_and_a_lost_manifest_write_again(stage, undisturbed):
    stage()
    for settings_again in ({"overwrite": True}, {}):
        if not settings_again:
            manifest_path(stage.output).unlink()
        writer = Writer()
        stage(writer, **settings_again)
        assert len(writer.written) == 10
        assert stage.output.read_bytes() == undisturbed


def test_several_queries_a_document(stage):
    stage(Writer(per_document=2))
    queries = list(read_synthetic_queries(stage.output))
    assert [query.query_id for query in queries][:4] == ["d0-q0", "d0-q1", "d1-q0", "d1-q1"]


def test_several_queries_a_document_go_on_too(stage):
    stage(Writer(per_document=2))
    expected = stage.output.read_bytes()
    with pytest.raises(BackendError):
        stage(Writer(2, per_document=2), overwrite=True)
    writer = Writer(per_document=2)
    stage(writer, overwrite=True)
    assert stage.output.read_bytes() == expected
    assert len(writer.written) == 10 - 2 * CHUNK


def test_a_document_without_a_query_is_left_out(stage, monkeypatch):
    writer = Writer()
    monkeypatch.setattr(writer, "generate", lambda documents: [[] for _ in documents])
    assert stage(writer).output.records == 0


@pytest.mark.parametrize(("size", "left"), [(2, 4), (1, 4), (4, 10), (6, 4), (99, 10)])
def test_chunks_of_another_size_as_on_another_device_are_gone_on_with(stage, undisturbed, size, left):
    # 6 of 10 documents are done, in two chunks of 3: three chunks of 2 or six of 1 are done, none of 4, one of 6
    stage.interrupted(2)
    writer = Writer(size=size)
    stage(writer)
    assert len(writer.written) == left
    assert stage.output.read_bytes() == undisturbed


def test_toolkit_fault_a_crash_near_the_end_loses_everything(stage):
    records = [json.loads(line) for line in stage.interrupted(3).decode().splitlines()]
    assert len([record for record in records if "query" in record]) == 3 * CHUNK


@pytest.mark.parametrize("batch_size", [2, 9])
def test_a_real_model_interrupted_and_gone_on_with_writes_the_same_bytes(stage, tiny, monkeypatch, batch_size):
    monkeypatch.setattr("inpars.generation.causal_lm.CHUNK_DOCUMENTS", {"cpu": 4})
    options = GenerateOptions(
        model=tiny("llama"), max_doc_tokens=16, max_new_tokens=8, dtype="float32", device="cpu", batch_size=batch_size
    )
    stage(load_generator(options, PROMPT), options=options)
    expected = stage.output.read_bytes()
    broken = load_generator(options, PROMPT)
    decode, calls = broken.generate, []

    def generate(documents):
        if calls:
            raise BackendError("the power is gone")
        calls.append(documents)
        return decode(documents)

    monkeypatch.setattr(broken, "generate", generate)
    with pytest.raises(BackendError):
        stage(broken, options=options, overwrite=True)
    with stage.partial.open("ab") as stream:
        stream.write(b'{"query_id": "d')
    stage(load_generator(options, PROMPT), options=options, overwrite=True)
    assert stage.output.read_bytes() == expected
    assert {query.finish_reason for query in read_synthetic_queries(stage.output)} == {"stop", "length"}
