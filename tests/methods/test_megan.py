"""The train step of MEGAN: one scale's game, and the others left alone."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from jaxgan import losses
from jaxgan.methods import megan
from jaxgan.state import GANState, Player

CONFIG = megan.Config(
    crop_size=64, num_scales=2, patch_size=28, core_size=20, width=2, num_blocks=1
)
GEN_TX, DISC_TX = optax.sgd(0.3), optax.sgd(0.2)


class LinearGenerator(nn.Module):
    """A weighted sum of channels."""

    @nn.compact
    def __call__(self, image, *, train):
        weights = self.param("w", nn.zeros, (image.shape[-1], 1))
        return jnp.einsum("bhwi,io->bhwo", image, weights)


class SquareDiscriminator(nn.Module):
    """A verdict per pixel: its squared channels, weighted."""

    @nn.compact
    def __call__(self, image, *, train):
        weights = self.param("v", nn.zeros, (1, 1, 1, image.shape[-1]))
        return jnp.sum(image**2 * weights, axis=-1, keepdims=True)


def toy(scale, **options):
    """Returns `(train_step, state, batch)` of a linear game of two scales."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: np.float32(rng.uniform(-1, 1, shape))  # noqa: E731
    gens, discs = {}, {}
    for k in range(2):
        gen, disc = {"w": draw(1 + k, 1)}, {"v": draw(1, 1, 1, 2 + k)}
        gens[f"scale{k}"] = Player(gen, {}, GEN_TX.init(gen))
        discs[f"scale{k}"] = Player(disc, {}, DISC_TX.init(disc))
    state = GANState(np.int32(0), megan._gather(gens), megan._gather(discs))
    step = megan.make_train_step(
        LinearGenerator(),
        SquareDiscriminator(),
        GEN_TX,
        DISC_TX,
        scale=scale,
        gan=losses.lsgan(),
        l1_weight=2.0,
        **options,
    )
    batch = {"source": draw(4, 4, 4, 1), "target": draw(4, 4, 4, 1)}
    return step, state, batch


def naive_step(state, batch, scale):
    """The game in the paper's words, with a forward of G for each player."""
    edges, target = batch["source"], batch["target"]
    given = edges
    if scale:
        coarse = target.reshape(4, 2, 2, 2, 2, 1).mean((2, 4))
        given = jnp.concatenate([edges, coarse.repeat(2, 1).repeat(2, 2)], -1)
    name = f"scale{scale}"
    w, v = state.gen.params[name]["w"], state.disc.params[name]["v"]
    make = lambda w: jnp.einsum("bhwi,io->bhwo", given, w)  # noqa: E731

    def judge(v, image):
        return jnp.sum(jnp.concatenate([given, image], -1) ** 2 * v, -1)

    def disc_loss(v):
        on_real, on_fake = judge(v, target), judge(v, make(w))
        return 0.5 * (jnp.mean((on_real - 1) ** 2) + jnp.mean(on_fake**2))

    moved = v - 0.2 * jax.grad(disc_loss)(v)

    def gen_loss(w):
        l1 = jnp.mean(jnp.abs(make(w) - target))
        return jnp.mean((judge(moved, make(w)) - 1) ** 2) + 2.0 * l1

    return w - 0.3 * jax.grad(gen_loss)(w), moved, gen_loss(w), disc_loss(v)


@pytest.mark.parametrize("scale", [0, 1])
def test_equals_the_naive_step_and_moves_one_scale(scale):
    step, state, batch = toy(scale)
    after, metrics = jax.jit(step)(state, batch, jax.random.key(1))
    w, v, g_loss, d_loss = naive_step(state, batch, scale)
    name, other = f"scale{scale}", f"scale{1 - scale}"
    np.testing.assert_allclose(after.gen.params[name]["w"], w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after.disc.params[name]["v"], v, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["gen_loss"], g_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["disc_loss"], d_loss, rtol=1e-5)
    assert after.step == 1
    for player in ("gen", "disc"):
        old, new = (getattr(s, player).params[other] for s in (state, after))
        chex.assert_trees_all_equal(old, new)


def test_edges_are_noisy_afresh_at_every_step():
    step, state, batch = toy(1, edge_noise=0.5)
    step = jax.jit(step)
    losses_at = [
        float(step(state.replace(step=np.int32(s)), batch, jax.random.key(1))[1]["l1"])
        for s in (0, 1, 0)
    ]
    assert losses_at[0] == losses_at[2] != losses_at[1]
    quiet = toy(1)[0](state, batch, jax.random.key(1))[1]["l1"]
    assert abs(quiet - losses_at[0]) > 1e-3


def test_devices_agree_with_one_that_takes_the_whole_batch():
    step, state, batch = toy(1, edge_noise=0.5)
    whole = jax.jit(step)(state, batch, jax.random.key(1))
    step, *_ = toy(1, edge_noise=0.5, axis_name="devices")
    parts = {k: x.reshape(4, 1, *x.shape[1:]) for k, x in batch.items()}
    split = jax.jit(jax.vmap(step, (None, 0, None), axis_name="devices"))(
        state, parts, jax.random.key(1)
    )
    one = jax.tree.map(lambda x: x[3], split)
    chex.assert_trees_all_close(one, whole, rtol=1e-5, atol=1e-6)


def real_step(scale):
    networks = megan.networks(CONFIG, scale, out_channels=1)
    return megan.make_train_step(
        *networks, GEN_TX, DISC_TX, scale=scale, gan=losses.lsgan()
    )


def test_real_networks_lower_for_every_platform():
    """Whole networks of either scale; nothing is compiled."""
    for scale, size in ((0, 32), (1, 28)):
        optimizers = megan.Optimizers(GEN_TX, DISC_TX)
        init = lambda key: megan.init(CONFIG, optimizers, key, channels=1)  # noqa: B023, E731
        state = jax.eval_shape(init, jax.random.key(0))
        image = jax.ShapeDtypeStruct((2, size, size, 1), jnp.float32)
        batch = {"source": image, "target": image}
        step = jax.jit(real_step(scale))
        key = jax.eval_shape(lambda: jax.random.key(0))
        exported = export.export(step, platforms=["cpu", "cuda", "tpu"])(
            state, batch, key
        )
        assert exported.platforms == ("cpu", "cuda", "tpu")


def test_folded_edges_are_laid_out():
    edges = np.arange(2 * 4 * 6).reshape(2, 4, 6, 1)
    from jaxgan.data.edges import fold

    folded = np.stack([fold(e) for e in edges])
    assert folded.shape == (2, 2, 3, 4)
    np.testing.assert_array_equal(megan.unfold(folded), edges)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"crop_size": 1000}, "--crop_size=1000 must divide"),
        ({"crop_size": 64, "num_scales": 3}, "leaves the lowest"),
        ({"edge_factor": 3}, "must be 1 or 2"),
        ({"patch_size": 30}, "--patch_size=30"),
        ({"core_size": 41}, "--core_size=41"),
        ({"patch_size": 512}, "exceeds the second scale"),
    ],
)
def test_configurations_that_cannot_train(options, message):
    with pytest.raises(ValueError, match=message):
        megan.Config(**options)
    assert CONFIG.sizes == (32, 64)
