"""The Batch API: nothing is sent twice, whatever is interrupted, and answers come in any order."""

import json

import pytest
from fake_api import KEY, PRICES, FakeApi, document, query_of, usd_of_one

from inpars.errors import BackendError, ConfigError, DataFormatError
from inpars.generation.api import batch as api_batch
from inpars.generation.api import client as api_client
from inpars.generation.api.batch import Batches, state_path
from inpars.generation.api.journal import journal_path
from inpars.generation.api.options import ApiOptions
from inpars.generation.settings import DecodingSettings
from inpars.prompts.templates import Prompt
from inpars.stages.generate_by_api import open_server, query_requests

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}")
DOCUMENTS = [document(number) for number in range(100)]
EXPECTED = [query_of(number) for number in range(100)]


class PowerError(Exception):
    """The power is gone."""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(api_client, "FIRST_DELAY_SECONDS", 0.01)
    (tmp_path / "prices.yaml").write_text(PRICES + "batch_factor: 0.5\n", encoding="utf-8")


@pytest.fixture
def write(tmp_path):
    def call(api, documents=DOCUMENTS, endpoint="completions", *, batch=True, max_new_tokens=8, **options):
        options = ApiOptions(
            base_url=api.url, price_file=tmp_path / "prices.yaml", batch=batch, poll_seconds=0.0, **options
        )
        settings, output = DecodingSettings(max_new_tokens=max_new_tokens), tmp_path / "q.jsonl"
        call.generator = open_server(query_requests(endpoint, "fake", PROMPT, settings, options), options, output)
        written = []
        try:
            for chunk in call.generator.plan(documents):
                written += call.generator.generate([documents[position] for position in chunk])
        finally:
            call.generator.close()
        return [query.text for (query,) in written]

    call.state, call.journal = state_path(tmp_path / "q.jsonl"), journal_path(tmp_path / "q.jsonl")
    return call


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_one_batch_and_answers_in_any_order(write, endpoint):
    with FakeApi() as api:
        assert write(api, endpoint=endpoint) == EXPECTED
        assert len(api.batches) == 1
        assert set(api.answered.values()) == {1}
        assert write(api, endpoint=endpoint) == EXPECTED
        assert len(api.batches) == 1
    # half the price of single requests
    assert write.generator.results()["usd"] == pytest.approx(100 * usd_of_one() / 2)


def test_lines_that_failed_are_sent_again(write):
    def fault(number, attempt):
        return {3: (500, "oops"), 5: "broken", 7: "expired", 9: (429, "limit")}.get(number) if attempt < 2 else None

    with FakeApi(fault) as api:
        assert write(api) == EXPECTED
        assert len(api.batches) == 3
        assert {number for number, asked in api.asked.items() if asked > 1} == {3, 5, 7, 9}
        assert set(api.answered.values()) == {1}


def test_lines_that_fail_every_time_are_told(write):
    with FakeApi(lambda number, _: (500, f"oops {KEY}") if number == 3 else None) as api:
        with pytest.raises(BackendError, match=r"1 of 100 requests have no answer after 4 .*oops \[key\].*again"):
            write(api)
        api.fault = lambda number, attempt: None
        assert write(api) == EXPECTED
        assert (len(api.batches), api.answered[3]) == (5, 1)


def test_refused_lines_become_rows(write):
    with FakeApi(lambda number, _: (400, "filtered") if number == 3 else None) as api:
        written = write(api)
        assert written[:5] == [*EXPECTED[:3], "", EXPECTED[4]]
        assert len(api.batches) == 1


def test_a_server_that_refuses_everything(write):
    with FakeApi(lambda *_: (400, "no such model")) as api:
        with pytest.raises(BackendError, match=r"refuses every request \(status 400: no such model\)"):
            write(api)
        assert len(api.batches) == 1


POINTS = ("_write_state", "_marked", "_send", "_ended", "_collect")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_interrupted_anywhere_nothing_is_sent_twice(write, monkeypatch, point, nth, after):
    """The power goes just before or just after every step."""
    calls, step = [], getattr(Batches, point)

    def failing(self, *arguments):
        calls.append(point)
        if len(calls) == nth and not after:
            raise PowerError
        done = step(self, *arguments)
        if len(calls) == nth and after:
            raise PowerError
        return done

    fault = {3: (500, "oops")}
    with FakeApi(lambda number, attempt: None if attempt else fault.get(number)) as api:
        with monkeypatch.context() as patch:
            patch.setattr(Batches, point, failing)
            with pytest.raises(PowerError):
                write(api)
        assert write(api) == EXPECTED
        assert set(api.answered.values()) == {1}
        assert len(api.batches) == 2  # all, then the failed one


