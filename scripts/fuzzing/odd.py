"""Odd values, each of which broke some program once: numbers, texts, JSON."""

from __future__ import annotations

import json
import random

HALF = "\ud83d"  # a surrogate without its partner
HUGE = "9" * 5000  # more digits than Python converts
DEEP = (50, 300, 1200, 5000, 100_000)

NUMBERS = (
    *(
        "0",
        "-0",
        "1",
        "-1",
        "-2",
        "1.0",
        "0.1",
        "-0.0",
        "007",
        "+1",
        "1e2",
        "1e-400",
        "1e999",
        "-1e999",
        "1e39",
        "0x10",
    ),
    *("2147483647", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "18446744073709551616"),
    *("4294967295", "1" + "0" * 30, "9" * 400, "-" + "9" * 400, HUGE, "NaN", "nan", "Infinity", "-Infinity", "inf"),
    *("1_000", "1,5", "\u0661\u0662", "\u00bd", "1.7976931348623157e308", "16777217", "-2000000000", "1000000"),
)
JSON_NUMBERS = tuple(
    text for text in NUMBERS if text[0] not in "+ni\u0661\u00bd" and not text.startswith(("00", "0x", "1_", "1,"))
)
TEXTS = (
    *("", " ", "a", "a b", "a\tb", "a\nb", "a\rb", "\0", "x\0y", "\x1f", "\x7f", "\x85", "\u2028", "\u00a0", "\u3000"),
    *("\u200b", "\u202e\u202d", "\ufeff", "\ufeffa", "\ufffd", "\uffff", HALF, "\udc00" + HALF, f"q{HALF}", "e\u0301"),
    *(
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "火山",
        "null",
        "None",
        "true",
        "NaN",
        "nan",
        "#",
        "# x",
        "//",
        "%",
        "%s",
    ),
    *("{document}", "{", "}", "{0}", "{{query}}", "<b>", "</script>", "<think>", "<think>a</think>b", "&amp;", "&#0;"),
    *(
        '"',
        '""',
        "'",
        "`",
        "\\",
        "\\u0000",
        "\\ud83d",
        '"a',
        'a"b',
        "a,b",
        ";",
        "=1+1",
        "-",
        "--",
        "---",
        "...",
        "*",
        "|",
    ),
    *("../x", "/", "a/b", "C:\\x", "~", "$HOME", "_id", "id", "text", "Q0", "query-id", "x" * 300, "word " * 2000),
    *("é" * 3000, "a" * 70_000, "ß", "İ", "ﬁ", "1", "0", "-1", "data: {}", "[DONE]", "!!!", "??", "\t", "\t\t", "\r\n"),
)
BYTES = (
    *(b"\xff", b"\xfe", b"\xc3", b"\xc0\x80", b"\xed\xa0\xbd", b"\xf4\x90\x80\x80", b"\x80", b"\xe9", b"\x00", b"\x1a"),
    *(
        b"\x00" * 64,
        b"\xff" * 64,
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\n",
        b"\r",
        b"\r\n",
        b"\t",
        b"\x0b",
        b"\x0c",
    ),
    *(
        b"\x85",
        b"\x1f\x8b",
        b"PK\x03\x04",
        b"%PDF-",
        b"BZh9",
        b"\x1b[0m",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
    ),
)
JSON_VALUES = (
    *("null", "true", "false", "[]", "{}", "[[]]", "[null]", '["a", 1]', '[""]', '{"a": 1}', '{"": null}', "[1, 2]"),
    *('[["a", 0]]', '[{"text": "a"}]', '{"text": "a"}', '{"a": {"b": []}}', "[NaN]", "[true]", '["a", "a"]', "[{}]"),
)
LINES = (
    *(b"query-id\tcorpus-id\tscore", b"id\ttext\ttitle", b"sep=;", b"{}", b"[]", b"null", b"1", b'"a"', b"a", b"a b"),
    *(
        b"a\tb",
        b"a b c d",
        b"a 0 b 1",
        b"a 0 b -2",
        b"a Q0 b 1 1 t",
        b"a\tb\tc\td\te",
        b"---",
        b"%YAML 9",
        b"%",
        b"&a [*a]",
    ),
    *(b"a" * 200_000, b"\t" * 5000, b"[" * 100_000, b'{"a":' * 5000),
)
KEYS = (
    *(
        "_id",
        "id",
        "doc_id",
        "docid",
        "pid",
        "query_id",
        "qid",
        "query-id",
        "corpus-id",
        "text",
        "contents",
        "title",
        "query",
    ),
    *(
        "question",
        "metadata",
        "score",
        "scores",
        "label",
        "relevance",
        "log_probs",
        "token_ids",
        "stop_log_prob",
        "error",
    ),
    *(
        "finish_reason",
        "message",
        "content",
        "choices",
        "logprobs",
        "tokens",
        "usage",
        "doc",
        "candidates",
        "pos",
        "neg",
    ),
)


def number(rng: random.Random) -> str:
    """A number as text."""
    return rng.choice(NUMBERS)


def text(rng: random.Random) -> str:
    """A text, half surrogates among them."""
    return rng.choice(NUMBERS if rng.random() < 0.2 else TEXTS)


def plain(rng: random.Random) -> str:
    """A text that UTF-8 can hold, or bytes that are none of it as `surrogateescape` reads them."""
    return text(rng).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def json_text(rng: random.Random) -> str:
    """A JSON value as text, not all of them strict JSON."""
    kind = rng.random()
    if kind < 0.35:
        return json.dumps(text(rng), ensure_ascii=True)
    if kind < 0.65:
        return rng.choice(JSON_NUMBERS)
    if kind < 0.75:
        depth = rng.choice(DEEP)
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ("[[],", "]")))
        return opening * depth + "1" + closing * depth
    return rng.choice(JSON_VALUES)
