"""The kind and the answer tokens of a checkpoint are never guessed."""

import json
import shutil
from types import SimpleNamespace

import pytest
from tiny_models import byte_level_tokenizer, t5_tokenizer

from inpars import scoring
from inpars.errors import ConfigError, UntrainedModelError
from inpars.rerankers import load_scorer
from inpars.rerankers.answerability import AnswerabilityScorer
from inpars.rerankers.load import Checkpoint, check_trained, find_answers, find_kind, load_pair_model
from inpars.rerankers.pair_model import token_budget_batches
from inpars.retrieval.dense import Encoder

EXACT = {"device": "cpu", "dtype": "float32"}


def config(architecture=None, encoder_decoder=False):
    return SimpleNamespace(architectures=architecture and [architecture], is_encoder_decoder=encoder_decoder)


def test_the_path_that_model_cards_show_stays_importable():
    assert scoring.load_scorer is load_scorer


@pytest.mark.parametrize(
    ("architecture", "encoder_decoder", "saved", "kind"),
    [
        ("T5ForConditionalGeneration", True, {}, "monot5"),
        ("T5ForSequenceClassification", True, {}, "cross-encoder"),
        ("BertForSequenceClassification", False, {}, "cross-encoder"),
        ("LlamaForSequenceClassification", False, {}, "cross-encoder"),
        ("BertModel", False, {}, "cross-encoder"),  # whose head is yet to be trained
        ("LlamaForCausalLM", False, {}, "query-likelihood"),
        ("GPT2LMHeadModel", False, {}, "query-likelihood"),
        ("LlamaForCausalLM", False, {"kind": "causal"}, "causal"),
        ("LlamaForCausalLM", False, {"kind": "of another time"}, "query-likelihood"),
    ],
)
def test_the_kind_is_read_from_the_configuration(architecture, encoder_decoder, saved, kind):
    assert find_kind(Checkpoint("m", config(architecture, encoder_decoder), saved)) == kind


def test_a_configuration_that_names_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"^m: .*config.json names no architecture; .*--kind$"):
        find_kind(Checkpoint("m", config(), {}))


def test_toolkit_fault_the_kind_does_not_come_from_the_path(tiny, tmp_path):
    # a fine-tuned FLAN saved to ./reranker was scored with another prompt and other tokens
    folder = tmp_path / "reranker-flan-bert"
    shutil.copytree(tiny("t5"), folder)
    assert load_pair_model(str(folder), true_token="▁true", false_token="▁false", **EXACT).kind == "monot5"


def test_an_unknown_kind_is_refused(tiny):
    with pytest.raises(ConfigError, match="unknown kind 'duo' of reranker"):
        load_scorer(tiny("t5"), kind="duo", **EXACT)


@pytest.mark.parametrize(("model", "kind"), [("t5", "auto"), ("t5", "monot5"), ("llama", "causal")])
def test_toolkit_fault_unknown_checkpoints_get_guessed_answers(tiny, model, kind):
    with pytest.raises(ConfigError, match=r"which two tokens .*answers with"):
        load_scorer(tiny(model), kind=kind, **EXACT)


def test_training_gives_a_checkpoint_without_answers_its_first(tiny):
    answers = load_pair_model(tiny("t5"), for_training=True, **EXACT).answers
    assert (answers.true_token, answers.false_token) == ("▁true", "▁false")
    answers = load_pair_model(tiny("llama"), kind="causal", for_training=True, **EXACT).answers
    assert (answers.true_token, answers.false_token) == (" yes", " no")


@pytest.mark.parametrize(("true_token", "false_token"), [("▁true", "▁nonsense"), ("▁nonsense", "▁false")])
def test_a_token_the_vocabulary_lacks_is_refused_also_in_training(tiny, true_token, false_token):
    for training in (True, False):
        with pytest.raises(ConfigError, match="'▁nonsense' is not one token"):
            load_pair_model(tiny("t5"), true_token=true_token, false_token=false_token, for_training=training, **EXACT)


@pytest.mark.parametrize("given", [{"true_token": "▁true"}, {"false_token": "▁false"}])
def test_half_a_pair_of_answers_is_refused(tiny, given):
    with pytest.raises(ConfigError, match="give both or neither"):
        load_scorer(tiny("t5"), **given, **EXACT)


def test_two_names_of_one_token_are_refused():
    with pytest.raises(ConfigError, match=r"^m: 'Ġyes' and ' yes' are the same"):
        find_answers(byte_level_tokenizer(), "m", {}, "Ġyes", " yes")


def test_a_word_may_be_named_as_people_write_it():
    tokenizer = byte_level_tokenizer()
    by_word, by_entry = find_answers(tokenizer, "m", {}, " yes", " no"), find_answers(tokenizer, "m", {}, "Ġyes", "Ġno")
    assert (by_word.true_id, by_word.false_id) == (by_entry.true_id, by_entry.false_id)


@pytest.mark.parametrize(
    ("model", "true_token", "false_token"),
    [
        ("castorini/monot5-base-msmarco", "▁true", "▁false"),
        ("zeta-alpha-ai/monot5-3b-inpars-v2-scifact", "▁true", "▁false"),
        ("unicamp-dl/mt5-base-mmarco-v2", "▁yes", "▁no"),
        ("unicamp-dl/mt5-base-en-msmarco", "▁yes", "▁no"),
    ],
)
def test_published_rerankers_keep_the_answers_of_their_training(model, true_token, false_token):
    answers = find_answers(t5_tokenizer(), model, {})
    assert (answers.true_token, answers.false_token) == (true_token, false_token)


