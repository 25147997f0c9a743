"""What every training run does around its method: begin, restore, train, save."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax

from jaxgan.data import pipeline
from jaxgan.errors import UserError
from jaxgan.experiments.starting import StartConfig, restore
from jaxgan.state import GANState
from jaxgan.training import console, environment, loop, parallel, tuning
from jaxgan.training import run as runs
from jaxgan.training.checkpoint import Checkpoints
from jaxgan.training.log import MetricLog
from jaxgan.training.trace import Trace
from jaxgan.training.workdir import Workdir


class Judge(Protocol):
    """What says how good a state is, in numbers, pictures and a final table."""

    def score(self, state: GANState) -> Mapping[str, float]:
        """Returns metrics on held-out images."""

    def sample(self, state: GANState, step: int) -> None:
        """Draws a grid of images."""

    def report(self, state: GANState) -> None:
        """Prints and writes the final scores."""


Data = TypeVar("Data")


class Source(NamedTuple, Generic[Data]):
    """Opened images: what a game is built of, what batches are cut of, and units."""

    data: Data  # whatever the method's main knows them as
    train: Any  # a data set of `pipeline.batches`
    normalization: Mapping[str, Any]  # content of normalization.json


class Game(NamedTuple):
    """What a method brings to a run."""

    init: Callable[[jax.Array], GANState]  # from a key; compiled here
    train_step: Callable | None = None  # made with axis_name=parallel.AXIS
    prepare: Callable | None = None  # `(batch, key) -> batch`, for `make_update`
    judge: Judge | None = None
    legs: Sequence["Leg"] = ()  # instead of these three, of a run in several parts


class Leg(NamedTuple):
    """A part of a run that has a program and a batch size of its own."""

    last_step: int  # the steps that the run has behind it at the end
    batch_size: int  # examples of a step, over all devices
    train_step: Callable
    prepare: Callable
    judge: Judge
    images: Any = None  # a data set of its own; None: the run's
    crop_size: int = 0  # 0: the run's


class Length(NamedTuple):
    """How long a run is."""

    steps: int
    steps_per_epoch: int  # 1 where the length was given in steps


def play(
    method: str,
    sections: Mapping[str, Any],
    *,
    open_source: Callable[[], Source],
    make_game: Callable[[Any, Workdir, Length], Game],
    default_epochs: int,
) -> GANState:
    """Runs one experiment in its workdir, or goes on with it, and reports.

    Args:
      method: the name that config.json keeps.
      sections: the main's configurations by name; "config" (with `batch_size` and
        `crop_size`), "run" and "start" are among them, the others describe data.
      open_source: opens folders or simulates; the first thing that takes time, and it
        ends with `UserError` before anything is written.
      make_game: `(data, workdir, length) -> Game`.
      default_epochs: length of a run that neither --steps nor --epochs gives.

    Raises `UserError` for bad flags and data and what `loop.train` raises.
    """
    config, run, start = (sections[name] for name in ("config", "run", "start"))
    set_up(run)
    with Workdir(start.workdir, writer=parallel.is_first_process()) as workdir:
        began = time.monotonic()
        source = open_source()
        data_seconds = time.monotonic() - began
        described = {k: v for k, v in sections.items() if k not in ("run", "start")}
        describe(workdir, method, described, run)
        workdir.write_json("normalization.json", dict(source.normalization))
        runs.use_compile_cache(run)
        epoch = max(1, len(source.train) // config.batch_size)
        steps = runs.count_steps(
            run, steps_per_epoch=epoch, default_epochs=default_epochs
        )
        game = make_game(source.data, workdir, Length(steps, 1 if run.steps else epoch))
        legs = game.legs or [
            Leg(steps, config.batch_size, game.train_step, game.prepare, game.judge)
        ]
        for leg in legs:
            parallel.check_batch_size(leg.batch_size)
        state = fit(
            initial_state(game.init, seed=run.seed),
            legs=legs,
            batches=lambda leg, step: host_batches(
                source.train if leg.images is None else leg.images,
                step,
                crop_size=leg.crop_size or config.crop_size,
                batch_size=leg.batch_size,
                run=run,
                total_steps=leg.last_step,
            ),
            workdir=workdir,
            run=run,
            start=start,
            data_seconds=data_seconds,
        )
        legs[-1].judge.report(state)
        return state


def set_up(run: runs.RunConfig) -> None:
    """Checks the run's options and joins other processes; touches no device yet.

    Raises `UserError` for options that contradict each other.
    """
    problems = runs.problems(run)
    if problems:
        raise UserError(problems)
    tuning.keep_freed_memory()
    parallel.initialize(run.distributed)


def describe(
    workdir: Workdir, method: str, sections: Mapping[str, Any], run: runs.RunConfig
) -> None:
    """Writes `config.json` and `env.json`; `UserError` if another run lives there."""
    changeable = {"run": runs.CHANGEABLE}
    workdir.configure(method, {**sections, "run": run}, changeable=changeable)
    workdir.record_environment(environment.describe())


def initial_state(init: Callable[[jax.Array], GANState], *, seed: int) -> GANState:
    """Draws the untrained state and returns it on the host.

    Raises `UserError` if the networks do not take images of this size.
    """
    try:
        return jax.device_get(jax.jit(init)(jax.random.key(seed)))
    except ValueError as error:
        raise UserError(str(error)) from error


def host_batches(
    images: Any,
    start_step: int,
    *,
    crop_size: int,
    batch_size: int,
    run: runs.RunConfig,
    total_steps: int,
) -> Iterator[pipeline.Batch]:
    """Yields this process's part of the batches from a step on, K for each call."""
    dataset = pipeline.batches(
        images,
        crop_size=crop_size,
        batch_size=batch_size,
        seed=run.seed,
        shard=(jax.process_index(), jax.process_count()),
    )
    return pipeline.host_batches(
        dataset,
        start_step=start_step,
        steps=total_steps,
        steps_per_call=runs.steps_per_call(run),
    )


