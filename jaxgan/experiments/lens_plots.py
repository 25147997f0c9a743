"""Plots of what passed a lens and what was drawn beyond."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def spectra(
    path: Path,
    frequencies: np.ndarray,
    powers: Mapping[str, np.ndarray],
    correlations: Mapping[str, np.ndarray],
    cutoffs: Mapping[str, float],
) -> None:
    """Writes radial power beside ring correlation as a PNG.

    Args:
      path: of the PNG.
      frequencies: of the rings, `[R]`, cycles per micrometre.
      powers: `[R]` by name.
      correlations: `[R]` by name, with the truth.
      cutoffs: frequencies to mark, by name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, power in powers.items():
        width = 2.5 if name == "truth" else 1.2
        color = "black" if name == "truth" else None
        left.semilogy(frequencies, power, label=name, linewidth=width, color=color)
    truth = powers["truth"]
    left.set_ylim(truth.max() * 1e-7, truth.max() * 3)
    left.set_ylabel("power")
    for correlation in correlations.values():
        right.plot(frequencies, correlation, linewidth=1.2)
    right.set_ylim(-0.2, 1.05)
    right.set_ylabel("Fourier ring correlation with the truth")
    for axes in (left, right):
        for name, cutoff in cutoffs.items():
            axes.axvline(cutoff, color="grey", linestyle="--", linewidth=1)
            axes.annotate(
                f"cut-off, {name}",
                (cutoff, 0.75),
                xycoords=("data", "axes fraction"),
                rotation=90,
                fontsize=7,
                ha="right",
            )
        # Beyond the last cut-off the truth holds rounding alone.
        axes.set_xlim(0, max(cutoffs.values()))
        axes.set_xlabel("cycles per micrometre")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
