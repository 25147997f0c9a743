"""Levenberg-Marquardt for a few unknowns and many residuals.

`d` unknowns (a latent of a generator, about 50), `n` residuals (pixels). One step costs
a linearisation and `d` tangents, and then a Cholesky decomposition of `[d, d]` and a
forward pass per damping that is tried.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve

_TRIES = 8  # dampings per step; each failure raises the damping 2, 4, 8 ... times
_EXACT = 1e-13  # loss at which float32 has nothing left to gain
_GAIN = 1e-4  # relative fall of the loss in a step, below which the descent has ended
_IDLE = 3  # such steps in a row that end it


class Descent(NamedTuple):
    """Where a descent ended and how it got there."""

    latent: jax.Array  # [d]
    losses: jax.Array  # [num_losses], the loss after each step, NaN where none was made
    num_steps: jax.Array  # int32 []


class _State(NamedTuple):
    latent: jax.Array
    loss: jax.Array
    damping: jax.Array
    idle: jax.Array
    step: jax.Array
    losses: jax.Array


class _Try(NamedTuple):
    latent: jax.Array
    loss: jax.Array
    damping: jax.Array
    raised: jax.Array  # by what the damping is raised next
    count: jax.Array


def descend(
    residual: Callable[[jax.Array], jax.Array],
    latent: jax.Array,
    *,
    bound: float,
    max_steps: int,
    num_losses: int,
    tangent_chunk: int = 0,
) -> Descent:
    """Minimises the sum of squares of `residual(latent [d]) -> [n]`.

    Args:
      residual: takes forward-mode derivatives.
      latent: where to start.
      bound: the unknowns stay in [-bound, bound]; one that is there and would leave
        rests for the step.
      max_steps: at most; it stops at a loss of 1e-13, after three steps in a row that
        gain less than a ten-thousandth of the loss, or when no damping helps.
      num_losses: length of the record, `max_steps` or more.
      tangent_chunk: tangents that are pushed forward at once, 0 for all.

    Marquardt, 1963, "An Algorithm for Least-Squares Estimation of Nonlinear
    Parameters"; damping as Nielsen, 1999, "Damping Parameter in Marquardt's Method".
    """
    chunk = tangent_chunk or latent.size
    basis = jnp.eye(latent.size, dtype=latent.dtype)

    def loss_of(latent):
        return jnp.sum(jnp.square(residual(latent)))

    def running(s: _State):
        going = (s.loss > _EXACT) & (s.idle < _IDLE)
        return (s.step < max_steps) & (going | (s.step == 0))

    def step(s: _State) -> _State:
        r, push = jax.linearize(residual, s.latent)
        jacobian = jax.lax.map(push, basis, batch_size=chunk)  # [d, n]
        leaving = s.latent * (jacobian @ r) < 0
        jacobian *= ~(leaving & (jnp.abs(s.latent) >= bound))[:, None]
        curvature, slope = jacobian @ jacobian.T, jacobian @ r
        # An unknown at rest has no slope; the floor keeps its row regular.
        scale = jnp.diagonal(curvature) + 1e-6 * jnp.max(jnp.diagonal(curvature))

        def failing(t: _Try):
            return ~(t.loss < s.loss) & (t.count < _TRIES)

        def attempt(t: _Try) -> _Try:
            damping = t.damping * t.raised
            damped = curvature + damping * jnp.diag(scale)
            latent = s.latent - cho_solve(cho_factor(damped), slope)
            latent = jnp.clip(latent, -bound, bound)
            return _Try(latent, loss_of(latent), damping, 2 * t.raised, t.count + 1)

        first = _Try(s.latent, s.loss, s.damping, jnp.float32(1), jnp.int32(0))
        tried = jax.lax.while_loop(failing, attempt, first)
        better = tried.loss < s.loss
        loss = jnp.where(better, tried.loss, s.loss)
        little = s.loss - loss < _GAIN * s.loss
        return _State(
            jnp.where(better, tried.latent, s.latent),
            loss,
            jnp.clip(jnp.where(tried.count == 1, s.damping / 3, tried.damping), 1e-9),
            jnp.where(better, jnp.where(little, s.idle + 1, 0), _IDLE),
            s.step + 1,
            s.losses.at[s.step].set(loss),
        )

    losses = jnp.full(num_losses, jnp.nan, jnp.float32)
    zero = jnp.int32(0)
    latent = jnp.clip(latent, -bound, bound)
    start = _State(latent, loss_of(latent), jnp.float32(1e-2), zero, zero, losses)
    end = jax.lax.while_loop(running, step, start)
    return Descent(end.latent, end.losses, end.step)
