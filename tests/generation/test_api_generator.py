"""The server's generator: order, limits, failures that lose nothing, and money."""

import json
from collections import Counter

import pytest
from fake_api import (
    KEY,
    PRICES,
    FakeApi,
    document,
    log_probs_of,
    query_of,
    usd_of_one,
)

from inpars.errors import BackendError, ConfigError
from inpars.generation import PaidGenerator
from inpars.generation.api import client as api_client
from inpars.generation.api.journal import journal_path, read_answers
from inpars.generation.api.options import ApiOptions, check_api
from inpars.generation.settings import DecodingSettings
from inpars.prompts.templates import Prompt
from inpars.stages.generate_by_api import estimate_cost, open_server, query_requests, server_stamp

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}")
DOCUMENTS = [document(number) for number in range(150)]  # three chunks


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(api_client, "FIRST_DELAY_SECONDS", 0.01)
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")


@pytest.fixture
def write(tmp_path):
    """All queries of some documents, chunk by chunk; or the error, and the generator's last words."""

    def call(api, documents=DOCUMENTS, endpoint="completions", settings=DecodingSettings(max_new_tokens=8), **options):  # noqa: B008
        options = ApiOptions(base_url=api.url, price_file=tmp_path / "prices.yaml", **options)
        generator = open_server(
            query_requests(endpoint, "fake", PROMPT, settings, options), options, tmp_path / "q.jsonl"
        )
        assert isinstance(generator, PaidGenerator)
        call.generator, written = generator, []
        try:
            for chunk in generator.plan(documents):
                written += generator.generate([documents[position] for position in chunk])
        finally:
            generator.close()
        return written

    call.journal = journal_path(tmp_path / "q.jsonl")
    return call


def texts(written):
    return [[query.text for query in queries] for queries in written]


EXPECTED = [[query_of(number)] for number in range(150)]


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_results_are_in_order_with_their_log_probs(write, endpoint):
    with FakeApi(delay=0.002) as api:
        written = write(api, endpoint=endpoint)
        assert texts(written) == EXPECTED
        assert [query.token_log_probs for (query,) in written] == [tuple(log_probs_of(n)) for n in range(150)]
        assert {query.log_prob_kind for (query,) in written} == {None}
        assert 2 <= api.most_under_way <= 8
        assert set(api.answered.values()) == {1}
    # 150 x (30 x $10 + 4 x $20) / 1,000,000
    assert write.generator.results() == {"usd": 0.057, "input_tokens": 4500, "output_tokens": 600}
    assert write.generator.status() == "$0.0570 spent, 0 failed"


def test_what_is_answered_is_never_asked_again(write):
    with FakeApi() as api:
        first = write(api)
        assert write(api) == first
        assert api.asked.total() == 150
        write(api, settings=DecodingSettings(max_new_tokens=9))  # another question
        assert api.asked.total() == 300
    assert write.generator.results()["usd"] == pytest.approx(0.114)


def test_one_at_a_time(write):
    with FakeApi() as api:
        write(api, DOCUMENTS[:9], concurrency=1)
        assert api.most_under_way == 1


def test_several_queries_a_document(write):
    with FakeApi() as api:
        written = write(api, DOCUMENTS[:3], settings=DecodingSettings(num_queries=2, temperature=1.0))
        assert texts(written) == [[query_of(n)] * 2 for n in range(3)]
        assert len({body["seed"] for body in api.bodies}) == 6


def test_a_server_without_log_probs(write):
    with FakeApi(log_probs=None) as api:
        written = write(api, DOCUMENTS[:3])
        assert [query.log_prob_kind for (query,) in written] == ["absent"] * 3
        assert api.bodies[0]["logprobs"] == 1
        assert write(api, DOCUMENTS[:3], log_prob_kind="absent") == written
        assert "logprobs" not in api.bodies[-1]


def test_vllms_answers_say_what_stopped_them(write):
    with FakeApi(log_probs="vllm") as api:
        ((query,),) = write(api, DOCUMENTS[5:6])
    assert (query.text, query.token_log_probs, query.stop_log_prob) == (query_of(5), tuple(log_probs_of(5)), -0.75)


