"""The record of a run: one JSON object a row, each step once, whatever happens.

`metrics.jsonl` is the truth; TensorBoard events repeat it where tensorboardX is
installed. One process writes, all may read.
"""

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxgan.training.workdir import replace_file

Row = dict[str, Any]  # "step" and metrics by name, null where one is not finite


class MetricLog:
    """Appends rows to `metrics.jsonl`, continuing after a restored step."""

    def __init__(self, directory: str | os.PathLike[str], *, step: int):
        """Opens the log of a run that has restored `step` (0: a new run).

        Rows of later steps are dropped, for the run will write them again, and so is
        what a kill left of a row.
        """
        path = Path(directory) / "metrics.jsonl"
        self.history = _rows_until(path, step)
        self._file = self._events = None
        if jax.process_index() == 0:
            _drop_other_rows(path, self.history)
            self._file = open(path, "a", encoding="utf-8")
            self._events = _open_events(Path(directory), step)

    def __enter__(self) -> "MetricLog":
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the files."""
        if self._file is not None:
            self.sync()
            self._file.close()
        if self._events is not None:
            self._events.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a row; `values` by full name, such as "train/gen_loss"."""
        if self._file is None:
            return
        self._file.write(_line(step, values))
        self._file.flush()
        if self._events is not None:
            self._write_events(step, values)

    def sync(self) -> None:
        """Sees rows to the disk; call before a checkpoint that counts on them."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def last(self, name: str, default: float) -> float:
        """Returns a metric's newest value among the rows found at opening."""
        return next(
            (row[name] for row in reversed(self.history) if name in row), default
        )

    def best(self, name: str, *, mode: str) -> float | None:
        """Returns a metric's "max" or "min" among the rows found at opening, if any."""
        values = [row[name] for row in self.history if row.get(name) is not None]
        return (max if mode == "max" else min)(values, default=None)

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        try:
            for name, value in values.items():
                self._events.add_scalar(name, float(value), step)
        except Exception as error:  # a second view of the rows must not end a run
            self._events = None
            warnings.warn(f"no more TensorBoard events: {error}", stacklevel=3)


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Returns the rows of a `metrics.jsonl`, without one that a kill tore."""
    return _rows_until(Path(path), math.inf)


def _line(step: int, values: Mapping[str, float]) -> str:
    # JSON has no NaN and no infinity.
    numbers = {name: float(value) for name, value in values.items()}
    finite = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
    return json.dumps({"step": step, **finite}) + "\n"


def _rows_until(path: Path, step: float) -> list[Row]:
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] <= step:
            rows.append(row)
    return rows


def _drop_other_rows(path: Path, rows: list[Row]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if not path.exists() or path.read_text("utf-8") != text:
        replace_file(path, text)


def _open_events(directory: Path, step: int) -> Any | None:
    try:
        import tensorboardX
    except ImportError:
        return None
    try:
        return tensorboardX.SummaryWriter(str(directory), purge_step=step + 1)
    except Exception as error:  # as above
        warnings.warn(f"no TensorBoard events: {error}", stacklevel=3)
        return None
