"""What was odd about a server's answers, counted and said: one line a kind, with what helps.

The journal keeps the kinds beside each answer, so that the count holds for answers of interrupted runs as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from inpars.generation.api_payload import BROKEN, ENCODING, STREAM
from inpars.generation.api_reply import FILTERED, NO_FINISH, PARTS, UNKNOWN_FINISH
from inpars.generation.reply_query import ECHO, MARKUP, ONLY_THOUGHTS, PREAMBLE, THOUGHTS
from inpars.generation.reply_query import REFUSED as REFUSED_IN_WORDS
from inpars.generation.token_spans import FORM, LENGTH, NONE, TEXT, VALUE

REFUSED = "refused"
SCORE = "`inpars score` computes comparable ones, --log-prob-kind absent asks for none"
SENTENCES: Mapping[str, str] = {
    THOUGHTS: "held the model's thoughts, which were left out",
    ONLY_THOUGHTS: "hold thoughts and no query; raise --max-new-tokens, or turn thinking off at the server",
    PREAMBLE: "began with a preamble, which was left out",
    MARKUP: "had quotes, a label or markdown around the query, which was taken off",
    ECHO: "repeated the prompt, which was left out",
    FILTERED: "were refused by a content filter or the model; their queries are empty, with finish_reason error",
    REFUSED: "were refused by the server; their queries are empty, with finish_reason error",
    REFUSED_IN_WORDS: "decline in words to write a query; their queries are empty, with finish_reason error",
    PARTS: "had parts that are no text, which were left out",
    STREAM: "came as an event stream that was not asked for; its chunks were joined",
    ENCODING: "were not UTF-8; look at letters beyond ASCII",
    BROKEN: "hold letters that did not arrive whole, shown as U+FFFD",
    NO_FINISH: "have no finish_reason; taken for stop, or for length where the token limit was reached",
    UNKNOWN_FINISH: "have a finish_reason that is not known; taken for stop, or for length at the token limit",
    NONE: f"have no log-probs, since the server sent none; {SCORE}",
    FORM: f"have no log-probs, since the server's are in no known form; {SCORE}",
    LENGTH: f"have no log-probs, since the server sent more or fewer values than tokens; {SCORE}",
    TEXT: f"have no log-probs, since the server's tokens do not cover the query; {SCORE}",
    VALUE: f"have no log-probs, since some of the server's are none (null, infinite, text, above 0); {SCORE}",
}


def remark_lines(counts: Mapping[str, int], answers: int) -> list[str]:
    """One line a kind: how many of the answers, and what of it."""
    lines = []
    for remark in SENTENCES:
        found = {full: count for full, count in counts.items() if full.partition(":")[0] == remark}
        if found:
            words = ", ".join(name for full in sorted(found) if (name := full.partition(":")[2]))
            shown = f" ({words})" if words else ""
            lines.append(f"{sum(found.values()):,} of {answers:,} answers {SENTENCES[remark]}{shown}")
    return lines
