"""DCGAN: images from noise, with the settings of a prior for electron micrographs.

Radford et al., 2016, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks"; "Generative Adversarial Networks for Electron
Microscope Image Denoising", Algorithm 1 and sec. 2. Images are `[B, S, S, C]` floats in
[-1, 1], latents `[B, d]` of N(0, 1).
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import augment, layers, losses
from jaxgan.config import option
from jaxgan.methods import game
from jaxgan.methods.game import Networks, Optimizers
from jaxgan.models import dcgan
from jaxgan.state import (
    GANState,
    all_reduce_mean,
    example_keys,
    init_player,
    train_apply,
)

DTYPES = ("float32", "bfloat16")
_LOST = 5e-5  # a loss below it is printed as 0.0000


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the method; the defaults are those of the EM network."""

    crop_size: int = option(512, "side of the images: 32, 64 or 512 pixels")
    batch_size: int = option(36, "examples per step, over all devices together")
    latent_dim: int = option(50, "length of the latent")
    width: int = option(64, "channels of the generator's last hidden level")
    disc_width: int = option(0, "channels of D's first level; 0: as --width")
    norm: str = option("batch", "normalisation", choices=layers.NORMS)
    disc_norm: str = option(
        "", "D's normalisation; empty: as --norm", choices=("", *layers.NORMS)
    )
    gan_loss: str = option("vanilla", "the game", choices=losses.GAN_LOSSES)
    real_target: float = option(1.0, "label of real images; .9 smooths (BCE only)")
    gradient_penalty: float = option(10.0, "weight of the penalty of wgan_gp")
    learning_rate: float = option(1e-4, "of Adam")
    disc_learning_rate: float = option(4e-4, "D's; 0: as --learning_rate")
    beta1: float = option(0.5, "Adam's decay of the mean gradient")
    ema_decay: float = option(0.0, "of the average of G's weights (.999); 0: none")
    early_stop: int = option(
        50, "most steps in a row with a loss of 0.0000, seen at evaluations; 0: any"
    )
    flip: str = option("none", "random flips", choices=augment.FLIPS)
    rotate: bool = option(False, "random rotations by multiples of 90 degrees")
    dtype: str = option("float32", "of the arithmetic", choices=DTYPES)

    def __post_init__(self):
        """Raises `ValueError` for what cannot train."""
        if self.crop_size not in dcgan.SIZES:
            raise ValueError(
                f"--crop_size={self.crop_size}: a DCGAN makes images of "
                f"{', '.join(map(str, dcgan.SIZES))} pixels"
            )
        if self.gan_loss == "wgan_gp" and (self.disc_norm or self.norm) == "batch":
            raise ValueError(
                "--gan_loss=wgan_gp penalises D's gradient image by image, which batch "
                "normalisation in D makes meaningless: use --disc_norm=instance or none"
            )
        losses.adversarial(self.gan_loss, real_target=self.real_target)


def networks(
    config: Config, *, out_channels: int, axis_name: str | None = None
) -> Networks:
    """Builds the generator and the discriminator that `config` describes."""
    common = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
    size = config.crop_size
    gen = dcgan.Generator(
        size, out_channels, width=config.width, norm=config.norm, **common
    )
    disc = dcgan.Discriminator(
        size,
        width=config.disc_width or config.width,
        norm=config.disc_norm or config.norm,
        **common,
    )
    return Networks(gen, disc)


def optimizers(config: Config) -> Optimizers:
    """Builds Adam for each player, at a constant rate.

    By default D learns four times as fast: Heusel et al., 2017, "GANs Trained by a Two
    Time-Scale Update Rule". The code that was published with the denoising paper gives
    the two rates to the players the other way round.
    """
    rates = (config.learning_rate, config.disc_learning_rate or config.learning_rate)
    return Optimizers(*(optax.adam(rate, b1=config.beta1) for rate in rates))


def init(
    config: Config,
    networks: Networks,
    optimizers: Optimizers,
    key: jax.Array,
    *,
    channels: int,
    condition: int = 0,
) -> GANState:
    """Draws the state of an untrained game, for images of so many channels.

    `condition` is the length of what the networks take besides, 0 for nothing. The key
    is consumed. Compile it (`jax.jit`): uncompiled it would run the networks.
    """
    gen_key, disc_key = jax.random.split(key)
    latent, image = (
        jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        for shape in (
            (config.latent_dim,),
            (config.crop_size, config.crop_size, channels),
        )
    )
    given = [jax.ShapeDtypeStruct((1, condition), jnp.float32)] if condition else []
    gen = init_player(networks.gen, optimizers.gen, gen_key, latent, *given)
    disc = init_player(networks.disc, optimizers.disc, disc_key, image, *given)
    ema = gen.params if config.ema_decay > 0 else None
    lost = jnp.int32(0) if config.early_stop else None
    return GANState(jnp.int32(0), gen, disc, ema=ema, extra=lost)


