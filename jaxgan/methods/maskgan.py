"""The mask GAN: class masks of cell ultrastructure from noise.

"GAN with Skip Patch Discriminator for Biological Electron Microscopy Image Generation".
Masks are `[B, H, W, C]` floats in [-1, 1], one channel per class; latents are
`[B, h, w, Z]` of N(0, 1), with H = 64 h.

A generator's softmax is never quite hard and a real mask always is, which gives every
fake away, whatever its shapes: measured, D was right about all of them for a thousand
steps, and G's masks all became alike. Unlike the paper, noise that real and fake masks
share therefore hides hardness from D (`mask_noise`, 0 for the paper's game). The other
cure on offer, `straight_through`, shows D the most likely class of each pixel, as hard
as a real one, while G's gradient passes as if it had shown the softmax; it left G's
masks speckled. experiments/drosophila/README.md has the numbers.
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
from jaxgan.models.discriminators import DISCRIMINATORS, discriminator
from jaxgan.models.maskgan import UPSAMPLING, MaskGenerator
from jaxgan.state import (
    GANState,
    all_reduce_mean,
    example_keys,
    init_player,
    train_apply,
)

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the method; the defaults are the paper's, where it has one."""

    crop_size: int = option(512, "side of the masks, a multiple of 64 pixels")
    batch_size: int = option(4, "masks per step, over all devices together")
    latent_channels: int = option(8, "channels of the latent grid")
    width: int = option(32, "channels of the generator's last hidden layer")
    norm: str = option("instance", "normalisation", choices=layers.NORMS)
    discriminator: str = option("skip_patch", "what D sees", choices=DISCRIMINATORS)
    disc_width: int = option(64, "channels of D's first layer")
    disc_norm: str = option(
        "", "D's normalisation; empty: as --norm", choices=("", *layers.NORMS)
    )
    gan_loss: str = option("vanilla", "the game", choices=losses.GAN_LOSSES)
    real_target: float = option(1.0, "label of real masks; .9 smooths (BCE only)")
    gradient_penalty: float = option(10.0, "weight of the penalty of wgan_gp")
    mask_noise: float = option(0.5, "deviation of noise on masks that D sees; 0: none")
    straight_through: bool = option(False, "show D the most likely class, not softmax")
    learning_rate: float = option(2e-4, "of Adam")
    disc_learning_rate: float = option(0.0, "D's; 0: as --learning_rate")
    beta1: float = option(0.5, "Adam's decay of the mean gradient")
    ema_decay: float = option(0.0, "of the average of G's weights (.999); 0: none")
    flip: str = option("both", "random flips", choices=augment.FLIPS)
    rotate: bool = option(False, "random rotations by multiples of 90 degrees")
    crop_area: float = option(0.9, "fraction of a crop's area kept, and resized back")
    dtype: str = option("float32", "of the arithmetic", choices=DTYPES)

    def __post_init__(self):
        """Raises `ValueError` for what cannot train."""
        if self.crop_size <= 0 or self.crop_size % UPSAMPLING:
            raise ValueError(
                f"--crop_size={self.crop_size} must be a multiple of {UPSAMPLING}, the "
                "pixels that one latent becomes"
            )
        if self.gan_loss == "wgan_gp" and (self.disc_norm or self.norm) == "batch":
            raise ValueError(
                "--gan_loss=wgan_gp penalises D's gradient mask by mask, which batch "
                "normalisation in D makes meaningless: use --disc_norm=instance or none"
            )
        losses.adversarial(self.gan_loss, real_target=self.real_target)


def networks(
    config: Config, *, out_channels: int, axis_name: str | None = None
) -> Networks:
    """Builds the generator of `out_channels` classes and its discriminator."""
    common = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
    gen = MaskGenerator(out_channels, width=config.width, norm=config.norm, **common)
    disc = discriminator(
        config.discriminator,
        width=config.disc_width,
        norm=config.disc_norm or config.norm,
        **common,
    )
    return Networks(gen, disc)


def optimizers(config: Config) -> Optimizers:
    """Builds Adam for each player, at a constant rate."""
    rates = (config.learning_rate, config.disc_learning_rate or config.learning_rate)
    return Optimizers(*(optax.adam(rate, b1=config.beta1) for rate in rates))


def latent_shape(config: Config, *, size: int = 0) -> tuple[int, int, int]:
    """Returns the `(h, w, Z)` of masks of `size` pixels, those of training if 0."""
    side = (size or config.crop_size) // UPSAMPLING
    return side, side, config.latent_channels


def init(
    config: Config,
    networks: Networks,
    optimizers: Optimizers,
    key: jax.Array,
) -> GANState:
    """Draws the state of an untrained game.

    The key is consumed. Compile it (`jax.jit`): uncompiled it would run the networks.
    """
    gen_key, disc_key = jax.random.split(key)
    size, classes = config.crop_size, networks.gen.out_channels
    latent = jax.ShapeDtypeStruct((1, *latent_shape(config)), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, size, size, classes), jnp.float32)
    gen = init_player(networks.gen, optimizers.gen, gen_key, latent)
    disc = init_player(networks.disc, optimizers.disc, disc_key, mask)
    ema = gen.params if config.ema_decay > 0 else None
    return GANState(jnp.int32(0), gen, disc, ema=ema)


