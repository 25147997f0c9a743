"""Checkpoints, written in the background and checked before anyone trusts them.

    checkpoints/<step>/           what Orbax wrote, with SHA256SUMS over all of it
    checkpoints/<step>.damaged/   a step that did not verify, set aside by the next run

A step counts only once its manifest is there. A crash before that costs one interval,
for the step before it is still kept: pruning always leaves at least two. One process
writes; it sends what it restores to the others, which need not see its disk.
"""

import os
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from jaxgan.errors import NonFiniteError, UserError
from jaxgan.training import manifest, reader

PyTree = Any
State = TypeVar("State")


class Checkpoints:
    """Writes the checkpoints of a run in the background, and restores from them.

    Used as a context manager, it ends by waiting for what is still being written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 3,
        metric: str = "",
        mode: str = "max",
    ):
        """Names the directory, which is created at the first save.

        Keeps the newest `keep` steps (at least two) and the one with the best `metric`,
        the highest or the lowest as `mode` "max" or "min" says.
        """
        if keep < 2:
            raise UserError(
                f"--keep_checkpoints={keep}: keep at least 2, for a crash while one is"
                " written leaves only the one before it"
            )
        self.directory = Path(directory).resolve()
        self._keep = keep
        self._metric = metric
        self._sign = 1.0 if mode == "max" else -1.0
        self._is_writer = jax.process_index() == 0
        self._manager: ocp.CheckpointManager | None = None
        # Orbax is used by this one thread alone, which makes it asynchronous to us.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Waits for the save in progress and ends the thread."""
        try:
            self._finish_saving()
            if self._manager is not None:
                self._worker.submit(self._manager.close).result()
        finally:
            self._worker.shutdown()

    def save(
        self, step: int, state: PyTree, *, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Writes a state in the background; a step that exists is left as it is.

        `state` may lie on a device or on the host; it is copied, so that the caller may
        donate it. `metrics` are those of an evaluation of this very state, if any.
        Raises `NonFiniteError` for a state with NaN or infinity in it, `UserError` if
        the disk is too full, and whatever went wrong with the save before this one.
        """
        if not self._is_writer:
            return
        self._finish_saving()
        # Copies, because on a CPU the host's view and the donated buffer are the same.
        state = jax.tree.map(np.array, jax.device_get(state))
        _check_finite(state, step)
        self.directory.mkdir(parents=True, exist_ok=True)
        _check_space(state, self.directory)
        score = self._sign * float((metrics or {}).get(self._metric, np.nan))
        scores = {reader.SCORE: score} if np.isfinite(score) else {}
        self._saving = self._worker.submit(self._write, step, state, scores)

    def wait(self) -> None:
        """Returns once everything saved can be restored, in every process."""
        self._finish_saving()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints written")

    def restore(
        self, like: State, *, step: int | str = "latest"
    ) -> tuple[State, int] | None:
        """Returns the state of a step and its number, as `reader.restore` does.

        With several processes all must call it.
        """
        found = None
        if self._is_writer:
            self._finish_saving()
            found = reader.restore(self.directory, like, step=step)
        return found if jax.process_count() == 1 else _share(found, like)

    def _finish_saving(self) -> None:
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def _write(self, step: int, state: PyTree, scores: dict[str, float]) -> None:
        """Runs in the background thread."""
        if self._manager is None:
            self._manager = _open_manager(self.directory, self._keep)
        if step in self._manager.all_steps():
            return
        item = ocp.args.StandardSave(state)
        self._manager.save(step, args=item, metrics=scores, force=True)
        manifest.write(self.directory / str(step))


def _open_manager(directory: Path, keep: int) -> ocp.CheckpointManager:
    """Returns Orbax's manager of the sound steps, out of whose way the others go."""
    for step in reader.steps(directory):
        if problem := manifest.problem(directory / str(step)):
            _set_aside(directory / str(step), problem)

    def score(metrics: Mapping[str, float]) -> float:
        return metrics.get(reader.SCORE, -np.inf)

    best = policies.BestN(
        n=1, get_metric_fn=score, keep_checkpoints_without_metrics=False
    )
    options = ocp.CheckpointManagerOptions(
        create=False,
        cleanup_tmp_directories=True,  # what a killed run left
        enable_async_checkpointing=False,
        best_fn=score,
        preservation_policy=policies.AnyPreservationPolicy(
            [policies.LatestN(keep), best]
        ),
        multiprocessing_options=reader.ALONE,
    )
    return ocp.CheckpointManager(directory, options=options)


def _set_aside(directory: Path, problem: str) -> None:
    aside = directory.with_name(f"{directory.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)  # an earlier one of the same step
    directory.rename(aside)
    text = f"checkpoint {directory} is damaged: {problem}; now named {aside.name}"
    warnings.warn(text, stacklevel=2)


def _check_finite(state: PyTree, step: int) -> None:
    for name, array in reader.by_name(state).items():
        if jnp.issubdtype(array.dtype, jnp.inexact) and not np.isfinite(array).all():
            raise NonFiniteError(
                f"{name} is not finite after step {step}; it was not saved. The newest"
                " checkpoint is of an earlier step; a lower --learning_rate may help"
            )


def _check_space(state: PyTree, directory: Path) -> None:
    needed = sum(array.nbytes for array in jax.tree.leaves(state))
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise UserError(
            f"no room in {directory}: a checkpoint needs {needed / 1e6:.0f} MB and"
            f" {free / 1e6:.0f} MB are free; make room and run the same command again"
        )


def _share(found: tuple[State, int] | None, like: State) -> tuple[State, int] | None:
    """Sends what the writer found to every process."""
    step = np.int32(-1 if found is None else found[1])
    step = int(multihost_utils.broadcast_one_to_all(step))
    if step < 0:
        return None
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    state = zeros if found is None else found[0]
    # As bytes: the broadcast is a sum, which would turn -0.0 into 0.0.
    raw = jax.tree.map(lambda x: np.ascontiguousarray(x).reshape(-1).view("u1"), state)
    raw = multihost_utils.broadcast_one_to_all(raw)
    state = jax.tree.map(
        lambda r, x: np.asarray(r).view(x.dtype).reshape(x.shape), raw, like
    )
    return state, step
