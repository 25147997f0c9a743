"""Sections of nervous tissue under an electron microscope, and what is what in them.

Cells lie close together, each in its membrane; some hold mitochondria, whose inner
membrane is folded into cristae. Lengths are in nanometres, the scene repeats beyond its
borders, and every section is a function of (seed, index) and the settings alone.
Thickness, sizes and grey levels are those of a Drosophila larva's nerve cord (Gerhard
et al., 2013, figshare, doi 10.6084/m9.figshare.856713), by eye.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from jaxgan.data.simulate.optics import blur

CLASSES = ("mitochondria", "membranes", "background")  # of labels 0, 1, 2
_MITOCHONDRIA, _MEMBRANES, _BACKGROUND = range(3)

_CELL_SPACING = 560.0  # nm, between the centres of cells, about
_MEMBRANE = 38.0  # nm, the usual thickness of a border, both cells' membranes together
_MITOCHONDRIA_AREA = 0.05  # of a section that mitochondria are tried to fill
_PLACES = 40  # that are tried for mitochondria; most sections fill up before


@dataclass(frozen=True)
class Section:
    """One section, `[H, W]`, or several, `[N, H, W]`; uint8."""

    labels: np.ndarray  # the number of each pixel's class in CLASSES
    image: np.ndarray  # electron micrograph: membranes are dark


@dataclass(frozen=True)
class _Tissue:
    """Where in the tissue each pixel lies; maps `[H, W]` in nanometres."""

    depth: np.ndarray  # into a cell, from the middle of its border
    thickness: np.ndarray  # of the border nearest to the pixel
    ripples: np.ndarray  # unevenness of outlines and folds, deviation 1, no unit


def section(
    index: int, *, seed: int = 0, size: int = 512, pixel: float = 9.2
) -> Section:
    """Returns section `index` of an endless series, `size` pixels of `pixel` nm."""
    rng = np.random.default_rng([seed, index])
    tissue = _draw_cells(rng, size, pixel)
    labels = np.full((size, size), _BACKGROUND, np.uint8)
    labels[tissue.depth < tissue.thickness / 2] = _MEMBRANES
    organelles = np.zeros((size, size), np.float32)
    missing = _MITOCHONDRIA_AREA * size**2
    for _ in range(_PLACES):
        missing -= _add_mitochondrion(rng, tissue, labels, organelles, pixel)
        if missing <= 0:
            break
    return Section(labels, _micrograph(rng, tissue, labels, organelles, pixel))


def sections(count: int, *, start: int = 0, **settings) -> Section:
    """Returns sections `start` to `start + count - 1`, stacked; `settings` as above."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        made = list(
            threads.map(partial(section, **settings), range(start, start + count))
        )
    return Section(
        np.stack([s.labels for s in made]), np.stack([s.image for s in made])
    )


def class_maps(labels: np.ndarray) -> np.ndarray:
    """Returns labels `[..., H, W]` as one channel per class, uint8 0 and 1."""
    return (labels[..., np.newaxis] == np.arange(len(CLASSES))).astype(np.uint8)


def _draw_cells(rng: np.random.Generator, size: int, pixel: float) -> _Tissue:
    """Draws cells as a Voronoi diagram, bent, of centres that weigh differently."""
    width = size * pixel
    bend = np.stack([_noise(rng, size, 130 / pixel) for _ in "yx"]) * 55
    bend += np.stack([_noise(rng, size, 40 / pixel) for _ in "yx"]) * 10
    y, x = (np.indices((size, size)) + 0.5) * pixel + bend
    nearest = np.full((2, size, size), np.inf, np.float32)  # distance, and the second
    for _ in range(max(4, round((width / _CELL_SPACING) ** 2))):
        # A heavier centre keeps a larger cell: sizes vary as those of neurites do.
        weight = rng.gamma(0.5, 260.0)
        center = rng.uniform(0, width, 2)
        offsets = [
            (z - c + width / 2) % width - width / 2
            for z, c in zip((y, x), center, strict=True)
        ]
        distance = np.hypot(*offsets) - min(weight, 900.0)
        nearest[1] = np.minimum(nearest[1], np.maximum(nearest[0], distance))
        nearest[0] = np.minimum(nearest[0], distance)
    # Synapses and glia: here and there a border is several times as thick.
    unevenness = np.clip(_noise(rng, size, 220 / pixel), -0.6, 1.6)
    return _Tissue(
        depth=(nearest[1] - nearest[0]) / 2,
        thickness=_MEMBRANE * np.exp(0.55 * unevenness),
        ripples=_noise(rng, size, 70 / pixel),
    )


def _add_mitochondrion(
    rng: np.random.Generator,
    tissue: _Tissue,
    labels: np.ndarray,
    organelles: np.ndarray,
    pixel: float,
) -> int:
    """Draws one where a cell has room, and returns its pixels: 0 if none has."""
    size = len(labels)
    radius = rng.uniform(110, 270)
    room = tissue.depth - tissue.thickness / 2 > 0.5 * radius
    places = np.argwhere(room)
    if not len(places):
        return 0
    center = places[rng.integers(len(places))]
    y, x = (
        ((np.arange(size) - c + size // 2) % size - size // 2) * pixel for c in center
    )
    tilt, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.6)
    u = (np.cos(tilt) * x + np.sin(tilt) * y[:, None]) / stretch
    v = np.cos(tilt) * y[:, None] - np.sin(tilt) * x
    angle = np.arctan2(v, u)
    outline = radius * (1 + 0.09 * np.cos(3 * angle + rng.uniform(0, 6.3)))
    outline += 12 * tissue.ripples
    inside = np.hypot(u, v) / outline
    if (labels[inside < 1.1] == _MITOCHONDRIA).any():
        return 0
    where = (inside < 1) & (tissue.depth > tissue.thickness / 2 + 15)
    labels[where] = _MITOCHONDRIA
    folds = u + 25 * tissue.ripples
    cristae = np.cos(2 * np.pi * folds / rng.uniform(55, 80))
    rim = np.clip((inside - 0.84) / 0.1, 0, 1)
    organelles[where] = np.maximum(0.5 * cristae, rim)[where]
    return int(where.sum())


def _micrograph(
    rng: np.random.Generator,
    tissue: _Tissue,
    labels: np.ndarray,
    organelles: np.ndarray,
    pixel: float,
) -> np.ndarray:
    """Returns grey levels, uint8: stain, the grain of the cytoplasm, blur and noise."""
    size = len(labels)
    grey = 168 + 14 * _noise(rng, size, 500 / pixel)
    grey += 26 * np.minimum(_noise(rng, size, 14 / pixel), 0.6)  # ribosomes: dark dots
    grey -= 16 * np.abs(_noise(rng, size, 28 / pixel))  # vesicles and filaments
    border = np.exp(-((tissue.depth / (0.42 * tissue.thickness)) ** 2))
    grey += (58 - grey) * border
    in_mitochondria = labels == _MITOCHONDRIA
    matrix = 98 - 38 * organelles + 8 * _noise(rng, size, 20 / pixel)
    grey = np.where(in_mitochondria, matrix, grey)
    grey = blur(grey, sigma=7 / pixel)
    # Averaging over larger pixels makes the noise smaller.
    grey += rng.normal(0, 24 * 4.6 / pixel, grey.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Returns smooth noise `[H, W]` of deviation 1, with grains of `scale` pixels."""
    noise = blur(rng.normal(size=(size, size)), sigma=scale)
    return (noise - noise.mean()) / noise.std()
