"""The log-probability contract over four kinds of tokenizer: each cuts text at other places, the query is the same."""

import math

import pytest
import torch
from tiny_models import bert_tokenizer, byte_level_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from inpars.generation.decoding import Sampled, StopCondition, decode_rows
from inpars.generation.prompt_tokens import PromptTokens
from inpars.prompts.templates import Prompt
from inpars.records import Document

SPOKEN = "what is a lake?\nExample 2: a river"
QUERY = "what is a lake?"
TEXTS = [SPOKEN, "how old is it?\nExample 3", "who is it?\n\nExample", "what is a river\nExample 4"] * 20


def byte_level():
    """As GPT-2's and Llama 3's: whole bytes, with `?` and a line break merged into one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    pairs = ["?\n"] * 500  # merged before anything else
    tokenizer.train_from_iterator(
        [*pairs, *["what", "is", "a", "lake", "river", "how", "old", "it", "who", "Example", "2", "3", "4"] * 20],
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def sentence_piece():
    """As Llama 2's: words with a leading mark, a line break of its own."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def word_piece():
    """As BERT's: a line break is white space and is never said."""
    return bert_tokenizer().backend_tokenizer


def characters():
    """One token a character, as byte models have it."""
    letters = sorted(set("".join(TEXTS)))
    tokenizer = Tokenizer(models.WordLevel({letter: n for n, letter in enumerate(letters)}, unk_token=letters[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


FAMILIES = {
    "byte-level": byte_level,
    "sentence-piece": sentence_piece,
    "word-piece": word_piece,
    "characters": characters,
}
WITH_LINE_BREAK = [name for name in FAMILIES if name != "word-piece"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param, FAMILIES[request.param]()


class Script:
    """Rows that say given tokens, the one at step s with logit s / 10 + 3 among zeros."""

    def __init__(self, tokens, vocabulary, rows=1):
        self.tokens, self.vocabulary, self.count, self.at = tokens, vocabulary, rows, 0

    def start(self, prompts, room):
        return self._logits()

    def step(self, tokens):
        self.at += 1
        return self._logits()

    def keep(self, rows):
        self.count = len(rows)

    def _logits(self):
        logits = torch.zeros(self.count, self.vocabulary)
        logits[:, self.tokens[self.at]] = self.at / 10 + 3
        return logits


def log_prob(step, vocabulary):
    # e^(s / 10 + 3) / (e^(s / 10 + 3) + vocabulary - 1)
    weight = math.exp(step / 10 + 3)
    return math.log(weight / (weight + vocabulary - 1))


def say(tokenizer, tokens, *, ends=(), max_new_tokens=200, choose=None):
    end = StopCondition(
        frozenset(ends),
        lambda text: text.find("\n") if "\n" in text else len(text),
        lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False),
    )
    rows = Script(tokens, tokenizer.get_vocab_size())
    chosen = {} if choose is None else {"choose": choose}
    return decode_rows(rows, [[0]], max_new_tokens=max_new_tokens, end=end, **chosen)[0]


def tokens_of(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False).replace(" ", "") == text.replace(" ", "")
    return ids


@pytest.mark.parametrize("name", WITH_LINE_BREAK)
def test_the_query_ends_at_the_line_break_wherever_tokens_end(name):
    tokenizer = FAMILIES[name]()
    tokens = tokens_of(tokenizer, SPOKEN)
    query = say(tokenizer, tokens)
    # tokens with a share in the query are kept, the one that holds nothing but the line break and later ones are not
    kept = next(n for n in range(len(tokens) + 1) if tokenizer.decode(tokens[:n]).startswith(QUERY))
    assert (query.text, query.finish_reason) == (QUERY, "stop")
    assert list(query.token_ids) == tokens[:kept]
    size = tokenizer.get_vocab_size()
    assert list(query.token_log_probs) == pytest.approx([log_prob(n, size) for n in range(kept)], abs=1e-5)


def test_a_question_mark_merged_with_its_line_break_is_kept_and_ends_the_query():
    tokenizer = byte_level()
    tokens = tokens_of(tokenizer, SPOKEN)
    merged = next(n for n, token in enumerate(tokens) if tokenizer.decode([token]) == "?\n")
    query = say(tokenizer, tokens)
    assert len(query.token_log_probs) == merged + 1
    assert query.stop_log_prob == query.token_log_probs[-1]


def test_a_length_capped_row_keeps_its_last_token(family):
    _, tokenizer = family
    tokens = tokens_of(tokenizer, "what is a lake")
    query = say(tokenizer, tokens, max_new_tokens=len(tokens))
    assert (query.finish_reason, query.stop_log_prob) == ("length", None)
    assert list(query.token_ids) == tokens
    assert len(query.token_log_probs) == len(tokens)


def test_an_end_token_ends_where_no_line_break_can_be_said(family):
    _, tokenizer = family
    tokens = tokens_of(tokenizer, "what is a lake")
    last = tokenizer.get_vocab_size() - 1
    query = say(tokenizer, [*tokens, last], ends=[last])
    assert (query.finish_reason, list(query.token_ids)) == ("stop", tokens)
    assert query.stop_log_prob == pytest.approx(log_prob(len(tokens), tokenizer.get_vocab_size()), abs=1e-5)


def test_a_drawn_token_carries_its_own_log_probability(family):
    _, tokenizer = family
    tokens = tokens_of(tokenizer, "what is a lake")
    size = tokenizer.get_vocab_size()
    query = say(tokenizer, tokens, max_new_tokens=len(tokens), choose=Sampled(["a"], 2.0, 1.0, seed=5))
    others = {step: math.log(1 / (math.exp(step / 10 + 3) + size - 1)) for step in range(len(tokens))}
    expected = [log_prob(n, size) if token == tokens[n] else others[n] for n, token in enumerate(query.token_ids)]
    assert list(query.token_log_probs) == pytest.approx(expected[: len(query.token_log_probs)], abs=1e-5)


def test_an_end_token_that_a_tokenizer_appends_ends_no_prompt():
    """`add_eos_token: true`, as many fine-tuned models are saved: what follows an end of text is another text."""
    tokenizer, prompt = byte_level_tokenizer("<s>"), Prompt(name="p", form="Document: {document}\nQuery: {query}")
    documents = [Document("a", "a lake"), Document("b", "an old river")]
    plain = PromptTokens(tokenizer, prompt, 20)
    expected = plain.prefix, plain.prompts(documents)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    ending = PromptTokens(tokenizer, prompt, 20)
    assert (ending.prefix, ending.prompts(documents)) == expected
