"""What a person sees of a run: start-up tables, progress, results. Process 0 speaks."""

import time
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

_SECONDS_BETWEEN_LINES = 5.0

PyTree = Any


def start_up(
    players: Mapping[str, PyTree],
    *,
    batch_size: int,
    steps_per_call: int,
    start_step: int,
    total_steps: int,
) -> None:
    """Prints devices, batch layout, steps to go and a table of parameters.

    `players` are parameter trees by name ("gen", "disc"), unreplicated; `batch_size` is
    the global one.
    """
    console = _console()
    count, kind = jax.device_count(), jax.devices()[0].device_kind
    processes = jax.process_count()
    console.print(f"{count} x {kind} in {processes} process(es)")
    console.print(
        f"batch of {batch_size} images, {batch_size / count:g} per device;"
        f" {steps_per_call} step(s) per call"
    )
    console.print(f"steps {start_step} to {total_steps}")
    console.print(parameter_table(players))


def parameter_table(players: Mapping[str, PyTree]) -> Table:
    """Returns the number of parameters of every top-level module, and the sums."""
    table = Table("network", "module", "parameters", "MB", title="Parameters")
    for player, params in players.items():
        for module, part in params.items():
            table.add_row(player, module, *_size(part))
        table.add_row(player, "all", *_size(params), style="bold", end_section=True)
    for column in table.columns[2:]:
        column.justify = "right"
    return table


def result_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Prints metrics, one row per method compared; a metric it lacks is left blank."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table("", *names, title=title)
    for label, row in rows.items():
        cells = [f"{row[name]:.4g}" if name in row else "" for name in names]
        table.add_row(label, *cells)
    _console().print(table)


class Progress:
    """Shows how far a run is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, start_step: int, total_steps: int):
        """Starts the clock of the remaining time."""
        self._start, self._total = start_step, total_steps
        self._began = self._spoke = time.monotonic()
        self._console = _console()
        self._bar = Bar(
            TextColumn("step"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total_steps, values="")
        self._bar.update(self._task, completed=start_step)

    def __enter__(self) -> "Progress":
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves the bar as it is."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line, above the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def reach(self, step: int) -> None:
        """Moves the bar."""
        self._bar.update(self._task, completed=step)

    def report(self, step: int, row: Mapping[str, float]) -> None:
        """Shows the values of a step; without a terminal, a line every few seconds."""
        values = "  ".join(
            f"{n.split('/')[-1]} {x:.4g}" for n, x in _shown(row).items()
        )
        self._bar.update(self._task, values=values)
        now = time.monotonic()
        evaluated = any(name.startswith("eval/") for name in row)
        due = now - self._spoke > _SECONDS_BETWEEN_LINES or step >= self._total
        if not self._console.is_terminal and (due or evaluated):
            self._spoke = now
            self.say(f"step {step}/{self._total}  {values}  {self._left(step)} left")

    def _left(self, step: int) -> str:
        seconds_per_step = (time.monotonic() - self._began) / max(1, step - self._start)
        minutes, seconds = divmod(round((self._total - step) * seconds_per_step), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _console() -> Console:
    return Console(quiet=jax.process_index() != 0)


def _shown(row: Mapping[str, float]) -> dict[str, float]:
    hidden = ("perf/train_seconds", "perf/data_seconds", "perf/data_wait_frac")
    return {name: value for name, value in row.items() if name not in hidden}


def _size(tree: PyTree) -> tuple[str, str]:
    leaves = jax.tree.leaves(tree)
    count = sum(leaf.size for leaf in leaves)
    return f"{count:,}", f"{sum(leaf.nbytes for leaf in leaves) / 1e6:.1f}"
