"""The train step of CycleGAN: who moves, against what, and what the pools show.

Players are linear, so that a step can be written down; `test_devices` and the main's
tests play with real networks.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

from jaxgan import losses, state
from jaxgan.methods import cyclegan, pools
from tests import games

GEN_TX, DISC_TX = optax.sgd(0.3), optax.sgd(0.2)
CYCLE, IDENTITY = 2.0, 0.25


class LinearGenerator(nn.Module):
    """Image times a weight, plus another, summed over channels."""

    out_channels: int

    @nn.compact
    def __call__(self, image, *, train):
        shape = (image.shape[-1], self.out_channels)
        x = jnp.einsum("bhwi,io->bhwo", image, self.param("w", nn.zeros, shape))
        return x + self.param("b", nn.zeros, (1, 1, 1, 1))


class SquareDiscriminator(nn.Module):
    """A verdict per pixel: its squared channels times weights."""

    @nn.compact
    def __call__(self, image, *, train):
        weights = self.param("v", nn.zeros, (1, 1, 1, image.shape[-1]))
        return jnp.sum(image**2 * weights, axis=-1, keepdims=True)


def make_toy(*, channels=(1, 1), batch_size=2, pool_size=3, filled=False, **options):
    """Returns `(train_step, state, batch)` of a linear game; the step is compiled."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: np.float32(rng.uniform(-1, 1, shape))  # noqa: E731
    a, b = channels
    gen = cyclegan.Generators(LinearGenerator(b), LinearGenerator(a))
    disc = cyclegan.Discriminators(SquareDiscriminator(), SquareDiscriminator())
    options = {"cycle_weight": CYCLE, "identity_weight": IDENTITY} | options
    train_step = cyclegan.make_train_step(
        gen, disc, GEN_TX, DISC_TX, gan=losses.lsgan(), **options
    )
    axis_name = options.get("axis_name")
    if axis_name is not None:
        train_step = jax.vmap(train_step, (None, 0, None), axis_name=axis_name)
    bias = lambda: draw(1, 1, 1, 1)  # noqa: E731
    gens = {"ab": {"w": draw(a, b), "b": bias()}, "ba": {"w": draw(b, a), "b": bias()}}
    discs = {"a": {"v": draw(1, 1, 1, a)}, "b": {"v": draw(1, 1, 1, b)}}
    shape = (batch_size, 4, 4)
    batch = {"source": draw(*shape, a), "target": draw(*shape, b)}
    extra = {
        kind: {
            "images": draw(pool_size, 4, 4, c),
            "count": np.int32(filled * pool_size),
        }
        for kind, c in zip("ab", channels, strict=True)
    }
    start = state.GANState(
        np.int32(0),
        state.Player(gens, {}, GEN_TX.init(gens)),
        state.Player(discs, {}, DISC_TX.init(discs)),
        ema=gens,
        extra=extra if pool_size else None,
    )
    return jax.jit(train_step), start, batch


def naive_step(start, batch, shown):
    """Plays one step in the paper's words; `shown` are the fakes that D sees."""
    a, b = batch["source"], batch["target"]
    translate = lambda p, x: jnp.einsum("bhwi,io->bhwo", x, p["w"]) + p["b"]  # noqa: E731
    judge = lambda p, x: jnp.sum(x**2 * p["v"], axis=-1)  # noqa: E731
    l1 = lambda x, y: jnp.mean(jnp.abs(x - y))  # noqa: E731

    def gen_loss(gens):
        fake_b, fake_a = translate(gens["ab"], a), translate(gens["ba"], b)
        discs = start.disc.params  # as they were: G moves first
        loss = jnp.mean((judge(discs["b"], fake_b) - 1) ** 2)
        loss += jnp.mean((judge(discs["a"], fake_a) - 1) ** 2)
        loss += CYCLE * l1(translate(gens["ba"], fake_b), a)
        loss += CYCLE * l1(translate(gens["ab"], fake_a), b)
        loss += IDENTITY * CYCLE * l1(translate(gens["ab"], b), b)
        return loss + IDENTITY * CYCLE * l1(translate(gens["ba"], a), a)

    def disc_loss(discs):
        loss = 0
        for kind, real in (("a", a), ("b", b)):
            on_real = jnp.mean((judge(discs[kind], real) - 1) ** 2)
            loss += (on_real + jnp.mean(judge(discs[kind], shown[kind]) ** 2)) / 2
        return loss

    g_loss, g_grads = jax.value_and_grad(gen_loss)(start.gen.params)
    d_loss, d_grads = jax.value_and_grad(disc_loss)(start.disc.params)
    step = lambda rate: lambda p, g: p - rate * g  # noqa: E731
    return {
        "gen": jax.tree.map(step(0.3), start.gen.params, g_grads),
        "disc": jax.tree.map(step(0.2), start.disc.params, d_grads),
        "gen_loss": g_loss,
        "disc_loss": d_loss,
    }


