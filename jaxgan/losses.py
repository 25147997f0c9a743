"""Adversarial pairs, penalties and pixel losses: the only home of loss formulas.

Logits are raw discriminator outputs of any shape; every loss is a scalar, the mean
over all of them. D's two terms are *summed*; a method that halves them, as pix2pix
and CycleGAN do, says so itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

# Keeps the gradient of a norm finite where the norm is zero.
_NORM_EPSILON = 1e-12


class Adversarial(NamedTuple):
    """The two sides of one game, each minimising its own loss."""

    disc: Callable[[jax.Array, jax.Array], jax.Array]  # (real_logits, fake_logits)
    gen: Callable[[jax.Array], jax.Array]  # (fake_logits)


def _bce(logits: jax.Array, target: float) -> jax.Array:
    """Binary cross-entropy with logits, stable at any logit."""
    labels = jnp.full_like(logits, target)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels))


def vanilla(*, real_target: float = 1.0) -> Adversarial:
    """Binary cross-entropy with the non-saturating generator.

    Goodfellow et al., 2014, "Generative Adversarial Nets", sec. 3. `real_target` below
    one is one-sided label smoothing (Salimans et al., 2016, sec. 3.4): for D and for
    real images only; G's target stays 1.
    """
    return Adversarial(
        disc=lambda real, fake: _bce(real, real_target) + _bce(fake, 0.0),
        gen=lambda fake: _bce(fake, 1.0),
    )


def saturating(*, real_target: float = 1.0) -> Adversarial:
    """The minimax game itself: G maximises what D minimises (Goodfellow, eq. 1)."""
    return vanilla(real_target=real_target)._replace(gen=lambda fake: -_bce(fake, 0.0))


def lsgan() -> Adversarial:
    """Squared distance to 1 (real) and 0 (fake).

    Mao et al., 2017, "Least Squares Generative Adversarial Networks", eq. 9, with
    a = 0, b = c = 1 and without its factor 1/2.
    """
    return Adversarial(
        disc=lambda real, fake: jnp.mean((real - 1) ** 2) + jnp.mean(fake**2),
        gen=lambda fake: jnp.mean((fake - 1) ** 2),
    )


def hinge() -> Adversarial:
    """Margin of one on either side (Lim & Ye, 2017, "Geometric GAN", sec. 3)."""
    return Adversarial(
        disc=lambda real, fake: (
            jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))
        ),
        gen=lambda fake: -jnp.mean(fake),
    )


def wasserstein(*, drift: float = 0.0) -> Adversarial:
    """The critic's difference (Arjovsky et al., 2017); add `gradient_penalty`.

    `drift` weighs the square of its verdicts on real images, which keeps them from
    wandering off (Karras et al., 2018, "Progressive Growing of GANs", appendix A.1).
    """
    return Adversarial(
        disc=lambda real, fake: (
            jnp.mean(fake) - jnp.mean(real) + drift * jnp.mean(real**2)
        ),
        gen=lambda fake: -jnp.mean(fake),
    )


GAN_LOSSES = ("vanilla", "lsgan", "hinge", "wgan_gp", "saturating")


def adversarial(name: str, *, real_target: float = 1.0) -> Adversarial:
    """Returns the pair that `--gan_loss` names, one of `GAN_LOSSES`.

    `real_target` smooths the cross-entropy losses and must be 1 for the others.
    """
    if name not in GAN_LOSSES:
        raise ValueError(f"gan_loss must be one of {GAN_LOSSES}, got {name!r}")
    if name in ("vanilla", "saturating"):
        make = vanilla if name == "vanilla" else saturating
        return make(real_target=real_target)
    if real_target != 1.0:
        raise ValueError(
            f"label smoothing belongs to cross-entropy: gan_loss {name!r} needs "
            f"real_target 1, got {real_target}"
        )
    return {"lsgan": lsgan, "hinge": hinge, "wgan_gp": wasserstein}[name]()


def gradient_penalty(
    judge: Callable[[jax.Array], jax.Array],
    real: jax.Array,
    fake: jax.Array,
    keys: jax.Array,
    *,
    target: float = 1.0,
) -> jax.Array:
    """Pulls the critic's gradient norm between real and fake towards `target`.

    `judge` maps images `[B, H, W, C]` to logits `[B, ...]`; `real` and `fake` are mixed
    per example with a uniform weight drawn from `keys` `[B]`, and the norm runs over
    all of (H, W, C). Finite, and with a finite gradient, where D's gradient is zero.
    Gulrajani et al., 2017, "Improved Training of Wasserstein GANs", eq. 3. Wrong for a
    critic with batch normalisation, whose verdict on one image depends on the others.
    """
    chex.assert_equal_shape([real, fake])
    mix = jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
    mixed = mix * real + (1 - mix) * fake
    grads = jax.grad(lambda image: jnp.sum(judge(image)))(mixed)
    norm = jnp.sqrt(jnp.sum(grads**2, axis=(1, 2, 3)) + _NORM_EPSILON)
    return jnp.mean((norm - target) ** 2)


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean absolute difference."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.abs(prediction - target))


def mse(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean squared difference."""
    chex.assert_equal_shape([prediction, target])
    return jnp.mean((prediction - target) ** 2)


def feature_distance(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Squared distance of feature vectors `[B, h, w, C]`, the mean over B, h and w.

    Ledig et al., 2017, "Photo-Realistic Single Image Super-Resolution ...", eq. 5: the
    norm sums over channels.
    """
    chex.assert_equal_shape([prediction, target])
    return jnp.mean(jnp.sum((prediction - target) ** 2, axis=-1))


def total_variation(image: jax.Array) -> jax.Array:
    """Squared differences between neighbours `[B, H, W, C]`, summed, a mean over B.

    Aly & Dubois, 2005, as Ledig et al., 2017, sec. 2.2.2, use it with VGG features.
    """
    down = jnp.sum(jnp.diff(image, axis=1) ** 2)
    across = jnp.sum(jnp.diff(image, axis=2) ** 2)
    return (down + across) / image.shape[0]
