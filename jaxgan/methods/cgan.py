"""A DCGAN with a condition: what to make is told to both players.

Mirza & Osindero, 2014, "Conditional Generative Adversarial Nets". The step, its
latents and its preparation are those of `methods/dcgan.py`, whose batches may hold a
"condition" `[B, K]`: a class one hot, or standardised parameters of the microscope.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.config import option
from jaxgan.methods import dcgan
from jaxgan.models import cgan
from jaxgan.state import GANState

make_prepare = dcgan.make_prepare
make_train_step = dcgan.make_train_step
optimizers = dcgan.optimizers

CONDITIONINGS = ("concat", "branch")


@dataclasses.dataclass(frozen=True)
class Config(dcgan.Config):
    """Every number of the method; the defaults are those of the DCGAN of 64 pixels."""

    crop_size: int = option(64, "side of the images: 32, 64 or 512 pixels")
    batch_size: int = option(64, "examples per step, over all devices together")
    latent_dim: int = option(100, "length of the latent")
    learning_rate: float = option(2e-4, "of Adam")
    disc_learning_rate: float = option(0.0, "D's; 0: as --learning_rate")
    conditioning: str = option(
        "concat",
        "how the condition enters: beside the input, or by layers of its own",
        choices=CONDITIONINGS,
    )

    def __post_init__(self):
        """Raises `ValueError` for what cannot train."""
        super().__post_init__()
        if self.conditioning == "branch" and self.crop_size != cgan.BRANCH_SIZE:
            raise ValueError(
                f"--conditioning=branch makes images of {cgan.BRANCH_SIZE} pixels, not "
                f"--crop_size={self.crop_size}: use --conditioning=concat"
            )


def networks(
    config: Config, *, out_channels: int, axis_name: str | None = None
) -> dcgan.Networks:
    """Builds the generator and the discriminator that `config` describes."""
    common = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
    size = (config.crop_size,)
    gen, disc = cgan.Generator, cgan.Discriminator
    if config.conditioning == "branch":
        size, gen, disc = (), cgan.BranchGenerator, cgan.BranchDiscriminator
    return dcgan.Networks(
        gen(*size, out_channels, width=config.width, norm=config.norm, **common),
        disc(
            *size,
            width=config.disc_width or config.width,
            norm=config.disc_norm or config.norm,
            **common,
        ),
    )


def init(
    config: Config,
    networks: dcgan.Networks,
    optimizers: dcgan.Optimizers,
    key: jax.Array,
    *,
    channels: int,
    condition: int,
) -> GANState:
    """Draws the state of an untrained game, for conditions of that length."""
    make = functools.partial(dcgan.init, channels=channels, condition=condition)
    return make(config, networks, optimizers, key)


def generate(
    gen: nn.Module, variables: dict, latent: jax.Array, condition: jax.Array
) -> jax.Array:
    """Turns latents `[B, d]` and conditions `[B, K]` into images in [-1, 1]."""
    return dcgan.generate(gen, variables, latent, condition)
