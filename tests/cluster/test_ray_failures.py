"""Workers, a node and the driver are killed while a cluster of several nodes writes: nothing lost, doubled or redone.

The generator is a fake that sleeps, so that it is known what the work is without disturbance: one line of its log a
document.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tiny_models import sentence

from inpars.io.formats import write_documents
from inpars.records import Document

DRIVER = Path(__file__).with_name("driver.py")
CORES = 2  # of a node
LATEST_LINES = 30  # of the log, whose processes are alive most likely


class Disturbed:
    """A cluster on this machine, a command on it, and ways to hurt both."""

    def __init__(self, folder, corpus, seconds, nodes):
        from ray.cluster_utils import Cluster

        self.output, self.log, self._folder = folder / "queries.jsonl", folder / "log", folder
        self._cluster = Cluster()
        self._add_node(0)
        self._nodes = [self._add_node(CORES) for _ in range(nodes)]
        self._command = [sys.executable, str(DRIVER), str(corpus), str(self.output), str(self.log), str(seconds)]
        self.driver = self._start()

    def _add_node(self, cores):
        """Ray gives a node half a minute to start, which a machine that is busy elsewhere may not keep to."""
        for left in (2, 1, 0):
            try:
                return self._cluster.add_node(num_cpus=cores, **SMALL)
            except Exception:
                if not left:
                    raise
        return None

    def _start(self):
        with (self._folder / "stderr").open("a") as stderr:
            return subprocess.Popen([*self._command, self._cluster.address], stderr=stderr)

    def lines(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for(self, documents, seconds=240.0):
        """Until so many documents were written; False where the driver is done before."""
        until = time.monotonic() + seconds
        while len(self.lines()) < documents:
            if self.driver.poll() is not None:
                return False
            assert time.monotonic() < until, (self._folder / "stderr").read_text()
            time.sleep(0.05)
        return True

    def kill_worker(self, chance):
        pids = sorted({int(line.split()[2]) for line in self.lines()[-LATEST_LINES:]})
        with suppress(ProcessLookupError):  # it has died since
            os.kill(chance.choice(pids), signal.SIGKILL)

    def kill_node(self, chance):
        node = self._nodes.pop(chance.randrange(len(self._nodes)))
        self._cluster.remove_node(node, allow_graceful=False)

    def kill_driver(self, chance):
        self.driver.kill()
        self.driver.wait()
        self.driver = self._start()

    def close(self):
        self.driver.kill()
        self.driver.wait()
        self._cluster.shutdown()


SMALL = {"object_store_memory": 80 << 20, "include_dashboard": False}


@contextmanager
def disturbed(folder, documents, seconds, nodes):
    write_documents(folder / "corpus.jsonl", (document(n) for n in range(documents)))
    cluster = Disturbed(folder, folder / "corpus.jsonl", seconds, nodes)
    try:
        yield cluster
    finally:
        cluster.close()


def document(number):
    return Document(f"d{number}", sentence(number, 4 + number % 9))


def undisturbed_bytes(folder):
    corpus, output, log = folder / "corpus.jsonl", folder / "local.jsonl", folder / "local.log"
    subprocess.run([sys.executable, str(DRIVER), corpus, output, log, "0"], check=True, stderr=subprocess.DEVNULL)
    return output.read_bytes()


def check(cluster, folder, documents, most_work):
    """All there, once, in order, nothing redone after its shard was whole; what the work came to."""
    assert cluster.driver.wait(timeout=300) == 0, (folder / "stderr").read_text()
    assert cluster.output.read_bytes() == undisturbed_bytes(folder)
    entries = [(doc_id, float(at)) for doc_id, at, _ in (line.split() for line in cluster.lines())]
    assert {doc_id for doc_id, _ in entries} == {f"d{n}" for n in range(documents)}
    latest = dict(sorted(entries, key=lambda entry: entry[1]))
    shards, redone = sorted(folder.glob("queries.jsonl.shards/*.done.json")), []
    for mark in shards:
        lines = mark.with_name(mark.name.replace(".done.json", ".jsonl")).read_text().splitlines()
        redone += [r for r in (json.loads(line)["doc_id"] for line in lines) if latest[r] > mark.stat().st_mtime]
    assert not redone
    assert len(shards) == -(-documents // 64)
    work = len(entries) / documents
    again = Counter(Counter(doc_id for doc_id, _ in entries).values())
    print(f"{documents} documents, {len(entries)} written in all: {work:.3f} of the undisturbed work; times: {again}")
    assert work <= most_work


def hurt(cluster, documents, blows, seed):
    """At random moments, evenly over the work."""
    chance = random.Random(seed)
    for number, blow in enumerate(blows, start=1):
        share = (number - chance.random()) / (len(blows) + 1)
        assert cluster.wait_for(int(documents * share)), "the work ended before it was hurt"
        assert cluster.driver.poll() is None
        getattr(cluster, blow)(chance)


@pytest.mark.usefixtures("ray_set")
def test_a_worker_a_node_and_the_driver_are_killed(tmp_path):
    with disturbed(tmp_path, 400, 0.1, nodes=3) as cluster:
        hurt(cluster, 400, ["kill_worker", "kill_node", "kill_driver"], seed=0)
        check(cluster, tmp_path, 400, most_work=2.0)  # a blow ends 6 chunks of 8 at most, each time of 400


@pytest.mark.slow
@pytest.mark.usefixtures("ray_set")
def test_ten_blows_cost_less_than_a_third_of_5000_documents(tmp_path):
    blows = ["kill_worker"] * 4 + ["kill_node"] * 3 + ["kill_driver"] * 3
    random.Random(1).shuffle(blows)
    with disturbed(tmp_path, 5000, 0.04, nodes=5) as cluster:
        hurt(cluster, 5000, blows, seed=1)
        check(cluster, tmp_path, 5000, most_work=1.3)
