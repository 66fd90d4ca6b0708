"""Fine-tune a reader: a model that marks where in a text the answer to a question stands, or that it does not.

Two numbers a token say how likely an answer begins and ends there; a text without an answer is taught to begin and end
at its first special token (Devlin et al., arXiv 1810.04805, section 4.3). Texts too long for the model are read in
overlapping windows, as when they are searched for answers. What margin is worth an answer is found on questions that
were held out, and kept in the model's configuration. Rajpurkar, Jia and Liang, "Know What You Don't Know", 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from inpars.engines.training_attention import train_with_fast_attention
from inpars.evaluation.squad_metrics import best_threshold, exact_match, f1
from inpars.models import loading as models
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.models.networks import check_length, pad_id
from inpars.progress import SILENT, Progress
from inpars.rerankers.answerability import MAX_LENGTH, MIN_WINDOW, AnswerabilityScorer, split_into_windows
from inpars.training.loop import Curve, LossTrainer, checkpoint_folder, run_trainer, set_dropout, training_arguments
from inpars.training.options import ReaderOptions, steps_of

Window = dict[str, Any]
"""A tokenizer's lists for one window, and `start` and `end`, the places of its answer's first and last token."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question about a text, and its right answers with their first characters; none where the text has none."""

    question: str
    text: str
    answers: tuple[tuple[str, int], ...] = ()

    @property
    def right(self) -> list[str]:
        return [text for text, _ in self.answers]


def train_reader(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    options: ReaderOptions,
    *,
    output: Path,
    fingerprint: Mapping[str, Any],
    progress: Progress = SILENT,
) -> tuple[Curve, dict[str, float], str]:
    """Train on the examples and save a Hugging Face folder; loss curve, measures on what was held out, and device."""
    device = pick_device(options.device)
    torch.manual_seed(options.seed)  # of the new head
    network, tokenizer = models.load_extractive_reader(
        options.model, device=str(device), dtype="float32", trust_remote_code=options.trust_remote_code
    )
    check_length(network, options.model, options.max_length, MIN_WINDOW)
    set_dropout(network, options.dropout)
    train_with_fast_attention(network, pick_dtype(options.dtype, device))
    network.train()
    length = options.max_length or min(MAX_LENGTH, int(network.config.max_position_embeddings))
    windows = [window for example in examples for window in answer_windows(example, tokenizer, length)]
    steps = steps_of(-(-len(windows) // options.batch_size), options)
    reader_arguments = {"remove_unused_columns": False, "train_sampling_strategy": "group_by_length"}
    trainer = LossTrainer(
        model=network,
        args=TrainingArguments(
            **training_arguments(options, device, checkpoint_folder(output), steps) | reader_arguments
        ),
        train_dataset=windows,
        data_collator=lambda rows: collate_windows(rows, pad_id(tokenizer)),
    )
    trainer.batch_loss, trainer.model_accepts_loss_kwargs = _batch_loss, False  # losses are means
    measures: dict[str, float] = {}

    def save(folder: Path) -> None:
        tokenizer.model_max_length = length
        network.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        measures.update(measure(folder, held_out, options))
        network.config.inpars = {"kind": "reader", "threshold": measures.get("threshold", 0.0)}
        network.config.save_pretrained(folder)

    curve = run_trainer(
        trainer, settings=fingerprint, output=output, save=save, progress=progress, description="train reader"
    )
    return curve, measures, describe(device, pick_dtype(options.dtype, device))


def measure(model: Path, examples: Sequence[Example], options: ReaderOptions) -> dict[str, float]:
    """Exact match and F1 over all questions, from the texts they were asked of, and the threshold that is best there.

    `answerable` are those of questions that have an answer and always get one. Empty without examples.
    """
    if not examples:
        return {}
    scorer = AnswerabilityScorer(str(model), **options.placement)
    spans = scorer.spans([(example.question, example.text) for example in examples])
    answers = [example.text[span.start : span.end] for span, example in zip(spans, examples, strict=True)]
    margins = [span.margin for span in spans]
    limit = best_threshold(list(zip(margins, answers, (example.right for example in examples), strict=True)))
    thresholded = [text if margin >= limit else "" for text, margin in zip(answers, margins, strict=True)]
    answerable = [(text, example.right) for text, example in zip(answers, examples, strict=True) if example.answers]
    rows = [(text, example.right) for text, example in zip(thresholded, examples, strict=True)]
    return {
        "questions": len(rows),
        "threshold": round(limit, 4),
        "exact_match": _mean([exact_match(*row) for row in rows]),
        "f1": _mean([f1(*row) for row in rows]),
        "answerable_exact_match": _mean([exact_match(*row) for row in answerable]),
        "answerable_f1": _mean([f1(*row) for row in answerable]),
    }


def answer_windows(example: Example, tokenizer: Any, max_length: int) -> list[Window]:
    """The windows of a text after its question, each with the places of the first right answer's tokens.

    Both are the special token's where the answer is not, or not whole, in the window.
    """
    windows = []
    for window in split_into_windows(tokenizer, [example.question], [example.text], max_length):
        inside = [position for position, is_inside in enumerate(window.in_document) if is_inside]
        none = (window.no_answer, window.no_answer)
        start, end = _places(example.answers, window.offsets, inside) or none
        windows.append({**window.inputs, "start": start, "end": end})
    return windows


def _places(
    answers: Sequence[tuple[str, int]], covered: Sequence[tuple[int, int]], inside: Sequence[int]
) -> tuple[int, int] | None:
    """The tokens at which the first answer begins and ends, None where the window does not hold all of it."""
    if not answers or not inside:
        return None
    text, first = answers[0]
    last = first + len(text)
    if first < covered[inside[0]][0] or last > covered[inside[-1]][1]:
        return None
    touched = [position for position in inside if covered[position][0] < last and covered[position][1] > first]
    return (touched[0], touched[-1]) if touched else None


def collate_windows(rows: Sequence[Window], pad: int) -> dict[str, Tensor]:
    """Lists of one length, (rows, tokens), and the places, (rows,)."""
    width = max(len(row["input_ids"]) for row in rows)
    batch = {}
    for name, value in rows[0].items():
        padding = pad if name == "input_ids" else 0
        listed = isinstance(value, list)
        batch[name] = torch.tensor(
            [row[name] + [padding] * (width - len(row[name])) if listed else row[name] for row in rows]
        )
    return batch


def span_loss(start: Tensor, end: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Mean negative log-likelihood of the first and of the last token, among those that are not padding."""
    padding = inputs["attention_mask"] == 0  # (rows, tokens)
    losses = [
        nn.functional.cross_entropy(logits.float().masked_fill(padding, -torch.inf), inputs[name])
        for name, logits in (("start", start), ("end", end))
    ]
    return torch.stack(losses).mean()


def _batch_loss(inputs: dict[str, Any], network: nn.Module) -> Tensor:
    """Loss of one batch of windows."""
    outputs: Any = network(**{name: tensor for name, tensor in inputs.items() if name not in ("start", "end")})
    return span_loss(outputs.start_logits, outputs.end_logits, inputs)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
