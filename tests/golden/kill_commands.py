"""Runs commands and kills each with SIGKILL in the middle; `python kill_commands.py JOBS.json` in their folder.

A process that has loaded torch forks for every command. A job says when the command dies: at its N-th flush (fsync) of
a file whose name has some text in it, whose second half may be torn off then; or once a checkpoint is there, of which
one is made after every step by a clock that leaps. Printed is the signal that ended each.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # before the modules below: it must be known before the first fork


def main(jobs):
    import sentence_transformers  # noqa: F401 - loaded once, here
    import torch

    from inpars.cli import main as cli

    torch.set_num_threads(1)
    for job in jobs:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            die_as_told(job)
            code = cli.main(job["arguments"])
            os._exit(code)
        print(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def die_as_told(job):
    if "checkpoint" in job:
        time.monotonic = leaping(time.monotonic, Path(job["checkpoint"]))
    else:
        os.fsync = counting(os.fsync, job["file"], job["flush"], job["torn"])


def counting(fsync, file, number, torn):
    seen = 0

    def flush(descriptor):
        nonlocal seen
        seen += file in str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if seen == number:
            if torn:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    return flush


def leaping(clock, checkpoint):
    leaps = 0

    def leap():
        nonlocal leaps
        leaps += 1000
        if checkpoint.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return clock() + leaps

    return leap


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
