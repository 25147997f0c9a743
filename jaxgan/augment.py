"""What happens to a batch on the device, before the networks see it.

Batches are dicts of images `[B, H, W, C]` of equal B, H, W ("source", "target" ...):
what is done to one is done to all, so that pairs stay pairs. `keys` `[B]` holds one
random key per example.
"""

import math

import chex
import jax
import jax.numpy as jnp

Batch = dict[str, jax.Array]

FLIPS = ("none", "horizontal", "both")


def decode(image: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Maps stored values to floats, `low` to -1 and `high` to 1, without clipping.

    Args:
      image: `[..., C]` of any real dtype; integers travel to the device as they are.
      low: `[C]`, in units of the stored values.
      high: `[C]`, above `low`.
    """
    chex.assert_equal_shape([low, high])
    shape = (1,) * (image.ndim - 1) + low.shape
    low, high = low.reshape(shape), high.reshape(shape)
    return 2.0 * (image.astype(jnp.float32) - low) / (high - low) - 1.0


def flip_and_rotate(
    batch: Batch, keys: jax.Array, *, flip: str = "none", rotate: bool = False
) -> Batch:
    """Flips each example with probability 1/2, and turns it by quarter turns.

    `flip` is one of `FLIPS`; `rotate` needs square images.
    """
    if flip not in FLIPS:
        raise ValueError(f"flip must be one of {FLIPS}, got {flip!r}")

    def one(example: Batch, key: jax.Array) -> Batch:
        across, down, turn = jax.random.bernoulli(key, shape=(3,))
        if flip != "none" or rotate:
            example = _where(across, example, lambda x: x[:, ::-1])
        if flip == "both" or rotate:
            example = _where(down, example, lambda x: x[::-1])
        if rotate:
            example = _where(turn, example, lambda x: x.transpose(1, 0, 2))
        return example

    if flip == "none" and not rotate:
        return batch
    return jax.vmap(one)(batch, keys)


def _where(condition: jax.Array, example: Batch, change) -> Batch:
    return {k: jnp.where(condition, change(x), x) for k, x in example.items()}


def crop_and_resize(
    batch: Batch, keys: jax.Array, *, area: float, one_hot: tuple[str, ...] = ()
) -> Batch:
    """Crops a fraction `area` of each example at its aspect and resizes it back.

    The crop lies uniformly inside the image; sampling is bilinear. The images named in
    `one_hot` hold one class per pixel as -1 and 1, and are made so again afterwards.
    Isola et al., 2017, appendix 6.2 (there 256^2 of 286^2, an area of .80).
    """
    if not 0 < area <= 1:
        raise ValueError(f"area must lie in (0, 1], got {area}")
    if area == 1:
        return batch
    side = math.sqrt(area)

    def one(example: Batch, key: jax.Array) -> Batch:
        corner = (1.0 - side) * jax.random.uniform(key, (2,))

        def resize(name: str, x: jax.Array) -> jax.Array:
            size = jnp.array(x.shape[:2], jnp.float32)
            resized = jax.image.scale_and_translate(
                x,
                x.shape,
                (0, 1),
                jnp.full(2, 1 / side),
                -corner * size / side,
                method="linear",
                antialias=False,
            )
            return _most_likely(resized) if name in one_hot else resized

        return {name: resize(name, x) for name, x in example.items()}

    return jax.vmap(one)(batch, keys)


def _most_likely(classes: jax.Array) -> jax.Array:
    """Returns 1 for the largest channel of each pixel and -1 for the others."""
    winner = jnp.argmax(classes, axis=-1)
    return 2.0 * jax.nn.one_hot(winner, classes.shape[-1]) - 1.0
