"""The state of a two-player game, and how a network is trained or initialised in it.

`B` denotes the batch dimension. Everything here is a pytree of arrays, so that a
checkpoint, `jax.pmap` and `jax.lax.scan` all take the state as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxgan import convolution

Params = Any  # nested dict of parameter arrays
PyTree = Any


@flax.struct.dataclass
class Player:
    """One side of the game; `params` may hold one network or a dict of several."""

    params: Params
    stats: Params  # flax `batch_stats`, `{}` if the network keeps none
    opt_state: optax.OptState

    def update(
        self, grads: Params, stats: Params, tx: optax.GradientTransformation
    ) -> Player:
        """Returns this player one optimiser step later."""
        updates, opt_state = tx.update(grads, self.opt_state, self.params)
        return Player(optax.apply_updates(self.params, updates), stats, opt_state)


@flax.struct.dataclass
class GANState:
    """Everything that training changes, and so all that a checkpoint holds."""

    step: jax.Array  # int32 [], steps completed
    gen: Player
    disc: Player | None  # None: supervised training, no game
    ema: Params | None = None  # moving average of gen.params, where a method keeps one
    extra: PyTree = None  # what else a method carries (CycleGAN: the image pools)

    @property
    def gen_variables(self) -> dict[str, Params]:
        """What the generator is applied with: its average, if one is kept."""
        params = self.gen.params if self.ema is None else self.ema
        return {"params": params, "batch_stats": self.gen.stats}


def init_player(
    module: nn.Module,
    tx: optax.GradientTransformation,
    key: jax.Array,
    *inputs: jax.Array | jax.ShapeDtypeStruct,
) -> Player:
    """Draws a network's parameters; only the shapes of `inputs` count.

    The key is consumed. Nothing is computed on the inputs, so that initialising a
    network costs no forward pass. The caller compiles (`jax.jit`).
    """
    zeros = [jnp.zeros(x.shape, x.dtype) for x in inputs]
    variables = module.init(key, *zeros, train=False)
    params = variables["params"]
    return Player(params, variables.get("batch_stats", {}), tx.init(params))


def train_apply(
    module: nn.Module,
    params: Params,
    stats: Params,
    *inputs: jax.Array,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Params]:
    """Applies a network in training mode and returns `(output, new_stats)`.

    The only place that spells `mutable=["batch_stats"]`. `key` feeds dropout and is
    consumed; a network with dropout raises without it.
    """
    output, updates = module.apply(
        {"params": params, "batch_stats": stats},
        *inputs,
        train=True,
        mutable=["batch_stats"],
        rngs=None if key is None else {"dropout": key},
    )
    return output, updates.get("batch_stats", {})


def accumulate(
    tx: optax.GradientTransformation, steps: int
) -> optax.GradientTransformation:
    """Returns an optimiser that moves at every `steps`-th step, by the mean gradient.

    Schedules count moves. Statistics of batch normalisation remain those of the single
    steps' batches.
    """
    return tx if steps == 1 else optax.MultiSteps(tx, steps).gradient_transformation()


def rematerialise(apply: Callable) -> Callable:
    """Returns `apply`, whose gradient remembers convolutions' results alone.

    What lies between them (norms, activations, concatenations) is computed again on the
    way back: less memory, hardly more time.
    """
    return jax.checkpoint(apply, policy=convolution.is_convolution)


def update_ema(ema: Params | None, params: Params, step: jax.Array, *, decay: float):
    """Moves a parameter average towards `params`, faster while the run is young.

    The decay is min(`decay`, (1 + step) / (10 + step)): at a constant .999 the initial
    weights would still count 61 % after 500 steps. None stays None.
    """
    if ema is None:
        return None
    warm = (1.0 + step) / (10.0 + step)
    return optax.incremental_update(params, ema, 1.0 - jnp.minimum(decay, warm))


def example_keys(key: jax.Array, batch_size: int, axis_name: str | None) -> jax.Array:
    """Returns one key per example `[B]` of this device's part of the global batch.

    The keys depend on the *global* example index only, so that any number of devices
    draws the same noise for the same example.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch_size
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(batch_size))


def all_reduce_mean(tree: PyTree, axis_name: str | None) -> PyTree:
    """Averages over the devices of a pmapped axis; one alone has nothing to average.

    Without an axis it returns `tree`. (XLA would copy all gradients on one device.)
    """
    alone = axis_name is None or jax.lax.axis_size(axis_name) == 1
    return tree if alone else jax.lax.pmean(tree, axis_name)
