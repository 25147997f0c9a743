"""Requests to end a run, heard between steps.

Orbax and JAX save nothing on SIGTERM in an ordinary single process, so the loop asks
here after every call whether to save and go.
"""

import os
import signal
import threading
from types import FrameType
from typing import Any

# A scheduler's notice, a person's Ctrl-C, and what Slurm's --signal is often set to.
_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")


class StopRequest:
    """Catches the first of SIGTERM, SIGINT and SIGUSR1 while its block runs.

    The second one ends the process at once. Outside the main thread, where Python
    allows no handlers, it catches nothing.
    """

    def __init__(self) -> None:
        """Nothing is caught before the block is entered."""
        self.signal: str | None = None  # the name of the one that came
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        """Installs the handlers."""
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                if hasattr(signal, name):  # Windows has no SIGUSR1
                    number = getattr(signal, name)
                    self._previous[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *exception: object) -> None:
        """Puts the earlier handlers back."""
        for number, handler in self._previous.items():
            # None stands for a handler that Python did not install and cannot restore.
            signal.signal(number, handler or signal.SIG_DFL)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = signal.Signals(number).name
        # Not print: the signal may have come in the middle of one.
        text = f"\n{self.signal}: saving after this step; once more ends at once\n"
        os.write(2, text.encode())
