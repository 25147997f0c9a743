"""Pictures of sets of masks: examples, a plane, curves."""

from pathlib import Path

import numpy as np

from jaxgan import distribution
from jaxgan.training import grid

_EXAMPLES = 4  # of each set
_WINDOW = 5  # evaluations that a curve is averaged over


def examples(path: Path, sets: dict[str, np.ndarray]) -> None:
    """Draws a few masks `[N, S, S, C]` of each set, a line for each set."""
    rows = []
    for name, masks in sets.items():
        chosen = np.linspace(0, len(masks) - 1, _EXAMPLES).astype(int)
        rows.append({f"{name} {i}": masks[k] for i, k in enumerate(chosen, 1)})
    grid.image_grid(path, rows)


def scatter(path: Path, points: dict[str, np.ndarray], explained: np.ndarray) -> None:
    """Draws sets of points `[N, 2]`; `explained` is the variance along each axis."""
    figure, axes = _figure((6, 5))
    for name, xy in points.items():
        real = name.startswith("real")
        axes.scatter(*xy.T, s=12, alpha=0.6, marker="x" if real else "o", label=name)
    axes.set_xlabel(f"first axis of the real masks, {explained[0]:.1%} of variance")
    axes.set_ylabel(f"second axis, {explained[1]:.1%}")
    axes.legend(fontsize=7)
    _save(figure, path)


def curves(path: Path, runs: dict[str, list[tuple[int, float]]]) -> None:
    """Draws curves of (step, value), averaged, and where each first comes near its end.

    A run of fewer evaluations than the average takes is drawn as it is.
    """
    figure, axes = _figure((7, 4))
    for name, curve in runs.items():
        steps, values = np.array(curve, float).reshape(-1, 2).T
        label = name
        if len(values) >= _WINDOW:
            at = distribution.settled(values, window=_WINDOW)
            values = distribution.running_mean(values, window=_WINDOW)
            steps = steps[_WINDOW - 1 :]
            label = f"{name}, settled at step {steps[at - _WINDOW + 1]:.0f}"
        (line,) = axes.plot(steps, values, label=label)
        if label != name:
            start = at - _WINDOW + 1
            axes.plot(steps[start], values[start], "o", color=line.get_color())
    axes.set_xlabel("step")
    axes.set_ylabel(f"Fréchet distance, mean of {_WINDOW} evaluations")
    axes.set_yscale("log")
    axes.legend(fontsize=7)
    _save(figure, path)


def _figure(size: tuple[float, float]):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
