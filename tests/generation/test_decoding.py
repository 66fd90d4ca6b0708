"""Greedy decoding over scripted logits: where a query ends, what is kept of it, which rows go on."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.generation.decoding import StopCondition, decode_rows, most_likely

PIECES = [
    b"<eos>",
    b"what",
    b" is",
    b" fog",
    b"?\n",
    b"\n",
    b"Ex",
    b"ample",
    b" 5:",
    b"\xc3",
    b"E",
    b"ND",
    b".\n\n",
    b" ",
]
PIECES += [b"\xa9"]  # the second half of a letter whose first is b"\xc3": byte-level vocabularies cut letters
EOS = 0
# The scripted token has logit ln 6, each of the 14 others 0: 6 / (6 + 14) = 0.3 at step 0. One more a step in the
# numerator, so that no two steps are alike: (6 + s) / (20 + s).
LOG_PROBS = [math.log((6 + step) / (20 + step)) for step in range(30)]


class Script:
    """Rows that want to say given tokens; the prompt of row n is [n]."""

    def __init__(self, scripts: Sequence[Sequence[int]]):
        self.scripts = scripts
        self.steps: list[int] = []  # rows at each step
        self._step = 0

    def start(self, prompts, room):
        self.rows, self.room = [prompt[0] for prompt in prompts], room
        return self._logits()

    def step(self, tokens):
        assert tokens.tolist() == [self._token(row) for row in self.rows], "each row is fed what it said"
        self._step += 1
        assert self._step < self.room, "no logits are computed that nobody uses"
        return self._logits()

    def keep(self, rows):
        self.rows = [self.rows[row] for row in rows.tolist()]

    def _token(self, row):
        script = self.scripts[row]
        return script[min(self._step, len(script) - 1)]

    def _logits(self):
        self.steps.append(len(self.rows))
        logits = torch.zeros(len(self.rows), len(PIECES))
        for place, row in enumerate(self.rows):
            logits[place, self._token(row)] = math.log(6 + self._step)
        return logits


def decode(tokens):
    return b"".join(PIECES[token] for token in tokens).decode(errors="replace")


def text_end(*stops):
    def position(text):
        return min([text.find(stop) for stop in stops if stop in text], default=len(text))

    return StopCondition(frozenset([EOS]), position, decode)


def say(*pieces):
    return [PIECES.index(piece if isinstance(piece, bytes) else piece.encode()) for piece in pieces]


def run(*scripts, stops=("\n",), max_new_tokens=8):
    rows = Script(scripts)
    prompts = [[number] for number in range(len(scripts))]
    return decode_rows(rows, prompts, max_new_tokens=max_new_tokens, end=text_end(*stops)), rows


def one(*pieces, **settings):
    return run(say(*pieces), **settings)[0][0]


def close(values):
    return pytest.approx(values, abs=1e-6)


def test_the_log_probability_is_the_chosen_tokens_own():
    # logits ln 6 and fourteen zeros: e^(ln 6) / (6 + 14) = 0.3; logits 2, 1, 0: 2 - ln(e^2 + e + 1) = -0.407606
    tokens, log_probs = most_likely(torch.tensor([[0.0] * 14 + [math.log(6)]]))
    assert (tokens.tolist(), log_probs.tolist()) == ([14], close([math.log(0.3)]))
    tokens, log_probs = most_likely(torch.tensor([[1.0, 2.0, 0.0]]))
    assert (tokens.tolist(), log_probs.tolist()) == ([1], close([-0.407606]))


def test_log_probabilities_are_float32_whatever_the_network_computes():
    # bfloat16 has 8 bits: ln(0.999) = -0.0010005 would be lost in 6.9 - 6.901
    logits = torch.tensor([[math.log(999.0), 0.0]], dtype=torch.bfloat16)
    _, log_probs = most_likely(logits)
    exact = float(logits[0, 0]) - math.log(math.exp(float(logits[0, 0])) + 1)
    assert log_probs.dtype == torch.float32
    assert log_probs.item() == close(exact)


def test_a_line_break_of_its_own_is_the_stop_and_is_not_kept():
    query = one("what", " is", " fog", "\n", "Ex")
    assert (query.text, query.finish_reason) == ("what is fog", "stop")
    assert query.token_ids == tuple(say("what", " is", " fog"))
    assert query.token_log_probs == close(LOG_PROBS[:3])
    assert query.stop_log_prob == close(LOG_PROBS[3])


def test_toolkit_fault_sentence_end_and_line_break_in_one_token():
    # existing toolkits wait for the id of "\n"; with `?\n` in the vocabulary it never comes and the query runs on.
    # The token that carries both is a part of the query, and its value is the stop's as well.
    query = one("what", " is", " fog", "?\n", "Ex", "ample", " 5:")
    assert (query.text, query.finish_reason) == ("what is fog?", "stop")
    assert query.token_ids == tuple(say("what", " is", " fog", "?\n"))
    assert query.token_log_probs == close(LOG_PROBS[:4])
    assert query.stop_log_prob == close(LOG_PROBS[3])


def test_the_end_token_is_the_stop_and_is_not_kept():
    query = one("what", " fog", "<eos>", "Ex")
    assert (query.text, query.finish_reason) == ("what fog", "stop")
    assert query.token_ids == tuple(say("what", " fog"))
    assert (query.token_log_probs, query.stop_log_prob) == (close(LOG_PROBS[:2]), close(LOG_PROBS[2]))


def test_toolkit_fault_last_token_dropped_at_the_length_limit():
    query = one("what", " is", " fog", " is", " fog", max_new_tokens=4)
    assert (query.text, query.finish_reason, query.stop_log_prob) == ("what is fog is", "length", None)
    assert query.token_log_probs == close(LOG_PROBS[:4])
    assert len(query.token_ids) == 4


@pytest.mark.parametrize(("pieces", "stop"), [(["<eos>"], 0), (["\n"], 0), ([" ", "\n"], 1), ([" ", "<eos>"], 1)])
def test_an_empty_query_is_a_query_with_nothing_in_it(pieces, stop):
    query = one(*pieces, "what")
    assert (query.text, query.finish_reason) == ("", "stop")
    assert "what" not in decode(query.token_ids)
    # " \n" ends with the blank stripped: no token has a share in an empty text, and the blank is what ended it
    assert query.stop_log_prob == close(LOG_PROBS[0 if pieces == [" ", "\n"] else stop])


def test_a_stop_string_may_span_tokens():
    # "what" "E" "ND": text is whatEND, the stop begins with the second token, which therefore is not kept
    query = one("what", "E", "ND", " fog", stops=("END",))
    assert (query.text, query.token_ids) == ("what", tuple(say("what")))
    assert query.token_log_probs == close(LOG_PROBS[:1])
    assert query.stop_log_prob == close(LOG_PROBS[1])


def test_half_a_stop_string_stops_nothing():
    query = one("what", "E", " fog", "<eos>", stops=("END",))
    assert (query.text, len(query.token_ids)) == ("whatE fog", 3)


def test_the_first_of_several_stop_strings_counts():
    # ".\n\n" holds both; "\n\n" begins at the same place as "\n"; "Ex" never comes
    query = one("what", " fog", ".\n\n", "Ex", stops=("Ex", "\n\n", "\n"))
    assert (query.text, len(query.token_ids)) == ("what fog.", 3)


def test_blanks_before_the_stop_have_no_share_in_the_text():
    # "what" " " "\n": the blank is stripped from the text, so it is not kept and is what ended the query
    query = one("what", " ", "\n")
    assert (query.text, query.token_ids) == ("what", tuple(say("what")))
    assert query.stop_log_prob == close(LOG_PROBS[1])


def test_a_letter_of_two_tokens_before_the_stop_is_kept_whole():
    # the first half decodes to one replacement character: as long as the letter, and not the letter
    query = one("what", b"\xc3", b"\xa9", "\n")
    assert (query.text, len(query.token_ids)) == ("whaté", 3)
    assert query.stop_log_prob == close(LOG_PROBS[3])


def test_rows_end_each_for_itself_and_leave():
    # rows:  0 says 1 token, 1 says 2, 2 says 3, 3 says 6; each then a stop
    scripts = [say(*["what"] * words, "\n") for words in (1, 2, 3, 6)]
    queries, rows = run(*scripts)
    assert [query.text for query in queries] == ["what" * words for words in (1, 2, 3, 6)]
    assert [query.token_log_probs for query in queries] == [close(LOG_PROBS[:words]) for words in (1, 2, 3, 6)]
    # 4 rows; after the stop at step 1 three of 4 are left, not fewer than 3/4, so they stay; at step 2 two of four are
    # left and move together; at step 3 one of two; it goes on alone to step 6
    assert rows.steps == [4, 4, 4, 2, 1, 1, 1]


def test_nothing_is_computed_after_the_last_row_has_ended():
    _, rows = run(say("what", "\n"), say("\n"), max_new_tokens=50)
    assert rows.steps == [2, 1]


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=6), min_size=1, max_size=9))
def test_a_row_does_not_depend_on_its_neighbours(scripts):
    together, _ = run(*scripts)
    assert together == [run(script)[0][0] for script in scripts]


@given(
    st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=8), st.sampled_from(["\n", "END", "Ex", "is fog"])
)
def test_what_is_kept_covers_the_text_and_no_token_more(script, stop):
    query = one(*[PIECES[token] for token in script], stops=(stop,), max_new_tokens=len(script))
    assert len(query.token_ids) == len(query.token_log_probs)
    assert list(query.token_ids) == script[: len(query.token_ids)]
    assert (query.stop_log_prob is None) == (query.finish_reason == "length")
    kept = decode(query.token_ids)
    assert stop not in query.text
    assert query.text == (kept[: kept.find(stop)] if stop in kept else kept).strip()
    ended_by_text = query.finish_reason == "stop" and script[len(query.token_ids) : len(query.token_ids) + 1] != [EOS]
    if ended_by_text and query.token_ids:
        assert not decode(query.token_ids[:-1]).strip().startswith(query.text), "each token has a share in the text"
