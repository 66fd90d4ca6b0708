"""The commands a report shows: a shell and the command line itself take them, and they say what was asked for."""

import argparse
import importlib
import shlex
from pathlib import Path

import pytest

from inpars.cli import module_of
from inpars.commands import evaluate
from inpars.commands import run as run_command
from inpars.manifest import FileStamp, Manifest
from inpars.options import result_settings
from inpars.reports.commands import command_line, stage_commands
from inpars.stages.filtering import FilterOptions
from inpars.stages.generating import GenerateOptions
from inpars.stages.mining import TriplesOptions
from inpars.stages.reranking import RerankOptions
from inpars.stages.retrieving import SearchOptions

SOURCE = {"dataset": "toy; rm -rf x", "split": "dev"}
FOLDER = Path("runs/it's mine")


def parsed(command):
    program, name, *rest = shlex.split(command.replace("\\\n", " "))
    assert program == "inpars"
    module = importlib.import_module(module_of(name))
    parser = argparse.ArgumentParser(allow_abbrev=False)
    module.add_arguments(parser)
    return parser.parse_args(rest)


def manifest(stage, options, **inputs):
    stamps = {name: FileStamp(str(FOLDER / path), "0" * 64, 1) for name, path in inputs.items()}
    return Manifest(stage, result_settings(options), stamps, FileStamp("x", "0" * 64, 1))


def stages():
    from inpars.training.reranker import RerankerOptions
    from inpars.training.retriever import RetrieverOptions

    kept, triples = "queries.filtered.jsonl", "triples.tsv"
    return [
        ("queries.synthetic.jsonl", manifest("generate", GenerateOptions(max_documents=7, skip_near_duplicates=True))),
        (
            kept,
            manifest("filter", FilterOptions(top_k=5, drop_copied=False, select=("a:min=1", "b:top-k=2")), queries="q"),
        ),
        (triples, manifest("triples", TriplesOptions(ranks="3-9"), queries=kept)),
        ("models/retriever", manifest("train retriever", RetrieverOptions(epochs=2.5), triples=triples)),
        ("models/reranker", manifest("train reranker", RerankerOptions(), triples=triples)),
        ("runs/bm25.trec", manifest("search", SearchOptions(retriever=("bm25", "minilm"), k1=1.2))),
        ("runs/reranked.trec", manifest("rerank", RerankOptions(depth=3, fuse=True), run="runs/bm25.trec")),
    ]


def commands():
    return stage_commands([(FOLDER / name, found) for name, found in stages()], SOURCE, "my prompt.yaml")


def test_every_stage_has_a_command_that_its_own_parser_takes():
    shown = commands()
    assert len(shown) == len(stages())
    for command, (output, _) in zip(shown, stages(), strict=True):
        assert parsed(command).output == FOLDER / output


def test_commands_hold_the_settings_of_the_manifests():
    generate, kept, triples, retriever, _, search, rerank = map(parsed, commands())
    assert (generate.max_documents, generate.skip_near_duplicates, generate.prompt) == (7, True, "my prompt.yaml")
    assert generate.dataset == SOURCE["dataset"]
    assert (kept.top_k, kept.drop_copied, kept.drop_duplicates) == (5, False, True)
    assert kept.select == ("a:min=1", "b:top-k=2")
    assert (triples.ranks, triples.input, triples.split) == ("3-9", FOLDER / "queries.filtered.jsonl", "dev")
    assert (retriever.epochs, retriever.triples) == (2.5, FOLDER / "triples.tsv")
    assert (search.retriever, search.k1) == (("bm25", "minilm"), 1.2)
    assert (rerank.depth, rerank.fuse) == (3, True)
    assert str(FOLDER / "runs/bm25.trec") in map(str, rerank.run if isinstance(rerank.run, list) else [rerank.run])


def test_stages_without_a_command_of_their_own_are_left_out():
    assert stage_commands([(FOLDER / "fusion.trec", manifest("fuse", SearchOptions()))], SOURCE, "inpars") == []


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (run_command, "--dataset toy --output 'a b' --max-documents 9 --prompt x --top-k 3"),
        (evaluate, "--run one.trec --run 'two <b>.trec' --qrels q --metrics 'nDCG@10 AP' --report r.html"),
    ],
)
def test_a_command_line_comes_back_as_it_was_meant(module, arguments):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    module.add_arguments(parser)
    flags = parser.parse_args(shlex.split(arguments))
    name = module.__name__.rpartition(".")[2]
    assert vars(parsed(command_line(name, module.add_arguments, flags))) == vars(flags)


def test_what_is_at_its_default_is_not_repeated():
    parser = argparse.ArgumentParser()
    run_command.add_arguments(parser)
    flags = parser.parse_args(["--dataset", "toy", "--output", "o", "--seed", "0", "--quiet", "--overwrite"])
    assert command_line("run", run_command.add_arguments, flags) == "inpars run --dataset toy --output o"
