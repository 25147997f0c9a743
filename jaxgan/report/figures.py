"""Pictures for a page, as data URIs: images as PNG, curves as SVG."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan.report import measure

_COLOURS = {
    "input": "#888888",
    "best linear filter": "#d08700",
    "prediction": "#2563c9",
    "target": "#111111",
}
_LIMIT = 512  # pixels a side: of larger images the centre is shown, at full resolution


def crop(image: np.ndarray) -> np.ndarray:
    """Returns the centre of an image, at most `_LIMIT` pixels a side."""
    starts = [max(0, (n - _LIMIT) // 2) for n in image.shape[:2]]
    return image[starts[0] :, starts[1] :][:_LIMIT, :_LIMIT]


def picture(image: np.ndarray) -> str:
    """Shows `[H, W, C]` from -1 (black) to 1 (white); of other than 3 channels one."""
    shown = image if image.shape[-1] == 3 else image[..., :1].repeat(3, axis=-1)
    return _png(np.nan_to_num((np.clip(shown, -1, 1) + 1) / 2))


def coloured(image: np.ndarray, *, low: float, high: float, palette: str) -> str:
    """Shows the mean over the channels of a map in a palette of matplotlib."""
    import matplotlib

    level = (np.mean(image, axis=-1) - low) / (high - low)
    colours = matplotlib.colormaps[palette].with_extremes(bad="#dddddd")
    return _png(colours(np.ma.masked_invalid(level))[..., :3])


def checkpoint_curves(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    levels: Mapping[str, float],
    *,
    chosen: int,
    label: str,
) -> str:
    """Draws scores over steps by role, and levels of input and filter as lines."""
    figure, axes = _figure(width=4.2)
    for role, (steps, values) in curves.items():
        axes.plot(steps, values, marker="o", markersize=3, label=role)
    for kind, value in levels.items():
        if np.isfinite(value):
            axes.axhline(value, color=_COLOURS[kind], linestyle="--", label=kind)
    axes.axvline(chosen, color="#bbbbbb", linewidth=1, label="used")
    axes.set(xlabel="training step", ylabel=label)
    axes.legend(fontsize=7)
    return _svg(figure)


def power_curves(spectra: measure.Spectra) -> str:
    """Draws the radial power spectra."""
    figure, axes = _figure(width=4.2)
    for name, power in spectra.power.items():
        axes.semilogy(
            spectra.frequencies,
            np.maximum(power, 1e-12),
            color=_COLOURS[name],
            label=name,
        )
    axes.set(xlabel="frequency, cycles per pixel", ylabel="mean power")
    axes.legend(fontsize=7)
    return _svg(figure)


def correlation_curves(spectra: measure.Spectra) -> str:
    """Draws the Fourier ring correlations with the target."""
    figure, axes = _figure(width=4.2)
    for name, values in spectra.correlation.items():
        axes.plot(spectra.frequencies, values, color=_COLOURS[name], label=name)
    axes.axhline(measure.THRESHOLD, color="#bbbbbb", linewidth=1, label="1/7")
    axes.set(xlabel="frequency, cycles per pixel", ylabel="correlation with the target")
    axes.legend(fontsize=7)
    return _svg(figure)


def _figure(*, width: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _uri("image/svg+xml", buffer.getvalue())


def _png(image: np.ndarray) -> str:
    from matplotlib import image as images

    buffer = io.BytesIO()
    images.imsave(buffer, np.ascontiguousarray(image, np.float32), format="png")
    return _uri("image/png", buffer.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
