"""Query generation with OpenVINO GenAI on CPUs where it is faster than torch.

Matrix products are computed in 8 bits with a scale per row and group of weights, everything else in bfloat16 if the
CPU is fast with it, else in float32. A query's mean log-probability therefore differs from torch's, by less than
`LOG_PROB_TOLERANCE`. A log-probability depends on the other documents of its chunk by rounding, so that only whole
chunks repeat to the bit. Keys and values are stored in the number format itself, not in OpenVINO's default, 8 bits with
a scale per block, which changes as a block fills. Weights are converted once and cached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from inpars.cache import cache_folder
from inpars.engines import MIN_PARAMETERS, gguf_weights, has_openvino, trial
from inpars.engines.openvino_network import computes_in, openvino_package, precision_hint, weights_fingerprint
from inpars.errors import BackendError, ConfigError, MissingDependencyError
from inpars.generation import GeneratedQuery
from inpars.generation.causal_lm import end_tokens
from inpars.generation.decoding import StopCondition, truncate_at_stop
from inpars.generation.prompt_tokens import PromptTokens, decoded
from inpars.generation.settings import DecodingSettings, LocalModel, chunks_by_length
from inpars.io.json_text import JsonError, parse_json
from inpars.io.manifest import sha256_of, size_of
from inpars.io.storage import atomic_file, write_json
from inpars.models import loading as models
from inpars.models.compute_options import engine
from inpars.models.hardware import pick_device
from inpars.prompts.mixture import PromptSource
from inpars.prompts.templates import Prompt
from inpars.records import Document, LogProbKind

if TYPE_CHECKING:
    from inpars.generation import QueryGenerator

LOG_PROB_TOLERANCE = 0.15
CHUNK_DOCUMENTS = {"bf16": 128, "f32": 32}  # generated and stored as a whole; fewer where that takes longer
BATCH_TOKENS = 2048  # per pass
CACHE_GIGABYTES = 2  # for keys and values, allocated on demand
BLOCK_TOKENS = 32  # per cache block on CPUs


@dataclass(frozen=True, slots=True)
class Decoder:
    """A loaded OpenVINO decoder, its tokenizer and end-of-text tokens."""

    name: str
    pipeline: Any  # from `load_pipeline`; not for concurrent use
    tokenizer: Any  # a transformers tokenizer
    end_tokens: frozenset[int]
    precision: Literal["bf16", "f32"]


def load_pipeline(weights: Path, precision: Literal["bf16", "f32"], threads: int) -> Any:
    """Load a GGUF file written by `gguf_weights`; takes seconds."""
    openvino_package()
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = BATCH_TOKENS
    scheduler.cache_size = CACHE_GIGABYTES
    properties = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "KV_CACHE_PRECISION": precision,
    }
    return genai.ContinuousBatchingPipeline(str(weights), scheduler, "CPU", properties)


class OpenVinoGenerator:
    """Generates queries greedily from a few-shot prompt, whose prefix is cached."""

    log_prob_kind: LogProbKind = "raw"

    def __init__(self, decoder: Decoder, prompt: PromptSource, settings: DecodingSettings) -> None:
        import openvino_genai as genai

        settings.check()
        self._settings, self.name = settings, decoder.name
        self._chunk = CHUNK_DOCUMENTS[decoder.precision]
        self.device = f"OpenVINO {genai.__version__.split('-')[0]}, 8-bit products, {decoder.precision}"
        self._inputs = PromptTokens(decoder.tokenizer, prompt, settings.max_doc_tokens)
        self._end = StopCondition(decoder.end_tokens, prompt.stop_position, partial(decoded, decoder.tokenizer))
        self._stop_tokens = set(decoder.end_tokens | _stop_tokens(decoder.tokenizer, prompt))
        self._pipeline = decoder.pipeline
        self._requests = 0
        self._read_prefix()
        self.on_finished: Callable[[int], None] | None = None

    def _read_prefix(self) -> None:
        """Cache the prefix before several requests would each compute it.

        Only whole blocks: GenAI lets several requests write into a partly filled block.
        """
        whole = len(self._inputs.prefix) // BLOCK_TOKENS * BLOCK_TOKENS
        if whole:
            self._finish([self._begin(self._inputs.prefix[:whole], max_new_tokens=1)])

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        return chunks_by_length([len(text) for text in self._inputs.cut(documents)], self._chunk)

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """One query per document. Chunks do not overlap, so that a resumed run repeats an uninterrupted one."""
        return self._finish([self._begin(prompt) for prompt in self._inputs.prompts(documents)], self.on_finished)

    def _begin(self, prompt: Sequence[int], max_new_tokens: int | None = None) -> Any:
        import openvino_genai as genai

        config = genai.GenerationConfig()
        config.do_sample, config.ignore_eos = False, not self._stop_tokens
        config.max_new_tokens = max_new_tokens or self._settings.max_new_tokens
        config.logprobs = 1
        config.stop_token_ids = self._stop_tokens
        config.include_stop_str_in_output = True  # for its log-probability
        self._requests += 1
        ids = openvino_package().Tensor(np.array([prompt], dtype=np.int64))
        return self._pipeline.add_request(self._requests, ids, config)

    def _finish(
        self, handles: Sequence[Any], report: Callable[[int], None] | None = None
    ) -> list[list[GeneratedQuery]]:
        finished: list[GeneratedQuery | None] = [None] * len(handles)
        while any(query is None for query in finished):
            for row, handle in enumerate(handles):
                if finished[row] is None and _is_finished(handle):
                    outputs = handle.read_all()
                    if not outputs:
                        raise BackendError(
                            f"{self.name}: a prompt does not fit into OpenVINO's cache of {CACHE_GIGABYTES} GB; "
                            "lower --max-doc-tokens, or give --engine-backend torch"
                        )
                    (output,) = outputs
                    finished[row] = truncate_at_stop(output.generated_ids, output.generated_log_probs, self._end)
                    if report is not None:
                        report(1)
            if any(query is None for query in finished):
                self._pipeline.step()
        return [[query] for query in finished if query is not None]


def _is_finished(handle: Any) -> bool:
    import openvino_genai as genai

    return bool(handle.get_status() != genai.GenerationStatus.RUNNING)


def _stop_tokens(tokenizer: Any, prompt: PromptSource) -> frozenset[int]:
    """Tokens that contain a whole stop string; `truncate_at_stop` handles stop strings that span tokens."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    return frozenset(token for token, text in enumerate(texts) if prompt.stop_position(text) < len(text))


