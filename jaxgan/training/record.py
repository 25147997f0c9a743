"""From metrics on the device to rows of the log: late, checked and timed.

A call is one dispatch of K steps; its metrics are `[K]` arrays that exist only when the
device is done. They are read while the next call runs, so the host never holds it up.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

import jax
import numpy as np

from jaxgan.errors import NonFiniteError
from jaxgan.training.console import Progress
from jaxgan.training.log import MetricLog
from jaxgan.training.run import Intervals

Batch = TypeVar("Batch")
Metrics = Mapping[str, jax.Array]  # by name, `[K]` floats


class Recorder:
    """Turns the metrics of calls into rows.

    Rows hold the values of their very step ("train/..."), whatever K is, so that a
    resumed run writes the rows of an uninterrupted one; besides, "perf/images_per_sec"
    and "perf/data_wait_frac" since the row before, without evaluation and saving, and
    "perf/train_seconds" since step 0, all included, over resumes.
    """

    def __init__(
        self,
        log: MetricLog,
        every: Intervals,
        *,
        start_step: int,
        batch_size: int,
        data_seconds: float,
    ):
        """Takes the global batch size and the seconds spent on data before training."""
        self._log, self._every = log, every
        self._progress = Progress(start_step, every.total)
        self._batch_size, self._data_seconds = batch_size, data_seconds
        self._began = time.monotonic() - log.last("perf/train_seconds", 0.0)
        self._submitted = self._read = start_step  # steps dispatched, steps read
        self._unread: Metrics | None = None  # of the last call
        self._rows: dict[int, dict[str, float]] = {}  # read, not yet written
        self.restart_clock()

    def __enter__(self) -> "Recorder":
        """Shows the progress of the run."""
        self._progress.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the display."""
        self._progress.__exit__(*exception)

    def say(self, text: str) -> None:
        """Prints a line without disturbing the display."""
        self._progress.say(text)

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yields the batches and counts the time that each took to come."""
        batches = iter(batches)
        while True:
            asked = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waited += time.monotonic() - asked
            yield batch

    def submit(self, metrics: Metrics) -> int:
        """Takes the metrics of a call just dispatched and logs those of the one before.

        Returns the number of steps dispatched so far. Raises as `read` does.
        """
        self.read()
        self.write()
        self._unread = metrics
        self._submitted += len(next(iter(metrics.values())))
        return self._submitted

    def read(self) -> None:
        """Waits for the device; raises `NonFiniteError` if any step's metric is so."""
        if self._unread is None:
            return
        values = {f"train/{name}": np.asarray(x) for name, x in self._unread.items()}
        self._unread = None
        first, last = self._read + 1, self._submitted
        _check_finite(values, first)
        self._read = last
        steps = range(first, last + 1)
        due = [step for step in steps if self._every.passed("log", step - 1, step)]
        rates = self._rates() if due else {}
        for step in due:
            row = {name: float(x[step - first]) for name, x in values.items()}
            self._rows[step] = {**row, **rates}
        self._progress.reach(last)

    def write(self, values: Mapping[str, float] | None = None) -> None:
        """Writes the rows that are ready, `values` into that of the last step read."""
        if values:
            self._rows.setdefault(self._read, {}).update(values)
        for step, row in sorted(self._rows.items()):
            row["perf/train_seconds"] = time.monotonic() - self._began
            if step == self._every.total:
                row["perf/data_seconds"] = self._data_seconds
            self._log.write(step, row)
            self._progress.report(step, row)
        self._rows = {}

    def restart_clock(self) -> None:
        """Leaves what happened since the last row out of the rates."""
        self._timed_from, self._clock, self._waited = self._read, time.monotonic(), 0.0

    def _rates(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self._clock, 1e-9)
        images = (self._read - self._timed_from) * self._batch_size
        waited = min(1.0, self._waited / seconds)
        self.restart_clock()
        return {
            "perf/images_per_sec": images / seconds,
            "perf/data_wait_frac": waited,
        }


def _check_finite(values: Mapping[str, np.ndarray], first_step: int) -> None:
    """Raises for the earliest step at which a metric is NaN or infinite."""
    finite = np.all([np.isfinite(x) for x in values.values()], axis=0)
    if finite.all():
        return
    index = int(np.argmin(finite))
    terms = ", ".join(f"{name} {float(x[index]):.4g}" for name, x in values.items())
    raise NonFiniteError(
        f"not finite at step {first_step + index}: {terms}. Nothing of it was saved; a"
        " lower --learning_rate may help"
    )
