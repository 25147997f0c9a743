"""CycleGAN: image-to-image translation without pairs.

Zhu et al., 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks". `A` and `B` are two kinds of images, "source" and "target"
elsewhere in this package; images are `[B, H, W, C]` floats in [-1, 1], and the two
kinds may differ in C.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import augment, losses
from jaxgan.config import option
from jaxgan.methods import pix2pix, pools
from jaxgan.methods.pix2pix import DTYPES, Optimizers
from jaxgan.models.discriminators import DISCRIMINATORS, discriminator
from jaxgan.models.resnet import ResNetGenerator
from jaxgan.state import (
    GANState,
    Player,
    all_reduce_mean,
    example_keys,
    init_player,
    rematerialise,
    train_apply,
    update_ema,
)

# What needs no running statistics: two kinds of images would share them.
NORMS = ("instance", "instance_affine", "none")


@dataclasses.dataclass(frozen=True)
class Config:
    """Every number of the method; the defaults are the paper's."""

    crop_size: int = option(256, "side of the training crops, a multiple of 4 pixels")
    batch_size: int = option(1, "images of each kind per step, over all devices")
    width: int = option(64, "channels of the generators' first layer")
    num_blocks: int = option(9, "residual blocks of a generator; 6 for 128 pixels")
    norm: str = option("instance", "normalisation", choices=NORMS)
    discriminator: str = option("patch70", "what D sees", choices=DISCRIMINATORS)
    disc_width: int = option(0, "channels of D's first layer; 0: as --width")
    gan_loss: str = option("lsgan", "the game", choices=("lsgan", "vanilla", "hinge"))
    cycle_weight: float = option(10.0, "weight of the way there and back, L1")
    identity_weight: float = option(
        0.5, "of leaving alone what is of the kind already, times --cycle_weight"
    )
    pool_size: int = option(50, "earlier fakes of each kind that D is shown; 0: none")
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
        """Raises `ValueError` for what cannot train."""
        if self.crop_size % 4:
            raise ValueError(
                f"--crop_size={self.crop_size} does not divide by 4, as the generators "
                "halve images twice"
            )
        if self.pool_size < 0:
            raise ValueError(f"--pool_size={self.pool_size} is negative")


class Generators(NamedTuple):
    """The ways there and back."""

    ab: nn.Module
    ba: nn.Module


class Discriminators(NamedTuple):
    """Who tells real from fake, of either kind."""

    a: nn.Module
    b: nn.Module


class Networks(NamedTuple):
    """The two players, of two networks each."""

    gen: Generators
    disc: Discriminators


def networks(
    config: Config,
    *,
    out_channels: int,
    in_channels: int | None = None,
    axis_name: str | None = None,
) -> Networks:
    """Builds the networks between images of `in_channels` and of `out_channels`.

    Without `in_channels` both kinds have as many.
    """
    del axis_name  # nothing is normalised over a batch
    dtype = jnp.dtype(config.dtype)
    gen = [
        ResNetGenerator(
            channels,
            width=config.width,
            num_blocks=config.num_blocks,
            norm=config.norm,
            dtype=dtype,
        )
        for channels in (out_channels, in_channels or out_channels)
    ]
    disc = discriminator(
        config.discriminator,
        width=config.disc_width or config.width,
        norm=config.norm,
        dtype=dtype,
    )
    return Networks(Generators(*gen), Discriminators(disc, disc.clone()))


def optimizers(config: Config, *, steps: int, steps_per_epoch: int = 1) -> Optimizers:
    """Builds one Adam for both generators and one for both discriminators.

    Constant and then falling linearly to zero, as for pix2pix.
    """
    return pix2pix.optimizers(config, steps=steps, steps_per_epoch=steps_per_epoch)


