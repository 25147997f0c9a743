"""Layers have PyTorch's sizes, epsilons and momenta, and the drawn weights of DCGAN."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxgan import layers
from tests import games


class Norm(nn.Module):
    """One normalisation as a module."""

    norm: str
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, train):
        return layers.normalise(
            x, self.norm, train=train, name="norm", dtype=self.dtype
        )


def features(shape=(3, 4, 5, 2), dtype=np.float32):
    """Returns features whose mean and spread differ between examples and channels."""
    generator = np.random.default_rng(0)
    spread, mean = generator.uniform(1, 2, (2, shape[0], 1, 1, shape[-1]))
    return (mean + spread * generator.standard_normal(shape)).astype(dtype)


def apply_norm(norm, x, *, train=True, stats=None, **options):
    """Returns `(y, updated stats)` of a norm with scale 1 and bias 0."""
    module = Norm(norm, **options)
    shapes = jax.eval_shape(
        functools.partial(module.init, train=True), jax.random.key(0), x
    )
    params = {
        "norm": {
            name: jnp.full(leaf.shape, float(name == "scale"), leaf.dtype)
            for name, leaf in shapes.get("params", {}).get("norm", {}).items()
        }
    }
    variables = {"params": params, "batch_stats": {"norm": stats} if stats else {}}
    y, updated = module.apply(variables, x, train=train, mutable=["batch_stats"])
    return y, updated.get("batch_stats", {}).get("norm")


def count_under_kernel(layer, size):
    """Applies a kernel of ones to an image `[1, size, size, 1]` of ones."""
    ones = jnp.ones((1, size, size, 1))
    shapes = jax.eval_shape(layer.init, jax.random.key(0), ones)
    weights = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
    return layer.apply(weights, ones)[0, :, :, 0]


class ConvTest(parameterized.TestCase):
    @parameterized.product(
        kernel_size=(1, 3, 4, 7, 9), stride=(1, 2), padding=(0, 1, 3), size=(8, 11)
    )
    def test_size_is_pytorchs(self, kernel_size, stride, padding, size):
        """Documentation of torch.nn.Conv2d: floor((H + 2p - k) / s) + 1."""
        height, width = size + 2, size
        if width + 2 * padding < kernel_size:
            return
        layer = layers.Conv(5, kernel_size, stride, padding)
        image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
        out, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), image)
        expected = [
            (n + 2 * padding - kernel_size) // stride + 1 for n in (height, width)
        ]
        assert out.shape == (1, *expected, 5)

    @parameterized.product(
        kernel=((4, 2, 1, 0), (4, 1, 0, 0), (2, 2, 0, 0), (3, 2, 1, 1), (1, 1, 0, 0)),
        size=(1, 4, 5),
    )
    def test_transposed_size_is_pytorchs(self, kernel, size):
        """torch.nn.ConvTranspose2d: (H - 1) s - 2p + k + output_padding."""
        kernel_size, stride, padding, output_padding = kernel
        layer = layers.ConvTranspose(5, kernel_size, stride, padding, output_padding)
        image = jax.ShapeDtypeStruct((1, size + 2, size, 3), jnp.float32)
        out, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), image)
        expected = [
            (n - 1) * stride - 2 * padding + kernel_size + output_padding
            for n in (size + 2, size)
        ]
        assert out.shape == (1, *expected, 5)

    def test_padding_lies_on_both_sides(self):
        """A 4x4 window, stride 2, padding 1, over 4x4 pixels: 3 of 4 rows at edges."""
        counts = count_under_kernel(layers.Conv(1, 4, 2, 1, use_bias=False), 4)
        np.testing.assert_array_equal(counts, [[9, 9], [9, 9]])
        counts = count_under_kernel(layers.Conv(1, 3, 2, 1, use_bias=False), 4)
        np.testing.assert_array_equal(counts, [[4, 6], [6, 9]])

    def test_padding_may_differ_between_sides(self):
        padding = ((2, 0), (0, 1))
        counts = count_under_kernel(layers.Conv(1, 3, 1, padding, use_bias=False), 3)
        np.testing.assert_array_equal(counts, [[3, 2], [6, 4], [9, 6]])

    def test_output_padding_adds_to_the_far_side(self):
        """k3 s2 p1 op1 on 2 pixels: a transposed window reaches rows -1..1 and 1..3."""
        counts = count_under_kernel(
            layers.ConvTranspose(1, 3, 2, 1, 1, use_bias=False), 2
        )
        rows = np.array([1, 2, 1, 1])
        np.testing.assert_array_equal(counts, np.outer(rows, rows))

    @parameterized.parameters((4, 2, 1, 0), (3, 2, 1, 1), (4, 1, 0, 0))
    def test_transposed_is_the_transpose(self, kernel_size, stride, padding, extra):
        """<C x, y> = <x, T y> with one kernel for both."""
        down = layers.Conv(3, kernel_size, stride, padding, use_bias=False)
        up = layers.ConvTranspose(
            2, kernel_size, stride, padding, extra, use_bias=False
        )
        generator = np.random.default_rng(0)
        x = generator.standard_normal((1, 8, 8, 2)).astype(np.float32)
        variables = games.draw_variables(down, x)
        out = down.apply(variables, x)
        y = generator.standard_normal(out.shape).astype(np.float32)
        back = up.apply(variables, y)
        assert back.shape == x.shape
        np.testing.assert_allclose(jnp.vdot(out, y), jnp.vdot(x, back), rtol=1e-4)

    @parameterized.parameters(layers.Conv, layers.ConvTranspose)
    def test_bias_is_added_per_channel(self, kind):
        x = jnp.zeros((1, 4, 4, 2))
        with_bias = jax.eval_shape(kind(3).init, jax.random.key(0), x)["params"]
        without = jax.eval_shape(kind(3, use_bias=False).init, jax.random.key(0), x)
        assert with_bias["bias"].shape == (3,)
        assert set(without["params"]) == {"kernel"}
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), with_bias)
        params["bias"] = jnp.array([1.0, 2.0, 3.0])
        out = kind(3).apply({"params": params}, x)
        np.testing.assert_array_equal(out, np.broadcast_to([1, 2, 3], out.shape))

    @parameterized.parameters(layers.Conv, layers.ConvTranspose)
    def test_bfloat16_computes_but_does_not_store(self, kind):
        layer = kind(3, dtype=jnp.bfloat16)
        out, variables = jax.eval_shape(
            layer.init_with_output, jax.random.key(0), jnp.zeros((1, 4, 4, 2))
        )
        assert out.dtype == jnp.bfloat16
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


class InitialWeightsTest(parameterized.TestCase):
    def test_weights_are_drawn_as_dcgan_draws_them(self):
        """N(0, .02) for kernels, zero for biases, N(1, .02) for scales of norms."""
        conv = layers.Conv(64).init(jax.random.key(0), jnp.zeros((1, 4, 4, 4)))
        kernel = conv["params"]["kernel"]
        np.testing.assert_allclose(jnp.std(kernel), 0.02, rtol=0.05)
        np.testing.assert_allclose(jnp.mean(kernel), 0.0, atol=0.002)
        np.testing.assert_array_equal(conv["params"]["bias"], 0.0)

        image = jnp.zeros((1, 2, 2, 4096))
        norm = Norm("batch").init(jax.random.key(0), image, train=False)["params"]
        np.testing.assert_allclose(jnp.std(norm["norm"]["scale"]), 0.02, rtol=0.05)
        np.testing.assert_allclose(jnp.mean(norm["norm"]["scale"]), 1.0, atol=0.002)
        np.testing.assert_array_equal(norm["norm"]["bias"], 0.0)


class NormTest(parameterized.TestCase):
    @parameterized.parameters(
        ("batch", (0, 1, 2)), ("instance", (1, 2)), ("instance_affine", (1, 2))
    )
    def test_subtracts_the_mean_and_divides_by_the_deviation(self, norm, axes):
        x = features()
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        expected = (x - mean) / np.sqrt(var + 1e-5)
        np.testing.assert_allclose(apply_norm(norm, x)[0], expected, atol=1e-5)

    @parameterized.parameters("batch", "instance", "instance_affine")
    def test_epsilon_is_1e_5(self, norm):
        """x = ±a has the variance a^2: the result is ±a / sqrt(a^2 + 1e-5)."""
        a = 1e-3
        x = a * np.array([1, -1], np.float32).reshape(1, 1, 2, 1)
        expected = x / np.sqrt(a**2 + 1e-5)
        np.testing.assert_allclose(apply_norm(norm, x)[0], expected, rtol=1e-4)

    @parameterized.parameters("batch", "instance", "instance_affine")
    def test_a_single_pixel_becomes_zero(self, norm):
        out, _ = apply_norm(norm, features((1, 1, 1, 2)))
        np.testing.assert_array_equal(out, np.zeros((1, 1, 1, 2)))

    def test_running_statistics_move_by_a_tenth(self):
        """PyTorch's momentum of .1; but the variance is the biased one."""
        x = features()
        before = {"mean": jnp.array([1.0, -1.0]), "var": jnp.array([2.0, 3.0])}
        _, after = apply_norm("batch", x, stats=before)
        axes = (0, 1, 2)
        mean = 0.9 * before["mean"] + 0.1 * x.mean(axes)
        var = 0.9 * before["var"] + 0.1 * x.var(axes)
        np.testing.assert_allclose(after["mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(after["var"], var, rtol=1e-5)

    def test_prediction_reads_the_running_statistics_and_leaves_them(self):
        x = features()
        before = {"mean": jnp.array([1.0, -1.0]), "var": jnp.array([2.0, 3.0])}
        out, after = apply_norm("batch", x, train=False, stats=before)
        mean, var = (before[k].reshape(1, 1, 1, 2) for k in ("mean", "var"))
        np.testing.assert_allclose(out, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-5)
        chex.assert_trees_all_equal(after, before)

    def test_parameters(self):
        def shapes(norm):
            init = functools.partial(Norm(norm).init, train=False)
            tree = jax.eval_shape(init, jax.random.key(0), features())
            return jax.tree.map(lambda leaf: leaf.shape, tree)

        assert shapes("instance") == {}
        assert shapes("none") == {}
        affine = {"norm": {"scale": (2,), "bias": (2,)}}
        assert shapes("instance_affine") == {"params": affine}
        assert shapes("batch") == {
            "params": affine,
            "batch_stats": {"norm": {"mean": (2,), "var": (2,)}},
        }

    def test_none_is_the_identity(self):
        np.testing.assert_array_equal(apply_norm("none", features())[0], features())

    @parameterized.parameters("batch", "instance", "instance_affine")
    def test_bfloat16_features_have_float32_statistics(self, norm):
        """A sum of 4096 values near 1 in bfloat16 would stop growing at 256."""
        x = 1 + 0.1 * features((1, 64, 64, 1), jnp.bfloat16)
        out, stats = apply_norm(norm, x, dtype=jnp.bfloat16)
        assert out.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(out).mean(), 0.0, atol=0.01)
        np.testing.assert_allclose(np.float32(out).std(), 1.0, atol=0.01)
        for leaf in jax.tree.leaves(stats):
            assert leaf.dtype == jnp.float32

    def test_only_norms_that_shift_make_a_bias_needless(self):
        needs_bias = [norm for norm in layers.NORMS if layers.has_bias(norm)]
        assert needs_bias == ["instance", "none"]

    def test_unknown_norms_are_refused(self):
        with self.assertRaisesRegex(ValueError, "norm must be one of .* got 'layer'"):
            apply_norm("layer", features())
