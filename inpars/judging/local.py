"""A decoder on this machine as a judge: the likeliest of four grades, read off one forward pass per pair.

The model writes nothing. It reads the prompt up to where the grade would stand, and the log-probabilities of 0, 1, 2
and 3 there are compared. A model with a chat template is shown its turns, with the prompt's cue as the beginning of its
reply; others are shown the text. What all prompts begin with is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from inpars.errors import ConfigError
from inpars.generation.prompt_tokens import common_prefix
from inpars.generation.settings import chunks_by_length
from inpars.generation.teacher_forcing import PromptForward, Row
from inpars.judging import Graded, Pair
from inpars.models.compute_options import Placement
from inpars.prompts.judging import GRADES, JudgingPrompt

CHUNK_PAIRS = {"cpu": 32, "cuda": 1024}  # graded and stored as a whole
DIGITS = 6  # decimals kept of a log-probability
MARK = "\ue000"  # a private sign where the document goes; no template knows it
PROBES = ("The first of two", "another, 2nd one", "(3) Third")
LONGEST_QUERY_TOKENS = 64  # whose room is checked before anything is graded


class LocalJudge:
    """One causal model and one prompt."""

    def __init__(
        self,
        model: str,
        prompt: JudgingPrompt,
        *,
        max_doc_tokens: int = 256,
        batch_size: int | None = None,
        **where: Unpack[Placement],
    ) -> None:
        """Load the model. Raises ConfigError where the prompt is too long, or grades are not told by one token."""
        self._forward, self.device = PromptForward.load(model, batch_size, **where)
        self.name, self._tokenizer = model, self._forward.tokenizer
        self._prompt, self._max_doc_tokens = prompt, max_doc_tokens
        self._in_turns = bool(getattr(self._tokenizer, "chat_template", None))
        kind = self._forward.network.device.type
        self._chunk = CHUNK_PAIRS.get(kind, CHUNK_PAIRS["cpu"])
        self._lead, grades = self._grade_tokens()
        self._grades = torch.tensor(grades, device=self._forward.network.device)
        rows = self._rows([(probe, probe) for probe in PROBES])
        self._check_room(max(len(prompt) for prompt, _ in rows))
        self._forward.share(common_prefix([prompt for prompt, _ in rows]))

    @property
    def parameters(self) -> int:
        """How many numbers the network has, which says what can be expected of its grades."""
        return sum(weight.numel() for weight in self._forward.network.parameters())

    def plan(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Positions of the pairs in chunks of similar length, short ones first."""
        cut = self._cut([pair.document.full_text for pair in pairs])
        return chunks_by_length(
            [len(text) + len(pair.query) for text, pair in zip(cut, pairs, strict=True)], self._chunk
        )

    def judge(self, pairs: Sequence[Pair]) -> list[Graded]:
        """The grades of the pairs, in their order. Raises ConfigError for a prompt longer than the model reads."""
        cut = self._cut([pair.document.full_text for pair in pairs])
        rows = self._rows([(pair.query, text) for pair, text in zip(pairs, cut, strict=True)])
        longest, limit = max((len(prompt) for prompt, _ in rows), default=0), self._forward.limit
        if limit is not None and longest > limit:
            raise ConfigError(
                f"{self.name} reads {limit} tokens; the longest prompt has {longest}: lower --max-doc-tokens"
            )
        return self._forward.each(rows, self._read_off)

    def _read_off(self, logits: Tensor, rows: Sequence[Row]) -> list[Graded]:
        """The likeliest grade of each row, the lower of two that are equal; logits are (rows, vocabulary)."""
        values = logits[:, self._grades] - torch.logsumexp(logits, dim=-1, keepdim=True)  # (rows, grades)
        found = []
        for row in values.double().tolist():
            rounded = tuple(round(value, DIGITS) for value in row)
            grade = max(range(len(rounded)), key=lambda one: (rounded[one], -one))
            found.append(Graded(grade, rounded[grade], rounded))
        return found

    def _rows(self, texts: Sequence[tuple[str, str]]) -> list[Row]:
        """Tokens of the prompts of (query, document), up to the grade."""
        around = {query: self._around(query) for query, _ in texts}
        shown = [around[query][0] + text.strip() + around[query][1] for query, text in texts]
        return [(prompt + self._lead, []) for prompt in self._ids(shown)]

    def _ids(self, shown: Sequence[str]) -> list[list[int]]:
        """A template writes the tokens that begin a text itself."""
        ids: list[list[int]] = self._tokenizer(list(shown), add_special_tokens=not self._in_turns, verbose=False)[
            "input_ids"
        ]
        return ids

    def _around(self, query: str) -> tuple[str, str]:
        """The text before a document and behind it."""
        if not self._in_turns:
            return self._prompt.around(query)
        turns = self._prompt.messages(query, MARK)
        form: str = self._template(turns)
        before, _, after = form.rpartition(MARK)
        return before, after + self._prompt.cue

    def _template(self, turns: list[dict[str, str]]) -> str:
        """The turns as the model's own template writes them; some know no system turn."""
        apply: Any = self._tokenizer.apply_chat_template
        try:
            return str(apply(turns, add_generation_prompt=True, tokenize=False))
        except Exception:  # Jinja's, raised by the template itself
            if turns[0]["role"] != "system":
                raise
            system, first, *rest = turns
            joined = {**first, "content": f"{system['content']}\n\n{first['content']}"}
            return str(apply([joined, *rest], add_generation_prompt=True, tokenize=False))

    def _grade_tokens(self) -> tuple[list[int], list[int]]:
        """Tokens that all grades begin with, a blank for instance, and the one in which they differ, for each grade.

        Grades follow a blank, as words do, where the vocabulary then tells them by one token each, else no blank.
        """
        before, after = self._around(PROBES[0])
        text = before + PROBES[0] + after
        for blank in ("",) if text[-1:].isspace() else (" ", ""):
            tails = self._following(text, [blank + grade for grade in GRADES])
            lead = common_prefix([[*tail, -1] for tail in tails])
            rest = [tail[len(lead) :] for tail in tails]
            if all(len(tail) == 1 for tail in rest) and len({tail[0] for tail in rest}) == len(GRADES):
                return lead, [tail[0] for tail in rest]
        raise ConfigError(f"{self.name}: its vocabulary does not tell 0, 1, 2 and 3 by one token each; name another")

    def _following(self, text: str, continuations: Sequence[str]) -> list[list[int]]:
        """Tokens of continuations behind a text, or of them alone where the two share a token."""
        prompt, *whole = self._ids([text, *(text + one for one in continuations)])
        if all(ids[: len(prompt)] == prompt for ids in whole):
            return [ids[len(prompt) :] for ids in whole]
        alone: list[list[int]] = self._tokenizer(list(continuations), add_special_tokens=False)["input_ids"]
        return alone

    def _cut(self, texts: Sequence[str]) -> list[str]:
        """Each text up to its last allowed token."""
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=True,
            max_length=self._max_doc_tokens,
            return_offsets_mapping=True,
        )
        spans = encoded["offset_mapping"]
        return [text[: offsets[-1][1]] if offsets else "" for text, offsets in zip(texts, spans, strict=True)]

    def _check_room(self, prompt_tokens: int) -> None:
        needed, limit = prompt_tokens + self._max_doc_tokens + LONGEST_QUERY_TOKENS, self._forward.limit
        if limit is not None and needed > limit:
            raise ConfigError(
                f"{self.name} reads {limit} tokens; prompt ({prompt_tokens}), query and document need {needed}: lower "
                "--max-doc-tokens, or shorten the prompt"
            )
