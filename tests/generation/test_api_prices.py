"""Prices and estimates, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import DataFormatError
from inpars.generation.api.budget import Estimate, Price, cut_text, estimate_tokens, load_prices


def test_shipped_prices_are_dated_and_batches_cost_half():
    prices = load_prices()
    assert prices.as_of.startswith("20")
    mini, batch = prices.find("gpt-4o-mini"), prices.find("gpt-4o-mini", batch=True)
    assert (batch.input, batch.output) == (mini.input / 2, mini.output / 2)
    assert prices.find("gpt-4o-mini-2024-07-18") == prices.find("gpt-3.5-turbo-0125-x") or mini
    assert prices.find("gpt-4o-mini-2024-07-18") == mini
    assert prices.find("gpt-3.5-turbo-0125") == prices.find("gpt-3.5-turbo")
    assert prices.find("my-own-model") is None


def test_usd_is_worked_out_per_million():
    # 1,000,000 x 2 / 1,000,000 + 500,000 x 8 / 1,000,000
    assert Price(2.0, 8.0).usd(1_000_000, 500_000) == 6.0


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text("models:\n  mine: {input: 1, output: 3}\n", encoding="utf-8")
    assert load_prices(path).find("mine") == Price(1, 3)
    assert load_prices(path).find("mine", batch=True) == Price(1, 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models: 3",
        "models:\n  mine: {input: 1}",
        "models:\n  mine: {input: 1, output: -1}",
        "a: [",
        "models:\n  m: 1",
    ],
)
def test_what_is_no_price_file_is_named(tmp_path, text):
    (tmp_path / "prices.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"prices\.yaml: not a price file .*input and output prices"):
        load_prices(tmp_path / "prices.yaml")


def test_no_such_file(tmp_path):
    with pytest.raises(DataFormatError, match="no such file"):
        load_prices(tmp_path / "prices.yaml")


def test_tokens_are_four_bytes():
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "abcde", "äöü")] == [0, 1, 1, 2, 2]


def test_texts_are_cut_at_a_blank():
    # 3 tokens are 12 bytes: "one two thre" without the torn word
    assert cut_text("one two three four", 3) == "one two"
    assert cut_text("one two", 3) == "one two"
    assert cut_text("one two thre four", 3) == "one two thre"
    assert cut_text("abcdefghijklmnop", 3) == "abcdefghijkl"
    assert cut_text("ääääääääää", 2) == "ääää"


@given(st.text(), st.integers(1, 20))
def test_a_cut_text_is_a_beginning_that_fits(text, tokens):
    cut = cut_text(text, tokens)
    assert text.encode("utf-8", "replace").decode().startswith(cut.encode("utf-8", "replace").decode())
    assert estimate_tokens(cut) <= tokens


def test_an_estimate_says_everything():
    shown = str(Estimate(2000, 5, 1_234_000, 128_000, 0.1234, "2026-01-01"))
    assert shown == (
        "2,000 requests (5 more are answered already), about 1,234,000 tokens in, at most 128,000 tokens out: "
        "at most $0.1234 (prices of 2026-01-01)"
    )
    assert str(Estimate(1, 0, 2, 3, None, "")).endswith("out: price unknown")