def test_failed_documents_are_told_at_the_end_and_asked_for_by_the_next_run(write):
    """Fault in the first chunk; everything else is asked for all the same, and kept."""
    down = {3, 70}
    with FakeApi(lambda number, _: "500" if number in down else None) as api:
        with pytest.raises(BackendError) as caught:
            write(api, retries=1)
        assert str(caught.value) == (
            f"2 of 150 requests to {api.url} have no answer after 1 retries (2 times status 500: oops); the others are "
            f"kept in {write.journal}, and the same command asks for these again"
        )
        assert len(list(read_answers(write.journal))) == 148
        assert write.generator.status().endswith("2 failed")
        down.clear()
        assert texts(write(api)) == EXPECTED
        assert Counter(api.asked.values()) == {1: 148, 3: 2}


def test_a_server_that_is_down_is_not_asked_for_ever(write):
    with FakeApi(lambda *_: "500") as api:
        with pytest.raises(BackendError, match=r"20|were not asked any more"):
            write(api, retries=0, concurrency=2)
        assert 20 <= api.asked.total() <= 22


def test_refused_documents_become_rows(write):
    """A document that is too long, or that a content filter takes, must not stop the others, nor be asked again."""
    with FakeApi(lambda number, _: (400, "filtered") if number % 50 == 7 else None) as api:
        written = write(api)
        refused = [number for number, (query,) in enumerate(written) if query.finish_reason == "error"]
        assert refused == [7, 57, 107]
        assert (written[7][0].text, written[7][0].token_log_probs) == ("", ())
        assert write.generator.status().endswith("3 failed")
        write(api)
        assert api.asked.total() == 150


def test_refusals_before_the_first_answer_are_kept_once_there_is_one(write):
    with FakeApi(lambda number, _: (400, "filtered") if number < 3 else None) as api:
        written = write(api, DOCUMENTS[:6], concurrency=1)
        assert [query.finish_reason for (query,) in written] == ["error"] * 3 + ["stop"] * 3
        write(api, DOCUMENTS[:6])
        assert api.asked.total() == 6


def test_a_server_that_refuses_everything_is_an_error(write):
    with FakeApi(lambda *_: (400, "no logprobs here")) as api:
        with pytest.raises(BackendError, match=r"refuses every request .*no logprobs here.*--log-prob-kind absent"):
            write(api)
        assert api.asked.total() <= 20 + 8
        with pytest.raises(BackendError, match="refuses every request"):
            write(api, DOCUMENTS[:2])
    assert list(read_answers(write.journal)) == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_ends_at_once(write, status):
    with FakeApi(lambda *_: (status, "no")) as api:
        with pytest.raises(BackendError, match=f"status {status}"):
            write(api)
        assert api.asked.total() <= 8


@pytest.mark.parametrize("concurrency", [1, 6])
def test_spend_stays_below_the_cap(write, concurrency):
    """Estimates are too low here: 30 tokens a prompt where its bytes say 18. One request a worker is the most."""
    cap = 20.5 * usd_of_one()
    with FakeApi(delay=0.002) as api:
        with pytest.raises(BackendError, match=r"--max-usd: \$0\.\d+ of \$.* answers are kept in .*higher --max-usd"):
            write(api, max_usd=cap, concurrency=concurrency)
        assert cap - concurrency * usd_of_one() <= api.usd <= cap + concurrency * usd_of_one()
        kept = api.answered.total()
        assert len(list(read_answers(write.journal))) == kept
        with pytest.raises(BackendError, match="--max-usd"):
            write(api, max_usd=cap)
        assert api.usd <= cap + concurrency * usd_of_one(), "former runs count"
        assert texts(write(api, max_usd=1.0)) == EXPECTED
        assert set(api.answered.values()) == {1}


def test_answers_that_got_lost_count_as_paid(write):
    with FakeApi(lambda number, attempt: "cut" if attempt == 0 else None) as api:
        write(api, DOCUMENTS[:2])
    lost = [record["lost_usd"] for record in read_answers(write.journal) if "lost_usd" in record]
    assert len(lost) == 2
    assert write.generator.results()["usd"] == pytest.approx(2 * usd_of_one() + sum(lost), abs=1e-6)


