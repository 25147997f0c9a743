"""The train step of the mask GAN, and what surrounds it."""

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
from jaxgan.methods import maskgan
from tests import games, mask_games

make_game = mask_games.make_game


def play(train_step, start, batch, *, steps):
    """Returns the last state and every metric as an array `[steps]`."""
    rows = []
    for _ in range(steps):
        start, metrics = train_step(start, batch, jax.random.key(1))
        rows.append(metrics)
    return start, {name: np.array([row[name] for row in rows]) for name in rows[0]}


def latents(step, size):
    """Returns what the step draws for `size` examples."""
    key = jax.random.fold_in(jax.random.key(1), step)
    keys = state.example_keys(jax.random.split(key, 4)[0], size, None)
    return maskgan.draw_latents(keys, maskgan.latent_shape(mask_games.CONFIG))


@jax.jit
def naive_step(start, batch):
    """Plays one step in the paper's words, with two passes through the generator."""
    gen, disc = maskgan.networks(mask_games.CONFIG, out_channels=mask_games.CLASSES)
    real = batch["image"]
    latent = latents(0, len(real))

    def generate(params):
        return gen.apply({"params": params}, latent, train=True)

    def judge(params, mask):
        return disc.apply({"params": params}, mask, train=True)

    def disc_loss(params):
        fake = jax.lax.stop_gradient(generate(start.gen.params))
        on_real = -jnp.mean(jnp.log(jax.nn.sigmoid(judge(params, real))))
        on_fake = -jnp.mean(jnp.log(1 - jax.nn.sigmoid(judge(params, fake))))
        return on_real + on_fake

    def gen_loss(params, disc_params):
        return -jnp.mean(jnp.log(jax.nn.sigmoid(judge(disc_params, generate(params)))))

    disc_grads = jax.grad(disc_loss)(start.disc.params)
    disc_player = start.disc.update(disc_grads, {}, games.TX)
    gen_grads = jax.grad(gen_loss)(start.gen.params, disc_player.params)
    return {"gen": start.gen.update(gen_grads, {}, games.TX), "disc": disc_player}


class StepTest(parameterized.TestCase):
    @parameterized.parameters(("gen", "disc"), ("disc", "gen"))
    def test_a_frozen_player_stays_put(self, frozen, moving):
        train_step, before, batch = make_game(**{f"{frozen}_rate": 0.0})
        after, _ = train_step(before, batch, jax.random.key(1))
        old, new = (getattr(s, frozen).params for s in (before, after))
        chex.assert_trees_all_equal(old, new)
        old, new = (getattr(s, moving).params for s in (before, after))
        for name in old:  # biases before a norm have no gradient
            assert (old[name]["kernel"] != new[name]["kernel"]).any(), name

    def test_each_optimiser_is_its_players_own(self):
        """One that does nothing, in D's place, stops D and D alone."""
        idle = games.TX._replace(
            update=lambda grads, state, params=None: (
                jax.tree.map(jnp.zeros_like, grads),
                state,
            )
        )
        train_step, before, batch = make_game(disc_tx=idle)
        after, _ = train_step(before, batch, jax.random.key(1))
        chex.assert_trees_all_equal(before.disc.params, after.disc.params)
        old, new = before.gen.params["up0"], after.gen.params["up0"]
        assert (old["kernel"] != new["kernel"]).any()

    @parameterized.parameters(("gen", 5.0), ("disc", 0.1))
    def test_each_player_alone_lowers_its_own_loss(self, name, rate):
        rates = {"gen_rate": 0.0, "disc_rate": 0.0} | {f"{name}_rate": rate}
        loss = f"{name}_loss"
        _, metrics = play(*make_game(**rates), steps=40)
        assert 0 < metrics[loss][-1] < 0.97 * metrics[loss][0]

    @parameterized.parameters("gen", "disc")
    def test_equals_the_naive_step(self, name):
        train_step, start, batch = make_game(gen_rate=1.0, disc_rate=1.0)
        after, _ = train_step(start, batch, jax.random.key(1))
        naive = naive_step(start, batch)
        old, new = (getattr(s, name) for s in (start, after))
        moved = jax.tree.map(jnp.subtract, new.params, old.params)
        expected = jax.tree.map(jnp.subtract, naive[name].params, old.params)
        chex.assert_trees_all_close(moved, expected, rtol=1e-4, atol=1e-6)

    def test_the_generator_learns_the_only_class_that_is_real(self):
        train_step, start, batch = make_game()
        background = np.full_like(batch["image"], -1.0)
        background[..., 2] = 1.0
        after, _ = play(train_step, start, {"image": background}, steps=60)
        gen, _ = maskgan.networks(mask_games.CONFIG, out_channels=3)
        now = gen.apply(after.gen_variables, latents(9, 8), train=False)
        assert np.mean(now[..., 2]) > 0.8

    def test_latents_are_fresh_at_every_step_and_repeat_when_resumed(self):
        game = make_game(gen_rate=0.0, disc_rate=0.0)
        train_step, start, batch = game
        _, first = play(*game, steps=3)
        assert len(np.unique(first["disc_fake"])) == 3
        later = start.replace(step=jnp.int32(2))
        _, resumed = train_step(later, batch, jax.random.key(1))
        assert resumed["disc_fake"] == first["disc_fake"][2]

    def test_the_average_follows_the_generator(self):
        train_step, start, batch = make_game()
        after, _ = train_step(start, batch, jax.random.key(1))
        mix = lambda a, b: 0.1 * a + 0.9 * b  # noqa: E731
        expected = jax.tree.map(mix, start.gen.params, after.gen.params)
        chex.assert_trees_all_close(after.ema, expected, rtol=1e-5, atol=1e-7)
        assert after.step == 1

    def test_metrics_are_of_this_step(self):
        train_step, start, batch = make_game()
        after, metrics = train_step(start, batch, jax.random.key(1))
        gen, disc = maskgan.networks(mask_games.CONFIG, out_channels=3)
        fake = gen.apply({"params": start.gen.params}, latents(0, 2), train=False)
        judge = functools.partial(disc.apply, {"params": start.disc.params})
        real_logits, fake_logits = (
            judge(x, train=False) for x in (batch["image"], fake)
        )
        accuracy = (np.mean(real_logits > 0) + np.mean(fake_logits < 0)) / 2
        confidence = np.mean((np.max(fake, axis=-1) + 1) / 2)
        np.testing.assert_allclose(metrics["disc_accuracy"], accuracy, rtol=1e-3)
        np.testing.assert_allclose(metrics["confidence"], confidence, rtol=1e-5)
        answer = disc.apply({"params": after.disc.params}, fake, train=False)
        expected = losses.vanilla().gen(answer)  # to the updated D
        np.testing.assert_allclose(metrics["gen_loss"], expected, rtol=1e-4)


