"""Draw from a trained generator that makes images of noise: label maps, so far.

`python -m jaxgan.predict --workdir=W --num_samples=N --output=DIR` writes what `load`
returns. Sample i is a function of (weights, seed, i), however many are drawn.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.config import from_dict
from jaxgan.errors import UserError
from jaxgan.methods import maskgan
from jaxgan.models.maskgan import MaskGenerator
from jaxgan.training.workdir import Workdir, read_config

_BATCH = 4  # that are drawn at once

METHODS = {"maskgan": maskgan}


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A trained generator of label maps."""

    config: dict[str, Any]  # the workdir's config.json
    classes: tuple[str, ...]  # the name of each label, the background last
    _draw: Callable[..., np.ndarray]

    def __call__(self, count: int, *, seed: int = 0, size: int = 0) -> np.ndarray:
        """Returns label maps `[count, H, W]`, uint8.

        `size` is H and W, a multiple of 64; 0 stands for that of training.
        """
        return np.argmax(self._draw(count, seed=seed, size=size), axis=-1).astype("u1")


def load(path: str, variables: dict[str, Any]) -> Sampler:
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
    classes = tuple(Workdir(path).read_json("normalization.json")["classes"])
    gen = method.networks(config, out_channels=len(classes)).gen
    draw = make_draw(gen, config)
    return Sampler(stored, classes, lambda *a, **k: draw(variables, *a, **k))


def make_draw(gen: MaskGenerator, config: maskgan.Config) -> Callable[..., np.ndarray]:
    """Returns `draw(variables, count, *, seed, size=0) -> masks [count, H, W, C]`."""

    def batch(
        variables: dict, key: jax.Array, start: jax.Array, shape: tuple[int, int, int]
    ) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(_BATCH))
        latents = maskgan.draw_latents(keys, shape)
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
