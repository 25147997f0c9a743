"""The options of simulated data, and the images that they stand for."""

import dataclasses

from jaxgan.config import option
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.simulate import lenses, ultrastructure
from jaxgan.data.simulate.holography import holograms
from jaxgan.errors import UserError

# What a network is to learn: the fields of a `Hologram` that are source and target.
TASKS = {
    "amplitude_to_phase": ("amplitude", "phase"),
    "phase_to_twin_free": ("phase", "twin_free"),
    "amplitude_to_twin_free": ("amplitude", "twin_free"),
}
MASK_TO_MICROGRAPH = "mask_to_micrograph"  # of sections of nervous tissue
LOW_TO_HIGH_NA = "low_to_high_na"  # what another lens would have shown, on one grid


@dataclasses.dataclass(frozen=True)
class SimulationConfig:
    """What to look at, simulated, where no folder is named."""

    simulate: str = option(
        "amplitude_to_twin_free",
        "what to learn from in-line holograms, masks of nervous tissue or two lenses",
        choices=(*TASKS, MASK_TO_MICROGRAPH, LOW_TO_HIGH_NA),
    )
    num_simulated: int = option(256, "images to simulate")
    simulated_size: int = option(256, "height and width of each, in pixels")
    retrieval_steps: int = option(60, "of the iterative retrieval of twin-free phases")

    def images(self) -> tuple[ImageSet, ImageSet]:
        """Simulates the source and target images, the same at every call."""
        if self.simulate == MASK_TO_MICROGRAPH:
            tissue = ultrastructure.sections(
                self.num_simulated, size=self.simulated_size
            )
            classes = ultrastructure.class_maps(tissue.labels)
            return ImageSet.from_arrays(classes), ImageSet.from_arrays(tissue.image)
        if self.simulate == LOW_TO_HIGH_NA:
            seen = LensConfig(self.num_simulated, self.simulated_size)
            return seen.images()
        simulated = holograms(
            self.num_simulated,
            size=self.simulated_size,
            retrieval_steps=self.retrieval_steps,
        )
        source, target = (getattr(simulated, name) for name in TASKS[self.simulate])
        return ImageSet.from_arrays(source), ImageSet.from_arrays(target)


@dataclasses.dataclass(frozen=True)
class LensConfig:
    """Which lenses to simulate, where no folder is named."""

    num_simulated: int = option(256, "pairs of images to simulate")
    simulated_size: int = option(256, "height and width of the fine images, in pixels")
    low_na: float = option(0.3, "numerical aperture of the sources")
    high_na: float = option(0.7, "numerical aperture of the targets")
    wavelength: float = option(0.532, "of the light, in micrometres")
    pixel: float = option(0.11, "of the targets' grid, in micrometres")
    photons: float = option(1000.0, "per pixel of brightness 1")

    @property
    def lenses(self) -> lenses.Lenses:
        """The two lenses."""
        return lenses.Lenses(
            self.low_na,
            self.high_na,
            self.wavelength * 1e-6,
            self.pixel * 1e-6,
            self.photons,
        )

    def images(self, *, scale: int = 1) -> tuple[ImageSet, ImageSet]:
        """Simulates sources, on a grid `scale` times as coarse, and targets.

        The same at every call; raises `UserError` if their size does not divide.
        """
        if self.simulated_size % scale:
            raise UserError(
                f"--simulated_size={self.simulated_size} does not divide by "
                f"--scale={scale}"
            )
        made = lenses.lens_pairs(
            self.num_simulated,
            size=self.simulated_size,
            scale=scale,
            lenses=self.lenses,
        )
        return ImageSet.from_arrays(made.low), ImageSet.from_arrays(made.high)
