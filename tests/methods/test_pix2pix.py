"""The train step of pix2pix: who moves, in which order, and against what.

`games.make_game` gives every test the same compiled step, which may be traced only
once; learning rates and weights are part of the state. `make_toy` gives a game of two
linear players, whose step can be written down.
"""

import dataclasses
import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from jaxgan import losses, state
from jaxgan.methods import pix2pix
from tests import games

make_game = games.make_game


def play(train_step, start, batch, *, steps):
    """Returns the last state and every metric as an array `[steps]`."""
    rows = []
    for _ in range(steps):
        start, metrics = train_step(start, batch, jax.random.key(1))
        rows.append(metrics)
    return start, {name: np.array([row[name] for row in rows]) for name in rows[0]}


@functools.partial(jax.jit, static_argnames="l1_weight")
def naive_step(start, batch, *, l1_weight):
    """Plays one step in the paper's words, with two passes through the generator."""
    gen, disc = games.networks()
    source, target = batch["source"], batch["target"]

    def generate(params):
        return state.train_apply(gen, params, start.gen.stats, source)

    def judge(params, stats, image):
        pair = jnp.concatenate([source, image], axis=-1)
        return state.train_apply(disc, params, stats, pair)

    def disc_loss(params):
        fake, _ = generate(start.gen.params)
        real_logits, stats = judge(params, start.disc.stats, target)
        fake_logits, stats = judge(params, stats, jax.lax.stop_gradient(fake))
        on_real = -jnp.mean(jnp.log(jax.nn.sigmoid(real_logits)))
        on_fake = -jnp.mean(jnp.log(1 - jax.nn.sigmoid(fake_logits)))
        return (on_real + on_fake) / 2, stats

    def gen_loss(params, disc_params):
        fake, stats = generate(params)
        logits, _ = judge(disc_params, start.disc.stats, fake)
        adversarial = -jnp.mean(jnp.log(jax.nn.sigmoid(logits)))
        return adversarial + l1_weight * jnp.mean(jnp.abs(target - fake)), stats

    grads, stats = jax.grad(disc_loss, has_aux=True)(start.disc.params)
    disc_player = start.disc.update(grads, stats, games.TX)
    grads, stats = jax.grad(gen_loss, has_aux=True)(
        start.gen.params, disc_player.params
    )
    return {"gen": start.gen.update(grads, stats, games.TX), "disc": disc_player}


class PlayersTest(parameterized.TestCase):
    @parameterized.parameters(("gen", "disc"), ("disc", "gen"))
    def test_a_frozen_player_stays_put(self, frozen, moving):
        train_step, before, batch = make_game(**{f"{frozen}_rate": 0.0})
        after, _ = train_step(before, batch, jax.random.key(1))
        old, new = (getattr(s, frozen).params for s in (before, after))
        chex.assert_trees_all_equal(old, new)
        old, new = (getattr(s, moving).params for s in (before, after))
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), old, new)
        assert all(jax.tree.leaves(moved)), moved

    @parameterized.parameters(("gen", "gen_loss"), ("disc", "disc_loss"))
    def test_each_player_alone_lowers_its_own_loss(self, name, loss):
        rates = {"gen_rate": 0.0, "disc_rate": 0.0} | {f"{name}_rate": 0.1}
        _, metrics = play(*make_game(**rates), steps=40)
        assert 0 < metrics[loss][-1] < 0.97 * metrics[loss][0]

    def test_l1_falls_when_memorising_one_batch(self):
        _, metrics = play(*make_game(), steps=100)
        assert 0 < metrics["l1"][-1] < 0.5 * metrics["l1"][0]

    @parameterized.parameters("gen", "disc")
    def test_equals_the_naive_step(self, name):
        train_step, start, batch = make_game()
        after, _ = train_step(start, batch, jax.random.key(1))
        naive = naive_step(start, batch, l1_weight=games.GAME["l1_weight"])
        old, new = (getattr(s, name) for s in (start, after))
        moved = jax.tree.map(jnp.subtract, new.params, old.params)
        expected = jax.tree.map(jnp.subtract, naive[name].params, old.params)
        chex.assert_trees_all_close(moved, expected, rtol=1e-4, atol=1e-6)
        chex.assert_trees_all_close(new.stats, naive[name].stats, rtol=1e-4)

    def test_statistics_and_steps_are_carried_on(self):
        train_step, start, batch = make_game(gen_rate=0.0, disc_rate=0.0)
        after, _ = play(train_step, start, batch, steps=3)
        assert after.step == 3
        assert after.step.dtype == jnp.int32
        for name in ("gen", "disc"):
            old, new = (getattr(s, name).stats for s in (start, after))
            drift = jax.tree.map(lambda a, b: float(abs(a - b).max()), old, new)
            assert min(jax.tree.leaves(drift)) > 1e-3, drift

    def test_the_average_follows_the_generator(self):
        """Warm-up: weights of (1 + t) / (10 + t) for the past."""
        train_step, start, batch = make_game()
        one, _ = train_step(start, batch, jax.random.key(1))
        two, _ = train_step(one, batch, jax.random.key(1))
        expected = start.gen.params
        for past, player in ((1 / 10, one.gen), (2 / 11, two.gen)):
            mix = lambda a, b, past=past: past * a + (1 - past) * b  # noqa: E731
            expected = jax.tree.map(mix, expected, player.params)
        chex.assert_trees_all_close(two.ema, expected, rtol=1e-5, atol=1e-7)


