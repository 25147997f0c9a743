"""A third phase after the latent search: the generator's weights follow one image.

What a generator cannot make, no latent denoises. From the latent that was found, its
weights and the latent are fitted to the noisy image together, and the fit stops when
its loss has come down to what the noise alone would leave (the discrepancy principle):
a convolutional network fits structure before it fits noise.
Hussein et al., 2020, "Image-Adaptive GAN Based Reconstruction"; Roich et al., 2021,
"Pivotal Tuning for Latent-based Editing of Real Images".
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgan import noise


class Adaptation(NamedTuple):
    """The image that the adapted generator makes."""

    image: jax.Array  # [H, W, C]
    losses: jax.Array  # [steps], before each step, NaN after the stop
    num_steps: jax.Array  # int32 [], steps made; `steps` if the target was not reached


def adapt(
    generate: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    latent: jax.Array,
    noisy: jax.Array,
    target: jax.Array,
    *,
    steps: int = 500,
    learning_rate: float = 3e-4,
    latent_learning_rate: float = 1e-2,
    latent_clip: float = 5.0,
    loss: noise.Loss = noise.squared_error,
) -> Adaptation:
    """Fits weights and latent to a noisy image until the loss is at `target`.

    Args:
      generate: maps weights and a latent `[d]` to an image `[H, W, C]` in the units of
        `noisy`.
      params: the weights to start from; they are not changed for other images.
      latent: `[d]` from `inversion.search`.
      noisy: `[H, W, C]`.
      target: `[]`, the loss of the truth, as `noise.level_of` gives it.
      steps: at most.
      learning_rate: of Adam on the weights.
      latent_learning_rate: of Adam on the latent.
      latent_clip: as in the search.
      loss: as in the search.

    Pure; the caller compiles it and maps it over a stack.
    """
    tx = optax.adam(1.0)
    rates = (learning_rate, latent_learning_rate)

    def forward(unknowns):
        weights, latent = unknowns
        return generate(weights, jnp.clip(latent, -latent_clip, latent_clip))

    def running(carry):
        *_, value, step = carry
        return (step < steps) & (value > target)

    def advance(carry):
        unknowns, opt_state, losses, _, step = carry
        value, grads = jax.value_and_grad(lambda u: loss(forward(u), noisy))(unknowns)
        updates, opt_state = tx.update(grads, opt_state)
        moved = tuple(
            jax.tree.map(lambda x, u, rate=rate: x + rate * u, part, update)
            for part, update, rate in zip(unknowns, updates, rates, strict=True)
        )
        enough = value <= target
        unknowns = jax.tree.map(
            lambda new, old: jnp.where(enough, old, new), moved, unknowns
        )
        return unknowns, opt_state, losses.at[step].set(value), value, step + 1

    unknowns = params, latent
    losses = jnp.full(steps, jnp.nan, jnp.float32)
    infinite, zero = jnp.float32(jnp.inf), jnp.int32(0)
    carry = unknowns, tx.init(unknowns), losses, infinite, zero
    unknowns, _, losses, _, step = jax.lax.while_loop(running, advance, carry)
    return Adaptation(forward(unknowns), losses, step)
