"""Pictures of simulated cells, beads and filaments: the phase delays of light."""

import dataclasses

import numpy as np

from jaxgan.config import option
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.simulate.specimens import draw_specimen

_SEED = 5
_FIELD = 32.0  # um: what a picture shows by default, a few cells


@dataclasses.dataclass(frozen=True)
class CellsConfig:
    """Simulated cells, where no folder is named."""

    num_simulated: int = option(1024, "pictures of cells to simulate")
    simulated_field: float = option(_FIELD, "side of what a picture shows, in um")

    def images(self, size: int) -> ImageSet:
        """Simulates pictures of `size` pixels, the same at every call."""
        return ImageSet.from_arrays(
            cells(self.num_simulated, size=size, field=self.simulated_field)
        )


def cells(count: int, *, size: int, field: float = _FIELD) -> np.ndarray:
    """Returns phase delays in radians, float32 `[count, size, size]`.

    `field` is the side of a picture in micrometres. Picture i is a function of i, the
    size and the field.
    """
    # At least 128 samples are drawn, and averaged: small pictures are not jagged.
    factor = max(1, 128 // size)
    fine = size * factor
    pixel = field * 1e-6 / fine
    pictures = np.empty((count, size, size), np.float32)
    for index in range(count):
        rng = np.random.default_rng((_SEED, index))
        phase = draw_specimen(rng, size=fine, pixel=pixel).phase
        blocks = phase.reshape(size, factor, size, factor)
        pictures[index] = blocks.mean(axis=(1, 3))
    return pictures
