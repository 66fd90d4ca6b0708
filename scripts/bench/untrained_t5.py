"""A T5 with random weights and a tokenizer of its own, for where no checkpoint can be had."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

WORDS = 16_000
T5_SMALL = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "vocab_size": 32128}


def untrained_t5(texts: Iterable[str], folder: Path, *, seed: int = 0, **sizes: int) -> str:
    """The folder, with T5-small's sizes but for those given, a vocabulary of the texts, and monoT5's two answers."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=WORDS, special_tokens=special, unk_token="<unk>", show_progress=False)
    speech = ["Query: Document: Relevant: true false"] * 100
    tokenizer.train_from_iterator([*speech, *texts], trainer)
    tokenizer.add_tokens(["▁true", "▁false"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=512
    )
    torch.manual_seed(seed)
    ids = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    T5ForConditionalGeneration(T5Config(**T5_SMALL | sizes, **ids)).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)
