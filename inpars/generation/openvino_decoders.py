"""Decoders in the form that OpenVINO reads, made once in the cache, and whether they are faster than torch's here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inpars.cache import cache_folder
from inpars.engines import MIN_PARAMETERS, gguf_weights, has_openvino, trial
from inpars.engines.fingerprints import weights_fingerprint
from inpars.engines.openvino_network import computes_in, precision_hint
from inpars.errors import ConfigError, MissingDependencyError
from inpars.generation.causal_lm import end_tokens
from inpars.generation.prompt_tokens import PromptTokens
from inpars.generation.settings import DecodingSettings, LocalModel
from inpars.json_text import JsonError, parse_json
from inpars.manifest import sha256_of, size_of
from inpars.models import loading as models
from inpars.models.engine_backend import engine
from inpars.models.hardware import pick_device
from inpars.prompting.templates import Prompt
from inpars.records import Document
from inpars.storage import atomic_file, atomic_writer

if TYPE_CHECKING:
    from inpars.generation import GeneratedQuery, QueryGenerator
    from inpars.generation.openvino_generator import Decoder, OpenVinoGenerator

INSTALL = "pip install openvino-genai gguf"
PROBE_TEXT = (
    "Tides rise and fall twice a day because the moon pulls on the sea more strongly on the side that faces it. The "
    "sun pulls as well, though less, so that the highest tides come at full moon and at new moon, when both pull along "
    "one line. Ports print tables of the hours at which ships of a given draught can enter, and mills on the coast "
    "once ground their grain with the water that a gate had kept back at high tide."
)
PROBE_DOCUMENTS = [Document(f"probe {number}", PROBE_TEXT[5 * number : 60 + 45 * number]) for number in range(10)]
PROBE_NEW_TOKENS = 16
WARM_UP, COMPARED = 2, 2  # of the probe documents, the first and the last, which are not timed
MAX_PROBE_DIFFERENCE = 0.2  # of a token's log-probability, on average; rounding stays below half of it


def openvino_generator(wanted: LocalModel, load_torch: Callable[[], QueryGenerator]) -> OpenVinoGenerator | None:
    """The generator to write with; None where torch does it.

    Raises ConfigError where OpenVINO was named and cannot do what is wanted, MissingDependencyError where it is absent.
    """
    name = engine()
    if name in ("torch", "torch-int8"):
        return None
    if not has_openvino(decoders=True):
        if name == "auto":
            return None
        raise MissingDependencyError("openvino-genai", f"for --engine-backend {name}", INSTALL)
    problem = _unfit(wanted)
    fingerprint = cache(partial(_fingerprint, wanted))
    if name != "auto":
        generator = None if problem else _load(wanted, fingerprint())
        if generator is None:
            problem = problem or "OpenVINO does not compute this model as torch does"
            raise ConfigError(f"--engine-backend {name}: {problem}; leave it out")
        return generator
    if problem or wanted.computing.dtype != "auto" or not _large(wanted):
        return None
    loaded: list[OpenVinoGenerator] = []

    def time_openvino() -> float | None:
        found = _load(wanted, fingerprint())
        loaded.extend([found] if found else [])
        return _seconds(found) if found else None

    threads = torch.get_num_threads()
    trials: dict[str, trial.Trial] = {"torch": lambda: _seconds(load_torch()), "openvino": time_openvino}
    if trial.fastest(wanted.model, f"decoder\0{fingerprint()}\0{threads}", trials) == "torch":
        return None
    return loaded[0] if loaded else _load(wanted, fingerprint())


def _unfit(wanted: LocalModel) -> str | None:
    """Why OpenVINO cannot generate this, before anything is loaded."""
    settings = wanted.settings
    if settings.temperature > 0 or settings.num_queries > 1:
        return "it decodes greedily, one query per document"
    if pick_device(wanted.computing.device).type != "cpu":
        return "it computes on the processor"
    if not computes_in(wanted.computing.dtype):
        return f"it does not compute in {wanted.computing.dtype} here"
    config = models.load_config(wanted.model, trust_remote_code=wanted.computing.trust_remote_code)
    if (getattr(config, "architectures", None) or [""])[0] not in gguf_weights.ARCHITECTURES:
        return f"it reads {', '.join(gguf_weights.ARCHITECTURES)} and none of {config.architectures}"
    return None


def _large(wanted: LocalModel) -> bool:
    """Whether the network is large enough for a trial; one from a hub is taken to be."""
    folder = Path(models.resolve_model(wanted.model))
    return not folder.is_dir() or size_of(folder) >= 2 * MIN_PARAMETERS


def _fingerprint(wanted: LocalModel) -> str:
    """A hash of the weights."""
    folder = Path(models.resolve_model(wanted.model))
    return sha256_of(folder) if folder.is_dir() else weights_fingerprint(_network(wanted)[0])


def _network(wanted: LocalModel) -> tuple[Any, Any]:
    """The network in float32, and its tokenizer."""
    own = wanted.computing
    return models.load_causal_lm(wanted.model, device="cpu", dtype="float32", trust_remote_code=own.trust_remote_code)


def _load(wanted: LocalModel, fingerprint: str) -> OpenVinoGenerator | None:
    """The generator; None where the model cannot be written for OpenVINO, or gives something else there."""
    from inpars.generation.openvino_generator import Decoder, OpenVinoGenerator, load_pipeline

    place = cache_folder() / "models" / f"{fingerprint[:16]}-{gguf_weights.FILE_FORMAT}.q8_0.gguf"
    note = place.with_suffix(".json")  # written last
    known, loaded = _read(note, place), None
    if known is None:
        known, loaded = _write(wanted, place, note)
    if not known["agrees"]:
        return None
    own = wanted.computing
    tokenizer = models.load_tokenizer(wanted.model, trust_remote_code=own.trust_remote_code)
    config = models.load_config(wanted.model, trust_remote_code=own.trust_remote_code)
    PromptTokens(tokenizer, wanted.prompt, wanted.settings.max_doc_tokens).check_room(
        config, wanted.model, wanted.settings.max_new_tokens
    )
    precision, ends = precision_hint(own.dtype), frozenset(known["end_tokens"])
    if loaded is None or loaded.precision != precision:
        pipeline = load_pipeline(place, precision, torch.get_num_threads())
        loaded = Decoder(wanted.model, pipeline, tokenizer, ends, precision)
    return OpenVinoGenerator(replace(loaded, end_tokens=ends), wanted.prompt, wanted.settings)


def _read(note: Path, place: Path) -> dict[str, Any] | None:
    """What was noted when the weights were written; None where that is to be done, or done again."""
    try:
        found = parse_json(note.read_bytes())
    except (FileNotFoundError, JsonError):
        return None
    if not isinstance(found, dict) or not {"agrees", "end_tokens"} <= found.keys():
        return None
    return found if not found["agrees"] or place.exists() else None


class _DisagreesError(Exception):
    """The weights as OpenVINO reads them give other log-probabilities than torch's; they are not kept."""


