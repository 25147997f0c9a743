"""SRGAN: images on a finer grid, with the detail that such images tend to have.

Ledig et al., 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative
Adversarial Network". High-resolution images are `[B, H, W, C]` floats in [-1, 1], low-
resolution ones `[B, h, w, I]` with H = scale h. Unlike the paper, whose low-resolution
images lie in [0, 1], both have one range.

A run has one of two stages: "pretrain" minimises the content loss alone; "adversarial"
starts from its weights (`--init_from`) and adds the discriminator's verdict.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import augment, bicubic, layers, losses
from jaxgan.config import option
from jaxgan.methods.pix2pix import DTYPES, Optimizers
from jaxgan.models.features import VGG19, VGG_LAYERS
from jaxgan.models.srgan import HEADS, SCALES, SRDiscriminator, SRResNet
from jaxgan.state import (
    GANState,
    PyTree,
    all_reduce_mean,
    example_keys,
    init_player,
    train_apply,
    update_ema,
)

STAGES = ("pretrain", "adversarial")
CONTENTS = ("pixel", *VGG_LAYERS)

_VGG_SCALE = 1 / 12.75  # of feature maps (Ledig et al., sec. 3.2)


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the method; the defaults are the paper's."""

    stage: str = option("pretrain", "content loss alone, or the game", choices=STAGES)
    scale: int = option(4, "how much finer the new grid is: 2, 4 or 8")
    crop_size: int = option(96, "side of the fine training crops, in pixels")
    batch_size: int = option(16, "examples per step, over all devices together")
    width: int = option(64, "channels of the generator")
    num_blocks: int = option(16, "residual blocks of the generator")
    norm: str = option("batch", "normalisation", choices=layers.NORMS)
    disc_width: int = option(0, "channels of D's first layer; 0: as --width")
    disc_norm: str = option(
        "", "D's normalisation; empty: as --norm", choices=("", *layers.NORMS)
    )
    disc_head: str = option(
        "dense", "D's end: the paper's, or one that takes any size", choices=HEADS
    )
    content: str = option(
        "pixel",
        "squared error of pixels, or of VGG19's features (--vgg_weights)",
        choices=CONTENTS,
    )
    vgg_weights: str = option("", "safetensors file of VGG19, trained on ImageNet")
    gan_loss: str = option("vanilla", "the game", choices=losses.GAN_LOSSES[:3])
    adversarial_weight: float = option(1e-3, "of the game, beside a content loss of 1")
    tv_weight: float = option(0.0, "of the total variation; 2e-8 with vgg22")
    learning_rate: float = option(1e-4, "of Adam, at the start")
    disc_learning_rate: float = option(0.0, "D's; 0: as --learning_rate")
    beta1: float = option(0.9, "Adam's decay of the mean gradient")
    drop_fraction: float = option(
        0.5, "last part of the adversarial stage, at a tenth of the rate"
    )
    ema_decay: float = option(0.0, "of the average of G's weights (.999); 0: none")
    flip: str = option("horizontal", "random flips", choices=augment.FLIPS)
    rotate: bool = option(False, "random rotations by multiples of 90 degrees")
    dtype: str = option("float32", "of the arithmetic", choices=DTYPES)

    def __post_init__(self):
        """Raises `ValueError` for what cannot train."""
        if self.scale not in SCALES:
            raise ValueError(f"--scale={self.scale} is none of {SCALES}")
        if self.crop_size % self.scale:
            raise ValueError(
                f"--crop_size={self.crop_size} does not divide by --scale={self.scale}"
            )
        if self.vgg_weights and self.content == "pixel":
            raise ValueError("--vgg_weights goes with --content=vgg54 or vgg22")
        if not 0 <= self.drop_fraction <= 1:
            raise ValueError(f"--drop_fraction={self.drop_fraction} is not in [0, 1]")


class Networks(NamedTuple):
    """The players; no discriminator in the first stage."""

    gen: nn.Module
    disc: nn.Module | None


