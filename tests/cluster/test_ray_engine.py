"""The workers: every shard once, deaths survived, errors told, what is done never done again."""

import sys
import threading
import time
from types import SimpleNamespace

import pytest
from fake_jobs import Squares

from inpars.distributed import RayWorkers, _Actor, _number_of_workers, _start
from inpars.errors import BackendError, ConfigError, MissingDependencyError, UnknownNameError
from inpars.progress import SILENT, Silent
from inpars.stages.shard_folder import ShardFolder
from inpars.stages.workers import ClusterOptions, do_shards, shard_size, worker_reports


class Counted(Silent):
    def __init__(self):
        self.count, self.notes = 0, []

    def advance(self, count, detail=""):
        self.count += count

    def note(self, message):
        self.notes.append(message)


def begin(tmp_path, total=10, size=3):
    return ShardFolder.open(tmp_path / "squares.jsonl", "these settings", size, total, SILENT)


def work(folder, job, progress=SILENT, workers=2):
    do_shards(
        job.open,
        folder,
        lambda shard: (shard, list(folder.items(shard))),
        RayWorkers(ClusterOptions(engine="ray", workers=workers, cpus_per_worker=0.5)),
        description="square",
        unit="numbers",
        progress=progress,
    )


def squares(folder):
    return [int(line) for shard in range(folder.count) for line in folder.file(shard).read_text().split()]


EXPECTED = [number * number for number in range(10)]


@pytest.mark.parametrize("workers", [1, 3, 9])
def test_all_shards_are_done_once(ray_here, tmp_path, workers):
    folder, progress = begin(tmp_path), Counted()
    work(folder, Squares(tmp_path / "log"), progress, workers)
    assert squares(folder) == EXPECTED
    begun = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(shard for shard, _ in begun) == ["0", "1", "2", "3"], "10 numbers by threes"
    assert len({pid for _, pid in begun}) <= min(workers, 4)
    assert progress.count == 10
    assert [folder.mark(shard)["sum"] for shard in range(4)] == [0 + 1 + 2, 3 + 4 + 5, 6 + 7 + 8, 9]


@pytest.mark.parametrize("error", ["kill", "fault"])
def test_a_worker_that_ends_is_replaced(ray_here, tmp_path, error):
    folder = begin(tmp_path)
    work(folder, Squares(tmp_path / "log", fails_at=1, once=True, error=error))
    assert squares(folder) == EXPECTED
    begun = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(shard for shard, _ in begun) == ["0", "1", "1", "2", "3"]
    first, second = (pid for shard, pid in begun if shard == "1")
    assert first != second


def test_a_shard_that_ends_every_worker_ends_the_work(ray_here, tmp_path):
    folder = begin(tmp_path)
    with pytest.raises(BackendError, match=r"shard 2 of 4 failed 5 times, .*RuntimeError: a fault") as e:
        work(folder, Squares(tmp_path / "log", fails_at=1, error="fault"))
    assert "\n" not in str(e.value)


def test_errors_raised_on_purpose_are_told_at_once_with_their_own_words(ray_here, tmp_path):
    with pytest.raises(UnknownNameError, match=r"^unknown number '1' \(known: one, two\)$"):
        work(begin(tmp_path), Squares(tmp_path / "log", fails_at=1, error="ours"))
    assert (tmp_path / "log").read_text().splitlines().count("1") <= 1


def test_what_is_done_is_not_done_again(ray_here, tmp_path):
    with pytest.raises(UnknownNameError):
        work(begin(tmp_path), Squares(tmp_path / "log", fails_at=2, error="ours"), workers=1)
    done = begin(tmp_path).done()
    assert done == {0, 1}
    (tmp_path / "log").unlink()
    progress = Counted()
    work(begin(tmp_path), Squares(tmp_path / "log"), progress)
    begun = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(begun) == ["2", "3"]
    assert squares(begin(tmp_path)) == EXPECTED
    assert progress.count == 4, "the numbers 6 to 9"
    work(begin(tmp_path), Squares(tmp_path / "absent" / "log"))


def test_a_shard_that_somebody_else_finished_is_left_alone(ray_here, tmp_path):
    """A driver that died had given it to a worker that lived on."""
    folder = begin(tmp_path)
    folder.finish(1, {"items": 3})
    actor = _Actor(1)
    actor.load(Squares(tmp_path / "log").open, folder)
    actor.do(1, (1, [3, 4, 5]))
    assert not (tmp_path / "log").exists()
    actor.do(0, (0, [0, 1, 2]))
    assert (folder.mark(0)["items"], folder.mark(0)["worker"], folder.mark(0)["device"]) == (3, 1, "abacus")