class HardnessTest(parameterized.TestCase):
    def test_hard_masks_have_the_softmaxs_gradient(self):
        mask = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 3)).astype("f4")
        weights = np.random.default_rng(1).uniform(-1, 1, mask.shape).astype("f4")
        hard = np.asarray(maskgan.harden(mask))
        np.testing.assert_allclose(
            np.sort(hard)[..., :],
            np.broadcast_to(np.float32([-1, -1, 1]), hard.shape),
            atol=1e-6,
        )
        np.testing.assert_array_equal(hard.argmax(-1), mask.argmax(-1))
        slope = jax.grad(lambda x: jnp.sum(weights * maskgan.harden(x)))(mask)
        np.testing.assert_array_equal(slope, weights)

    def test_straight_through_shows_hard_masks_to_both_players(self):
        train_step, start, batch = make_game(straight_through=True)
        _, metrics = train_step(start, batch, jax.random.key(1))
        gen, disc = maskgan.networks(mask_games.CONFIG, out_channels=3)
        fake = gen.apply({"params": start.gen.params}, latents(0, 2), train=False)
        hard = np.asarray(maskgan.harden(fake))
        logits = disc.apply({"params": start.disc.params}, hard, train=False)
        np.testing.assert_allclose(metrics["disc_fake"], jnp.mean(logits), rtol=1e-3)

    def test_noise_hides_real_and_fake_alike(self):
        still = {"gen_rate": 0.0, "disc_rate": 0.0}
        one, other = (
            play(*make_game(mask_noise=noise, **still), steps=2)[1]
            for noise in (0.0, 0.5)
        )
        for name in ("disc_real", "disc_fake", "gen_loss"):
            assert (one[name] != other[name]).all(), name
        # Real masks do not change from step to step, what hides them does.
        assert one["disc_real"][0] == one["disc_real"][1]
        assert other["disc_real"][0] != other["disc_real"][1]


class DevicesTest(parameterized.TestCase):
    @parameterized.parameters({}, {"norm": "batch"})
    def test_four_devices_are_one(self, **options):
        config = dataclasses.replace(mask_games.CONFIG, batch_size=4, **options)
        step = {"mask_noise": 0.3}
        start = mask_games.draw_state(config, gen_rate=0.1, disc_rate=0.1)
        batch = mask_games.draw_batch(config)
        key = jax.random.key(1)
        one, one_metrics = jax.jit(mask_games.make_step(config, **step))(
            start, batch, key
        )
        spread = jax.pmap(
            mask_games.make_step(config, axis_name="devices", **step),
            "devices",
            in_axes=(None, 0, None),
        )
        parts = {"image": batch["image"][:, None]}
        four, four_metrics = spread(start, parts, key)
        first = jax.tree.map(lambda x: x[0], (four, four_metrics))
        last = jax.tree.map(lambda x: x[-1], (four, four_metrics))
        chex.assert_trees_all_equal(first, last)
        chex.assert_trees_all_close(first, (one, one_metrics), rtol=1e-4, atol=1e-5)

    def test_preparation_draws_by_the_global_index(self):
        config = dataclasses.replace(mask_games.CONFIG, batch_size=4)
        stored = {"image": (mask_games.draw_batch(config)["image"] > 0).astype("u1")}
        one = jax.jit(maskgan.make_prepare(config))(stored, jax.random.key(3))
        spread = jax.pmap(
            maskgan.make_prepare(config, axis_name="devices"),
            "devices",
            in_axes=(0, None),
        )
        parts = {"image": stored["image"][:, None]}
        four = spread(parts, jax.random.key(3))
        np.testing.assert_array_equal(four["image"][:, 0], one["image"])