def networks(
    config: Config, *, out_channels: int, axis_name: str | None = None
) -> Networks:
    """Builds the generator and, for the second stage, the discriminator."""
    common = dict(dtype=jnp.dtype(config.dtype), axis_name=axis_name)
    gen = SRResNet(
        out_channels,
        width=config.width,
        num_blocks=config.num_blocks,
        scale=config.scale,
        norm=config.norm,
        **common,
    )
    disc = SRDiscriminator(
        width=config.disc_width or config.width,
        head=config.disc_head,
        norm=config.disc_norm or config.norm,
        **common,
    )
    return Networks(gen, disc if config.stage == "adversarial" else None)


def optimizers(config: Config, *, steps: int) -> Optimizers:
    """Builds Adam for each player: constant, in the second stage with a drop."""

    def adam(learning_rate: float) -> optax.GradientTransformation:
        if config.stage == "pretrain":
            return optax.adam(learning_rate, b1=config.beta1)
        drop = round(steps * (1 - config.drop_fraction))
        schedule = optax.piecewise_constant_schedule(learning_rate, {drop: 0.1})
        return optax.adam(schedule, b1=config.beta1)

    disc_learning_rate = config.disc_learning_rate or config.learning_rate
    return Optimizers(adam(config.learning_rate), adam(disc_learning_rate))


def init(
    config: Config,
    networks: Networks,
    optimizers: Optimizers,
    key: jax.Array,
    in_channels: int,
    *,
    features: PyTree = None,
) -> GANState:
    """Draws the state of an untrained game for crops of `config.crop_size`.

    `features` are the weights of the content loss (`models.features.load_vgg19`). They
    never change, but live in `GANState.extra`, so that a run cannot go on with others
    and 80 MB of constants stay out of compiled programs. The key is consumed.
    """
    gen_key, disc_key = jax.random.split(key)
    size, small = config.crop_size, config.crop_size // config.scale
    source = jax.ShapeDtypeStruct((1, small, small, in_channels), jnp.float32)
    shape = (1, size, size, networks.gen.out_channels)
    target = jax.ShapeDtypeStruct(shape, jnp.float32)
    gen = init_player(networks.gen, optimizers.gen, gen_key, source)
    disc = None
    if networks.disc is not None:
        disc = init_player(networks.disc, optimizers.disc, disc_key, target)
    ema = gen.params if config.ema_decay > 0 else None
    return GANState(jnp.int32(0), gen, disc, ema=ema, extra=features)


def content_loss(
    name: str, *, dtype: jnp.dtype = jnp.float32
) -> Callable[[PyTree, jax.Array, jax.Array], jax.Array]:
    """Returns `(features, prediction, target) -> loss` for one of `CONTENTS`.

    "pixel" is the mean squared error on [-1, 1] and needs no features; "vgg54" and
    "vgg22" are the distance of VGG19's feature maps, and of no others, over 12.75.
    """
    if name == "pixel":
        return lambda _, prediction, target: losses.mse(prediction, target)
    vgg = VGG19(layer=name, dtype=dtype)

    def distance(features: PyTree, prediction: jax.Array, target: jax.Array):
        maps = (
            _VGG_SCALE * vgg.apply({"params": features}, image)
            for image in (prediction, target)
        )
        return losses.feature_distance(*maps)

    return distance


