"""Writes the weights of Llama-like decoders as a GGUF file that OpenVINO GenAI reads exactly.

OpenVINO GenAI rounds the zero points of 4-bit formats with an offset (Q4_1, the K formats) to integers, which changes a
token's log-probability by .36 on average for SmolLM2's Q4_1. The dequantised weights that torch uses are therefore
written again as Q8_0, which it reads exactly; this rounds a weight by at most 1/254 of the largest in its group.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.errors import BackendError

FILE_FORMAT = 2  # increase when the written file changes
GROUP = 32  # weights per scale
NORMAL, CONTROL = 1, 3  # token types
ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}

Matrix = npt.NDArray[np.float32]


def fits(config: Any, tokenizer: Any) -> bool:
    """Whether a decoder with this configuration can be written completely."""
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
    """Write the weights and the vocabulary of a decoder for which `fits` is true."""
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
        values = _as_gguf_has_it(name, weight.float().numpy(), architecture, config)
        if values.ndim == 2:
            q8 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(new_name, gguf.quants.quantize(values, q8), raw_dtype=q8)
        else:
            writer.add_tensor(new_name, values)
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
    """Write the vocabulary, which OpenVINO requires although tokenization happens outside."""
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
    """Reorder Llama's queries and keys: GGUF rotates neighbouring components, transformers those half a head apart."""
    projections = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    heads = next((count for part, count in projections.items() if part in name), None)
    if architecture != "llama" or heads is None:
        return values
    pairs = values.reshape(heads, 2, len(values) // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