def fakes(start, batch):
    """Returns what the generators make of a batch, before they move."""
    params = start.gen.params
    make = lambda p, x: np.einsum("bhwi,io->bhwo", x, p["w"]) + p["b"]  # noqa: E731
    return {
        "a": make(params["ba"], batch["target"]),
        "b": make(params["ab"], batch["source"]),
    }


class StepTest(parameterized.TestCase):
    def test_equals_the_naive_step(self):
        """The pool fills, so that D sees the fakes of this very pass."""
        train_step, start, batch = make_toy()
        after, metrics = train_step(start, batch, jax.random.key(1))
        naive = naive_step(start, batch, fakes(start, batch))
        for player in ("gen", "disc"):
            params = getattr(after, player).params
            chex.assert_trees_all_close(params, naive[player], rtol=1e-5, atol=1e-6)
            assert np.isclose(metrics[f"{player}_loss"], naive[f"{player}_loss"])
        parts = metrics["gen_adversarial"] + CYCLE * (
            metrics["cycle"] + IDENTITY * metrics["identity"]
        )
        assert np.isclose(metrics["gen_loss"], parts)
        assert after.step == 1

    def test_the_pool_chooses_what_the_discriminator_sees(self):
        train_step, start, batch = make_toy(filled=True, batch_size=8)
        after, _ = train_step(start, batch, jax.random.key(1))
        fresh = fakes(start, batch)
        shown, old = {}, {}
        key = jax.random.fold_in(jax.random.key(1), 0)
        for kind, part in zip("ab", jax.random.split(key), strict=True):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(part, np.arange(8))
            pool, shown[kind] = pools.draw(start.extra[kind], fresh[kind], keys)
            chex.assert_trees_all_close(after.extra[kind], pool, atol=1e-6)
            old[kind] = np.abs(shown[kind] - fresh[kind]).max((1, 2, 3)) > 1e-3
            assert old[kind].any() and not old[kind].all()
        assert (old["a"] != old["b"]).any()  # the two pools decide by themselves
        naive = naive_step(start, batch, shown)
        chex.assert_trees_all_close(after.disc.params, naive["disc"], atol=1e-6)

    def test_without_a_pool_fakes_are_shown_as_they_are(self):
        train_step, start, batch = make_toy(pool_size=0)
        after, _ = train_step(start, batch, jax.random.key(1))
        naive = naive_step(start, batch, fakes(start, batch))
        chex.assert_trees_all_close(after.disc.params, naive["disc"], atol=1e-6)
        assert after.extra is None

    def test_pools_are_fresh_at_every_step_and_repeat_when_resumed(self):
        train_step, start, batch = make_toy(filled=True)
        states = [start]
        for _ in range(4):
            states.append(train_step(states[-1], batch, jax.random.key(1))[0])
        resumed = train_step(states[2], batch, jax.random.key(1))[0]
        chex.assert_trees_all_equal(resumed, states[3])
        moved = start.replace(step=np.int32(1))
        other = train_step(moved, batch, jax.random.key(1))[0]
        same = train_step(start, batch, jax.random.key(1))[0]
        kept = [np.asarray(s.extra["b"]["images"]) for s in (other, same)]
        assert (kept[0] != kept[1]).any()

    def test_the_average_follows_both_generators(self):
        train_step, start, batch = make_toy(ema_decay=0.9)
        after, _ = train_step(start, batch, jax.random.key(1))
        mix = lambda old, new: 0.1 * old + 0.9 * new  # noqa: E731
        expected = jax.tree.map(mix, start.ema, after.gen.params)
        chex.assert_trees_all_close(after.ema, expected, rtol=1e-5, atol=1e-6)

    def test_devices_agree_with_one_that_takes_the_whole_batch(self):
        train_step, start, batch = make_toy(filled=True, batch_size=8)
        whole = train_step(start, batch, jax.random.key(1))
        train_step, *_ = make_toy(axis_name="devices")
        parts = {k: x.reshape(4, 2, *x.shape[1:]) for k, x in batch.items()}
        split = train_step(start, parts, jax.random.key(1))
        for device in range(4):
            one = jax.tree.map(lambda x, device=device: x[device], split)
            chex.assert_trees_all_close(one, whole, rtol=1e-5, atol=1e-6)
        images = np.asarray(split[0].extra["a"]["images"])
        np.testing.assert_array_equal(images[1:], images[:-1])

    def test_kinds_of_different_channels(self):
        train_step, start, batch = make_toy(channels=(1, 3), identity_weight=0.0)
        after, metrics = train_step(start, batch, jax.random.key(1))
        chex.assert_tree_all_finite(after)
        assert metrics["identity"] == 0
        train_step, start, batch = make_toy(channels=(1, 3))
        with pytest.raises(ValueError, match="--identity_weight=0"):
            train_step(start, batch, jax.random.key(1))


