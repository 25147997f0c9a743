"""Instance normalisation by statistics that were measured elsewhere.

A tile's own mean and variance are not the image's, and those of a layer depend on the
statistics of every layer below it. So the layers are measured one after the other: with
the statistics of the first k - 1 given, one pass over all tiles measures the k-th.
Networks stay as they are: their `nn.InstanceNorm` calls are intercepted.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Moments(NamedTuple):
    """How many values `[B]`, their mean `[B, C]` and summed squares about it."""

    count: jax.Array
    mean: jax.Array
    square: jax.Array


class Given(NamedTuple):
    """What a layer normalises by, `[C]` each."""

    mean: jax.Array
    var: jax.Array


class _Measured(Exception):
    """Leaves a network where the layer that is measured begins."""

    def __init__(self, moments: Moments):
        super().__init__()
        self.moments = moments


def count(function: Callable[[], Any]) -> int:
    """Returns how often a function that applies a network normalises by instance."""
    calls = []

    def note(next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if _is_norm(context):
            calls.append(context.module.name)
        return next_fun(*args, **kwargs)

    def run() -> Any:
        with nn.intercept_methods(note):
            return function()

    jax.eval_shape(run)
    return len(calls)


def apply(function: Callable[[], Any], given: Sequence[Given]) -> Any:
    """Returns what `function` does where layer k normalises by `given[k]`."""
    with nn.intercept_methods(_Norms(given)):
        return function()


def measure(
    function: Callable[[], Any],
    given: Sequence[Given],
    *,
    cores: jax.Array,
    size: tuple[int, int],
) -> Moments:
    """Measures what enters layer `len(given)`, and computes nothing beyond it.

    Args:
      function: applies a network to tiles `[B, *size, I]`.
      given: the statistics of the layers below.
      cores: `[B, 2, 2]`, first and last + 1 row and column of each tile that count.
      size: height and width of the tiles.
    """
    try:
        with nn.intercept_methods(_Norms(given, cores=cores, size=size)):
            function()
    except _Measured as reached:
        return reached.moments
    raise ValueError(f"the network has no {len(given) + 1} layers that normalise")


class _Norms:
    """Stands in for the instance normalisations of a network, in their order."""

    def __init__(
        self,
        given: Sequence[Given],
        *,
        cores: jax.Array | None = None,
        size: tuple[int, int] = (1, 1),
    ):
        self._given, self._cores, self._size = list(given), cores, size
        self._next = 0

    def __call__(
        self, next_fun: Callable, args: tuple, kwargs: dict, context: Any
    ) -> Any:
        if not _is_norm(context):
            return next_fun(*args, **kwargs)
        if self._next == len(self._given):
            raise _Measured(_moments(args[0], self._cores, self._size))
        self._next += 1
        return _normalise(args[0], context.module, self._given[self._next - 1])


def _is_norm(context: Any) -> bool:
    is_instance = isinstance(context.module, nn.InstanceNorm)
    return is_instance and context.method_name == "__call__"


def _normalise(x: jax.Array, norm: nn.InstanceNorm, given: Given) -> jax.Array:
    params = norm.variables.get("params", {})
    factor = jax.lax.rsqrt(given.var + norm.epsilon) * params.get("scale", 1.0)
    shape = (1, 1, 1, -1)
    y = (x.astype(jnp.float32) - given.mean.reshape(shape)) * factor.reshape(shape)
    if "bias" in params:
        y = y + params["bias"].reshape(shape)
    return y.astype(norm.dtype or x.dtype)


def _moments(x: jax.Array, cores: jax.Array, size: tuple[int, int]) -> Moments:
    """Returns the moments of the part of features that lies over the tiles' cores."""
    x = x.astype(jnp.float32)
    inside = []
    for axis in (0, 1):
        # A feature belongs to the core that its first pixel belongs to.
        pixel = jnp.arange(x.shape[1 + axis]) * size[axis]
        low, high = (cores[:, axis, end, None] * x.shape[1 + axis] for end in (0, 1))
        inside.append((low <= pixel[None]) & (pixel[None] < high))
    mask = (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
    number = jnp.maximum(jnp.sum(mask, (1, 2)), 1)
    mean = jnp.sum(jnp.where(mask, x, 0), (1, 2)) / number
    away = jnp.where(mask, x - mean[:, None, None, :], 0)
    return Moments(jnp.sum(mask, (1, 2))[:, 0], mean, jnp.sum(away * away, (1, 2)))


def combine(parts: Sequence[Moments]) -> Given:
    """Returns mean and biased variance of all values that `parts` measured."""
    counts, means, squares = (
        np.concatenate([np.asarray(part, np.float64) for part in column])
        for column in zip(*parts, strict=True)
    )
    weights = (counts / counts.sum())[:, None]
    mean = np.sum(weights * means, axis=0)
    between = np.sum(weights * (means - mean) ** 2, axis=0)
    var = np.sum(squares, axis=0) / counts.sum() + between
    return Given(jnp.float32(mean), jnp.float32(var))
