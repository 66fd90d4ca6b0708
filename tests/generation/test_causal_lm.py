"""The local generator: both ways of computing rows against Hugging Face `generate`, batch sizes, cutting, limits."""

import json
import math
import threading
from concurrent.futures import CancelledError

import pytest
import torch
from tiny_models import sentence

from inpars.errors import ConfigError
from inpars.generation import decoding
from inpars.generation.causal_lm import CausalGenerator
from inpars.generation.decoding import StopCondition, decode_rows
from inpars.generation.hf_kv_cache import HFCacheDecoder
from inpars.generation.settings import DecodingSettings
from inpars.generation.shared_prefix import ExchangedAttention, SharedPrefixRows, best_forward
from inpars.models import loading as models
from inpars.prompts.templates import Example, Prompt
from inpars.records import Document

SHARING = ["llama", "gpt_neox", "gpt2"]
OTHERS = ["mistral", "bloom", "lfm2"]  # windows; a bias for positions; a state instead of keys
NEVER = StopCondition(frozenset(), len, lambda tokens: "")
NEW_TOKENS = 9
PREFIX = list(range(40, 53))
PROMPTS = [[60 + number + position for position in range(length)] for number, length in enumerate([3, 17, 1, 8, 8])]
PROMPT = Prompt(
    name="test",
    form="Document: {document}\nRelevant Query: {query}",
    examples=(Example("a lake is a body of water.", "what is a lake?"),),
    stop=("\n", "a"),  # a letter that random weights say now and then
)


def inputs_of(generator):
    """Those of its only prompt."""
    (inputs,) = generator._inputs.values()
    return inputs


def writer_of(generator):
    (writer,) = generator._writers.values()
    return writer


def load(folder):
    return models.load_causal_lm(folder, device=torch.device("cpu"), dtype=torch.float32)


def shared_prefix_rows(network, prefix, pad):
    return SharedPrefixRows(network, prefix, pad, ExchangedAttention(network))


def by_hugging_face(folder, prompts, new_tokens=NEW_TOKENS):
    """Greedy tokens and their log-probabilities, one prompt at a time, no padding."""
    network, _ = load(folder)
    network.generation_config.eos_token_id = None
    found = []
    for prompt in prompts:
        output = network.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=new_tokens,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
        )
        tokens = output.sequences[0, len(prompt) :]
        log_probs = torch.cat(output.logits).log_softmax(-1)[torch.arange(len(tokens)), tokens]
        found.append((tuple(tokens.tolist()), log_probs.tolist()))
    return found


def by_rows(rows, prompts, end=NEVER):
    queries = decode_rows(rows, prompts, max_new_tokens=NEW_TOKENS, end=end)
    return [(query.token_ids, query.token_log_probs) for query in queries]


def same(found, expected):
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in expected]
    for (_, ours), (_, theirs) in zip(found, expected, strict=True):
        assert list(ours) == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("prefix", [PREFIX, []], ids=["prefix", "no prefix"])
@pytest.mark.parametrize("kind", SHARING)
def test_shared_prefix_rows_agree_with_generate(tiny, kind, prefix):
    expected = by_hugging_face(tiny(kind), [prefix + prompt for prompt in PROMPTS])
    same(by_rows(shared_prefix_rows(load(tiny(kind))[0], prefix, pad=0), PROMPTS), expected)


@pytest.mark.parametrize("prefix", [PREFIX, []], ids=["prefix", "no prefix"])
@pytest.mark.parametrize("kind", SHARING + OTHERS)
def test_plain_rows_agree_with_generate(tiny, kind, prefix):
    expected = by_hugging_face(tiny(kind), [prefix + prompt for prompt in PROMPTS])
    same(by_rows(HFCacheDecoder(load(tiny(kind))[0], prefix, pad=0), PROMPTS), expected)