class PoolTest(parameterized.TestCase):
    def draw(self, size, count):
        images = np.arange(1.0, count + 1, dtype=np.float32).reshape(count, 1, 1, 1)
        keys = jax.random.split(jax.random.key(3), count)
        pool = pools.empty(size, (1, 1, 1))
        pool, shown = jax.jit(pools.draw)(pool, images, keys)
        return pool, images.ravel(), np.asarray(shown).ravel()

    def test_it_fills_and_then_swaps_every_other_time(self):
        pool, images, shown = self.draw(50, 1000)
        assert pool["count"] == 50
        np.testing.assert_array_equal(shown[:50], images[:50])
        swapped = shown[50:] != images[50:]
        assert abs(swapped.mean() - 0.5) < 0.06  # four deviations
        # Nothing is shown twice but what was shown as it came in.
        stored = np.asarray(pool["images"]).ravel()
        assert len(set(stored)) == 50
        assert set(stored).isdisjoint(shown[50:])
        returned = shown[50:][swapped]
        assert len(set(returned)) == len(returned)
        assert (returned < images[50:][swapped]).all()

    def test_every_place_is_taken(self):
        _, images, shown = self.draw(4, 400)
        swapped = np.flatnonzero(shown != images)
        age = images[swapped] - shown[swapped]
        # Each swap takes one of four places: the mean stay is 4 / (1/2) images.
        assert 6 < age.mean() < 10

    def test_an_unfilled_pool_keeps_what_it_was_given(self):
        pool, images, shown = self.draw(8, 5)
        np.testing.assert_array_equal(shown, images)
        np.testing.assert_array_equal(
            np.asarray(pool["images"]).ravel(), [*images, 0, 0, 0]
        )
        assert pool["count"] == 5


def test_lowers_for_every_platform():
    """The step of real networks, traced but not compiled here."""
    config = cyclegan.Config(
        crop_size=16,
        width=2,
        num_blocks=1,
        discriminator="pixel",
        pool_size=2,
        ema_decay=0.9,
        dtype="bfloat16",
    )
    networks = cyclegan.networks(config, in_channels=1, out_channels=1)
    optimizers = cyclegan.optimizers(config, steps=10)
    image = jax.ShapeDtypeStruct((2, 16, 16, 1), jnp.float32)
    key = jax.random.key(0)
    start = jax.eval_shape(
        lambda key: cyclegan.init(config, networks, optimizers, key, image, image), key
    )
    step = cyclegan.make_train_step(*networks, *optimizers, gan=losses.lsgan())
    export = jax.export.export(jax.jit(step), platforms=["cpu", "cuda", "tpu"])
    exported = export(start, {"source": image, "target": image}, key)
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def test_both_directions_generate():
    config = cyclegan.Config(crop_size=8, width=2, num_blocks=0)
    networks = cyclegan.networks(config, in_channels=1, out_channels=2)
    images = {"ab": np.zeros((1, 8, 12, 1), "f4"), "ba": np.zeros((1, 8, 12, 2), "f4")}
    params = {
        way: games.draw_variables(getattr(networks.gen, way), image, train=False)
        for way, image in images.items()
    }
    variables = {"params": {way: v["params"] for way, v in params.items()}}
    for way, channels in (("ab", 2), ("ba", 1)):
        made = jax.eval_shape(
            lambda x, way=way: cyclegan.generate(
                networks.gen, variables, x, direction=way
            ),
            images[way],
        )
        chex.assert_shape(made, (1, 8, 12, channels))
    with pytest.raises(ValueError, match="direction must be"):
        cyclegan.generate(networks.gen, variables, images["ab"], direction="up")


def test_each_kind_is_flipped_and_clipped_by_itself():
    config = cyclegan.Config(crop_size=8)
    bounds = (
        {"source": jnp.zeros(1), "target": jnp.zeros(1)},
        {
            "source": jnp.ones(1),
            "target": jnp.full(1, 0.5),
        },
    )
    prepare = cyclegan.make_prepare(config, low=bounds[0], high=bounds[1])
    ramp = np.tile(np.linspace(0, 1, 8, dtype=np.float32), (32, 8, 1))[..., None]
    batch = jax.jit(prepare)({"source": ramp, "target": ramp}, jax.random.key(0))
    flipped = {k: np.asarray(x[:, 0, 0, 0] > 0) for k, x in batch.items()}
    assert (flipped["source"] != flipped["target"]).any()
    np.testing.assert_allclose(batch["source"].max(), 1, atol=1e-6)
    assert batch["target"].max() == 1  # of 3: clipped


@pytest.mark.parametrize(
    "options, message",
    [({"crop_size": 30}, "divide by 4"), ({"pool_size": -1}, "negative")],
)
def test_what_cannot_train_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        cyclegan.Config(**options)
