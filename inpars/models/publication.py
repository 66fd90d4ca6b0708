"""Pushes a trained model's folder to the model hub."""

from __future__ import annotations

import re
from pathlib import Path

from inpars.errors import BackendError, ConfigError, MissingDependencyError, reason_of
from inpars.io.manifest import manifest_path

HUB_NAME = re.compile(r"([\w.-]+/)?[\w.-]+")


def check_hub_name(name: str) -> None:
    """Raise ConfigError for an invalid repository name, before training."""
    if not HUB_NAME.fullmatch(name):
        raise ConfigError(f"--push-to-hub {name!r} is no repository; give NAME or OWNER/NAME")


def push_folder(folder: Path, name: str) -> str:
    """Upload a finished model and return the repository's address; a new repository is private.

    Raises BackendError with the hub's message if it refuses or cannot be reached.
    """
    check_hub_name(name)
    if not manifest_path(folder).exists():
        raise ConfigError(f"{folder} is not finished: it has no manifest; train it first")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    except ImportError as error:
        raise MissingDependencyError("huggingface_hub", "to push a model", "pip install huggingface_hub") from error
    api = HfApi()
    try:
        repository = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository.repo_id, commit_message=f"Upload {folder.name}")
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise BackendError(
            f"{folder} was not pushed to {name}: {reason_of(error)}; log in with `hf auth login` or set HF_TOKEN, and "
            "run the same command again, the model is kept"
        ) from error
    return str(repository)
