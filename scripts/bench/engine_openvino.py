"""OpenVINO's sides of `engines.py`: graphs compiled directly, and GenAI's continuous batching for generation.

Graphs are computed in float32, or bfloat16 where the processor is fast with it, as they are or with 8-bit weights by
NNCF, whose inputs are then quantised in groups. Streams of one thread each are tried beside one stream of all threads.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import engine_graphs as graphs
import numpy as np
import torch
from engine_worker import Made, Run, Work, by_length
from transformers import AutoTokenizer

GROUP = 128  # inputs of a product with one scale
ROTARY_FORMAT = "float32"  # with its bfloat16 hint 2026.4.1 computes rotary positions wrong in a converted decoder
BLOCK = 32  # tokens of the prefix cache's blocks
CACHE_GIGABYTES, BATCH_TOKENS = 2, 2048


def encoding(work: Work) -> Made:
    """The bi-encoder."""
    return _made(graphs.encoder(work), work, (16, 32))


def encoding_int8(work: Work) -> Made:
    """The bi-encoder with 8-bit weights."""
    return _made(graphs.encoder(work), work, (16, 32), int8=True)


def cross_encoder(work: Work) -> Made:
    """The cross-encoder."""
    return _made(graphs.cross_encoder(work), work, (8, 16))


def cross_encoder_int8(work: Work) -> Made:
    """The cross-encoder with 8-bit weights."""
    return _made(graphs.cross_encoder(work), work, (8, 16), int8=True)


def t5(work: Work) -> Made:
    """monoT5."""
    return _made(graphs.t5(work), work, (8, 16))


def t5_int8(work: Work) -> Made:
    """monoT5 with 8-bit weights."""
    return _made(graphs.t5(work), work, (8, 16), int8=True)


def scoring(work: Work) -> Made:
    """Whole prompts with their queries."""
    return _made(graphs.scoring(work), {**work, "fast": ROTARY_FORMAT}, (4, 8))


def scoring_int8(work: Work) -> Made:
    """The same with 8-bit weights."""
    return _made(graphs.scoring(work), {**work, "fast": ROTARY_FORMAT}, (4, 8), int8=True)


def _made(graph: graphs.Graph, work: Work, sizes: Sequence[int], *, int8: bool = False) -> Made:
    import openvino

    converted = _converted(graph)
    title = f"openvino {openvino.__version__.partition('-')[0]}"
    if int8:
        import nncf

        mode = nncf.CompressWeightsMode.INT8_SYM
        # a head of one output stays as it is: 2026.4.1 computes it wrong when there are several streams
        heads = nncf.IgnoredScope(patterns=[".*classifier.*"], validate=False)
        converted = nncf.compress_weights(converted, mode=mode, ignored_scope=heads)
        title += f", 8-bit weights by nncf {nncf.__version__}"
    variants: dict[str, Run] = {}
    for precision, streams in itertools.product(_precisions(work), sorted({work["threads"], 1}, reverse=True)):
        properties = {
            "INFERENCE_NUM_THREADS": work["threads"],
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": precision,
            **({"DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP} if int8 else {}),
        }
        compiled = _compiler(converted, properties)
        for size in sizes:
            variants[f"{precision}, {streams} streams, batch {size}"] = partial(_compute, graph, compiled, size)
    return Made(title, variants)


def _precisions(work: Work) -> list[str]:
    return ["bf16", "f32"] if work["fast"] == "bfloat16" else ["f32"]


def _converted(graph: graphs.Graph) -> Any:  # noqa: ANN401
    import openvino

    example = {name: torch.from_numpy(array) for name, array in graph.encode([0, 1]).items()}
    # by place: the tokenizer's order is the network's
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = openvino.convert_model(graph.network, example_input=example)
    for given in found.inputs:
        (name,) = given.get_names() & set(graph.free)
        given.get_node().set_partial_shape(openvino.PartialShape([-1] * len(graph.free[name])))
    found.validate_nodes_and_infer_types()
    return found


def _compiler(model: Any, properties: dict[str, Any]) -> Callable[[], Any]:  # noqa: ANN401
    """The compiled model's queue of requests, made when it is first asked for."""
    made: list[Any] = []

    def queue() -> Any:  # noqa: ANN401
        import openvino

        if not made:
            compiled = openvino.Core().compile_model(model, "CPU", properties)
            made.append(openvino.AsyncInferQueue(compiled, properties["NUM_STREAMS"]))
        return made[0]

    return queue