def test_a_cap_needs_a_price(tmp_path):
    options = ApiOptions(base_url="http://x/v1", max_usd=1.0)
    with pytest.raises(ConfigError, match=r"no price is known for 'mine'; .*--price-file"):
        open_server(query_requests("chat", "mine", PROMPT, DecodingSettings(), options), options, tmp_path / "q")
    assert list(tmp_path.glob("q*")) == []


def test_without_a_price_tokens_are_counted(tmp_path):
    with FakeApi() as api:
        options = ApiOptions(base_url=api.url)
        requests = query_requests("chat", "free", PROMPT, DecodingSettings(), options)
        generator = open_server(requests, options, tmp_path / "q")
        generator.generate(DOCUMENTS[:2])
        assert generator.results() == {"usd": None, "input_tokens": 60, "output_tokens": 8}
        assert generator.status() == "68 tokens, 0 failed"
        generator.close()


def test_the_rate_is_held(write, monkeypatch):
    waits = []
    monkeypatch.setattr("inpars.generation.api.budget.RateLimits.wait", lambda self, tokens: waits.append(tokens))
    with FakeApi() as api:
        write(api, DOCUMENTS[:5], requests_per_minute=60)
    # prompt: 70 bytes, 18 tokens; and 8 that may be written
    assert waits == [26] * 5


def test_the_key_is_in_no_file(write, tmp_path):
    with FakeApi(lambda number, _: (400, f"not with {KEY}") if number == 2 else None) as api:
        write(api, DOCUMENTS[:5])
    for path in tmp_path.rglob("*"):
        assert b"sk-test" not in path.read_bytes()


def test_an_estimate_asks_nothing_and_writes_nothing(write, tmp_path):
    with FakeApi() as api:
        write(api, DOCUMENTS[:10])
        before, asked = {path: path.read_bytes() for path in tmp_path.iterdir()}, api.asked.total()
        options = ApiOptions(base_url=api.url, price_file=tmp_path / "prices.yaml")
        settings = DecodingSettings(max_new_tokens=8)
        requests = query_requests("completions", "fake", PROMPT, settings, options)
        found = estimate_cost(DOCUMENTS, requests, options, tmp_path / "q.jsonl")
        assert api.asked.total() == asked
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert (found.requests, found.answered, found.output_tokens) == (140, 10, 140 * 8)
    assert found.usd == pytest.approx((found.input_tokens * 10 + 140 * 8 * 20) / 1e6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "is not an address"),
        ({"base_url": "http://localhost:80a/v1"}, "is not an address"),
        ({"base_url": "http://user:pass@host:99999/v1"}, "is not an address"),
        ({"base_url": "http://[::1/v1"}, "is not an address"),
        ({"base_url": "http://user:pass@host/v1"}, "no password and no key"),
        ({"base_url": "http://host/v1?key=sk-1"}, "no password and no key"),
        ({"base_url": "http://host/v1?api-version=2024-06-01&api-key=pass@word"}, "'api-key' .*no password and no key"),
        ({"base_url": "http://host/v1?api-version=pass@word"}, "no password and no key"),
        ({"base_url": "http://host/v1?pass@word"}, "no password and no key"),
        ({"base_url": "http://host/v1#pass@word"}, "no password and no key"),
        ({"base_url": "http://host/sk-pass@word12345/v1"}, "no password and no key"),
        ({"concurrency": 0}, "--concurrency is 0"),
    ],
)
def test_addresses_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_api(ApiOptions(**options), asks_server=True)
    assert "pass@" not in str(caught.value)


def test_the_address_in_the_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://a/v1/")
    assert ApiOptions().url == "http://a/v1"
    assert ApiOptions(base_url="http://b/v1").url == "http://b/v1"
    assert server_stamp(ApiOptions()) == server_stamp(ApiOptions(base_url="http://a/v1"))
    monkeypatch.setenv("OPENAI_BASE_URL", "a/v1")
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL 'a/v1' is not an address"):
        check_api(ApiOptions(), asks_server=True)


