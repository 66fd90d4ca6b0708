"""Runs the Python examples of docs/integrations.md if their frameworks are installed."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
RECIPES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
MODULES = {"llama_index": "llama_index.core", "langchain": "langchain_core"}


def adapter_of(recipe):
    return re.search(r"from inpars\.integrations\.(\w+) import", recipe)[1]


def test_every_adapter_has_a_recipe_of_ten_lines():
    folder = PAGE.parents[1] / "inpars" / "integrations"
    assert sorted(map(adapter_of, RECIPES)) == sorted({p.stem for p in folder.glob("*.py")} - {"__init__"})
    assert all(len([line for line in recipe.splitlines() if line.strip()]) <= 10 for recipe in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES, ids=adapter_of)
def test_a_recipe_runs(recipe, run_folder, collection, tmp_path, monkeypatch, capsys):
    name = adapter_of(recipe)
    pytest.importorskip(MODULES.get(name, name), reason=f"the {name} extra is not installed")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(run_folder)
    (tmp_path / "collection").symlink_to(collection)
    monkeypatch.chdir(tmp_path)
    exec(compile(recipe, PAGE.name, "exec"), {"__name__": "recipe"})
    assert capsys.readouterr().out.strip()
