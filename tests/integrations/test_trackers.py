"""--track with the real clients, offline; tests of clients that are not installed are skipped."""

import struct
import sys
import time

import pytest

from inpars import tracking
from inpars.cli import main as cli
from inpars.errors import BackendError
from inpars.tracking import TRACKERS, log, log_results

pytestmark = pytest.mark.filterwarnings("default")  # theirs
LOSSES = {1: 0.5, 2: 0.25}
MEANS = {"bm25": {"nDCG@10": 0.25}, "mix": {"nDCG@10": 0.75}}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("TENSORBOARD_LOGGING_DIR", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "WANDB_PROJECT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tracked(name, output):
    notes = []
    with tracking.tracking(name, output, {"epochs": 3, "model": "minilm", "limit": None}, notes.append):
        for step, loss in LOSSES.items():
            log({"retriever/loss": loss}, step)
        log({"retriever/dev": 0.5}, 2)
        for step, loss in LOSSES.items():
            log({"reranker/loss": loss + 1}, step)
        log_results(MEANS)
    assert notes == []


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = folder.rglob("events.out.*")
    found = EventAccumulator(str(file.parent))
    found.Reload()
    return found


def text(found, name):
    return found.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    tracked("tensorboard", tmp_path / "out")
    found = scalars(tmp_path / "out.tensorboard")
    assert {event.step: event.value for event in found.Scalars("retriever/loss")} == LOSSES
    assert [event.value for event in found.Scalars("final/mix/nDCG@10")] == [0.75]
    texts = {
        name: found.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0] for name in ("settings", "results")
    }
    assert texts["settings"].decode() == "| setting | value |\n| --- | --- |\n| epochs | 3 |\n| model | minilm |"
    assert texts["results"].decode().endswith("| bm25 | 0.25 |\n| mix | 0.75 |")


def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    tracked("mlflow", tmp_path / "out")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("inpars")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("out", "FINISHED")
    assert run.data.params == {"epochs": "3", "model": "minilm"}
    assert {point.step: point.value for point in client.get_metric_history(run.info.run_id, "retriever/loss")} == LOSSES
    assert run.data.metrics["final/mix/nDCG_10"] == 0.75
    table = mlflow.load_table("results.json", run_ids=[run.info.run_id])
    assert table[["system", "nDCG@10"]].to_numpy().tolist() == [["bm25", 0.25], ["mix", 0.75]]


def of_a_leveldb_log(data):
    """Records of wandb's file: a 7-byte header, then 32 KiB blocks of parts with a 7-byte header each."""
    offset, record = 7, b""
    while offset + 7 <= len(data):
        left = 32768 - offset % 32768
        if left < 7:
            offset += left
            continue
        length, kind = struct.unpack("<HB", data[offset + 4 : offset + 7])
        record += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_offline(tmp_path):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    tracked("wandb", tmp_path / "out")
    (file,) = tmp_path.rglob("*.wandb")
    deadline, kinds = time.monotonic() + 60, set()
    while "exit" not in kinds and time.monotonic() < deadline:  # another process writes it
        time.sleep(0.2)
        rows, config, kinds = [], {}, set()
        for data in of_a_leveldb_log(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kinds.add(record.WhichOneof("record_type"))
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            rows += [items] if items else []
            config |= {item.key: item.value_json for item in record.run.config.update}
    assert config["epochs"] == '"3"'
    seen = [(row["retriever/step"], row["retriever/loss"]) for row in rows if "retriever/loss" in row]
    assert seen == [(str(step), str(loss)) for step, loss in LOSSES.items()]
    assert [row["reranker/step"] for row in rows if "reranker/loss" in row] == ["1", "2"]
    assert [row["final/mix/nDCG@10"] for row in rows if "final/mix/nDCG@10" in row] == ["0.75"]


def test_trackio(tmp_path):
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    tracked("trackio", tmp_path / "out")
    (run,) = SQLiteStorage.get_runs("inpars")
    logs = SQLiteStorage.get_logs("inpars", run)
    assert {row["step"]: row["retriever/loss"] for row in logs if "retriever/loss" in row} == LOSSES
    assert [row["final/mix/nDCG@10"] for row in logs if "final/mix/nDCG@10" in row] == [0.75]


def test_losses_and_dev_values_of_a_training(tiny, tmp_path, capsys):
    pytest.importorskip("tensorboard")
    (tmp_path / "t.tsv").write_text("".join(f"query {n}\tgood {n}\tbad {n}\n" for n in range(12)), encoding="utf-8")
    arguments = ["train", "reranker", "--triples", "t.tsv", "--output", "model", "--model", tiny("bert_classifier")]
    arguments += ["--max-steps", "2", "--validate-every", "1", "--device", "cpu", "--quiet", "--track", "tensorboard"]
    assert cli.main(arguments) == 0
    found = scalars(tmp_path / "model.tensorboard")
    assert [event.step for event in found.Scalars("reranker/loss")] == [1, 2]
    assert [event.step for event in found.Scalars("reranker/dev")] == [0, 1, 2]
    assert "final/best/dev nDCG@10" in found.Tags()["scalars"]
    assert "| max_steps | 2 |" in text(found, "settings")


class Failing:
    def __init__(self, output, settings):
        self.closed = None

    def log(self, values, step):
        raise ConnectionError("the server\nis gone")

    def table(self, columns, rows):
        raise AssertionError("after a failure nothing more is tracked")

    def close(self, failed):
        raise AssertionError


def test_a_tracker_that_fails_is_said_once_and_ends_no_work(monkeypatch, tmp_path):
    monkeypatch.setitem(TRACKERS, "mlflow", Failing)
    notes = []
    with tracking.tracking("mlflow", tmp_path / "out", {}, notes.append):
        log({"a/loss": 1.0}, 1)
        log({"a/loss": 1.0}, 2)
        log_results(MEANS)
    assert notes == ["--track mlflow failed, nothing more is tracked: the server is gone"]


def test_a_tracker_that_cannot_begin_ends_the_command(monkeypatch, tmp_path):
    def refuse(output, settings):
        raise ValueError("no key")

    monkeypatch.setitem(TRACKERS, "wandb", refuse)
    with (
        pytest.raises(BackendError, match="no key"),
        tracking.tracking("wandb", tmp_path, {}, print),
    ):
        raise AssertionError


def test_a_run_that_fails_is_marked_and_other_processes_track_nothing(monkeypatch, tmp_path):
    closed = []

    class Counting(Failing):
        def close(self, failed):
            closed.append(failed)

    monkeypatch.setitem(TRACKERS, "wandb", Counting)
    with pytest.raises(KeyboardInterrupt), tracking.tracking("wandb", tmp_path, {}, print):
        raise KeyboardInterrupt
    monkeypatch.setenv("RANK", "1")
    with tracking.tracking("wandb", tmp_path, {}, print):
        log({"a/loss": 1.0}, 1)
    assert closed == [True]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_client_that_is_missing_is_named_with_its_line(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "t.tsv").write_text("a\tb\tc\n", encoding="utf-8")
    assert cli.main(["train", "reranker", "--triples", "t.tsv", "--output", "m", "--quiet", "--track", name]) == 1
    assert f"(--track {name})" in capsys.readouterr().err
