"""A profile of some steps, for TensorBoard's or Perfetto's trace viewer."""

from pathlib import Path
from typing import Any

import jax


class Trace:
    """Profiles the calls between two steps, or none."""

    def __init__(self, steps: tuple[int, int] | None, directory: Path):
        """Takes the first and last step (`run.profile_range`) and where to write."""
        self._steps = steps
        self._directory = directory
        self._running = False

    def reach(self, step: int, result: Any) -> None:
        """Starts or stops the profile once `step` is dispatched; `result` is of it."""
        if self._steps is None:
            return
        first, last = self._steps
        if not self._running and first <= step < last:
            jax.block_until_ready(result)  # earlier work is not to be in the picture
            jax.profiler.start_trace(str(self._directory))
            self._running = True
        elif self._running and step >= last:
            jax.block_until_ready(result)
            jax.profiler.stop_trace()
            self._steps, self._running = None, False