def make_train_step(
    gen: nn.Module,
    disc: nn.Module,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    gan: losses.Adversarial,
    latent_channels: int = 8,
    gradient_penalty: float = 0.0,
    mask_noise: float = 0.0,
    straight_through: bool = False,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> Callable:
    """Returns `train_step(state, batch, key) -> (state, metrics)`.

    `batch` holds real masks as "image" `[B, H, W, C]`. `key` is the same at every step;
    the step number is folded in, so that a resumed run repeats. Latents and noise
    depend on the example's place in the global batch only.

    D minimises gan.disc plus the weighted gradient penalty on the fake as data; then G
    answers the updated D with gan.gen. Unlike the paper, whose printed objective has
    the sign of a cross-entropy reversed. Under `jax.pmap` name its axis: gradients and
    metrics are averaged over it.
    """

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        real = batch["image"]
        size = real.shape[0]
        key = jax.random.fold_in(key, state.step)
        latent_key, real_key, fake_key, penalty_key = jax.random.split(key, 4)
        latent = draw_latents(
            example_keys(latent_key, size, axis_name),
            (real.shape[1] // UPSAMPLING, real.shape[2] // UPSAMPLING, latent_channels),
        )

        def generate(params):
            return train_apply(gen, params, state.gen.stats, latent)

        def disguise(mask, noise_key):
            if not mask_noise:
                return mask
            keys = example_keys(noise_key, size, axis_name)
            noise = jax.vmap(lambda k: jax.random.normal(k, mask.shape[1:]))(keys)
            return mask + mask_noise * noise

        def show(mask):
            mask = harden(mask) if straight_through else mask
            return disguise(mask, fake_key)

        def judge(params, stats, mask):
            return train_apply(disc, params, stats, mask)

        def penalty(params, stats, seen_fake):
            keys = example_keys(penalty_key, size, axis_name)
            judge_mask = lambda mask: judge(params, stats, mask)[0]  # noqa: E731
            return gradient_penalty * losses.gradient_penalty(
                judge_mask, seen_real, seen_fake, keys
            )

        seen_real = disguise(real, real_key)
        played = game.play(
            state,
            generate=generate,
            judge=judge,
            real=seen_real,
            gan=gan,
            gen_tx=gen_tx,
            disc_tx=disc_tx,
            show=show,
            penalty=penalty if gradient_penalty else None,
            ema_decay=ema_decay,
            axis_name=axis_name,
        )
        right = jnp.mean(played.real_logits > 0) + jnp.mean(played.fake_logits < 0)
        metrics = {
            **played.metrics,
            "disc_accuracy": right / 2,
            "confidence": jnp.mean(jnp.max(played.fake, axis=-1) + 1) / 2,
        }
        return played.state, all_reduce_mean(metrics, axis_name)

    return train_step


def draw_latents(keys: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Returns a latent `(h, w, Z)` for each of the keys `[B]`, which are consumed."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def harden(mask: jax.Array) -> jax.Array:
    """Returns the most likely class of each pixel, with the gradient of `mask`.

    Bengio et al., 2013, "Estimating or Propagating Gradients Through Stochastic
    Neurons", sec. 4: the straight-through estimator.
    """
    hard = 2.0 * jax.nn.one_hot(jnp.argmax(mask, axis=-1), mask.shape[-1]) - 1.0
    return mask + jax.lax.stop_gradient(hard - mask)


def generate(gen: nn.Module, variables: dict, latent: jax.Array) -> jax.Array:
    """Turns latents `[B, h, w, Z]` into masks `[B, 64 h, 64 w, C]` in [-1, 1].

    `variables` are `GANState.gen_variables`. The class of a pixel is its largest
    channel.
    """
    return gen.apply(variables, latent, train=False)


def make_prepare(config: Config, *, axis_name: str | None = None) -> Callable:
    """Returns `prepare(batch, key) -> batch`, from stored classes to the step's masks.

    A batch holds "image" `[B, H, W, C]`, 1 where a pixel is of a class and else 0.
    """

    def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        image = batch["image"]
        classes = image.shape[-1]
        batch = {"image": augment.decode(image, jnp.zeros(classes), jnp.ones(classes))}
        flip_key, crop_key = jax.random.split(key)
        keys = example_keys(flip_key, image.shape[0], axis_name)
        batch = augment.flip_and_rotate(
            batch, keys, flip=config.flip, rotate=config.rotate
        )
        keys = example_keys(crop_key, image.shape[0], axis_name)
        return augment.crop_and_resize(
            batch, keys, area=config.crop_area, one_hot=("image",)
        )

    return prepare
