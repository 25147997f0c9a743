"""Reading checkpoints: the newest or the best that verifies, whole or in part.

Nothing here changes a directory, so that prediction may read while training writes.
"""

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxgan.errors import UserError
from jaxgan.training import manifest

PyTree = Any
State = TypeVar("State")

SCORE = "score"  # the metric that chooses the best step, signed so that more is better

# Orbax meets other processes at barriers unless told that it is called by one alone.
ALONE = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})


def restore(
    directory: str | os.PathLike[str], like: State, *, step: int | str = "latest"
) -> tuple[State, int] | None:
    """Returns a state that verifies and its step, or None if nothing was ever saved.

    Args:
      directory: a workdir's `checkpoints`.
      like: a tree of arrays or `jax.ShapeDtypeStruct` with the state's structure.
      step: "latest", the newest that verifies; "best", the one with the best metric
        that verifies (the newest if none was evaluated); or a number, that one only.

    Leaves are numpy arrays. Damaged steps on the way are named in warnings. Raises
    `UserError` if every finished step is damaged, if a numbered one is absent or
    damaged, or if the state has not the structure, shapes and dtypes of `like`.
    """
    directory = Path(directory).resolve()
    chosen = _choose(directory, step)
    return None if chosen is None else (_load(directory, chosen, like), chosen)


def read(
    directory: str | os.PathLike[str],
    *,
    step: int | str = "best",
    only: Sequence[str] = (),
) -> tuple[dict[str, Any], int]:
    """Returns a checkpoint as nested dicts of numpy arrays, and its step.

    `only` names the branches to read, such as "gen.params" and "ema"; all by default.
    `step` is as in `restore`. Raises `UserError` if there is no checkpoint that
    verifies, or none with such a branch.
    """
    directory = Path(directory).resolve()
    chosen = _choose(directory, step)
    if chosen is None:
        raise UserError(f"{directory} holds no finished checkpoint")
    return _read_tree(directory / str(chosen), only), chosen


def steps(directory: Path) -> list[int]:
    """Returns the steps that have a directory, sound or not, oldest first."""
    names = [path.name for path in directory.glob("*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isdigit())


def by_name(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves of a tree by dotted names, such as "gen.params.conv.bias"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="."): x for p, x in leaves}


def _choose(directory: Path, which: int | str) -> int | None:
    """Returns the step to use, None if no save was ever finished."""
    damaged: dict[int, str] = {}
    for step in _candidates(directory, which):
        problem = manifest.problem(directory / str(step))
        if problem is None:
            _warn_of(directory, damaged, f"using step {step} instead")
            return step
        damaged[step] = problem
    if isinstance(which, int) or any(
        manifest.exists(directory / str(s)) for s in damaged
    ):
        # Starting afresh would quietly throw the work of a run away.
        faults = [f"{directory / str(s)}: {fault}" for s, fault in damaged.items()]
        cure = f"move {directory} away to start from scratch"
        raise UserError([*faults, f"no checkpoint to continue from: {cure}"])
    _warn_of(directory, damaged, "there is no other")
    return None


def _load(directory: Path, step: int, like: State) -> State:
    """Returns a step's arrays in the structure of `like`; `UserError` if it differs."""
    stored = by_name(_read_tree(directory / str(step)))
    expected = by_name(like)
    problems = [f"{name} is missing" for name in expected if name not in stored]
    problems += [f"{name} is unexpected" for name in stored if name not in expected]
    for name in expected.keys() & stored.keys():
        found, wanted = _kind(stored[name]), _kind(expected[name])
        if found != wanted:
            problems.append(f"{name} is {found}, expected {wanted}")
    if problems:
        lines = "".join(f"\n    {line}" for line in sorted(problems)[:10])
        raise UserError(
            f"checkpoint {directory / str(step)} does not fit this configuration,"
            f" {len(problems)} differences:{lines}"
        )
    leaves = [stored[name] for name in expected]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _candidates(directory: Path, which: int | str) -> list[int]:
    """Steps in the order in which to try them."""
    newest_first = steps(directory)[::-1]
    if which == "latest":
        return newest_first
    if which == "best":
        return sorted(newest_first, key=lambda step: -_score(directory / str(step)))
    if which not in newest_first:
        kept = ", ".join(map(str, reversed(newest_first))) or "none"
        raise UserError(f"{directory} has no checkpoint of step {which}; kept: {kept}")
    return [int(which)]


def _score(directory: Path) -> float:
    try:
        scores = json.loads((directory / "metrics" / "metrics").read_text())
        return float(scores.get(SCORE, -np.inf))
    except (OSError, ValueError):
        return -np.inf


def _warn_of(directory: Path, damaged: dict[int, str], instead: str) -> None:
    for step, problem in damaged.items():
        path = directory / str(step)
        warnings.warn(
            f"checkpoint {path} is damaged: {problem}; {instead}", stacklevel=3
        )


def _read_tree(directory: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=ALONE)
    item = handler.metadata(directory / "default").tree
    if only:
        item = _branches(item, only, directory)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    args = ocp.args.PyTreeRestore(item, restore_args=as_numpy, partial_restore=True)
    return handler.restore(directory / "default", args=args)


def _branches(
    tree: dict[str, Any], names: Sequence[str], directory: Path
) -> dict[str, Any]:
    """Returns the parts of a nested dict that dotted names point to."""
    result: dict[str, Any] = {}
    for name in names:
        source, target = tree, result
        *parents, last = name.split(".")
        for parent in parents:
            source = source.get(parent) or {}
            target = target.setdefault(parent, {})
        if last not in source:
            raise UserError(f"checkpoint {directory} has no {name}")
        target[last] = source[last]
    return result


def _kind(array: Any) -> str:
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"
