"""PGGAN: images from noise, learned from coarse to fine.

Karras et al., 2018, "Progressive Growing of GANs for Improved Quality, Stability, and
Variation". Images are `[B, S, S, C]` floats in [-1, 1], latents `[B, d]` of N(0, 1).

A run is a row of stages, one for each resolution. The state always holds the whole
networks, of the last resolution: a stage uses, and moves, the part that it needs.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgan import augment, losses
from jaxgan.config import option
from jaxgan.methods import dcgan, game
from jaxgan.methods.game import Optimizers
from jaxgan.models import progressive
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
    """Every number of the method; the defaults are the paper's."""

    crop_size: int = option(256, "side of the finished images: 4, 8, ... 1024 pixels")
    batch_size: int = option(16, "examples per step, over all devices together")
    batch_sizes: str = option(
        "256:14,512:6,1024:3", "other batch sizes, as RESOLUTION:EXAMPLES by commas"
    )
    first_images: int = option(600_000, "real images that the 4x4 stage sees")
    fade_images: int = option(600_000, "images over which a new block is faded in")
    stable_images: int = option(600_000, "images after that, at each resolution")
    latent_dim: int = option(512, "length of the latent")
    base_width: int = option(8192, "channels at a resolution R: 2 of this / R, at most")
    max_width: int = option(512, "channels that a layer has at most")
    learning_rate: float = option(1e-3, "of Adam, for both players")
    beta1: float = option(0.0, "Adam's decay of the mean gradient")
    beta2: float = option(0.99, "Adam's decay of the mean square")
    gradient_penalty: float = option(10.0, "weight of the critic's penalty")
    drift: float = option(1e-3, "weight of D's squared verdicts on real images")
    ema_decay: float = option(0.999, "of the average of G's weights; 0: none")
    flip: str = option("none", "random flips", choices=augment.FLIPS)
    rotate: bool = option(False, "random rotations by multiples of 90 degrees")
    dtype: str = option("float32", "of the arithmetic", choices=DTYPES)

    def __post_init__(self):
        """Raises `ValueError` for what cannot train."""
        try:
            progressive.resolutions(self.crop_size)
        except ValueError as error:
            raise ValueError(f"--crop_size={self.crop_size}: {error}") from error
        counts = self.batch_size, self.first_images, self.stable_images
        if min(counts) < 1 or self.fade_images < 0:
            raise ValueError("batches and stages need one image or more")
        parse_batch_sizes(self.batch_sizes)


class Stage(NamedTuple):
    """One resolution of a run; what a program is compiled for."""

    resolution: int  # pixels
    batch_size: int
    first_step: int  # of the run
    fade_steps: int  # over which alpha goes from 0 to 1; 0: no fade
    last_step: int  # the steps that the run has behind it when the stage ends

    def alpha(self, step: jax.Array | int) -> jax.Array:
        """Returns how far the newest block is faded in at a step of the run, []."""
        if not self.fade_steps:
            return jnp.float32(1)
        return jnp.clip((step - self.first_step) / self.fade_steps, 0.0, 1.0)


def parse_batch_sizes(text: str) -> dict[int, int]:
    """Reads `256:14,512:6`; raises `ValueError` for anything else."""
    found = {}
    for part in filter(None, text.split(",")):
        resolution, colon, count = part.partition(":")
        if not (colon and resolution.isdigit() and count.isdigit() and int(count)):
            raise ValueError(
                f"--batch_sizes={text}: expected RESOLUTION:EXAMPLES by commas"
            )
        found[int(resolution)] = int(count)
    return found