def init(
    config: Config,
    networks: Networks,
    optimizers: Optimizers,
    key: jax.Array,
    source: jax.ShapeDtypeStruct,
    target: jax.ShapeDtypeStruct,
) -> GANState:
    """Draws the state of an untrained game for batches of these shapes.

    The key is consumed. Compile it (`jax.jit`): uncompiled it would run the networks.
    """
    images = {"a": source, "b": target}
    keys = dict(zip(("ab", "ba", "a", "b"), jax.random.split(key, 4), strict=True))
    gen = _join(
        {
            way: init_player(module, optimizers.gen, keys[way], images[way[0]])
            for way, module in networks.gen._asdict().items()
        },
        optimizers.gen,
    )
    disc = _join(
        {
            kind: init_player(module, optimizers.disc, keys[kind], images[kind])
            for kind, module in networks.disc._asdict().items()
        },
        optimizers.disc,
    )
    extra = None
    if config.pool_size:
        extra = {
            kind: pools.empty(config.pool_size, x.shape[1:])
            for kind, x in images.items()
        }
    ema = gen.params if config.ema_decay > 0 else None
    return GANState(jnp.int32(0), gen, disc, ema=ema, extra=extra)


def _join(parts: dict[str, Player], tx: optax.GradientTransformation) -> Player:
    params = {name: part.params for name, part in parts.items()}
    return Player(params, {}, tx.init(params))


def make_train_step(
    gen: Generators,
    disc: Discriminators,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    *,
    gan: losses.Adversarial,
    cycle_weight: float = 10.0,
    identity_weight: float = 0.5,
    ema_decay: float = 0.0,
    remat: bool = False,
    axis_name: str | None = None,
) -> Callable:
    """Returns `train_step(state, batch, key) -> (state, metrics)`.

    `batch` holds "source" (A) and "target" (B) images `[B, H, W, C]` in [-1, 1] that
    have nothing to do with each other. `key` is the same at every step; the step number
    is folded in, so that a resumed run repeats.

    Unlike elsewhere in this package G moves first, as published: against the
    discriminators as they are, with gan.gen + `cycle_weight` (|ba(ab(A)) - A| + |ab(
    ba(B)) - B| + `identity_weight` (|ab(B) - B| + |ba(A) - A|)) (eqs. 1-3 and
    sec. 5.2). Then each discriminator takes half of gan.disc, on what the pools in
    `state.extra` show it of the fakes of that same generator pass.

    Under `jax.pmap` name its axis: gradients and metrics are averaged over it, and the
    pools, equal on all devices, are updated from the fakes of all.
    """

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        real = {"a": batch["source"], "b": batch["target"]}
        if identity_weight and real["a"].shape[-1] != real["b"].shape[-1]:
            raise ValueError(
                "images of another kind with another number of channels "
                f"({real['a'].shape[-1]} and {real['b'].shape[-1]}) cannot be left "
                "alone: use --identity_weight=0"
            )
        key = jax.random.fold_in(key, state.step)

        def translate(params, way, *images):
            """Applies a generator to several batches in one pass, for speed."""

            def apply(params, joined):
                return train_apply(getattr(gen, way), params, {}, joined)[0]

            apply = rematerialise(apply) if remat else apply
            result = apply(params[way], jnp.concatenate(images))
            return jnp.split(result, len(images))

        def judge(params, kind, image):
            return train_apply(getattr(disc, kind), params[kind], {}, image)[0]

        def gen_loss(params):
            forth = {"ab": real["a"], "ba": real["b"]}
            alone = {"ab": real["b"], "ba": real["a"]}
            identity = jnp.float32(0)
            fake = {}
            for way in ("ab", "ba"):
                images = (forth[way], alone[way])[: 2 if identity_weight else 1]
                fake[way[1]], *same = translate(params, way, *images)
                if same:
                    identity += losses.l1(same[0], alone[way])
            cycle = losses.l1(*translate(params, "ba", fake["b"]), real["a"])
            cycle += losses.l1(*translate(params, "ab", fake["a"]), real["b"])
            adversarial = sum(
                gan.gen(judge(state.disc.params, kind, fake[kind])) for kind in fake
            )
            loss = adversarial + cycle_weight * (cycle + identity_weight * identity)
            return loss, (fake, adversarial, cycle, identity)

        def disc_loss(params):
            loss, logits = 0.0, {}
            for kind in ("a", "b"):
                real_logits = judge(params, kind, real[kind])
                fake_logits = judge(params, kind, shown[kind])
                loss += 0.5 * gan.disc(real_logits, fake_logits)
                logits[kind] = jnp.mean(real_logits), jnp.mean(fake_logits)
            return loss, logits

        (g_loss, (fake, *parts)), gen_grads = jax.value_and_grad(
            gen_loss, has_aux=True
        )(state.gen.params)
        gen_grads = all_reduce_mean(gen_grads, axis_name)
        gen_player = state.gen.update(gen_grads, {}, gen_tx)

        kept, shown = state.extra, fake
        if kept is not None:
            keys = dict(zip("ab", jax.random.split(key), strict=True))
            drawn = {
                kind: pools.draw_globally(kept[kind], fake[kind], keys[kind], axis_name)
                for kind in kept
            }
            kept, shown = ({k: x[i] for k, x in drawn.items()} for i in range(2))
        (d_loss, logits), disc_grads = jax.value_and_grad(disc_loss, has_aux=True)(
            state.disc.params
        )
        disc_grads = all_reduce_mean(disc_grads, axis_name)
        disc_player = state.disc.update(disc_grads, {}, disc_tx)

        metrics = {
            "disc_loss": d_loss,
            "gen_loss": g_loss,
            **dict(zip(("gen_adversarial", "cycle", "identity"), parts, strict=True)),
            "disc_real": (logits["a"][0] + logits["b"][0]) / 2,
            "disc_fake": (logits["a"][1] + logits["b"][1]) / 2,
        }
        ema = update_ema(state.ema, gen_player.params, state.step, decay=ema_decay)
        state = state.replace(
            step=state.step + 1, gen=gen_player, disc=disc_player, ema=ema, extra=kept
        )
        return state, all_reduce_mean(metrics, axis_name)

    return train_step