@pytest.mark.parametrize("kind", SHARING + OTHERS)
def test_rows_that_are_kept_go_on_as_they_would_have(tiny, kind):
    # 3 of 5 rows end after their second token and leave the batch, whatever the network keeps of them
    expected = by_hugging_face(tiny(kind), PROMPTS)
    rows = HFCacheDecoder(load(tiny(kind))[0], [], pad=0)
    rows.start(PROMPTS, NEW_TOKENS)
    tokens = torch.tensor([tokens for tokens, _ in expected])
    rows.step(tokens[:, 0])
    kept = torch.tensor([1, 4])
    rows.keep(kept)
    for step in range(1, NEW_TOKENS - 1):
        assert rows.step(tokens[kept, step]).argmax(-1).tolist() == tokens[kept, step + 1].tolist()


@pytest.mark.parametrize("kind", [shared_prefix_rows, HFCacheDecoder])
def test_a_prefix_may_be_used_in_part_and_rows_be_started_again(tiny, kind):
    rows = kind(load(tiny("llama"))[0], PREFIX, pad=0)
    for used in (len(PREFIX), 5, 0, len(PREFIX)):
        expected = by_hugging_face(tiny("llama"), [PREFIX[:used] + prompt for prompt in PROMPTS], new_tokens=1)
        tokens = rows.start(PROMPTS, 1, used).argmax(-1).tolist()
        assert tokens == [tokens[0] for tokens, _ in expected]


@pytest.mark.parametrize("kind", [shared_prefix_rows, HFCacheDecoder])
@pytest.mark.parametrize("kept", [[4, 2], [1], [0, 2, 3]])
def test_rows_that_leave_change_nothing_for_the_others(tiny, kind, kept):
    rows = kind(load(tiny("llama"))[0], PREFIX, pad=0)
    tokens = rows.start(PROMPTS, 6).argmax(-1)
    whole = [rows.step(tokens + step) for step in range(4)]
    rows.start(PROMPTS, 6)
    rows.step(tokens)
    chosen = torch.tensor(kept)
    rows.keep(chosen)
    for step in range(1, 4):
        assert torch.allclose(rows.step((tokens + step)[chosen]), whole[step][chosen], atol=1e-4)


def test_long_prompts_are_read_in_parts(tiny, monkeypatch):
    expected = by_rows(shared_prefix_rows(load(tiny("llama"))[0], PREFIX, pad=0), PROMPTS)
    monkeypatch.setattr("inpars.generation.shared_prefix.PREFILL_TOKENS", 34)  # fewer than two rows
    rows, sizes = shared_prefix_rows(load(tiny("llama"))[0], PREFIX, pad=0), []
    read = rows._read
    monkeypatch.setattr(rows, "_read", lambda ids, *more: [sizes.append(len(ids)), read(ids, *more)][1])
    same(by_rows(rows, PROMPTS), expected)
    assert sizes == [1] * len(PROMPTS)


@pytest.mark.parametrize("kind", SHARING)
def test_ordinary_attention_can_be_exchanged(tiny, kind):
    assert best_forward(load(tiny(kind))[0])


@pytest.mark.parametrize("kind", OTHERS)
def test_other_attention_cannot_and_the_network_stays_as_it_was(tiny, kind):
    network, _ = load(tiny(kind))
    ids = torch.arange(20, 60)[None]
    former, before = network.config._attn_implementation, network(ids).logits
    assert best_forward(network) is None
    assert network.config._attn_implementation == former
    assert torch.equal(network(ids).logits, before)


def test_attention_that_would_differ_is_found_out_by_trying(tiny, monkeypatch):
    network, _ = load(tiny("llama"))
    expected = network(torch.arange(20, 36)[None]).logits
    monkeypatch.setattr("inpars.generation.shared_prefix._attend_one", lambda query, *rest: torch.ones_like(query))
    assert best_forward(network) is None
    assert torch.equal(network(torch.arange(20, 36)[None]).logits, expected)


