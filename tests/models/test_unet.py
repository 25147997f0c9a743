"""The U-Net: its size, its grid, its noise, and derivatives in both modes."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxgan.models import unet
from tests import games


def init_shapes(module, shape, *, train=False):
    """Returns the shapes of output and variables; nothing is computed."""
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    init = functools.partial(module.init_with_output, train=train)
    key, dropout_key = jax.random.split(jax.random.key(0))
    keys = {"params": key, "dropout": dropout_key}
    return jax.eval_shape(init, keys, image)


def draw_image(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).uniform(-1, 1, shape))


class PaperSizeTest(parameterized.TestCase):
    @parameterized.parameters(
        # As many as the PyTorch reference code has.
        (7, "batch", 3, 3, 41_828_995),
        (8, "batch", 3, 3, 54_413_955),
        (8, "batch", 1, 1, 54_407_809),
        (8, "instance", 3, 3, 54_409_603),
        (9, "batch", 3, 3, 66_998_915),
        (9, "batch", 1, 1, 66_992_769),
    )
    def test_parameters(self, depth, norm, inputs, outputs, count):
        side = 2**depth
        module = unet.UNet(outputs, depth=depth, norm=norm)
        image, variables = init_shapes(module, (1, side, side, inputs))
        leaves = jax.tree.leaves(variables["params"])
        assert sum(math.prod(leaf.shape) for leaf in leaves) == count
        assert image.shape == (1, side, side, outputs)

    @parameterized.parameters(
        (5, []), (6, [4]), (7, [4, 8]), (8, [4, 8, 16]), (9, [4, 8, 16, 32])
    )
    def test_dropout_acts_on_the_inner_levels(self, depth, expected):
        """Three of eight levels; the innermost, whose features have 2x2, never."""
        sides = []

        def note(call, args, kwargs, context):
            if isinstance(context.module, nn.Dropout):
                sides.append(args[0].shape[1])
            return call(*args, **kwargs)

        with nn.intercept_methods(note):
            init_shapes(unet.UNet(3, depth=depth), (1, 2**depth, 2**depth, 3))
        assert sides == expected

    def test_instance_affine_reads_what_batch_wrote(self):
        trees = [
            init_shapes(unet.UNet(1, width=4, depth=3, norm=norm), (1, 8, 8, 1))[1]
            for norm in ("batch", "instance_affine")
        ]
        batch, affine = (jax.tree.map(jnp.shape, tree["params"]) for tree in trees)
        assert batch == affine


class ShapeTest(parameterized.TestCase):
    @parameterized.parameters((64, 96, 5), (8, 4, 2), (2, 6, 1))
    def test_oblong_images_keep_their_shape(self, height, width, depth):
        module = unet.UNet(4, width=2, depth=depth)
        out, _ = init_shapes(module, (2, height, width, 1), train=True)
        assert out.shape == (2, height, width, 4)

    @parameterized.parameters((24, 32), (32, 24), (8, 8), (0, 16))
    def test_sizes_that_do_not_divide_are_refused(self, height, width):
        message = f"depth 4 .* divide by 16, got {height}x{width}; .* lower `depth`"
        with self.assertRaisesRegex(ValueError, message):
            init_shapes(unet.UNet(1, width=2, depth=4), (1, height, width, 1))

    def test_bfloat16_is_for_the_arithmetic_only(self):
        """Layers compute in bfloat16; parameters, statistics, output are float32."""
        outputs = []

        def note(call, args, kwargs, context):
            outputs.append((context.module.name, call(*args, **kwargs)))
            return outputs[-1][1]

        module = unet.UNet(1, width=2, depth=3, dtype=jnp.bfloat16)
        with nn.intercept_methods(note):
            out, variables = init_shapes(module, (1, 8, 8, 1))
        inner = {name: x.dtype for name, x in outputs if name and "_" != name[0]}
        assert inner.pop(None, None) is None
        assert {"down0", "down1_norm", "up1_norm", "up0"} <= set(inner)
        assert all(dtype == jnp.bfloat16 for dtype in inner.values()), inner
        assert out.dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


class NoiseTest(parameterized.TestCase):
    def test_dropout_is_on_at_prediction_only_with_a_key(self):
        module = unet.UNet(1, width=1, depth=6, norm="none")
        image = draw_image(1, 64, 64, 1)
        variables = games.draw_variables(module, image, train=False)

        @jax.jit
        def predict(key=None):
            rngs = None if key is None else {"dropout": key}
            return module.apply(variables, image, train=False, rngs=rngs)

        plain = predict()
        np.testing.assert_array_equal(plain, predict())
        one, other, again = (predict(jax.random.key(seed)) for seed in (0, 1, 0))
        np.testing.assert_array_equal(one, again)
        assert not np.allclose(one, other, atol=1e-4)
        assert not np.allclose(one, plain, atol=1e-4)


class DerivativeTest(parameterized.TestCase):
    def test_forward_mode_transposes_reverse_mode(self):
        """<c, J v> = <J' c, v>, for image and parameters together.

        The image is large enough for both forms that a convolution has on a CPU.
        """
        module = unet.UNet(2, width=2, depth=2)
        image = draw_image(2, 40, 40, 1)
        variables = games.draw_variables(module, image, train=False)
        stats = variables.get("batch_stats", {})

        def apply(params, image):
            variables = {"params": params, "batch_stats": stats}
            options = {"train": True, "mutable": ["batch_stats"]}
            return module.apply(variables, image, **options)[0]

        primals = (variables["params"], image)
        tangents = jax.tree.map(lambda x: draw_image(*x.shape, seed=x.size), primals)

        @jax.jit
        def products(primals, tangents):
            out, out_dot = jax.jvp(apply, primals, tangents)
            cotangent = jnp.cos(7 * jnp.arange(out.size)).reshape(out.shape)
            gradients = jax.vjp(apply, *primals)[1](cotangent)
            backward = jax.tree.map(jnp.vdot, gradients, tangents)
            return jnp.vdot(cotangent, out_dot), sum(jax.tree.leaves(backward))

        forward, backward = products(primals, tangents)
        assert abs(forward) > 0.01
        np.testing.assert_allclose(forward, backward, rtol=1e-3)


def test_resize_and_convolve_leaves_no_checkerboard():
    """Untrained networks, of one noise image; the paper's layers do leave one."""
    from jaxgan import spectrum

    image = np.random.default_rng(0).standard_normal((1, 64, 64, 1)).astype("f4")
    peaks = {}
    for upsample in unet.UPSAMPLINGS:
        net = unet.UNet(1, width=8, depth=2, norm="none", dropout=0, upsample=upsample)
        variables = games.draw_variables(net, image, train=False)
        made = jax.jit(lambda v, x, net=net: net.apply(v, x, train=False))
        peaks[upsample] = spectrum.checkerboard(
            np.asarray(made(variables, image))[0, ..., 0]
        )
        assert made(variables, image).shape == image.shape
    assert peaks["resize"] < 1.5 < 2 < peaks["transpose"]
