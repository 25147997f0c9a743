"""The networks of PGGAN: published sizes, closed forms, and how stages join."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import progressive
from tests import games

TINY = {"base_width": 16, "max_width": 6}


def parameters(module, *inputs):
    init = functools.partial(module.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), *inputs, 1.0)["params"]
    return {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }


def tiny(resolution, channels=1):
    gen = progressive.Generator(resolution, channels, **TINY)
    disc = progressive.Discriminator(resolution, **TINY)
    latent = np.random.default_rng(1).standard_normal((4, 5)).astype("f4")
    shape = (4, resolution, resolution, channels)
    image = np.random.default_rng(2).uniform(-1, 1, shape).astype("f4")
    return gen, disc, latent, image


def variables(module, *inputs):
    """All drawn, biases too, so that no term is zero."""
    drawn = games.draw_variables(module, *inputs, alpha=1.0, train=False)
    return jax.tree.map(jnp.asarray, drawn)


@pytest.mark.parametrize(
    "resolution, channels, base_width, gen_count, disc_count",
    [
        (1024, 3, 8192, 23_079_115, 23_087_249),
        (1024, 1, 8192, 23_074_009, 23_082_161),
        (512, 1, 8192, 23_067_048, 23_075_169),
        (256, 1, 8192, 23_039_303, 23_047_361),
        (128, 1, 2048, 13_626_790, 13_633_889),
    ],
)
def test_published_parameter_counts(
    resolution, channels, base_width, gen_count, disc_count
):
    gen = progressive.Generator(resolution, channels, base_width=base_width)
    disc = progressive.Discriminator(resolution, base_width=base_width)
    image = jnp.zeros((1, resolution, resolution, channels))
    counts = [
        sum(np.prod(shape) for shape in parameters(*parts).values())
        for parts in ((gen, jnp.zeros((1, 512))), (disc, image))
    ]
    assert counts == [gen_count, disc_count]


def test_a_resolution_contains_the_lower_ones():
    for low, high in ((4, 8), (8, 32)):
        for player in (0, 1):
            small, large = (
                parameters(tiny(r, 3)[player], tiny(r, 3)[player + 2])
                for r in (low, high)
            )
            assert small.items() < large.items()


def test_the_fade_begins_and_ends_at_the_neighbouring_stages():
    """Exactly; nothing is compiled as a whole, which would round another way."""
    resolution = 8
    gen, disc, latent, image = tiny(resolution)
    below, disc_below, *_ = tiny(resolution // 2)
    weights = variables(gen, latent)
    coarse = progressive.enlarge(below.apply(weights, latent, 1.0, train=False))
    image_at = lambda a: gen.apply(weights, latent, a, train=False)  # noqa: E731
    np.testing.assert_array_equal(image_at(0.0), coarse)
    # Not the old stage's layer to images: that of the new stage alone.
    old = f"to_image{resolution // 2}"
    other = {"params": {**weights["params"]}}
    other["params"][old] = jax.tree.map(jnp.zeros_like, weights["params"][old])
    np.testing.assert_array_equal(
        image_at(1.0), gen.apply(other, latent, 1.0, train=False)
    )
    half = image_at(0.5)
    chex.assert_trees_all_close(half, (image_at(0.0) + image_at(1.0)) / 2, atol=1e-5)
    assert np.abs(image_at(1.0) - coarse).max() > 0.01

    weights = variables(disc, image)
    judge_at = lambda a: disc.apply(weights, image, a, train=False)  # noqa: E731
    verdict = disc_below.apply(weights, progressive.shrink(image), 1.0, train=False)
    np.testing.assert_array_equal(judge_at(0.0), verdict)
    old = f"from_image{resolution // 2}"
    other = {"params": {**weights["params"]}}
    other["params"][old] = jax.tree.map(jnp.zeros_like, weights["params"][old])
    np.testing.assert_array_equal(
        judge_at(1.0), disc.apply(other, image, 1.0, train=False)
    )
    assert np.abs(judge_at(1.0) - judge_at(0.0)).max() > 1e-3


def test_equalised_layers_scale_by_their_fan_in():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 3, 5)).astype("f4")
    kernel = rng.standard_normal((3, 3, 5, 7)).astype("f4")
    bias = rng.standard_normal(7).astype("f4")
    layer = progressive.EqualConv(7)
    y = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    center = np.einsum("bhwi,hwio->bo", x, kernel) * np.sqrt(2 / (9 * 5)) + bias
    np.testing.assert_allclose(y[:, 1, 1], center, rtol=1e-5)

    dense = progressive.EqualDense(2, pixels=3, gain=0.5)
    weights = {"kernel": rng.standard_normal((5, 6)).astype("f4"), "bias": bias[:2]}
    y = dense.apply({"params": weights}, x[:, 0, 0])
    expected = x[:, 0, 0] @ weights["kernel"] * 0.5 / np.sqrt(5) + np.tile(bias[:2], 3)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    drawn = layer.init(jax.random.key(0), np.zeros((1, 3, 3, 64), "f4"))["params"]
    assert abs(np.std(drawn["kernel"]) - 1) < 0.03
    assert not drawn["bias"].any()


def test_pixel_norm_makes_the_mean_square_one():
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 5)).astype("f4")
    y = progressive.pixel_norm(x)
    np.testing.assert_allclose(np.mean(y**2, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(y, x / np.sqrt(np.mean(x**2, -1, keepdims=True)), 1e-5)


@pytest.mark.parametrize("batch, group", [(8, 4), (6, 3), (1, 1)])
def test_minibatch_deviation(batch, group):
    x = np.random.default_rng(0).standard_normal((batch, 2, 2, 3)).astype("f4")
    y = progressive.minibatch_deviation(x)
    np.testing.assert_array_equal(y[..., :3], x)
    for i in range(batch):
        members = x[i % (batch // group) :: batch // group]
        expected = np.sqrt(members.var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(y[i, ..., 3], expected, rtol=1e-5)


def test_minibatch_deviation_spans_the_devices():
    x = np.random.default_rng(0).standard_normal((8, 2, 2, 3)).astype("f4")
    split = jax.vmap(
        functools.partial(progressive.minibatch_deviation, axis_name="devices"),
        axis_name="devices",
    )(x.reshape(4, 2, 2, 2, 3))
    whole = progressive.minibatch_deviation(x)
    np.testing.assert_allclose(split.reshape(whole.shape), whole, rtol=1e-6)


def test_generators_go_forward_and_critics_twice_backward():
    gen, disc, latent, image = tiny(8)
    weights = variables(gen, latent)
    make = lambda z: gen.apply(weights, z, 0.5, train=False)  # noqa: E731
    push = jax.jit(lambda z: jax.jvp(make, (z,), (jnp.ones_like(z),)))
    _, slope = push(latent)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0
    weights = variables(disc, image)
    judge = lambda w, x: disc.apply(w, x, 0.5, train=False).sum()  # noqa: E731
    penalty = lambda w: jnp.sum(jax.grad(judge, 1)(w, image) ** 2)  # noqa: E731
    grads = jax.jit(jax.grad(penalty))(weights)["params"]
    assert np.abs(grads["conv8_0"]["kernel"]).max() > 0
    chex.assert_tree_all_finite(grads)


def test_sizes_that_cannot_be():
    assert progressive.resolutions(32) == [4, 8, 16, 32]
    for size in (2, 12, 100):
        with pytest.raises(ValueError, match=f"got {size}"):
            progressive.resolutions(size)
    _, disc, _, image = tiny(8)
    with pytest.raises(ValueError, match="takes 8x8, got 4x8"):
        disc.init(jax.random.key(0), image[:, :4], 1.0, train=False)
