"""The options of simulated data, and the images that they stand for."""

import dataclasses

from jaxgan.config import option
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.simulate import ultrastructure
from jaxgan.data.simulate.holography import holograms

# What a network is to learn: the fields of a `Hologram` that are source and target.
TASKS = {
    "amplitude_to_phase": ("amplitude", "phase"),
    "phase_to_twin_free": ("phase", "twin_free"),
    "amplitude_to_twin_free": ("amplitude", "twin_free"),
}
MASK_TO_MICROGRAPH = "mask_to_micrograph"  # of sections of nervous tissue


@dataclasses.dataclass(frozen=True)
class SimulationConfig:
    """What to look at, simulated, where no folder is named."""

    simulate: str = option(
        "amplitude_to_twin_free",
        "what to learn from in-line holograms, or from masks of nervous tissue",
        choices=(*TASKS, MASK_TO_MICROGRAPH),
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
        simulated = holograms(
            self.num_simulated,
            size=self.simulated_size,
            retrieval_steps=self.retrieval_steps,
        )
        source, target = (getattr(simulated, name) for name in TASKS[self.simulate])
        return ImageSet.from_arrays(source), ImageSet.from_arrays(target)