INSTALL = "pip install openvino-genai gguf"
PROBE_TEXT = (
    "Tides rise and fall twice a day because the moon pulls on the sea more strongly on the side that faces it. The "
    "sun pulls as well, though less, so that the highest tides come at full moon and at new moon, when both pull along "
    "one line. Ports print tables of the hours at which ships of a given draught can enter, and mills on the coast "
    "once ground their grain with the water that a gate had kept back at high tide."
)
PROBE_DOCUMENTS = [Document(f"probe {number}", PROBE_TEXT[5 * number : 60 + 45 * number]) for number in range(10)]
PROBE_NEW_TOKENS = 16
WARM_UP, COMPARED = 2, 2  # first and last probe documents, which are not timed
MAX_PROBE_DIFFERENCE = 0.2  # mean difference per token log-probability; rounding stays below half of it


def openvino_generator(local: LocalModel, load_torch: Callable[[], QueryGenerator]) -> OpenVinoGenerator | None:
    """The OpenVINO generator, or None if torch should be used.

    If OpenVINO was requested, raises ConfigError if it does not support the model or settings, and
    MissingDependencyError if it is not installed.
    """
    name = engine()
    if name in ("torch", "torch-int8"):
        return None
    if not has_openvino(decoders=True):
        if name == "auto":
            return None
        raise MissingDependencyError("openvino-genai", f"for --engine-backend {name}", INSTALL)
    problem = _unfit(local)
    fingerprint = cache(partial(_fingerprint, local))
    if name != "auto":
        try:
            generator = None if problem else _load(local, fingerprint())
        except RuntimeError as error:  # OpenVINO has no kernel for the instruction set
            generator, problem = None, f"OpenVINO fails on this processor ({trial.last_line(error)})"
        if generator is None:
            problem = problem or "OpenVINO does not compute this model as torch does"
            raise ConfigError(f"--engine-backend {name}: {problem}; leave it out")
        return generator
    if problem or local.computing.dtype != "auto" or not _large(local):
        return None
    loaded: list[OpenVinoGenerator] = []

    def time_openvino() -> float | None:
        generator = _load(local, fingerprint())
        loaded.extend([generator] if generator else [])
        return _seconds(generator) if generator else None

    threads = torch.get_num_threads()
    trials: dict[str, trial.Trial] = {"torch": lambda: _seconds(load_torch()), "openvino": time_openvino}
    subject = f"decoder\0{fingerprint()}\0{threads}"
    if trial.fastest(local.model, subject, trials, max_rounds=1) == "torch":  # torch's is loaded for it and dropped
        return None
    return loaded[0] if loaded else _load(local, fingerprint())


def _unfit(local: LocalModel) -> str | None:
    """Why OpenVINO does not support the settings or model, checked before loading anything."""
    settings = local.settings
    if settings.temperature > 0 or settings.num_queries > 1:
        return "it decodes greedily, one query per document"
    if pick_device(local.computing.device).type != "cpu":
        return "it runs on the CPU only"
    if not computes_in(local.computing.dtype):
        return f"it does not compute in {local.computing.dtype} here"
    config = models.load_config(local.model, trust_remote_code=local.computing.trust_remote_code)
    if (getattr(config, "architectures", None) or [""])[0] not in gguf_weights.ARCHITECTURES:
        return f"it reads {', '.join(gguf_weights.ARCHITECTURES)} and none of {config.architectures}"
    return None


def _large(local: LocalModel) -> bool:
    """Whether the network is large enough for a trial; assumed for models from a hub."""
    folder = Path(models.resolve_model(local.model))
    return not folder.is_dir() or size_of(folder) >= 2 * MIN_PARAMETERS


