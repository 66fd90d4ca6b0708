"""A decoder as a judge: the likeliest of four tokens, whatever is read together, with turns or without."""

import pytest
import torch
from tiny_models import sentence
from transformers import AutoModelForCausalLM, AutoTokenizer

from inpars.errors import ConfigError
from inpars.judging import Pair
from inpars.judging.local import LocalJudge
from inpars.prompts.judging import JudgingPrompt, load_judging_prompt
from inpars.records import Document

PROMPT = JudgingPrompt("own", "Query: {query}\nPassage: {document}\nGrade: {grade}", instruction="From 0 to 3.")
PAIRS = [
    Pair(f"q{place % 3}", sentence(place % 3, 3), Document(f"d{place}", sentence(place, 4 + 3 * place)))
    for place in range(7)
]
TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}<s>assistant: "
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE


def judge(folder, prompt=PROMPT, **settings):
    return LocalJudge(str(folder), prompt, device="cpu", dtype="float32", **settings)


def with_template(tiny, tmp_path, template):
    tokenizer = AutoTokenizer.from_pretrained(tiny("llama"))
    tokenizer.chat_template = template
    folder = tmp_path / "chat"
    AutoModelForCausalLM.from_pretrained(tiny("llama")).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_hand(folder, text):
    """Log-probabilities of the tokens of 0 to 3 right behind a text, of one row alone.

    These small vocabularies hold " 1" as one token and " 0" as two, so that no blank can stand before a grade.
    """
    network, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    bare = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    with torch.inference_mode():
        logits = network(torch.tensor([bare])).logits[0, -1]
    return torch.log_softmax(logits, dim=-1)[tokenizer.convert_tokens_to_ids(list("0123"))].tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral"])
def test_grades_are_those_of_one_forward_pass(tiny, kind):
    folder = tiny(kind)
    for pair, graded in zip(PAIRS, judge(folder).judge(PAIRS), strict=True):
        expected = by_hand(folder, PROMPT.render(pair.query, pair.document.text))
        assert list(graded.grade_log_probs) == pytest.approx(expected, abs=1e-4)
        assert graded.log_prob == max(graded.grade_log_probs) == graded.grade_log_probs[graded.grade]
        assert (graded.reason, graded.problem) == ("", "")


def test_grades_do_not_depend_on_what_is_read_together(tiny):
    whole = judge(tiny("llama")).judge(PAIRS)
    alone = [judge(tiny("llama"), batch_size=1).judge([pair])[0] for pair in PAIRS]
    some = judge(tiny("llama"), batch_size=2).judge(PAIRS)
    assert whole == alone == some


@pytest.mark.parametrize("template", [TEMPLATE, NO_SYSTEM])
def test_a_model_with_a_chat_template_is_shown_its_turns(tiny, tmp_path, template):
    folder = with_template(tiny, tmp_path, template)
    pair = PAIRS[3]
    question = f"Query: {pair.query}\nPassage: {pair.document.text}\nGrade:"
    turns = [{"role": "system", "content": "From 0 to 3."}, {"role": "user", "content": question}]
    if template == NO_SYSTEM:
        turns = [{"role": "user", "content": f"From 0 to 3.\n\n{question}"}]
    shown = "".join(f"<s>{turn['role']}: {turn['content']}</s>" for turn in turns) + "<s>assistant: Grade:"
    (graded,) = judge(folder).judge([pair])
    assert list(graded.grade_log_probs) == pytest.approx(by_hand(folder, shown), abs=1e-4)


def test_only_the_document_is_cut(tiny):
    long = Pair("q", "amber anchor", Document("d", sentence(1, 200)))
    judges = judge(tiny("llama"), max_doc_tokens=8)
    (text,) = judges._cut_documents([long])
    assert long.document.text.startswith(text)
    assert judges.judge([long]) == judges.judge([Pair("q", "amber anchor", Document("d", text))])


def test_chunks_hold_every_pair_once(tiny):
    plan = judge(tiny("llama")).plan(PAIRS)
    assert sorted(position for chunk in plan for position in chunk) == list(range(len(PAIRS)))


def test_what_does_not_fit_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"reads 512 tokens; .*--max-doc-tokens"):
        judge(tiny("llama"), max_doc_tokens=500)
    with pytest.raises(ConfigError, match=r"reads 512 tokens.*--max-doc-tokens"):
        judge(tiny("llama")).judge([Pair("q", "amber " * 600, Document("d", "x"))])


def test_the_shipped_prompt_is_read(tiny):
    prompt = load_judging_prompt("relevance")
    narrow = judge(tiny("mistral"), prompt, max_doc_tokens=8)
    assert {graded.grade for graded in narrow.judge(PAIRS[:2])} <= {0, 1, 2, 3}
    assert narrow.parameters > 0
