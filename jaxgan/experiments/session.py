"""What every training run does around its method: begin, restore, train, save."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from jaxgan.config import option
from jaxgan.errors import UserError
from jaxgan.state import GANState
from jaxgan.training import console, environment, loop, parallel, reader
from jaxgan.training import run as runs
from jaxgan.training.checkpoint import Checkpoints
from jaxgan.training.log import MetricLog
from jaxgan.training.trace import Trace
from jaxgan.training.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class StartConfig:
    """Where a run lives and what it starts from."""

    workdir: str = option("", "directory of the run; the same again continues it")
    resume_from: str = option("", "workdir whose state a new run continues")
    init_from: str = option("", "workdir whose weights a new run starts from")


def set_up(run: runs.RunConfig) -> None:
    """Checks the run's options and joins other processes; touches no device yet.

    Raises `UserError` for options that contradict each other.
    """
    problems = runs.problems(run)
    if problems:
        raise UserError(problems)
    parallel.initialize(run.distributed)


def describe(
    workdir: Workdir, method: str, sections: Mapping[str, Any], run: runs.RunConfig
) -> None:
    """Writes `config.json` and `env.json`; `UserError` if another run lives there."""
    changeable = {"run": runs.CHANGEABLE}
    workdir.configure(method, {**sections, "run": run}, changeable=changeable)
    workdir.record_environment(environment.describe())


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
    tree, step = reader.read(Workdir(path).checkpoints, step="best", only=names)
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


def fit(
    state: GANState,
    *,
    train_step: Callable,
    prepare: Callable,
    batches: Callable[[int], Iterable[Any]],
    workdir: Workdir,
    run: runs.RunConfig,
    start: StartConfig,
    total_steps: int,
    batch_size: int,
    evaluate: Callable[[GANState], Mapping[str, float]],
    sample: Callable[[GANState, int], None],
    data_seconds: float,
) -> GANState:
    """Trains to `total_steps` from wherever the run is, and returns the last state.

    Args:
      state: untrained, on the host.
      train_step: made with `axis_name=parallel.AXIS`.
      prepare: `(batch, key) -> batch`, as `parallel.make_update` takes it.
      batches: given a step, the batches from there on, one `[K, B, ...]` for a call.
      workdir: held by this process.
      run: length, intervals, seed.
      start: what to restore.
      total_steps: length of the run.
      batch_size: examples of a step, over all devices.
      evaluate: scores a state on held-out images.
      sample: draws a grid of a state's images after a step.
      data_seconds: time that the data took before training.
    """
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(
                workdir.checkpoints,
                keep=run.keep_checkpoints,
                metric=run.best_metric,
                mode=run.best_mode,
            )
        )
        state, step = restore(state, checkpoints, start)
        log = stack.enter_context(MetricLog(workdir.path, step=step))
        players = {"gen": state.gen, "disc": state.disc}
        console.start_up(
            {name: player.params for name, player in players.items() if player},
            batch_size=batch_size,
            steps_per_call=runs.steps_per_call(run),
            start_step=step,
            total_steps=total_steps,
        )
        state = loop.train(
            parallel.replicate(state),
            parallel.prefetch(batches(step)),
            update=parallel.make_update(train_step, prepare),
            key=jax.random.fold_in(jax.random.key(run.seed), 1),
            run=run,
            start_step=step,
            total_steps=total_steps,
            batch_size=batch_size,
            checkpoints=checkpoints,
            log=log,
            unreplicate=parallel.unreplicate,
            evaluate=evaluate,
            sample=sample,
            trace=Trace(runs.profile_range(run), workdir.profile).reach,
            data_seconds=data_seconds,
        )
    return parallel.unreplicate(state)
