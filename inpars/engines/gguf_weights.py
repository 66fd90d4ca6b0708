"""Weights of Llama-like decoders as a GGUF file that OpenVINO reads as they are.

OpenVINO GenAI builds its graph from GGUF. It keeps the zero points of 4-bit formats with an offset (Q4_1, the K kinds)
as whole numbers, which moves the log-probability of a token by .36 on average for SmolLM2's Q4_1. So what torch
computes with, the dequantised weights, is written once more, in Q8_0: that is read exactly, and rounds a weight by at
most half a step in 127 of its group's largest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.errors import BackendError

FILE_FORMAT = 2  # raise when a file is written otherwise
GROUP = 32  # weights with one scale
NORMAL, CONTROL = 1, 3  # kinds of tokens
ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}

Matrix = npt.NDArray[np.float32]


def fits(config: Any, tokenizer: Any) -> bool:
    """Whether a decoder of this configuration can be written so that nothing of it is lost."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return (
        (getattr(config, "architectures", None) or [""])[0] in ARCHITECTURES
        and rope.get("rope_type", "default") == "default"
        and not getattr(config, "use_sliding_window", False)
        and config.hidden_act == "silu"
        and getattr(tokenizer, "is_fast", False)
        and json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] == "BPE"
        and config.hidden_size % GROUP == config.intermediate_size % GROUP == 0
    )


def write_gguf(network: Any, tokenizer: Any, target: Path) -> None:
    """Write the weights and the vocabulary of a decoder that `fits`."""
    import gguf

    config = network.config
    architecture = ARCHITECTURES[config.architectures[0]]
    writer = gguf.GGUFWriter(target, architecture)
    _describe(writer, config)
    _describe_tokens(writer, tokenizer, config.vocab_size)
    kind = next(kind for kind, text in gguf.MODEL_ARCH_NAMES.items() if text == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, weight in network.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        new_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new_name is None:
            raise BackendError(f"the weight {name!r} has no place in a GGUF file of {architecture}")
        _add(writer, gguf, new_name, _as_gguf_has_it(name, weight.float().numpy(), architecture, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, config: Any) -> None:
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = getattr(config, "rope_parameters", None) or {}
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_width)
    writer.add_value_length(head_width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope.get("rope_theta") or getattr(config, "rope_theta", 10_000.0))
    writer.add_rope_dimension_count(head_width)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(7)  # mostly Q8_0


def _describe_tokens(writer: Any, tokenizer: Any, size: int) -> None:
    """The vocabulary, without which OpenVINO builds nothing; texts become tokens, and tokens texts, outside."""
    texts = {token: text for text, token in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_token_list([texts.get(token, f"[unused{token}]") for token in range(size)])
    writer.add_token_types([CONTROL if token in special else NORMAL for token in range(size)])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    end = tokenizer.eos_token_id or 0
    writer.add_bos_token_id(tokenizer.bos_token_id or end)
    writer.add_eos_token_id(end)
    writer.add_unk_token_id(tokenizer.unk_token_id or end)
    writer.add_pad_token_id(tokenizer.pad_token_id or end)


def _as_gguf_has_it(name: str, values: Matrix, architecture: str, config: Any) -> Matrix:
    """GGUF's Llama rotates neighbouring components, transformers' a component and the one half a head away."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    rotated = next((count for part, count in heads.items() if part in name), None)
    if architecture != "llama" or rotated is None:
        return values
    pairs = values.reshape(rotated, 2, len(values) // rotated // 2, *values.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))


def _add(writer: Any, gguf: Any, name: str, values: Matrix) -> None:
    if values.ndim == 2:
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, values)
