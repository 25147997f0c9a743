"""Simulated high-resolution electron micrographs: a nanoparticle on its support.

A faceted platinum particle stands on cerium oxide, both seen along [110], with vacuum
above. Each atomic column is a Gaussian of projected potential as high as the column is
long; the specimen is a phase object, exp(i sigma V), and the microscope a transfer
function of defocus and spherical aberration under the envelope of its focal spread
(Kirkland, "Advanced Computing in Electron Microscopy", chs. 3 and 5). Thick specimens
scatter more than once, which a phase object leaves out. Lengths are in nanometres.
Deterministic in (seed, index).
"""

import dataclasses

import numpy as np

WAVELENGTH = 1.97e-3  # of electrons at 300 kV
ABERRATION = -13e3  # Cs of -13 um: atoms come out white
FOCAL_SPREAD = 4.0
VACUUM = 0.42  # intensity where there is nothing
FINE_PIXEL = 4.8e-3  # of images of 876 x 927 pixels

LABELS = ("defocus", "thickness")  # nm, atoms in the longest column


@dataclasses.dataclass(frozen=True)
class Crystal:
    """A lattice seen along [110], in rows of (111) planes."""

    constant: float  # side of the cubic cell
    phase: float  # shift of the electron wave at a column's centre, radians an atom
    width: float  # deviation of a column's Gaussian


PLATINUM = Crystal(constant=0.3924, phase=0.055, width=0.040)
CERIA = Crystal(constant=0.5411, phase=0.055, width=0.045)
OXYGEN = Crystal(constant=0.5411, phase=0.014, width=0.045)


@dataclasses.dataclass(frozen=True)
class Micrograph:
    """An image, the truth behind it, and how it was taken; or, with a leading N, many.

    The columns of several micrographs are a list.
    """

    image: np.ndarray  # [H, W] float32 in [0, 1], without noise
    columns: (
        np.ndarray | list
    )  # [M, 2], row and column of each Pt and Ce column, pixels
    labels: np.ndarray  # [2], the LABELS


def micrograph(
    *,
    seed: int = 0,
    index: int = 0,
    size: tuple[int, int] = (876, 927),
    pixel: float = FINE_PIXEL,
) -> Micrograph:
    """Simulates one micrograph of `size` (height, width), `pixel` nm a pixel."""
    rng = np.random.default_rng((seed, index))
    defocus, thickness = rng.uniform(5.0, 9.0), int(rng.integers(8, 15))
    field = np.array(size) * pixel
    phase = np.zeros(size)
    positions = []
    for crystal, sites, lengths in _specimen(rng, field, thickness):
        for (y, x), length in zip(sites / pixel, lengths, strict=True):
            _add_column(
                phase, y, x, length * crystal.phase, width=crystal.width / pixel
            )
        if crystal is not OXYGEN:
            positions.append(sites / pixel)
    columns = np.concatenate(positions)
    inside = np.all((columns >= 0) & (columns <= np.array(size) - 1), axis=1)
    image = VACUUM * _expose(phase, defocus=defocus, pixel=pixel)
    return Micrograph(
        np.clip(image, 0, 1).astype(np.float32),
        columns[inside].astype(np.float32),
        np.array([defocus, thickness], np.float32),
    )


def micrographs(count: int, *, start: int = 0, **settings) -> Micrograph:
    """Simulates micrographs `start` to `start + count` - 1; `settings` as above."""
    made = [micrograph(index=start + i, **settings) for i in range(count)]
    return Micrograph(
        np.stack([m.image for m in made]),
        [m.columns for m in made],
        np.stack([m.labels for m in made]),
    )