class VariantsTest(parameterized.TestCase):
    @parameterized.parameters(
        {"gan_loss": "saturating", "discriminator": "pixel", "norm": "instance"},
        {"gan_loss": "lsgan", "crop_size": 32, "discriminator": "patch70"},
        {"gan_loss": "hinge", "crop_size": 96, "discriminator": "patch286"},
        {"gan_loss": "wgan_gp", "disc_norm": "none", "dtype": "bfloat16"},
    )
    def test_every_loss_and_discriminator_plays(self, **options):
        tiny = {"width": 2, "depth": 1, "batch_size": 1}
        config = dataclasses.replace(games.CONFIG, **(tiny | options))
        penalty = 10.0 * (config.gan_loss == "wgan_gp")
        train_step, start, batch = make_game(config=config, gradient_penalty=penalty)
        after, metrics = play(train_step, start, batch, steps=2)
        assert all(np.isfinite(values).all() for values in metrics.values()), metrics
        chex.assert_tree_all_finite(after.gen.params)
        chex.assert_tree_all_finite(after.disc.params)
        chex.assert_trees_all_equal_dtypes(after, start)
        for name in ("gen", "disc"):
            old, new = (getattr(s, name).params for s in (start, after))
            assert any(
                (a != b).any()
                for a, b in zip(*map(jax.tree.leaves, (old, new)), strict=True)
            )