def generator(tiny, kind="llama", prompt=PROMPT, **settings):
    limits = {"max_doc_tokens": 24, "max_new_tokens": 12} | settings
    return CausalGenerator(tiny(kind), prompt, DecodingSettings(**limits), device="cpu", dtype="float32")


DOCUMENTS = [Document(f"d{number}", sentence(number, number % 7 * 2), "") for number in range(19)]


def texts(written):
    return [[(query.text, query.token_ids, query.finish_reason) for query in queries] for queries in written]


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_any_batch_size_gives_the_same_queries(tiny, kind, batch_size):
    expected = generator(tiny, kind, batch_size=5).generate(DOCUMENTS)
    found = generator(tiny, kind, batch_size=batch_size).generate(DOCUMENTS)
    assert texts(found) == texts(expected)
    for (ours,), (theirs,) in zip(found, expected, strict=True):
        assert list(ours.token_log_probs) == pytest.approx(list(theirs.token_log_probs), abs=1e-4)
    assert {query.finish_reason for (query,) in found} == {"stop", "length"}, "both ends are exercised"


@pytest.mark.parametrize(("kind", "dtype"), [("llama", "bfloat16"), ("llama", "float32"), ("gpt2", "bfloat16")])
def test_chunks_side_by_side_are_written_as_one_after_the_other(tiny, monkeypatch, use_threads, kind, dtype):
    seen, rows = set(), decode_rows

    def watched(*args, **named):
        seen.add(threading.get_ident())
        return rows(*args, **named)

    monkeypatch.setattr("inpars.generation.causal_lm.decode_rows", watched)
    chunks = [DOCUMENTS[start : start + 5] for start in range(0, len(DOCUMENTS), 5)] * 3
    settings = DecodingSettings(max_doc_tokens=24, max_new_tokens=12, temperature=1.0, num_queries=2)
    found = {}
    for threads in (1, 3):
        use_threads(threads)
        shown = CausalGenerator(tiny(kind), PROMPT, settings, device="cpu", dtype=dtype)
        found[threads] = list(shown.generate_each(chunks))
    assert [len(written) for written in found[3]] == [len(chunk) for chunk in chunks]
    assert texts(found[3][0]) == texts(found[3][4]) != texts(found[3][1])
    several = dtype == "bfloat16"
    assert len(seen) > 1 if several else len(seen) == 1
    if several:
        assert found[1] == found[3], "to the last bit, however many threads there are"


def test_what_is_under_way_ends_where_no_more_is_wanted(tiny, monkeypatch):
    monkeypatch.setattr(
        "inpars.generation.causal_lm.map_single_threaded", lambda work, items, stop: (stop(), work(next(items)))
    )
    shown = CausalGenerator(tiny("llama"), PROMPT, DecodingSettings(), device="cpu", dtype="bfloat16")
    with pytest.raises(CancelledError):
        shown.generate_each([DOCUMENTS])


@pytest.mark.parametrize(
    ("kind", "rows"), [("llama", SharedPrefixRows), ("mistral", HFCacheDecoder), ("lfm2", HFCacheDecoder)]
)
def test_networks_that_cannot_share_fall_back(tiny, kind, rows):
    assert type(writer_of(generator(tiny, kind)).rows) is rows


def test_the_prefix_is_all_that_the_prompts_have_in_common(tiny):
    # all of the worked example and "Document:" of the next; the document's first token carries the blank
    shown = generator(tiny)
    prefix = shown._tokenizer.decode(inputs_of(shown).prefix, skip_special_tokens=True)
    assert prefix == "Document: a lake is a body of water.\nRelevant Query: what is a lake?\n\nDocument:"