def _write(wanted: LocalModel, place: Path, note: Path) -> tuple[dict[str, Any], Decoder | None]:
    """Write the weights, try them, and note whether they give what torch gives, and the tokens that end a text.

    What was noted, and the decoder as it was tried.
    """
    from inpars.generation.openvino_generator import Decoder, load_pipeline

    network, tokenizer = _network(wanted)
    ends = end_tokens(network, tokenizer)
    known: dict[str, Any] = {"agrees": False, "end_tokens": ends}
    decoder: Decoder | None = None
    if gguf_weights.fits(network.config, tokenizer):
        with suppress(_DisagreesError), atomic_file(place, ".tmp.gguf") as working:  # OpenVINO goes by the ending
            gguf_weights.write_gguf(network, tokenizer, working)
            pipeline = load_pipeline(working, precision_hint(), torch.get_num_threads())
            decoder = Decoder(wanted.model, pipeline, tokenizer, frozenset(), precision_hint())
            if not _agrees(decoder, network):
                raise _DisagreesError
            known["agrees"] = True
    with atomic_writer(note) as stream:
        json.dump(known, stream)
    return known, decoder


def _agrees(decoder: Decoder, network: Any) -> bool:  # noqa: ANN401
    """Whether the log-probabilities of some continuations are torch's, as near as 8 bits are to float32.

    Nothing ends them early: there may otherwise be nothing to compare.
    """
    from inpars.generation.openvino_generator import OpenVinoGenerator

    prompt, settings = (
        Prompt(name="probe", form="{document}", stop=()),
        DecodingSettings(max_new_tokens=PROBE_NEW_TOKENS),
    )
    generator = OpenVinoGenerator(decoder, prompt, settings)
    inputs = PromptTokens(decoder.tokenizer, prompt, settings.max_doc_tokens)
    some = PROBE_DOCUMENTS[-COMPARED:]
    found = [queries[0] for queries in generator.generate(some)]
    differences = [
        difference
        for prompt, query in zip(inputs.prompts(some), found, strict=True)
        for difference in _differences(network, prompt, query)
    ]
    return sum(differences) / len(differences) <= MAX_PROBE_DIFFERENCE


def _differences(network: Any, prompt: list[int], query: GeneratedQuery) -> list[float]:  # noqa: ANN401
    """Of each token's log-probability, from what torch's network says of it."""
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([[*prompt, *query.token_ids]])).logits[0, len(prompt) - 1 : -1]
    own = logits.float().log_softmax(-1)[torch.arange(len(query.token_ids)), list(query.token_ids)]
    return (own - torch.tensor(query.token_log_probs)).abs().tolist()  # type: ignore[no-any-return]


def _seconds(generator: QueryGenerator) -> float:
    """Processor time of writing for the probe documents that it has not read yet: it may remember the others.

    One thread of torch's computes: two would count the time that each waits for the other, on a busy machine minutes.
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
