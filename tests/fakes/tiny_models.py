"""Tiny models with random weights, and tokenizers trained on a few sentences, saved as folders like downloaded ones.

Each function fills a folder and returns it. Every model has its own seed, so that none depends on which others a test
session builds.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY = (
    "amber anchor apple autumn basket beacon bridge candle canyon cedar cherry copper crystal desert dolphin ember "
    "falcon feather forest garden glacier granite harbor hazel island ivory jasmine juniper kettle lantern lemon "
    "marble meadow mirror mountain needle nectar ocean olive orchid pebble pepper pillow planet pocket prairie "
    "quarry quartz rabbit raven ribbon river saddle salmon silver sparrow spring summer temple thunder timber tulip "
    "valley velvet violet walnut whisper willow winter yellow zebra"
)
WORDS = VOCABULARY.split()
SPEECH = [
    "Document: a lake is a body of water.\nRelevant Query: what is a lake? yes no\n\nExample 1:",
    "Query: what is a lake Document: a lake is a body of water. Relevant: true false",
    "Does the document answer the query? Answer: yes no. The first of two; another, 2nd one (3) Third.",
]
SPEECH_SHARE = 5  # so often, beside every word, that the words of the forms become tokens of their own


def sentence(seed: int, words: int) -> str:
    """Some words and a full stop; the same for the same seed."""
    chooser = random.Random(seed)
    return " ".join(chooser.choice(WORDS) for _ in range(words)) + "."


def byte_level_tokenizer(begins_with: str = "") -> PreTrainedTokenizerFast:
    """As GPT-2 and most decoders have it; `begins_with="<s>"` puts that token before every text, as Llama does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    if begins_with:
        start = tokenizer.token_to_id(begins_with)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begins_with} $A",
            pair=f"{begins_with} $A {begins_with}:1 $B:1",
            special_tokens=[(begins_with, start)],
        )
    names = {"bos_token": "<s>"} if begins_with else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", **names)


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """Words with a leading `▁`, an end token after every text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "</s>", "<unk>"], min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=512
    )


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Lower-cased words, unknown ones letter by letter, `[CLS] a [SEP] b [SEP]`, segments told apart."""
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    seen = [word for text in _corpus() for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
    pieces = [*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*special, *pieces, *seen]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def llama(folder: Path, **settings: Any) -> Path:
    """Two layers, four heads that share two heads of keys; `<s>` before every text."""
    tokenizer = byte_level_tokenizer("<s>")
    return _save(folder, tokenizer, LlamaForCausalLM, LlamaConfig, **_decoder(tokenizer, bos_token_id=0), **settings)


def mistral(folder: Path, **settings: Any) -> Path:
    """As the Llama, but it attends to the latest eight tokens only."""
    tokenizer = byte_level_tokenizer("<s>")
    common = _decoder(tokenizer, bos_token_id=0)
    return _save(folder, tokenizer, MistralForCausalLM, MistralConfig, sliding_window=8, **common, **settings)


def gpt_neox(folder: Path) -> Path:
    """Rotary positions on a quarter of each head; no token before a text."""
    tokenizer = byte_level_tokenizer()
    settings = _decoder(tokenizer)
    del settings["num_key_value_heads"]
    return _save(folder, tokenizer, GPTNeoXForCausalLM, GPTNeoXConfig, **settings)


def gpt2(folder: Path) -> Path:
    """Learned positions."""
    tokenizer = byte_level_tokenizer()
    settings = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.3}
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    return _save(folder, tokenizer, GPT2LMHeadModel, GPT2Config, vocab_size=len(tokenizer), **settings, **ids)


def bloom(folder: Path) -> Path:
    """Positions as a bias on the attention, whose kind cannot be exchanged."""
    tokenizer = byte_level_tokenizer()
    settings = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    return _save(folder, tokenizer, BloomForCausalLM, BloomConfig, vocab_size=len(tokenizer), **settings, **ids)


def lfm2(folder: Path) -> Path:
    """A layer that keeps a state instead of keys and values, and one of attention."""
    tokenizer = byte_level_tokenizer()
    kinds = {"layer_types": ["conv", "full_attention"], "pad_token_id": 0}
    return _save(folder, tokenizer, Lfm2ForCausalLM, Lfm2Config, **_decoder(tokenizer), **kinds)


def t5(folder: Path, **settings: Any) -> Path:
    """Two layers each way, embeddings tied and therefore scaled before the head."""
    tokenizer = t5_tokenizer()
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4} | settings
    ids = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    return _save(folder, tokenizer, T5ForConditionalGeneration, T5Config, vocab_size=len(tokenizer), **sizes, **ids)


def bert_classifier(folder: Path, labels: int = 1) -> Path:
    """A trained cross-encoder's outside: a classifier with one label or more."""
    return _save(
        folder, bert_tokenizer(), BertForSequenceClassification, BertConfig, num_labels=labels, **_bert_settings()
    )


def bert_reader(folder: Path) -> Path:
    """A model that marks answers, as those trained on SQuAD."""
    return _save(folder, bert_tokenizer(), BertForQuestionAnswering, BertConfig, **_bert_settings())


def sentence_transformer(folder: Path) -> Path:
    """A BERT with mean pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    encoder = Transformer(str(_save(folder / "encoder", bert_tokenizer(), BertModel, BertConfig, **_bert_settings())))
    model = SentenceTransformer(modules=[encoder, Pooling(32, "mean")], device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def masked_lm(folder: Path) -> Path:
    """A BERT that fills in masked words, from which a SPLADE is trained; its head's weights are its embeddings."""
    return _save(folder, bert_tokenizer(), BertForMaskedLM, BertConfig, **_bert_settings())


def multi_vector(folder: Path, skipped: str = "") -> Path:
    """A BERT's token states, each of unit length; a document's tokens that are `skipped` words do not count."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    encoder = Transformer(str(_save(folder / "encoder", bert_tokenizer(), BertModel, BertConfig, **_bert_settings())))
    modules = [encoder, MultiVectorMask(skipped.split()), Normalize(module_input_name="token_embeddings")]
    model = MultiVectorEncoder(modules=modules, device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def sparse(folder: Path) -> Path:
    """A masked language model with SPLADE's pooling."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(masked_lm(folder / "encoder")), device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def _bert_settings() -> dict[str, Any]:
    return {
        "vocab_size": len(bert_tokenizer()),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
    }


def _decoder(tokenizer: PreTrainedTokenizerFast, bos_token_id: int | None = None) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,  # wide, so that no two tokens are nearly equally likely
        "bos_token_id": bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _save(folder: Path, tokenizer: Any, kind: Any, config: Any, **settings: Any) -> Path:
    torch.manual_seed(1)
    kind(config(**settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _corpus() -> list[str]:
    return [f"{word} {' '.join(SPEECH)}" for word in WORDS for _ in range(SPEECH_SHARE)] + [" ".join(WORDS)] * 3