def test_a_batch_whose_making_nobody_heard_of_is_found(write):
    with FakeApi() as api:
        api.batch_faults = ["500", "lost"]
        assert write(api) == EXPECTED
        assert len(api.batches) == 1


def test_a_lost_list_of_batches_costs_nothing(write):
    with FakeApi() as api:
        write(api)
        write.state.unlink()
        write.journal.unlink()
        assert write(api) == EXPECTED
        assert len(api.batches) == 1


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_batch_that_came_to_nothing_is_told_and_sent_by_the_next_run(write, end):
    with FakeApi() as api:
        api.batch_faults = [end]
        with pytest.raises(BackendError, match=rf"batch batch-1 {end} \(.*the same command sends the rest") as caught:
            write(api)
        assert "sk-test" not in str(caught.value)
        assert write(api) == EXPECTED
        assert set(api.answered.values()) == {1}


def test_a_refused_batch_says_why(write):
    with FakeApi() as api:
        api.batch_faults = ["refuse"]
        with pytest.raises(BackendError, match=r"http.*status 400: no such endpoint for \[key\]"):
            write(api)
        assert write(api) == EXPECTED


def test_a_batch_of_another_keys_project_is_told(write, monkeypatch):
    """bespokelabsai/curator#190"""
    look = FakeApi.look

    def unknown(self, handler, path):
        if path.startswith("/v1/batches/"):
            handler.send_error_body(404, "No batch found")
        else:
            look(self, handler, path)

    with FakeApi() as api:
        with monkeypatch.context() as patch:
            patch.setattr(FakeApi, "look", unknown)
            with pytest.raises(BackendError, match=r"No batch found; .* batch-1, .*q\.jsonl\.batches\.json"):
                write(api)
        assert write(api) == EXPECTED
        assert len(api.batches) == 1


def test_single_requests_wait_for_the_batch(write, monkeypatch):
    with FakeApi() as api:
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "_ended", lambda *_: (_ for _ in ()).throw(PowerError))
            with pytest.raises(PowerError):
                write(api)
        with pytest.raises(ConfigError, match="holds a batch that is not collected yet; give --batch"):
            write(api, batch=False)
        assert write(api) == EXPECTED
        assert write(api, batch=False) == EXPECTED
        assert api.asked.total() == 100


def test_other_settings_leave_the_batch_alone(write, monkeypatch):
    with FakeApi() as api:
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "_ended", lambda *_: (_ for _ in ()).throw(PowerError))
            with pytest.raises(PowerError):
                write(api)
        write(api, max_new_tokens=9)
        assert [entry["collected"] for entry in json.loads(write.state.read_text())["batches"]] == [False, True]
        assert write(api) == EXPECTED
        assert len(api.batches) == 2


def test_fewer_documents_collect_the_whole_batch(write, monkeypatch):
    with FakeApi() as api:
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "_ended", lambda *_: (_ for _ in ()).throw(PowerError))
            with pytest.raises(PowerError):
                write(api)
        assert write(api, DOCUMENTS[:10]) == EXPECTED[:10]
        assert write(api) == EXPECTED
        assert len(api.batches) == 1


def test_large_batches_are_cut(write, monkeypatch):
    monkeypatch.setattr(api_batch, "MAX_REQUESTS", 40)
    with FakeApi() as api:
        assert write(api) == EXPECTED
        assert [len(api.files[b["body"]["input_file_id"]].splitlines()) for b in api.batches.values()] == [40, 40, 20]


def test_the_cap_holds_for_batches(write):
    cap = 20.5 * usd_of_one() / 2
    with FakeApi() as api:
        with pytest.raises(BackendError, match=r"--max-usd: .* higher --max-usd resumes"):
            write(api, max_usd=cap)
        # 36 x 2 x 18 tokens read and 8 written are $0.0083 x 2; what is left then buys some more, by what they did cost
        assert cap * 0.8 <= api.answered.total() * usd_of_one() / 2 <= cap
        assert write(api, max_usd=5.0) == EXPECTED
        assert set(api.answered.values()) == {1}


def test_a_broken_list_of_batches_is_named(write):
    write.state.write_text("[]", encoding="utf-8")
    with FakeApi() as api, pytest.raises(DataFormatError, match=r"q\.jsonl\.batches\.json: not the list of batches"):
        write(api)


