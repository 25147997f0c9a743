"""Where a run starts: its own checkpoint, another run's state or weights, or anew."""

import dataclasses

import jax

from jaxgan.config import option
from jaxgan.errors import UserError
from jaxgan.state import GANState
from jaxgan.training import reader
from jaxgan.training.checkpoint import Checkpoints
from jaxgan.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class StartConfig:
    """Where a run lives and what it starts from."""

    workdir: str = option("", "directory of the run; the same again continues it")
    resume_from: str = option("", "workdir whose state a new run continues")
    init_from: str = option("", "workdir whose weights a new run starts from")


def restore(
    state: GANState, checkpoints: Checkpoints, start: StartConfig
) -> tuple[GANState, int]:
    """Returns the state to train from, and its step.

    In order: the workdir's own newest checkpoint; the state of `--resume_from`; the
    untrained `state` with what fits of the weights of `--init_from`; `state` as it is.
    """
    found = checkpoints.restore(state)
    if found is not None:
        return found
    if start.resume_from:
        found = reader.restore(Workdir(start.resume_from).checkpoints, state)
        if found is None:
            raise UserError(f"--resume_from={start.resume_from} has no checkpoint")
        return found
    if start.init_from:
        state = _with_weights(state, start.init_from)
    return state, 0


def _with_weights(state: GANState, path: str) -> GANState:
    """Returns `state` with the parameters and statistics of a workdir that fit it."""
    names = ["gen.params", "gen.stats", "disc.params", "disc.stats"]
    # All of it: a run without a discriminator has no branch of that name to ask for.
    tree, step = reader.read(Workdir(path).checkpoints, step="best")
    stored = reader.by_name(tree)
    leaves, counts = [], {"loaded": [], "missing": [], "of another shape": []}
    for name, array in reader.by_name(state).items():
        weight = any(name.startswith(f"{n}.") for n in names)
        fits = name in stored and stored[name].shape == array.shape
        leaves.append(stored[name] if weight and fits else array)
        if weight:
            there = "of another shape" if name in stored else "missing"
            counts["loaded" if fits else there].append(name)
    print(f"weights of {path}, step {step}:")
    for what, found in counts.items():
        print(f"  {len(found)} {what}", *found if what != "loaded" else [])
    if not counts["loaded"]:
        raise UserError(f"--init_from={path}: none of its weights fit this network")
    state = jax.tree.unflatten(jax.tree.structure(state), leaves)
    # An average starts where the weights do.
    return state if state.ema is None else state.replace(ema=state.gen.params)
