"""What an earlier run left in a folder: removed where this run has no such output, and nothing else is."""

from inpars.pipeline.leftovers import remove_leftovers
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.steps import Steps
from inpars.progress import Silent

FILES = (
    *("models/retriever/config.json", "models/retriever.manifest.json", "models/mine/config.json"),
    *("runs/tuned.trec", "runs/tuned.trec.manifest.json", "runs/bm25.trec", "runs/bm25.trec.manifest.json"),
    *("runs/mine.trec", "runs/mine.trec.manifest.json", "choice/base.trec", "choice/base.trec.manifest.json"),
    *("triples.tsv", "triples.tsv.manifest.json", "triples.ids.tsv", "triples.negatives.jsonl", "negatives.trec"),
)


def filled(folder):
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return Steps(Silent(), PipelineOptions())


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_outputs_of_no_stage_of_this_run_are_removed_with_what_lies_beside_them(tmp_path):
    steps = filled(tmp_path)
    for name in ("runs/bm25.trec", "choice/base.trec"):
        steps.stage("search", tmp_path / name, up_to_date=True)
    removed = remove_leftovers(tmp_path, steps)
    assert set(removed) == {"models/retriever", "runs/tuned.trec", "triples.tsv"}
    kept = ("models/mine", "runs/bm25", "runs/mine", "choice/base")
    moved = {"models.earlier/retriever/config.json"}
    assert names(tmp_path) == {name for name in FILES if name.startswith(kept)} | moved
    assert remove_leftovers(tmp_path, steps) == []


def test_a_folder_of_models_goes_with_its_last_one(tmp_path):
    steps = filled(tmp_path)
    (tmp_path / "models" / "mine" / "config.json").unlink()
    (tmp_path / "models" / "mine").rmdir()
    remove_leftovers(tmp_path, steps)
    assert not (tmp_path / "models").exists()


def test_a_stage_that_could_not_be_done_leaves_nothing_and_is_not_counted(tmp_path):
    steps = filled(tmp_path)
    steps.stage("triples", tmp_path / "triples.tsv", up_to_date=False)
    steps.withdraw(tmp_path / "triples.tsv")
    assert "triples.tsv" in remove_leftovers(tmp_path, steps)


def test_measures_and_splits_of_an_earlier_run_go_where_nothing_is_measured(tmp_path):
    written = ("metrics.json", "topics/qrels.tsv", "runs/bm25.trec", "queries.train.jsonl", "queries.dev.jsonl")
    for name in (*written, "queries.with_pairs.jsonl", "metrics.json.manifest.json", "topics.manifest.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    remove_leftovers(tmp_path, Steps(Silent(), PipelineOptions()))
    assert names(tmp_path) == set()
    (tmp_path / "metrics.json").write_text("of another program")
    assert remove_leftovers(tmp_path, Steps(Silent(), PipelineOptions())) == []
