"""Drawn tokens: which one a number picks, and whose probability is recorded."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.generation.decoding import Sampled, draw, most_likely
from inpars.generation.settings import DecodingSettings

# probabilities 1/2, 1/4, 1/8, 1/8 for the tokens 2, 0, 1, 3
LOGITS = torch.tensor([[math.log(2), math.log(1), math.log(4), math.log(1)]])


@pytest.mark.parametrize(
    ("uniform", "top_p", "token"),
    [
        (0.0, 1.0, 2),
        (0.49, 1.0, 2),
        (0.51, 1.0, 0),
        (0.74, 1.0, 0),
        (0.76, 1.0, 1),  # of equal tokens the one with the smaller id comes first
        (0.99, 1.0, 3),
        # a nucleus of 0.6 holds tokens 2 and 0: (1/2, 1/4) / (3/4) = 2/3, 1/3
        (0.66, 0.6, 2),
        (0.67, 0.6, 0),
        (0.99, 0.6, 0),
        # the likeliest token alone reaches 0.5, so that nothing else is inside
        (0.99, 0.5, 2),
        (0.99, 0.01, 2),
    ],
)
def test_a_number_picks_its_token_of_the_nucleus(uniform, top_p, token):
    assert draw(LOGITS, torch.tensor([uniform]), top_p).tolist() == [token]


@pytest.mark.parametrize("spread", [0.1, 3.0, 8.0])  # of logits: nuclei of nearly all tokens, of many, of few
@pytest.mark.parametrize("top_p", [0.5, 0.95, 1.0])
def test_only_some_tokens_are_sorted_and_the_same_are_drawn(monkeypatch, spread, top_p):
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(64, 3000, generator=generator) * spread).bfloat16()  # with many ties
    uniform = torch.rand(64, generator=generator, dtype=torch.float64)
    found = draw(logits, uniform, top_p)
    monkeypatch.setattr("inpars.generation.decoding.SORTED_TOKENS", 3000)
    assert found.tolist() == draw(logits, uniform, top_p).tolist()
    monkeypatch.setattr("inpars.generation.decoding.SORTED_TOKENS", 1)  # all rows are sorted whole
    assert found.tolist() == draw(logits, uniform, top_p).tolist()


def test_drawn_tokens_carry_their_raw_log_probability():
    choose = Sampled([f"d{number}" for number in range(64)], temperature=5.0, top_p=0.9, seed=0)
    tokens, log_probs = choose(LOGITS.repeat(64, 1), list(range(64)), 0)
    raw = {2: math.log(1 / 2), 0: math.log(1 / 4), 1: math.log(1 / 8), 3: math.log(1 / 8)}
    assert len(set(tokens.tolist())) > 1
    assert log_probs.tolist() == pytest.approx([raw[token] for token in tokens.tolist()], abs=1e-6)


def test_tokens_are_drawn_as_often_as_they_are_likely():
    rows = 4000
    choose = Sampled([f"d{number}" for number in range(rows)], temperature=1.0, top_p=1.0, seed=3)
    counts = Counter(choose(LOGITS.repeat(rows, 1), list(range(rows)), 0)[0].tolist())
    # expected 2000, 1000, 500, 500; standard deviations sqrt(n p (1 - p)) = 31.6, 27.4, 20.9, 20.9; four are allowed
    for token, expected, deviation in ((2, 2000, 31.6), (0, 1000, 27.4), (1, 500, 20.9), (3, 500, 20.9)):
        assert abs(counts[token] - expected) < 4 * deviation


@given(st.permutations(list(range(6))))
def test_a_row_draws_the_same_whatever_stands_beside_it(order):
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    choose = Sampled([f"d{number}" for number in range(6)], temperature=1.3, top_p=0.8, seed=1)
    whole, _ = choose(logits, list(range(6)), 4)
    part, _ = choose(logits[order], order, 4)
    assert part.tolist() == whole[order].tolist()


def test_a_low_temperature_takes_the_likeliest():
    choose = Sampled(["a"], temperature=1e-3, top_p=1.0, seed=0)
    for step in range(20):
        assert choose(LOGITS, [0], step)[0].tolist() == most_likely(LOGITS)[0].tolist() == [2]


def test_impossible_settings_are_named_all_at_once():
    with pytest.raises(ConfigError) as caught:
        DecodingSettings(num_queries=0, temperature=-1.0, top_p=0.0).check()
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="--temperature 1 with --num-queries"):
        DecodingSettings(num_queries=3).check()
    DecodingSettings(num_queries=3, temperature=1.0, top_p=0.95).check()
