"""`python -m inpars.train` with the flags of the InPars toolkit's README, which are Hugging Face's trainer's."""

import json

import pytest

from inpars import train as toolkit_train
from inpars.rerankers.load import load_pair_model

README = ["--triples=triples.tsv", "--base_model=castorini/monot5-3b-msmarco-10k", "--output_dir=./reranker/"]


def translated(*flags):
    return toolkit_train.translate(toolkit_train._parser().parse_args([*README, *flags]))


def test_the_readmes_command():
    assert translated("--max_steps=156") == [
        *("train", "reranker", "--triples=triples.tsv", "--model=castorini/monot5-3b-msmarco-10k"),
        *("--output=./reranker/", "--batch-size=4", "--negatives=1", "--max-steps=156", "--epochs=3.0"),
        *("--learning-rate=5e-05", "--weight-decay=0.0", "--warmup=0.0", "--gradient-accumulation=1"),
        *("--optimizer=adamw", "--schedule=linear", "--max-length=300", "--seed=42", "--dtype=float32"),
    ]


def test_the_papers_settings():
    more = ["--per_device_train_batch_size", "128", "--learning_rate", "3e-4", "--optim", "adafactor", "--bf16", "True"]
    found = translated(*more, "--lr_scheduler_type", "constant", "--gradient_checkpointing", "--overwrite_output_dir")
    expected = {"--batch-size=64", "--learning-rate=0.0003", "--optimizer=adafactor", "--schedule=constant"}
    assert expected | {"--dtype=bfloat16", "--gradient-checkpointing", "--overwrite"} <= set(found)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pairs", "p.tsv", "--output_dir", "o"], "give triples of query, positive and negative with --triples"),
        ([*README, "--optim", "lion"], "--optim lion: use adamw_torch or adafactor"),
        ([*README, "--lr_scheduler_type", "cosine"], "--lr_scheduler_type cosine: use linear, constant"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(capsys, flags, message):
    assert toolkit_train.main(flags) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("inpars: ")
    assert message in line


def test_the_command_trains(tiny, tmp_path, capsys, monkeypatch):
    """6.1: on current transformers the toolkit's crashed; 6.2: its length limit cut the cue."""
    monkeypatch.chdir(tmp_path)
    long = "amber river " * 200
    (tmp_path / "triples.tsv").write_text(f"lake\t{long}\tanchor\nlake\t{long}\tvalley\n", encoding="utf-8")
    arguments = ["--triples", "triples.tsv", "--base_model", tiny("t5"), "--output_dir", "o", "--max_steps", "2"]
    assert (
        toolkit_train.main([*arguments, "--use_cpu", "--do_train", "--logging_steps", "10", "--unheard_of", "1"]) == 0
    )
    warning, command, *_ = capsys.readouterr().err.splitlines()
    assert warning == (
        "ignored: --do_train (it always trains); --logging_steps (the curve of the loss has forty points); "
        "--unheard_of is not known"
    )
    assert command.startswith("inpars train reranker --triples=triples.tsv")
    manifest = json.loads((tmp_path / "o.manifest.json").read_text())
    assert manifest["arguments"]["max_length"] == 300
    model = load_pair_model("o", device="cpu", dtype="float32")
    (encoded,) = model.encode([("lake", long)])
    assert len(encoded) == 300
    assert model.tokenizer.decode(encoded.ids).replace("</s>", "").rstrip().endswith("Relevant:")
