"""The train step of DCGAN, with and without a condition, and what surrounds it."""

import dataclasses
import functools

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxgan import config as configs
from jaxgan import losses, state
from jaxgan.methods import cgan, dcgan
from jaxgan.models import cgan as models
from jaxgan.state import GANState, train_apply
from tests import games

CONFIG = dcgan.Config(
    crop_size=32, batch_size=4, latent_dim=3, width=2, real_target=0.9, ema_decay=0.9
)
CONDITIONAL = cgan.Config(
    crop_size=32, batch_size=4, latent_dim=3, width=2, learning_rate=1e-4
)
CLASSES = 2
KEY = 1


def make_step(config, *, axis_name=None, **options):
    """Returns the step of a game, not compiled."""
    players = {name: options.pop(name, games.TX) for name in ("gen_tx", "disc_tx")}
    gan = losses.adversarial(config.gan_loss, real_target=config.real_target)
    return dcgan.make_train_step(
        *networks(config, axis_name=axis_name),
        *players.values(),
        gan=gan,
        latent_dim=config.latent_dim,
        ema_decay=config.ema_decay,
        axis_name=axis_name,
        **options,
    )


def networks(config, **options):
    method = cgan if isinstance(config, cgan.Config) else dcgan
    return method.networks(config, out_channels=1, **options)


def draw_state(config, *, gen_rate=0.05, disc_rate=0.05):
    """Draws a game at step 0, with an average of the generator."""
    gen, disc = networks(config)
    image, *given = draw_batch(config).values()
    latent = np.zeros((1, config.latent_dim), np.float32)
    given = [x[:1] for x in given]
    gen_player = games.draw_player(gen, latent, *given, seed=1, rate=gen_rate)
    disc_player = games.draw_player(disc, image[:1], *given, seed=2, rate=disc_rate)
    return GANState(
        np.int32(0), gen_player, disc_player, ema=gen_player.params, extra=np.int32(0)
    )


