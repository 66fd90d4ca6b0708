"""A local causal language model as a judge: the most probable of four grades, from one forward pass per pair.

The model generates nothing: it reads the prompt up to the grade, and the log-probabilities of 0, 1, 2 and 3 as the next
token are compared. If the model has a chat template, the prompt is formatted as chat turns with the prompt's cue as the
start of the reply. The prefix that all prompts share is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from inpars.errors import ConfigError
from inpars.generation.prompt_tokens import PROBE_DOCUMENTS, common_prefix, cut_texts
from inpars.generation.settings import chunks_by_length
from inpars.generation.teacher_forcing import PromptForward, Row
from inpars.judging import Graded, Pair
from inpars.models.compute_options import Placement
from inpars.prompts.judging import GRADES, JudgingPrompt

CHUNK_PAIRS = {"cpu": 32, "cuda": 1024}  # graded and stored as a whole
DIGITS = 6  # decimals of a log-probability
DOCUMENT_MARK = "\ue000"  # private-use character in place of the document; no chat template contains it
LONGEST_QUERY_TOKENS = 64  # assumed when checking the prompt's length before anything is graded


class LocalJudge:
    """A `Judge` with one causal model and one prompt."""

    def __init__(
        self,
        model: str,
        prompt: JudgingPrompt,
        *,
        max_doc_tokens: int = 256,
        batch_size: int | None = None,
        **where: Unpack[Placement],
    ) -> None:
        """Load the model. Raises ConfigError if the prompt is too long or a grade is not a single token."""
        self._forward, self.device = PromptForward.load(model, batch_size, **where)
        self.name, self._tokenizer = model, self._forward.tokenizer
        self._prompt, self._max_doc_tokens = prompt, max_doc_tokens
        self._in_turns = bool(getattr(self._tokenizer, "chat_template", None))
        kind = self._forward.network.device.type
        self._chunk = CHUNK_PAIRS.get(kind, CHUNK_PAIRS["cpu"])
        self._lead, grades = self._grade_tokens()
        self._grades = torch.tensor(grades, device=self._forward.network.device)
        rows = self._rows([(probe, probe) for probe in PROBE_DOCUMENTS])
        self._check_room(max(len(prompt) for prompt, _ in rows))
        self._forward.share(common_prefix([prompt for prompt, _ in rows]))

    @property
    def parameters(self) -> int:
        """The network's size; small models' grades are not to be trusted."""
        return sum(weight.numel() for weight in self._forward.network.parameters())

    def plan(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Positions of the pairs in chunks of similar length, shortest first."""
        cut = self._cut_documents(pairs)
        return chunks_by_length(
            [len(text) + len(pair.query) for text, pair in zip(cut, pairs, strict=True)], self._chunk
        )

    def judge(self, pairs: Sequence[Pair]) -> list[Graded]:
        """Grades in the order of the pairs. Raises ConfigError for prompts longer than the model's maximum length."""
        cut = self._cut_documents(pairs)
        rows = self._rows([(pair.query, text) for pair, text in zip(pairs, cut, strict=True)])
        longest, limit = max((len(prompt) for prompt, _ in rows), default=0), self._forward.limit
        if limit is not None and longest > limit:
            raise ConfigError(
                f"{self.name} reads {limit} tokens; the longest prompt has {longest}: lower --max-doc-tokens"
            )
        return self._forward.each(rows, self._grade_batch)

    def _grade_batch(self, logits: Tensor, rows: Sequence[Row]) -> list[Graded]:
        """The most probable grade per row, the lower one on ties; logits are (rows, vocabulary)."""
        values = logits[:, self._grades] - torch.logsumexp(logits, dim=-1, keepdim=True)  # (rows, grades)
        graded = []
        for row in values.double().tolist():
            rounded = tuple(round(value, DIGITS) for value in row)
            grade = rounded.index(max(rounded))
            graded.append(Graded(grade, rounded[grade], rounded))
        return graded

    def _rows(self, texts: Sequence[tuple[str, str]]) -> list[Row]:
        """Tokens of the prompt for each (query, document), up to the grade."""
        around = {query: self._around(query) for query, _ in texts}
        prompts = [around[query][0] + text.strip() + around[query][1] for query, text in texts]
        return [(prompt + self._lead, []) for prompt in self._encode(prompts)]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids; chat templates write the special tokens themselves."""
        encoded = self._tokenizer(list(texts), add_special_tokens=not self._in_turns, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _around(self, query: str) -> tuple[str, str]:
        """The prompt's text before and after the document."""
        if not self._in_turns:
            return self._prompt.around(query)
        before, _, after = self._template(self._prompt.messages(query, DOCUMENT_MARK)).rpartition(DOCUMENT_MARK)
        return before, after + self._prompt.cue

    def _template(self, turns: list[dict[str, str]]) -> str:
        """The turns formatted by the model's chat template; some templates accept no system turn."""
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
        """Tokens that precede every grade, a space for instance, and the token of each grade.

        Grades follow a space, as words do, if the vocabulary then has one token per grade; otherwise no space.
        """
        before, after = self._around(PROBE_DOCUMENTS[0])
        text = before + PROBE_DOCUMENTS[0] + after
        for space in ("",) if text[-1:].isspace() else (" ", ""):
            continuations = self._continuations(text, [space + grade for grade in GRADES])
            lead = common_prefix(continuations)
            rest = [tokens[len(lead) :] for tokens in continuations]
            if all(len(tokens) == 1 for tokens in rest) and len({tokens[0] for tokens in rest}) == len(GRADES):
                return lead, [tokens[0] for tokens in rest]
        raise ConfigError(f"{self.name}: its vocabulary does not tell 0, 1, 2 and 3 by one token each; name another")

    def _continuations(self, text: str, continuations: Sequence[str]) -> list[list[int]]:
        """Tokens of continuations after a text; tokenized alone if a token spans the boundary."""
        prompt, *whole = self._encode([text, *(text + continuation for continuation in continuations)])
        if all(ids[: len(prompt)] == prompt for ids in whole):
            return [ids[len(prompt) :] for ids in whole]
        alone: list[list[int]] = self._tokenizer(list(continuations), add_special_tokens=False)["input_ids"]
        return alone

    def _cut_documents(self, pairs: Sequence[Pair]) -> list[str]:
        return cut_texts(self._tokenizer, [pair.document.full_text for pair in pairs], self._max_doc_tokens)

    def _check_room(self, prompt_tokens: int) -> None:
        needed, limit = prompt_tokens + self._max_doc_tokens + LONGEST_QUERY_TOKENS, self._forward.limit
        if limit is not None and needed > limit:
            raise ConfigError(
                f"{self.name} reads {limit} tokens; prompt ({prompt_tokens}), query and document need {needed}: lower "
                "--max-doc-tokens, or shorten the prompt"
            )
