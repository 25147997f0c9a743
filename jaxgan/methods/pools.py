"""Pools of earlier fakes, so that a discriminator does not forget them.

A pool is a pytree of arrays in the state: checkpoints hold it and devices replicate it.
"""

import jax
import jax.numpy as jnp

from jaxgan.state import PyTree, example_keys


def empty(size: int, shape: tuple[int, ...]) -> PyTree:
    """Returns a pool for `size` images of this shape, with nothing in it."""
    return {"images": jnp.zeros((size, *shape)), "count": jnp.int32(0)}


def draw(pool: PyTree, images: jax.Array, keys: jax.Array) -> tuple[PyTree, jax.Array]:
    """Returns the pool after `images` `[N, H, W, C]`, and what to show instead of them.

    One image after the other, each with its own of `keys` `[N]`: while the pool fills,
    an image is kept and shown; afterwards it is either shown and forgotten, or it takes
    the place of an earlier one, which is shown, each with probability 1/2. Shrivastava
    et al., 2017, "Learning from Simulated and Unsupervised Images through Adversarial
    Training", sec. 2.3, as the reference code of CycleGAN does it.
    """
    size = pool["images"].shape[0]

    def one(pool: PyTree, image_and_key: tuple[jax.Array, jax.Array]):
        image, key = image_and_key
        swap_key, place_key = jax.random.split(key)
        filling = pool["count"] < size
        swaps = ~filling & jax.random.bernoulli(swap_key)
        random_place = jax.random.randint(place_key, (), 0, size)
        place = jnp.where(filling, pool["count"], random_place)
        earlier = pool["images"][place]
        kept = jnp.where(filling | swaps, image, earlier)
        later = {
            "images": pool["images"].at[place].set(kept),
            "count": jnp.minimum(pool["count"] + 1, size),
        }
        return later, jnp.where(swaps, earlier, image)

    return jax.lax.scan(one, pool, (images, keys))


def draw_globally(
    pool: PyTree, fakes: jax.Array, key: jax.Array, axis_name: str | None
) -> tuple[PyTree, jax.Array]:
    """Does the same with the fakes of all devices; returns this one's share of them.

    The key is consumed; without an `axis_name` there is one device.
    """
    fakes = jax.lax.stop_gradient(fakes)
    size = fakes.shape[0]
    if axis_name is not None:
        fakes = jax.lax.all_gather(fakes, axis_name, tiled=True)
    pool, shown = draw(pool, fakes, example_keys(key, len(fakes), None))
    if axis_name is not None:
        first = jax.lax.axis_index(axis_name) * size
        shown = jax.lax.dynamic_slice_in_dim(shown, first, size)
    return pool, shown
