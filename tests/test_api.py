"""How public functions look: documented, options by keyword, keys named as keys."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "jaxgan"
FILES = sorted(set(PACKAGE.rglob("*.py")) - set(PACKAGE.rglob("torch_*.py")))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

# Public functions whose one optional argument is what they are about, not an option.
SUBJECTS = {
    "data/folders.py:Budget.__init__": "a budget of so many bytes",
    "data/imagesets.py:ImageSet.from_arrays": "a name for each array",
    "training/record.py:Recorder.write": "the values to write, if any are new",
}
RANDOM = {"key", "split", "fold_in", "clone"}
SELF = ("self", "cls")


def functions(path):
    """Yields `(qualified name, function, whether public)` of a file."""

    def walk(node, prefix, public):
        for child in node.body:
            if not isinstance(child, ast.FunctionDef | ast.ClassDef):
                continue
            name = f"{prefix}{child.name}"
            shown = public and (not child.name.startswith("_") or is_dunder(child.name))
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{name}.", shown)
            else:
                yield name, child, shown

    yield from walk(ast.parse(path.read_text()), "", True)


def is_dunder(name):
    return name.startswith("__") and name.endswith("__")


def classes(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_everything_public_has_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path}: the module"
    for node in classes(path):
        assert ast.get_docstring(node), f"{path}: class {node.name}"
    for name, function, public in functions(path):
        if public and not is_dunder(function.name):
            assert ast.get_docstring(function), f"{path}: {name}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_options_are_keyword_only(path):
    """What has a default comes after the star."""
    for name, function, public in functions(path):
        if public and f"{path.relative_to(PACKAGE)}:{name}" not in SUBJECTS:
            assert not function.args.defaults, f"{path}:{function.lineno} {name}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_public_functions_say_what_they_take_and_return(path):
    for name, function, public in functions(path):
        if not public:
            continue
        arguments = function.args
        every = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
        bare = [a.arg for a in every if a.annotation is None and a.arg not in SELF]
        assert not bare, f"{path}:{function.lineno} {name}: {bare} lack types"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_random_keys_are_called_keys(path):
    """`key`, `keys` or `<use>_key`, never `rng` (dm_pix: "Prefer `key` to `rng`").

    That is a rule for JAX; a `np.random.Generator` may be called what NumPy calls it.
    """
    tree = ast.parse(path.read_text())
    if "import jax" not in path.read_text():
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            where = f"{path}:{node.lineno} {node.arg}"
            assert not re.fullmatch(r"(\w+_)?p?rng(_key)?|seed_key", node.arg), where
        if isinstance(node, ast.Assign) and draws_keys(node.value):
            for target in ast.walk(node.targets[0]):
                if isinstance(target, ast.Name):
                    where = f"{path}:{node.lineno} {target.id}"
                    assert re.fullmatch(r"(\w+_)?keys?", target.id), where


def draws_keys(value):
    """Whether an expression is a call that returns random keys."""
    if not isinstance(value, ast.Call):
        return False
    text = ast.unparse(value.func)
    return "random" in text and text.split(".")[-1] in RANDOM
