"""MEGAN: large images from their edges, scale by scale, at the memory of a patch.

Uzunova et al., 2019, "Multi-scale GANs for Memory-efficient Generation of High
Resolution Medical Images". Images are `[B, H, W, C]` floats in [-1, 1], edges the same
with one channel. Scale 0 is the lowest; each one after it is twice as fine.

A run is a row of games, one for each scale. Training needs no scale but its own: what
a generator gets from the scale below is the real image, averaged. Only where images are
generated do scales take what the ones below them made.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import augment, losses
from jaxgan.config import option
from jaxgan.methods import game
from jaxgan.methods.game import Optimizers
from jaxgan.models import megan
from jaxgan.models.progressive import enlarge, shrink
from jaxgan.state import (
    GANState,
    Player,
    all_reduce_mean,
    example_keys,
    init_player,
    train_apply,
)

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the method; the defaults are those of the published code."""

    crop_size: int = option(1024, "side of the finest images, in pixels")
    num_scales: int = option(4, "scales; the lowest is crop_size / 2^(num_scales - 1)")
    patch_size: int = option(64, "side of the patches of the higher scales, in pixels")
    core_size: int = option(40, "pixels between patches where an image is put together")
    batch_size: int = option(1, "whole images per step at the lowest scale")
    patch_batch: int = option(20, "patches per step at the higher scales")
    low_steps: int = option(20_000, "training steps of the lowest scale")
    high_steps: int = option(20_000, "training steps of each higher one")
    edge_factor: int = option(1, "2: edges twice as fine at the lowest scale")
    edge_sigma: float = option(2**0.5, "blur before edges are looked for, in pixels")
    edge_noise: float = option(0.01, "standard deviation of noise on edges in training")
    width: int = option(64, "channels of a generator's first layer")
    disc_width: int = option(0, "channels of D's first layer; 0: as --width")
    num_blocks: int = option(6, "residual blocks of the higher scales' generators")
    low_dropout: float = option(0.2, "dropout rate of the lowest scale's generator")
    high_dropout: float = option(0.5, "dropout rate in the residual blocks")
    gan_loss: str = option("lsgan", "the game", choices=losses.GAN_LOSSES[:3])
    l1_weight: float = option(10.0, "weight of the mean absolute error")
    learning_rate: float = option(2e-4, "of Adam, for all players")
    beta1: float = option(0.5, "Adam's decay of the mean gradient")
    flip: str = option("horizontal", "random flips", choices=augment.FLIPS)
    rotate: bool = option(False, "random rotations by multiples of 90 degrees")
    dtype: str = option("float32", "of the arithmetic", choices=DTYPES)

    def __post_init__(self):
        """Raises `ValueError` for what cannot train."""
        factor = 2 ** (self.num_scales - 1)
        if self.num_scales < 1 or self.crop_size % (16 * factor):
            raise ValueError(
                f"--crop_size={self.crop_size} must divide by 16 times 2^(num_scales - "
                f"1), which is {16 * factor} for --num_scales={self.num_scales}"
            )
        if self.crop_size // factor < 32:
            raise ValueError(
                f"--crop_size={self.crop_size} leaves the lowest of {self.num_scales} "
                f"scales {self.crop_size // factor} pixels; it needs 32 (--num_scales)"
            )
        if self.edge_factor not in (1, 2):
            raise ValueError(f"--edge_factor={self.edge_factor} must be 1 or 2")
        if self.edge_factor == 2 and self.num_scales == 1:
            raise ValueError("--edge_factor=2 needs edges finer than a single scale's")
        if self.patch_size % 4 or self.patch_size < 28:
            raise ValueError(
                f"--patch_size={self.patch_size} must divide by 4 and be 28 or more"
            )
        if not 0 < self.core_size <= self.patch_size or self.core_size % 2:
            raise ValueError(
                f"--core_size={self.core_size} must be even and at most --patch_size="
                f"{self.patch_size}"
            )
        smallest = self.crop_size // factor * 2
        if self.num_scales > 1 and self.patch_size > smallest:
            raise ValueError(
                f"--patch_size={self.patch_size} exceeds the second scale's images of "
                f"{smallest} pixels"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The side of the training images at each scale, the lowest first."""
        return tuple(self.crop_size // 2**k for k in reversed(range(self.num_scales)))


class Networks(NamedTuple):
    """The players of one scale."""

    gen: nn.Module
    disc: nn.Module


def networks(
    config: Config, scale: int, *, out_channels: int, axis_name: str | None = None
) -> Networks:
    """Builds the generator and the discriminator of a scale."""
    dtype = jnp.dtype(config.dtype)
    common = dict(width=config.width, dtype=dtype)
    judge = dict(
        width=config.disc_width or config.width, dtype=dtype, axis_name=axis_name
    )
    if scale == 0:
        gen = megan.LowResGenerator(
            out_channels,
            edge_factor=config.edge_factor,
            dropout=config.low_dropout,
            **common,
        )
        return Networks(gen, megan.LowResDiscriminator(**judge))
    gen = megan.HighResGenerator(
        out_channels,
        num_blocks=config.num_blocks,
        dropout=config.high_dropout,
        **common,
    )
    return Networks(gen, megan.HighResDiscriminator(**judge))


def optimizers(config: Config) -> Optimizers:
    """Builds Adam for each player of a scale, at a constant rate."""
    adam = optax.adam(config.learning_rate, b1=config.beta1)
    return Optimizers(adam, adam)


def name_of(scale: int) -> str:
    """Returns the name of a scale in a state."""
    return f"scale{scale}"


def init(
    config: Config, optimizers: Optimizers, key: jax.Array, *, channels: int
) -> GANState:
    """Draws the state of all games, each player's parts by the names of the scales.

    The key is consumed. Compile it (`jax.jit`): uncompiled it would run the networks.
    """
    gens, discs = {}, {}
    for scale in range(config.num_scales):
        gen_key, disc_key = jax.random.split(jax.random.fold_in(key, scale))
        low = scale == 0
        size = config.sizes[0] if low else config.patch_size
        fine = size * config.edge_factor if low else size
        shape = (1, size, size, (1 if low else 1 + channels) + channels)
        given = (1, fine, fine, 1 if low else 1 + channels)
        inputs, shown = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (given, shape))
        gen, disc = networks(config, scale, out_channels=channels)
        gens[name_of(scale)] = init_player(gen, optimizers.gen, gen_key, inputs)
        discs[name_of(scale)] = init_player(disc, optimizers.disc, disc_key, shown)
    return GANState(jnp.int32(0), _gather(gens), _gather(discs))


def _gather(players: dict[str, Player]) -> Player:
    return Player(
        {name: player.params for name, player in players.items()},
        {name: player.stats for name, player in players.items()},
        {name: player.opt_state for name, player in players.items()},
    )


def _pick(player: Player, name: str) -> Player:
    return Player(player.params[name], player.stats[name], player.opt_state[name])


def _put(player: Player, name: str, part: Player) -> Player:
    return Player(
        {**player.params, name: part.params},
        {**player.stats, name: part.stats},
        {**player.opt_state, name: part.opt_state},
    )


def make_train_step(
    gen: nn.Module,
    disc: nn.Module,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    scale: int,
    gan: losses.Adversarial,
    l1_weight: float = 10.0,
    edge_noise: float = 0.0,
    axis_name: str | None = None,
) -> Callable:
    """Returns `train_step(state, batch, key) -> (state, metrics)` of one scale's game.

    `batch` holds edges as "source" `[B, H, W, 1]` (at scale 0 those that the generator
    takes, perhaps twice as fine) and images as "target" `[B, H, W, C]`: whole at scale
    0, patches above. `key` is the same at every step; the step number is folded in, so
    that a resumed run repeats.

    Of the scale below, G and D see the target averaged to half its size and enlarged
    again, of the same field of view. D minimises half of gan.disc; then G answers the
    updated D with gan.gen and `l1_weight` L1. Under `jax.pmap` name its axis: gradients
    and metrics are averaged over it.
    """
    name = name_of(scale)

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        target, size = batch["target"], batch["target"].shape[0]
        key = jax.random.fold_in(key, state.step)
        dropout_key, noise_key = jax.random.split(key)
        if axis_name is not None:
            device = jax.lax.axis_index(axis_name)
            dropout_key = jax.random.fold_in(dropout_key, device)
        edges = batch["source"]
        keys = example_keys(noise_key, size, axis_name)
        noise = jax.vmap(lambda k: jax.random.normal(k, edges.shape[1:]))(keys)
        edges = edges + edge_noise * noise
        below = enlarge(shrink(target)) if scale else None
        given = join(edges, below)
        shown = join(shrink(edges, factor=edges.shape[1] // target.shape[1]), below)

        def generate(params):
            return train_apply(gen, params, {}, given, key=dropout_key)

        def judge(params, stats, image):
            seen = jnp.concatenate([shown, image], axis=-1)
            return train_apply(disc, params, stats, seen)

        part = state.replace(gen=_pick(state.gen, name), disc=_pick(state.disc, name))
        played = game.play(
            part,
            generate=generate,
            judge=judge,
            real=target,
            gan=gan,
            gen_tx=gen_tx,
            disc_tx=disc_tx,
            terms=lambda fake: {"l1": losses.l1(fake, target)},
            weights={"l1": l1_weight},
            disc_scale=0.5,
            axis_name=axis_name,
        )
        state = played.state.replace(
            gen=_put(state.gen, name, played.state.gen),
            disc=_put(state.disc, name, played.state.disc),
        )
        return state, all_reduce_mean(played.metrics, axis_name)

    return train_step


def join(edges: jax.Array, below: jax.Array | None) -> jax.Array:
    """Returns what a generator takes: edges and, above scale 0, the scale below."""
    return edges if below is None else jnp.concatenate([edges, below], axis=-1)


def generate(
    gen: nn.Module, params: Any, edges: jax.Array, *, below: jax.Array | None = None
) -> jax.Array:
    """Makes images, or patches, of one scale.

    Args:
      gen: the generator of the scale.
      params: `GANState.gen.params[name_of(scale)]`.
      edges: `[B, H, W, 1]` in [-1, 1].
      below: `[B, H/2, W/2, C]` of the scale below; None at scale 0.
    """
    below = None if below is None else enlarge(below)
    return gen.apply({"params": params}, join(edges, below), train=False)


def make_prepare(
    config: Config,
    *,
    low: dict[str, jax.Array],
    high: dict[str, jax.Array],
    axis_name: str | None = None,
) -> Callable:
    """Returns `prepare(batch, key) -> batch`, from stored images to the step's.

    `low` and `high` `[C]` are the stored values that become -1 and 1, by the names
    "source" (edges) and "target". Edges of four channels are squares of 2x2 pixels of
    a finer grid, on which they are laid out.
    """

    def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        batch = {k: augment.decode(x, low[k], high[k]) for k, x in batch.items()}
        batch["target"] = jnp.clip(batch["target"], -1.0, 1.0)
        batch["source"] = unfold(batch["source"])
        keys = example_keys(key, batch["source"].shape[0], axis_name)
        return augment.flip_and_rotate(
            batch, keys, flip=config.flip, rotate=config.rotate
        )

    return prepare


def unfold(edges: jax.Array) -> jax.Array:
    """Lays out `[B, H, W, 4]` as `[B, 2H, 2W, 1]`; one channel stays as it is."""
    batch, height, width, channels = edges.shape
    if channels == 1:
        return edges
    squares = edges.reshape(batch, height, width, 2, 2).transpose(0, 1, 3, 2, 4)
    return squares.reshape(batch, 2 * height, 2 * width, 1)