def generate(
    gen: Generators,
    variables: dict,
    source: jax.Array,
    *,
    direction: str = "ab",
    statistics: str = "image",
    key: jax.Array | None = None,
) -> jax.Array:
    """Translates images `[B, H, W, I]` into `[B, H, W, O]`, both in [-1, 1].

    `variables` are `GANState.gen_variables`; height and width divide by 4. `direction`
    is "ab" or "ba". The result is deterministic and always of each image's own
    statistics: `statistics` and `key` are there for those who call any method alike.
    """
    del statistics, key
    if direction not in ("ab", "ba"):
        raise ValueError(f"direction must be ab or ba, got {direction!r}")
    params = variables["params"][direction]
    return getattr(gen, direction).apply({"params": params}, source, train=False)


def size_multiple(config: Config) -> int:
    """Returns what height and width of an image must divide by to be translated."""
    del config
    return 4


def make_prepare(
    config: Config,
    *,
    low: dict[str, jax.Array],
    high: dict[str, jax.Array],
    axis_name: str | None = None,
) -> Callable:
    """Returns `prepare(batch, key) -> batch`, from stored images to the step's.

    `low` and `high` `[C]` are the stored values that become -1 and 1, by the names
    "source" and "target"; what lies beyond them, which a tanh cannot reach, is clipped.
    Each kind is flipped and cropped by itself.
    """

    def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        result = {}
        for kind, kind_key in zip(batch, jax.random.split(key), strict=True):
            image = augment.decode(batch[kind], low[kind], high[kind])
            one = {kind: jnp.clip(image, -1.0, 1.0)}
            flip_key, crop_key = jax.random.split(kind_key)
            keys = example_keys(flip_key, image.shape[0], axis_name)
            one = augment.flip_and_rotate(
                one, keys, flip=config.flip, rotate=config.rotate
            )
            keys = example_keys(crop_key, image.shape[0], axis_name)
            result |= augment.crop_and_resize(one, keys, area=config.crop_area)
        return result

    return prepare