def _specimen(rng: np.random.Generator, field: np.ndarray, thickness: int):
    """Yields each crystal with the sites `[M, 2]` and lengths `[M]` of its columns."""
    height, width = field
    surface = rng.uniform(0.4, 0.65) * height  # of the support
    angle = np.deg2rad(rng.uniform(-4, 4))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array([surface, width / 2])

    step, spacing = _lattice(CERIA)
    rows = int(np.ceil(2 * height / spacing))
    support = _rows(rows, spacing, step, extent=2 * width)
    support += (0, rng.uniform(0, 1) * step)
    sites = support @ turn.T + middle
    yield CERIA, sites, np.full(len(sites), thickness)
    yield OXYGEN, sites + (0.25 * spacing, 0.5 * step), np.full(len(sites), thickness)

    step, spacing = _lattice(PLATINUM)
    rows = int(rng.integers(3, max(4, int(0.8 * surface / spacing)) + 1))
    base = rng.uniform(0.3, 0.6) * width
    slopes = rng.uniform(0.2, 0.8, 2)  # of the facets, columns lost per row and side
    lean = rng.choice([1 / 3, 2 / 3])
    shift = rng.uniform(-0.25, 0.25) * width
    particle, lengths = [], []
    for row in range(rows):
        left, right = (
            -base / 2 + slopes[0] * row * step,
            base / 2 - slopes[1] * row * step,
        )
        places = np.arange(-40, 40) * step + ((row * lean) % 1.0) * step
        places = places[(places > left) & (places < right)]
        depth = 1 - (2 * places / base) ** 2 * 0.6  # thinner at the sides
        particle += [(-(row + 0.85) * spacing, place + shift) for place in places]
        lengths += list(np.maximum(1, np.rint(thickness * depth)))
    if particle:
        yield PLATINUM, np.array(particle) @ turn.T + middle, np.array(lengths)


def _lattice(crystal: Crystal) -> tuple[float, float]:
    """Returns the distance of columns in a (111) row, and that of the rows."""
    a = crystal.constant
    return np.hypot(a / 2, a / np.sqrt(8)), a / np.sqrt(3)


def _rows(count: int, spacing: float, step: float, *, extent: float) -> np.ndarray:
    """Returns the sites `[M, 2]` of rows down from 0, each shifted by a third."""
    places = np.arange(-extent, extent, step)
    return np.array(
        [
            (row * spacing, x + (row % 3) * step / 3)
            for row in range(count)
            for x in places
        ]
    )


def _add_column(phase: np.ndarray, y: float, x: float, height: float, *, width: float):
    """Adds a Gaussian to the part of `phase` that it reaches."""
    reach = int(np.ceil(4 * width)) + 1
    top, left = int(y) - reach, int(x) - reach
    rows = np.arange(max(top, 0), min(int(y) + reach, phase.shape[0]))
    columns = np.arange(max(left, 0), min(int(x) + reach, phase.shape[1]))
    if not (rows.size and columns.size):
        return
    down = np.exp(-((rows - y) ** 2) / (2 * width**2))
    across = np.exp(-((columns - x) ** 2) / (2 * width**2))
    phase[np.ix_(rows, columns)] += height * down[:, None] * across


def _expose(phase: np.ndarray, *, defocus: float, pixel: float) -> np.ndarray:
    """Returns the intensity `[H, W]` behind a phase object, 1 in vacuum."""
    pad = [(n // 4, n // 4) for n in phase.shape]
    wave = np.exp(1j * np.pad(phase, pad, mode="symmetric"))
    square = sum(
        np.fft.fftfreq(n, pixel).reshape(shape) ** 2
        for n, shape in zip(wave.shape, ((-1, 1), (1, -1)), strict=True)
    )
    aberration = (
        np.pi
        * WAVELENGTH
        * square
        * (defocus + 0.5 * ABERRATION * WAVELENGTH**2 * square)
    )
    envelope = np.exp(-0.5 * (np.pi * WAVELENGTH * FOCAL_SPREAD * square) ** 2)
    wave = np.fft.ifft2(np.fft.fft2(wave) * np.exp(-1j * aberration) * envelope)
    (top, _), (left, _) = pad
    height, width = phase.shape
    return np.abs(wave[top : top + height, left : left + width]) ** 2
