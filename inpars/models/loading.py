"""Loads a model by name: an embedded name, a folder, a GGUF file or a hub id.

Weights are safetensors, GGUF, or pickles read by torch's weights-only loader, which executes nothing. Code of a hub
model runs only with --trust-remote-code. A GGUF file is dequantised once into the cache and then loads in a second.
"""

from __future__ import annotations

import functools
import os
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Unpack, cast

import torch
import transformers
import transformers.modeling_gguf_pytorch_utils as gguf_reading
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from inpars.cache import cache_folder
from inpars.errors import (
    BackendError,
    ConfigError,
    InparsError,
    MissingDependencyError,
    UnknownNameError,
    UntrainedModelError,
    reason_of,
)
from inpars.io.storage import atomic_folder
from inpars.models.compute_options import Placement
from inpars.models.folders import EMBEDDED, GGUF_SUFFIX, exists, model_folder, model_path, saved_kind
from inpars.models.hardware import pick_device, pick_dtype
from inpars.models.retrievers import DENSE, MULTI_VECTOR, SPARSE, is_masked_lm, retriever_kind
from inpars.text.hashing import hex_key

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder

Loaded = TypeVar("Loaded")
OfLibrary = TypeVar("OfLibrary", "SentenceTransformer", "MultiVectorEncoder", "SparseEncoder")
Pooling: TypeAlias = Literal["mean", "cls", "last"]
CONVERSION_FORMAT = 1  # increase when the converted files change
DECODER = "smollm2-135m"
MISSPELT = 0.75  # similarity to an embedded name above which a name is a typo, without asking the hub
UNSAFE, TORN = "Weights only load failed", "PytorchStreamReader failed"  # starts of torch's messages
BM25 = "bm25"  # a retriever that is not a model
FEWEST_WORDS = 20  # of a vocabulary, without special tokens
DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # names of which sentence-transformers 6 reads the first alone

# users cannot fix what these libraries warn each other of
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate)\.")
transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # transformers would ask the hub to convert pickles


def resolve_model(name: str) -> str:
    """The folder of an embedded model, a GGUF file or a local model; else the name itself, a hub id.

    Raises DataFormatError for a missing path, MissingDependencyError if an embedded model is not installed.
    """
    if name in EMBEDDED:
        parts = EMBEDDED[name].locate()
        return str(parts[0] if EMBEDDED[name].is_folder else _converted(parts, name))
    if (folder := model_folder(name)) is not None:
        return str(folder)
    path = model_path(name)
    return str(_converted([path], path.stem)) if exists(path) else name


def load_config(name: str, *, trust_remote_code: bool = False) -> Any:
    """The model's configuration."""
    return _load(name, lambda source: AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code))


def load_tokenizer(name: str, *, trust_remote_code: bool = False) -> Any:
    """The model's tokenizer. Raises BackendError if it knows no words."""
    tokenizer = _load(name, lambda source: AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code))
    _require_words(tokenizer, name)
    return tokenizer


def load_causal_lm(name: str, **where: Unpack[Placement]) -> tuple[Any, Any]:
    """A decoder in evaluation mode, and its tokenizer. Raises ConfigError for encoders such as BERT."""
    config = load_config(name, trust_remote_code=where.get("trust_remote_code", False))
    generates = getattr(config, "is_decoder", False) or config.is_encoder_decoder
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not generates:
        kind = config.model_type
        raise ConfigError(f"{name} is a {kind}: an encoder cannot generate text; give a decoder such as {DECODER}")
    return _load_with(AutoModelForCausalLM, name, where)


def load_seq2seq(name: str, **where: Unpack[Placement]) -> tuple[Any, Any]:
    """An encoder-decoder in evaluation mode, and its tokenizer."""
    return _load_with(AutoModelForSeq2SeqLM, name, where)


def load_sequence_classifier(
    name: str, num_labels: int = 1, *, new_head: bool = False, **where: Unpack[Placement]
) -> tuple[Any, Any]:
    """A classifier in evaluation mode, and its tokenizer; with `new_head`, a missing head is random."""
    return _load_with(AutoModelForSequenceClassification, name, where, new_head=new_head, num_labels=num_labels)


def load_extractive_reader(name: str, *, new_head: bool = False, **where: Unpack[Placement]) -> tuple[Any, Any]:
    """An extractive question-answering model in evaluation mode, and its tokenizer; `new_head` as above."""
    return _load_with(AutoModelForQuestionAnswering, name, where, new_head=new_head)


