"""What all tests share: no model hub, properties without deadlines, tiny models built once a session."""

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["INPARS_ENGINE_BACKEND"] = "torch"  # which others are measured against; their own tests name them

settings.register_profile("inpars", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)  # pytest --hypothesis-profile explore
settings.load_profile("inpars")


class TinyModels:
    """Folders of `tiny_models`, each made when a test first asks for it."""

    def __init__(self, folder):
        import torch

        torch.set_num_threads(1)
        self._folder, self._made = folder, {}

    def __call__(self, kind, **settings):
        import tiny_models

        key = "-".join([kind, *(f"{name}={value}" for name, value in sorted(settings.items()))])
        if key not in self._made:
            self._made[key] = str(getattr(tiny_models, kind)(self._folder / key, **settings))
        return self._made[key]


@pytest.fixture(scope="session")
def frozen():
    """How many modules are kept from the garbage collector."""
    return {"modules": 0}


@pytest.fixture(autouse=True)
def _freeze_modules(frozen):
    """Every stage collects garbage when it ends; with all of torch's modules that takes a quarter of a second."""
    if len(sys.modules) > frozen["modules"]:
        gc.collect()
        gc.freeze()
        frozen["modules"] = len(sys.modules)


@pytest.fixture
def use_threads():
    """`use_threads(2)` sets torch's threads until the test ends, however it ends."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def new_cache(tmp_path, monkeypatch):
    """An empty cache, but for the embedded language model: converting its weights takes 20 seconds."""
    from inpars.models.loading import resolve_model

    converted = Path(resolve_model("smollm2-135m"))
    folder = tmp_path / "cache"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / converted.name).symlink_to(converted)
    monkeypatch.setenv("INPARS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """`tiny("llama")` is the folder of a tiny Llama."""
    return TinyModels(tmp_path_factory.mktemp("tiny"))