def stages(config: Config) -> list[Stage]:
    """Returns the stages of a run; steps are as many as reach their images."""
    sizes = parse_batch_sizes(config.batch_sizes)
    found, step = [], 0
    for resolution in progressive.resolutions(config.crop_size):
        batch_size = sizes.get(resolution, config.batch_size)
        first = resolution == progressive.FIRST
        fade = 0 if first else -(-config.fade_images // batch_size)
        images = config.first_images if first else config.stable_images
        last = step + fade + -(-images // batch_size)
        found.append(Stage(resolution, batch_size, step, fade, last))
        step = last
    return found


class Networks(NamedTuple):
    """The two players at one resolution."""

    gen: progressive.Generator
    disc: progressive.Discriminator


def networks(
    config: Config,
    *,
    out_channels: int,
    resolution: int = 0,
    axis_name: str | None = None,
) -> Networks:
    """Builds the players of a resolution, 0 for the last."""
    common = dict(
        base_width=config.base_width,
        max_width=config.max_width,
        dtype=jnp.dtype(config.dtype),
        axis_name=axis_name,
    )
    resolution = resolution or config.crop_size
    return Networks(
        progressive.Generator(resolution, out_channels, **common),
        progressive.Discriminator(resolution, **common),
    )


def optimizers(config: Config) -> Optimizers:
    """Builds Adam for each player, at a constant rate."""
    adam = optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)
    return Optimizers(adam, adam)


def init(
    config: Config,
    optimizers: Optimizers,
    key: jax.Array,
    *,
    channels: int,
) -> GANState:
    """Draws the state of an untrained game, the networks of the last resolution.

    The key is consumed. Compile it (`jax.jit`): uncompiled it would run the networks.
    """
    gen_key, disc_key = jax.random.split(key)
    size = config.crop_size
    gen, disc = networks(config, out_channels=channels)
    latent = jax.ShapeDtypeStruct((1, config.latent_dim), jnp.float32)
    image = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    alpha = jax.ShapeDtypeStruct((), jnp.float32)
    gen = init_player(gen, optimizers.gen, gen_key, latent, alpha)
    disc = init_player(disc, optimizers.disc, disc_key, image, alpha)
    ema = gen.params if config.ema_decay > 0 else None
    return GANState(jnp.int32(0), gen, disc, ema=ema)


def make_train_step(
    gen: progressive.Generator,
    disc: progressive.Discriminator,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    stage: Stage,
    latent_dim: int,
    gradient_penalty: float = 10.0,
    drift: float = 1e-3,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> Callable:
    """Returns `train_step(state, batch, key) -> (state, metrics)` of one stage.

    `batch` holds real images as "image" `[B, R, R, C]`, which the step fades as the
    generator's are (appendix A). `key` is the same at every step; the step number is
    folded in, so that a resumed run repeats, and it alone says how far the fade is.

    D minimises the Wasserstein loss with drift and the penalty on its gradient; then G
    answers the updated D. Both optimisers start anew at the first step of the stage, as
    in the reference code. Under `jax.pmap` name its axis: gradients and metrics are
    averaged, and the deviation of a minibatch is that of the whole.
    """
    gan = losses.wasserstein(drift=drift)

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        state = _fresh_at(stage.first_step, state, gen_tx, disc_tx)
        alpha = stage.alpha(state.step)
        real, size = fade_real(batch["image"], alpha), batch["image"].shape[0]
        key = jax.random.fold_in(key, state.step)
        latent_key, penalty_key = jax.random.split(key)
        keys = example_keys(latent_key, size, axis_name)
        latent = dcgan.draw_latents(keys, latent_dim)

        def generate(params):
            return train_apply(gen, params, state.gen.stats, latent, alpha)

        def judge(params, stats, image):
            return train_apply(disc, params, stats, image, alpha)

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
        metrics = {**played.metrics, "alpha": alpha}
        return played.state, all_reduce_mean(metrics, axis_name)

    return train_step


def _fresh_at(
    step: int,
    state: GANState,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
) -> GANState:
    """Forgets what the optimisers know, if the state is at this very step."""

    def renew(player: Player, tx: optax.GradientTransformation) -> Player:
        opt_state = jax.lax.cond(
            state.step == step,
            lambda: tx.init(player.params),
            lambda: player.opt_state,
        )
        return player.replace(opt_state=opt_state)

    return state.replace(gen=renew(state.gen, gen_tx), disc=renew(state.disc, disc_tx))


def fade_real(image: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """Returns images `[B, R, R, C]` as coarse as a generator at `alpha` makes them."""
    coarse = progressive.enlarge(progressive.shrink(image))
    return progressive.fade(coarse, image, alpha)


def generate(
    gen: progressive.Generator,
    variables: dict,
    latent: jax.Array,
    *,
    alpha: jax.Array | float = 1.0,
) -> jax.Array:
    """Turns latents `[B, d]` into images `[B, R, R, C]`, clipped to [-1, 1].

    `variables` are `GANState.gen_variables`, of this resolution or a higher one.
    """
    return jnp.clip(gen.apply(variables, latent, alpha, train=False), -1.0, 1.0)


def make_prepare(
    config: Config,
    *,
    low: jax.Array,
    high: jax.Array,
    resolution: int = 0,
    axis_name: str | None = None,
) -> Callable:
    """Returns `prepare(batch, key) -> batch`, from stored images to a stage's.

    `low` and `high` `[C]` are the stored values that become -1 and 1; values beyond are
    clipped. Crops of the last resolution shrink to that of the stage by means.
    """
    factor = config.crop_size // (resolution or config.crop_size)

    def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        image = jnp.clip(augment.decode(batch["image"], low, high), -1.0, 1.0)
        image = progressive.shrink(image, factor=factor)
        keys = example_keys(key, image.shape[0], axis_name)
        return augment.flip_and_rotate(
            {"image": image}, keys, flip=config.flip, rotate=config.rotate
        )

    return prepare
