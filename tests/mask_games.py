"""The smallest mask GAN that can learn, for the tests of its step and of devices."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgan import losses
from jaxgan.methods import maskgan
from jaxgan.state import GANState
from tests import games

CONFIG = maskgan.Config(
    crop_size=64,
    batch_size=2,
    width=2,
    latent_channels=2,
    discriminator="pixel",
    disc_width=4,
)
CLASSES = 3


def make_game(
    *,
    config: maskgan.Config = CONFIG,
    gen_rate: float = 5.0,
    disc_rate: float = 0.3,
    **options: Any,
) -> tuple[Callable, GANState, dict[str, np.ndarray]]:
    """Returns `(train_step, state, batch)`; the step is compiled, for one trace only.

    `options` are `make_train_step`'s.
    """
    state = draw_state(config, gen_rate=gen_rate, disc_rate=disc_rate)
    step = games.compiled_once(make_step, config, **options)
    return step, state, draw_batch(config)


def make_step(
    config: maskgan.Config, *, axis_name: str | None = None, **options: Any
) -> Callable:
    """Returns the step of a game, not compiled."""
    players = {"gen_tx": games.TX, "disc_tx": games.TX}
    players = {name: options.pop(name, tx) for name, tx in players.items()}
    networks = maskgan.networks(config, out_channels=CLASSES, axis_name=axis_name)
    defaults = {"gan": losses.adversarial(config.gan_loss), "ema_decay": 0.9}
    return maskgan.make_train_step(
        *networks,
        *players.values(),
        latent_channels=config.latent_channels,
        axis_name=axis_name,
        **(defaults | options),
    )


def draw_state(
    config: maskgan.Config, *, gen_rate: float, disc_rate: float
) -> GANState:
    """Draws a game at step 0, with an average of the generator."""
    gen, disc = maskgan.networks(config, out_channels=CLASSES)
    latent = np.zeros((1, *maskgan.latent_shape(config)), np.float32)
    gen_player = games.draw_player(gen, latent, seed=1, rate=gen_rate)
    disc_player = games.draw_player(
        disc, draw_batch(config)["image"], seed=2, rate=disc_rate
    )
    return GANState(jnp.int32(0), gen_player, disc_player, ema=gen_player.params)


def draw_batch(config: maskgan.Config = CONFIG) -> dict[str, np.ndarray]:
    """Returns masks of slanted bands, in which class 0 is rare and class 2 common."""
    y, x = np.mgrid[: config.crop_size, : config.crop_size]
    shifts = 5 * np.arange(config.batch_size)[:, None, None]
    place = (y + 2 * x + shifts) % 24
    labels = np.digitize(place, [3, 9])
    return {
        "image": np.where(labels[..., None] == np.arange(3), 1.0, -1.0).astype("f4")
    }
