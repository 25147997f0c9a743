"""Noise models of a detector, what they do to a mean, and their likelihoods.

Images are intensities `[H, W, C]`, mostly in [0, 1]. `poisson:S` counts S electrons a
pixel at intensity 1 and divides by S again; a detector that saturates shows no more
than 1 (Poisson counts are clipped, Gaussian noise is not). `gaussian:SIGMA` adds
N(0, SIGMA^2). A clipped image is darker than what it shows: at S = 1 the mean of an
intensity x is 1 - exp(-x). `expected` says so and `unbias` undoes it.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import gammainc, gammaln, xlogy

Loss = Callable[[jax.Array, jax.Array], jax.Array]  # (image, noisy) -> []

KINDS = ("poisson", "gaussian", "none")
_MADS = 0.6744897501960817  # of N(0, 1)
_BRIGHTEST = 2.0  # intensity up to which a clipped mean can be undone


@dataclasses.dataclass(frozen=True)
class Noise:
    """A noise model, as `--noise` writes it."""

    kind: str  # one of KINDS
    level: float = 0.0  # counts at intensity 1, or the standard deviation
    clip: bool = True  # whether counts above the level are lost

    @property
    def saturates(self) -> bool:
        """Whether the mean of the noisy image is below the intensity."""
        return self.kind == "poisson" and self.clip


def parse(text: str, *, clip: bool = True) -> Noise:
    """Reads poisson:S, gaussian:SIGMA or none; raises `ValueError` for other texts."""
    kind, _, number = text.partition(":")
    try:
        level = float(number) if kind != "none" else 0.0
    except ValueError:
        level = math.nan
    positive = level > 0 and math.isfinite(level)
    if kind not in KINDS or (kind == "none" and number) or not (positive or not number):
        level = math.nan
    if math.isnan(level):
        raise ValueError(
            f"noise is poisson:COUNTS, gaussian:SIGMA or none, got {text!r}"
        )
    return Noise(kind, level, clip and kind == "poisson")


def add(image: jax.Array, key: jax.Array, noise: Noise) -> jax.Array:
    """Returns the image with noise; the key is consumed."""
    if noise.kind == "none":
        return image
    if noise.kind == "gaussian":
        return image + noise.level * jax.random.normal(key, image.shape)
    rate = noise.level * jnp.maximum(image, 0.0)
    counts = jax.random.poisson(key, rate).astype(jnp.float32) / noise.level
    return jnp.minimum(counts, 1.0) if noise.clip else counts


def expected(intensity: jax.Array, noise: Noise) -> jax.Array:
    """Returns the mean of noisy images of these intensities.

    Of Poisson counts N of mean S x, clipped at S, 1 - sum of (1 - k / S) P(N = k) over
    k < S.
    """
    if not noise.saturates:
        return intensity
    rate = noise.level * jnp.maximum(intensity, 0.0)
    counts = jnp.arange(math.ceil(noise.level), dtype=jnp.float32)
    rate, counts = rate[..., None], counts.reshape((1,) * rate.ndim + (-1,))
    probability = jnp.exp(xlogy(counts, rate) - rate - gammaln(counts + 1))
    return 1.0 - jnp.sum((1.0 - counts / noise.level) * probability, axis=-1)


def unbias(image: jax.Array, noise: Noise) -> jax.Array:
    """Returns the intensities whose noisy means are `image`: `expected` undone.

    Of one pixel's counts this is the maximum of the likelihood of their mean. Returns
    at most 2, for a pixel that is always saturated.
    """
    if not noise.saturates:
        return image
    grid = jnp.linspace(0.0, _BRIGHTEST, 1024)
    return jnp.interp(image, expected(grid, noise), grid)


def estimate(image: jax.Array) -> jax.Array:
    """Returns the deviation `[...]` of white noise on images `[..., H, W, C]`.

    Donoho and Johnstone, 1994, "Ideal spatial adaptation by wavelet shrinkage", sec.
    4.2: the median magnitude of the finest diagonal Haar coefficients over .6745.
    """
    height, width = (n // 2 * 2 for n in image.shape[-3:-1])
    x = image[..., :height, :width, :]
    a, b = x[..., ::2, ::2, :], x[..., ::2, 1::2, :]
    c, d = x[..., 1::2, ::2, :], x[..., 1::2, 1::2, :]
    return jnp.median(jnp.abs(a - b - c + d) / 2, axis=(-3, -2, -1)) / _MADS


def squared_error(image: jax.Array, noisy: jax.Array) -> jax.Array:
    """Returns the sum of squared differences over H W; both are `[H, W, C]`."""
    return jnp.sum(jnp.square(image - noisy)) / (image.shape[0] * image.shape[1])


@dataclasses.dataclass(frozen=True)
class PoissonDeviance:
    """Half the deviance of counts from an image, per pixel: 0 for a perfect fit.

    The negative log-likelihood of `noisy` less its least value. A saturated pixel says
    only that its count was S or more, P(N >= S) = gammainc(S, rate): an image that
    fits is not biased dark, as one of least squares is.
    """

    level: float  # counts at intensity 1
    clip: bool = True

    def __call__(self, image: jax.Array, noisy: jax.Array) -> jax.Array:
        """Returns the deviance of `noisy` from `image`, both `[H, W, C]`, over H W."""
        rate = self.level * jnp.maximum(image, 1e-3)
        counts = self.level * noisy
        deviance = xlogy(counts, counts) - xlogy(counts, rate) - counts + rate
        if self.clip:
            chance = gammainc(jnp.float32(math.ceil(self.level)), rate)
            deviance = jnp.where(noisy >= 1.0, -jnp.log(chance + 1e-30), deviance)
        return jnp.sum(deviance) / (image.shape[0] * image.shape[1])


def level_of(
    image: jax.Array, key: jax.Array, noise: Noise, loss: Loss, *, draws: int = 4
) -> jax.Array:
    """Returns the loss that `image` itself has, on the mean, to noisy images of it.

    It is what the loss of the truth would be, and where fitting a noisy image turns
    into fitting its noise (Morozov, 1966: the discrepancy principle). The key is
    consumed.
    """
    keys = jax.random.split(key, draws)
    return jnp.mean(jax.vmap(lambda k: loss(image, add(image, k, noise)))(keys))