def _fingerprint(local: LocalModel) -> str:
    """A hash of the weights."""
    folder = Path(models.resolve_model(local.model))
    return sha256_of(folder) if folder.is_dir() else weights_fingerprint(_network(local)[0])


def _network(local: LocalModel) -> tuple[Any, Any]:
    """The network in float32, and its tokenizer."""
    computing = local.computing
    return models.load_causal_lm(
        local.model, device="cpu", dtype="float32", trust_remote_code=computing.trust_remote_code
    )


def _load(local: LocalModel, fingerprint: str) -> OpenVinoGenerator | None:
    """The generator, or None if the model cannot be converted or OpenVINO gives different results."""
    path = cache_folder() / "models" / f"{fingerprint[:16]}-{gguf_weights.FILE_FORMAT}.q8_0.gguf"
    note = path.with_suffix(".json")  # written last
    noted, loaded = _read(note, path), None
    if noted is None:
        noted, loaded = _write(local, path, note)
    if not noted["agrees"]:
        return None
    computing = local.computing
    tokenizer = models.load_tokenizer(local.model, trust_remote_code=computing.trust_remote_code)
    config = models.load_config(local.model, trust_remote_code=computing.trust_remote_code)
    PromptTokens(tokenizer, local.prompt, local.settings.max_doc_tokens).check_room(
        config, local.model, local.settings.max_new_tokens
    )
    precision, ends = precision_hint(computing.dtype), frozenset(noted["end_tokens"])
    if loaded is None or loaded.precision != precision:
        pipeline = load_pipeline(path, precision, torch.get_num_threads())
        loaded = Decoder(local.model, pipeline, tokenizer, ends, precision)
    return OpenVinoGenerator(replace(loaded, end_tokens=ends), local.prompt, local.settings)


def _read(note: Path, path: Path) -> dict[str, Any] | None:
    """The note written with the converted weights; None if they must be converted."""
    try:
        noted = parse_json(note.read_bytes())
    except (FileNotFoundError, JsonError):
        return None
    if not isinstance(noted, dict) or not {"agrees", "end_tokens"} <= noted.keys():
        return None
    return noted if not noted["agrees"] or path.exists() else None


class _DisagreesError(Exception):
    """OpenVINO's log-probabilities differ from torch's; discards the converted weights."""


def _write(local: LocalModel, path: Path, note: Path) -> tuple[dict[str, Any], Decoder | None]:
    """Convert the weights, compare with torch, and write the note; returns the note and the loaded decoder."""
    network, tokenizer = _network(local)
    noted: dict[str, Any] = {"agrees": False, "end_tokens": end_tokens(network, tokenizer)}
    decoder: Decoder | None = None
    if gguf_weights.fits(network.config, tokenizer):
        with suppress(_DisagreesError), atomic_file(path, ".tmp.gguf") as working:  # OpenVINO requires the suffix
            gguf_weights.write_gguf(network, tokenizer, working)
            pipeline = load_pipeline(working, precision_hint(), torch.get_num_threads())
            decoder = Decoder(local.model, pipeline, tokenizer, frozenset(), precision_hint())
            if not _agrees(decoder, network):
                raise _DisagreesError
            noted["agrees"] = True
    write_json(note, noted)
    return noted, decoder


def _agrees(decoder: Decoder, network: Any) -> bool:
    """Whether the log-probabilities of some continuations match torch's, up to 8-bit rounding.

    There are no stop tokens: a continuation could otherwise be empty.
    """
    prompt = Prompt(name="probe", form="{document}", stop=())
    settings = DecodingSettings(max_new_tokens=PROBE_NEW_TOKENS)
    generator = OpenVinoGenerator(decoder, prompt, settings)
    inputs = PromptTokens(decoder.tokenizer, prompt, settings.max_doc_tokens)
    documents = PROBE_DOCUMENTS[-COMPARED:]
    differences = [
        difference
        for tokens, (query,) in zip(inputs.prompts(documents), generator.generate(documents), strict=True)
        for difference in _differences(network, tokens, query)
    ]
    return sum(differences) / len(differences) <= MAX_PROBE_DIFFERENCE


def _differences(network: Any, prompt: list[int], query: GeneratedQuery) -> list[float]:
    """Absolute differences of the tokens' log-probabilities from torch's."""
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([[*prompt, *query.token_ids]])).logits[0, len(prompt) - 1 : -1]
    expected = logits.float().log_softmax(-1)[torch.arange(len(query.token_ids)), list(query.token_ids)]
    return (expected - torch.tensor(query.token_log_probs)).abs().tolist()  # type: ignore[no-any-return]


def _seconds(generator: QueryGenerator) -> float:
    """CPU time for generating from the probe documents; those used before are excluded, as they may be cached.

    torch uses one thread: with two, the CPU time would include waiting for each other, minutes on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator.generate(PROBE_DOCUMENTS[:WARM_UP])
        start = time.process_time()
        generator.generate(PROBE_DOCUMENTS[WARM_UP:-COMPARED])
        return time.process_time() - start
    finally:
        torch.set_num_threads(threads)