def test_a_document_that_changes_the_prefixs_last_token_is_read_rightly(tiny):
    # the shared beginning ends with the token " n"; a document that begins with "o" makes it " no"
    joined = Prompt("joined", "Document: n{document}\nQuery: {query}", stop=("never said",))
    documents = [Document("a", "o amber"), Document("b", "amber lake"), Document("c", "o")]
    shown = generator(tiny, prompt=joined, max_new_tokens=NEW_TOKENS)
    prompts = shown._tokenizer([joined.render(document.text) for document in documents])["input_ids"]
    assert [prompt[: len(inputs_of(shown).prefix)] == inputs_of(shown).prefix for prompt in prompts] == [
        False,
        True,
        False,
    ]
    found = [(query.token_ids, query.token_log_probs) for (query,) in shown.generate(documents)]
    same(found, by_hugging_face(tiny("llama"), prompts))


def test_toolkit_fault_one_long_document_stops_the_run(tiny):
    # the document gives way at its 24th token; what follows it changes nothing, the cue stays
    long = "amber river " * 400
    shown = generator(tiny)
    assert texts(shown.generate([Document("d", long)])) == texts(shown.generate([Document("d", long + "anchor")]))
    (ids,) = inputs_of(shown).prompts([Document("d", long)])
    assert shown._tokenizer.decode(ids).endswith("\nRelevant Query:")
    cut = shown._tokenizer(" " + inputs_of(shown).cut([Document("d", long)])[0], add_special_tokens=False)["input_ids"]
    assert 20 <= len(cut) <= 25


def test_title_and_text_are_both_shown(tiny):
    shown = generator(tiny, max_doc_tokens=60)
    assert texts(shown.generate([Document("d", "flows down.", "Amber river")])) == texts(
        shown.generate([Document("d", "Amber river flows down.")])
    )


def test_a_prompt_too_long_for_the_model_is_refused_before_anything_is_written(tiny):
    with pytest.raises(
        ConfigError, match=r"reads 512 tokens; prompt \(\d+\), document and query need \d+: lower --max"
    ):
        generator(tiny, max_doc_tokens=500)


def test_chunks_hold_documents_of_like_length_short_ones_first(tiny):
    shown = generator(tiny, max_doc_tokens=60)
    shown._chunk = 4
    plan = shown.plan(DOCUMENTS)
    assert sorted(position for chunk in plan for position in chunk) == list(range(len(DOCUMENTS)))
    assert [len(chunk) for chunk in plan] == [4, 4, 4, 4, 3]
    lengths = [len(DOCUMENTS[position].text) for chunk in plan for position in chunk]
    assert lengths == sorted(lengths)


def test_a_full_gpu_halves_the_batch_and_goes_on(tiny, monkeypatch):
    expected = generator(tiny).generate(DOCUMENTS)
    crowded = generator(tiny, batch_size=8)
    start = writer_of(crowded).rows.start
    monkeypatch.setattr(decoding, "even_number_of_rows", lambda _: 1)  # as on a GPU: no copies beside the rows

    def start_three(prompts, *rest):
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("full")
        return start(prompts, *rest)

    monkeypatch.setattr(writer_of(crowded).rows, "start", start_three)
    assert texts(crowded.generate(DOCUMENTS)) == texts(expected)
    assert crowded._batch == 2  # 8, 4, 2


def test_every_end_token_of_the_model_ends_a_query(tiny, tmp_path):
    # the generation config's list, the config's and the tokenizer's one; the first token said is made an end token
    first = generator(tiny, prompt=Prompt("t", "Document: {document}\nQuery:")).generate(DOCUMENTS[:1])[0][0]
    folder = tmp_path / "llama"
    network, tokenizer = load(tiny("llama"))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    settings["eos_token_id"] = [1, first.token_ids[0]]
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    shown = CausalGenerator(str(folder), Prompt("t", "Document: {document}\nQuery:"), device="cpu", dtype="float32")
    query = shown.generate(DOCUMENTS[:1])[0][0]
    assert (query.text, query.token_ids, query.finish_reason) == ("", (), "stop")
    assert query.stop_log_prob == pytest.approx(first.token_log_probs[0], abs=1e-5)
    assert query.stop_log_prob > -math.inf