def test_flags_of_servers_need_a_server():
    with pytest.raises(ConfigError, match="--base-url, --dry-run: no server is asked; give --backend"):
        check_api(ApiOptions(base_url="http://x/v1", dry_run=True), asks_server=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [(DecodingSettings(num_queries=2), "--temperature 1"), (DecodingSettings(top_p=0), "--top-p is 0")],
)
def test_sampling_that_cannot_be(write, settings, message):
    with FakeApi() as api, pytest.raises(ConfigError, match=message):
        write(api, settings=settings)


def test_another_server_or_kind_is_another_input():
    stamps = {
        server_stamp(ApiOptions(base_url=url, log_prob_kind=kind)).sha256
        for url in ("http://a/v1", "http://b/v1")
        for kind in ("raw", "processed")
    }
    assert len(stamps) == 4
    assert server_stamp(ApiOptions(base_url="http://a/v1/")) == server_stamp(ApiOptions(base_url="http://a/v1"))
    assert server_stamp(ApiOptions(concurrency=1, max_usd=3.0)) == server_stamp(ApiOptions())


def test_the_journal_holds_no_prompt(write):
    with FakeApi() as api:
        write(api, DOCUMENTS[:1])
    (record,) = read_answers(write.journal)
    assert "long series" not in json.dumps(record)
    assert record["query_id"] == "d0-q0"


@pytest.mark.parametrize("version", ["2024-06-01", "2025-01-01-preview", "preview", "v1"])
def test_an_api_version_is_no_key(version):
    url = f"https://x.openai.azure.com/openai/deployments/gpt-4o/?api-version={version}"
    options = ApiOptions(base_url=url)
    check_api(options, asks_server=True)
    assert options.url == f"https://x.openai.azure.com/openai/deployments/gpt-4o?api-version={version}"


def thinking(number):
    return {"choices": [{"message": {"content": f"<think>a</think>{query_of(number)}"}, "finish_reason": "stop"}]}


def test_what_was_odd_is_counted_over_interruptions(write):
    """Of 150 documents three are odd; the journal keeps what was odd about them."""
    odd = {3: thinking(3), 70: thinking(70), 140: {"choices": [{"finish_reason": "content_filter"}]}}
    with FakeApi(lambda number, _: odd.get(number)) as api:
        write(api, endpoint="chat")
        # d3 and d70 have no log-probs either: the server sent none
        expected = {"filtered": 1, "log_probs_none": 2, "thoughts": 2}
        assert write.generator.results()["remarks"] == expected
        notes = write.generator.notes()
        assert [line.split()[:3] for line in notes] == [["2", "of", "150"], ["1", "of", "150"], ["2", "of", "150"]]
        write(api, endpoint="chat")
        assert api.asked.total() == 150
        assert write.generator.results()["remarks"] == expected
    records = [record for record in read_answers(write.journal) if "remarks" in record]
    assert sorted((record["query_id"], record["remarks"]) for record in records) == [
        ("d140-q0", ["filtered"]),
        ("d3-q0", ["thoughts", "log_probs_none"]),
        ("d70-q0", ["thoughts", "log_probs_none"]),
    ]


def test_all_filtered_is_an_answer_and_no_error(write):
    with FakeApi(lambda *_: (400, "content management policy")) as api:
        written = write(api, DOCUMENTS[:30])
        assert {query.finish_reason for (query,) in written} == {"error"}
        write(api, DOCUMENTS[:30])
        assert api.asked.total() == 30
    assert "30 of 30" in write.generator.notes()[0]


def test_an_answer_without_a_text_becomes_a_row_after_all_retries(write):
    with FakeApi(lambda number, _: {"choices": []} if number == 2 else None) as api:
        written = write(api, DOCUMENTS[:5], retries=1)
        assert [query.finish_reason for (query,) in written] == ["stop", "stop", "error", "stop", "stop"]
        assert any("`choices` is empty" in line for line in write.generator.notes())
        write(api, DOCUMENTS[:5])
        assert api.asked[2] == 2
    assert write.generator.results()["remarks"] == {"refused": 1}


def test_failures_of_a_kind_are_told_together_with_one_example(write):
    told = r"5 of 5 requests .*\(5 times broken JSON: .*\{\"id\": \"\d\", \"choi\)"
    with FakeApi(lambda number, _: b'{"id": "%d", "choi' % number) as api, pytest.raises(BackendError, match=told):
        write(api, DOCUMENTS[:5], retries=0)
