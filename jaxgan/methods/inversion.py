"""Latent search: the image of a generator that is nearest to a noisy one.

Algorithm 2 of "Denoising Electron Microscopy Images with Generative Adversarial
Networks", whole in one compiled program: restarts and images are mapped, steps
are scanned, and the early stop is a loop on the device. Latents are `[d]`, images
`[H, W, C]`, `R` restarts of `S` steps.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgan import noise
from jaxgan.methods import least_squares

OPTIMIZERS = ("adam", "adamw", "sgd", "asgd", "levenberg_marquardt")

_LOGGED = 100  # every so many steps the published code looks at the loss
# Levenberg-Marquardt takes no more steps than these.
_FEW_RESTART_STEPS, _FEW_REFINE_STEPS = 25, 100


class Inversion(NamedTuple):
    """The nearest image found; all with a leading `[N]` for a stack of N images."""

    latent: jax.Array  # [d], clipped: `image` is what the generator makes of it
    image: jax.Array  # [H, W, C]
    restart_losses: jax.Array  # [R, S] before each step
    refine_losses: jax.Array  # [refine_steps], NaN after the early stop
    num_steps: jax.Array  # int32 [], of the second phase
    restart_latents: jax.Array  # [R, d], where the restarts ended, clipped


@dataclasses.dataclass(frozen=True)
class _Options:
    latent_dim: int
    num_restarts: int
    restart_steps: int
    refine_steps: int
    tolerance: float
    learning_rate: float
    latent_clip: float
    optimizer: str
    loss: noise.Loss
    image_chunk: int
    restart_chunk: int
    tangent_chunk: int


def search(
    generate: Callable[[jax.Array], jax.Array],
    noisy: jax.Array,
    key: jax.Array,
    *,
    latent_dim: int,
    num_restarts: int = 10,
    restart_steps: int = 1500,
    refine_steps: int = 10_000,
    tolerance: float = 1e-5,
    learning_rate: float = 0.01,
    latent_clip: float = 5.0,
    optimizer: str = "adam",
    loss: noise.Loss = noise.squared_error,
    image_chunk: int = 0,
    restart_chunk: int = 0,
    tangent_chunk: int = 0,
) -> Inversion:
    """Searches the latent of a noisy image, or of each image of a stack.

    Restarts begin at latents of N(0, 1). The one with the lowest loss of every
    hundredth step goes on from where it ended, with a fresh optimiser, until its loss
    is below `tolerance` or its steps are over.

    Args:
      generate: maps a latent `[d]` to an image `[H, W, C]` in the units of `noisy`; a
        `jax.tree_util.Partial` of weights compiles once for all weights.
      noisy: `[H, W, C]` or `[N, H, W, C]`.
      key: consumed; image i of a stack gets the restarts of its i-th child, whatever N.
        Or `[N]` keys, one an image.
      latent_dim: d.
      num_restarts: R.
      restart_steps: S.
      refine_steps: of the second phase, at most.
      tolerance: loss at which the second phase stops.
      learning_rate: constant.
      latent_clip: the generator sees latents clipped to [-latent_clip, latent_clip].
      optimizer: one of `OPTIMIZERS`. "adamw" decays by 1e-2, as PyTorch's. "asgd" is
        SGD whose result is the mean over the second half of its steps (Polyak and
        Juditsky, 1992). "levenberg_marquardt" needs the squared error, has a stop rule
        of its own (`least_squares.descend`) and takes at most 25 and 100 steps; its
        losses are those after each step, NaN for steps that it did not need.
      loss: `(image, noisy) -> []`, hashable: a mean over pixels (H W). The default is
        the published one; `noise.PoissonDeviance` fits counts.
      image_chunk: images that are worked on at once, 0 for all; bounds the memory.
      restart_chunk: restarts at once, 0 for all.
      tangent_chunk: tangents at once (Levenberg-Marquardt), 0 for all.

    Products are of the highest precision: on a GPU TF32 would be the search's noise.
    Raises `ValueError` for an unknown optimiser or one that does not fit the loss.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {OPTIMIZERS}, got {optimizer!r}")
    if optimizer == "levenberg_marquardt" and loss is not noise.squared_error:
        raise ValueError(
            "levenberg_marquardt minimises squared errors and takes no other loss: use "
            "adam for counts"
        )
    if noisy.ndim not in (3, 4):
        raise ValueError(f"noisy must be [H, W, C] or [N, H, W, C], got {noisy.shape}")
    if not isinstance(generate, jax.tree_util.Partial):
        generate = jax.tree_util.Partial(generate)
    options = _Options(
        latent_dim,
        num_restarts,
        restart_steps,
        refine_steps,
        tolerance,
        learning_rate,
        latent_clip,
        optimizer,
        loss,
        image_chunk,
        restart_chunk,
        tangent_chunk,
    )
    stack = jnp.asarray(noisy if noisy.ndim == 4 else noisy[None], jnp.float32)
    if key.ndim == 0:
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(stack)))
    found = _search_stack(generate, stack, key, options)
    return found if noisy.ndim == 4 else jax.tree.map(lambda x: x[0], found)


