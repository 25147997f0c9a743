"""pix2pix: paired image-to-image translation with a conditional GAN.

Isola et al., 2017, "Image-to-Image Translation with Conditional Adversarial Networks".
Images are `[B, H, W, C]` floats in [-1, 1]; source and target may differ in C.
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
from jaxgan.models import unet
from jaxgan.models.discriminators import DISCRIMINATORS, discriminator
from jaxgan.state import (
    GANState,
    accumulate,
    all_reduce_mean,
    example_keys,
    init_player,
    rematerialise,
    train_apply,
)

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the method; the defaults are the paper's."""

    crop_size: int = option(256, "side of the training crops, in pixels")
    batch_size: int = option(1, "examples per step, over all devices together")
    width: int = option(64, "channels of the generator's first level")
    depth: int = option(0, "levels of the U-Net; 0: the most, up to 8, that divide")
    norm: str = option("batch", "normalisation", choices=layers.NORMS)
    dropout: float = option(0.5, "dropout rate in the decoder's inner levels")
    upsample: str = option(
        "transpose",
        "how the decoder doubles: transposed convolutions, or nearest and convolution",
        choices=unet.UPSAMPLINGS,
    )
    discriminator: str = option("patch70", "what D sees", choices=DISCRIMINATORS)
    disc_width: int = option(0, "channels of D's first layer; 0: as --width")
    disc_norm: str = option(
        "", "D's normalisation; empty: as --norm", choices=("", *layers.NORMS)
    )
    gan_loss: str = option("vanilla", "the game", choices=losses.GAN_LOSSES)
    real_target: float = option(1.0, "label of real images; .9 smooths (BCE only)")
    l1_weight: float = option(100.0, "weight of the mean absolute error")
    gradient_penalty: float = option(10.0, "weight of the penalty of wgan_gp")
    learning_rate: float = option(2e-4, "of Adam, at the start")
    disc_learning_rate: float = option(0.0, "D's; 0: as --learning_rate")
    beta1: float = option(0.5, "Adam's decay of the mean gradient")
    decay_fraction: float = option(0.5, "last part of the run, over which rates fall")
    ema_decay: float = option(0.0, "of the average of G's weights (.999); 0: none")
    flip: str = option("horizontal", "random flips", choices=augment.FLIPS)
    rotate: bool = option(False, "random rotations by multiples of 90 degrees")
    crop_area: float = option(1.0, "fraction of a crop's area kept, and resized back")
    dtype: str = option("float32", "of the arithmetic", choices=DTYPES)
    accumulate_steps: int = option(1, "steps whose mean gradient makes one move")
    remat: bool = option(
        False, "G computes all but convolutions twice, to need less memory"
    )

    def __post_init__(self):
        """Fills in the automatic depth; raises `ValueError` for what cannot train."""
        deepest = _deepest(self.crop_size)
        object.__setattr__(self, "depth", self.depth or deepest)
        if self.crop_size % 2**self.depth:
            raise ValueError(
                f"--crop_size={self.crop_size} does not divide by 2^depth = "
                f"{2**self.depth} (--depth={self.depth}): use --depth={deepest} or "
                "less, or another crop"
            )
        if self.gan_loss == "wgan_gp" and (self.disc_norm or self.norm) == "batch":
            raise ValueError(
                "--gan_loss=wgan_gp penalises D's gradient image by image, which batch "
                "normalisation in D makes meaningless: use --disc_norm=instance or none"
            )
        losses.adversarial(self.gan_loss, real_target=self.real_target)


def _deepest(crop_size: int) -> int:
    """Returns the most levels, from 1 to 8, that `crop_size` divides into."""
    return max([n for n in range(1, 9) if crop_size % 2**n == 0], default=1)


def networks(
    config: Config, *, out_channels: int, axis_name: str | None = None
) -> Networks:
    """Builds the generator and the discriminator that `config` describes."""
    common = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
    gen = unet.UNet(
        out_channels,
        width=config.width,
        depth=config.depth,
        norm=config.norm,
        dropout=config.dropout,
        upsample=config.upsample,
        **common,
    )
    disc = discriminator(
        config.discriminator,
        width=config.disc_width or config.width,
        norm=config.disc_norm or config.norm,
        **common,
    )
    return Networks(gen, disc)


