"""Draw from a trained generator that makes images, or label maps, of noise.

`python -m jaxgan.predict --workdir=W --num_samples=N --output=DIR` writes what `load`
returns. Sample i is a function of (weights, seed, i), however many are drawn.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.config import from_dict
from jaxgan.data import masks, normalise, writers
from jaxgan.data.labels import Coding
from jaxgan.data.readers import Meta
from jaxgan.errors import UserError
from jaxgan.methods import cgan, dcgan, maskgan, progressive
from jaxgan.models.maskgan import MaskGenerator
from jaxgan.training.workdir import Workdir, read_config

_BATCH = 4  # that are drawn at once

METHODS = {
    "maskgan": maskgan,
    "dcgan": dcgan,
    "cgan": cgan,
    "progressive": progressive,
}


@dataclasses.dataclass(frozen=True)
class MaskSampler:
    """A trained generator of label maps."""

    config: dict[str, Any]  # the workdir's config.json
    classes: tuple[str, ...]  # the name of each label, the background last
    _draw: Callable[..., np.ndarray]

    def __call__(self, count: int, *, seed: int = 0, size: int = 0) -> np.ndarray:
        """Returns label maps `[count, H, W]`, uint8.

        `size` is H and W, a multiple of 64; 0 stands for that of training.
        """
        return np.argmax(self._draw(count, seed=seed, size=size), axis=-1).astype("u1")

    def write(
        self, output: str, count: int, *, seed: int, size: int, condition: str
    ) -> list[Path]:
        """Writes label maps and a folder of masks for each class; returns the paths."""
        if condition:
            raise UserError("--condition is for a cgan; this workdir is of a maskgan")
        labels = self(count, seed=seed, size=size)
        return masks.write_masks(output, labels, self.classes)


@dataclasses.dataclass(frozen=True)
class ImageSampler:
    """A trained generator of images."""

    config: dict[str, Any]  # the workdir's config.json
    range: normalise.Range  # of the images it was trained on
    coding: Coding | None  # of the conditions that it takes, None for none
    _draw: Callable[..., np.ndarray]

    def __call__(self, count: int, *, seed: int = 0, condition: str = "") -> np.ndarray:
        """Returns images `[count, S, S, C]` in the units and dtype of the training's.

        `condition` of a cgan is a class, and numbers for the parameters, by commas:
        "cat", "7.5,12" or "gold,7.5". Empty: every class in turn, parameters at their
        means. Raises `UserError` for one that was not trained.
        """
        codes = None if self.coding is None else _codes(self.coding, condition, count)
        images = normalise.to_units(
            self._draw(count, seed=seed, condition=codes), self.range
        )
        return normalise.store(images, self.range.dtype)[0]

    def write(
        self, output: str, count: int, *, seed: int, size: int, condition: str
    ) -> list[Path]:
        """Writes a TIFF for each image; returns their paths."""
        if size and size != self.config["config"]["crop_size"]:
            raise UserError(f"--size={size}: this generator makes one size only")
        if condition and self.coding is None:
            raise UserError("--condition is for a cgan; this workdir is of a dcgan")
        paths = []
        for index, image in enumerate(self(count, seed=seed, condition=condition)):
            path = Path(output) / f"{index:05d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            meta = Meta("YX", image.shape[:2])
            if image.shape[-1] > 1:
                meta = Meta("YXS", image.shape)
            writers.write_tiff(path, image[None], like=meta)
            paths.append(path)
        return paths


def load(path: str, variables: dict[str, Any]) -> MaskSampler | ImageSampler:
    """Returns the sampler of a workdir with the weights of one of its checkpoints.

    Raises `UserError` if the workdir's method takes images and not noise.
    """
    stored = read_config(path)
    if stored["method"] not in METHODS:
        raise UserError(
            f"--workdir={path} is of {stored['method']}, which translates images: give "
            "--input, not --num_samples"
        )
    method = METHODS[stored["method"]]
    config = from_dict(method.Config, stored["config"])
    known = Workdir(path).read_json("normalization.json")
    if stored["method"] == "maskgan":
        classes = tuple(known["classes"])
        gen = method.networks(config, out_channels=len(classes)).gen
        draw = make_draw(gen, config)
        return MaskSampler(stored, classes, lambda *a, **k: draw(variables, *a, **k))
    range_ = normalise.from_json(known["image"])
    coding = from_dict(Coding, known["coding"]) if "coding" in known else None
    gen = method.networks(config, out_channels=len(range_.low)).gen
    generate = progressive.generate if method is progressive else dcgan.generate
    draw = make_image_draw(gen, config.latent_dim, generate=generate)
    return ImageSampler(
        stored, range_, coding, lambda *a, **k: draw(variables, *a, **k)
    )


def make_draw(gen: MaskGenerator, config: maskgan.Config) -> Callable[..., np.ndarray]:
    """Returns `draw(variables, count, *, seed, size=0) -> masks [count, H, W, C]`."""

    def batch(
        variables: dict, key: jax.Array, start: jax.Array, shape: tuple[int, int, int]
    ) -> jax.Array:
        latents = maskgan.draw_latents(_keys(key, start), shape)
        return maskgan.generate(gen, variables, latents)

    compiled = jax.jit(batch, static_argnums=3)

    def draw(variables: dict, count: int, *, seed: int, size: int = 0) -> np.ndarray:
        if size % maskgan.UPSAMPLING:
            raise UserError(
                f"masks come in multiples of {maskgan.UPSAMPLING} pixels, not {size}"
            )
        shape = maskgan.latent_shape(config, size=size)
        key = jax.random.key(seed)
        starts = range(0, count, _BATCH)
        batches = [compiled(variables, key, start, shape) for start in starts]
        return np.concatenate(batches)[:count]

    return draw


def make_image_draw(
    gen: Any, latent_dim: int, *, generate: Callable[..., jax.Array] = dcgan.generate
) -> Callable[..., np.ndarray]:
    """Returns `draw(variables, count, *, seed, condition=None) -> [count, S, S, C]`.

    `condition` `[count, K]` is for generators that take one; `generate` is the method's
    `(gen, variables, latents, *condition) -> images`.
    """

    @jax.jit
    def batch(variables: dict, key: jax.Array, start: jax.Array, *condition: jax.Array):
        latents = dcgan.draw_latents(_keys(key, start), latent_dim)
        return generate(gen, variables, latents, *condition)

    def draw(
        variables: dict, count: int, *, seed: int, condition: np.ndarray | None = None
    ) -> np.ndarray:
        key, images = jax.random.key(seed), []
        for start in range(0, count, _BATCH):
            given = []
            if condition is not None:
                rows = np.arange(start, start + _BATCH) % len(condition)
                given = [condition[rows]]
            images.append(batch(variables, key, start, *given))
        return np.concatenate(images)[:count]

    return draw


def _keys(key: jax.Array, start: jax.Array) -> jax.Array:
    """Returns the keys of a batch of samples, each by its number."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(_BATCH))


def _codes(coding: Coding, condition: str, count: int) -> np.ndarray:
    """Returns what `--condition` asks for, `[count, K]`."""
    parts = condition.split(",") if condition else []
    wanted = bool(coding.classes) + len(coding.parameters)
    names = (["a class"] if coding.classes else []) + list(coding.parameters)
    if parts and len(parts) != wanted:
        raise UserError(f"--condition={condition}: expected {', '.join(names)}")
    classes = None
    if coding.classes:
        classes = [parts.pop(0)] * count if parts else None
        classes = classes or [
            coding.classes[i % len(coding.classes)] for i in range(count)
        ]
    try:
        values = [float(part) for part in parts] or list(coding.mean)
        parameters = np.tile(values, (count, 1)) if coding.parameters else None
        return coding.encode(classes, parameters)
    except ValueError as error:
        raise UserError(f"--condition={condition}: {error}") from error
