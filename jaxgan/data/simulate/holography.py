"""In-line holograms of random specimens, and all that is reconstructed from them.

Every image is a function of (seed, index) and the settings alone.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from jaxgan.data.simulate.optics import Optics, propagate
from jaxgan.data.simulate.retrieval import back_propagate, retrieve
from jaxgan.data.simulate.specimens import draw_specimen


@dataclass(frozen=True)
class Hologram:
    """One hologram, `[H, W]`, or several, `[N, H, W]`; float32, phases in radians."""

    intensity: np.ndarray  # at the camera, illumination 1, noise may take it below 0
    amplitude: np.ndarray  # at the specimen, propagated back: with the twin image
    phase: np.ndarray  # of the same field, (-pi, pi]
    twin_free: np.ndarray  # phase by iterative retrieval, (-pi, pi]
    truth: np.ndarray  # phase delay of the specimen, [0, specimens.MAX_PHASE]


def hologram(
    index: int,
    *,
    seed: int = 0,
    size: int = 128,
    optics: Optics | None = None,
    retrieval_steps: int = 60,
) -> Hologram:
    """Returns hologram `index` of an endless series, `size` x `size` pixels."""
    optics = optics or Optics()
    rng = np.random.default_rng([seed, index])
    specimen = draw_specimen(rng, size=size, pixel=optics.pixel)
    intensity = record(rng, specimen.transmittance, optics)
    raw = back_propagate(intensity, optics)
    retrieved = retrieve(intensity, optics, steps=retrieval_steps)
    return Hologram(
        intensity=intensity,
        amplitude=np.abs(raw),
        phase=np.angle(raw),
        twin_free=np.angle(retrieved),
        truth=specimen.phase,
    )


def holograms(count: int, *, start: int = 0, **settings) -> Hologram:
    """Returns holograms `start` to `start + count - 1`, stacked; `settings` as above.

    The images are made in parallel, as many at a time as there are processors.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        images = threads.map(partial(hologram, **settings), range(start, start + count))
    columns = zip(*([getattr(h, f.name) for f in fields(Hologram)] for h in images))
    return Hologram(*(np.stack(column) for column in columns))


def record(rng: np.random.Generator, field: np.ndarray, optics: Optics) -> np.ndarray:
    """Returns the intensity that a camera behind `field` records, with its noise.

    The illumination is 1; float32, of the field's shape `[..., H, W]`.
    """
    at_camera = propagate(field, optics, distance=optics.distance)
    electrons = rng.poisson(optics.photons * np.abs(at_camera) ** 2)
    electrons = electrons + rng.normal(0, optics.read_noise, electrons.shape)
    return (electrons / optics.photons).astype(np.float32)
