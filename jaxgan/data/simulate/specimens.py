"""Thin transparent specimens: cells, beads and filaments on an empty ground.

A specimen is what it does to the light that passes: its phase delay in radians and its
absorbance, minus the logarithm of the factor on the amplitude. Lengths are drawn in
micrometres, the scene repeats beyond its borders, and where objects overlap the thicker
one counts, so that no phase exceeds the largest one drawn.
"""

import math
from dataclasses import dataclass

import numpy as np

from jaxgan.data.simulate.optics import blur

MAX_PHASE = 2.8  # radians; below pi: the phase of a specimen never wraps

# How many are expected on a square of 64 um, besides one cell that is always there.
_CELLS, _BEADS, _FILAMENTS = 6.0, 7.0, 3.0
_SOFTNESS = 0.4  # um, the blur of all edges: the lens would not pass finer detail


@dataclass(frozen=True)
class Specimen:
    """What light meets on its way through; both maps are float32 `[H, W]`."""

    phase: np.ndarray  # radians, [0, MAX_PHASE]
    absorbance: np.ndarray  # [0, 1]

    @property
    def transmittance(self) -> np.ndarray:
        """The factor on the field of the light that passes, complex64 `[H, W]`."""
        return np.exp(1j * self.phase - self.absorbance)


def draw_specimen(rng: np.random.Generator, *, size: int, pixel: float) -> Specimen:
    """Returns a random scene of `size` x `size` pixels of `pixel` metres."""
    canvas = _Canvas(size, pixel * 1e6)
    crowding = (canvas.width / 64) ** 2
    for _ in range(1 + rng.poisson(_CELLS * crowding)):
        _draw_cell(rng, canvas)
    for _ in range(rng.poisson(_BEADS * crowding)):
        _draw_bead(rng, canvas)
    for _ in range(rng.poisson(_FILAMENTS * crowding)):
        _draw_filament(rng, canvas)
    phase, absorbance = blur(canvas.maps, sigma=_SOFTNESS / canvas.pixel)
    return Specimen(np.maximum(phase, 0), np.maximum(absorbance, 0))


class _Canvas:
    """The two maps of a specimen in the making, `pixel` micrometres a sample."""

    def __init__(self, size: int, pixel: float):
        self.maps = np.zeros((2, size, size), np.float32)  # phase, absorbance
        self.pixel, self.width = pixel, size * pixel

    def around(
        self, center: np.ndarray, radius: float
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
        """Returns the index of a square of the maps, and y and x from its `center`."""
        size = self.maps.shape[-1]
        reach = min(math.ceil(radius / self.pixel), (size - 1) // 2)
        nearest = np.round(center / self.pixel).astype(int)
        pixels = nearest[:, np.newaxis] + np.arange(-reach, reach + 1)
        y, x = pixels * self.pixel - center[:, np.newaxis]
        rows, columns = pixels % size
        return np.ix_(range(2), rows, columns), y[:, np.newaxis], x

    def put(
        self, where: tuple[np.ndarray, ...], phase: np.ndarray, absorbance: np.ndarray
    ) -> None:
        """Adds an object: of it and what is there already, the thicker one stays."""
        self.maps[where] = np.maximum(self.maps[where], [phase, absorbance])


def _draw_cell(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Draws a lobed dome with grains and a nucleus, the latter stained more or less."""
    radius = rng.uniform(4.5, 8)
    where, y, x = canvas.around(_anywhere(rng, canvas), 1.7 * radius)
    tilt, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.25)
    u = (np.cos(tilt) * x + np.sin(tilt) * y) / radius / stretch
    v = (np.cos(tilt) * y - np.sin(tilt) * x) / radius * stretch

    body = _dome(u, v, radius=_outline(rng, np.arctan2(v, u))) ** rng.uniform(1, 1.8)
    nucleus = _dome(*_aside(rng, u, v, 0.3), radius=rng.uniform(0.3, 0.5)) * (body > 0)
    grains = sum(
        _dome(*_aside(rng, u, v, 0.8), radius=rng.uniform(0.1, 0.25))
        for _ in range(rng.integers(4, 12))
    )
    thickness = body * (0.55 + 0.15 * np.minimum(grains, 1)) + 0.3 * nucleus
    stain = rng.uniform(0, 0.5)
    phase = rng.uniform(1.2, MAX_PHASE) * thickness
    canvas.put(where, phase, stain * (0.2 * body + 0.8 * nucleus))


def _draw_bead(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Draws a sphere, from clear to nearly black."""
    radius = rng.uniform(1, 2.2)
    where, y, x = canvas.around(_anywhere(rng, canvas), radius)
    thickness = _dome(y, x, radius=radius)
    canvas.put(where, rng.uniform(0.5, 2.5) * thickness, rng.uniform() * thickness)


def _draw_filament(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Draws a winding thread, as a row of overlapping spheres."""
    radius, length = rng.uniform(0.6, 1.25), rng.uniform(25, 75)
    stride = radius / 3
    count = math.ceil(length / stride)
    # The curvature takes a random walk: smooth bends, more of them one way.
    curvature = (
        0.03 * rng.normal() + 0.02 * np.cumsum(rng.normal(size=count)) * stride**0.5
    )
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(curvature) * stride
    strides = stride * np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    phase, absorbance = rng.uniform(0.5, 1.6), rng.uniform(0, 0.1)
    for center in _anywhere(rng, canvas) + np.cumsum(strides, axis=0):
        where, y, x = canvas.around(center, radius)
        thickness = _dome(y, x, radius=radius)
        canvas.put(where, phase * thickness, absorbance * thickness)


def _anywhere(rng: np.random.Generator, canvas: _Canvas) -> np.ndarray:
    """Returns a random place on the canvas, y and x in micrometres."""
    return rng.uniform(0, canvas.width, size=2)


def _aside(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, most: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coordinates from a random point at most so far from the origin."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0, most)
    return u - distance * np.cos(angle), v - distance * np.sin(angle)


def _outline(rng: np.random.Generator, angle: np.ndarray) -> np.ndarray:
    """Returns the radius of a lobed circle in the directions of `angle`."""
    lobes = (
        rng.uniform(-0.25, 0.25) / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
        for k in range(2, 6)
    )
    return 1 + sum(lobes)


def _dome(u: np.ndarray, v: np.ndarray, *, radius: float | np.ndarray) -> np.ndarray:
    """Returns the thickness of a ball in units of its diameter: 1 at its centre."""
    return np.sqrt(np.maximum(1 - (u**2 + v**2) / radius**2, 0))