def draw_batch(config=CONFIG):
    """Returns ramps; with a condition, down for class 0 and up for class 1."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(-0.8, 0.8, config.crop_size)[None, :, None, None]
    classes = np.arange(config.batch_size) % CLASSES
    image = np.where(classes[:, None, None, None] == 1, ramp, -ramp)
    noise = rng.standard_normal((config.batch_size, *2 * (config.crop_size,), 1))
    batch = {"image": (image + 0.1 * noise).astype("f4")}
    if isinstance(config, cgan.Config):
        batch["condition"] = np.eye(CLASSES, dtype="f4")[classes]
    return batch


def make_game(config=CONFIG, *, gen_rate=0.05, disc_rate=0.05, **options):
    """Returns `(train_step, state, batch)`, the step compiled for one trace only."""
    start = draw_state(config, gen_rate=gen_rate, disc_rate=disc_rate)
    step = games.compiled_once(make_step, config, **options)
    return step, start, draw_batch(config)


def play(train_step, start, batch, *, steps):
    """Returns the last state and every metric as an array `[steps]`."""
    rows = []
    for _ in range(steps):
        start, metrics = train_step(start, batch, jax.random.key(KEY))
        rows.append(metrics)
    return start, {name: np.array([row[name] for row in rows]) for name in rows[0]}


def latents(config, step=0):
    """Returns what the step draws."""
    key = jax.random.fold_in(jax.random.key(KEY), step)
    keys = state.example_keys(jax.random.split(key)[0], config.batch_size, None)
    return dcgan.draw_latents(keys, config.latent_dim)


def naive_step(config, start, batch):
    """Plays Algorithm 1 in its own words, with two passes through the generator."""
    gen, disc = networks(config)
    latent, real = latents(config), batch["image"]
    given = [batch["condition"]] if "condition" in batch else []

    def generate(params):
        return train_apply(gen, params, start.gen.stats, latent, *given)[0]

    def judge(params, image):
        logits, _ = train_apply(disc, params, start.disc.stats, image, *given)
        return jax.nn.sigmoid(logits)

    def disc_loss(params):
        fake = jax.lax.stop_gradient(generate(start.gen.params))
        on_real, on_fake = judge(params, real), judge(params, fake)
        smooth = config.real_target
        return -jnp.mean(
            smooth * jnp.log(on_real) + (1 - smooth) * jnp.log(1 - on_real)
        ) - jnp.mean(jnp.log(1 - on_fake))

    def gen_loss(params, disc_params):
        return -jnp.mean(jnp.log(judge(disc_params, generate(params))))

    d_loss, disc_grads = jax.value_and_grad(disc_loss)(start.disc.params)
    disc_player = start.disc.update(disc_grads, {}, games.TX)
    g_loss, gen_grads = jax.value_and_grad(gen_loss)(
        start.gen.params, disc_player.params
    )
    players = {"gen": start.gen.update(gen_grads, {}, games.TX), "disc": disc_player}
    return players, {"disc_loss": d_loss, "gen_loss": g_loss}


class StepTest(parameterized.TestCase):
    @parameterized.parameters(CONFIG, CONDITIONAL)
    def test_equals_the_naive_step(self, config):
        train_step, start, batch = make_game(config)
        after, metrics = train_step(start, batch, jax.random.key(KEY))
        naive, expected = jax.jit(functools.partial(naive_step, config))(start, batch)
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
        for name in ("gen", "disc"):
            old, new = (getattr(s, name).params for s in (start, after))
            moved = jax.tree.map(jnp.subtract, new, old)
            wanted = jax.tree.map(jnp.subtract, naive[name].params, old)
            chex.assert_trees_all_close(moved, wanted, rtol=2e-3, atol=2e-6)
            assert max(np.abs(x).max() for x in jax.tree.leaves(moved)) > 1e-3

    @parameterized.parameters(("gen", "disc"), ("disc", "gen"))
    def test_a_frozen_player_stays_put(self, frozen, moving):
        train_step, before, batch = make_game(**{f"{frozen}_rate": 0.0})
        after, _ = train_step(before, batch, jax.random.key(KEY))
        old, new = (getattr(s, frozen).params for s in (before, after))
        chex.assert_trees_all_equal(old, new)
        old, new = (getattr(s, moving).params for s in (before, after))
        for name in old:
            part = next(iter(old[name]))
            assert (old[name][part] != new[name][part]).any(), name

    def test_each_optimiser_is_its_players_own(self):
        """Rates of the state are each player's; the arguments' order is not swapped."""
        config = dcgan.Config(learning_rate=0.25, disc_learning_rate=0.5)
        for tx, rate in zip(dcgan.optimizers(config), (0.25, 0.5), strict=True):
            updates, _ = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
            np.testing.assert_allclose(updates, -rate, rtol=1e-4)
        same = dcgan.optimizers(dataclasses.replace(config, disc_learning_rate=0.0))
        updates, _ = same.disc.update(jnp.ones(()), same.disc.init(jnp.zeros(())))
        np.testing.assert_allclose(updates, -0.25, rtol=1e-4)

    @parameterized.parameters("gen", "disc")
    def test_each_player_alone_lowers_its_own_loss(self, name):
        rates = {"gen_rate": 0.0, "disc_rate": 0.0} | {f"{name}_rate": 0.05}
        _, metrics = play(*make_game(**rates), steps=20)
        values = metrics[f"{name}_loss"]
        assert 0 < np.mean(values[-3:]) < 0.97 * values[0]

    def test_latents_are_fresh_at_every_step_and_repeat_when_resumed(self):
        game = make_game(gen_rate=0.0, disc_rate=0.0)
        train_step, start, batch = game
        _, first = play(*game, steps=3)
        assert len(np.unique(first["disc_fake"])) == 3
        later = start.replace(step=jnp.int32(2))
        _, resumed = train_step(later, batch, jax.random.key(KEY))
        assert resumed["disc_fake"] == first["disc_fake"][2]

    def test_statistics_and_average_follow_the_generator(self):
        train_step, start, batch = make_game()
        after, _ = train_step(start, batch, jax.random.key(KEY))
        mix = lambda a, b: 0.1 * a + 0.9 * b  # noqa: E731
        expected = jax.tree.map(mix, start.gen.params, after.gen.params)
        chex.assert_trees_all_close(after.ema, expected, rtol=1e-5, atol=1e-7)
        for player in ("gen", "disc"):
            old, new = (getattr(s, player).stats for s in (start, after))
            for name in old:
                assert (old[name]["mean"] != new[name]["mean"]).any(), name
        assert after.step == 1

    def test_the_condition_reaches_both_players(self):
        train_step, start, batch = make_game(CONDITIONAL, gen_rate=0.0, disc_rate=0.0)
        swapped = batch | {"condition": batch["condition"][:, ::-1].copy()}
        (_, one), (_, other) = (
            train_step(start, b, jax.random.key(KEY)) for b in (batch, swapped)
        )
        assert abs(one["disc_real"] - other["disc_real"]) > 1e-4  # same real images
        assert abs(one["disc_fake"] - other["disc_fake"]) > 1e-4
        # Every weight of the condition moves: rows of G's first kernel behind the
        # latent's, planes of D's behind the image.
        train_step, start, batch = make_game(CONDITIONAL)
        after, _ = train_step(start, batch, jax.random.key(KEY))
        for player, layer, first in (
            ("gen", "up0", CONDITIONAL.latent_dim),
            ("disc", "down0", 1),
        ):
            old, new = (
                getattr(s, player).params[layer]["kernel"] for s in (start, after)
            )
            moved = np.abs(np.asarray(new - old))
            axis = [i for i, n in enumerate(moved.shape) if n == first + CLASSES][-1]
            moved = np.moveaxis(moved, axis, 0)[first:]
            assert (moved.reshape(CLASSES, -1).max(axis=1) > 0).all(), player

    def test_a_player_that_has_won_is_counted(self):
        def count(state, **values):
            values = {name: jnp.float32(x) for name, x in values.items()}
            return dcgan.count_lost(state, values)

        start = draw_state(CONFIG)
        once = count(start, disc_loss=1e-6, gen_loss=9.0)
        twice = count(once, disc_loss=1.0, gen_loss=1e-5)
        over = count(twice, disc_loss=0.6, gen_loss=0.6)
        assert [int(s.extra) for s in (start, once, twice, over)] == [0, 1, 2, 0]
        assert count(start.replace(extra=None), disc_loss=0, gen_loss=0).extra is None
        train_step, start, batch = make_game()
        after, _ = train_step(
            start.replace(extra=np.int32(7)), batch, jax.random.key(KEY)
        )
        assert int(after.extra) == 0


class DevicesTest(parameterized.TestCase):
    def test_four_devices_are_one(self):
        start, batch = draw_state(CONDITIONAL), draw_batch(CONDITIONAL)
        key = jax.random.key(KEY)
        one = games.compiled_once(make_step, CONDITIONAL)(start, batch, key)
        spread = jax.pmap(
            make_step(CONDITIONAL, axis_name="devices"),
            "devices",
            in_axes=(None, 0, None),
        )
        parts = jax.tree.map(lambda x: x[:, None], batch)
        four = spread(start, parts, key)
        first, last = (jax.tree.map(lambda x, i=i: x[i], four) for i in (0, -1))
        chex.assert_trees_all_equal(first, last)
        chex.assert_trees_all_close(first, one, rtol=1e-3, atol=1e-5)


class VariantsTest(parameterized.TestCase):
    def test_a_penalised_critic(self):
        config = dataclasses.replace(
            CONFIG, gan_loss="wgan_gp", disc_norm="none", real_target=1.0, batch_size=2
        )
        _, metrics = play(*make_game(config, gradient_penalty=10.0), steps=1)
        distance = metrics["disc_fake"] - metrics["disc_real"]
        assert metrics["disc_loss"] > distance + 0.1
        assert np.isfinite(metrics["disc_loss"]).all()

    @parameterized.parameters(
        ({"crop_size": 100}, "--crop_size=100: .*32, 64, 512"),
        ({"gan_loss": "wgan_gp"}, "--disc_norm=instance or none"),
        ({"gan_loss": "lsgan", "real_target": 0.9}, "belongs to cross-entropy"),
    )
    def test_what_cannot_train_is_refused(self, options, message):
        with self.assertRaisesRegex(ValueError, message):
            dcgan.Config(**options)

    def test_branches_make_one_size(self):
        with self.assertRaisesRegex(ValueError, "--conditioning=branch makes .* 64"):
            cgan.Config(crop_size=32, conditioning="branch")
        config = cgan.Config(conditioning="branch", width=8)
        gen, disc = networks(config)
        assert (gen.width, disc.width) == (8, 8)
        assert isinstance(gen, models.BranchGenerator)
        assert isinstance(disc, models.BranchDiscriminator)

    @parameterized.parameters(CONFIG, CONDITIONAL)
    def test_survives_json(self, config):
        assert configs.from_dict(type(config), configs.to_dict(config)) == config


class PrepareTest(parameterized.TestCase):
    def test_decodes_clips_and_keeps_the_condition(self):
        config = dataclasses.replace(CONFIG, flip="horizontal", batch_size=8)
        stored = np.tile(np.arange(4, dtype=np.uint8), (8, 4, 1))[..., None]
        given = np.eye(8, dtype="f4")
        prepare = dcgan.make_prepare(
            config, low=np.float32([0.0]), high=np.float32([2.0])
        )
        batch = jax.jit(prepare)(
            {"image": stored, "condition": given}, jax.random.key(0)
        )
        rows = np.asarray(batch["image"])[:, 0, :, 0]
        expected = np.float32([-1, 0, 1, 1])
        same = (rows == expected).all(axis=1)
        mirrored = (rows == expected[::-1]).all(axis=1)
        assert (same ^ mirrored).all() and same.any() and mirrored.any()
        np.testing.assert_array_equal(batch["condition"], given)


class LoweringTest(parameterized.TestCase):
    @parameterized.parameters(
        (dcgan, dcgan.Config(real_target=0.9, ema_decay=0.999), 0),
        (cgan, cgan.Config(conditioning="branch"), 10),
    )
    def test_the_published_step_lowers_for_every_platform(self, method, config, given):
        networks = method.networks(config, out_channels=1)
        optimizers = method.optimizers(config)
        train_step = method.make_train_step(
            *networks,
            *optimizers,
            gan=losses.adversarial(config.gan_loss, real_target=config.real_target),
            latent_dim=config.latent_dim,
            ema_decay=config.ema_decay,
        )
        init = functools.partial(
            method.init, config, networks, optimizers, channels=1, condition=given
        )
        key = jax.eval_shape(lambda: jax.random.key(0))
        start = jax.eval_shape(init, key)
        size = config.crop_size
        batch = {"image": jax.ShapeDtypeStruct((2, size, size, 1), jnp.float32)}
        if given:
            batch["condition"] = jax.ShapeDtypeStruct((2, given), jnp.float32)
        platforms = ["cpu", "cuda", "tpu"]
        exported = jax.export.export(jax.jit(train_step), platforms=platforms)(
            start, batch, key
        )
        assert exported.platforms == tuple(platforms)
        assert exported.out_avals[0].dtype == jnp.int32
