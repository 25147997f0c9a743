"""What the mains of dcgan and cgan share: their images, and the length of a run."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxgan import losses
from jaxgan.config import option
from jaxgan.data import cifar, collection, labels
from jaxgan.data.collection import Collection, CollectionConfig
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.normalise import Range
from jaxgan.data.simulate import particles
from jaxgan.errors import UserError
from jaxgan.methods import dcgan
from jaxgan.training import parallel
from jaxgan.training.run import RunConfig


@dataclasses.dataclass(frozen=True)
class SimulatedParticles:
    """Other images: CIFAR-100 or, where nothing is named, simulated nanoparticles."""

    cifar_root: str = option("", "folder of CIFAR-100's python version")
    cifar_grey: bool = option(False, "its pictures in grey (luma), as published")
    num_simulated: int = option(256, "micrographs to simulate")
    simulated_pixel: float = option(0.0, "nm; 0: such that a crop shows 2.46 nm")


@dataclasses.dataclass(frozen=True)
class SampleRunConfig(RunConfig):
    """Length, intervals, saving and devices of a run; counts are in steps."""

    best_metric: str = option("frechet", "evaluation metric that chooses the best step")
    best_mode: str = option("min", "which value is best", choices=("max", "min"))


_CROP_FIELD = 512 * particles.FINE_PIXEL  # nm: what a crop of the paper shows
_FIELD = (876 / 512, 927 / 512)  # height and width of its micrographs, in crops


def open_images(
    size: int,
    data: CollectionConfig,
    simulation: SimulatedParticles,
    *,
    label_spec: str = "",
    labelled: bool = False,
) -> Collection:
    """Opens a folder or an archive of images, or simulates micrographs.

    With `labelled`, images come with what is known of them: by `label_spec` (a CSV, or
    `labels.FOLDERS`), the class of a CIFAR picture, or defocus and thickness.
    """
    if data.source:
        return collection.open_collection(data, crop_size=size, labels=label_spec)
    if simulation.cifar_root:
        pictures, names = cifar.read(
            simulation.cifar_root, "train", grey=simulation.cifar_grey
        )
        known = (names, None, ())
    else:
        pictures, parameters = simulate(size, simulation)
        known = (None, parameters, particles.LABELS)
    if min(pictures[0].shape[:2]) < size:
        raise UserError(
            f"--crop_size={size} exceeds the images of {pictures[0].shape[:2]} pixels"
        )
    images = ImageSet.from_arrays(pictures)
    if not labelled:
        return collection.divide(images, data)
    coding = labels.fit(*known)
    split = collection.divide(images, data, labels=coding.encode(*known[:2]))
    return dataclasses.replace(split, coding=coding)


def simulate(
    size: int, simulation: SimulatedParticles, *, start: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns micrographs `[N, H, W]` from number `start` on, and their parameters."""
    made = particles.micrographs(
        simulation.num_simulated,
        start=start,
        size=tuple(int(side * size) for side in _FIELD),
        pixel=simulation.simulated_pixel or _CROP_FIELD / size,
    )
    return made.image, made.labels


def make_prepare(config: dcgan.Config, range_: Range) -> Callable:
    """Returns what makes of stored images those that the step takes."""
    return dcgan.make_prepare(
        config,
        low=jnp.array(range_.low),
        high=jnp.array(range_.high),
        axis_name=parallel.AXIS,
    )


def make_train_step(
    config: dcgan.Config, networks: dcgan.Networks, optimizers: dcgan.Optimizers
) -> Callable:
    """Returns the step that `config` describes, for `parallel.make_update`."""
    return dcgan.make_train_step(
        *networks,
        *optimizers,
        gan=losses.adversarial(config.gan_loss, real_target=config.real_target),
        latent_dim=config.latent_dim,
        gradient_penalty=config.gradient_penalty * (config.gan_loss == "wgan_gp"),
        ema_decay=config.ema_decay,
        axis_name=parallel.AXIS,
    )
