"""In-line holograms of random specimens, and what is reconstructed from them.

Every image is a function of its seed, its index and the settings alone.
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
    """One hologram, `[H, W]`, or a stack of N, `[N, H, W]`; float32, radians."""

    intensity: np.ndarray  # at the camera; 1 is the illumination, noise can make it < 0
    amplitude: np.ndarray  # at the specimen, by propagating back: with the twin image
    phase: np.ndarray  # of that same field, in (-pi, pi]
    twin_free: np.ndarray  # phase at the specimen by retrieval, in (-pi, pi]
    truth: np.ndarray  # phase of the specimen, in [0, MAX_PHASE]: no wraps


def hologram(
    index: int,
    *,
    seed: int = 0,
    size: int = 128,
    optics: Optics | None = None,
    retrieval_steps: int = 60,
) -> Hologram:
    """Returns one hologram of an endless series, `size` x `size` pixels.

    Without `optics`, those of `Optics()`.
    """
    optics = optics or Optics()
    rng = np.random.default_rng([seed, index])
    specimen = draw_specimen(rng, size=size, pixel=optics.pixel)
    intensity = record(rng, specimen.transmittance, optics)
    with_twin = back_propagate(intensity, optics)
    return Hologram(
        intensity=intensity,
        amplitude=np.abs(with_twin),
        phase=np.angle(with_twin),
        twin_free=np.angle(retrieve(intensity, optics, steps=retrieval_steps)),
        truth=specimen.phase,
    )


def holograms(
    count: int,
    *,
    start: int = 0,
    seed: int = 0,
    size: int = 128,
    optics: Optics | None = None,
    retrieval_steps: int = 60,
) -> Hologram:
    """Returns `count` holograms of the series as one stack, from index `start` on.

    They are made in parallel: an image of 128 x 128 pixels takes a processor about
    0.1 s, one of 256 x 256 about 0.4 s.
    """
    make = partial(
        hologram, seed=seed, size=size, optics=optics, retrieval_steps=retrieval_steps
    )
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        images = list(threads.map(make, range(start, start + count)))
    names = [field.name for field in fields(Hologram)]
    return Hologram(*(np.stack([getattr(i, name) for i in images]) for name in names))


def record(rng: np.random.Generator, field: np.ndarray, optics: Optics) -> np.ndarray:
    """Returns the intensity that the camera sees, in units of the illumination.

    `field` `[..., H, W]` is the light just behind the specimen. Shot noise and read
    noise are the camera's; float32.
    """
    at_camera = propagate(field, optics, distance=optics.distance)
    electrons = rng.poisson(optics.photons * np.abs(at_camera) ** 2)
    noise = rng.normal(0, optics.read_noise, electrons.shape)
    return ((electrons + noise) / optics.photons).astype(np.float32)
