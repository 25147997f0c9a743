"""The smallest pix2pix that can learn, for the tests of its step and of devices.

Weights are drawn by numpy: compiling JAX's random numbers takes longer than a test.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from jaxgan import losses
from jaxgan.methods import pix2pix
from jaxgan.state import GANState, Player

# SGD whose rate is part of the state, so that one compiled step serves every rate.
TX = optax.inject_hyperparams(optax.sgd)(learning_rate=0.0)

CONFIG = pix2pix.Config(
    crop_size=16, batch_size=2, width=4, depth=2, discriminator="patch16"
)
GAME = {"l1_weight": 10.0, "ema_decay": 0.9}


@pytest.fixture(autouse=True, scope="module")
def full_optimisation():
    """Compiles a module's programs as in use: import it, and it is so.

    Unoptimised sums run over one number after the other, with ten times the rounding.
    """
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


_programs: dict[Any, Callable] = {}


def compiled_once(make_step: Callable[..., Callable], *args: Any, **options: Any):
    """Returns `make_step(*args, **options)` compiled, the same for equal arguments.

    It may be traced once only. All arguments are hashable.
    """
    name = (make_step, args, tuple(sorted(options.items())))
    if name not in _programs:
        chex.clear_trace_counter()  # it counts by name, and each game's step is another
        step = make_step(*args, **options)
        _programs[name] = jax.jit(chex.assert_max_traces(step, n=1))
    return _programs[name]


def forget_programs() -> None:
    """Drops every compiled program of this process."""
    _programs.clear()
    jax.clear_caches()


def make_game(
    *,
    config: pix2pix.Config = CONFIG,
    gen_rate: float = 0.05,
    disc_rate: float = 0.05,
    gan: losses.Adversarial | None = None,
    **options: Any,
) -> tuple[Callable, GANState, dict[str, np.ndarray]]:
    """Returns `(train_step, state, batch)`; the step is compiled, for one trace only.

    `options` are `make_train_step`'s, over `GAME`. Games that differ in their rates or
    weights only share one compiled step.
    """
    train_step = compiled_once(make_step, config, gan=gan, **(GAME | options))
    state = draw_state(config, gen_rate=gen_rate, disc_rate=disc_rate)
    return train_step, state, draw_batch(config)


def networks(config: pix2pix.Config = CONFIG, **options: Any) -> pix2pix.Networks:
    """Returns the players, from one source channel to two target channels."""
    return pix2pix.networks(config, out_channels=2, **options)


def make_step(
    config: pix2pix.Config,
    *,
    gan: losses.Adversarial | None = None,
    axis_name: str | None = None,
    **options: Any,
) -> Callable:
    """Returns the step of a game, not compiled."""
    return pix2pix.make_train_step(
        *networks(config, axis_name=axis_name),
        TX,
        TX,
        gan=gan or losses.adversarial(config.gan_loss),
        axis_name=axis_name,
        **options,
    )


def draw_state(
    config: pix2pix.Config, *, gen_rate: float, disc_rate: float
) -> GANState:
    """Draws a game at step 0, with an average of the generator."""
    gen, disc = networks(config)
    source, target = draw_batch(config).values()
    pair = np.concatenate([source, target], axis=-1)
    gen_player = draw_player(gen, source, seed=1, rate=gen_rate)
    disc_player = draw_player(disc, pair, seed=2, rate=disc_rate)
    return GANState(np.int32(0), gen_player, disc_player, ema=gen_player.params)


def draw_player(
    module: nn.Module, *inputs: np.ndarray, seed: int, rate: float
) -> Player:
    """Draws a player whose SGD has the given rate."""
    variables = draw_variables(module, *inputs, seed=seed, train=False)
    opt_state = TX.init(variables["params"])
    opt_state = opt_state._replace(hyperparams={"learning_rate": np.float32(rate)})
    return Player(variables["params"], variables.get("batch_stats", {}), opt_state)


def draw_variables(
    module: nn.Module, *inputs: np.ndarray, seed: int = 0, **options: Any
) -> Any:
    """Draws weights that keep the size of features, and stats of mean 0, variance 1.

    `options` are the module's, such as `train=False`.
    """
    generator = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if path[0].key == "batch_stats":
            return np.full(leaf.shape, name == "var", leaf.dtype)
        noise = generator.standard_normal(leaf.shape)
        if name == "kernel":
            return (noise / np.sqrt(leaf.size / leaf.shape[-1])).astype(leaf.dtype)
        return (float(name == "scale") + 0.1 * noise).astype(leaf.dtype)

    init = functools.partial(module.init, **options)
    return jax.tree_util.tree_map_with_path(
        draw, jax.eval_shape(init, jax.random.key(0), *inputs)
    )


def draw_batch(config: pix2pix.Config = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws sources of one channel and smooth targets of two, which depend on them."""
    generator = np.random.default_rng(seed)
    shape = (config.batch_size, config.crop_size, config.crop_size, 1)
    source = generator.uniform(-1, 1, shape)
    target = [np.roll(source, 1, axis=1), 0.8 * np.tanh(2 * source + 0.3)]
    target = np.concatenate(target, axis=-1)
    return {"source": source.astype(np.float32), "target": target.astype(np.float32)}
