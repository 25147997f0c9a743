"""Patch discriminators: parameters, grids, what they see, second derivatives."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxgan.models import patch
from tests import games

PATCH16 = functools.partial(patch.PatchDiscriminator, num_layers=1)
PATCH70 = patch.PatchDiscriminator
PATCH286 = functools.partial(patch.PatchDiscriminator, num_layers=5)
PIXEL = patch.PixelDiscriminator


def draw_image(*shape):
    return np.float32(np.random.default_rng(0).uniform(-1, 1, shape))


def init_shapes(module, shape):
    """Returns the shapes of output and variables; nothing is computed."""
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    init = functools.partial(module.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), image)


class PaperSizeTest(parameterized.TestCase):
    @parameterized.parameters(
        # As many as the PyTorch reference code has.
        (PIXEL, "batch", 6, 9_024),
        (PATCH16, "batch", 6, 139_585),
        (PATCH16, "batch", 2, 135_489),
        (PATCH70, "batch", 6, 2_768_705),
        (PATCH70, "batch", 2, 2_764_609),
        (PATCH70, "instance", 3, 2_764_737),
        (PATCH286, "batch", 6, 11_159_361),
    )
    def test_parameters(self, make, norm, channels, count):
        _, variables = init_shapes(make(norm=norm), (1, 128, 128, channels))
        leaves = jax.tree.leaves(variables["params"])
        assert sum(math.prod(leaf.shape) for leaf in leaves) == count

    @parameterized.parameters(
        (PATCH70, 256, 30),
        (PATCH70, 128, 14),
        (PATCH70, 64, 6),
        (PATCH16, 256, 126),
        (PATCH286, 256, 6),
        (PIXEL, 256, 256),
    )
    def test_grid_of_logits(self, make, size, grid):
        logits, _ = init_shapes(make(), (2, size, size, 6))
        assert logits.shape == (2, grid, grid, 1)


class ShapeTest(parameterized.TestCase):
    @parameterized.parameters((PATCH16, 6, 8), (PATCH70, 24, 40), (PATCH286, 96, 128))
    def test_the_smallest_images(self, make, height, width):
        logits, _ = init_shapes(make(width=2), (1, height, width, 1))
        assert logits.shape[1] == 1
        message = f"at least {height}x{height}, got {height - 1}x{width}; use larger"
        with self.assertRaisesRegex(ValueError, message):
            init_shapes(make(width=2), (1, height - 1, width, 1))

    @parameterized.parameters(PATCH70, PIXEL)
    def test_bfloat16_is_for_the_arithmetic_only(self, make):
        module = make(width=2, dtype=jnp.bfloat16)
        logits, variables = init_shapes(module, (1, 32, 32, 1))
        assert logits.dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
        text = str(
            jax.make_jaxpr(functools.partial(module.apply, train=False))(
                jax.tree.map(lambda x: jnp.zeros(x.shape), variables),
                jnp.zeros((1, 32, 32, 1)),
            )
        )
        convolutions = [x for x in text.splitlines() if " conv[" in x]
        assert convolutions
        assert all(":bf16[" in line for line in convolutions)


class ReceptiveFieldTest(parameterized.TestCase):
    @parameterized.parameters(
        (PIXEL, 4, 1), (PATCH16, 32, 16), (PATCH70, 128, 70), (PATCH286, 384, 286)
    )
    def test_what_one_verdict_sees(self, make, size, expected):
        """With positive weights every pixel that a verdict sees pulls on it."""
        module = make(width=1, norm="none")
        image = np.full((1, size, size, 1), 1.0, np.float32)
        _, variables = init_shapes(module, image.shape)
        ones = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), variables)

        @jax.jit
        def footprint(image):
            def verdict(image):
                logits = module.apply(ones, image, train=False)
                return logits[0, logits.shape[1] // 2, logits.shape[2] // 2, 0]

            return jax.grad(verdict)(image)

        seen = np.asarray(footprint(image))[0, :, :, 0] > 0
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        assert rows.size == columns.size == expected
        assert seen.sum() == expected**2
        # None of it was cut off at the rim.
        assert expected == 1 or (rows[0] > 0 and rows[-1] < size - 1)


def penalty_of(module, image):
    """Returns `penalty(params)`, the size of a verdict's gradient."""

    def penalty(params):
        verdict = lambda x: module.apply({"params": params}, x, train=True)  # noqa: E731
        slope = jax.grad(lambda x: jnp.sum(verdict(x) ** 2))(image)
        return jnp.log(jnp.sum(slope**2))

    return penalty


class SecondDerivativeTest(parameterized.TestCase):
    @parameterized.parameters(
        (PIXEL, "instance", 8),
        (PATCH16, "none", 16),
        (PATCH70, "instance", 32),
        (PATCH286, "none", 96),
    )
    def test_a_gradient_penalty_reaches_every_kernel(self, make, norm, size):
        module = make(width=2, norm=norm)
        image = draw_image(1, size, size, 2)
        params = games.draw_variables(module, image, train=False)["params"]
        gradient = jax.jit(jax.grad(penalty_of(module, image)))(params)
        chex.assert_tree_all_finite(gradient)
        for layer in gradient.values():
            assert np.abs(layer["kernel"]).max() > 1e-3

    def test_reverse_mode_of_reverse_mode_is_what_forward_mode_gives(self):
        module = PATCH16(width=2, norm="instance")
        image = draw_image(1, 16, 16, 2)
        params = games.draw_variables(module, image, train=False)["params"]
        along = jax.tree.map(lambda x: draw_image(*x.shape), params)
        penalty = penalty_of(module, image)

        @jax.jit
        def slopes(params):
            products = jax.tree.map(jnp.vdot, jax.grad(penalty)(params), along)
            _, forward = jax.jvp(penalty, (params,), (along,))
            return sum(jax.tree.leaves(products)), forward

        backward, forward = slopes(params)
        assert abs(forward) > 0.1
        np.testing.assert_allclose(backward, forward, rtol=1e-3)