def make_train_step(
    gen: nn.Module,
    disc: nn.Module | None,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    content: Callable[[PyTree, jax.Array, jax.Array], jax.Array],
    gan: losses.Adversarial | None = None,
    adversarial_weight: float = 1e-3,
    tv_weight: float = 0.0,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> Callable:
    """Returns `train_step(state, batch, key) -> (state, metrics)`.

    `batch` holds "source" `[B, h, w, I]` and "target" `[B, H, W, O]`. Nothing here is
    random: `key` is ignored.

    Without a discriminator G minimises `content` + `tv_weight` times the total
    variation. With one, D takes a step of gan.disc on the fake as data, and G answers
    the updated D with `adversarial_weight` gan.gen besides (Ledig et al., eqs. 2-6).
    Under `jax.pmap` name its axis: gradients and metrics are averaged over it.
    """

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        del key
        source, target = batch["source"], batch["target"]

        def generate(params):
            return train_apply(gen, params, state.gen.stats, source)

        def judge(params, stats, image):
            return train_apply(disc, params, stats, image)

        def disc_loss(params):
            # Two passes: with batch normalisation one pass over real and fake
            # together would be another algorithm.
            real_logits, stats = judge(params, state.disc.stats, target)
            fake_logits, stats = judge(params, stats, fake)
            return gan.disc(real_logits, fake_logits), (stats, real_logits, fake_logits)

        def gen_loss(fake):
            parts = {"content": content(state.extra, fake, target)}
            loss = parts["content"]
            if tv_weight:
                loss += tv_weight * losses.total_variation(fake)
            if disc is not None:
                logits, _ = judge(disc_player.params, disc_player.stats, fake)
                parts["gen_adversarial"] = gan.gen(logits)
                loss += adversarial_weight * parts["gen_adversarial"]
            return loss, parts

        # One generator pass serves both players: D takes `fake` as data, and G later
        # pulls its own gradient back through it.
        fake, pull_back, gen_stats = jax.vjp(generate, state.gen.params, has_aux=True)
        metrics, disc_player = {}, state.disc
        if disc is not None:
            (d_loss, (disc_stats, *logits)), disc_grads = jax.value_and_grad(
                disc_loss, has_aux=True
            )(state.disc.params)
            disc_grads = all_reduce_mean(disc_grads, axis_name)
            disc_player = state.disc.update(disc_grads, disc_stats, disc_tx)
            metrics = {
                "disc_loss": d_loss,
                "disc_real": jnp.mean(logits[0]),
                "disc_fake": jnp.mean(logits[1]),
            }
        (g_loss, parts), fake_grad = jax.value_and_grad(gen_loss, has_aux=True)(fake)
        gen_grads = all_reduce_mean(pull_back(fake_grad)[0], axis_name)
        gen_player = state.gen.update(gen_grads, gen_stats, gen_tx)

        metrics |= {"gen_loss": g_loss, **parts, "mse": losses.mse(fake, target)}
        ema = update_ema(state.ema, gen_player.params, state.step, decay=ema_decay)
        state = state.replace(
            step=state.step + 1, gen=gen_player, disc=disc_player, ema=ema
        )
        return state, all_reduce_mean(metrics, axis_name)

    return train_step


def generate(
    gen: nn.Module,
    variables: dict,
    source: jax.Array,
    *,
    statistics: str = "running",
    key: jax.Array | None = None,
) -> jax.Array:
    """Enlarges images `[B, h, w, I]` into `[B, scale h, scale w, O]`.

    `variables` are `GANState.gen_variables`. Batch normalisation uses the averages of
    training, or with `statistics` "image" those of each image; `key` is there for those
    who call any method alike. The output is linear and may leave [-1, 1].
    """
    del key
    if statistics not in ("image", "running"):
        raise ValueError(f"statistics must be image or running, got {statistics!r}")
    if gen.norm == "batch" and statistics == "image":
        gen = gen.clone(norm="instance_affine")
    return gen.apply(variables, source, train=False)


def size_multiple(config: Config) -> int:
    """Returns what height and width of an image must divide by to be enlarged."""
    del config
    return 1


def make_prepare(
    config: Config,
    *,
    low: dict[str, jax.Array],
    high: dict[str, jax.Array],
    axis_name: str | None = None,
) -> Callable:
    """Returns `prepare(batch, key) -> batch`, from stored images to the step's.

    `low` and `high` `[C]` are the stored values that become -1 and 1, by the names
    "source" and "target". A batch holds both, or "image" alone: then the target is that
    image and the source is made of it, bicubically.
    """

    def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        made = "image" in batch
        stored = {"target": batch["image"]} if made else batch
        batch = {k: augment.decode(x, low[k], high[k]) for k, x in stored.items()}
        keys = example_keys(key, batch["target"].shape[0], axis_name)
        batch = augment.flip_and_rotate(
            batch, keys, flip=config.flip, rotate=config.rotate
        )
        if made:
            source = bicubic.resize(batch["target"], factor=1 / config.scale)
            batch = {"source": source, **batch}
        return batch

    return prepare