def load_sentence_transformer(
    name: str, pooling: Pooling | None = None, **where: Unpack[Placement]
) -> SentenceTransformer:
    """A bi-encoder in evaluation mode; a plain encoder gets `pooling`, by default mean."""
    from sentence_transformers import SentenceTransformer

    if (kind := saved_kind(name)) is not None:
        raise ConfigError(f"{name} was saved as a {kind}, a bi-encoder is needed here")
    if (kind := retriever_kind(name)) != DENSE:
        raise ConfigError(f"{name} is a {kind} retriever, a bi-encoder is needed here")
    model = load_with_sentence_transformers(name, SentenceTransformer, where)
    if pooling is not None:
        _set_pooling(model, pooling, name)
    return model


def load_with_sentence_transformers(name: str, kind: type[OfLibrary], where: Placement) -> OfLibrary:
    """A model of one of the library's classes, in evaluation mode."""
    device, settings = _settings(where)
    trust = settings.pop("trust_remote_code")

    def load(source: str) -> OfLibrary:
        return kind(source, device=str(device), trust_remote_code=trust, model_kwargs=settings)

    model = _load(name, load, () if name == BM25 else (BM25,)).eval()
    _require_words(getattr(model, "tokenizer", None), name)
    if (prompt := next(filter(None, map(model.prompts.get, DOCUMENT_PROMPTS)), None)) is not None:
        model.prompts[DOCUMENT_PROMPTS[0]] = prompt
    return model


def _set_pooling(model: SentenceTransformer, pooling: Pooling, name: str) -> None:
    from sentence_transformers.sentence_transformer import modules

    parts: list[Any] = list(model)
    position = next((n for n, part in enumerate(parts) if isinstance(part, modules.Pooling)), None)
    if position is None:
        raise BackendError(f"model {name!r} does not pool tokens; leave --pooling out")
    width = parts[position].embedding_dimension
    model[position] = modules.Pooling(width, {"last": "lasttoken"}.get(pooling, pooling))
    tokenizer = model.tokenizer
    if tokenizer.pad_token_id is None:  # common for decoders
        tokenizer.pad_token = tokenizer.eos_token


def _load_with(kind: Any, name: str, where: Placement, *, new_head: bool = False, **more: Any) -> tuple[Any, Any]:
    """Network and tokenizer, loaded by one of transformers' auto classes.

    Raises BackendError for missing weights, which transformers makes up, except those of a new head.
    """
    device, settings = _settings(where)
    settings_and_report = {**settings, **more, "output_loading_info": True}
    network, report = _load(name, lambda source: kind.from_pretrained(source, **settings_and_report))
    body = f"{network.base_model_prefix}."
    missing = [key for key in report["missing_keys"] if not new_head or (key.startswith(body) and "pooler" not in key)]
    if missing:
        raise BackendError(
            f"model {name!r} lacks {len(missing)} of its weights, as {min(missing)}; save it whole, without wrappers"
        )
    return network.to(device).eval(), load_tokenizer(name, trust_remote_code=settings["trust_remote_code"])


def _require_words(tokenizer: Any, name: str) -> None:
    """Raise BackendError for the empty tokenizer that transformers makes up where a folder has none."""
    size = getattr(tokenizer, "vocab_size", None)  # none of the library that static embeddings use
    if size is not None and size - len(tokenizer.all_special_tokens) < FEWEST_WORDS:
        raise BackendError(f"model {name!r} has no vocabulary; copy the tokenizer's files of its base model into it")


def _settings(where: Placement) -> tuple[torch.device, dict[str, Any]]:
    """The device, and keyword arguments for `from_pretrained`."""
    device = pick_device(where.get("device", "auto"))
    dtype = pick_dtype(where.get("dtype", "auto"), device)
    trust_remote_code = where.get("trust_remote_code", False)
    return device, {"dtype": dtype, "trust_remote_code": trust_remote_code}


def _load(name: str, load: Callable[[str], Loaded], others: Sequence[str] = ()) -> Loaded:
    """Load, turning any failure into a one-line error; `others` are further valid names, for suggestions."""
    source = resolve_model(name)
    if source == name and "/" not in name and get_close_matches(name, near := [*EMBEDDED, *others], cutoff=MISSPELT):
        raise UnknownNameError("model", name, near, "or give a folder, or a hub id")  # the hub would take a minute
    try:
        return load(source)
    except InparsError:
        raise
    except Exception as error:  # three libraries parse untrusted files and may raise anything
        if "trust_remote_code" in str(error):
            raise BackendError(
                f"model {name!r} comes with code of its own; read it, and give --trust-remote-code to run it"
            ) from error
        if isinstance(error, UnpicklingError) and UNSAFE in str(error):
            raise BackendError(
                f"model {name!r} is not loaded: its pickled weights hold more than tensors, which could run code; "
                "use a version with safetensors"
            ) from error
        if isinstance(error, UnpicklingError | struct.error) or TORN in str(error):
            raise BackendError(f"model {name!r} cannot be loaded: its pickled weights are torn; fetch them") from error
        is_local = source != name or Path(name).is_dir()
        if is_local or not isinstance(error, OSError | ValueError | ImportError):
            raise BackendError(f"model {name!r} cannot be loaded: {_first_line(error)}") from error
        hint = f"or give a folder; the model hub said: {_first_line(error)}"
        raise UnknownNameError("model", name, [*EMBEDDED, *get_close_matches(name, others)], hint) from error


