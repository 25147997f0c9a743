"""Who may import whom, who may compile, and that importing does nothing."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "jaxgan"
# Plain PyTorch, what jaxgan is compared with: no part of it.
PEERS = {PACKAGE / "experiments" / name for name in ("torch_peer.py", "torch_games.py")}
FILES = sorted(set(PACKAGE.rglob("*.py")) - PEERS)
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

# What a part of the package may import of the others, besides its own modules. A part
# is a directory or a module of the package; errors and config are everyone's.
BASICS = {"errors", "config", ""}  # "": the package itself, for its version
NETWORKS = {"layers", "convolution"}
METHODS = {"models", "losses", "metrics", "state", "augment", "layers"}
METHODS |= {"bicubic", "noise"}
MEASURES = {"metrics", "baselines", "distribution", "diversity", "morphology"}
MEASURES |= {"classical", "columns", "spectrum"}
# Data meets methods here, and only here are functions compiled.
MAINS = {
    "apply",
    "predict",
    "evaluate",
    "export",
    "sampling",
    "cli",
    "data",
    "training",
}
EVERYTHING = MAINS | METHODS | MEASURES | {"methods"}
ALLOWED = {
    "": METHODS,
    "errors": set(),
    "config": set(),
    "cli": set(),
    "convolution": {"cpu_convolution"},
    "cpu_convolution": set(),
    "layers": {"convolution"},
    "losses": set(),
    "bicubic": set(),
    "spectrum": set(),
    "metrics": set(),
    "noise": set(),
    "baselines": {"data", "metrics"},
    "distribution": set(),
    "diversity": set(),
    "morphology": set(),
    "classical": set(),
    "columns": set(),
    "state": {"convolution"},
    "augment": set(),
    "models": NETWORKS,
    "methods": METHODS,
    "data": set(),
    "training": set(),
    "interop": {"models", "methods"},
    "apply": {"augment", "models", "data"},
    "sampling": EVERYTHING,
    "report": EVERYTHING,
    "predict": EVERYTHING,
    "evaluate": EVERYTHING | {"report"},
    "export": EVERYTHING | {"convolution"},
    "experiments": EVERYTHING | {"interop"},
}
COMPILING = {
    "apply/tiled.py",
    "sampling.py",
    "predict.py",
    "evaluate.py",
    "export.py",
    "experiments",
    "report",
}

# Libraries that only some parts know.
ONLY_IN = {
    "absl": {"cli.py"},  # flags; the mains go through cli
    "flax.linen": {"apply", "layers.py", "models", "methods", "state.py"},
    "optax": {"losses.py", "state.py", "methods", "experiments/games.py"},
    "orbax": {"training"},
    "grain": {"data"},
    "tifffile": {"data"},
    "imagecodecs": {"data"},
    "rich": {"training"},
}
# Imported where they are used.
LAZY = ("matplotlib", "tensorboardX", "skimage", "torch", "safetensors", "jinja2")


def parse(path):
    return ast.parse(path.read_text(), str(path))


def imports(node):
    """Yields every module or name that is imported anywhere below a node."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)


def part_of(module):
    """Returns the part of the package that an imported name belongs to."""
    first = module.removeprefix("jaxgan").lstrip(".").split(".")[0]
    known = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    return first if first in known else ""


def belongs(name, places):
    """Whether a file is one of `places` or lies in one of them."""
    return any(name == place or name.startswith(f"{place}/") for place in places)


def calls_at_import(node):
    """Yields the calls that run when a module is imported, decorators included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [*child.decorator_list, *child.args.defaults]
            inner += [default for default in child.args.kw_defaults if default]
            for expression in inner:
                yield from calls_at_import(ast.Expression(expression))
            continue
        if isinstance(child, ast.Lambda):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from calls_at_import(child)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_follow_the_layers(path):
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    part = "" if name == "__init__" else name
    assert part in ALLOWED, f"{path}: a new part of the package; say what it may import"
    used = {part_of(x) for x in imports(parse(path)) if x.split(".")[0] == "jaxgan"}
    assert used - {part} - BASICS <= ALLOWED[part], path


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_where_they_belong(library):
    for path, name in zip(FILES, NAMES, strict=True):
        for imported in imports(parse(path)):
            if imported == library or imported.startswith(f"{library}."):
                assert belongs(name, ONLY_IN[library]), f"{name} imports {imported}"


def test_data_is_numpy_only():
    for path in (PACKAGE / "data").rglob("*.py"):
        used = {name.split(".")[0] for name in imports(parse(path))}
        assert not used & {"jax", "flax", "optax", "chex"}, path


def test_heavy_libraries_are_imported_where_they_are_used():
    for path in FILES:
        body = [
            n for n in parse(path).body if isinstance(n, ast.Import | ast.ImportFrom)
        ]
        for name in imports(ast.Module(body, [])):
            assert name.split(".")[0] not in LAZY, f"{path} imports {name} at its top"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_mains_compile(path):
    """A library function is pure, and whoever calls it compiles it."""
    name = str(path.relative_to(PACKAGE))
    searches = {"methods/inversion.py", "methods/adaptation.py"}
    places = {
        "jit": COMPILING | searches | {"training/parallel.py"},
        "pmap": {"training/parallel.py"},
        "shard_map": {"training/parallel.py"},
    }
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and node.attr in places:
            allowed = belongs(name, places[node.attr])
            assert allowed, f"{path}:{node.lineno} uses {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_arrays_and_no_settings_at_import(path):
    for call in calls_at_import(parse(path)):
        text = ast.unparse(call.func)
        root = text.split(".")[0]
        ok = root not in ("jax", "jnp", "lax") or text in ("jax.jit", "jax.custom_jvp")
        assert ok, f"{path}:{call.lineno} calls {text} at import"


def test_importing_everything_touches_no_device_and_defines_no_flag():
    """On a platform that does not exist, anything that asks for a device fails."""
    modules = [
        ".".join(("jaxgan", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in FILES
    ]
    program = f"""
import importlib, sys
from absl import flags
import jax
before = set(flags.FLAGS), dict(jax.config.values)
for module in {modules!r}:
    importlib.import_module(module.removesuffix(".__init__"))
after = set(flags.FLAGS), dict(jax.config.values)
assert before[1] == after[1], "an import changed jax.config"
ours = [name for name in after[0] - before[0]
        if flags.FLAGS.find_module_defining_flag(name).startswith("jaxgan")]
assert not ours, ours
loaded = [name for name in {LAZY!r} if name in sys.modules]
assert not loaded, loaded
"""
    environment = {"JAX_PLATFORMS": "nowhere", "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