def fit(
    state: GANState,
    *,
    legs: Sequence[Leg],
    batches: Callable[[Leg, int], Iterable[Any]],
    workdir: Workdir,
    run: runs.RunConfig,
    start: StartConfig,
    data_seconds: float,
) -> GANState:
    """Trains to the end of the last leg from wherever the run is; the last state.

    Args:
      state: untrained, on the host.
      legs: parts of the run, in order; one for most.
      batches: `(leg, step)`, its batches from there on, one `[K, B, ...]` for a call.
      workdir: held by this process.
      run: length, intervals, seed.
      start: what to restore.
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
        trace = Trace(runs.profile_range(run), workdir.profile).reach
        # One that is over is left out, but for the last.
        ahead = [leg for leg in legs if step < leg.last_step] or [legs[-1]]
        for leg in ahead:
            console.start_up(
                {
                    name: player.params
                    for name, player in (("gen", state.gen), ("disc", state.disc))
                    if player
                },
                batch_size=leg.batch_size,
                steps_per_call=runs.steps_per_call(run),
                start_step=step,
                total_steps=leg.last_step,
            )
            state = loop.train(
                parallel.replicate(state),
                parallel.prefetch(batches(leg, step)),
                update=parallel.make_update(leg.train_step, leg.prepare),
                key=jax.random.fold_in(jax.random.key(run.seed), 1),
                run=run,
                start_step=step,
                total_steps=leg.last_step,
                batch_size=leg.batch_size,
                checkpoints=checkpoints,
                log=log,
                unreplicate=parallel.unreplicate,
                evaluate=leg.judge.score,
                sample=leg.judge.sample,
                trace=trace,
                data_seconds=data_seconds,
            )
            state, step = parallel.unreplicate(state), max(step, leg.last_step)
            data_seconds = 0.0
    return state