def optimizers(config: Config, *, steps: int, steps_per_epoch: int = 1) -> Optimizers:
    """Builds Adam for each player, constant and then falling linearly to zero.

    With `steps_per_epoch` the rate changes once an epoch, as in the reference code.
    """
    epochs = max(1, steps // steps_per_epoch)
    if config.accumulate_steps > 1:  # schedules count moves
        steps_per_epoch = max(1, steps_per_epoch // config.accumulate_steps)
        epochs = max(1, steps // config.accumulate_steps // steps_per_epoch)
    falling = int(epochs * config.decay_fraction)

    def adam(learning_rate: float) -> optax.GradientTransformation:
        decay = optax.linear_schedule(learning_rate, 0.0, falling + 1)

        def schedule(step: jax.Array) -> jax.Array:
            return decay(step // steps_per_epoch + 1 - (epochs - falling))

        adam = optax.adam(schedule if falling else learning_rate, b1=config.beta1)
        return accumulate(adam, config.accumulate_steps)

    disc_learning_rate = config.disc_learning_rate or config.learning_rate
    return Optimizers(adam(config.learning_rate), adam(disc_learning_rate))


def init(
    networks: Networks,
    optimizers: Optimizers,
    key: jax.Array,
    source: jax.ShapeDtypeStruct,
    target: jax.ShapeDtypeStruct,
    *,
    ema: bool = False,
) -> GANState:
    """Draws the state of an untrained game for batches of these shapes.

    The key is consumed. Compile it (`jax.jit`): uncompiled it would run the networks.
    """
    gen_key, disc_key = jax.random.split(key)
    pair = jax.ShapeDtypeStruct(
        (*source.shape[:-1], source.shape[-1] + target.shape[-1]), source.dtype
    )
    gen = init_player(networks.gen, optimizers.gen, gen_key, source)
    disc = init_player(networks.disc, optimizers.disc, disc_key, pair)
    return GANState(jnp.int32(0), gen, disc, ema=gen.params if ema else None)


def make_train_step(
    gen: nn.Module,
    disc: nn.Module,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    gan: losses.Adversarial,
    l1_weight: float = 100.0,
    gradient_penalty: float = 0.0,
    disc_scale: float = 0.5,
    ema_decay: float = 0.0,
    remat: bool = False,
    axis_name: str | None = None,
) -> Callable:
    """Returns `train_step(state, batch, key) -> (state, metrics)`.

    `batch` holds "source" and "target" images `[B, H, W, C]` in [-1, 1]. `key` is the
    same at every step; the step number is folded in, so that a resumed run repeats.

    D minimises `disc_scale` (gan.disc) plus the weighted gradient penalty on the fake
    as data; then G answers the updated D with gan.gen + `l1_weight` L1 (Isola et al.,
    eqs. 1-4 and sec. 3.3). Under `jax.pmap` name its axis: gradients and metrics are
    averaged over it.
    """

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        source, target = batch["source"], batch["target"]
        key = jax.random.fold_in(key, state.step)
        dropout_key, penalty_key = jax.random.split(key)
        if axis_name is not None:
            device = jax.lax.axis_index(axis_name)
            dropout_key = jax.random.fold_in(dropout_key, device)

        def generate(params):
            return train_apply(gen, params, state.gen.stats, source, key=dropout_key)

        if remat:
            generate = rematerialise(generate)

        def judge(params, stats, image):
            pair = jnp.concatenate([source, image], axis=-1)
            return train_apply(disc, params, stats, pair)

        def penalty(params, stats, fake):
            keys = example_keys(penalty_key, source.shape[0], axis_name)
            pairs = [jnp.concatenate([source, x], axis=-1) for x in (target, fake)]
            judge_pair = lambda pair: train_apply(disc, params, stats, pair)[0]  # noqa: E731
            return gradient_penalty * losses.gradient_penalty(judge_pair, *pairs, keys)

        played = game.play(
            state,
            generate=generate,
            judge=judge,
            real=target,
            gan=gan,
            gen_tx=gen_tx,
            disc_tx=disc_tx,
            terms=lambda fake: {"l1": losses.l1(fake, target)},
            weights={"l1": l1_weight},
            penalty=penalty if gradient_penalty else None,
            disc_scale=disc_scale,
            ema_decay=ema_decay,
            axis_name=axis_name,
        )
        return played.state, all_reduce_mean(played.metrics, axis_name)

    return train_step


def generate(
    gen: nn.Module,
    variables: dict,
    source: jax.Array,
    *,
    statistics: str = "image",
    key: jax.Array | None = None,
) -> jax.Array:
    """Translates images `[B, H, W, I]` into `[B, H, W, O]`, both in [-1, 1].

    Args:
      gen: the generator that was trained.
      variables: `GANState.gen_variables`.
      source: height and width divide by the generator's 2^depth.
      statistics: what batch normalisation uses, "image": each image's own, as the
        paper does at batch size 1 (sec. 3.4), or "running": the averages of training.
        Other norms do not care.
      key: draws the dropout that the paper keeps at test time as its noise; consumed.
        Without a key the result is deterministic.
    """
    if statistics not in ("image", "running"):
        raise ValueError(f"statistics must be image or running, got {statistics!r}")
    if gen.norm == "batch" and statistics == "image":
        gen = gen.clone(norm="instance_affine")
    rngs = None if key is None else {"dropout": key}
    return gen.apply(variables, source, train=False, rngs=rngs)


def size_multiple(config: Config) -> int:
    """Returns what height and width of an image must divide by to be translated."""
    return 2**config.depth


def make_prepare(
    config: Config,
    *,
    low: dict[str, jax.Array],
    high: dict[str, jax.Array],
    one_hot: tuple[str, ...] = (),
    axis_name: str | None = None,
) -> Callable:
    """Returns `prepare(batch, key) -> batch`, from stored images to the step's.

    `low` and `high` `[C]` are the stored values that become -1 and 1, by the names
    "source" and "target"; targets beyond them, which a tanh cannot reach, are clipped.
    `one_hot` names what holds one class per pixel.
    """

    def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        batch = {k: augment.decode(x, low[k], high[k]) for k, x in batch.items()}
        batch["target"] = jnp.clip(batch["target"], -1.0, 1.0)
        flip_key, crop_key = jax.random.split(key)
        size = batch["source"].shape[0]
        keys = example_keys(flip_key, size, axis_name)
        batch = augment.flip_and_rotate(
            batch, keys, flip=config.flip, rotate=config.rotate
        )
        keys = example_keys(crop_key, size, axis_name)
        return augment.crop_and_resize(
            batch, keys, area=config.crop_area, one_hot=one_hot
        )

    return prepare
