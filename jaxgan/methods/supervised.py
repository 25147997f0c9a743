"""Supervised denoising: a network learns to undo the noise that it is shown.

"Deep Denoising for Scientific Discovery: A Case Study in Electron Microscopy" (arXiv
2010.12970). Images are intensities `[B, H, W, C]`, mostly in [0, 1]; noise is drawn on
the device, anew for every step.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import augment, noise
from jaxgan.config import option
from jaxgan.models import denoiser
from jaxgan.state import (
    GANState,
    all_reduce_mean,
    example_keys,
    init_player,
    train_apply,
    update_ema,
)

NETWORKS = ("unet", "dncnn")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the method; the defaults are the paper's smaller U-Net."""

    crop_size: int = option(400, "side of the training crops, in pixels")
    batch_size: int = option(8, "examples per step, over all devices together")
    network: str = option("unet", "what denoises", choices=NETWORKS)
    scales: int = option(4, "poolings of the U-Net, 4 or 6")
    depth: int = option(20, "layers of DnCNN")
    width: int = option(128, "channels of the outer levels (DnCNN: 64)")
    bias: bool = option(True, "with biases; without: f(a x) = a f(x)")
    noise: str = option("poisson:1", "of training: poisson:COUNTS or gaussian:SIGMA")
    clip: bool = option(False, "whether training counts above the level saturate")
    learning_rate: float = option(1e-3, "of Adam, at the start")
    decay_fraction: float = option(1.0, "last part of the run, over which it falls")
    ema_decay: float = option(0.0, "of the average of the weights (.999); 0: none")
    flip: str = option("both", "random flips", choices=augment.FLIPS)
    rotate: bool = option(True, "random rotations by multiples of 90 degrees")
    dtype: str = option("float32", "of the arithmetic", choices=DTYPES)

    def __post_init__(self):
        """Raises `ValueError` for what cannot train."""
        if self.scales not in (4, 6):
            raise ValueError(f"--scales={self.scales} must be 4 or 6")
        try:
            kind = noise.parse(self.noise).kind
        except ValueError as error:
            raise ValueError(f"--noise: {error}") from error
        if kind == "none":
            raise ValueError("--noise=none leaves nothing to learn")
        if self.network == "unet" and self.crop_size < 2**self.scales:
            raise ValueError(
                f"--crop_size={self.crop_size} is below the {2**self.scales} pixels of "
                f"--scales={self.scales}"
            )


class Networks(NamedTuple):
    """The one player."""

    gen: nn.Module


def networks(
    config: Config, *, out_channels: int, axis_name: str | None = None
) -> Networks:
    """Builds the network that `config` describes."""
    common = dict(
        width=config.width,
        bias=config.bias,
        out_channels=out_channels,
        dtype=jnp.dtype(config.dtype),
        axis_name=axis_name,
    )
    if config.network == "dncnn":
        return Networks(denoiser.DnCNN(config.depth, **common))
    return Networks(denoiser.UNet(config.scales, **common))


def optimizer(config: Config, *, steps: int) -> optax.GradientTransformation:
    """Builds Adam.

    Unlike the paper's, whose rate halves on a plateau of the validation PSNR, its rate
    falls to zero as a cosine: the schedule is a function of the step alone.
    """
    falling = int(steps * config.decay_fraction)
    if not falling:
        return optax.adam(config.learning_rate)
    decay = optax.cosine_decay_schedule(config.learning_rate, falling)
    return optax.adam(lambda step: decay(step - (steps - falling)))


def training_noise(config: Config) -> noise.Noise:
    """Returns the noise that `config` trains on."""
    return noise.parse(config.noise, clip=config.clip)


def init(
    config: Config,
    networks: Networks,
    tx: optax.GradientTransformation,
    key: jax.Array,
) -> GANState:
    """Draws an untrained state; there is no discriminator. The key is consumed."""
    size = config.crop_size
    shape = (1, size, size, networks.gen.out_channels)
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    gen = init_player(networks.gen, tx, key, image)
    ema = gen.params if config.ema_decay > 0 else None
    return GANState(jnp.int32(0), gen, None, ema=ema)


def make_train_step(
    gen: nn.Module,
    tx: optax.GradientTransformation,
    *,
    model: noise.Noise,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> Callable:
    """Returns `train_step(state, batch, key) -> (state, metrics)`.

    `batch` holds clean intensities as "image" `[B, H, W, C]`. `key` is the same at
    every step; the step number is folded in. The loss is the mean squared error. Unlike
    the reference, whose sum over pixels is another only in scale, to which Adam is
    blind, and whose images are counts: here they are counts over the level.
    """

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        image = batch["image"]
        key = jax.random.fold_in(key, state.step)
        keys = example_keys(key, image.shape[0], axis_name)
        noisy = jax.vmap(lambda x, k: noise.add(x, k, model))(image, keys)

        def loss_of(params):
            clean, stats = train_apply(gen, params, state.gen.stats, noisy)
            return jnp.mean(jnp.square(clean - image)), stats

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.gen.params
        )
        player = state.gen.update(all_reduce_mean(grads, axis_name), stats, tx)
        metrics = {"gen_loss": loss, "noise": jnp.mean(jnp.square(noisy - image))}
        ema = update_ema(state.ema, player.params, state.step, decay=ema_decay)
        state = state.replace(step=state.step + 1, gen=player, ema=ema)
        return state, all_reduce_mean(metrics, axis_name)

    return train_step


def denoise(gen: nn.Module, variables: dict, image: jax.Array) -> jax.Array:
    """Denoises intensities `[B, H, W, C]`; `variables` are `GANState.gen_variables`."""
    return gen.apply(variables, image, train=False)


def generate(
    gen: nn.Module,
    variables: dict,
    source: jax.Array,
    *,
    statistics: str = "running",
    key: jax.Array | None = None,
) -> jax.Array:
    """Denoises images `[B, H, W, C]` whose intensities 0 and 1 are -1 and 1.

    The statistics of normalisation are those of training, and nothing is drawn from
    `key`: denoisers have no other ways.
    """
    if statistics != "running":
        raise ValueError(
            f"a denoiser normalises by its running statistics, not {statistics!r}"
        )
    del key
    return 2 * denoise(gen, variables, (source + 1) / 2) - 1


def size_multiple(config: Config) -> int:
    """Returns what height and width of an image must divide by to be denoised."""
    return 2**config.scales if config.network == "unet" else 1


def make_prepare(
    config: Config,
    *,
    low: jax.Array,
    high: jax.Array,
    axis_name: str | None = None,
) -> Callable:
    """Returns `prepare(batch, key) -> batch`, from stored images to intensities.

    `low` and `high` `[C]` are the stored values of intensities 0 and 1.
    """

    def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        image = (augment.decode(batch["image"], low, high) + 1) / 2
        keys = example_keys(key, image.shape[0], axis_name)
        return augment.flip_and_rotate(
            {"image": image}, keys, flip=config.flip, rotate=config.rotate
        )

    return prepare