def _first_line(error: Exception) -> str:
    return f"KeyError: {reason_of(error)}" if isinstance(error, KeyError) else reason_of(error)


def _converted(parts: Sequence[Path], name: str) -> Path:
    """The cache folder with the dequantised float32 weights of a GGUF file, converted if it is missing."""
    states = [f"{part.resolve()}:{part.stat().st_size}" for part in parts]
    if name not in EMBEDDED:  # a file of one's own may be written again with the same size
        states += [str(part.stat().st_mtime_ns) for part in parts]
    key = hex_key(str(CONVERSION_FORMAT), *states, digits=12)
    folder = cache_folder() / "models" / f"{name}-{key}"
    if not (folder / "config.json").exists():
        with atomic_folder(folder) as working:
            _convert(parts, working, name)
    return folder


@contextmanager
def _read_once() -> Iterator[None]:
    """Have transformers parse a GGUF file only once, without its progress bar."""
    import gguf

    module, package = cast("Any", gguf_reading), cast("Any", gguf)
    bar, reader = module.tqdm, package.GGUFReader
    module.tqdm, package.GGUFReader = functools.partial(bar, disable=True), functools.cache(reader)
    try:
        yield
    finally:
        module.tqdm, package.GGUFReader = bar, reader


def _convert(parts: Sequence[Path], working: Path, name: str) -> None:
    """Write config, tokenizer and safetensors into `working`."""
    gguf = parts[0]
    if len(parts) > 1:
        gguf = working / f"{name}{GGUF_SUFFIX}"
        with gguf.open("wb") as whole:
            for part in parts:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, whole)
    where = {"gguf_file": gguf.name}
    try:
        with _read_once():
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
    except ImportError as error:
        raise MissingDependencyError("gguf", "to read GGUF weights", "pip install gguf") from error
    except (OSError, ValueError, KeyError) as error:
        raise BackendError(f"{gguf}: cannot be read as a GGUF language model: {_first_line(error)}") from error
    model.save_pretrained(working)
    tokenizer.save_pretrained(working)
    if gguf.parent == working:
        gguf.unlink()


def load_multi_vector(name: str, *, of_encoder: bool = False, **where: Unpack[Placement]) -> MultiVectorEncoder:
    """A ColBERT of sentence-transformers, PyLate or Stanford; with `of_encoder`, also an encoder's token states.

    Raises ConfigError for a sparse retriever, UntrainedModelError for an encoder without `of_encoder`.
    """
    from sentence_transformers import MultiVectorEncoder

    if retriever_kind(name) == MULTI_VECTOR:
        return load_with_sentence_transformers(name, MultiVectorEncoder, where)
    _refuse_kind(name, SPARSE)
    if not of_encoder:
        raise _untrained(name, MULTI_VECTOR)
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    encoder = load_sentence_transformer(name, **where)
    modules: list[Any] = [encoder[0], MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
    prompts = {name: text for name, text in encoder.prompts.items() if text}
    return MultiVectorEncoder(modules=modules, prompts=prompts, device=str(encoder.device)).eval()


def load_sparse(name: str, *, for_training: bool = False, **where: Unpack[Placement]) -> SparseEncoder:
    """A sparse encoder; with `for_training`, also a masked language model.

    Raises ConfigError for a model of another kind, UntrainedModelError for an untrained one without `for_training`.
    """
    from sentence_transformers import SparseEncoder

    if retriever_kind(name) != SPARSE:
        _refuse_kind(name, MULTI_VECTOR)
        if not for_training:
            raise _untrained(name, SPARSE)
        if not is_masked_lm(name):
            raise ConfigError(
                f"{name} has no masked-language-model head, which a sparse retriever needs for its term weights; give "
                "--model a masked language model or a SPLADE"
            )
    return load_with_sentence_transformers(name, SparseEncoder, where)


def _refuse_kind(name: str, kind: str) -> None:
    if retriever_kind(name) == kind:
        raise ConfigError(f"{name} is a {kind} retriever, and another kind is needed here")


def _untrained(name: str, kind: str) -> UntrainedModelError:
    return UntrainedModelError(
        f"{name} is not a {kind} retriever; `inpars train retriever --kind {kind} --model {name}` trains one"
    )
