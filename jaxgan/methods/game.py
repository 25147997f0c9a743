"""One round of the game of two networks, as most methods here play it.

D moves first, on the fake as data; then G answers the updated D. One generator pass
serves both: D takes its value, and G later pulls its own gradient back through it.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan import losses
from jaxgan.state import GANState, Params, all_reduce_mean, update_ema

Metrics = dict[str, jax.Array]


class Networks(NamedTuple):
    """The two players."""

    gen: nn.Module
    disc: nn.Module


class Optimizers(NamedTuple):
    """One optimiser per player."""

    gen: optax.GradientTransformation
    disc: optax.GradientTransformation


class Round(NamedTuple):
    """What a round leaves: the next state, its losses, and what was seen in it."""

    state: GANState
    metrics: Metrics  # of this device, not averaged
    fake: jax.Array
    real_logits: jax.Array
    fake_logits: jax.Array


def play(
    state: GANState,
    *,
    generate: Callable[[Params], tuple[jax.Array, Params]],
    judge: Callable[[Params, Params, jax.Array], tuple[jax.Array, Params]],
    real: jax.Array,
    gan: losses.Adversarial,
    gen_tx: optax.GradientTransformation,
    disc_tx: optax.GradientTransformation,
    show: Callable[[jax.Array], jax.Array] = lambda fake: fake,
    terms: Callable[[jax.Array], Metrics] = lambda fake: {},
    weights: dict[str, float] | None = None,
    penalty: Callable[[Params, Params, jax.Array], jax.Array] | None = None,
    disc_scale: float = 1.0,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> Round:
    """Plays one round.

    Args:
      state: before the round.
      generate: `gen_params -> (fake, gen_stats)`, in training mode.
      judge: `(disc_params, disc_stats, image) -> (logits, disc_stats)`, the same.
      real: what D sees of the data.
      gan: the two adversarial losses.
      gen_tx, disc_tx: each player's own optimiser.
      show: from the fake to what D sees of it.
      terms: from the fake to what G minimises besides, by name.
      weights: of the terms, by the same names.
      penalty: `(disc_params, disc_stats, seen_fake) -> []`, weighted, for D to add.
      disc_scale: factor of D's adversarial loss.
      ema_decay: of the average of G's weights, if the state keeps one.
      axis_name: the pmapped axis over which gradients are averaged, if any.
    """

    def disc_loss(params):
        # Two passes: with batch normalisation one pass over real and fake together
        # would be another algorithm.
        real_logits, stats = judge(params, state.disc.stats, real)
        fake_logits, stats = judge(params, stats, seen_fake)
        loss = disc_scale * gan.disc(real_logits, fake_logits)
        if penalty is not None:
            loss += penalty(params, stats, seen_fake)
        return loss, (stats, real_logits, fake_logits)

    def gen_loss(fake):
        # The reference codes let D's running statistics advance here too, which
        # nothing in training ever reads.
        logits, _ = judge(disc.params, disc.stats, show(fake))
        parts = {"gen_adversarial": gan.gen(logits), **terms(fake)}
        factors = weights or {}
        return sum(factors.get(k, 1.0) * x for k, x in parts.items()), parts

    fake, pull_back, gen_stats = jax.vjp(generate, state.gen.params, has_aux=True)
    seen_fake = show(fake)
    (d_loss, (disc_stats, real_logits, fake_logits)), disc_grads = jax.value_and_grad(
        disc_loss, has_aux=True
    )(state.disc.params)
    disc_grads = all_reduce_mean(disc_grads, axis_name)
    disc = state.disc.update(disc_grads, disc_stats, disc_tx)

    (g_loss, parts), fake_grad = jax.value_and_grad(gen_loss, has_aux=True)(fake)
    gen_grads = all_reduce_mean(pull_back(fake_grad)[0], axis_name)
    gen = state.gen.update(gen_grads, gen_stats, gen_tx)

    metrics = {
        "disc_loss": d_loss,
        "gen_loss": g_loss,
        **parts,
        "disc_real": jnp.mean(real_logits),
        "disc_fake": jnp.mean(fake_logits),
    }
    ema = update_ema(state.ema, gen.params, state.step, decay=ema_decay)
    state = state.replace(step=state.step + 1, gen=gen, disc=disc, ema=ema)
    return Round(state, metrics, fake, real_logits, fake_logits)