def test_what_is_given_goes_before_what_is_saved_and_that_before_what_is_published():
    tokenizer, published = t5_tokenizer(), "castorini/monot5-base-msmarco"
    saved = {"true_token": "▁yes", "false_token": "▁no"}
    assert find_answers(tokenizer, published, saved).true_token == "▁yes"
    assert find_answers(tokenizer, published, saved, "▁lake", "▁amber").true_token == "▁lake"


def test_saved_ids_are_looked_up_again_in_the_tokenizer_at_hand(tiny, tmp_path):
    # a folder whose tokenizer was exchanged: the tokens count, not the numbers they once had
    shutil.copytree(tiny("t5"), tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["inpars"] = {"kind": "monot5", "true_token": "▁yes", "false_token": "▁no", "true_token_id": 3}
    path.write_text(json.dumps(settings), encoding="utf-8")
    model = load_pair_model(str(tmp_path / "m"), **EXACT)
    assert model.answers.true_id == model.tokenizer.convert_tokens_to_ids("▁yes") != 3


# tiny BERTs have 128 positions, the tiny GPT-2 512, of which "Document:" takes some; the Llama computes its own
@pytest.mark.parametrize(
    ("model", "kind", "length", "limit"),
    [
        ("bert_classifier", "cross-encoder", 129, "at most 128"),
        ("bert_classifier", "cross-encoder", 7, "at least 8"),
        ("gpt2", "query-likelihood", 512, "at most 512"),
        ("gpt2", "causal", 513, "at most 512"),
        ("llama", "causal", 5, "at least 8"),
        ("t5", "monot5", 1, "at least 8"),
    ],
)
def test_a_length_that_cannot_be_read_is_refused(tiny, model, kind, length, limit):
    with pytest.raises(ConfigError, match=f"--max-length is {length}; .*{limit}"):
        load_pair_model(tiny(model), kind=kind, max_length=length, for_training=True, **EXACT)


def test_a_length_that_fits_is_taken_and_the_models_own_is_no_more_than_it_reads(tiny):
    assert load_pair_model(tiny("bert_classifier"), max_length=128, **EXACT).max_length == 128
    assert load_pair_model(tiny("llama"), max_length=5000, **EXACT).max_length == 5000
    likelihood = load_pair_model(tiny("gpt2"), **EXACT)
    assert likelihood.max_length + len(likelihood.prefix_ids) == 512
    text = " ".join(["amber"] * 600)
    assert load_scorer(tiny("gpt2"), **EXACT).score([("amber", text)])[0] < 0


@pytest.mark.parametrize(("length", "limit"), [(129, "at most 128"), (2, "at least 8")])
def test_so_it_is_for_bi_encoders_and_readers(tiny, length, limit):
    with pytest.raises(ConfigError, match=f"--max-length is {length}; .*{limit}"):
        Encoder(tiny("sentence_transformer"), max_length=length, **EXACT)
    with pytest.raises(ConfigError, match=f"--max-length is {length}; "):
        AnswerabilityScorer(tiny("bert_reader"), max_length=length, **EXACT)


@pytest.mark.parametrize(
    "saved",
    [7, {"kind": "monot5", "max_length": "long"}, {"max_length": 0}, {"true_token": 5}, {"reduction": "median"}],
)
def test_settings_that_nobody_saved_are_one_line(tiny, tmp_path, saved):
    shutil.copytree(tiny("t5"), tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"inpars": saved}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json: inpars"):
        load_pair_model(str(tmp_path / "m"), for_training=True, **EXACT)


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([], 10, []),
        ([3, 5, 4], 10, [[1, 2], [0]]),  # 5 * 2 = 10 fits, 5 * 3 does not
        ([3, 5, 4], 15, [[1, 2, 0]]),
        ([30, 2], 10, [[0], [1]]),  # longer than the budget: alone
        ([2, 2, 2, 2, 2], 4, [[0, 1], [2, 3], [4]]),  # equal ones in their order
    ],
)
def test_batches_stay_within_the_budget_of_padded_tokens(lengths, budget, expected):
    assert list(token_budget_batches(lengths, budget)) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bert_classifier", "auto"),
        ("sentence_transformer", "auto"),
        ("llama", "auto"),
        ("llama", "causal"),
        ("t5", "auto"),
    ],
)
def test_a_model_is_called_untrained_where_its_loading_says_so(tiny, name, kind):
    errors = []
    for function in (check_trained, load_pair_model):
        try:
            function(str(tiny(name)), kind=kind, **({} if function is check_trained else EXACT))
            errors.append(None)
        except UntrainedModelError as error:
            errors.append(str(error))
    assert errors[0] == errors[1]
    if name in ("bert_classifier", "sentence_transformer"):
        assert (errors[0] is None) == (name == "bert_classifier")


def test_a_decoder_that_sentence_transformers_ranks_by_two_tokens_is_no_query_likelihood(tiny, tmp_path):
    folder = shutil.copytree(tiny("llama"), tmp_path / "model")
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    with pytest.raises(ConfigError, match="give --kind causal"):
        load_scorer(str(folder))
    load_scorer(str(folder), kind="query-likelihood")