def test_the_key_is_in_no_file(write, tmp_path):
    with FakeApi() as api:
        write(api)
        assert b"sk-test" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"sk-test" not in b"".join(api.files.values())


def test_results_that_are_doubled_foreign_or_broken_are_told(write, monkeypatch):
    """The first answer of a request counts, once; what belongs to no request is left out."""
    run_batch, notes = FakeApi.run_batch, []

    def odd(self, name):
        if f"out-{name}" not in self.files:
            run_batch(self, name)
            lines = self.files[f"out-{name}"].split(b"\n")
            other = lines[0].replace(b"n99", b"other")
            foreign = b'{"custom_id": "nobody", "response": {"status_code": 200, "body": {}}}'
            self.files[f"out-{name}"] = b"\n".join([*lines, other, foreign, b"{", b"[]", b""])

    monkeypatch.setattr(FakeApi, "run_batch", odd)
    monkeypatch.setattr("inpars.progress.Silent.note", lambda _, line: notes.append(line))
    with FakeApi() as api:
        assert write(api) == EXPECTED
    assert write.generator.results()["usd"] == pytest.approx(100 * usd_of_one() / 2)
    # another's, two that are none, and one that answers a request once more
    assert ": 4 lines" in "; ".join(notes)


@pytest.mark.parametrize(
    "line",
    [
        {"response": {"status_code": 400, "body": {"error": {"message": "x", "code": "content_filter"}}}},
        {"response": {"status_code": "400", "body": '{"error": "the content management policy"}'}},
        {"response": None, "error": {"code": "content_filter", "message": "x"}},
        {"response": {"status_code": 200, "body": {"choices": [{"finish_reason": "content_filter"}]}}},
        {"response": {"status_code": 200, "body": {"error": {"code": "content_filter", "message": "x"}}}},
    ],
)
def test_a_filtered_line_is_an_answer(write, monkeypatch, line):
    change_line(monkeypatch, lambda record: record | line)
    with FakeApi() as api:
        assert write(api, DOCUMENTS[:5]) == [*EXPECTED[:3], "", EXPECTED[4]]
        assert len(api.batches) == 1
    assert write.generator.results()["remarks"] == {"filtered": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"response": "gone", "error": "the server lost it"}, "the server lost it"),
        ({"response": {"status_code": 200, "body": {"choices": []}}}, "`choices` is empty"),
        ({"response": {"status_code": 200, "body": None}}, "no object"),
        ({"response": {"status_code": 503, "body": "busy"}}, "status 503: busy"),
        ({"response": {"status_code": 200, "body": {"error": {"code": 429, "message": "slow"}}}}, "status 429: slow"),
    ],
)
def test_an_odd_line_says_what_was_odd(write, monkeypatch, line, reason):
    change_line(monkeypatch, lambda record: record | line)
    with FakeApi() as api, pytest.raises(BackendError, match=f"1 of 5 requests .*1 times {reason}"):
        write(api, DOCUMENTS[:5])


def change_line(monkeypatch, change):
    """Another line for the third document's request, in each batch."""
    run_batch = FakeApi.run_batch

    def odd(self, name):
        if f"out-{name}" not in self.files:
            run_batch(self, name)
            records = [json.loads(line) for line in self.files[f"out-{name}"].splitlines()]
            lines = [json.dumps(change(record) if "n3" in json.dumps(record) else record) for record in records]
            self.files[f"out-{name}"] = "\n".join(lines).encode()

    monkeypatch.setattr(FakeApi, "run_batch", odd)


def test_a_parameter_that_lines_are_refused_for_is_spelled_otherwise(write):
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with FakeApi(lambda number, attempt: (400, message) if attempt == 0 else None) as api:
        assert write(api, DOCUMENTS[:5], "chat") == EXPECTED[:5]
        sent = [api.files[made["body"]["input_file_id"]].splitlines() for made in api.batches.values()]
    assert [len(lines) for lines in sent] == [5, 5]
    assert b"max_completion_tokens" not in sent[0][0]
    assert b"max_completion_tokens" in sent[1][0]


@pytest.mark.parametrize("status", [401, 404])
def test_lines_that_no_request_can_pass_end_the_run(write, status):
    with FakeApi(lambda *_: (status, "no")) as api:
        with pytest.raises(BackendError, match=f"refuses every request .*status {status}"):
            write(api, DOCUMENTS[:5])
        assert len(api.batches) == 1