@partial(jax.jit, static_argnames="options")
def _search_stack(
    generate: Callable, stack: jax.Array, keys: jax.Array, options: _Options
) -> Inversion:
    with jax.default_matmul_precision("highest"):
        return _map(
            lambda pair: _search_one(generate, *pair, options),
            (stack, keys),
            options.image_chunk,
        )


def _map(function: Callable, xs: Any, chunk: int) -> Any:
    """Maps over the leading axis, so many at once, all for 0."""
    if not chunk:
        return jax.vmap(function)(xs)
    return jax.lax.map(function, xs, batch_size=chunk)


def _search_one(
    generate: Callable, noisy: jax.Array, key: jax.Array, options: _Options
) -> Inversion:
    """Both phases for one image."""

    def forward(latent):
        return generate(jnp.clip(latent, -options.latent_clip, options.latent_clip))

    newton = options.optimizer == "levenberg_marquardt"
    descent = _newton if newton else _gradient
    restart, refine, logged = descent(generate if newton else forward, noisy, options)
    keys = jax.random.split(key, options.num_restarts)
    latents = jax.vmap(lambda k: jax.random.normal(k, (options.latent_dim,)))(keys)
    latents, losses = _map(restart, latents, options.restart_chunk)
    best = jnp.argmin(jnp.nanmin(losses[:, ::logged], axis=1))
    latent, refine_losses, num_steps = refine(latents[best])
    latent, latents = (
        jnp.clip(x, -options.latent_clip, options.latent_clip)
        for x in (latent, latents)
    )
    return Inversion(
        latent, generate(latent), losses, refine_losses, num_steps, latents
    )


def _newton(generate: Callable, noisy: jax.Array, options: _Options):
    """Returns `(restart, refine, logged)` of Levenberg-Marquardt."""

    def residual(latent):
        return (generate(latent) - noisy).ravel() / jnp.sqrt(
            noisy.shape[0] * noisy.shape[1]
        )

    def descend(latent, few: int, steps: int):
        return least_squares.descend(
            residual,
            latent,
            bound=options.latent_clip,
            max_steps=min(few, steps),
            num_losses=steps,
            tangent_chunk=options.tangent_chunk,
        )

    def restart(latent):
        return descend(latent, _FEW_RESTART_STEPS, options.restart_steps)[:2]

    def refine(latent):
        return descend(latent, _FEW_REFINE_STEPS, options.refine_steps)

    return restart, refine, 1


class _Walk(NamedTuple):
    latent: jax.Array
    opt_state: optax.OptState
    mean: jax.Array  # of the latents of the second half
    loss: jax.Array
    step: jax.Array


def _gradient(forward: Callable, noisy: jax.Array, options: _Options):
    """Returns `(restart, refine, logged)` of an Optax optimiser."""
    tx = _optimizer(options)
    averaged = options.optimizer == "asgd"

    def objective(latent):
        return options.loss(forward(latent), noisy)

    def begin(latent):
        infinite = jnp.float32(jnp.inf)
        return _Walk(latent, tx.init(latent), latent, infinite, jnp.int32(0))

    def advance(walk: _Walk, half: int) -> _Walk:
        loss, grad = jax.value_and_grad(objective)(walk.latent)
        updates, opt_state = tx.update(grad, walk.opt_state, walk.latent)
        latent = optax.apply_updates(walk.latent, updates)
        share = 1.0 / jnp.maximum(walk.step - half + 1, 1)
        mean = walk.mean + share * (latent - walk.mean)
        return _Walk(latent, opt_state, mean, loss, walk.step + 1)

    def end(walk: _Walk) -> jax.Array:
        return walk.mean if averaged else walk.latent

    def restart(latent):
        def step(walk, _):
            walk = advance(walk, options.restart_steps // 2)
            return walk, walk.loss

        walk, losses = jax.lax.scan(step, begin(latent), length=options.restart_steps)
        return end(walk), losses

    def refine(latent):
        def running(carry):
            walk, _ = carry
            return (walk.step < options.refine_steps) & (walk.loss >= options.tolerance)

        def step(carry):
            old, losses = carry
            walk = advance(old, options.refine_steps // 2)
            losses = losses.at[old.step].set(walk.loss)
            # The loss is of the latent before the update: where it is good enough,
            # that latent stays.
            done = walk.loss < options.tolerance
            keep = jnp.where(done, old.latent, walk.latent)
            mean = jnp.where(done, old.latent, walk.mean)
            return walk._replace(latent=keep, mean=mean), losses

        losses = jnp.full(options.refine_steps, jnp.nan, jnp.float32)
        walk, losses = jax.lax.while_loop(running, step, (begin(latent), losses))
        return end(walk), losses, walk.step

    return restart, refine, _LOGGED


def _optimizer(options: _Options) -> optax.GradientTransformation:
    rate = options.learning_rate
    if options.optimizer == "adam":
        return optax.adam(rate)
    if options.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=1e-2)
    return optax.sgd(rate)
