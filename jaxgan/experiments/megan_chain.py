"""From edges to an image: MEGAN's scales, one after another, the higher in patches."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import augment
from jaxgan.data import stitch
from jaxgan.data.multiscale import edge_scale
from jaxgan.methods import megan

_BATCH = 16  # patches that are made at once


class Chain:
    """The generators of all scales, compiled once each, for images of any size.

    `params` are `GANState.gen.params`; edges are stored ones, uint8 `[H, W, 1]` on the
    finest grid; images are float32 `[h, w, C]` in [-1, 1]. What a device holds does not
    depend on the size of the image, but for the whole image at the lowest scale.
    """

    def __init__(self, config: megan.Config, *, out_channels: int):
        """Builds the generators of a configuration."""
        self._config = config
        self._makers = [
            jax.jit(
                functools.partial(
                    _make, megan.networks(config, k, out_channels=out_channels).gen
                )
            )
            for k in range(config.num_scales)
        ]

    @property
    def multiple(self) -> int:
        """What the sides of the edges divide by."""
        return 16 * 2 ** (self._config.num_scales - 1)

    def edges(self, found: np.ndarray, scale: int) -> np.ndarray:
        """Returns full edges as a scale takes them."""
        config = self._config
        factor = 2 ** (config.num_scales - 1 - scale)
        return edge_scale(found, factor, config.edge_factor, config.num_scales)

    def low(self, params: Any, edges: np.ndarray) -> np.ndarray:
        """Makes the lowest scale of its edges."""
        return np.asarray(self._makers[0](params[megan.name_of(0)], edges[None]))[0]

    def high(
        self, params: Any, scale: int, edges: np.ndarray, below: np.ndarray
    ) -> Iterator[np.ndarray]:
        """Yields a higher scale, some rows at a time, of its edges and the scale below.

        `edges` and `below` may be mapped files: of them, only patches are read.
        """
        patch = min(self._config.patch_size, *edges.shape[:2])
        core = min(self._config.core_size, patch)
        weights = params[megan.name_of(scale)]

        def make(places: Sequence[stitch.Place]) -> np.ndarray:
            made = []
            for start in range(0, len(places), _BATCH):
                some = places[start : start + _BATCH]
                filled = [*some, *[some[-1]] * (_BATCH - len(some))]  # one program
                cut = [edges[t : t + patch, x : x + patch] for t, x in filled]
                half = patch // 2
                coarse = [
                    below[t // 2 : t // 2 + half, x // 2 : x // 2 + half]
                    for t, x in filled
                ]
                done = self._makers[scale](weights, np.stack(cut), np.stack(coarse))
                made.append(np.asarray(done)[: len(some)])
            return np.concatenate(made)

        return stitch.stitch(edges.shape[:2], make, patch=patch, core=core)

    def all_scales(
        self, params: Any, found: np.ndarray, *, last: int | None = None
    ) -> list[np.ndarray]:
        """Returns the images of all scales, or of those up to `last`, in memory."""
        count = self._config.num_scales if last is None else last + 1
        images = [self.low(params, self.edges(found, 0))]
        for scale in range(1, count):
            edges = self.edges(found, scale)
            rows = self.high(params, scale, edges, images[-1])
            images.append(np.concatenate(list(rows)))
        return images


def _make(gen, params: Any, edges: jax.Array, below: jax.Array | None = None):
    low, high = jnp.zeros(edges.shape[-1]), jnp.full(edges.shape[-1], 255.0)
    lines = megan.unfold(augment.decode(edges, low, high))
    return megan.generate(gen, params, lines, below=below)
