"""The card of a deployed model: the trained one's, with its licence and the origin of its data, renamed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from inpars.cards.card import UNKNOWN_LICENCE, front_matter, hub_id, plain_name
from inpars.io.manifest import CARD
from inpars.io.storage import atomic_writer
from inpars.models.loading import resolve_model

LICENCE_FILES = re.compile(r"(licen[cs]e|notice|copying)([.-].*)?", re.IGNORECASE)


def carry_card(model: str, folder: Path, name: str, command: str) -> None:
    """Write README.md of `folder`, to be called `name`, and copy the licences that lie in the model's own folder.

    A model without a card gets one that names its parent.
    """
    source = Path(resolve_model(model))
    origin = f"Written by `inpars {command}` from `{plain_name(model)}`."
    text = _own_card(source, name) if (source / CARD).is_file() else _new_card(model, name)
    with atomic_writer(folder / CARD) as stream:
        stream.write(f"{text.rstrip()}\n\n{origin}\n")
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        if LICENCE_FILES.fullmatch(path.name) and path.is_file():
            shutil.copyfile(path, folder / path.name)


def _own_card(source: Path, name: str) -> str:
    """The card as it is; where we wrote it, its title and its code have the new name."""
    text = (source / CARD).read_bytes().decode("utf-8", "replace")
    return text.replace(f"\n# {source.name}: ", f"\n# {name}: ").replace(f'("{source.name}"', f'("{name}"')


def _new_card(model: str, name: str) -> str:
    parent = hub_id(model)
    header = front_matter([f"base_model: {parent}"] if parent else [])
    return f"{header}\n\n# {name}\n\n## Licence\n- `{plain_name(model)}`: {UNKNOWN_LICENCE}"
