"""Games to measure: every method that trains, on random images, as experiments do.

A game takes stored images, 8-bit numbers, which become floats on the device.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan import augment, losses
from jaxgan.methods import cyclegan, dcgan, pix2pix, progressive, srgan, supervised
from jaxgan.state import GANState, Player, example_keys
from jaxgan.training import parallel

Batch = dict[str, np.ndarray]

_STEPS = 1000  # of the learning rates' schedules


@dataclasses.dataclass(frozen=True)
class Game:
    """What is measured, at one image size, batch size and dtype."""

    config: Any
    init: Callable[[jax.Array], GANState]
    train_step: Callable  # made with axis_name=parallel.AXIS
    shapes: dict[str, tuple[int, ...]]  # of one example, by name
    latents: Callable[[jax.Array], jax.Array] | None = None  # of a step, from its key

    def draw(self, generator: np.random.Generator, batch_size: int) -> Batch:
        """Draws a batch as it would be stored."""
        return {
            name: generator.integers(0, 256, (batch_size, *shape), np.uint8)
            for name, shape in self.shapes.items()
        }


def prepare(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
    """Maps stored images to [-1, 1]."""
    del key
    low, high = jnp.zeros(1), jnp.full(1, 255.0)
    return {name: augment.decode(x, low, high) for name, x in batch.items()}


def make_pix2pix(**options: Any) -> Game:
    """Returns pix2pix without dropout, so that a peer can be held to its losses."""
    config = pix2pix.Config(dropout=0.0, **options)
    size = config.crop_size
    networks = pix2pix.networks(config, out_channels=1, axis_name=parallel.AXIS)
    optimizers = pix2pix.optimizers(config, steps=_STEPS)
    image = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    train_step = pix2pix.make_train_step(
        *networks,
        *optimizers,
        gan=losses.adversarial(config.gan_loss),
        l1_weight=config.l1_weight,
        remat=config.remat,
        axis_name=parallel.AXIS,
    )
    return Game(
        config,
        lambda key: pix2pix.init(networks, optimizers, key, image, image),
        train_step,
        dict.fromkeys(("source", "target"), (size, size, 1)),
    )


def make_cyclegan(**options: Any) -> Game:
    """Returns CycleGAN."""
    config = cyclegan.Config(**options)
    size = config.crop_size
    networks = cyclegan.networks(config, out_channels=1)
    optimizers = cyclegan.optimizers(config, steps=_STEPS)
    image = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    train_step = cyclegan.make_train_step(
        *networks,
        *optimizers,
        gan=losses.adversarial(config.gan_loss),
        cycle_weight=config.cycle_weight,
        identity_weight=config.identity_weight,
        remat=config.remat,
        axis_name=parallel.AXIS,
    )
    return Game(
        config,
        lambda key: cyclegan.init(config, networks, optimizers, key, image, image),
        train_step,
        dict.fromkeys(("source", "target"), (size, size, 1)),
    )


def make_srgan(**options: Any) -> Game:
    """Returns the adversarial stage of SRGAN, with pixels as its content."""
    config = srgan.Config(stage="adversarial", content="pixel", **options)
    networks = srgan.networks(config, out_channels=1, axis_name=parallel.AXIS)
    optimizers = srgan.optimizers(config, steps=_STEPS)
    train_step = srgan.make_train_step(
        *networks,
        *optimizers,
        content=srgan.content_loss(config.content, dtype=jnp.dtype(config.dtype)),
        gan=losses.adversarial(config.gan_loss),
        adversarial_weight=config.adversarial_weight,
        tv_weight=config.tv_weight,
        axis_name=parallel.AXIS,
    )
    size, small = config.crop_size, config.crop_size // config.scale
    return Game(
        config,
        lambda key: srgan.init(config, networks, optimizers, key, 1),
        train_step,
        {"source": (small, small, 1), "target": (size, size, 1)},
    )


def make_dcgan(**options: Any) -> Game:
    """Returns the DCGAN of electron micrographs."""
    config = dcgan.Config(**options)
    networks = dcgan.networks(config, out_channels=1, axis_name=parallel.AXIS)
    optimizers = dcgan.optimizers(config)
    train_step = dcgan.make_train_step(
        *networks,
        *optimizers,
        gan=losses.adversarial(config.gan_loss),
        latent_dim=config.latent_dim,
        axis_name=parallel.AXIS,
    )

    def latents(key: jax.Array) -> jax.Array:
        latent_key = jax.random.split(jax.random.fold_in(key, 0))[0]
        keys = example_keys(latent_key, config.batch_size, None)
        return dcgan.draw_latents(keys, config.latent_dim)

    return Game(
        config,
        functools.partial(dcgan.init, config, networks, optimizers, channels=1),
        train_step,
        {"image": (config.crop_size, config.crop_size, 1)},
        latents,
    )


def make_search(**options: Any) -> Game:
    """Returns Adam's step of the latent search, one restart for each example.

    Unlike in `methods.inversion` every restart has an image of its own, for the same
    work.
    """
    config = dcgan.Config(learning_rate=0.01, **options)
    gen = dcgan.networks(config, out_channels=1).gen
    tx = optax.adam(config.learning_rate)

    def init(key: jax.Array) -> GANState:
        latent_key, gen_key = jax.random.split(key)
        latents = dcgan.draw_latents(
            jax.random.split(latent_key, config.batch_size), config.latent_dim
        )
        variables = gen.init(gen_key, latents[:1], train=False)
        player = Player(latents, {}, tx.init(latents))
        return GANState(jnp.int32(0), player, None, extra=variables)

    def train_step(state: GANState, batch: dict[str, jax.Array], key: jax.Array):
        del key
        first, count = 0, batch["image"].shape[0]
        if count < config.batch_size:  # the latents of this device
            first = jax.lax.axis_index(parallel.AXIS) * count

        def loss_of(latents):
            mine = jax.lax.dynamic_slice_in_dim(
                jnp.clip(latents, -5.0, 5.0), first, count
            )

            def distance(latent, image):
                made = dcgan.generate(gen, state.extra, latent[None])[0]
                return jnp.mean(jnp.square(made - image))

            return jnp.sum(jax.vmap(distance)(mine, batch["image"]))

        loss, grads = jax.value_and_grad(loss_of)(state.gen.params)
        loss, grads = jax.lax.psum((loss, grads), parallel.AXIS)
        player = state.gen.update(grads, {}, tx)
        metrics = {"gen_loss": loss / config.batch_size}
        return state.replace(step=state.step + 1, gen=player), metrics

    size = config.crop_size
    return Game(config, init, train_step, {"image": (size, size, 1)})


def make_denoise(**options: Any) -> Game:
    """Returns the supervised denoiser."""
    config = supervised.Config(**options)
    networks = supervised.networks(config, out_channels=1, axis_name=parallel.AXIS)
    tx = supervised.optimizer(config, steps=_STEPS)
    train_step = supervised.make_train_step(
        networks.gen,
        tx,
        model=supervised.training_noise(config),
        axis_name=parallel.AXIS,
    )
    return Game(
        config,
        functools.partial(supervised.init, config, networks, tx),
        train_step,
        {"image": (config.crop_size, config.crop_size, 1)},
    )


def make_progressive(*, width: int, **options: Any) -> Game:
    """Returns PGGAN's last stage, without fading; `width` is of all wide layers."""
    config = progressive.Config(max_width=width, **options)
    networks = progressive.networks(config, out_channels=1, axis_name=parallel.AXIS)
    optimizers = progressive.optimizers(config)
    stage = progressive.Stage(config.crop_size, config.batch_size, 0, 0, _STEPS)
    train_step = progressive.make_train_step(
        *networks,
        *optimizers,
        stage=stage,
        latent_dim=config.latent_dim,
        gradient_penalty=config.gradient_penalty,
        drift=config.drift,
        ema_decay=config.ema_decay,
        axis_name=parallel.AXIS,
    )
    return Game(
        config,
        functools.partial(progressive.init, config, optimizers, channels=1),
        train_step,
        {"image": (config.crop_size, config.crop_size, 1)},
    )


GAMES: dict[str, Callable[..., Game]] = {
    "pix2pix": make_pix2pix,
    "cyclegan": make_cyclegan,
    "srgan": make_srgan,
    "dcgan": make_dcgan,
    "progressive": make_progressive,
    "search": make_search,
    "denoise": make_denoise,
}
