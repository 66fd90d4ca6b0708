"""What the stages that can be done in shards have in common: the flag, the name of a shard's file, its places.

`merging.py` puts the shards together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.errors import ConfigError
from inpars.options import option
from inpars.stages.engine_options import ClusterOptions
from inpars.stages.shards import Shard, pack_places, shard_path

SHARD_RESULT = "shard"  # where a shard's manifest says which items of how many it has


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedOptions(ClusterOptions):
    """What the options of a stage that can be done in shards begin with."""

    shard: str | None = option(
        None,
        help="do this part of the work alone, 3/64 for the third of 64, to a file beside --output; `inpars merge` puts "
        "the shards together (default: all)",
        metavar="I/N",
    )

    @property
    def part(self) -> Shard | None:
        """The same parsed. Raises ConfigError."""
        if self.shard is not None and self.on_ray:
            raise ConfigError("--engine ray cuts and merges by itself; leave --shard out")
        return None if self.shard is None else Shard.parse(self.shard)


def own_output(output: Path, options: ShardedOptions) -> Path:
    """The output itself, or the file of the shard beside it."""
    return output if options.part is None else shard_path(output, options.part)


def own_items(total: int, part: Shard | None) -> range:
    """Which of the items are this shard's where they are not planned: all without a shard."""
    return range(total) if part is None else part.of(total)


def shard_results(part: Shard | None, total: int, lines_at: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """What the manifest of a shard says of it: (place, lines there) of its items, of so many in all."""
    return {} if part is None else {SHARD_RESULT: {"items": total, "places": pack_places(lines_at)}}
