"""Work that workers do in the tests, whose answers can be worked out by hand."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from inpars.errors import UnknownNameError


@dataclass(frozen=True)
class Squares:
    """Writes the square of each number; says in a log which shard it began, and can be told to fail."""

    log: Path
    fails_at: int | None = None  # shard that ends its worker: always, or `once`
    once: bool = False
    error: str = ""  # what it does there: "kill", "fault", "ours"
    seconds: float = 0.0

    def open(self):
        return self

    device = "abacus"

    def write(self, shard, partial, output):
        number, items = shard
        with self.log.open("a") as log:
            log.write(f"{number} {os.getpid()}\n")
        time.sleep(self.seconds)
        if number == self.fails_at and not (self.once and self.log.read_text().split("\n").count(f"{number}")):
            self._fail(number)
        output.write_text("".join(f"{item * item}\n" for item in items))
        return {"sum": sum(items)}

    def _fail(self, number):
        failed = self.log.with_name("failed")
        if self.once and failed.exists():
            return
        failed.touch()
        if self.error == "kill":
            os.kill(os.getpid(), 9)
        if self.error == "ours":
            raise UnknownNameError("number", str(number), ["one", "two"])
        raise RuntimeError("a fault of the program\nsecond line")