class VariantsTest(parameterized.TestCase):
    @parameterized.parameters(
        {"discriminator": "skip_patch", "norm": "batch"},
        {"discriminator": "patch16", "gan_loss": "lsgan"},
        {"discriminator": "patch70", "gan_loss": "wgan_gp", "dtype": "bfloat16"},
    )
    def test_losses_and_discriminators_play(self, **options):
        tiny = {"disc_width": 2, "batch_size": 1}
        config = dataclasses.replace(mask_games.CONFIG, **(tiny | options))
        penalty = 10.0 * (config.gan_loss == "wgan_gp")
        train_step, start, batch = make_game(config=config, gradient_penalty=penalty)
        after, metrics = play(train_step, start, batch, steps=2)
        assert all(np.isfinite(values).all() for values in metrics.values()), metrics
        chex.assert_tree_all_finite((after.gen.params, after.disc.params))
        chex.assert_trees_all_equal_dtypes(after, start)

    def test_the_penalty_counts(self):
        config = dataclasses.replace(mask_games.CONFIG, gan_loss="wgan_gp")
        one, other = (
            play(*make_game(config=config, gradient_penalty=penalty), steps=1)[1]
            for penalty in (10.0, 0.0)
        )
        assert one["disc_loss"] > other["disc_loss"]
        assert one["disc_fake"] == other["disc_fake"]


class ConfigTest(parameterized.TestCase):
    @parameterized.parameters(0, 100, 32)
    def test_masks_come_in_whole_latents(self, size):
        with self.assertRaisesRegex(ValueError, f"--crop_size={size} .*multiple of 64"):
            maskgan.Config(crop_size=size)

    def test_a_penalised_critic_has_no_batch_norm(self):
        with self.assertRaisesRegex(ValueError, "--disc_norm=instance or none"):
            maskgan.Config(gan_loss="wgan_gp", norm="batch")

    def test_survives_json(self):
        config = maskgan.Config(crop_size=64, straight_through=True)
        assert configs.from_dict(maskgan.Config, configs.to_dict(config)) == config

    def test_players_have_their_own_rates(self):
        config = maskgan.Config(learning_rate=0.25, disc_learning_rate=0.5)
        for tx, rate in zip(maskgan.optimizers(config), (0.25, 0.5), strict=True):
            updates, _ = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
            np.testing.assert_allclose(updates, -rate, rtol=1e-4)


class PrepareTest(parameterized.TestCase):
    def test_masks_stay_masks(self):
        config = dataclasses.replace(mask_games.CONFIG, crop_area=0.5, flip="both")
        stored = (mask_games.draw_batch()["image"] > 0).astype(np.uint8)
        prepare = jax.jit(maskgan.make_prepare(config))
        one, again, other = (
            np.asarray(prepare({"image": stored}, jax.random.key(seed))["image"])
            for seed in (0, 0, 1)
        )
        assert one.shape == stored.shape
        assert set(np.unique(one)) == {-1.0, 1.0}
        np.testing.assert_array_equal(one.sum(axis=-1), -1.0)
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()

    def test_without_augmentation_it_is_decode_alone(self):
        config = dataclasses.replace(mask_games.CONFIG, crop_area=1.0, flip="none")
        image = mask_games.draw_batch()["image"]
        stored = (image > 0).astype(np.uint8)
        batch = maskgan.make_prepare(config)({"image": stored}, jax.random.key(0))
        np.testing.assert_array_equal(batch["image"], image)


class LoweringTest(parameterized.TestCase):
    def test_the_papers_step_lowers_for_every_platform(self):
        config = maskgan.Config(ema_decay=0.999, mask_noise=0.1)
        networks = maskgan.networks(config, out_channels=3)
        optimizers = maskgan.optimizers(config)
        train_step = maskgan.make_train_step(
            *networks,
            *optimizers,
            gan=losses.adversarial(config.gan_loss),
            mask_noise=config.mask_noise,
            straight_through=True,
            ema_decay=config.ema_decay,
        )
        init = functools.partial(maskgan.init, config, networks, optimizers)
        key = jax.eval_shape(lambda: jax.random.key(0))
        start = jax.eval_shape(init, key)
        image = jax.ShapeDtypeStruct((4, 512, 512, 3), jnp.float32)
        platforms = ["cpu", "cuda", "tpu"]
        exported = jax.export.export(jax.jit(train_step), platforms=platforms)(
            start, {"image": image}, key
        )
        assert exported.platforms == tuple(platforms)
        assert exported.out_avals[0].dtype == jnp.int32
