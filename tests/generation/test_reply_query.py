"""Where the query stands in a reply; and good queries that look like something else, which must stay whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.generation.api.replies import find_continued, find_replied
from inpars.prompts.templates import Prompt

FORM = Prompt("p", "Document: {document}\nRelevant Query: {query}")
CATS = "what do cats eat"
GBQ = Prompt("gbq", "Document: {document}\nGood: {query}\nBad: {bad_query}")


def replied(text, form=FORM):
    start, end, remarks = find_replied(text, form)
    return text[start:end], remarks


@pytest.mark.parametrize(
    "text",
    [
        # DeepSeek-R1 and Qwen3 (langgenius/dify#35116); the opening mark is often in the chat template
        f"<think>\nIt is about cats.\n</think>\n\n{CATS}",
        f"<think>\n\n</think>\n\n{CATS}",
        f"It is about cats.\n</think>\n\n{CATS}",
        f"</think>{CATS}",
        f"It is about cats.</think>{CATS}",
        f"<Thinking>cats\n\nmore cats</Thinking>\n{CATS}",
        f"<thinking>a</thinking><thinking>b</thinking>{CATS}",
        f"<think>a <think>b</think> c</think>\n{CATS}",
        f"<reasoning>cats</reasoning>\n{CATS}\n",
        f"<thought>cats</thought>{CATS}",
        f"<seed:think>cats</seed:think>{CATS}",
        f'<think type="long">cats</think>{CATS}',
        f"[THINK]cats[/THINK]{CATS}",  # Mistral
        f"◁think▷cats◁/think▷{CATS}",  # Kimi
        f"<|begin_of_thought|>cats<|end_of_thought|>\n\n{CATS}",
        f"<|START_THINKING|>cats<|END_THINKING|>{CATS}",  # Cohere
        f"<|im_start|>assistant\n<think>cats</think>\n{CATS}<|im_end|>",
        f"<|channel|>analysis<|message|>Cats.<|end|><|start|>assistant<|channel|>final<|message|>{CATS}",  # gpt-oss
        f"analysisWe need a query.assistantfinal{CATS}",  # the same without its special tokens
        f"Here's my thought process:\nCats.\n\nHere is my response:\n{CATS}",  # Granite
        f"{CATS}\n<think>Was that good?</think>",
    ],
)
def test_thoughts_are_left_out(text):
    assert replied(text) == (CATS, replied(text)[1])
    assert "thoughts" in replied(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nOkay, the passage is about cats and I have to",
        "<|im_start|>assistant\n<think>\nOkay, the passage",
        "<thinking>",
        "<|channel|>analysis<|message|>The passage",
        "analysisThe passage is about",
        "[THINK]The passage",
        "It is about cats.\n</think>\n\n",
    ],
)
def test_thoughts_that_never_end_leave_no_query(text):
    assert replied(text) == ("", ("only_thoughts",))
    start, end, remarks = find_continued(text, FORM)
    assert (start, end, remarks) == (len(text), len(text), ("only_thoughts",))


@pytest.mark.parametrize(
    "text",
    [
        f"Sure! Here is a query for this passage:\n\n{CATS}",
        f"Sure, here's a relevant query:\n{CATS}",
        f"Here are three possible queries:\n1. {CATS}\n2. why do cats purr",
        f"Certainly!\n\n{CATS}",
        f"Okay, I can help with that.\n{CATS}",
        f"I'd be happy to help.\n\n{CATS}",
        f"Based on the passage, a good question would be:\n{CATS}",
        f"Natürlich! Hier ist eine Suchanfrage:\n\n{CATS}",
        f"当然！以下是一个查询：\n\n{CATS}",  # noqa: RUF001
        f"**Query:**\n{CATS}",
        f"### Search query\n\n{CATS}",
        f"---\n{CATS}",
        f"Document: Cats eat mice.\nRelevant Query: {CATS}",
        f"Relevant Query:\n{CATS}",
        f"Here is the query:\n> {CATS}",
        f"```\n{CATS}\n```",
        f"```text\n{CATS}\n```\nThis query asks about food.",
        f"<query>\n{CATS}\n</query>",
    ],
)
def test_preambles_are_left_out(text):
    assert replied(text)[0] == CATS
    assert replied(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        f"**{CATS}**",
        f"*{CATS}*",
        f"__{CATS}__",
        f"_{CATS}_",
        f"***{CATS}***",
        f"`{CATS}`",
        f"```{CATS}```",
        f'"{CATS}"',
        f'"{CATS}".',
        f"“{CATS}”",
        f"«{CATS}»",
        f"「{CATS}」",
        f'**"{CATS}"**',
        f"- {CATS}",
        f"* {CATS}",
        f"• {CATS}",
        f"1. {CATS}",
        f"1) {CATS}",
        f"## {CATS}",
        f"Query: {CATS}",
        f"query 1: {CATS}",
        f"**Query:** {CATS}",
        f"**Query: {CATS}**",
        f"Search query: {CATS}",
        f"A relevant query could be: {CATS}",
        f"The query is: **{CATS}**",
        f"Q: {CATS}",
        f"Question: {CATS}\nAnswer: mice",
        f'Here is a query: "{CATS}"',
        f"Sure! {CATS}",
        f"<query>{CATS}</query>",
        f"\\boxed{{{CATS}}}",
        f"{CATS}<|im_end|>",
        f"{CATS}</s>",
        f'{{"query": "{CATS}"}}',
        f'```json\n{{\n  "query": "{CATS}"\n}}\n```',
        f'{{"queries": ["{CATS}", "why do cats purr"]}}',
        f'{{"reasoning": "About \\"cats\\".", "query": "{CATS}"}}',
        f'[{{"question": "{CATS}", "answer": "mice"}}]',
        f'Here is the query:\n```json\n{{"query": "{CATS}"}}\n```',
        f"Relevant Query: '{CATS}'",
        f"\n\n  {CATS}  \n\nI chose this query because",
    ],
)
def test_marks_around_the_query_come_off(text):
    assert replied(text)[0] == CATS


@pytest.mark.parametrize(
    "query",
    [
        '"cats" or "dogs"',
        "'cats' vs 'dogs'",
        "`git rebase` vs `git merge`",
        "**kwargs python",
        "*.py",
        "__init__",
        "__init__ vs __new__",
        "_id in mongodb",
        "1. FC Köln tabelle",
        "2. weltkrieg beginn",
        "-5 celsius in fahrenheit",
        "# symbol meaning",
        "c# list of lists",
        "> in bash",
        "SQL query: select top 10",
        "research question: how to find one",
        "query optimization in postgres",
        "question mark symbol",
        "answer to life the universe and everything",
        "how to make pasta: a guide",
        "sure petcare feeder",
        "ok google",
        "here is the news bbc",
        "what does the <think> tag do",
        "meaning of </think>",
        "why is there </think> in the output",
        "is <think></think> needed",
        "analysis of variance",
        "what is <|endoftext|>",
        "<query> element in xml",
        "i can't help falling in love lyrics",
        "i'm sorry i haven't a clue",
        "sorry justin bieber",
        "as an ai engineer what should i learn",
        "'tis the season to be jolly",
        "owl's",
        "what's 'rizz'",
        "x = 5 * 3",
        "50% off",
        "café «noir» paris",
        "a",
        '"',
        "*",
    ],
)
def test_good_queries_stay_whole(query):
    assert replied(query) == (query, ())
    assert replied(f"{query}\n\nThis query asks about something.") == (query, ())


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, I cannot help with this request.",  # noqa: RUF001
        "I cannot provide a query for this passage.",
        "Unfortunately, I am unable to create a query.",
        "As an AI language model, I",
        "<think>bad</think>\n\nI can't help with that.",
    ],
)
def test_a_refusal_in_words_is_no_query(text):
    assert replied(text)[0] == ""
    assert "refused_in_words" in replied(text)[1]


def test_a_reply_without_a_cue_or_with_several_lines_of_its_own():
    plain = Prompt("p", "{document}\n")
    assert replied(f"Query: {CATS}", plain)[0] == CATS
    several = Prompt("p", "Document: {document}\nQuery: {query}", stop=("###",))
    assert replied("one\ntwo ### three", several)[0] == "one\ntwo"


@pytest.mark.parametrize(
    ("reply", "query"),
    [
        ("why do owls hoot", "why do owls hoot"),
        ("\n\nwhy do owls hoot\n\nI chose this because", "why do owls hoot"),
        ("Good: why do owls hoot", "why do owls hoot"),
        ("good:\nwhy do owls hoot", "why do owls hoot"),
        ('"why do owls hoot"', "why do owls hoot"),
        ('Good: "why do owls hoot"\nBad: "owls"', "why do owls hoot"),
        ("“why do owls hoot”", "why do owls hoot"),
        ('"owls" that hoot', '"owls" that hoot'),
        ("owl's", "owl's"),
        ('"', '"'),
        ("", ""),
    ],
)
def test_a_reply_loses_its_cue_and_its_quotes(reply, query):
    assert replied(reply, GBQ)[0] == query


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (f" {CATS}\nExample 5:", CATS),
        (f"\n{CATS}", ""),  # a continuation begins where the prompt ends
        (f"**{CATS}**\n", f"**{CATS}**"),  # and nothing is put around it
        (f"<think>\ncats\n</think>\n\n{CATS}\nmore", CATS),
    ],
)
def test_a_continuation_ends_at_its_stop(text, query):
    start, end, _ = find_continued(text, FORM)
    assert text[start:end] == query


def test_a_repeated_prompt_is_left_out():
    prompt = "Document: Cats.\nRelevant Query:"
    start, end, remarks = find_continued(f"{prompt} {CATS}", FORM, prompt)
    assert (f"{prompt} {CATS}"[start:end], remarks) == (CATS, ("echo",))


@given(st.text(), st.sampled_from(["", "<think>a</think>", "Sure! Here is a query:\n\n", "Query: ", "**"]))
def test_any_text_has_a_span(text, before):
    for found in (find_replied(before + text, FORM), find_continued(before + text, FORM)):
        assert 0 <= found.start <= found.end <= len(before + text)
        query = (before + text)[found.start : found.end]
        assert query == query.strip()