def _compute(graph: graphs.Graph, compiled: Callable[[], Any], size: int, positions: Sequence[int]) -> list[Any]:
    queue, found = compiled(), [None] * len(positions)

    def finish(request: Any, batch: list[int]) -> None:  # noqa: ANN401
        values = np.array(request.get_output_tensor(0).data)
        for index, value in zip(batch, graph.read(values, [positions[index] for index in batch]), strict=True):
            found[index] = value

    queue.set_callback(finish)
    for batch in by_length(graph.lengths, positions, size):
        queue.start_async(dict(graph.encode([positions[index] for index in batch])), batch)
    queue.wait_all()
    return list(found)


def generation(work: Work) -> Made:
    """GenAI's continuous batching with its prefix cache, of GGUF files; log-probabilities are kept."""
    import openvino_genai as genai

    file = Path(work["openvino_gguf"])
    tokenizer: Any = AutoTokenizer.from_pretrained(work["decoder_folder"])
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    ends = {token for token, text in enumerate(texts) if work["stop"] in text} | {tokenizer.eos_token_id}
    made: dict[str, Any] = {}

    def pipeline(precision: str) -> Any:  # noqa: ANN401
        if precision not in made:
            made.clear()  # its cache is large
            scheduler = genai.SchedulerConfig()
            scheduler.enable_prefix_caching, scheduler.cache_size = True, CACHE_GIGABYTES
            scheduler.max_num_batched_tokens = BATCH_TOKENS
            properties = {"INFERENCE_NUM_THREADS": work["threads"], "INFERENCE_PRECISION_HINT": precision}
            made[precision] = genai.ContinuousBatchingPipeline(str(file), scheduler, "CPU", properties)
            shared = tokenizer(work["shared"])["input_ids"]
            _complete(made[precision], [shared[: len(shared) // BLOCK * BLOCK]], _decoding(1, ends))
        return made[precision]

    def run(precision: str, positions: Sequence[int]) -> list[Any]:
        running = pipeline(precision)
        prompts = tokenizer([work["prompts"][position] for position in positions])["input_ids"]
        written = _complete(running, prompts, _decoding(work["max_new_tokens"], ends))
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        found = zip(texts, written, strict=True)
        return [[text.partition(work["stop"])[0].strip(), len(tokens)] for text, tokens in found]

    kind = file.suffixes[-2].lstrip(".") if len(file.suffixes) > 1 else ""
    variants = {f"{kind}, {precision}": partial(run, precision) for precision in _precisions(work)}
    return Made(f"openvino-genai {genai.__version__.partition('-')[0]}", variants, made.clear)


def _decoding(new_tokens: int, ends: set[int]) -> Any:  # noqa: ANN401
    import openvino_genai as genai

    wanted = genai.GenerationConfig()
    wanted.do_sample, wanted.max_new_tokens, wanted.logprobs, wanted.stop_token_ids = False, new_tokens, 1, ends
    return wanted


def _complete(pipeline: Any, prompts: Sequence[Sequence[int]], wanted: Any) -> list[list[int]]:  # noqa: ANN401
    import openvino
    import openvino_genai as genai

    handles = [
        pipeline.add_request(number, openvino.Tensor(np.array([tokens], dtype=np.int64)), wanted)
        for number, tokens in enumerate(prompts)
    ]
    while any(handle.get_status() == genai.GenerationStatus.RUNNING for handle in handles):
        pipeline.step()
    outputs = [handle.read_all()[0] for handle in handles]
    assert all(len(output.generated_log_probs) == len(output.generated_ids) for output in outputs)
    return [list(output.generated_ids) for output in outputs]
