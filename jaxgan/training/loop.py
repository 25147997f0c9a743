"""The training loop: call, log, evaluate, save, and stop when asked.

A call runs K steps on the devices. What falls due within a call (evaluation, samples,
checkpoints) happens at its end; rows of the log are of the very step.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxgan.errors import Preempted, UserError
from jaxgan.training.checkpoint import Checkpoints
from jaxgan.training.log import MetricLog
from jaxgan.training.record import Metrics, Recorder
from jaxgan.training.run import RunConfig, intervals
from jaxgan.training.signals import StopRequest

State = TypeVar("State")
Batch = Any
Update = Callable[[State, Batch, jax.Array], tuple[State, Metrics]]


def train(
    state: State,
    batches: Iterable[Batch],
    *,
    update: Update,
    key: jax.Array,
    run: RunConfig,
    start_step: int,
    total_steps: int,
    batch_size: int,
    checkpoints: Checkpoints,
    log: MetricLog,
    unreplicate: Callable[[State], State] = lambda state: state,
    evaluate: Callable[[State], Mapping[str, float]] = lambda state: {},
    sample: Callable[[State, int], None] = lambda state, step: None,
    trace: Callable[[int, Metrics], None] = lambda step, metrics: None,
    data_seconds: float = 0.0,
) -> State:
    """Trains from `start_step` to `total_steps` and returns the state, once saved.

    Args:
      state: what `update` takes, and may donate.
      batches: one for each call, from `start_step` on.
      update: `(state, batch, key) -> (state, metrics)`, metrics `[K]` floats by name.
      key: the same at every call, for the step number makes it fresh.
      run: intervals and the metric that is best.
      start_step: steps that `state` has behind it.
      batch_size: images of a step over all devices, for the rates.
      checkpoints: where the state goes at intervals, whenever `evaluate` found the best
        so far, and at the end.
      log: takes rows named "train/...", "eval/..." and "perf/...".
      unreplicate: makes of `update`'s state the one to save, evaluate and sample.
      evaluate: returns metrics on held-out images.
      sample: `(state, step)`, draws a grid of images.
      trace: called after each call, as `trace.Trace.reach` wants it.
      data_seconds: time that went into simulating or scanning data, for the log.

    Raises `Preempted` after SIGTERM, SIGINT or SIGUSR1, all saved; `NonFiniteError` if
    a metric or the state became NaN or infinite, nothing of that saved; `UserError` if
    the devices ran out of memory.
    """
    every = intervals(run, total_steps)
    best = _Best(log, run)
    step = start_step
    recorder = Recorder(
        log,
        every,
        start_step=start_step,
        batch_size=batch_size,
        data_seconds=data_seconds,
    )
    with StopRequest() as stop, recorder, _memory_advice(batch_size):
        update = _announced(update, recorder)
        for batch in recorder.waiting(batches):
            state, metrics = update(state, batch, key)
            before, step = step, recorder.submit(metrics)
            trace(step, metrics)
            due = every.due(before, step)
            # Processes confer at rows only: conferring waits for the device.
            confer = bool(due) or every.passed("log", before, step)
            stopping = _anyone(stop.signal is not None, confer=confer)
            if not due and not stopping:
                continue
            recorder.read()  # raises before anything that is not finite goes further
            current = unreplicate(state)
            scores = evaluate(current) if "evaluate" in due else {}
            recorder.write({f"eval/{name}": value for name, value in scores.items()})
            if "sample" in due:
                sample(current, step)
            if best.improves(scores) or "save" in due or stopping:
                log.sync()
                checkpoints.save(step, current, metrics=scores)
            recorder.restart_clock()
            if stopping and step < total_steps:
                checkpoints.wait()
                raise Preempted(
                    f"stopped at step {step} of {total_steps}, all saved: the"
                    " same command goes on from there"
                )
        checkpoints.wait()
    if step < total_steps:
        raise ValueError(f"batches ended at step {step}, before step {total_steps}")
    return state


class _Best:
    """The best value so far of the metric that chooses the best step."""

    def __init__(self, log: MetricLog, run: RunConfig):
        self._name = run.best_metric
        self._sign = 1 if run.best_mode == "max" else -1
        value = log.best(f"eval/{run.best_metric}", mode=run.best_mode)
        self._best = -np.inf if value is None else self._sign * value

    def improves(self, scores: Mapping[str, float]) -> bool:
        """Whether these scores are the best so far; remembers them."""
        value = self._sign * scores.get(self._name, np.nan)
        if not value > self._best:  # NaN, too, is no improvement
            return False
        self._best = value
        return True


def _announced(update: Update, recorder: Recorder) -> Update:
    """Says, at the first call, that it compiles and how long that took."""
    calls = 0

    def announced(state: State, batch: Batch, key: jax.Array) -> tuple[State, Metrics]:
        nonlocal calls
        calls += 1
        if calls > 1:
            return update(state, batch, key)
        recorder.say("compiling ...")
        began = time.monotonic()
        result = update(state, batch, key)
        recorder.say(f"compiled in {time.monotonic() - began:.1f} s")
        recorder.restart_clock()
        return result

    return announced


def _anyone(asks: bool, *, confer: bool) -> bool:
    """Whether a process asks to stop: all must leave the loop at the same step."""
    if jax.process_count() == 1:
        return asks
    return confer and bool(multihost_utils.process_allgather(np.array(asks)).any())


@contextlib.contextmanager
def _memory_advice(batch_size: int) -> Iterator[None]:
    """Says what to do when a device runs out of memory."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"the device ran out of memory: lower --batch_size (now {batch_size}) or"
            f" --crop_size, or set --dtype=bfloat16. {str(error).splitlines()[0]}"
        ) from error
