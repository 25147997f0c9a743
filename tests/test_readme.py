"""What README and recipes show works."""

import importlib
import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxgan import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "experiments").rglob("*.flags"))


def test_research_code_trains():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(code, names)
    assert int(names["state"].step) == 10
    assert names["prediction"].shape == (4, 64, 64, 1)
    assert jnp.isfinite(names["metrics"]["gen_loss"])


def test_local_links_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "experiments").rglob("README.md")]
    for page in pages:
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert all((page.parent / link).exists() for link in links), (page, links)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_name_their_main_and_are_flags_of_it(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    name = first.removeprefix("# python -m ")
    assert name != first, f"{path}: the first line must be # python -m MAIN"
    main = importlib.import_module(name)
    cli.parse(["program", f"--flagfile={path}"], main.SECTIONS)


def test_first_command_names_a_recipe_that_exists():
    (command,) = re.findall(r"^pip install \. && (.*)$", README, flags=re.MULTILINE)
    flags = command.split()[3:]
    assert command.split()[2] == "jaxgan.experiments.pix2pix"
    recipe = flags[0].removeprefix("--flagfile=")
    assert (ROOT / recipe).exists()