class LinearGenerator(nn.Module):
    """Image times a weight per target channel."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Dropout(self.dropout, deterministic=not train)(image)
        return x * self.param("w", nn.initializers.ones, (1, 1, 1, 2))


class LinearDiscriminator(nn.Module):
    """A verdict per pixel: its channels, to a power, times weights."""

    power: int = 1

    @nn.compact
    def __call__(self, image, *, train):
        weights = self.param("v", nn.initializers.ones, (1, 1, 1, image.shape[-1]))
        return jnp.sum(image**self.power * weights, axis=-1, keepdims=True)


W, V = np.float32([0.5, -0.4]), np.float32([0.1, 0.2, -0.3])
RATE = 0.5
SGD, STILL = optax.sgd(RATE), optax.set_to_zero()


def make_toy(*, dropout=0.0, power=1, gen_tx=SGD, disc_tx=SGD, **options):
    """Returns `(train_step, state, batch)` of a linear game; the step is compiled."""
    gen, disc = LinearGenerator(dropout), LinearDiscriminator(power)
    train_step = pix2pix.make_train_step(gen, disc, gen_tx, disc_tx, **options)
    axis_name = options.get("axis_name")
    if axis_name is not None:
        train_step = jax.vmap(train_step, (None, 0, None), axis_name=axis_name)
    players = [
        state.Player(params, {}, tx.init(params))
        for params, tx in (
            ({"w": W.reshape(1, 1, 1, 2)}, gen_tx),
            ({"v": V.reshape(1, 1, 1, 3)}, disc_tx),
        )
    ]
    start = state.GANState(np.int32(0), *players)
    return jax.jit(train_step), start, games.draw_batch()


class LinearGameTest(parameterized.TestCase):
    def test_one_step_by_hand(self):
        """Wasserstein: D's gradient is mean(fake) - mean(target), halved; G answers."""
        toy = make_toy(gan=losses.wasserstein(), l1_weight=3.0)
        train_step, start, batch = toy
        after, metrics = train_step(start, batch, jax.random.key(1))
        source, target = batch["source"], batch["target"]
        fake = source * W
        means = {"s": source.mean(), "f": fake.mean((0, 1, 2))}
        gap = means["f"] - target.mean((0, 1, 2))
        v = V - RATE * 0.5 * np.append(0.0, gap)
        l1_slope = (np.sign(fake - target) * source).mean((0, 1, 2)) / 2
        w = W - RATE * (3.0 * l1_slope - v[1:] * means["s"])
        np.testing.assert_allclose(after.disc.params["v"].ravel(), v, rtol=1e-5)
        np.testing.assert_allclose(after.gen.params["w"].ravel(), w, rtol=1e-5)

        l1 = np.abs(fake - target).mean()
        adversarial = -(v[0] * means["s"] + v[1:] @ means["f"])  # of the updated D
        on_fake = V[0] * means["s"] + V[1:] @ means["f"]
        on_real = V[0] * means["s"] + V[1:] @ target.mean((0, 1, 2))
        expected = {
            "disc_loss": 0.5 * (on_fake - on_real),
            "gen_loss": adversarial + 3.0 * l1,
            "gen_adversarial": adversarial,
            "l1": l1,
            "disc_real": on_real,
            "disc_fake": on_fake,
        }
        assert metrics.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(
                metrics[name], value, rtol=1e-4, atol=1e-7, err_msg=name
            )

    def test_the_discriminator_takes_the_fake_as_data(self):
        """A generator that wants nothing does not feel D's loss."""
        gan = losses.vanilla()._replace(gen=lambda logits: 0.0 * jnp.sum(logits))
        train_step, start, batch = make_toy(gan=gan, l1_weight=0.0)
        after, _ = train_step(start, batch, jax.random.key(1))
        chex.assert_trees_all_equal(after.gen.params, start.gen.params)
        assert (after.disc.params["v"] != start.disc.params["v"]).any()

    @parameterized.parameters(*losses.GAN_LOSSES)
    def test_the_generator_wins_the_verdict(self, name):
        gan = losses.adversarial(name)
        toy = make_toy(gan=gan, l1_weight=0.0, power=2, disc_tx=STILL)
        after, metrics = play(*toy, steps=3)
        assert (np.diff(metrics["disc_fake"]) > 0).all()
        np.testing.assert_array_equal(after.disc.params["v"].ravel(), V)

    def test_the_penalty_by_hand(self):
        """A gradient of V in each of 16^2 pixels: 10 (16 |V| - 1)^2, not halved."""
        toys = (
            make_toy(gan=losses.wasserstein(), gradient_penalty=penalty)
            for penalty in (0.0, 10.0)
        )
        without, with_penalty = (
            train_step(*args, jax.random.key(1))[1]["disc_loss"]
            for train_step, *args in toys
        )
        expected = 10.0 * (16 * np.linalg.norm(V) - 1) ** 2
        np.testing.assert_allclose(with_penalty - without, expected, rtol=1e-4)

    def test_noise_is_fresh_at_every_step_and_repeats_when_resumed(self):
        toy = make_toy(gan=losses.vanilla(), dropout=0.5, gen_tx=STILL, disc_tx=STILL)
        _, first = play(*toy, steps=3)
        assert len(np.unique(first["l1"])) == 3
        train_step, start, batch = toy
        resumed = start.replace(step=jnp.int32(1))
        _, second = play(train_step, resumed, batch, steps=2)
        np.testing.assert_array_equal(second["l1"], first["l1"][1:])

    def test_devices_agree_with_one_that_takes_the_whole_batch(self):
        """Gradients and metrics are averaged, penalties mixed by global example."""
        options = {"gan": losses.wasserstein(), "gradient_penalty": 0.01, "power": 2}
        train_step, start, batch = make_toy(**options)
        whole = train_step(start, batch, jax.random.key(1))
        train_step, *_ = make_toy(**options, axis_name="devices")
        parts = {name: image[:, None] for name, image in batch.items()}
        for device in range(2):
            split = train_step(start, parts, jax.random.key(1))
            split = jax.tree.map(lambda x, device=device: x[device], split)
            chex.assert_trees_all_close(split, whole, rtol=1e-5)