def test_two_processes_never_write_the_same_partial_file(tmp_path, monkeypatch):
    monkeypatch.setattr("inpars.stages.shard_folder.LOCK_SECONDS", 0.2)
    folder = begin(tmp_path)
    with folder.begun(0) as mine, folder.begun(0) as other:
        assert mine != other
    with folder.begun(0) as again:
        assert again == mine


def test_a_worker_whose_driver_is_dead_is_waited_for(tmp_path):
    folder, order = begin(tmp_path), []

    def zombie():
        with folder.begun(0):
            began.set()
            time.sleep(0.3)
            order.append("zombie")

    began = threading.Event()
    thread = threading.Thread(target=zombie)
    thread.start()
    began.wait()
    with folder.begun(0) as partial:
        order.append("other")
    thread.join()
    assert order == ["zombie", "other"]
    assert partial.name == "000000.partial"


def test_a_folder_of_other_settings_is_begun_anew(tmp_path):
    output, progress = tmp_path / "out.jsonl", Counted()
    folder = ShardFolder.open(output, "a", 3, 10, progress)
    folder.finish(0, {"items": 3})
    again = ShardFolder.open(output, "a", 5, 10, progress)
    assert (again.size, again.done()) == (3, {0}), "it goes on as it was cut"
    assert ShardFolder.open(output, "b", 5, 10, progress).done() == set()
    assert [note.partition(": ")[2] or note for note in progress.notes] == [
        "resuming, 1 of 4 shards are done",
        "settings or inputs changed since the interrupted run; starting over",
    ]


def test_a_mark_torn_by_a_loss_of_power_is_none(tmp_path):
    folder = begin(tmp_path)
    folder.finish(0, {"items": 3})
    (folder.path / "000000.done.json").write_text('{"items": ')
    assert folder.mark(0) is None


def test_shards_are_few_items_where_there_are_few():
    cpu, gpu = (RayWorkers(ClusterOptions(gpus_per_worker=gpus)) for gpus in (0, 1))
    assert [shard_size(total, cpu) for total in (10, 64 * 1024, 64 * 1024 + 1, 10**9)] == [64, 64, 128, 2048]
    assert shard_size(10, gpu) == 2048


def test_reports_add_up_by_worker():
    marks = [
        {"worker": 2, "node": "a", "device": "cpu", "items": 10, "seconds": 2.0, "started": 1.0},
        {"worker": 1, "node": "b", "device": "cpu", "items": 5, "seconds": 1.0, "started": 1.0},
        {"worker": 2, "node": "a", "device": "cpu", "items": 20, "seconds": 3.0, "started": 4.0},
    ]
    # worker 2 on a: 30 items in 5 s, 6 a second
    names = ("worker", "node", "device", "items", "shards", "seconds", "began", "ended", "items_per_second")
    first, second = (1, "b", "cpu", 5, 1, 1.0, 1.0, 2.0, 5.0), (2, "a", "cpu", 30, 2, 5.0, 1.0, 7.0, 6.0)
    assert worker_reports(marks) == [dict(zip(names, values, strict=True)) for values in (first, second)]


def test_without_ray_the_pip_line_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("inpars.distributed.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"ray is needed for --engine ray .* pip install .*ray"):
        work(begin(tmp_path), Squares(tmp_path / "log"))


def test_a_cluster_that_is_not_there_is_told_in_one_line(tmp_path, monkeypatch):
    def init(*_, **__):
        raise ConnectionError("Could not find any running Ray instance\nat all")

    ray = SimpleNamespace(init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(BackendError, match=r"^no Ray cluster at 127.0.0.1:1 \(Could not find") as raised:
        _start("127.0.0.1:1", ClusterOptions(engine="ray"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "room"), [({}, 8), ({"cpus_per_worker": 3.0}, 2), ({"gpus_per_worker": 0.5}, 4), ({"workers": 99}, 99)]
)
def test_there_are_as_many_workers_as_the_cluster_has_room_for(settings, room):
    """8 cores and 2 GPUs: 8 of one core, 2 of three cores, 4 of half a GPU."""
    options = ClusterOptions(engine="ray", **settings)
    assert _number_of_workers(options, {"CPU": 8.0, "GPU": 2.0}) == room
    with pytest.raises(ConfigError, match="0 cores and 0 GPUs, too few"):
        _number_of_workers(ClusterOptions(engine="ray"), {})


def test_marks_that_are_not_there_say_that_the_folder_is_not_shared(tmp_path):
    with pytest.raises(BackendError, match="must see this folder"):
        list(begin(tmp_path).merged())


def test_flags_of_a_cluster_without_one_are_refused():
    with pytest.raises(ConfigError, match="--engine ray"):
        _ = ClusterOptions(workers=2).on_ray
    assert not ClusterOptions().on_ray
    assert ClusterOptions(engine="ray").on_ray