def make_train_step(
    gen: nn.Module,
    disc: nn.Module,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    gan: losses.Adversarial,
    latent_dim: int,
    gradient_penalty: float = 0.0,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> Callable:
    """Returns `train_step(state, batch, key) -> (state, metrics)`.

    `batch` holds real images as "image" `[B, S, S, C]` and, for networks that take one,
    a "condition" `[B, K]`, which both players see with real and fake alike. `key` is
    the same at every step; the step number is folded in, so that a resumed run repeats.
    Latents depend on the example's place in the global batch only.

    D minimises gan.disc (a sum, not halved) on the fake as data; then G answers the
    updated D, on the same fake (Algorithm 1). `state.extra`, if it is not None, counts
    the steps in a row at which one of the losses was 0.0000. Under `jax.pmap` name its
    axis: gradients and metrics are averaged over it.
    """

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        real, size = batch["image"], batch["image"].shape[0]
        given = [batch["condition"]] if "condition" in batch else []
        key = jax.random.fold_in(key, state.step)
        latent_key, penalty_key = jax.random.split(key)
        latent = draw_latents(example_keys(latent_key, size, axis_name), latent_dim)

        def generate(params):
            return train_apply(gen, params, state.gen.stats, latent, *given)

        def judge(params, stats, image):
            return train_apply(disc, params, stats, image, *given)

        def penalty(params, stats, fake):
            keys = example_keys(penalty_key, size, axis_name)
            judge_image = lambda image: judge(params, stats, image)[0]  # noqa: E731
            return gradient_penalty * losses.gradient_penalty(
                judge_image, real, fake, keys
            )

        played = game.play(
            state,
            generate=generate,
            judge=judge,
            real=real,
            gan=gan,
            gen_tx=gen_tx,
            disc_tx=disc_tx,
            penalty=penalty if gradient_penalty else None,
            ema_decay=ema_decay,
            axis_name=axis_name,
        )
        metrics = all_reduce_mean(played.metrics, axis_name)
        return count_lost(played.state, metrics), metrics

    return train_step


def count_lost(state: GANState, metrics: dict[str, jax.Array]) -> GANState:
    """Returns the state with `extra` one up if a player has won, and else at 0.

    The code that was published with the denoising paper ends an epoch at more than 50
    such steps in a row: a loss of zero teaches nothing any more.
    """
    if state.extra is None:
        return state
    losses_ = jnp.stack([metrics["disc_loss"], metrics["gen_loss"]])
    lost = jnp.any(jnp.abs(losses_) < _LOST)
    return state.replace(extra=jnp.where(lost, state.extra + 1, 0))


def draw_latents(keys: jax.Array, latent_dim: int) -> jax.Array:
    """Returns a latent `[latent_dim]` for each key of `[B]`; the keys are consumed."""
    return jax.vmap(lambda key: jax.random.normal(key, (latent_dim,)))(keys)


def generate(
    gen: nn.Module, variables: dict, latent: jax.Array, *condition: jax.Array
) -> jax.Array:
    """Turns latents `[B, d]` (and conditions `[B, K]`) into images in [-1, 1].

    `variables` are `GANState.gen_variables`; batch normalisation uses the averages of
    training, so that an image depends on its own latent alone.
    """
    return gen.apply(variables, latent, *condition, train=False)


def make_prepare(
    config: Config,
    *,
    low: jax.Array,
    high: jax.Array,
    axis_name: str | None = None,
) -> Callable:
    """Returns `prepare(batch, key) -> batch`, from stored images to the step's.

    `low` and `high` `[C]` are the stored values that become -1 and 1; values beyond,
    which a tanh cannot reach, are clipped.
    """

    def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        image = jnp.clip(augment.decode(batch["image"], low, high), -1.0, 1.0)
        keys = example_keys(key, image.shape[0], axis_name)
        flipped = augment.flip_and_rotate(
            {"image": image}, keys, flip=config.flip, rotate=config.rotate
        )
        return {**batch, **flipped}

    return prepare
